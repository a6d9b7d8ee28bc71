"""Numbers from scored scans: a value and its resamples are one function."""
