"""The record of a row: all that tells it apart from another one."""

from collections.abc import Mapping
from typing import Any

from lightning import Trainer

from autoddpm.data.datamodule import SliceDataModule
from autoddpm.detectors.detector import Detector
from autoddpm.evaluation.conditions import record_of_parts
from autoddpm.models.model import Trained


def provenance_of(
    detector: Detector,
    trained: Trained,
    datamodule: SliceDataModule,
    trainer: Trainer,
    settings: Mapping[str, Any],
) -> dict[str, Any]:
    """The provenance of a row: what its numbers depend on, beside the detector's own settings.

    settings: further entries, of the evaluation itself.

    The entry `sees_lesion` is there if the detector was given the true lesion, and only then.
    """
    parts = record_of_parts(detector)
    upper_bound = {"sees_lesion": True} if detector.sees_lesion else {}
    return {
        "data_hash": datamodule.hash("test"),
        "weights_hash": trained.weights_hash,
        "weights_step": trained.step,
        "model": type(trained.model).__name__,
        **trained.model.record(),
        "seed": parts.pop("seed"),
        "size": datamodule.size,
        **parts,
        "calibrate_hash": datamodule.hash("calibrate"),
        "precision": str(trainer.precision),
        "variant": detector.variant,
        **upper_bound,
        **settings,
    }
