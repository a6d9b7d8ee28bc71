"""What only a GPU can show of speed: compiled networks give the same maps, nothing waits, a batch
is found."""

from collections.abc import Iterator

import pytest
import torch
from lightning import Callback, Trainer
from tiny import Difference, Slices, images, short_ddpm, unet
from torch.utils.data import DataLoader

from autoddpm.data.sample import Batch
from autoddpm.detectors.anomaly_map import residual
from autoddpm.detectors.autoddpm import AutoDDPM
from autoddpm.detectors.detector import detect
from autoddpm.diffusion.noise import NoiseOf
from autoddpm.diffusion.sampler import DDIM, Ancestral, DPMSolver, reconstruct
from autoddpm.machine.acceleration import Acceleration
from autoddpm.machine.batch_size import MOST, eval_batch_size
from autoddpm.machine.progress import TimeLeft
from autoddpm.random import Stage
from autoddpm.training.callbacks import EMA
from autoddpm.training.module import TrainingModule

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no GPU"),
]
IDS = ["a", "b", "c", "d"]
OBJECTIVE = "autoddpm.diffusion.objective.Objective"


@pytest.fixture(autouse=True)
def exact_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", False)


@pytest.fixture
def every_wait_is_an_error() -> Iterator[None]:
    yield
    torch.cuda.set_sync_debug_mode("default")


class Module(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.model = short_ddpm(unet()).cuda()


def gpu_trainer() -> Trainer:
    return Trainer(
        accelerator="gpu",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
    )


@pytest.mark.parametrize(
    "settings", [{"compile": True}, {"cuda_graphs": True}, {"layout": "channels_last"}], ids=str
)
def test_acceleration_keeps_the_maps_for_batches_of_any_size(settings):
    found = {}
    for name, given in (("plain", {"compile": False, "layout": "contiguous"}), ("fast", settings)):
        module = Module()
        Acceleration(**given)._apply(gpu_trainer(), module, training=False)
        detector = AutoDDPM(
            module.model,
            Ancestral(2),
            Difference(),
            residual,
            t=8,
            t_resample=4,
            mask_threshold=0.3,
        )
        found[name] = [
            detect(detector, Slices(images(n, side=32).cuda(), IDS[:n])) for n in (4, 4, 3, 1)
        ]
    flipped, pixels = 0, 0
    for plain, fast in zip(found["plain"], found["fast"], strict=True):
        differs = plain.stages["mask"] != fast.stages["mask"]
        flipped, pixels = flipped + int(differs.sum()), pixels + differs.numel()
        same = ~differs.flatten(1).any(1)
        torch.testing.assert_close(
            fast.stages["initial_map"], plain.stages["initial_map"], atol=1e-4, rtol=0
        )
        torch.testing.assert_close(
            fast.anomaly_map[same], plain.anomaly_map[same], atol=1e-4, rtol=0
        )
    assert flipped <= 1e-3 * pixels  # one pixel at the threshold, dilated: 9 of 12,288


@pytest.mark.parametrize(
    "sampler", [Ancestral(2), DDIM(2), DPMSolver(3)], ids=lambda sampler: type(sampler).__name__
)
def test_the_loops_of_both_stages_never_wait_for_the_gpu(sampler, every_wait_is_an_error):
    ddpm, image = short_ddpm(unet()).cuda(), images(4).cuda()
    detector = AutoDDPM(ddpm, sampler, Difference(), residual, t=8, t_resample=4, resample_steps=2)
    noise = NoiseOf.batch(ddpm.noise, 0, IDS, image, Stage.RECONSTRUCTION)
    x0, mask = ddpm.encode(image), image > 0.5
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    with torch.no_grad():
        found = detector.resample(x0, reconstruct(ddpm, sampler, x0, 8, noise), mask, noise)
    torch.cuda.set_sync_debug_mode("default")
    assert torch.isfinite(found).all()


def test_training_steps_never_wait_for_the_gpu(every_wait_is_an_error):
    model = {
        "_target_": "autoddpm.diffusion.ddpm.DDPM",
        "data_range": [0, 1],
        "noise": {"_target_": "autoddpm.diffusion.noise.gaussian.Gaussian"},
        "schedule": {"_target_": "autoddpm.diffusion.schedule.LinearSchedule", "T": 1000},
        "denoiser": {
            "_target_": "monai.networks.nets.DiffusionModelUNet",
            "spatial_dims": 2,
            "in_channels": 1,
            "out_channels": 1,
            "channels": [8, 8],
            "attention_levels": [False, False],
            "num_res_blocks": 1,
            "num_head_channels": 8,
            "norm_num_groups": 4,
        },
    }

    class Strict(Callback):
        def on_train_batch_end(self, trainer, *_):
            mode = {1: "error", 5: "default"}.get(trainer.global_step)
            if mode:
                torch.cuda.set_sync_debug_mode(mode)

    objective = {"_target_": OBJECTIVE, "t_focus_share": 0.5}
    module = TrainingModule(model, {"size": 32}, objective, shift=1.0)
    batch = Batch(
        images(4, side=32),
        torch.zeros(4, 1, 32, 32, dtype=torch.bool),
        IDS,
        torch.zeros(4, dtype=torch.int64),
    )
    loader = DataLoader([batch] * 8, batch_size=None, pin_memory=True)
    trainer = Trainer(
        accelerator="gpu",
        devices=1,
        max_steps=6,
        logger=False,
        enable_checkpointing=False,
        precision="bf16-mixed",
        callbacks=[EMA(), TimeLeft(), Strict()],
        gradient_clip_val=1.0,
        enable_model_summary=False,
        log_every_n_steps=100,
    )
    trainer.fit(module, loader)
    assert trainer.global_step == 6


def test_the_batch_that_is_found_fits_and_is_more_than_a_few():
    ddpm = short_ddpm(unet())
    found = eval_batch_size("auto", ddpm, 64, gpu_trainer())
    assert 16 <= found <= MOST
    with torch.no_grad():
        ddpm.predict_eps(torch.zeros(found, 1, 64, 64, device="cuda"), 1)
