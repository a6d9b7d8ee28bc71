"""What a threshold, or a row, depends on: the conditions of a detector."""

from collections.abc import Mapping
from typing import Any

from autoddpm.detectors.anomaly_map import needs_distance
from autoddpm.detectors.detector import Detector
from autoddpm.runs.former_names import detector_as_now
from autoddpm.settings import arguments, describe

#: Settings of detectors that entries of before do not name, and what they were then.
ADDED = {name: {"mask_region": "image"} for name in ("AutoDDPM", "AuthorsCode")}


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
        "initial": record_of_first(initial) if initial is not None else None,
    }


def record_of_first(initial: Detector) -> dict[str, Any]:
    """A detector that is another one's first stage: its settings, and the parts that it uses."""
    used = {name: value for name, value in record_of_parts(initial).items() if value is not None}
    return describe(initial) | used


def of_detector(detector: Detector) -> dict[str, Any]:
    """The conditions of a threshold that are the detector's own: its settings and its parts."""
    recorded = record_of_parts(detector)
    first = {"initial": recorded["initial"]} if recorded["initial"] else {}
    return {
        "detector": describe(detector),
        "anomaly_map": recorded["anomaly_map"],
        "perceptual": recorded["perceptual_settings"],
        **first,
    }


def as_now(conditions: Mapping[str, Any]) -> dict[str, Any]:
    """The conditions of a stored threshold with the settings and names that came since."""
    before = {"clip": [-1.0, 1.0], "postprocess": "none"}
    return {**before, **conditions, "detector": with_added(conditions["detector"])}


def with_added(detector: Mapping[str, Any]) -> dict[str, Any]:
    """A detector's record with its present name and the settings that were added since."""
    named = detector_as_now(detector)
    return {**ADDED.get(named.get("name", ""), {}), **named}
