"""How a network is run faster: what is chosen and why, that it is applied, and that no map
changes."""

import ctypes
import json
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from conftest import ROOT
from lightning import LightningModule, Trainer
from tiny import Conv, Difference, Slices, T, Waits, images, short_ddpm, unet
from tiny import one_thread as one_thread
from torch import nn

from autoddpm.detectors.anoddpm import AnoDDPM
from autoddpm.detectors.anomaly_map import residual
from autoddpm.detectors.authors_code import AuthorsCode
from autoddpm.detectors.autoddpm import AutoDDPM
from autoddpm.detectors.detector import detect
from autoddpm.diffusion.noise import NoiseOf
from autoddpm.diffusion.noise.gaussian import Gaussian
from autoddpm.diffusion.sampler import DDIM, Ancestral, DPMSolver, Sampler, reconstruct
from autoddpm.machine import acceleration
from autoddpm.machine.acceleration import (
    ALLOWED,
    Acceleration,
    Job,
    choose,
    fastest_settings,
    fuse_attention,
)
from autoddpm.random import Stage, slice_keys

AUTO = dict.fromkeys(ALLOWED, "auto")
SAMPLERS = [Ancestral(2), DDIM(2), DDIM(2, eta=1.0), DPMSolver(3)]


@pytest.fixture(autouse=True)
def memory_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """The setting would stay with this process. Returns what was asked."""
    asked: list[bool] = []
    monkeypatch.setattr(acceleration, "keep_freed_memory", lambda: asked.append(True))
    return asked


def values(asked: dict[str, Any], device: str, training: bool = False) -> dict[str, Any]:
    return {name: value for name, (value, _) in choose(AUTO | asked, device, training).items()}


# what is chosen


PLAIN = {
    "layout": "contiguous",
    "fused_attention": False,
    "compile": False,
    "cuda_graphs": False,
    "keep_memory": False,
}


def test_on_a_cpu_channels_last_is_for_evaluation_alone():
    for training, layout in ((False, "channels_last"), (True, "contiguous")):
        assert values({}, "cpu", training) == PLAIN | {"layout": layout, "keep_memory": True}


def test_an_unmeasured_device_gets_what_works_everywhere():
    assert values({}, "cuda") == PLAIN
    assert "not measured" in choose(AUTO, "cuda", False)["compile"][1]


def test_a_measured_gpu_gets_what_paid_there_with_the_figure(monkeypatch):
    paid = {"layout": "channels_last", "fused_attention": True, "compile": True}
    of = {"cuda_graphs": False, "gain": 1.84, "precision": "bf16", "parameters": 1000}
    measured = {"GPU A": {"training": paid | of}}
    monkeypatch.setattr(acceleration, "fastest_settings", lambda: measured)
    job = Job("GPU A", "bf16-mixed", 1500)
    chosen = choose(AUTO, "cuda", True, job)
    assert {name: value for name, (value, _) in chosen.items()} == PLAIN | paid
    assert "1.84 times as fast" in chosen["layout"][1]
    assert "GPU A" in chosen["compile"][1]
    given = choose(AUTO | {"compile": False}, "cuda", True, job)
    assert given["compile"] == (False, "as asked")
    assert choose(AUTO, "cuda", False, job)["layout"][0] == "contiguous"  # an evaluation
    unlike = [{"gpu": "GPU B"}, {"precision": "32-true"}, {"parameters": 400}, {"parameters": 2100}]
    for changed in unlike:
        other = choose(AUTO, "cuda", True, job._replace(**changed))
        assert {name: value for name, (value, _) in other.items()} == PLAIN


def test_what_is_chosen_by_is_what_was_measured():
    file = ROOT / "experiments" / "gpu" / "speed.json"
    lines = json.loads(file.read_text())["lines"]
    for gpu, entry in fastest_settings().items():
        assert gpu == json.loads(file.read_text())["device"]
        for what, found in zip(
            ("step", "call"), map(entry.get, ("training", "evaluation")), strict=True
        ):
            assert found.keys() - {"gain", "precision", "parameters"} <= ALLOWED.keys()
            like = {"what": what, "model": "paper", "precision": found["precision"], "batch": 64}
            rates = {
                (line["layout"], line["fused_attention"]): line["slices/s"]
                for line in lines
                if like.items() <= line.items() and line["engine"] == "eager"
            }
            best = max(rates, key=rates.__getitem__)
            assert best == (found["layout"], found["fused_attention"])
            gain = rates[best] / rates["contiguous", False]
            assert found["gain"] == pytest.approx(gain, abs=1e-3)


def test_what_is_asked_for_is_done():
    assert choose(AUTO | {"layout": "contiguous"}, "cpu", False)["layout"] == (
        "contiguous",
        "as asked",
    )


def test_graphs_that_are_asked_for_compile_the_network():
    assert values({"cuda_graphs": True}, "cuda") == PLAIN | {"compile": True, "cuda_graphs": True}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"layout": "nhwc"},
            r"callbacks\.acceleration\.layout=nhwc: must be one of auto, contiguous, channels_last",
        ),
        ({"cuda_graphs": True, "compile": False}, r"cuda_graphs=true needs a compiled network"),
    ],
)
def test_a_setting_that_cannot_be_is_refused_by_its_key(settings, message):
    with pytest.raises(ValueError, match=message):
        Acceleration(**settings)


def test_what_a_device_cannot_do_is_refused(monkeypatch):
    with pytest.raises(ValueError, match="needs a CUDA device"):
        choose(AUTO | {"cuda_graphs": True}, "cpu", False)
    monkeypatch.setattr(ctypes, "CDLL", lambda name: SimpleNamespace())
    assert values({}, "cpu")["keep_memory"] is False
    with pytest.raises(ValueError, match="keep_memory=true"):
        choose(AUTO | {"keep_memory": True}, "cpu", False)


# that it is applied


class Module(LightningModule):
    """What a module shows of itself."""

    def __init__(self, denoiser: nn.Module | None = None) -> None:
        super().__init__()
        self.model = short_ddpm(denoiser or unet())


def applied(callback: Acceleration, denoiser: nn.Module | None = None) -> Module:
    module = Module(denoiser)
    trainer = SimpleNamespace(
        strategy=SimpleNamespace(root_device=torch.device("cpu")),
        is_global_zero=True,
        precision="32-true",
    )
    callback.on_test_start(trainer, module)
    return module


def is_channels_last(module: Module) -> bool:
    weight = module.model.denoiser.down_blocks[0].resnets[0].conv1.conv.weight
    return weight.is_contiguous(memory_format=torch.channels_last) and not weight.is_contiguous()


def test_weights_get_the_chosen_layout_whatever_they_had_before():
    assert is_channels_last(applied(Acceleration()))
    assert not is_channels_last(applied(Acceleration(layout="contiguous")))
    module = Module()
    module.model.denoiser.to(memory_format=torch.channels_last)
    trainer = Trainer(accelerator="cpu", logger=False, max_steps=1, enable_progress_bar=False)
    Acceleration().setup(trainer, module, "fit")
    assert not is_channels_last(module)


def test_fused_attention_gives_the_same_estimate(monkeypatch):
    asked = []
    own = torch.nn.functional.scaled_dot_product_attention

    def fused(*arguments, **settings):
        asked.append(1)
        return own(*arguments, **settings)

    monkeypatch.setattr("torch.nn.functional.scaled_dot_product_attention", fused)
    found, counts = [], []
    for setting in (False, True):
        module = applied(Acceleration(fused_attention=setting))
        with torch.no_grad():
            found.append(module.model.predict_eps(images(2), 3))
        counts.append(len(asked))
    assert counts[0] == 0 < counts[1]
    torch.testing.assert_close(found[0], found[1], atol=1e-5, rtol=1e-5)
    fuse_attention(Conv())  # has none, and is left alone


def test_memory_is_kept_unless_it_is_not_to_be(memory_is_left_alone):
    applied(Acceleration(keep_memory=False))
    assert memory_is_left_alone == []
    applied(Acceleration())
    assert memory_is_left_alone == [True]


def test_the_c_library_takes_both_settings(monkeypatch):
    monkeypatch.undo()
    if not acceleration.can_keep_freed_memory():
        pytest.skip("not glibc")
    told: list[tuple[int, int]] = []
    monkeypatch.setattr(
        ctypes, "CDLL", lambda name: SimpleNamespace(mallopt=lambda *what: told.append(what))
    )
    acceleration.keep_freed_memory()
    assert told == [(-4, 0), (-1, -1)]  # M_MMAP_MAX: none; M_TRIM_THRESHOLD: never


def test_each_choice_is_logged_once_with_its_reason(caplog):
    caplog.set_level(logging.INFO)
    callback = Acceleration(compile=False)
    for _ in range(3):
        applied(callback)
    (line,) = [
        record.getMessage() for record in caplog.records if record.name == acceleration.__name__
    ]
    assert len(line.split("; ")) == 5
    assert line.startswith("layout: channels_last (")
    assert "; compile: false (as asked); " in line


@pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda s: type(s).__name__)
def test_a_detector_says_how_many_calls_it_makes_at_most(sampler):
    ddpm = short_ddpm(Conv())
    batch = Slices(images(2), ["a", "b"])
    for kind in (AutoDDPM, AuthorsCode):
        one = kind(
            ddpm,
            sampler,
            Difference(),
            residual,
            t=9,
            t_resample=4,
            resample_steps=2,
            mask_threshold=-1.0,
        )
        assert detect(one, batch).calls.tolist() == [one.most_calls] * 2
    plain = AnoDDPM(ddpm, sampler, Difference(), residual, t=9)
    assert detect(plain, batch).calls.tolist() == [plain.most_calls] * 2


def test_validation_compiles_nothing():
    graphs: list[str] = []

    def backend(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> torch.fx.GraphModule:
        graphs.append("compiled")
        return graph

    callback, network = Acceleration(), Conv()
    network.compile(backend=backend)
    callback._compiled = network

    def compiled_after(count: int) -> int:
        network(images(count, side=8 * count), torch.ones(count, dtype=torch.int64))
        return len(graphs)

    assert compiled_after(2) == 1
    callback.on_validation_start(None, None)
    assert compiled_after(3) == 1
    callback.on_validation_end(None, None)
    assert compiled_after(3) == 2


@pytest.mark.slow
@pytest.mark.skipif(not any(map(shutil.which, ("g++", "clang++"))), reason="no compiler")
def test_a_compiled_network_keeps_its_names_and_its_maps():
    # after compiling no process can be forked
    work = "import test_acceleration; test_acceleration.compare_compiled()"
    subprocess.run(
        [sys.executable, "-c", work],
        cwd=Path(__file__).parent,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        check=True,
    )


def compare_compiled() -> None:
    found = {}
    for compiled in (False, True):
        module = applied(Acceleration(compile=compiled), denoiser=Conv())
        detector = AutoDDPM(
            module.model,
            Ancestral(4),
            Difference(),
            residual,
            t=8,
            t_resample=4,
            mask_threshold=0.3,
        )
        assert (module.model.denoiser._compiled_call_impl is not None) == compiled
        assert list(module.model.denoiser.state_dict()) == ["weight"]
        found[compiled] = detect(detector, Slices(images(3), ["a", "b", "c"]))
    plain, fast = found[False], found[True]
    assert 0 < plain.stages["mask"].float().mean() < 1
    torch.testing.assert_close(fast.anomaly_map, plain.anomaly_map, atol=1e-4, rtol=0)
    torch.testing.assert_close(fast.reconstruction, plain.reconstruction, atol=1e-4, rtol=0)


# no waiting for the device


@pytest.mark.parametrize(
    "waiting", [lambda x: float(x[0]), lambda x: bool(x.any()), lambda x: x[x > 1], torch.nonzero]
)
def test_the_guard_sees_what_waits(waiting):
    with Waits() as mode:
        waiting(torch.arange(3.0))
    assert mode.seen


@pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda s: type(s).__name__)
def test_the_loops_of_both_stages_never_wait_for_the_device(sampler: Sampler):
    ddpm, x = short_ddpm(unet()), 2 * images(2) - 1
    noise = NoiseOf(Gaussian(), slice_keys(0, ["a", "b"]), (1, 16, 16), Stage.RESAMPLING)
    mask = images(2, seed=1) > 0.5
    detectors = [
        kind(ddpm, sampler, Difference(), residual, t=9, t_resample=4, resample_steps=2)
        for kind in (AutoDDPM, AuthorsCode)
    ]
    with torch.no_grad(), Waits() as mode:
        x_hat = reconstruct(ddpm, sampler, x, T, noise)
        found = [detector.resample(x, x_hat, mask, noise) for detector in detectors]
    assert not mode.seen
    assert all(torch.isfinite(x).all() for x in found)
