"""Detectors: a batch of slices in, an anomaly map and a pseudo-healthy reconstruction out."""
