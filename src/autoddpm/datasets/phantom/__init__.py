"""Brains that are drawn, not scanned: for tests, the demo, and a first look."""
