"""The bench: its clock, its baseline, and that it runs from start to end."""

import json
import sys
import time
from functools import partial

import pytest
import torch
from conftest import ROOT
from tiny import Constant, KnowsTheImage, Recording, images
from tiny import one_thread as one_thread

BENCH = ROOT / "experiments" / "bench"


@pytest.fixture(autouse=True)
def bench_on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCH))


#: Of what a process of its own can be sent without this file.
VARIANTS = partial(
    dict,
    sleep=partial(time.sleep, 0.05),
    said=partial(float, 7),
    big=partial(exec, "held = bytes(b'1') * 200_000_000"),
)


@pytest.mark.parametrize("here", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_a_side_gives_seconds_of_its_variants_and_peak_memory(here):
    from turns import Side, in_turns

    side = Side(VARIANTS, here=here)
    assert side.names == ["sleep", "said", "big"]
    before = side.peak_mb()
    found = in_turns({"a": (side, "sleep"), "b": (side, "said")}, repeats=3)
    assert 0.05 <= found["a"] < 0.2
    assert found["b"] == 7.0
    side.seconds("big")
    assert here or side.peak_mb() > before + 100
    side.close()
    assert here or side._process.exitcode == 0


def test_variants_run_in_turns_after_a_round_that_does_not_count():
    from turns import Side, in_turns

    said: list[str] = []
    times = {"x": iter([100.0, 1.0, 9.0, 2.0]), "y": iter([200.0, 4.0, 5.0, 60.0])}

    def make() -> dict:
        return {name: lambda name=name: said.append(name) or next(times[name]) for name in times}

    side = Side(make, here=True)
    assert in_turns({name: (side, name) for name in times}, repeats=3) == {"x": 2.0, "y": 5.0}
    assert said == ["x", "y"] * 4


class Network(torch.nn.Module):
    def __init__(self, inner: torch.nn.Module) -> None:
        super().__init__()
        self.inner, self.weight = inner, torch.nn.Parameter(torch.zeros(1))

    def forward(self, x, timesteps):
        return self.inner(x, timesteps)


def test_the_baseline_makes_the_calls_of_the_published_code():
    from baseline import PlainAutoDDPM

    network = Recording(Constant(0.0))
    asked = []
    plain = PlainAutoDDPM(
        Network(network), lambda a, b: asked.append(len(a)) or (a - b).abs(), 5, 3, 2
    )
    maps = plain(images(2, side=8))
    assert maps.shape == (2, 1, 8, 8)
    assert [len(times) for times in network.timesteps] == [1] * plain.calls * 2
    first = [time for (time,) in network.timesteps[: plain.calls]]
    assert first == [5, 4, 3, 2, 1, 0, 3, 3, 2, 2, 1, 1]
    assert asked == [1] * 4
    assert PlainAutoDDPM(Network(network), None).calls == 451


def test_the_true_noise_makes_the_baseline_return_the_image():
    from baseline import PlainAutoDDPM

    from autoddpm.diffusion.schedule import LinearSchedule

    image = images(1, side=8)
    plain = PlainAutoDDPM(Network(KnowsTheImage(image, LinearSchedule())), None)
    x = plain.noised(image, 60)
    for index in range(60, -1, -1):
        x = plain.step(x, index)
    torch.testing.assert_close(x, image, atol=1e-3, rtol=0)


@pytest.mark.slow
def test_make_bench_writes_ratios_with_machine_and_versions(tmp_path, monkeypatch, capsys):
    import bench
    import detection_speed
    import training_speed

    for module in (detection_speed, training_speed):  # it would stay with this process
        monkeypatch.setattr(module, "keep_freed_memory", lambda: None)
    monkeypatch.setattr(sys, "argv", ["bench.py", "--quick", "--folder", str(tmp_path)])
    bench.main()
    shown = capsys.readouterr().out.replace("\n", "")
    written = json.loads((tmp_path / "bench.json").read_text())
    assert {"torch", "lightning", "monai"} <= set(written["machine"]["versions"])
    names = {entry["name"]: entry for entry in written["entries"]}
    for part in (
        "exact detection / its calls alone, paper's",
        "plain baseline / ours, exact, fp32",
        "plain baseline / ours, exact, bf16",
        "training step: Lightning / bare loop",
        "AUPRC, Dice, all size groups",
        "intervals of AUPRC",
        "most memory: metrics",
        "slices a minute",
        "loader / training",
    ):
        (name,) = [name for name in names if part in name][:1] or [part]
        assert names[name]["value"] > 0
        assert name[:20] in shown
