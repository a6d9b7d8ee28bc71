"""The report in Weights & Biases: its rows, tables and curves as runs that can be filtered,
compared and shared.

wandb is imported only where it was asked for; the report is complete without it. Offline needs no
account and no
network: the runs lie in FOLDER/wandb until `wandb sync` sends them. Online, the images of the
    example slices leave the
machine: see to it that the data's licence allows that.
"""

import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from numpy.typing import NDArray
from PIL import Image

from autoddpm.report.figures.examples import Example, read_shown
from autoddpm.report.figures.figure import ANOMALY_COLOURS, top_of_scale
from autoddpm.report.rows.row import Row
from autoddpm.report.rows.seeds import seed_of
from autoddpm.report.tables.table import Table
from autoddpm.report.tracking.training import composed, read_history, training_folders
from autoddpm.report.tracking.workspace import EXAMPLES, STEP, curves, workspace

PROJECT = "autoddpm"  # where WANDB_PROJECT does not name another


def check_tracking(mode: str | None) -> None:
    """Raise ValueError, with the remedy, where `report.wandb` cannot be done. None: it was not
    asked for."""
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
    examples: Sequence[Example],
    settings: Mapping[str, Any],
    folder: Path,
) -> list[str]:
    """Log a report to W&B as a group of runs called `name`. Returns what was done and what could
    not be, in words.

    A run for each row, tagged with its tables: composed settings, metrics, thresholds, provenance,
    and the examples with lesion and predicted mask. One for each training run of the rows'
    checkpoints: its curves. One for the report: each table as paper, ours, low, high, and the
    metrics against the noise level. Online also saves a workspace that shows them. What was logged
    before under the same name, in the same folder or online, is replaced.

    settings: as `report` in conf/report.yaml; nothing is done where its `wandb` is None.  folder:
    of the report, which exists. Raises ValueError as `check_tracking` does, and where W&B refuses.
    """
    mode = settings.get("wandb")
    check_tracking(mode)
    if mode is None:
        return []
    import wandb

    for before in folder.glob(f"wandb/offline-run-*-{_digest(name)}-*"):
        shutil.rmtree(before)
    runs = [(one, row) for row in rows for one in row.runs]
    trainings, remarks = training_folders([one for one, _ in runs])
    charts = curves(settings, rows)
    with (
        _refusal(),
        _environment(WANDB_ERROR_REPORTING="false"),
    ):  # else offline runs report to W&B's makers
        for one, row in runs:
            title = f"{row.title}, {seed_of(one, row.members)}" if row.members else row.title
            tags = [
                table.name
                for table in tables
                if row.folder in {shown.folder for shown in table.rows}
            ]
            with _run(
                mode, folder, name, f"evaluate {one.folder.name}", title, row_config(one), tags
            ) as run:
                run.summary.update(row_summary(one, tables))
                shown, lost = read_shown([one], examples, _stages(one)) if examples else ([], [])
                remarks += lost
                if shown:
                    run.log(_images(one, examples, shown[0].stages))
        for training in trainings:
            made_by = composed(training / ".hydra" / "config.yaml")
            with _run(
                mode, folder, name, f"train {training}", f"train {training.name}", made_by
            ) as run:
                run.define_metric("*", step_metric=STEP)
                for step, values in read_history(training).iterrows():
                    run.log({STEP: step, **values.dropna()})
        shows = {"note": settings["note"], "rows": [one.folder.name for one, _ in runs]}
        with _run(mode, folder, name, "report", f"report {name}", shows) as run:
            for table in tables:
                columns, lines = in_long_form(table)
                run.log({table.name: wandb.Table(columns=columns, data=lines)})
            for chart in charts:
                points = wandb.Table(columns=[chart.x, chart.y, "method"], data=chart.points)
                run.log(
                    {chart.name: wandb.plot.line(points, chart.x, chart.y, "method", chart.title)}
                )
            view = workspace(run.entity or "", run.project, name, tables, charts)
            if mode == "online":
                view.save()
                return [f"W&B: {run.url}; workspace {view.url}", *remarks]
    return [f"W&B, offline. To send it: wandb sync {folder}/wandb/offline-run-*", *remarks]


def in_long_form(table: Table) -> tuple[list[str | int], list[Iterable[Any]]]:
    """Columns and lines: method, metric, the paper's value, ours and the bounds of its interval, in
    the table's unit (percent, say); or of a table of differences the difference, its bounds and p.
    None: undefined, or not known."""
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
    """What made a row: its composed configuration without paths, the detector as it was built, and
    the provenance."""
    settings = composed(row.folder / "config.yaml")
    return settings | {
        "label": row.label,
        "folder": row.folder.name,
        "detector": settings.get("detector", {}) | dict(row.detector),
        "thresholds": dict(row.thresholds),
        "undefined": dict(row.undefined),
        "provenance": dict(row.provenance),
    }


def row_summary(row: Row, tables: Sequence[Table]) -> dict[str, float]:
    """A row's metrics, as fractions; KEY_low and KEY_high where a table holds an interval. What is
    undefined is
    left out: `row_config` says why."""
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
    """What W&B refuses (no account, no network, no right to the project) as a ValueError with the
    remedy."""
    import wandb

    try:
        yield
    except wandb.errors.Error as error:
        why = str(error).rstrip(".")
        raise ValueError(
            f"W&B refused: {why}. Log in once with `wandb login`, or say report.wandb=offline; "
            "`wandb sync` sends "
            "the files later"
        ) from error


@contextmanager
def _environment(**values: str) -> Iterator[None]:
    """Environment variables that hold inside, where the user has not set them."""
    added = {key: value for key, value in values.items() if key not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for key in added:
            del os.environ[key]


@contextmanager
def _run(
    mode: Any,
    folder: Path,
    group: str,
    what: str,
    title: str,
    config: Mapping[str, Any],
    tags: Sequence[str] = (),
) -> Iterator[Any]:
    """A W&B run of this group, finished at the end.  what: tells it from the others, its first word
    the type of job.

    wandb keeps a second copy of each table, which `wandb sync` needs: here in the run's folder, not
    in the home folder.
    """
    import wandb

    # The machine and process that write a report say nothing about its rows.
    settings = wandb.Settings(
        silent=mode == "offline",
        console="off",
        disable_git=True,
        x_disable_stats=True,
        x_disable_meta=True,
    )
    run = wandb.init(
        project=os.environ.get("WANDB_PROJECT", PROJECT),
        group=group,
        job_type=what.split()[0],
        id=f"{_digest(group)}-{_digest(what)}",
        name=title,
        tags=tags,
        config=dict(config),
        dir=str(folder),
        mode=mode,
        settings=settings,
    )
    with (
        _environment(WANDB_DATA_DIR=str(Path(run.dir).parent)),
        run,
    ):  # a run that raises is marked as failed
        yield run


def _images(
    row: Row, examples: Sequence[Example], stages: Mapping[str, NDArray[Any]]
) -> dict[str, list[Any]]:
    """Input, reconstruction and anomaly map of each example, with masks to lay over them: the
    lesion, the mask that was re-sampled, and what the map flags at the threshold that flags 5 % of
    healthy pixels."""
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


def _stages(row: Row) -> list[str]:
    return [
        "reconstruction",
        "anomaly_map",
        *(["mask"] if "mask_threshold" in row.detector else []),
    ]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:10]
