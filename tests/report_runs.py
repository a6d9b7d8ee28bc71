"""Finished run folders as an evaluation writes them, and reports of them."""

import csv
import io
import json
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import yaml
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from scipy.ndimage import gaussian_filter

from autoddpm.data.lesion_size import GROUPS
from autoddpm.evaluation.row import score
from autoddpm.metrics.counts import every_score
from autoddpm.metrics.localization import HEALTHY_FPRS, healthy_threshold, localization
from autoddpm.metrics.reconstruction import mse, ssim
from autoddpm.report.rows.methods import Method
from autoddpm.report.select import select_rows
from autoddpm.report.tables.definition import register_tables
from autoddpm.report.tables.intervals import Resamples
from autoddpm.report.tables.table import Column, Table, TableRows, make_table
from autoddpm.report.write import Report, write_report
from autoddpm.runs.row import Row

ROOT = Path(__file__).resolve().parents[1]
SIZE = 64
SLICES = [("healthy", 0)] * 2 + [("small", 2)] * 3 + [("medium", 5)] * 3 + [("large", 9)] * 3
METRICS = [
    "healthy/ssim",
    "lesion/auprc",
    "lesion/max_dice",
    "lesion/grid_dice",
    "lesion/dice@healthy_fpr5",
    "healthy/fpr@healthy_fpr5",
    "lesion/max_dice/small",
    "lesion/max_dice/medium",
    "lesion/max_dice/large",
]
ALWAYS: tuple[str, ...] = ()  # overrides of each report
AUTODDPM = {"name": "AutoDDPM", "t": 200, "t_resample": 50, "resample_steps": 5}
AUTODDPM |= {"use_uncertainty": True}
BASELINES, METHOD = (
    Method("AnoDDPM", {"name": "AnoDDPM"}, "t"),
    Method("AutoDDPM", {"name": "AutoDDPM"}),
)
EVERY = Method("every row", {})
SSIM, DICE = (
    Column("SSIM", "healthy/ssim", 100, best="max"),
    Column("Dice", "lesion/max_dice", 100, best="max"),
)


def brain(rng: np.random.Generator, radius: float) -> tuple[np.ndarray, np.ndarray]:
    """A slice with ventricles and, for radius > 0, a dark lesion: image in [0, 1] and the lesion's
    mask."""
    y, x = np.mgrid[:SIZE, :SIZE] / SIZE - 0.5
    inside = (x / 0.36) ** 2 + (y / 0.44) ** 2 < 1
    image = inside * (0.62 + 0.5 * gaussian_filter(rng.standard_normal((SIZE, SIZE)), 2))
    image[((abs(x) - 0.06) / 0.04) ** 2 + (y / 0.14) ** 2 < 1] = 0.15
    at = rng.uniform(-0.16, 0.16, 2)
    lesion = np.hypot(x - at[0], y - at[1]) * SIZE < radius * (
        1 + 0.3 * np.sin(4 * np.arctan2(y - at[1], x - at[0]))
    )
    image = np.where(lesion, 0.25, image)
    return gaussian_filter(image, 0.6).clip(0, 1).astype(np.float32), lesion


def write_row(
    runs: Path, folder: str, label: str, detector: dict, value: float | None = 0.2, **changes
) -> Path:
    """A finished run folder. value: of every metric; None: what the metrics of an evaluation find.

    changes: metrics, undefined, provenance, config; and slices, in the place of SLICES.
    """
    rng, path = np.random.default_rng(5), runs / folder
    path.mkdir(parents=True)
    slices = changes.get("slices", SLICES)
    images, lesions = map(np.stack, zip(*(brain(rng, radius) for _, radius in slices), strict=True))
    blur = detector.get("t", 100) / 100
    smooth = np.stack([gaussian_filter(image, blur) for image in images])
    ids = [f"phantom/{n:03d}" for n in range(len(slices))]
    maps = {"id": np.array(ids), "image": images, "lesion": lesions, "reconstruction": smooth}
    maps["anomaly_map"] = abs(images - smooth)
    if detector["name"] == "AutoDDPM":
        mask = np.stack([gaussian_filter(lesion.astype(float), 1) > 0.2 for lesion in lesions])
        stitched = np.where(mask, smooth, images)
        maps |= {"initial_map": maps["anomaly_map"], "initial_reconstruction": smooth, "mask": mask}
        maps |= {
            "stitched": stitched,
            "reconstruction": np.where(mask, 0.6, images).astype(np.float32),
        }
        maps["anomaly_map"] = (maps["anomaly_map"] * (mask + 0.1) * 0.5).astype(np.float32)
    np.savez_compressed(path / "maps.npz", **maps)
    groups = [group for group, _ in slices]
    thresholds = {"mask_threshold": 0.03, "healthy_fpr5": 0.1}
    metrics: dict = dict.fromkeys(METRICS, value)
    if value is None:
        healthy = maps["anomaly_map"][[group == "healthy" for group in groups]]
        thresholds |= {
            name: healthy_threshold(healthy, share) for name, share in HEALTHY_FPRS.items()
        }
        metrics = found(maps, groups, thresholds)
    write_slices(path / "slices.csv", maps, groups)
    config = {
        "detector": {"_target_": f"autoddpm.detectors.{label}", **detector},
        "sampler": {"stride": 10},
    }
    (path / "config.yaml").write_text(yaml.safe_dump(config | changes.get("config", {})))
    made_by = {
        "data_hash": "d" * 64,
        "weights_hash": "a" * 64,
        "commit": "0123abc",
        "seed": 0,
        "device": "cpu",
        "precision": "32",
        "versions": {"torch": "2.15.0", "monai": "1.6.1"},
        "date": "2026-11-22",
        "perceptual": "denoiser",
        "sampler": "ancestral",
        "size": SIZE,
        "experiment": "demo",
        "calibrate_hash": "c" * 64,
        "size_groups": "published",
        "data_range": "ranges",
    }
    reasons = {key: reason for key, reason in metrics.items() if isinstance(reason, str)}
    content = {
        "label": label,
        "detector": detector,
        "metrics": metrics
        | dict.fromkeys(reasons)
        | {"calls_per_slice": 45.0, "seconds_per_slice": 0.5}
        | changes.get("metrics", {}),
        "undefined": reasons | changes.get("undefined", {}),
        "thresholds": thresholds,
        "provenance": made_by | changes.get("provenance", {}),
    }
    (path / "metrics.json").write_text(json.dumps(content))
    return path


def found(maps: dict, groups: list[str], thresholds: dict) -> dict:
    """What the metrics of an evaluation say of maps: values, and texts where undefined."""
    group = np.array([GROUPS.index(name) for name in groups])
    calibrated = {name: thresholds[name] for name in HEALTHY_FPRS}
    cost = {"calls": np.full(len(group), 45), "seconds": np.ones(len(group))}
    found = score({**maps, **cost}, group, calibrated)
    return {key: value for key, value in found.items() if "per_slice" not in key}


def write_slices(path: Path, maps: dict, groups: list[str]) -> None:
    """slices.csv: each slice of its own subject."""
    with path.open("w", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(
            ["id", "subject", "lesion_pixels", "size_group", "ssim", "mse", "max_dice", "calls"]
        )
        for n, (slice_id, group) in enumerate(zip(maps["id"], groups, strict=True)):
            image, other, lesion, heat = (
                maps[k][n] for k in ("image", "reconstruction", "lesion", "anomaly_map")
            )
            own = [ssim(image, other), mse(image, other), ""]
            if group != "healthy":
                own = ["", "", localization(every_score(heat, lesion)).max_dice[0]]
            lines.writerow([slice_id, f"{n:03d}", lesion.sum(), group, *own, 45])


def anoddpm(runs: Path, t: int, folder: str = "", **changes) -> Path:
    detector = {"name": "AnoDDPM", "t": t}
    given = {"value": t / 2000} | changes
    return write_row(runs, folder or f"anoddpm-t{t}", f"AnoDDPM (t={t})", detector, **given)


def autoddpm(runs: Path, folder: str = "autoddpm", **changes) -> Path:
    given = {"value": 0.4123} | changes
    return write_row(runs, folder, "AutoDDPM", AUTODDPM, **given)


def write_all(runs: Path, **changes) -> Path:
    for t in (300, 50, 250, 100, 200, 150):
        anoddpm(runs, t, **changes)
    autoddpm(runs, **changes)
    given = {"value": 0.35} | changes
    write_row(
        runs, "no-u", "AutoDDPM (w/o uncertainty)", AUTODDPM | {"use_uncertainty": False}, **given
    )
    write_row(
        runs,
        "no-r",
        "AutoDDPM (w/o re-sampling)",
        AUTODDPM | {"resample_steps": 0},
        **{"value": 0.33} | changes,
    )
    return runs


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    return tmp_path / "runs" / "demo" / "evaluate"


@pytest.fixture(scope="session")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows with the metrics of an evaluation: AnoDDPM at 100 and 300, and AutoDDPM. Not to be
    changed."""
    runs = tmp_path_factory.mktemp("measured") / "demo" / "evaluate"
    for t in (100, 300):
        anoddpm(runs, t, value=None)
    autoddpm(runs, value=None)
    return runs


@pytest.fixture
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests of tables need not wait for figures."""
    names = ("noise_paradox", "dice_by_size", "figure4", "figure5")
    monkeypatch.setattr("report_runs.ALWAYS", tuple(f"report.figures.{n}=null" for n in names))


def settings(*overrides: str) -> dict:
    register_tables(ROOT / "experiments")
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        config = compose("report", overrides=list(overrides))
    return OmegaConf.to_container(config.report, resolve=True)


def report(runs: Path, *overrides: str) -> Report:
    """The report of the rows in `runs`, in the folder `report` beside it; without resamples unless
    asked for."""
    given = settings("report.resamples=0", *ALWAYS, *overrides)
    return write_report(runs, runs.parent / "report", "demo", given)


def table_of(
    methods: Sequence[Method],
    columns: Sequence[Column],
    rows: Sequence[Row],
    resamples: Resamples | None = None,
    **words,
) -> Table:
    """A table of the rows of `methods`."""
    kind = select_rows(methods, rows)
    given = {"name": "t", "title": "T", "caption": ""} | words
    chosen = TableRows(columns=columns, rows=kind.rows, missing=kind.missing, **given)
    return make_table(chosen, resamples or Resamples({}))


def read_csv(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_text())))


def tables_of(runs: Path, *overrides: str) -> dict[str, Table]:
    """The tables of a report, without a page unless asked for."""
    return {table.name: table for table in report(runs, "report.page=false", *overrides).tables}


def change_json(path: Path, **changes: dict) -> None:
    """Change parts of a metrics.json."""
    content = json.loads(path.read_text())
    for part, values in changes.items():
        content[part] |= values
    path.write_text(json.dumps(content))


class Page(HTMLParser):
    """The addresses that a page loads and its words."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.words = ""
        self.script = False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.script = tag == "script"
        self.loads += [
            value.split()[0] for key, value in attrs if key in ("src", "href", "srcset", "data")
        ]

    def handle_endtag(self, tag):
        self.script = False

    def handle_data(self, data):
        self.words += "" if self.script else data
