"""The files of a run folder, by name, and what state they say it is in."""

import json
from pathlib import Path

from autoddpm.atomic import write_json

METRICS, SLICES, MAPS, CONFIG = "metrics.json", "slices.csv", "maps.npz", "config.yaml"
FAILED = "failed.json"


class UnreadableRunError(ValueError):
    """A file of a run folder is missing, damaged, or not an evaluation's. The message names it."""


def is_finished(folder: Path) -> bool:
    """Whether the folder holds a finished row: metrics.json is written last."""
    return (folder / METRICS).is_file()


def write_failure(folder: Path, message: str) -> None:
    """Write failed.json, {"error": message}, unless the folder holds a finished row."""
    if not is_finished(folder):
        write_json(folder / FAILED, {"error": message})


def forget_failure(folder: Path) -> None:
    """Remove failed.json, if there is one."""
    (folder / FAILED).unlink(missing_ok=True)


def read_failure(folder: Path) -> str | None:
    """Why an unfinished run failed. None if no failure was noted."""
    path = folder / FAILED
    if is_finished(folder) or not path.is_file():
        return None
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))["error"]).strip().rstrip(".")
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"for a reason that is lost, since {FAILED} is not readable ({error})"
