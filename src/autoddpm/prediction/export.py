"""Weights and their detector as a MONAI Bundle, for those who work with MONAI."""

import inspect
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import monai
import numpy as np
import torch
import yaml

from autoddpm import __version__
from autoddpm.atomic import folder_written_whole, write_json, write_text
from autoddpm.detectors.perceptual import LPIPS
from autoddpm.models.weights_file import RELEASED, released_names
from autoddpm.prediction.bundle import MapNetwork
from autoddpm.prediction.method import DetectorSettings, Method, method_of
from autoddpm.prediction.result import NOTICE
from autoddpm.settings import arguments, is_plain

#: Where MONAI has its own schema of metadata.json. Nothing is fetched from there.
SCHEMA = (
    "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/"
    "meta_schema_20240725.json"
)
PAPER = "Bercea et al.: Mask, Stitch, and Re-Sample. 2023. https://arxiv.org/abs/2305.19643"
TEMPLATES = Path(__file__).parent / "monai_bundle"


@dataclass(frozen=True)
class BundleSettings:
    """What a bundle is made of.

    weights: a checkpoint, a weights file, or the name of released weights.
    detector: which detector the bundle is, and its settings.
    false_positive_rate: of the calibrated threshold of the mask. None: 0.05, of a restoration
        0.002.
    threshold: of the map, instead of a calibrated one.
    licence: of the weights, such as "cc-by-4.0". Empty: as the card of released weights says.
    """

    weights: str
    detector: DetectorSettings
    false_positive_rate: float | None = None
    threshold: float | None = None
    licence: str = ""


def export_bundle(settings: BundleSettings, folder: str | Path) -> Path:
    """Write a bundle as a whole. Returns its folder.

    Raises ValueError or OSError, before anything is written, if the folder is there and not empty,
    if the weights' licence is not known, or as `autoddpm.prediction.method.method_of`.
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder}: is there already and not empty; name another folder")
    licence = settings.licence or card_licence(settings.weights)
    if not licence:
        raise ValueError(
            f"{settings.weights}: nobody says under which licence its weights are; give --licence, "
            "such as --licence cc-by-4.0"
        )
    method = method_of(
        settings.weights,
        settings.detector.make,
        settings.false_positive_rate,
        settings.threshold,
    )
    described = metadata(method, licence)
    with folder_written_whole(folder) as made:
        for part in ("configs", "models", "docs"):
            (made / part).mkdir()
        write_json(made / "configs" / "metadata.json", described)
        write_json(made / "configs" / "inference.json", inference(method))
        shutil.copy(TEMPLATES / "metadata.schema.json", made / "configs")
        network = MapNetwork(method.trained.model, method.detector)
        exact = {name: values.contiguous() for name, values in network.state_dict().items()}
        torch.save(exact, made / "models" / "model.pt")
        write_text(made / "LICENSE", licence_text(method, licence))
        write_text(made / "docs" / "README.md", readme(method, described))
    return folder


def card_licence(weights: str) -> str:
    """The licence that the card of released weights states in its first lines, else ""."""
    if weights not in released_names():
        return ""
    for card in (folder / "README.md" for folder in RELEASED):
        if card.is_file() and (front := front_matter(card.read_text("utf-8"))):
            return str(front.get("license", ""))
    return ""


def front_matter(text: str) -> dict[str, Any]:
    """The YAML between the first two lines `---` of a document, {} if it has none."""
    start, *rest = text.split("---\n", 2)
    return dict(yaml.safe_load(rest[0])) if not start and len(rest) == 2 else {}


def as_config(value: Any, model: object) -> Any:
    """A detector, or a part of one, as MONAI's `ConfigParser` makes it again.

    model: its model, which the bundle calls `@model`.

    Raises ValueError as `autoddpm.settings.arguments`.
    """
    if value is model:
        return "@model"
    if value is None or is_plain(value):
        return list(value) if isinstance(value, tuple) else value
    if inspect.isfunction(value):
        return {"_target_": f"{value.__module__}.{value.__qualname__}", "_mode_": "callable"}
    given = {} if isinstance(value, LPIPS) else arguments(value)  # its file is this machine's
    made = {name: as_config(one, model) for name, one in given.items()}
    kind = type(value)
    return {"_target_": f"{kind.__module__}.{kind.__qualname__}", **made}


def inference(method: Method) -> dict[str, Any]:
    """The content of configs/inference.json: the template, and what is the method's own."""
    made = json.loads((TEMPLATES / "inference.json").read_text("utf-8"))
    made["preprocessing"] |= {"size": method.size, "window": method.steps.window == "slice"}
    return made | {
        "threshold": method.threshold.value,
        "model": method.trained.config,
        "detector": as_config(method.detector, method.trained.model),
    }


def metadata(method: Method, licence: str) -> dict[str, Any]:
    """The content of configs/metadata.json, after MONAI's specification."""
    slices = f"{method.modality} slices {method.steps.slices}"
    seen = _tensor(method.size, f"an axial slice, {method.modality}", "MR", [0, 1])
    found = _tensor(method.size, "anomaly map: the higher, the more anomalous", "n/a", [])
    return {
        "schema": SCHEMA,
        "version": __version__,
        "changelog": {__version__: "exported by autoddpm export-bundle"},
        "monai_version": monai.__version__,
        "pytorch_version": torch.__version__.split("+")[0],
        "numpy_version": np.__version__,
        "required_packages_version": {"autoddpm": __version__},
        "supported_apps": {},
        "name": method.trained.path.stem,
        "task": "Unsupervised anomaly detection in slices of brain MRI",
        "description": f"{method.detector.label}, from a model of healthy {slices}. {NOTICE}",
        "authors": "The autoddpm contributors",
        "copyright": f"Weights: {licence}. Code: Apache-2.0.",
        "intended_use": NOTICE,
        "references": [PAPER],
        "network_data_format": {"inputs": {"image": seen}, "outputs": {"pred": found}},
        "autoddpm": method.record(),
    }


def _tensor(size: int, what: str, modality: str, value_range: list[float]) -> dict[str, Any]:
    """A tensor as metadata.json describes it: one channel of a slice."""
    return {
        "type": "image",
        "format": "magnitude",
        "modality": modality,
        "num_channels": 1,
        "spatial_shape": [size, size],
        "dtype": "float32",
        "value_range": value_range,
        "is_patch_data": False,
        "channel_def": {"0": what},
    }


def licence_text(method: Method, licence: str) -> str:
    """The content of LICENSE."""
    return (
        f"Weights (models/model.pt, from {method.trained.path.name}, hash "
        f"{method.trained.weights_hash}): {licence}.\n"
        "Code that they are used with (autoddpm): Apache-2.0, "
        "https://www.apache.org/licenses/LICENSE-2.0.\n"
    )


def readme(method: Method, described: Mapping[str, Any]) -> str:
    """The content of docs/README.md."""
    rate = method.threshold.false_positive_rate
    origin = "was given" if rate is None else f"flags {100 * rate:g} % of healthy pixels"
    steps = json.dumps(method.steps.record(method.modality))
    return f"""# {described["name"]}

{described["description"]}

    pip install 'autoddpm[bundle]'
    python -m monai.bundle run --config_file configs/inference.json --bundle_root . \\
        --dataset_dir SLICES --output_dir MAPS

SLICES holds slices as PNG, NPY or NIfTI, prepared as those of the training: `{steps}`. MAPS gets
NAME_map.npy and NAME_mask.png of each, {method.size} pixels a side. The mask is where the map is
above {method.threshold.value:.6g}, which {origin}. For whole scans, on their own grid, use
`autoddpm predict`.

Check the metadata without internet:

    python -m monai.bundle verify_metadata --meta_file configs/metadata.json \\
        --filepath configs/metadata.schema.json

Licences: {described["copyright"]}
"""
