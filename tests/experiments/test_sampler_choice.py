"""experiments/samplers/choose.py: quality against network calls, and the cheapest sampler that is
as good."""

import pandas as pd
import pytest
from report_runs import ROOT, anoddpm


@pytest.fixture
def choose(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "experiments" / "samplers"))
    import choose

    monkeypatch.setattr(choose, "RESAMPLES", 50)
    return choose


def row(runs, t: int, calls: int, **provenance) -> None:
    """Reconstructions that are smoother with t."""
    facts = {"weights_step": 7, "sampler": {"name": "Ancestral", "stride": 450 // calls}}
    anoddpm(
        runs,
        t,
        folder=f"{calls}",
        metrics={"calls_per_slice": calls},
        provenance=facts | provenance,
    )


def test_the_cheapest_setting_that_loses_little_passes(choose, tmp_path, capsys):
    runs = tmp_path / "samplers" / "evaluate"
    for t, calls in ((100, 450), (101, 45), (100, 90), (300, 9)):
        row(runs, t, calls)
    choose.main([runs])
    assert "Ancestral stride=10, 45.0 calls" in capsys.readouterr().out
    table = pd.read_csv(runs.parent / "quality.csv")
    assert list(table["calls"]) == [450, 90, 45, 9]
    assert list(table["passes"]) == [True, True, True, False]
    assert list(table["dice_change"][:2]) == [0, 0]
    for name in ("ssim", "auprc", "dice", "ssim_change", "dice_change"):
        assert (table[f"{name}_low"] <= table[f"{name}_high"]).all()
    assert table["ssim_change_high"][3] < 0
    assert len((runs.parent / "quality.md").read_text().splitlines()) == 6


@pytest.mark.parametrize("fact", [{"weights_hash": "b" * 64}, {"precision": "bf16-mixed"}])
def test_rows_of_other_weights_or_precision_are_not_compared(fact, choose, tmp_path):
    row(tmp_path / "evaluate", 100, 450)
    row(tmp_path / "evaluate", 100, 45, **fact)
    with pytest.raises(SystemExit, match=f"{next(iter(fact))} differs"):
        choose.main([tmp_path / "evaluate"])
    assert not (tmp_path / "quality.csv").exists()


def test_the_samplers_of_the_bench_make_the_calls_that_are_said(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "experiments" / "bench"))
    from detection_speed import our_calls, plain_calls, samplers

    calls = {name: our_calls(sampler) for name, sampler in samplers().items()}
    assert calls["exact"] == 450
    assert calls["stride 10"] == 45
    assert calls["fast"] == 90
    assert plain_calls() == 451
