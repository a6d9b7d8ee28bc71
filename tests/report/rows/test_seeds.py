"""Rows of several seeds become one, and which may not."""

from pathlib import Path

import numpy as np
import pytest
from report_runs import (
    BASELINES,
    DICE,
    Page,
    anoddpm,
    autoddpm,
    change_json,
    read_csv,
    report,
    table_of,
    write_row,
)
from report_runs import no_pictures as no_pictures
from report_runs import runs as runs

from autoddpm.report.rows.methods import disagreements, set_apart
from autoddpm.report.rows.seeds import pool_seeds, seed_of
from autoddpm.report.tables.intervals import Resampled, Resamples
from autoddpm.runs.row import read_rows


def seeds(runs: Path, numbers=(0, 1, 2), folder: str = "seed", **changes) -> None:
    for n in numbers:
        detector = {"name": "AnoDDPM", "seed": n, "t": 50}
        config = {"seed": n, "detector": detector, **changes.get("config", {})}
        made_by = {"seed": n} | changes.get("provenance", {})
        facts = {"provenance": made_by, "config": config}
        write_row(runs, f"{folder}-{n}", "AnoDDPM (t=50)", detector, 0.1 * (n + 1), **facts)


def test_rows_of_several_seeds_become_one_of_mean_and_deviation(runs):
    seeds(runs)
    autoddpm(runs)
    rows = pool_seeds(read_rows(runs)[0])
    assert [(row.title, len(row.members)) for row in rows] == [
        ("AutoDDPM", 0),
        ("AnoDDPM (t=50)", 3),
    ]
    assert rows[1].metrics["lesion/auprc"] == pytest.approx(0.2)
    assert rows[1].spread["lesion/auprc"] == pytest.approx(0.1)
    table = table_of([BASELINES], [DICE], rows)
    assert (table.cells[0][0].value, table.cells[0][0].spread) == (20.0, 10.0)
    assert table.ours == ["ours ± sd"]
    assert "AnoDDPM (t=50): seed 0, weights aaaaaaaa; seed 1" in table.remarks[0]


def test_the_interval_over_seeds_is_of_their_mean_per_resample(runs):
    seeds(runs, (0, 1))
    [row] = pool_seeds(read_rows(runs)[0])
    values = {run.folder: np.random.default_rng(n).random(101) for n, run in enumerate(row.members)}
    for run in row.members:
        values[run.folder][0] = run.metrics["lesion/auprc"]
    found = Resamples({folder: Resampled({"lesion/auprc": one}) for folder, one in values.items()})
    bounds = found.interval(row, "lesion/auprc")
    mean = np.mean([one[1:] for one in values.values()], axis=0)
    assert bounds[:2] == pytest.approx(np.quantile(mean, [0.025, 0.975]))


def test_a_mean_is_undefined_and_names_the_seed_that_lacks_it(runs):
    seeds(runs)
    change_json(
        runs / "seed-1" / "metrics.json",
        metrics={"lesion/auprc": None},
        undefined={"lesion/auprc": "no lesion slice"},
    )
    [row] = pool_seeds(read_rows(runs)[0])
    assert row.metrics["lesion/auprc"] is None
    assert row.undefined["lesion/auprc"].startswith("no lesion slice (seed 1")


@pytest.mark.parametrize(
    "other",
    [
        {"provenance": {"data_hash": "e" * 64}},
        {"provenance": {"weights_step": 7}},
        {"provenance": {"weights_hash": "b" * 64}},
        {"config": {"sampler": {"stride": 1}}},
    ],
)
def test_rows_of_other_data_weights_or_settings_are_not_pooled(runs, other):
    seeds(runs, (0, 1))
    seeds(runs, (2,), **other)
    assert [len(row.members) for row in pool_seeds(read_rows(runs)[0])] == [2, 0]


def test_rows_of_the_same_seed_stay_apart(runs):
    seeds(runs, (0, 1))
    seeds(runs, (1,), folder="again")
    rows, remarks = set_apart(pool_seeds(read_rows(runs)[0]))
    assert [len(row.members) for row in rows] == [0, 0, 0]
    assert "Shown more than once" in remarks[0]


@pytest.mark.usefixtures("no_pictures")
def test_trainings_of_several_seeds_are_pooled_only_if_asked_for(runs):
    for n, weights in enumerate("abc"):
        made_by, metrics = {"weights_hash": weights * 64}, {"lesion/auprc": 0.1 * n}
        anoddpm(runs, 50, f"of-{weights}", provenance=made_by, metrics=metrics)
    with pytest.raises(ValueError, match=r"weights_hash differs.*report\.pool_weights=true"):
        report(runs)
    [row] = report(runs, "report.pool_weights=true").tables[0].rows
    assert (row.metrics["lesion/auprc"], row.spread["lesion/auprc"]) == pytest.approx((0.1, 0.1))
    lines = read_csv(runs.parent / "report" / "measured.csv")
    mean, *single = [line for line in lines if line["metric"] == "lesion/auprc"]
    assert (mean["value"], mean["sd"], mean["seeds"]) == ("0.1", "0.1", "3")
    assert [line["value"] for line in single] == ["0", "0.1", "0.2"]
    assert single[2]["method"] == "AnoDDPM (t=50) (seed 0, weights cccccccc)"
    assert mean["weights_hash"] == f"{'a' * 64} + {'b' * 64} + {'c' * 64}"
    assert single[2]["weights_hash"] == "c" * 64
    words = Page((runs.parent / "report" / "index.html").read_text()).words
    assert "± 10.00" in words
    assert "of-c" in words


def test_a_mean_of_trainings_has_not_the_weights_of_one(runs):
    for n, weights in enumerate("ab"):
        anoddpm(runs, 50, f"of-{n}", provenance={"weights_hash": weights * 64})
    anoddpm(runs, 100, provenance={"weights_hash": "a" * 64})
    single, mean = pool_seeds(read_rows(runs)[0], across_weights=True)
    assert mean.members
    assert any("weights_hash differs" in words for words in disagreements([mean, single]))


def test_seeds_of_two_kinds_are_told_apart(runs):
    for n, (seed, other) in enumerate([(0, 1), (1, 0)]):
        config = {"seed": seed, "perceptual": {"seed": other}}
        anoddpm(runs, 50, f"{n}", config=config, provenance={"seed": seed})
    [row] = pool_seeds(read_rows(runs)[0])
    assert [seed_of(one, row.members) for one in row.members] == [
        "seed 0, perceptual.seed 1, weights aaaaaaaa",
        "seed 1, perceptual.seed 0, weights aaaaaaaa",
    ]
