"""The report in Weights & Biases."""
