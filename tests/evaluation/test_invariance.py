"""A slice's map does not depend on what else is in its batch, on the order or on the size of the
last batch."""

from collections.abc import Sequence
from functools import cache

import pytest
import torch
from tiny import WIDE, Difference, Slices, T, images, short_schedule, unet
from tiny import one_thread as one_thread
from torch import Tensor

from autoddpm.detectors.anoddpm import AnoDDPM
from autoddpm.detectors.anomaly_map import residual
from autoddpm.detectors.authors_code import AuthorsCode, AuthorsCodeAnoDDPM
from autoddpm.detectors.autoddpm import AutoDDPM
from autoddpm.detectors.detector import Detection, detect
from autoddpm.diffusion.ddpm import DDPM
from autoddpm.diffusion.noise import Noise
from autoddpm.diffusion.noise.gaussian import Gaussian
from autoddpm.diffusion.sampler import DDIM, Ancestral, DPMSolver
from autoddpm.random import Draw, Stage

GAUSSIAN = Gaussian()
IDS = ["ixi/IXI002", "ixi/IXI012", "phantom/1", "phantom/2", "last"]
IMAGES = dict(zip(IDS, images(5), strict=True))
MASKS = dict(zip(IDS, images(5, seed=1) > 0.8, strict=True))
MASKS["phantom/1"] = torch.zeros(1, 16, 16, dtype=torch.bool)
KINDS = {kind.__name__: kind for kind in (AnoDDPM, AutoDDPM, AuthorsCode, AuthorsCodeAnoDDPM)}
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


@cache
def run(kind: str, sampler: Ancestral | DDIM, noise: Noise, order: str) -> dict[str, Detection]:
    """Detections by id, the second stage with given masks."""
    torch.manual_seed(0)
    ddpm = DDPM(unet(), short_schedule(), noise, WIDE)
    found = {}
    for ids in ORDERS[order]:
        batch = Slices(torch.stack([IMAGES[i] for i in ids]), ids)
        if "AnoDDPM" in kind:
            detection = detect(KINDS[kind](ddpm, sampler, Difference(), residual, t=T), batch)
        else:
            detector = KINDS[kind](
                ddpm, sampler, Difference(), residual, t=8, t_resample=4, resample_steps=2
            )
            detector.mask = lambda initial_map, image, ids=ids: torch.stack([MASKS[i] for i in ids])  # type: ignore[method-assign]
            detection = detect(detector, batch)
        for i, slice_id in enumerate(ids):
            stages = {name: values[i] for name, values in detection.stages.items()}
            found[slice_id] = Detection(
                detection.anomaly_map[i], detection.reconstruction[i], detection.calls[i], stages
            )
    return found


def check_same(kind: str, sampler: Ancestral | DDIM, noise: Noise, order: str) -> None:
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
