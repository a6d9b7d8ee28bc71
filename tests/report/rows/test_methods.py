"""Rows: which belong to a method, how they are told apart, and which may not be compared."""

import numpy as np
import pytest
import yaml
from conftest import ROOT
from report_runs import (
    AUTODDPM,
    Page,
    anoddpm,
    autoddpm,
    report,
    settings,
    write_row,
)
from report_runs import no_pictures as no_pictures
from report_runs import runs as runs

from autoddpm.report.rows.methods import Method, disagreements, set_apart
from autoddpm.report.rows.seeds import pool_seeds
from autoddpm.report.tables.formats import to_markdown
from autoddpm.runs.row import read_rows


def test_rows_that_no_setting_sorts_stand_by_numbers_in_titles(runs):
    for t in (100, 50, 300):
        anoddpm(runs, t)
    autoddpm(runs)
    found = [row.title for row in Method("every", {}).rows(read_rows(runs)[0])]
    assert found == ["AnoDDPM (t=50)", "AnoDDPM (t=100)", "AnoDDPM (t=300)", "AutoDDPM"]


@pytest.mark.usefixtures("no_pictures")
def test_a_row_without_its_noise_level_stands_behind_the_others(runs):
    for folder, t in (("a", None), ("b", 100), ("c", 50)):
        detector = {"name": "AnoDDPM"} | ({"t": t} if t else {})
        write_row(runs, folder, f"AnoDDPM (t={t})", detector)
    table = report(runs).tables[0]
    labels = [f"AnoDDPM (t={t})" for t in (50, 100, None)]
    assert [row.label for row in table.rows] == labels


def test_rows_of_one_label_are_told_apart_by_their_settings(runs):
    autoddpm(runs, "a")
    config = {"sampler": {"stride": 1}, "paths": {"runs": "elsewhere"}, "checkpoint": "x.ckpt"}
    autoddpm(runs, "b", config=config)
    rows, remarks = set_apart(read_rows(runs)[0])
    titles = ["AutoDDPM [sampler.stride=10]", "AutoDDPM [sampler.stride=1]"]
    assert [row.title for row in rows] == titles
    assert not remarks


@pytest.mark.usefixtures("no_pictures")
def test_an_evaluation_with_two_names_is_shown_and_compared_once(runs):
    first = anoddpm(runs, 50, "a")
    second = anoddpm(runs, 50, "b", metrics={"seconds_per_slice": 9.0})
    autoddpm(runs)
    made = report(runs)
    assert [row.title for row in made.tables[0].rows] == ["AutoDDPM", "AnoDDPM (t=50)"]
    (remark,) = [remark for remark in made.remarks if "Shown once" in remark]
    assert str(first) in remark
    assert str(second) in remark


def test_rows_of_the_same_settings_are_both_shown_and_named(runs):
    first, second = autoddpm(runs, "a"), autoddpm(runs, "b")
    rows, remarks = set_apart(read_rows(runs)[0])
    assert [row.title for row in rows] == ["AutoDDPM [a]", "AutoDDPM [b]"]
    assert len(remarks) == 1
    assert str(first) in remarks[0]
    assert str(second) in remarks[0]


@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize("key", ["data_hash", "weights_hash", "perceptual"])
def test_rows_that_must_not_be_compared_are_refused_unless_asked(runs, key):
    anoddpm(runs, 50)
    autoddpm(runs, "other", provenance={key: "b" * 64})
    with pytest.raises(
        ValueError,
        match=rf"{key} differs: bbbbbbbb in other; \w+ in anoddpm-t50.*report\.allow_mixed=true",
    ):
        report(runs)
    assert not (runs.parent / "report").exists()
    made = report(runs, "report.allow_mixed=true")
    assert key in made.tables[0].warnings[0]
    assert "WARNING: rows that should not be compared" in to_markdown(made.tables[0])
    assert f"{key} differs" in Page(made.page.read_text()).words


@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize(
    ("data_range", "said"),
    [
        ([0.0, 1.0], "is [0, 1], so that t is the paper's"),
        ([-1.0, 1.0], "half of the paper's"),
        (None, "not recorded; 0.1.0 trained on [-1, 1]"),
    ],
)
def test_a_table_says_what_its_noise_levels_are(runs, data_range, said):
    anoddpm(runs, 50, provenance={"data_range": data_range})
    autoddpm(runs, provenance={"data_range": data_range})
    made = report(runs)
    assert said in made.tables[0].caption
    assert ("0 to 1" in (made.page.parent / "measured.csv").read_text()) == (
        data_range == [0.0, 1.0]
    )


def test_rows_of_two_ranges_agree_only_with_the_same_weights(runs):
    anoddpm(runs, 50, provenance={"data_range": None})
    autoddpm(runs, provenance={"data_range": [-1.0, 1.0]})
    assert disagreements(read_rows(runs)[0]) == []  # 0.1.0 did not record it
    autoddpm(runs, "other", provenance={"data_range": [0.0, 1.0], "weights_hash": "b" * 64})
    assert any(
        words.startswith("data_range differs: ") for words in disagreements(read_rows(runs)[0])
    )


def test_rows_of_two_models_need_not_share_weights_or_range(runs):
    anoddpm(runs, 50)
    other = {"model": "Restoration", "weights_hash": "b" * 64, "data_range": [0.0, 1.0]}
    autoddpm(runs, "other", provenance=other)
    assert disagreements(read_rows(runs)[0]) == []
    autoddpm(runs, "again", provenance=other | {"weights_hash": "c" * 64})
    (said,) = disagreements(read_rows(runs)[0])
    assert said.startswith("weights_hash differs: cccccccc in again; bbbbbbbb in other")
    autoddpm(runs, "elsewhere", provenance=other | {"data_hash": "e" * 64})
    assert any(words.startswith("data_hash differs") for words in disagreements(read_rows(runs)[0]))


def test_rows_of_every_detector_stand_in_a_table():
    methods = settings()["methods"].values()
    known = {name for one in methods for name in np.atleast_1d(one["match"].get("name", []))}
    targets = [
        yaml.safe_load(path.read_text()).get("_target_", "")
        for path in (ROOT / "conf" / "detector").glob("*.yaml")
    ]
    assert {target.rsplit(".", 1)[-1] for target in targets if target} <= known


def test_a_perceptual_distance_that_was_not_used_agrees_with_any(runs):
    anoddpm(runs, 50, provenance={"perceptual": None})
    autoddpm(runs)
    assert disagreements(read_rows(runs)[0]) == []


@pytest.mark.usefixtures("no_pictures")
def test_a_finished_row_that_stands_in_no_table_is_named(runs):
    anoddpm(runs, 50)
    detector = AUTODDPM | {"use_uncertainty": False, "resample_steps": 0}
    write_row(runs, "neither", "AutoDDPM (w/o both)", detector)
    assert report(runs).remarks == []  # the table of all methods has it
    remarks = report(runs, "report.tables.benchmarks=null").remarks
    assert len(remarks) == 1
    assert "AutoDDPM (w/o both)" in remarks[0]


@pytest.mark.parametrize(
    ("match", "labels"),
    [
        ({"name": "AnoDDPM"}, ["AnoDDPM (t=50)", "AnoDDPM (t=100)"]),
        ({"t": [100, 200]}, ["AnoDDPM (t=100)", "AutoDDPM"]),
        ({"t": {"min": 51, "max": 100}}, ["AnoDDPM (t=100)"]),
        ({"label": "*(t=1*"}, ["AnoDDPM (t=100)"]),
        ({"use_uncertainty": True}, ["AutoDDPM"]),
        ({"use_uncertainty": False}, []),
    ],
)
def test_a_method_is_known_by_its_settings(runs, match, labels):
    for t in (100, 50):
        anoddpm(runs, t)
    autoddpm(runs)
    assert [row.label for row in Method("x", match, order="t").rows(read_rows(runs)[0])] == labels


def test_a_row_that_is_as_most_others_are_has_no_variant(runs):
    for n, (stride, steps) in enumerate([(10, 5), (1, 5), (10, 2)]):
        config = {"sampler": {"stride": stride}, "detector": {"resample_steps": steps}}
        write_row(runs, f"{n}", "AutoDDPM", AUTODDPM | {"resample_steps": steps}, config=config)
    rows, remarks = set_apart(read_rows(runs)[0])
    assert [row.title for row in rows] == [
        "AutoDDPM",
        "AutoDDPM [sampler.stride=1]",
        "AutoDDPM [detector.resample_steps=2]",
    ]
    assert not remarks


def test_a_setting_that_a_row_lacks_tells_it_apart(runs):
    for n, config in enumerate([{"x": 1}, {"x": 1}, {}]):
        write_row(runs, f"{n}", "AutoDDPM", AUTODDPM, config={"y": n, **config})
    assert [row.variant for row in set_apart(read_rows(runs)[0])[0]] == [
        "y=0",
        "y=1",
        "x=None, y=2",
    ]


def test_a_mean_over_seeds_is_not_named_by_a_seed(runs):
    for n, (seed, stride) in enumerate([(0, 10), (1, 10), (0, 5), (0, 2), (0, 1)]):
        config = {"seed": seed, "sampler": {"stride": stride}}
        write_row(runs, f"{n}", "AutoDDPM", AUTODDPM, config=config)
    rows, _ = set_apart(pool_seeds(read_rows(runs)[0]))
    assert [row.title for row in rows] == [
        f"AutoDDPM [sampler.stride={stride}]" for stride in (10, 5, 2, 1)
    ]
