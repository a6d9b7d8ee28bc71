"""DAE's detector: what one call takes away, without the edge of the head, smoothed."""

import pytest
import torch
from scipy.ndimage import median_filter
from tiny import Slices, images
from tiny import one_thread as one_thread
from torch import Tensor, nn

from autoddpm.autoencoder.dae import DAE
from autoddpm.autoencoder.restoration import Restoration
from autoddpm.detectors.anomaly_map import residual
from autoddpm.detectors.dae import DAEDetector, median_filtered
from autoddpm.detectors.detector import detect
from autoddpm.detectors.perceptual import NoPerceptual


class Darker(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x - 0.1


def detector(network: nn.Module, **settings: int) -> DAEDetector:
    return DAEDetector(DAE(network), NoPerceptual(), residual, **settings)


def test_without_post_processing_it_is_the_residual():
    batch = Slices(0.5 + 0.5 * images(2), ["a", "b"])
    found = detect(detector(Darker(), erosion=0, median=1), batch)
    torch.testing.assert_close(found.anomaly_map, torch.full((2, 1, 16, 16), 0.1))
    assert found.calls.tolist() == [1, 1]


def test_the_edge_of_the_foreground_is_left_out():
    image = torch.zeros(1, 1, 16, 16)
    image[..., 3:13, 3:13] = 0.5
    batch = Slices(image, ["a"])
    found = detect(detector(Darker(), erosion=5, median=1), batch).anomaly_map
    inside = torch.zeros_like(image, dtype=torch.bool)
    inside[..., 5:11, 5:11] = True
    assert found[inside].min() > 0
    assert not found[~inside].any()
    foreground = detect(detector(Darker(), erosion=1, median=1), batch).anomaly_map > 0
    assert torch.equal(foreground, image > 0)


@pytest.mark.parametrize("side", [1, 3, 5])
def test_the_median_is_scipy_s(side):
    values = images(2)
    expected = median_filter(values.numpy(), (1, 1, side, side), mode="nearest")
    torch.testing.assert_close(median_filtered(values, side), torch.from_numpy(expected))


def test_the_median_of_a_volume_is_scipy_s():
    values = torch.rand(1, 1, 6, 7, 8, generator=torch.Generator().manual_seed(0))
    expected = median_filter(values.numpy(), (1, 1, 3, 3, 3), mode="nearest")
    torch.testing.assert_close(median_filtered(values, 3), torch.from_numpy(expected))


def test_it_refuses_another_family_s_weights():
    with pytest.raises(ValueError, match="of model=dae; these are of a Restoration"):
        DAEDetector(Restoration(nn.Conv2d(1, 1, 1)), NoPerceptual(), residual)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"erosion": 4}, r"detector\.erosion=4: must be odd"),
        ({"erosion": -1}, r"detector\.erosion=-1: must be odd"),
        ({"median": 0}, r"detector\.median=0: must be odd"),
    ],
)
def test_a_side_that_has_no_middle_is_refused(settings, words):
    with pytest.raises(ValueError, match=words):
        detector(nn.Identity(), **settings)
