"""Many scans, one after the other: what is done is kept, what fails is named, the rest goes on."""

import glob
import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel
import pandas as pd
import torch

from autoddpm import __version__
from autoddpm.allowance import cores
from autoddpm.atomic import read_json, write_bytes, write_json, write_text, written_whole
from autoddpm.locks import alone
from autoddpm.prediction.bids import sidecars
from autoddpm.prediction.detect import detect_scans
from autoddpm.prediction.method import Method
from autoddpm.prediction.page import html, mosaic
from autoddpm.prediction.prepared import Failed, Preparation, Prepared, attempted
from autoddpm.prediction.result import Prediction, result
from autoddpm.prediction.scans import Listing, Scan
from autoddpm.preparation.volume import image_of
from autoddpm.processes import beside
from autoddpm.runs.provenance import environment

#: Part of every record: raise it with any change of what is computed from a scan.
VERSION = 1
SCANS_AT_ONCE = 16
COLUMNS = (
    *("scan", "score", "flagged_ml", "components", "largest_ml", "at_border", "brain_dice"),
    *("seconds", "warnings", "error"),
)


@dataclass(frozen=True)
class Running:
    """How a prediction is run. None of it changes a map by more than rounding.

    device: the detector's.
    processes: that prepare the next scans beside the detection. 0: none, as for a single scan.
    at_once: slices in a batch, across scans. None: as the device takes them.
    describe: writes what describes the results as a derivative dataset. None: they are none.
    say: is given each line of the progress.
    """

    device: torch.device
    processes: int = 1
    at_once: int | None = None
    describe: Callable[[], None] | None = None
    say: Callable[[str], None] = print


@dataclass
class Outcome:
    """What came of the scans.

    rows: of summary.csv, by the scan's name.
    failed: reasons, by the scan's name.
    skipped: names of those that were finished already.
    """

    rows: dict[str, dict[str, Any]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)


def predict_scans(
    listing: Listing, out: str | Path, method: Method, how: Preparation, running: Running
) -> Outcome:
    """Write the results of all scans to `out`, and summary.csv.

    A scan whose results are there with the same settings is not done again. Each file is written
    whole, the record last. Rows of finished scans that another call wrote stay in summary.csv.

    Raises ValueError before any work if results of a scan's name are of another scan or of other
    settings, if summary.csv is no such table, or if another process writes to `out`. Raises OSError
    if the disk is full.
    """
    out = Path(out)
    with alone(out):
        return _Work(listing, out, method, how, running).run()


def settings_of(method: Method, how: Preparation, mask: Path | None = None) -> dict[str, Any]:
    """All that a scan's results depend on beside the scan: two with the same are the same."""
    settings = {
        "version": VERSION,
        **method.record(),
        "margin_mm": how.margin_mm,
        "skip_registration": how.skip_registration,
        "brain_mask": None if mask is None else _sha256(mask),
    }
    return dict(json.loads(json.dumps(settings)))  # as it will be read


class _Work:
    """The state of `predict_scans`."""

    def __init__(
        self, listing: Listing, out: Path, method: Method, how: Preparation, running: Running
    ) -> None:
        self.listing, self.out, self.method = listing, out, method
        self.how, self.running, self.outcome = how, running, Outcome()
        self.began, self.done = time.monotonic(), 0

    def run(self) -> Outcome:
        say = self.running.say
        if self.running.describe is not None:
            self.running.describe()
        for file, reason in self.listing.left_out.items():
            say(f"left out: {file}: {reason}")
        self.todo = [scan for scan in self.listing.scans if not self._is_finished(scan)]
        self.earlier = _finished_rows(self.out / "summary.csv")
        for scan in self.listing.scans:
            self.earlier.pop(scan.name, None)
        if self.outcome.skipped:
            say(f"finished already: {len(self.outcome.skipped)}")
        self._write_summary()
        processes = min(self.running.processes, max(0, len(self.todo) - 1))
        tasks = [(scan.file, scan.brain_mask, self.how) for scan in self.todo]
        threads = max(1, cores() // (processes + 1))
        waiting = iter(self.todo)
        for group in beside(attempted, tasks, processes, threads, SCANS_AT_ONCE):
            self._finish([(next(waiting), one) for one in group])
        return self.outcome

    def _is_finished(self, scan: Scan) -> bool:
        """Whether its results are there.

        Raises ValueError if they are of another scan or of other settings.
        """
        path = self.out / scan.places["record"]
        if not path.is_file():
            return False
        record = read_json(path)
        if not isinstance(record, dict) or not {"scan", "results"} <= record.keys():
            raise ValueError(f"{path}: is no record of autoddpm; give another -o, or delete it")
        if record["scan"]["sha256"] != _sha256(scan.file):
            raise ValueError(
                f"{path}: is of another scan called {scan.name}, or {scan.file} has changed since; "
                "give another -o, or delete it"
            )
        now = settings_of(self.method, self.how, scan.brain_mask)
        before = record.get("settings", {})
        if differing := sorted(key for key in {*before, *now} if before.get(key) != now.get(key)):
            key = differing[0]
            raise ValueError(
                f"{path}: was made with another {', '.join(differing)} ({key} was "
                f"{before.get(key)}, now it would be {now.get(key)}); give another -o, or delete it"
            )
        has_brain = any(step.startswith("brain:") for step in record["preparation"]["done"])
        needed = [place for what, place in scan.places.items() if has_brain or what != "brain_mask"]
        if not all((self.out / place).is_file() for place in needed):
            return False
        self.outcome.rows[scan.name] = row(scan, record)
        self.outcome.skipped.append(scan.name)
        return True

    def _finish(self, group: Sequence[tuple[Scan, Prepared | Failed]]) -> None:
        ready = [(scan, one) for scan, one in group if isinstance(one, Prepared)]
        for scan, one in group:
            if isinstance(one, Failed):
                self._note(scan, one.reason)
        try:
            found = (
                detect_scans(
                    self.method.detector,
                    [one for _, one in ready],
                    self.running.device,
                    self.running.at_once,
                )
                if ready
                else []
            )
        except ValueError as error:
            if len(ready) > 1:  # one of them: the others go on
                for pair in ready:
                    self._finish([pair])
                return
            self._note(ready[0][0], str(error))
            return
        for (scan, prepared), detected in zip(ready, found, strict=True):
            self._write(scan, prepared, detected)

    def _write(self, scan: Scan, prepared: Prepared, detected: Any) -> None:
        began = time.perf_counter()
        try:
            image = image_of(scan.file.read_bytes(), scan.file.name)
        except FileNotFoundError:
            self._note(scan, f"{scan.file}: is no longer there; put it back, and run this again")
            return
        try:
            made = result(image, prepared, detected, self.method)
        except Exception as error:  # of this scan: the others go on
            reason = " ".join(str(error).split()) or type(error).__name__
            self._note(scan, f"{scan.file}: its map cannot be brought back ({reason})")
            return
        record = record_of(made, scan, self.method, self.how, self.running.device)
        write_results(self.out, scan, made, record, self.running.describe is not None)
        record["seconds"]["writing"] = round(
            time.perf_counter() - began - record["seconds"]["way back"], 3
        )
        write_json(self.out / scan.places["record"], record)
        self.outcome.rows[scan.name] = row(scan, record)
        self._write_summary()
        results = record["results"]
        told = f"score {results['score']:.3g}, {results['flagged_ml']:.2f} ml flagged"
        self._say(scan, f"{told}, {sum(record['seconds'].values()):.0f} s")
        for warning in record["warnings"]:
            self.running.say(f"    warning: {warning}")

    def _note(self, scan: Scan, reason: str) -> None:
        self.outcome.failed[scan.name] = reason
        self.outcome.rows[scan.name] = {"scan": scan.name, "error": reason}
        self._write_summary()
        self._say(scan, f"failed: {reason}")

    def _say(self, scan: Scan, text: str) -> None:
        self.done += 1
        left = len(self.todo) - self.done
        spent = (time.monotonic() - self.began) / self.done
        time_left = f"  ({spent * left / 60:.1f} min left)" if left else ""
        self.running.say(f"[{self.done}/{len(self.todo)}] {scan.name}: {text}{time_left}")

    def _write_summary(self) -> None:
        rows = self.earlier | self.outcome.rows
        table = pd.DataFrame([rows[name] for name in sorted(rows)], columns=list(COLUMNS))
        write_text(self.out / "summary.csv", table.to_csv(index=False))


def record_of(
    made: Prediction, scan: Scan, method: Method, how: Preparation, device: torch.device
) -> dict[str, Any]:
    """The content of record.json."""
    affine = made.anomaly_map.affine
    return {
        **made_with(method, how, device, scan.brain_mask),
        "scan": {
            "file": scan.uri or scan.file.name,
            "sha256": made.prepared.sha256,
            "shape": list(made.anomaly_map.shape),
            "axes": "".join(nibabel.aff2axcodes(affine)),
        },
        **made.record,
    }


def made_with(
    method: Method, how: Preparation, device: torch.device, mask: Path | None = None
) -> dict[str, Any]:
    """What a record says beside the scan: program, settings, weights and machine."""
    return {
        "program": f"autoddpm {__version__}",
        "settings": settings_of(method, how, mask),
        "weights": {"file": method.trained.path.name, "step": method.trained.step},
        "environment": environment(device),
    }


def write_results(
    out: Path, scan: Scan, made: Prediction, record: Mapping[str, Any], is_bids: bool
) -> None:
    """Write all but the record, and remove one that is there: it is of other files."""
    files = {name: out / place for name, place in scan.places.items()}
    files["record"].unlink(missing_ok=True)
    for path in files.values():
        path.parent.mkdir(parents=True, exist_ok=True)
        for stale in path.parent.glob(f".*-*.{glob.escape(path.name)}"):  # of a kill
            stale.unlink()
    for name, image in made.images.items():
        with written_whole(files[name]) as temporary:
            nibabel.save(image, temporary)
    write_bytes(files["mosaic"], mosaic(made, float(record["threshold"]["value"])))
    write_bytes(files["report"], html(scan.name, made, record).encode())
    if is_bids:
        for place, content in sidecars(scan, record, made.brain_mask is not None).items():
            write_json(out / place, content)


def row(scan: Scan, record: Mapping[str, Any]) -> dict[str, Any]:
    """A scan's row of summary.csv."""
    dice = record["trust"]["brain_dice"]
    return {
        "scan": scan.name,
        **{name: record["results"][name] for name in COLUMNS[1:6]},
        "brain_dice": dice,
        "seconds": round(sum(record["seconds"].values()), 1),
        "warnings": "; ".join(record["warnings"]),
        "error": "",
    }


def _finished_rows(path: Path) -> dict[str, dict[str, Any]]:
    """Rows of a summary.csv without an error, by the scan's name.

    Raises ValueError if the file is another table.
    """
    if not path.is_file():
        return {}
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False, index_col=False)
    except (ValueError, OSError) as error:  # pandas' own are ValueErrors
        raise ValueError(
            f"{path}: cannot be read ({error}); give another -o, or move it away"
        ) from error
    if tuple(table.columns) != COLUMNS:
        raise ValueError(f"{path}: is no summary of autoddpm; give another -o, or move it away")
    rows = [{str(key): value for key, value in one.items()} for one in table.to_dict("records")]
    return {one["scan"]: one for one in rows if not one["error"]}


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
