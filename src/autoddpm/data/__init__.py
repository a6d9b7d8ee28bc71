"""Slices: from files to batches."""
