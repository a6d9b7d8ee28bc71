"""The report in Weights & Biases: rows, tables and curves as runs to filter, compare and share.

wandb is imported only if it was asked for. The report is complete without it. Offline needs no
account and no network: the runs lie in FOLDER/wandb until `wandb sync` sends them. Online, the
images of the example slices leave the machine: see to it that the data's licence allows that.
"""

import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from PIL import Image

from autoddpm.report.figures.curve import Curve
from autoddpm.report.figures.examples import Example, Examples, Stages
from autoddpm.report.figures.panels import top_of_scale
from autoddpm.report.figures.theme import ANOMALY_COLOURS
from autoddpm.report.rows.seeds import seed_of
from autoddpm.report.tables.table import Table
from autoddpm.report.tracking.workspace import EXAMPLES, Chart, chart_of, workspace
from autoddpm.runs.row import NOT_SETTINGS, Row, read_config

PROJECT = "autoddpm"  # unless WANDB_PROJECT names another
NEEDED = ("reconstruction", "anomaly_map")


def check_tracking(mode: str | None) -> None:
    """Raise ValueError, with the remedy, if `report.wandb` cannot be done.

    mode: None if it was not asked for.
    """
    if mode is None:
        return
    if mode not in ("offline", "online"):
        raise ValueError(f"report.wandb={mode}: must be offline, online or null")
    try:
        import wandb
        import wandb_workspaces.workspaces  # noqa: F401
    except ImportError as error:
        raise ValueError(
            f"report.wandb={mode} needs the package {error.name}: pip install -e '.[wandb]', or "
            "leave report.wandb out"
        ) from error
    if mode == "online":
        with _refusal():
            wandb.login()


def log_report(
    name: str,
    tables: Sequence[Table],
    rows: Sequence[Row],
    curves: Sequence[Curve],
    examples: Examples,
    settings: Mapping[str, Any],
    folder: Path,
) -> list[str]:
    """Log a report to W&B as a group of runs. Returns what was done and what could not be.

    There is a run for each row, tagged with its tables: composed settings, metrics, thresholds,
    provenance, and the examples with lesion and predicted mask. One more is for the report: each
    table in long form, and the metrics against the noise level. Online also saves a workspace that
    shows them. What was logged before under the same name, in the same folder or online, is
    replaced. (`logger=wandb` of src.train logs the training itself.)

    name: of the group.
    settings: as `report` in conf/report.yaml. Nothing is done if its `wandb` is None.
    folder: of the report, which exists.

    Raises ValueError as `check_tracking` does, and if W&B refuses.
    """
    mode = settings.get("wandb")
    check_tracking(mode)
    if mode is None:
        return []
    for before in folder.glob(f"wandb/offline-run-*-{_digest(name)}-*"):
        shutil.rmtree(before)
    group, remarks = Group(name, mode, folder), []
    charts = [chart_of(curve) for curve in curves]
    # else offline runs report to W&B's makers
    with _refusal(), _environment(WANDB_ERROR_REPORTING="false"):
        for row in rows:
            tags = [t.name for t in tables if row.folder in {shown.folder for shown in t.rows}]
            for one in row.runs:
                remarks += _log_row(group, row, one, tags, tables, examples)
        shows = {
            "note": settings["note"],
            "rows": [one.folder.name for r in rows for one in r.runs],
        }
        return [*_log_tables(group, shows, tables, charts), *remarks]


def _log_row(
    group: "Group",
    row: Row,
    one: Row,
    tags: Sequence[str],
    tables: Sequence[Table],
    examples: Examples,
) -> list[str]:
    """Log a run folder of a row. Returns why it has no images, if it has none."""
    title = f"{row.title}, {seed_of(one, row.members)}" if row.members else row.title
    with group.run(f"evaluate {one.folder.name}", title, row_config(one), tags) as run:
        run.summary.update(row_summary(one, tables))
        shown, lost = examples.of([one], NEEDED)
        if shown:
            run.log(_images(one, examples.examples, shown[0].stages))
    return lost


def _log_tables(
    group: "Group", shows: Mapping[str, Any], tables: Sequence[Table], charts: Sequence[Chart]
) -> list[str]:
    """Log tables and charts. Returns where they are."""
    import wandb

    with group.run("report", f"report {group.name}", shows) as run:
        for table in tables:
            columns, lines = in_long_form(table)
            run.log({table.name: wandb.Table(columns=columns, data=lines)})
        for one in charts:
            points = wandb.Table(columns=[one.x, one.y, "method"], data=one.points)
            run.log({one.name: wandb.plot.line(points, one.x, one.y, "method", one.title)})
        if group.mode == "online":
            view = workspace(run.entity or "", run.project, group.name, tables, charts)
            view.save()
            return [f"W&B: {run.url}; workspace {view.url}"]
    return [f"W&B, offline. To send it: wandb sync {group.folder}/wandb/offline-run-*"]


def in_long_form(table: Table) -> tuple[list[str | int], list[Iterable[Any]]]:
    """Columns and lines of a table, in its unit (percent, say). None is undefined or not known.

    A line has method, metric, the paper's value, ours and the bounds of its interval. In a table
    of differences it has the difference, its bounds and p.
    """
    columns: list[str | int] = ["method", "metric", "paper", "ours", "low", "high"]
    if table.measured != "ours":
        columns = ["method", "metric", table.measured, "low", "high", "p_value"]
    lines: list[Iterable[Any]] = []
    for row, cells in zip(table.rows, table.cells, strict=True):
        for column, cell in zip(table.columns, cells, strict=True):
            said = {
                "method": row.title,
                "metric": column.title,
                "paper": cell.paper,
                table.measured: cell.value,
            }
            said |= {"low": cell.low, "high": cell.high, "p_value": cell.p_value}
            lines.append([said[str(name)] for name in columns])
    return columns, lines


def row_config(row: Row) -> dict[str, Any]:
    """Composed configuration of a row without paths, its detector as built, and its provenance."""
    read = read_config(row.folder)
    settings = {key: value for key, value in read.items() if key not in NOT_SETTINGS}
    return settings | {
        "label": row.label,
        "folder": row.folder.name,
        "detector": settings.get("detector", {}) | dict(row.detector),
        "thresholds": dict(row.thresholds),
        "undefined": dict(row.undefined),
        "provenance": dict(row.provenance),
    }


def row_summary(row: Row, tables: Sequence[Table]) -> dict[str, float]:
    """A row's metrics as fractions, and KEY_low and KEY_high if a table holds an interval.

    What is undefined is left out: `row_config` says why.
    """
    summary = {key: value for key, value in row.metrics.items() if value is not None}
    for table in tables:
        for shown, cells in zip(table.rows, table.cells, strict=True):
            if shown.folder != row.folder or shown.members or table.measured != "ours":
                continue
            for column, cell in zip(table.columns, cells, strict=True):
                bounds = {"low": cell.low, "high": cell.high}
                summary |= {
                    f"{column.key}_{k}": v / column.scale
                    for k, v in bounds.items()
                    if v is not None
                }
    return summary


@contextmanager
def _refusal() -> Iterator[None]:
    """Raise what W&B refuses (no account, network or right) as a ValueError with the remedy."""
    import wandb

    try:
        yield
    except wandb.errors.Error as error:
        why = str(error).rstrip(".")
        raise ValueError(
            f"W&B refused: {why}. Log in once with `wandb login`, or say report.wandb=offline; "
            "`wandb sync` sends the files later"
        ) from error


@contextmanager
def _environment(**values: str) -> Iterator[None]:
    """Environment variables that hold inside, unless the user has set them."""
    added = {key: value for key, value in values.items() if key not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for key in added:
            del os.environ[key]


@dataclass(frozen=True)
class Group:
    """A group of W&B runs.

    mode: "offline" or "online".
    folder: in which wandb keeps its files.
    """

    name: str
    mode: Any
    folder: Path

    @contextmanager
    def run(
        self, what: str, title: str, config: Mapping[str, Any], tags: Sequence[str] = ()
    ) -> Iterator[Any]:
        """A run of this group, finished at the end. One that raises is marked as failed.

        what: tells it from the others. Its first word is the type of job.

        wandb keeps a second copy of each table, which `wandb sync` needs: here it lies in the
        run's folder, not in the home folder.
        """
        import wandb

        # The machine and process that write a report say nothing about its rows.
        settings = wandb.Settings(
            silent=self.mode == "offline",
            console="off",
            disable_git=True,
            x_disable_stats=True,
            x_disable_meta=True,
        )
        run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            group=self.name,
            job_type=what.split()[0],
            id=f"{_digest(self.name)}-{_digest(what)}",
            name=title,
            tags=tags,
            config=dict(config),
            dir=str(self.folder),
            mode=self.mode,
            settings=settings,
        )
        with _environment(WANDB_DATA_DIR=str(Path(run.dir).parent)), run:
            yield run


def _images(row: Row, examples: Sequence[Example], stages: Stages) -> dict[str, list[Any]]:
    """Input, reconstruction and anomaly map of each example, with masks to lay over them.

    The masks are the lesion, the mask that was re-sampled, and what the map flags at the threshold
    that flags 5 % of healthy pixels.
    """
    import wandb

    images: dict[str, list[Any]] = {key: [] for key in EXAMPLES}
    threshold = row.thresholds.get("healthy_fpr5")
    for n, example in enumerate(examples):
        heat = stages["anomaly_map"][n]
        masks = {"lesion": example.lesion}
        if "mask" in stages:
            masks["re-sampled"] = stages["mask"][n] > 0
        if threshold is not None:
            masks["flagged"] = heat > threshold
        overlays = {
            name: {"mask_data": mask.astype(np.uint8), "class_labels": {0: "rest", 1: name}}
            for name, mask in masks.items()
        }
        colours = colormaps[ANOMALY_COLOURS](heat / top_of_scale([heat]))[..., :3]
        caption = f"{example.id}, {example.size_group}, {example.pixels} lesion pixels"
        for key, pixels in zip(
            EXAMPLES, (example.image, stages["reconstruction"][n], colours), strict=True
        ):
            picture = Image.fromarray((np.clip(pixels, 0, 1) * 255).round().astype(np.uint8))
            images[key].append(wandb.Image(picture, caption=caption, masks=overlays))
    return images


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:10]
