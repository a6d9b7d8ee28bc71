"""From a detector and a test set to one row."""
