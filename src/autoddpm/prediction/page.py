"""The page of one scan, one file with its volumes and a viewer, and a picture of its slices."""

import gzip
import json
from base64 import b64encode
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from io import BytesIO
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from autoddpm.data.montage import montage, outlined
from autoddpm.prediction.result import Prediction, coverage_in_short
from autoddpm.preparation.way_back import like

TILE = 256
MOST_ROWS = 6
FOLDER = files("autoddpm.prediction") / "viewer"
INFERNO = files("autoddpm.prediction") / "inferno.png"


def mosaic(made: Prediction, threshold: float) -> bytes:
    """A PNG of some slices: scan with the mask's outline, map, reconstruction; front above."""
    rows, maps = shown_rows(made), made.detected.maps
    top = _top(maps, threshold)
    tiles = []
    for row in rows:
        seen, found = made.prepared.images[row], maps[row]
        coloured = Image.fromarray(inferno()[np.clip(found / top * 256, 0, 255).astype(int)])
        tiles += [
            outlined(_grey(seen), found > threshold, TILE),
            np.asarray(coloured.resize((TILE, TILE), Image.Resampling.BICUBIC)),
            outlined(_grey(made.detected.reconstructions[row]), np.zeros_like(found, bool), TILE),
        ]
    buffer = BytesIO()
    montage(tiles, 3).save(buffer, "png")
    return buffer.getvalue()


@cache
def inferno() -> NDArray[np.uint8]:
    """The 256 colours of matplotlib's inferno, (256, 3), without matplotlib."""
    with Image.open(BytesIO(INFERNO.read_bytes())) as picture:
        return np.asarray(picture)[0]


def shown_rows(made: Prediction) -> list[int]:
    """The slices of the picture, from above: evenly spread, the known ones first of all."""
    known = [made.prepared.slices.index(z) for z in made.prepared.known]
    rows = known if len(known) > 1 else range(len(made.prepared.slices))
    places = np.unique(np.linspace(0, len(rows) - 1, min(MOST_ROWS, len(rows))).astype(int))
    return [rows[place] for place in places[::-1]]


def html(name: str, made: Prediction, record: Mapping[str, Any]) -> str:
    """The page as HTML."""
    environment = Environment(
        loader=PackageLoader("autoddpm.prediction", "viewer"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
    )
    threshold, results = float(record["threshold"]["value"]), record["results"]
    data = viewer_data(made, threshold)
    return environment.get_template("report.html.jinja").render(
        name=name,
        notice=record["notice"],
        warnings=record["warnings"],
        meaning=record["meaning"],
        covered=f"The map covers {coverage_in_short(made.prepared)} of the grid that was cut.",
        shown=", ".join(str(made.prepared.slices[row]) for row in shown_rows(made)),
        mosaic=b64encode(mosaic(made, threshold)).decode(),
        numbers={key: _words(value) for key, value in {**results, **record["trust"]}.items()},
        made={
            "program": record["program"],
            "weights": record["weights"]["file"],
            **{key: _words(value) for key, value in record["settings"].items()},
            "threshold": _words(record["threshold"]),
            "done to the scan": _words(record["preparation"]),
            "seconds": _words(record["seconds"]),
        },
        licence=(FOLDER / "niivue.LICENSE.txt").read_text("utf-8"),
        niivue=Markup((FOLDER / "niivue.umd.js").read_text("utf-8")),
        data=Markup(json.dumps(data, allow_nan=False).replace("<", "\\u003c")),
        script=Markup((FOLDER / "report.js").read_text("utf-8")),
    )


def viewer_data(made: Prediction, threshold: float) -> dict[str, Any]:
    """What the viewer is given: volumes as NIfTI in base64, thresholds, and where to begin."""
    affine, values = made.anomaly_map.affine, np.asarray(made.anomaly_map.dataobj)
    healthy = np.asarray(made.pseudo_healthy.dataobj)
    brightest = np.percentile(healthy[healthy > 0], 99.5) if (healthy > 0).any() else 1.0
    volumes = {
        "scan": _bytes(made.scan, brightest),
        "pseudo_healthy": _bytes(healthy, brightest),
        "map": values,
        "outline": outline(np.asarray(made.mask.dataobj) > 0, affine),
    }
    centre = np.unravel_index(int(values.argmax()), values.shape)
    return {
        "volumes": {name: _packed(made, data) for name, data in volumes.items()},
        "threshold": threshold,
        "top": _top(values, threshold),
        "voxel_ml": abs(float(np.linalg.det(affine[:3, :3]))) / 1000,
        "centre": (affine @ [*centre, 1])[:3].round(3).tolist(),
    }


def outline(mask: NDArray[np.bool_], affine: NDArray) -> NDArray[np.uint8]:
    """The rim of a mask within its axial planes, one voxel thick."""
    upward = int(np.argmax(np.abs(affine[2, :3])))
    shape = [3, 3, 3]
    shape[upward] = 1
    return (mask & ~ndimage.binary_erosion(mask, np.ones(shape))).astype(np.uint8)


def _top(maps: NDArray, threshold: float) -> float:
    """The end of the colour scale."""
    return float(max(maps.max(), 2 * threshold, 1e-6))


def _grey(image: NDArray) -> NDArray[np.uint8]:
    return (255 * np.clip(image, 0, 1)).round().astype(np.uint8)


def _bytes(data: NDArray, brightest: float) -> NDArray[np.uint8]:
    return _grey(data / brightest)


def _packed(made: Prediction, data: NDArray) -> str:
    content = like(made.anomaly_map, data).to_bytes()
    return b64encode(gzip.compress(content, 6, mtime=0)).decode()


def _words(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_words(part)}" for key, part in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_words, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)
