"""From the maps of a scan's slices to its results on its own grid, and what can be said of them."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import nibabel
import numpy as np
from nibabel.spatialimages import SpatialImage
from numpy.typing import NDArray
from scipy import ndimage

from autoddpm import __version__
from autoddpm.metrics.detection import slice_scores
from autoddpm.metrics.typical import judged
from autoddpm.prediction.detect import Detected
from autoddpm.prediction.method import Method
from autoddpm.prediction.prepared import Prepared
from autoddpm.preparation.way_back import like

NOTICE = (
    "For research. Not a medical device: not for diagnosis, treatment or any other clinical use."
)
BORDER_MM = 3.0  # on both sides of the brain mask's surface
LOWEST_DICE = 0.9  # of the brain and the template's; a convention, not calibrated
MOST_AT_BORDER = 0.3  # of the flagged volume; likewise
MOST_FLAGGED = 0.25  # share of the known slices; the largest strokes of `ixi_stroke` take a tenth


@dataclass(frozen=True)
class Prediction:
    """The results of one scan, all on its own grid.

    anomaly_map: float32 >= 0, 0 outside `record["coverage"]`. It is no probability.
    mask: uint8, 1 if the map of the nearest slice is above its threshold.
    pseudo_healthy: float32, the scan with its covered slices as if they were healthy.
    brain_mask: uint8. None if the steps of the weights have none.
    record: how it was made, and what can be said of it, in plain containers.
    scan: the scan's own intensities, (X, Y, Z) as in its file.
    prepared, detected: what the network saw and gave.
    """

    anomaly_map: nibabel.Nifti1Image
    mask: nibabel.Nifti1Image
    pseudo_healthy: nibabel.Nifti1Image
    brain_mask: nibabel.Nifti1Image | None
    record: dict[str, Any]
    scan: NDArray[np.float32]
    prepared: Prepared
    detected: Detected

    @property
    def images(self) -> dict[str, nibabel.Nifti1Image]:
        """The images by name, those that there are."""
        found = {
            "anomaly_map": self.anomaly_map,
            "mask": self.mask,
            "pseudo_healthy": self.pseudo_healthy,
            "brain_mask": self.brain_mask,
        }
        return {name: image for name, image in found.items() if image is not None}


def result(
    scan: SpatialImage, prepared: Prepared, detected: Detected, method: Method
) -> Prediction:
    """Bring the maps of a scan's slices back to its own voxels, in one interpolation.

    Maps and the change to the pseudo-healthy scan are interpolated linearly, masks to the nearest.
    """
    began = time.perf_counter()
    back, maps, brain = prepared.back, detected.maps.copy(), prepared.brain
    maps[[z in prepared.absent for z in prepared.slices]] = 0
    mask = back.filled(back.nearest(maps > method.threshold.value)).astype(np.uint8)
    values = back.filled(back.linear(maps))
    data = np.asarray(scan.dataobj, np.float32).reshape(back.shape)
    healthy = _pseudo_healthy(data, prepared, detected)
    known = [prepared.slices.index(z) for z in prepared.known]
    numbers = {"score": float(slice_scores(maps[known]).max())}
    numbers |= measured(mask > 0, brain, scan.affine)
    seconds = prepared.seconds | {"detection": detected.seconds}
    seconds["way back"] = time.perf_counter() - began
    said = f"autoddpm {__version__}; coverage {coverage_in_short(prepared)}"
    return Prediction(
        like(scan, values, said),
        like(scan, mask, said),
        like(scan, healthy, said),
        None if brain is None else like(scan, brain.astype(np.uint8), f"autoddpm {__version__}"),
        _record(prepared, detected, method, numbers, seconds),
        data,
        prepared,
        detected,
    )


def _record(
    prepared: Prepared,
    detected: Detected,
    method: Method,
    numbers: dict[str, Any],
    seconds: Mapping[str, float],
) -> dict[str, Any]:
    """The record of a prediction, as far as it is not of the run."""
    trust, warnings = judgement(prepared, detected, method, numbers)
    return {
        "notice": NOTICE,
        "meaning": method.meaning,
        "coverage": coverage(prepared),
        "results": numbers,
        "trust": trust,
        "warnings": [*warnings, *method.warnings],
        "threshold": threshold_record(method),
        "preparation": {"done": list(prepared.done), "note": method.note},
        "transforms": [
            {"name": step.name, "matrix": np.round(step.matrix, 9).tolist()}
            for step in prepared.steps
        ],
        "noise_key": prepared.key,
        "seconds": {name: round(value, 3) for name, value in seconds.items()},
    }


def coverage(prepared: Prepared) -> dict[str, Any]:
    """The slices that a map covers, on the grid that was cut."""
    margin = [z for z in prepared.slices if z not in (*prepared.known, *prepared.absent)]
    return {
        "known": list(prepared.known),
        "margin": margin,
        "absent": list(prepared.absent),
        "z_mm": [prepared.z_mm[0], prepared.z_mm[-1]],
        "voxels": len(prepared.back.voxels),
        "share_of_scan": len(prepared.back.voxels) / float(np.prod(prepared.back.shape)),
    }


def coverage_in_short(prepared: Prepared) -> str:
    """The covered slices and their heights, in less than 50 letters."""
    first, last = prepared.slices[0], prepared.slices[-1]
    low, high = prepared.z_mm[0], prepared.z_mm[-1]
    return f"slices {first}-{last}, z {low:.0f} to {high:.0f} mm"


def threshold_record(method: Method) -> dict[str, Any]:
    """The threshold of the mask, and where it comes from."""
    one = method.threshold
    return {
        "value": one.value,
        "false_positive_rate": one.false_positive_rate,
        "origin": f"healthy validation slices {one.data_hash}" if one.data_hash else "given",
        "mask_threshold": getattr(method.detector, "mask_threshold", None),
    }


def measured(
    flagged: NDArray[np.bool_], brain: NDArray[np.bool_] | None, affine: NDArray
) -> dict[str, Any]:
    """Volumes in ml, and connected components, of what is flagged on a scan's grid.

    at_border: share of the flagged volume within 3 mm of the brain mask's surface, on either side.
        None without a brain mask or a flagged voxel.
    outside: share of it outside the brain mask.
    """
    ml = abs(float(np.linalg.det(affine[:3, :3]))) / 1000
    found: dict[str, Any] = {
        "flagged_ml": 0.0,
        "components": 0,
        "largest_ml": 0.0,
        "at_border": None,
        "outside": None,
    }
    if not flagged.any():
        return found
    box = ndimage.find_objects(flagged.astype(np.uint8))[0]
    labels, count = ndimage.label(flagged[box], np.ones((3, 3, 3)))
    sizes = np.bincount(labels.ravel())[1:]
    found |= {
        "flagged_ml": float(sizes.sum()) * ml,
        "components": int(count),
        "largest_ml": float(sizes.max()) * ml,
    }
    if brain is None:
        return found
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    reach = np.ceil(BORDER_MM / spacing).astype(int) + 1
    near = tuple(
        slice(max(0, part.start - more), part.stop + more)
        for part, more in zip(box, reach, strict=True)
    )
    inside, here = brain[near], flagged[near]
    to_air = ndimage.distance_transform_edt(inside, spacing) if not inside.all() else np.inf
    to_brain = ndimage.distance_transform_edt(~inside, spacing) if inside.any() else np.inf
    distance = np.broadcast_to(np.where(inside, to_air, to_brain), inside.shape)
    found["at_border"] = float((distance[here] <= BORDER_MM).mean())
    found["outside"] = float((~inside[here]).mean())
    return found


def judgement(
    prepared: Prepared, detected: Detected, method: Method, numbers: Mapping[str, Any]
) -> tuple[dict[str, Any], list[str]]:
    """How far a scan is from what the weights know, in numbers, and the warnings of it."""
    trust: dict[str, Any] = {"brain_dice": prepared.brain_dice}
    warnings = []
    if prepared.brain_dice is not None and prepared.brain_dice < LOWEST_DICE:
        warnings.append(
            f"the brain covers the template's with a Dice of {prepared.brain_dice:.2f}, below "
            f"{LOWEST_DICE:.2f}: look at the alignment"
        )
    known = [prepared.slices.index(z) for z in prepared.known]
    flagged = detected.maps[known] > method.threshold.value
    if flagged.mean() > MOST_FLAGGED:
        warnings.append(
            f"{100 * flagged.mean():.0f} % of its known slices is flagged, more than a lesion "
            "takes: it is not what the weights know"
        )
    if method.threshold.healthy is None:
        given = method.threshold.false_positive_rate is None
        why = "a threshold was given" if given else "the weights state none for these settings"
        trust["healthy_range"] = f"unknown: {why}"
    else:
        slices = prepared.images[known], detected.reconstructions[known], flagged
        found, said = _beside_healthy(slices, method.threshold.healthy)
        trust |= found
        warnings += said
    if (numbers["at_border"] or 0) > MOST_AT_BORDER:
        warnings.append(
            f"{100 * numbers['at_border']:.0f} % of what is flagged is within {BORDER_MM:g} mm of "
            "the brain mask's surface: the mask may have cut a lesion, see --brain-mask"
        )
    if prepared.absent:
        named = ", ".join(map(str, prepared.absent))
        warnings.append(f"slices {named} are not in the scan: no map there")
    return trust, warnings


def _beside_healthy(
    slices: tuple[NDArray, NDArray, NDArray[np.bool_]], healthy: Mapping[str, Any]
) -> tuple[dict[str, Any], list[str]]:
    """The slices that the weights know beside what is typical of healthy ones, and warnings.

    slices: their images, reconstructions, and what is flagged.
    """
    found = judged(*slices, healthy)
    warnings = []
    for name, words in (
        ("histogram_distance", "its intensities are {value:.4f} from the healthy ones"),
        (
            "reconstruction_error",
            "what is not flagged is reconstructed with an error of {value:.4f}",
        ),
    ):
        if found[name]["value"] > found[name]["healthy_highest"]:
            warnings.append(
                words.format(**found[name])
                + f", the highest of {healthy['slices']} healthy slices is "
                f"{found[name]['healthy_highest']:.4f}: it is not what the weights know"
            )
    return found, warnings


def _pseudo_healthy(
    scan: NDArray[np.float32], prepared: Prepared, detected: Detected
) -> NDArray[np.float32]:
    """The scan, and the change to the reconstruction, in the scan's intensities.

    What the network sees is clipped: brighter voxels keep what they have above that.
    """
    change = (detected.reconstructions - prepared.images) * prepared.scales[:, None, None]
    values = scan.ravel().copy()
    changed = values[prepared.back.voxels] + prepared.back.linear(change) * prepared.gain
    values[prepared.back.voxels] = np.maximum(changed, values.min())
    return values.reshape(scan.shape)
