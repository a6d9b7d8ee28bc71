"""A slice's map does not depend on what else is in its batch, on the order or on the size of the
last batch."""

from collections.abc import Callable, Sequence
from functools import cache

import pytest
import torch
from conftest import choices, compose_config
from tiny import WIDE, Difference, Slices, SlicesWithLesion, T, images, short_schedule, unet
from tiny import one_thread as one_thread
from torch import Tensor

from autoddpm.autoencoder.dae import DAE
from autoddpm.autoencoder.restoration import Restoration
from autoddpm.detectors.andi import ANDi
from autoddpm.detectors.anoddpm import AnoDDPM
from autoddpm.detectors.anomaly_map import residual
from autoddpm.detectors.authors_code import AuthorsCode, AuthorsCodeAnoDDPM
from autoddpm.detectors.autoddpm import AutoDDPM
from autoddpm.detectors.dae import DAEDetector
from autoddpm.detectors.detector import Detection, Detector, detect
from autoddpm.detectors.mhd import MHD
from autoddpm.detectors.one_step import OneStep
from autoddpm.detectors.pddpm import PDDPMDetector
from autoddpm.detectors.repaint_oracle import RepaintOracle
from autoddpm.detectors.restoration import RestorationDetector
from autoddpm.detectors.thor import THOR
from autoddpm.diffusion.ddpm import DDPM
from autoddpm.diffusion.noise import Noise
from autoddpm.diffusion.noise.gaussian import Gaussian
from autoddpm.diffusion.pddpm import PDDPM
from autoddpm.diffusion.sampler import DDIM, Ancestral, DPMSolver, Sampler
from autoddpm.random import Draw, Stage

GAUSSIAN = Gaussian()
IDS = ["ixi/IXI002", "ixi/IXI012", "phantom/1", "phantom/2", "last"]
IMAGES = dict(zip(IDS, images(5), strict=True))
MASKS = dict(zip(IDS, images(5, seed=1) > 0.8, strict=True))
MASKS["phantom/1"] = torch.zeros(1, 16, 16, dtype=torch.bool)
TWO_STAGES = {"t": 8, "t_resample": 4, "resample_steps": 2}
KINDS: dict[str, Callable[[DDPM, Sampler], Detector]] = {
    "AnoDDPM": lambda ddpm, sampler: AnoDDPM(ddpm, sampler, Difference(), residual, t=T),
    "AutoDDPM": lambda ddpm, sampler: given_masks(AutoDDPM, ddpm, sampler),
    "AuthorsCode": lambda ddpm, sampler: given_masks(AuthorsCode, ddpm, sampler),
    "AuthorsCodeAnoDDPM": lambda ddpm, sampler: AuthorsCodeAnoDDPM(
        ddpm, sampler, Difference(), residual, t=T
    ),
    "ANDi": lambda ddpm, sampler: ANDi(ddpm, low=2, high=T),
    "DAEDetector": lambda ddpm, sampler: DAEDetector(DAE(conv()), Difference(), residual),
    "MHD": lambda ddpm, sampler: MHD(ddpm, sampler, t=T, samples=3),
    "OneStep": lambda ddpm, sampler: OneStep(ddpm, Difference(), residual, times=(3, 9)),
    "PDDPMDetector": lambda ddpm, sampler: PDDPMDetector(
        PDDPM(ddpm.denoiser, ddpm.schedule, ddpm.noise), Difference(), residual, t=T
    ),
    "RepaintOracle": lambda ddpm, sampler: RepaintOracle(
        ddpm, sampler, Difference(), residual, **TWO_STAGES
    ),
    "RestorationDetector": lambda ddpm, sampler: RestorationDetector(
        Restoration(ddpm.denoiser), Difference(), residual
    ),
    "THOR": lambda ddpm, sampler: THOR(ddpm, sampler, Difference(), t=T, harmonise=(9, 4)),
}
ELSEWHERE = {"VAEDetector"}  # in its own file, with its gradient
ORDERS = {
    "alone": [[slice_id] for slice_id in IDS],
    "all in one batch": [IDS],
    "a short last batch": [IDS[:2], IDS[2:4], IDS[4:]],
    "first where it was last": [IDS[3:] + IDS[:1], IDS[1:3]],
}


class GlobalNoise:
    """What is not to be done: noise from the global stream."""

    def __call__(
        self,
        keys: Tensor,
        size: Sequence[int],
        stage: Stage,
        draw: Draw,
        t: Tensor | int = 0,
        repeat: int = 0,
    ) -> Tensor:
        return torch.randn(len(keys), *size)


def conv() -> torch.nn.Module:
    torch.manual_seed(3)
    return torch.nn.Conv2d(1, 1, 3, padding=1)


def given_masks(kind: type[AutoDDPM], ddpm: DDPM, sampler: Sampler) -> AutoDDPM:
    """The detector with given masks, so that its second stage has something to do."""
    detector = kind(ddpm, sampler, Difference(), residual, **TWO_STAGES)
    detector.where = lambda batch, initial_map: torch.stack([MASKS[i] for i in batch.id])  # type: ignore[method-assign]
    return detector


@cache
def run(kind: str, sampler: Sampler, noise: Noise, order: str) -> dict[str, Detection]:
    """Detections by id."""
    torch.manual_seed(0)
    ddpm = DDPM(unet(), short_schedule(), noise, WIDE)
    found, detector = {}, KINDS[kind](ddpm, sampler)
    for ids in ORDERS[order]:
        stacked = [torch.stack([each[i] for i in ids]) for each in (IMAGES, MASKS)]
        detection = detect(detector, SlicesWithLesion(stacked[0], ids, stacked[1]))
        for i, slice_id in enumerate(ids):
            stages = {name: values[i] for name, values in detection.stages.items()}
            found[slice_id] = Detection(
                detection.anomaly_map[i], detection.reconstruction[i], detection.calls[i], stages
            )
    return found


def check_same(kind: str, sampler: Sampler, noise: Noise, order: str) -> None:
    expected, found = (run(kind, sampler, noise, name) for name in ("alone", order))
    for slice_id in IDS:
        one, other = expected[slice_id], found[slice_id]
        torch.testing.assert_close(other.anomaly_map, one.anomaly_map, atol=1e-4, rtol=0)
        torch.testing.assert_close(other.reconstruction, one.reconstruction, atol=1e-4, rtol=0)
        assert other.calls == one.calls
        for name, values in one.stages.items():
            torch.testing.assert_close(other.stages[name], values, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    "sampler", [Ancestral(2), DDIM(2, eta=1.0), DPMSolver(3)], ids=lambda s: type(s).__name__
)
@pytest.mark.parametrize("kind", KINDS)
def test_a_slice_has_the_same_maps_alone_and_in_any_batch(kind, sampler):
    for order in ORDERS:
        check_same(kind, sampler, GAUSSIAN, order)


def test_every_detector_of_the_laboratory_is_tested_here():
    configured = {
        compose_config("evaluate", f"detector={name}").detector._target_.rsplit(".", 1)[1]
        for name in choices("detector")
    }
    assert configured - ELSEWHERE == set(KINDS)


@pytest.mark.parametrize("order", ["all in one batch", "a short last batch"])
@pytest.mark.parametrize("kind", ["AnoDDPM", "AutoDDPM"])
def test_the_same_check_fails_with_noise_from_the_global_stream(kind, order):
    with pytest.raises(AssertionError, match="not close"):
        check_same(kind, Ancestral(2), GlobalNoise(), order)


def test_equal_slices_with_unequal_ids_get_unequal_noise():
    batch = Slices(torch.stack([IMAGES[IDS[0]]] * 2), IDS[:2])
    detection = detect(
        AnoDDPM(
            DDPM(unet(), short_schedule(), Gaussian()), Ancestral(), Difference(), residual, t=T
        ),
        batch,
    )
    assert not torch.allclose(detection.reconstruction[0], detection.reconstruction[1], atol=1e-3)
