"""The mask of AutoDDPM and its settings."""

from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage
from tiny import Conv, Difference, Slices, T, images, short_ddpm
from tiny import one_thread as one_thread

from autoddpm.detectors.anomaly_map import head, head_product, product, residual
from autoddpm.detectors.autoddpm import AutoDDPM
from autoddpm.detectors.detector import detect
from autoddpm.detectors.perceptual import NoPerceptual
from autoddpm.diffusion.ddpm import DDPM
from autoddpm.diffusion.noise.gaussian import Gaussian
from autoddpm.diffusion.sampler import Ancestral
from autoddpm.diffusion.schedule import LinearSchedule

BATCH = Slices(images(3), ["a", "b", "c"])


def detector(ddpm: DDPM, **settings: Any) -> AutoDDPM:
    settings = {"t": 10, "t_resample": 6, "mask_threshold": 0.2} | settings
    return AutoDDPM(ddpm, Ancestral(), Difference(), residual, **settings)


@pytest.mark.parametrize("dilation", [1, 3, 5])
def test_the_mask_is_scipy_s_dilation_of_what_passes_a_threshold(dilation):
    maps = images(2)
    maps[maps < 0.97] *= 0.5
    maps[0, 0, 0, 0] = maps[1, 0, -1, 7] = 1  # at a corner and at an edge
    mask = detector(short_ddpm(Conv()), mask_threshold=0.7, dilation=dilation).mask(maps, maps)
    assert mask.shape == maps.shape
    for i in range(2):
        expected = ndimage.binary_dilation(maps[i, 0].numpy() > 0.7, np.ones((dilation, dilation)))
        np.testing.assert_array_equal(mask[i, 0], expected)
        dilated = ndimage.grey_dilation(maps[i, 0].numpy(), (dilation, dilation), mode="constant")
        np.testing.assert_array_equal(mask[i, 0], dilated > 0.7)  # the text's order


def test_a_pixel_at_the_threshold_is_not_in_the_mask():
    maps = torch.zeros(1, 1, 8, 8)
    maps[..., 4, 4] = 0.5
    assert not detector(short_ddpm(Conv()), mask_threshold=0.5).mask(maps, maps).any()
    assert detector(short_ddpm(Conv()), mask_threshold=0.49).mask(maps, maps).any()


@pytest.mark.parametrize("percentile", [50.0, 95.0])
def test_a_percentile_threshold_is_of_each_slices_own_map(percentile):
    maps = images(3) * torch.tensor([1.0, 1e-3, 1e3]).view(3, 1, 1, 1)
    one = detector(
        short_ddpm(Conv()), mask_threshold="percentile", mask_percentile=percentile, dilation=1
    )
    mask = one.mask(maps, maps)
    for i in range(3):
        values = maps[i, 0].numpy()
        np.testing.assert_array_equal(mask[i, 0], values > np.percentile(values, percentile))
    assert torch.equal(mask[1:2], one.mask(maps[1:2], maps[1:2]))
    assert not one.mask(torch.zeros(1, 1, 8, 8), torch.zeros(1, 1, 8, 8)).any()


def test_inside_the_head_the_percentile_is_of_its_pixels():
    image = torch.zeros(2, 1, 64, 64)
    image[..., 16:48, 16:48] = 0.6
    maps = images(2, side=64)
    one = detector(
        short_ddpm(Conv()),
        mask_threshold="percentile",
        mask_percentile=90,
        mask_region="head",
        dilation=1,
    )
    mask = one.mask(maps, image)
    for i in range(2):
        inside = head(image)[i]
        assert torch.equal(mask[i], maps[i] > np.percentile(maps[i][inside].numpy(), 90))
    assert not one.mask(maps, torch.zeros_like(image)).any()  # no head, no mask


@pytest.mark.parametrize(("region", "expected"), [("image", product), ("head", head_product)])
def test_the_first_map_is_of_the_region_of_the_mask(region, expected):
    one = detector(short_ddpm(Conv()), mask_region=region)
    assert one.first.map is expected


def test_a_calibrated_threshold_must_precede_the_first_slice():
    one = AutoDDPM(short_ddpm(Conv()), Ancestral(), Difference(), residual, t=3, t_resample=2)
    with pytest.raises(ValueError, match=r"detector\.mask_threshold=calibrated"):
        detect(one, BATCH)
    one.mask_threshold = 0.2
    expected = detect(detector(short_ddpm(Conv()), t=3, t_resample=2), BATCH)
    assert torch.equal(detect(one, BATCH).anomaly_map, expected.anomaly_map)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"t": 0}, r"detector\.t=0"),
        ({"t_resample": T + 1}, rf"detector\.t_resample={T + 1}"),
        ({"resample_steps": -1}, r"detector\.resample_steps=-1"),
        ({"dilation": 2}, r"detector\.dilation=2"),
        ({"dilation": -1}, r"detector\.dilation=-1"),
        ({"mask_threshold": "calibrate"}, r"detector\.mask_threshold=calibrate"),
        ({"mask_region": "brain"}, r"detector\.mask_region=brain"),
        ({"mask_percentile": 100}, r"detector\.mask_percentile=100"),
    ],
)
def test_a_setting_that_cannot_be_is_refused_by_its_key(settings, message):
    with pytest.raises(ValueError, match=message):
        detector(short_ddpm(Conv()), **settings)


def test_its_label_names_what_was_left_out():
    def label(**settings: Any) -> str:
        return detector(short_ddpm(Conv()), **settings).label

    assert label() == "AutoDDPM"
    assert label(resample_steps=0) == "AutoDDPM (w/o re-sampling)"
    assert label(use_uncertainty=False) == "AutoDDPM (w/o uncertainty)"
    assert (
        label(resample_steps=0, use_uncertainty=False)
        == "AutoDDPM (w/o re-sampling and uncertainty)"
    )


def test_its_defaults_are_the_papers():
    one = AutoDDPM(
        DDPM(Conv(), LinearSchedule(), Gaussian()), Ancestral(), NoPerceptual(), residual
    )
    assert (one.t, one.t_resample, one.resample_steps, one.dilation) == (200, 50, 5, 3)
    assert one.use_uncertainty
    assert one.first.t == 200
