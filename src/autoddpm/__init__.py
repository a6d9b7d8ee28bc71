"""Unsupervised anomaly detection in brain MRI with one diffusion model (AutoDDPM, AnoDDPM)."""

from typing import Any

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name == "predict":
        from autoddpm.prediction.command import predict_image  # late: torch takes seconds to import

        return predict_image
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
