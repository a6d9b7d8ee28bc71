"""Unsupervised anomaly detection in brain MRI with one diffusion model (AutoDDPM, AnoDDPM).

In Python, without `conf/`: `predict` maps a scan; `load_model`, a detector and `detect_images` map
slices.
"""

from importlib import import_module
from typing import Any

__version__ = "0.2.0"

#: Public names, and where each is. They are imported late: torch takes seconds.
PUBLIC = {
    "predict": "prediction.command:predict_image",
    "load_model": "models.trained:load_model",
    "AutoDDPM": "detectors.autoddpm:AutoDDPM",
    "AnoDDPM": "detectors.anoddpm:AnoDDPM",
    "Ancestral": "diffusion.sampler:Ancestral",
    "detect_images": "detectors.detector:detect_images",
}
__all__ = [*PUBLIC]


def __getattr__(name: str) -> Any:
    if name not in PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, _, attribute = PUBLIC[name].partition(":")
    return getattr(import_module(f"{__name__}.{module}"), attribute)


def __dir__() -> list[str]:
    return [*globals(), *PUBLIC]
