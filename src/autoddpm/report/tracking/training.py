"""The training runs behind the rows of a report: their settings and their curves."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from autoddpm.report.rows.row import NOT_SETTINGS, Row


def training_folders(rows: Sequence[Row]) -> tuple[list[Path], list[str]]:
    """The training runs of the rows' checkpoints, and a remark for each that has no csv metrics."""
    checkpoints = [_read(row.folder / "config.yaml").get("checkpoint") for row in rows]
    folders = dict.fromkeys(
        Path(checkpoint).parent.parent for checkpoint in checkpoints if checkpoint
    )
    found = {folder: any(folder.glob("csv/version_*/metrics.csv")) for folder in folders}
    return [folder for folder in folders if found[folder]], [
        f"No training curves in W&B: {folder / 'csv'} has no metrics."
        for folder in folders
        if not found[folder]
    ]


def read_history(folder: Path) -> pd.DataFrame:
    """A training run's csv metrics, one line a step, in order. Where it was started again, the
    later start holds."""
    starts = sorted(
        folder.glob("csv/version_*/metrics.csv"),
        key=lambda path: int(path.parent.name.split("_")[1]),
    )
    return pd.concat([pd.read_csv(start) for start in starts]).groupby("step").last()


def composed(path: Path) -> dict[str, Any]:
    """The composed configuration of a run, without what says where it ran; empty where the file is
    missing."""
    return {key: value for key, value in _read(path).items() if key not in NOT_SETTINGS}


def _read(path: Path) -> dict[str, Any]:
    return (yaml.safe_load(path.read_text(encoding="utf-8")) or {}) if path.is_file() else {}
