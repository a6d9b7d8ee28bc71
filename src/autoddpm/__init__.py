"""Unsupervised anomaly detection in brain MRI with one diffusion model (AutoDDPM, AnoDDPM)."""

__version__ = "0.1.0"
