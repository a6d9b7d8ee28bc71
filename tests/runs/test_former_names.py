"""A detector that was renamed is known by its present name in run folders of before."""

import json
from pathlib import Path

import pytest

from autoddpm.runs.row import Row, read_row


def old_row(folder: Path, name: str, label: str, variant: str = "official_v0") -> Row:
    """What is read of a run folder with these names."""
    record = {
        "label": label,
        "detector": {"name": name, "t": 201},
        "metrics": {"lesion/auprc": 0.5},
        "provenance": {"variant": variant, "seed": 0},
    }
    (folder / "metrics.json").write_text(json.dumps(record))
    target = f"autoddpm.detectors.official_v0.{name}"
    (folder / "config.yaml").write_text(f"detector: {{_target_: {target}, t: 201}}\n")
    return read_row(folder)


@pytest.mark.parametrize(
    ("before", "now", "label"),
    [
        ("OfficialV0", "AuthorsCode", "AutoDDPM {} (w/o uncertainty)"),
        ("OfficialV0AnoDDPM", "AuthorsCodeAnoDDPM", "AnoDDPM {} (t=200)"),
    ],
)
def test_a_row_of_before_is_read_under_the_present_names(
    tmp_path: Path, before: str, now: str, label: str
) -> None:
    row = old_row(tmp_path, before, label.format("official_v0"))
    assert row.label == label.format("authors_code")
    assert row.detector == {"name": now, "t": 201}
    assert row.provenance == {"variant": "authors_code", "seed": 0}
    assert row.settings == {"detector": now, "detector.name": now, "detector.t": 201}


def test_a_detector_that_was_not_renamed_keeps_its_names(tmp_path: Path) -> None:
    row = old_row(tmp_path, "Mine", "Mine official_v0", variant="mine")
    assert (row.label, row.provenance["variant"]) == ("Mine official_v0", "mine")
    assert row.detector["name"] == row.settings["detector"] == "Mine"
