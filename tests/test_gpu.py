"""What only a GPU can show: the same noise and the same maps as on the CPU (make test-gpu)."""

import json
from pathlib import Path

import pytest
import torch
from conftest import TINY_AUTODDPM, TINY_TRAINING, Site, Verb
from tiny import Slices, images, short_ddpm, unet

from autoddpm.detectors.anomaly_map import residual
from autoddpm.detectors.autoddpm import AutoDDPM
from autoddpm.detectors.detector import detect
from autoddpm.detectors.perceptual import DenoiserFeatures
from autoddpm.diffusion.sampler import Ancestral
from autoddpm.random import Draw, Stage, normal, random_words, slice_keys

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no GPU"),
]
IDS = ["a/1", "a/2", "b/1", "c"]


@pytest.fixture(autouse=True)
def exact_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", False)


def test_a_gpu_draws_a_cpu_s_integers_and_nearly_its_normals() -> None:
    keys = {device: slice_keys(3, IDS, torch.device(device)) for device in ("cpu", "cuda")}
    words = {
        device: random_words(k, 999, Stage.RESAMPLING, Draw.RENOISE, 7, 2)
        for device, k in keys.items()
    }
    assert torch.equal(words["cpu"], words["cuda"].cpu())
    normals = {
        device: normal(k, 100_000, Stage.TRAINING, Draw.FORWARD, 5) for device, k in keys.items()
    }
    torch.testing.assert_close(normals["cpu"], normals["cuda"].cpu(), atol=1e-6, rtol=0)


def test_a_gpu_gives_the_maps_of_a_cpu() -> None:
    found = {}
    for device in ("cpu", "cuda"):
        ddpm = short_ddpm(unet()).to(device)
        detector = AutoDDPM(
            ddpm, Ancestral(), DenoiserFeatures(t=2), residual, 0, 8, 5, mask_threshold="percentile"
        )
        found[device] = detect(detector, Slices(images(4, side=32).to(device), IDS))
    cpu, gpu = found["cpu"], found["cuda"]
    assert 0 < cpu.stages["mask"].float().mean() < 1
    same = (cpu.stages["mask"] == gpu.stages["mask"].cpu()).flatten(1).all(1)
    assert same.sum() >= 3  # a pixel at the threshold may fall on either side
    torch.testing.assert_close(
        cpu.stages["initial_map"], gpu.stages["initial_map"].cpu(), atol=1e-4, rtol=0
    )
    torch.testing.assert_close(
        cpu.reconstruction[same], gpu.reconstruction[same].cpu(), atol=1e-4, rtol=0
    )
    torch.testing.assert_close(
        cpu.anomaly_map[same], gpu.anomaly_map[same].cpu(), atol=1e-4, rtol=0
    )


def test_a_gpu_trains_and_evaluates_with_the_scores_of_a_cpu(
    site: Site, tmp_path: Path, verb: Verb
) -> None:
    paths = (*site.paths, f"paths.runs={tmp_path}")
    trained = verb(
        "train",
        "+experiment=ixi",
        *TINY_TRAINING,
        *paths,
        "trainer=gpu",
        "trainer.precision=bf16-mixed",
    )
    assert trained.code == 0, trained.err
    (checkpoint,) = tmp_path.glob("ixi/train/*/checkpoints/last.ckpt")
    rows = {}
    for trainer in ("cpu", "gpu"):
        overrides = (*TINY_AUTODDPM, *paths, f"checkpoint={checkpoint}", f"trainer={trainer}")
        done = verb("evaluate", "+experiment=ixi_stroke", *overrides)
        assert done.code == 0, done.err
        (folder,) = tmp_path.glob(f"ixi_stroke/evaluate/*trainer-{trainer}*")
        rows[trainer] = json.loads((folder / "metrics.json").read_text())
    assert rows["gpu"]["provenance"]["device"] != "cpu"
    for key in ("healthy/ssim", "lesion/auprc", "lesion/max_dice"):
        assert rows["gpu"]["metrics"][key] == pytest.approx(rows["cpu"]["metrics"][key], abs=1e-3)
