"""A model as a thing: what every family promises, and its file."""
