"""One volume at a time: read, correct, register, cut, and put maps back."""
