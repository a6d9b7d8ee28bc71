"""As many slices at once as fit: halving when memory runs out, and the batch size that is found by
itself."""

import json
import logging
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import TINY_AUTODDPM, TINY_TRAINING, Site, Verb
from lightning import Trainer
from tiny import Conv, Difference, images, short_ddpm
from tiny import one_thread as one_thread

from autoddpm.data.sample import Batch
from autoddpm.detectors.anomaly_map import residual
from autoddpm.detectors.autoddpm import AutoDDPM
from autoddpm.detectors.detector import Detection, Reconstruction, detect
from autoddpm.diffusion.ddpm import DDPM
from autoddpm.diffusion.sampler import Ancestral
from autoddpm.evaluation.in_parts import InParts
from autoddpm.machine import batch_size
from autoddpm.machine.batch_size import (
    MOST,
    ON_CPU,
    USED_SHARE,
    eval_batch_size,
    fitting,
    out_of_memory,
    smaller_steps,
)

CUDA_ERROR = "CUDA out of memory. Tried to allocate 2.00 GiB.\nGPU 0 has little left"


def batch_of(count: int) -> Batch:
    lesion = torch.zeros(count, 1, 16, 16, dtype=torch.bool)
    return Batch(
        images(count),
        lesion,
        [f"set/{i}" for i in range(count)],
        torch.zeros(count, dtype=torch.int64),
    )


class Fits:
    """AutoDDPM in a memory that takes at most `room` slices at once; keeps the sizes that it was
    asked for."""

    def __init__(
        self, room: int, error: type[Exception] = torch.OutOfMemoryError, text: str = CUDA_ERROR
    ) -> None:
        self.room, self.error, self.text = room, error, text
        self.asked: list[int] = []
        ddpm = short_ddpm(Conv())
        self.detector = AutoDDPM(
            ddpm, Ancestral(4), Difference(), residual, t=8, t_resample=4, mask_threshold=0.3
        )

    def __call__(self, batch: Batch) -> Detection:
        assert len(batch.image) == len(batch.lesion) == len(batch.id) == len(batch.epoch)
        self.asked.append(len(batch.id))
        if len(batch.id) > self.room:
            raise self.error(self.text)
        return detect(self.detector, batch)


def in_parts(fits: Fits) -> InParts:
    return InParts(fits, joined)


def joined(parts: list[Detection]) -> Detection:
    stages = {name: torch.cat([part.stages[name] for part in parts]) for name in parts[0].stages}
    maps, made, calls = (
        torch.cat([getattr(part, name) for part in parts])
        for name in ("anomaly_map", "reconstruction", "calls")
    )
    return Detection(maps, made, calls, stages)


@pytest.mark.parametrize(("room", "count"), [(1, 5), (3, 8)])
def test_a_batch_that_does_not_fit_gives_the_same_in_parts(room, count):
    whole, parts = Fits(count)(batch_of(count)), in_parts(Fits(room))(batch_of(count))
    for name in ("anomaly_map", "reconstruction"):
        torch.testing.assert_close(getattr(parts, name), getattr(whole, name), atol=1e-5, rtol=0)
    assert torch.equal(parts.calls, whole.calls)
    assert parts.stages.keys() == whole.stages.keys()
    for name, values in whole.stages.items():
        torch.testing.assert_close(parts.stages[name], values, atol=1e-5, rtol=0)


def test_only_what_did_not_fit_is_redone_and_batches_stay_small():
    fits = Fits(3)
    run = in_parts(fits)
    run(batch_of(8))
    assert fits.asked == [8, 4, 2, 2, 2, 2]
    run(batch_of(5))
    assert fits.asked[6:] == [2, 2, 1]


def test_it_is_said_once(caplog):
    run = in_parts(Fits(4))
    for _ in range(3):
        run(batch_of(8))
    in_parts(Fits(8))(batch_of(8))  # where all fits, nothing is said
    lines = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert lines == ["out of memory with 8 slices at once: in this pass from here on 4"]


def test_a_slice_that_does_not_fit_is_named_with_a_remedy():
    with pytest.raises(
        ValueError, match=r"set/0: a single slice of 16 x 16 .*CUDA out of memory.*bf16"
    ) as raised:
        in_parts(Fits(0))(batch_of(3))
    assert "\n" not in str(raised.value)


def test_full_main_memory_halves_a_batch_and_other_errors_do_not():
    text = "[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory: you"
    fits = Fits(2, RuntimeError, text)
    in_parts(fits)(batch_of(4))
    assert fits.asked == [4, 2, 2]
    for error in (RuntimeError("shapes do not fit"), ValueError("NaN")):
        fits = Fits(2, type(error), str(error))
        with pytest.raises(type(error), match=str(error)):
            in_parts(fits)(batch_of(4))
        assert fits.asked == [4]


# the batch size that is found


def trainer() -> Trainer:
    return Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False
    )


def test_a_cpu_takes_sixteen_slices_or_the_number_given():
    ddpm = short_ddpm(Conv())
    assert eval_batch_size("auto", ddpm, 32, trainer()) == ON_CPU == 16
    assert eval_batch_size(5, ddpm, 32, trainer()) == 5


@pytest.mark.parametrize("asked", [0, "all", 2.5])
def test_a_batch_size_that_cannot_be_is_refused_by_its_key(asked):
    with pytest.raises(
        ValueError,
        match=rf"data\.eval_batch_size={asked}: must be a whole number of at least 1, or",
    ):
        eval_batch_size(asked, short_ddpm(Conv()), 32, trainer())


def test_what_fits_is_a_share_of_free_memory_from_one_to_a_limit():
    assert fitting(1000, 10) == int(100 * USED_SHARE)
    assert fitting(1000, 1e6) == 1
    assert fitting(10**12, 1) == fitting(10**12, 0) == MOST


@pytest.mark.parametrize("is_full", [False, True])
def test_a_gpu_s_batch_is_measured_by_one_small_forward(is_full, monkeypatch):
    asked = []

    class Measured(Conv):
        def forward(self, x, timesteps):
            asked.append(tuple(x.shape))
            if is_full:
                raise torch.OutOfMemoryError(CUDA_ERROR)
            return super().forward(x, timesteps)

    memory = {"memory_allocated": 1000, "max_memory_allocated": 1000 + 4 * 50}
    for name, value in memory.items():
        monkeypatch.setattr(torch.cuda, name, lambda device, value=value: value)
    for name in ("reset_peak_memory_stats", "empty_cache"):
        monkeypatch.setattr(torch.cuda, name, lambda *device: None)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (50 * 100, 10**9))
    monkeypatch.setattr(torch, "zeros", lambda *size, device=None: torch.ones(*size))
    ddpm, here = short_ddpm(Measured()), trainer()
    monkeypatch.setattr(ddpm, "to", lambda device: None)
    gpu = SimpleNamespace(
        strategy=SimpleNamespace(root_device=torch.device("cuda", 0)),
        precision_plugin=here.precision_plugin,
    )
    assert batch_size.eval_batch_size("auto", ddpm, 16, gpu) == (
        1 if is_full else int(100 * USED_SHARE)
    )
    assert asked == [(4, 1, 16, 16)]


# in an evaluation


def limited(
    detector: AutoDDPM,
    batch: Batch,
    first: Reconstruction | None = None,
    whole=AutoDDPM.reconstruct,
) -> Reconstruction:
    if len(batch.id) > 3:
        raise torch.OutOfMemoryError(CUDA_ERROR)
    return whole(detector, batch, first)


def test_an_evaluation_out_of_memory_goes_on_with_the_same_maps(
    verb: Verb, site: Site, checkpoint, tmp_path, monkeypatch
):
    arguments = ("+experiment=ixi_stroke", *TINY_AUTODDPM, *site.paths, f"checkpoint={checkpoint}")
    found = {}
    for name in ("roomy", "small"):
        if name == "small":
            monkeypatch.setattr(AutoDDPM, "reconstruct", limited)
        outcome = verb(
            "evaluate", *arguments, f"paths.runs={tmp_path / name}", "data.eval_batch_size=auto"
        )
        assert outcome.code == 0, outcome.err
        assert ("out of memory" in outcome.out + outcome.err) == (name == "small")
        (path,) = (tmp_path / name).rglob("maps.npz")
        with np.load(path) as maps:
            found[name] = dict(maps)
    same = (found["roomy"]["mask"] == found["small"]["mask"]).all((1, 2))
    assert np.mean(found["roomy"]["mask"] != found["small"]["mask"]) < 1e-4
    np.testing.assert_allclose(
        found["roomy"]["anomaly_map"][same], found["small"]["anomaly_map"][same], atol=1e-4
    )


def test_a_training_step_too_large_ends_with_a_remedy_that_works(
    verb: Verb, site: Site, monkeypatch
):
    whole = DDPM.noise_error

    def limited(self: DDPM, x0: torch.Tensor, *others: torch.Tensor) -> torch.Tensor:
        if torch.is_grad_enabled() and len(x0) > 2:
            raise torch.OutOfMemoryError(CUDA_ERROR)
        return whole(self, x0, *others)

    monkeypatch.setattr(DDPM, "noise_error", limited)
    command = ("train", "+experiment=ixi", "name=limited", *TINY_TRAINING, *site.paths)
    outcome = verb(*command)
    assert outcome.code == 1
    assert "Traceback" not in outcome.err
    advice = "data.batch_size=2 trainer.accumulate_grad_batches=2"
    assert (
        f"train: out of memory (CUDA out of memory. Tried to allocate 2.00 GiB.): {advice}"
        in outcome.err
    )
    assert verb(*command, *advice.split()).code == 0
    settings = [
        json.loads(path.read_text())
        for path in site.folder.rglob("runs/limited/train/*/settings.json")
    ]
    assert sorted((one["batch_size"], one["accumulate_grad_batches"]) for one in settings) == [
        (2, 2),
        (4, 1),
    ]


def test_other_errors_pass_and_a_single_slice_cannot_be_halved():
    with pytest.raises(RuntimeError, match="shapes"), out_of_memory("advice"):
        raise RuntimeError("shapes differ")
    assert "data.batch_size" not in smaller_steps(1, 4)
