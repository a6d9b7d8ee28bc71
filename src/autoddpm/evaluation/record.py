"""The record of a row: all that tells it apart from another one."""

from collections.abc import Mapping
from typing import Any

from lightning import Trainer

from autoddpm.data.datamodule import SliceDataModule
from autoddpm.detectors.anomaly_map import needs_distance
from autoddpm.detectors.detector import Detector
from autoddpm.models.model import Trained
from autoddpm.settings import arguments, describe


def record_of_parts(detector: Detector) -> dict[str, Any]:
    """Seed, sampler, distance, map and first stage of a detector.

    None for those it lacks or does not use.
    """
    made_with = arguments(detector)
    sampler, own_map = made_with.get("sampler"), made_with.get("map")
    distance = made_with.get("perceptual")
    if "perceptual" in detector.only_of_map and not (own_map and needs_distance(own_map)):
        distance = None
    initial = made_with.get("initial")
    return {
        "seed": made_with.get("seed"),
        "sampler": describe(sampler) if sampler is not None else None,
        "anomaly_map": describe(own_map) if own_map is not None else None,
        "perceptual": distance.name if distance is not None else None,
        "perceptual_settings": describe(distance) if distance is not None else None,
        "initial": describe(initial) if initial is not None else None,
    }


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
