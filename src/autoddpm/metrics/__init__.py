"""Metrics: pure functions over arrays, and thin torchmetrics classes around them."""
