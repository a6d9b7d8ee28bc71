"""One prediction from what was asked to its exit code: the console script and `src.predict`."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import inf
from pathlib import Path
from typing import Any

from nibabel.spatialimages import SpatialImage

from autoddpm.detectors.detector import Detector
from autoddpm.home import at_home
from autoddpm.machine.memory import can_keep_freed_memory, keep_freed_memory
from autoddpm.prediction.bids import list_bids, write_description
from autoddpm.prediction.detect import detect_scans, device_of, put_on
from autoddpm.prediction.method import DetectorSettings, Method, method_of
from autoddpm.prediction.prepared import Preparation, prepare
from autoddpm.prediction.result import NOTICE, Prediction, result
from autoddpm.prediction.run import Running, made_with, predict_scans
from autoddpm.prediction.scans import Listing, existing_file, list_scans
from autoddpm.preparation.correction import require_brain_extraction
from autoddpm.preparation.itk import simple_itk
from autoddpm.preparation.template import template
from autoddpm.preparation.volume import Source, image_of, read_mask, read_volume, volume_of

#: Of PyTorch, about deepbet's file.
WARNING_OF_DEEPBET = r"`torch\.jit\.load` is deprecated"


@dataclass(frozen=True)
class Asked:
    """What a prediction is asked for, beside its detector.

    source: a scan, a folder of scans, or with `is_bids` a BIDS dataset.
    out: the folder of the results.
    weights: a checkpoint, a weights file, or the name of released weights.
    false_positive_rate: of the calibrated threshold of the mask. None: 0.05, of a restoration
        0.002.
    threshold: of the map, instead of a calibrated one.
    margin_mm: how far beyond the weights' slices is mapped.
    brain_mask: of one scan, on its grid.
    skip_registration: the scans are in the template's space.
    is_bids: whether source and results are BIDS datasets.
    participants, sessions: labels in a BIDS dataset. None named: all.
    device: auto, cpu, cuda, cuda:N or mps.
    processes: that prepare scans beside the detection.
    """

    source: str | Path
    out: str | Path
    weights: str | None = "ixi-restoration"
    false_positive_rate: float | None = None
    threshold: float | None = None
    margin_mm: float = 2.0
    brain_mask: str | Path | None = None
    skip_registration: bool = False
    is_bids: bool = False
    participants: Sequence[str] = ()
    sessions: Sequence[str] = ()
    device: str = "auto"
    processes: int = 1


def said(text: str) -> None:
    """Print a line at once, also into a file."""
    print(text, flush=True)


def predict(
    asked: Asked, make_detector: Callable[[Any], Detector], say: Callable[[str], None] = said
) -> int:
    """Predict all scans that are asked for. Returns 1 if one failed, else 0.

    make_detector: from the model.
    say: is given each line of the progress.

    Raises ValueError or OSError for what would fail later, before any work.
    """
    if not 0 <= asked.margin_mm < inf or asked.processes < 0:
        raise ValueError("--margin-mm and --processes: must be 0 or more")
    if not asked.is_bids and (asked.participants or asked.sessions):
        raise ValueError("--participant-label and --session-label need --bids")
    warnings.filterwarnings("ignore", message=WARNING_OF_DEEPBET)
    out, device = at_home(asked.out), device_of(asked.device)
    method = method_of(asked.weights, make_detector, asked.false_positive_rate, asked.threshold)
    how = Preparation(method.steps, method.size, asked.margin_mm, asked.skip_registration)
    listing = _listing(asked, method.modality)
    require_tools(how, asked.brain_mask is not None)
    say(first_line(method, how, len(listing.scans), str(device)))
    say(NOTICE)
    put_on(method.trained, device)
    if device.type == "cpu" and can_keep_freed_memory():
        keep_freed_memory()
    describe = partial(write_description, out, at_home(asked.source))
    running = Running(
        device, asked.processes, describe=describe if asked.is_bids else None, say=say
    )
    outcome = predict_scans(listing, out, method, how, running)
    say(f"{out / 'summary.csv'}: {len(outcome.rows) - len(outcome.failed)} finished")
    for name, reason in outcome.failed.items():
        say(f"failed: {name}: {reason}")
    return 1 if outcome.failed else 0


def _listing(asked: Asked, modality: str) -> Listing:
    if not asked.is_bids:
        return list_scans(asked.source, asked.out, modality, asked.brain_mask)
    if asked.brain_mask is not None:
        raise ValueError("--brain-mask: is of one scan, give that instead of a dataset")
    return list_bids(asked.source, modality, asked.participants, asked.sessions)


def predict_image(
    image: str | Path | SpatialImage,
    weights: str = "ixi-restoration",
    detector: str | DetectorSettings = "auto",
    threshold: float | None = None,
    brain_mask: str | Path | None = None,
    skip_registration: bool = False,
    device: str = "auto",
) -> Prediction:
    """Map what is anomalous in one scan. Nothing is written.

    image: a file (.nii, .nii.gz, .mgz), or a nibabel image.
    weights: a checkpoint, a weights file, or the name of released weights.
    detector: its name, or its settings.
    threshold: of the map, instead of a calibrated one.
    brain_mask: a file on the scan's grid, instead of the brain that is found.
    skip_registration: the scan is in the template's space already.
    device: auto, cpu, cuda, cuda:N or mps.

    Returns nibabel images on the scan's grid, and the record.

    Raises ValueError or OSError that names what is wrong and the remedy.
    """
    settings = DetectorSettings(detector) if isinstance(detector, str) else detector
    method = method_of(weights, settings.make, threshold=threshold)
    how = Preparation(method.steps, method.size, skip_registration=skip_registration)
    require_tools(how, brain_mask is not None)
    if isinstance(image, SpatialImage):
        scan, volume = image, volume_of(image)
    else:
        source = Source(existing_file(image, "image"))
        scan, volume = image_of(source.read_bytes(), source.name), read_volume(source)
    brain = None
    if brain_mask is not None:
        brain = read_mask(Source(existing_file(brain_mask, "brain_mask")), volume, above_0=True)
    prepared = prepare(volume, how, brain)
    on = device_of(device)
    put_on(method.trained, on)
    (detected,) = detect_scans(method.detector, [prepared], on)
    made = result(scan, prepared, detected, method)
    mask = None if brain_mask is None else Path(brain_mask)
    return replace(made, record=made_with(method, how, on, mask) | made.record)


def first_line(method: Method, how: Preparation, count: int, device: str) -> str:
    """What the weights know, before any work."""
    steps, name = method.steps, method.trained.path.stem
    text = str(steps.slices)
    one = text.isdigit()
    where = f"slice {text}" if one else f"slices {text}"
    if steps.register:
        heights = [template().affine[2, 3] + z for z in steps.axial(template().data.shape[2])]
        low, high = heights[0], heights[-1]
        where += f" of the template (z = {low:.0f} mm" + (")" if one else f" to {high:.0f} mm)")
    margin = f" and {how.margin_mm:g} mm beyond" if how.margin_mm else ""
    scans = "1 scan" if count == 1 else f"{count} scans"
    return (
        f"{name} knows {where} alone: the map covers that{margin}, and is 0 elsewhere. "
        f"{method.detector.label}, {scans}, {device}"
    )


def require_tools(how: Preparation, has_brain_mask: bool) -> None:
    """Refuse to begin without a package that the steps need.

    Raises ValueError that says how to install it.
    """
    if how.steps.n4 or how.steps.register:
        simple_itk()
    if how.steps.brain_mask == "deepbet" and not has_brain_mask:
        require_brain_extraction()
