"""Intervals and paired differences of the rows of a report, by bootstrap over subjects.

Each row is resampled once.
"""

import hashlib
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from autoddpm import metrics
from autoddpm.atomic import written_whole
from autoddpm.metrics.counts import histograms
from autoddpm.metrics.localization import precision_recall
from autoddpm.metrics.measure import measure
from autoddpm.metrics.statistics import Difference, Interval, difference, interval, subject_weights
from autoddpm.processes import in_processes
from autoddpm.report.rows import scored_slices
from autoddpm.report.rows.scored_slices import read_scored_slices
from autoddpm.runs.folder import MAPS, METRICS, SLICES, UnreadableRunError
from autoddpm.runs.maps import MapReader
from autoddpm.runs.row import Row

# of a value from histograms and the exact one of metrics.json; the bounds of `histograms`, twice
MOST_APART = 2e-3


@dataclass(frozen=True)
class Resampled:
    """The metrics of one run folder in R resamples.

    values: {key: (1 + R,)}, first of the data themselves, then of each resample.
    reasons: {key: why it has no values}.
    problem: why there are no resamples at all; else empty.
    curve: (2, K) recall and precision of the lesion slices' pixels, empty without a lesion.
    """

    values: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    reasons: Mapping[str, str] = field(default_factory=dict)
    problem: str = ""
    curve: NDArray[Any] = field(default_factory=lambda: np.empty((2, 0)))


class Resamples:
    """Intervals and differences of rows. A row of several seeds is their mean in each resample."""

    def __init__(self, by_folder: Mapping[Path, Resampled]) -> None:
        self.by_folder = by_folder

    def problem(self, row: Row) -> str:
        """Why a row has no interval at all; empty if it has."""
        return next((one.problem for one in self._of(row) if one.problem), "")

    def curve(self, row: Row) -> NDArray[Any]:
        """(2, K) recall and precision of a row, of its first seed."""
        return self._of(row)[0].curve if self._of(row) else np.empty((2, 0))

    def interval(self, row: Row, key: str) -> Interval | str | None:
        """95 % interval of a metric, or why it has none. None if the metric is not resampled."""
        samples = self._samples(row, key)
        if not isinstance(samples, np.ndarray):
            return samples
        try:
            return interval(samples)
        except ValueError as error:
            return str(error)

    def difference(self, row: Row, reference: Row, key: str) -> Difference | str | None:
        """Paired 95 % interval and p-value of `row` minus `reference`.

        Or why there is none. None if the metric is not resampled.
        """
        first, second = self._samples(row, key), self._samples(reference, key)
        for samples in (first, second):
            if not isinstance(samples, np.ndarray):
                return samples
        if row.provenance.get("data_hash") != reference.provenance.get("data_hash"):
            return f"measured on other data than {reference.title}"
        try:
            return difference(np.asarray(first), np.asarray(second))
        except ValueError as error:
            return str(error)

    def _of(self, row: Row) -> list[Resampled]:
        return [self.by_folder[run.folder] for run in row.runs if run.folder in self.by_folder]

    def _samples(self, row: Row, key: str) -> NDArray[Any] | str | None:
        found = []
        for run in row.runs:
            one, measured = self.by_folder.get(run.folder, Resampled()), run.metrics.get(key)
            if measured is None or key not in one.values:
                return one.reasons.get(key) if measured is not None else None
            value, resampled = one.values[key][0], one.values[key][1:]
            if not len(resampled):
                return None
            if abs(value - measured) > MOST_APART:
                said = f"maps.npz gives {value:.4g} and metrics.json {measured:.4g}"
                return f"{said}: not of one evaluation"
            found.append(resampled)
        return np.mean(found, axis=0)


def bootstrap_rows(
    rows: Sequence[Row],
    cache: Path,
    resamples: int,
    seed: int,
    console: Console | None = None,
    processes: int = 1,
) -> Resamples:
    """Resample the subjects of every run folder.

    Rows of the same subjects get the same resamples, so that they are paired.

    cache: folder of what was resampled before, by the content of the run folder. What belongs to no
        row is removed.
    resamples: how many; 0 gives the curves only.
    seed: of the resamples.
    console: where to show the progress.
    processes: how many rows are resampled at the same time.
    """
    runs = [run for row in rows for run in row.runs]
    one = partial(_resampled, cache=cache, resamples=resamples, seed=seed)
    if (processes := min(processes, len(runs))) > 1:
        runs = [replace(run, reader=MapReader()) for run in runs]  # an open file cannot be sent
    hidden = console is None or not console.is_terminal
    done = track(
        in_processes(one, runs, processes),
        f"{resamples} resamples",
        len(runs),
        console=console,
        disable=hidden,
        transient=True,
    )
    found, used = {}, set()
    for run, (path, resampled) in zip(runs, done, strict=True):
        found[run.folder] = resampled
        used.add(path)
    for path in {*cache.glob("*.npz")} - used:
        path.unlink()
    return Resamples(found)


def _resampled(run: Row, cache: Path, resamples: int, seed: int) -> tuple[Path | None, Resampled]:
    """The resamples of a run folder and the file that keeps them. None if it cannot be read."""
    try:
        path = cache / f"{_identity(run, resamples, seed)}.npz"
        return path, _read(path) or _write(path, _resample(run, resamples, seed))
    except UnreadableRunError as error:
        return None, Resampled(problem=str(error))


def _resample(row: Row, resamples: int, seed: int) -> Resampled:
    scored, subjects = read_scored_slices(row)
    curve = np.empty((2, 0))
    if scored.lesion.any():
        ill = scored.is_lesion
        curve = precision_recall(histograms(scored.maps[ill], scored.lesion[ill]))
    if not resamples:
        return Resampled(curve=curve)
    try:
        drawn = subject_weights(subjects, scored.is_lesion, resamples, seed)
    except ValueError as error:
        return Resampled(problem=str(error), curve=curve)
    weights = np.concatenate([np.ones((1, len(subjects))), drawn])
    found = measure(scored, weights, bootstrapped_keys(row))
    values = {key: one for key, one in found.items() if not isinstance(one, str)}
    reasons = {key: one for key, one in found.items() if isinstance(one, str)}
    return Resampled(values, reasons, "", curve)


def bootstrapped_keys(row: Row) -> set[str]:
    """The metrics of a row that have a value and are no thresholds."""
    return {
        key
        for key, value in row.metrics.items()
        if value is not None and not key.startswith("lesion/best_threshold")
    }


def _identity(row: Row, resamples: int, seed: int) -> str:
    """Hash of all that the resamples depend on: the run folder, and the code."""
    digest = hashlib.sha256(f"{resamples} {seed}".encode())
    for path in (*sorted(Path(metrics.__path__[0]).glob("*.py")), Path(scored_slices.__file__)):
        digest.update(path.read_bytes())
    for path in (row.folder / METRICS, row.folder / SLICES):
        try:
            digest.update(path.read_bytes())
        except OSError as error:
            raise UnreadableRunError(f"{path} is not readable ({error})") from error
    digest.update(repr(row.reader.contents(row.folder / MAPS)).encode())
    return digest.hexdigest()[:16]


def _read(path: Path) -> Resampled | None:
    try:
        with np.load(path, allow_pickle=False) as stored:
            said = json.loads(str(stored["said"]))
            values = dict(zip(said["keys"], stored["values"], strict=True))
            return Resampled(values, said["reasons"], said["problem"], stored["curve"])
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        return None  # not there yet, or not whole: it is made again


def _write(path: Path, one: Resampled) -> Resampled:
    path.parent.mkdir(parents=True, exist_ok=True)
    said = json.dumps({"keys": list(one.values), "reasons": one.reasons, "problem": one.problem})
    with written_whole(path) as temporary:
        np.savez(temporary, said=said, values=np.array(list(one.values.values())), curve=one.curve)
    return one
