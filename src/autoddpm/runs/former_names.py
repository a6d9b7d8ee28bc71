"""Names of detectors in what runs left on disk before 0.2.0, and what they are called now."""

from collections.abc import Mapping
from typing import Any

CLASSES = {"OfficialV0": "AuthorsCode", "OfficialV0AnoDDPM": "AuthorsCodeAnoDDPM"}
VARIANT, VARIANT_NOW = "official_v0", "authors_code"  # in labels too


def class_as_now(name: Any) -> Any:
    """The present name of a detector's class."""
    return CLASSES.get(str(name), name)


def detector_as_now(detector: Mapping[str, Any]) -> dict[str, Any]:
    """A detector's record, as `settings.describe` makes it, under the class's present name."""
    return {key: class_as_now(one) if key == "name" else one for key, one in detector.items()}


def row_as_now(content: Mapping[str, Any]) -> dict[str, Any]:
    """The content of metrics.json, with the present names of its detector.

    They stand in label, detector and provenance. A detector that was not renamed, such as one's
    own, keeps all of its names.
    """
    if str(content["detector"].get("name")) not in CLASSES:
        return dict(content)
    provenance = dict(content["provenance"])
    if provenance.get("variant") == VARIANT:
        provenance["variant"] = VARIANT_NOW
    return {
        **content,
        "label": str(content["label"]).replace(VARIANT, VARIANT_NOW),
        "detector": detector_as_now(content["detector"]),
        "provenance": provenance,
    }
