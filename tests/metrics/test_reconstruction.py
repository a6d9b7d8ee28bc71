"""SSIM, MSE and LPIPS of the healthy slices."""

import math

import numpy as np
import pytest
import torch
from skimage.metrics import mean_squared_error, structural_similarity
from tiny import images

from autoddpm.metrics.reconstruction import fidelity, mse, ssim

IMAGE = images(5)[:, 0].numpy()
OTHER = (0.7 * images(5) + 0.3 * images(5, seed=1))[:, 0].numpy()
HEALTHY = np.array([True, False, True, False, True])


def test_ssim_and_mse_are_scikit_images():
    one, other = IMAGE[0], OTHER[0]
    assert ssim(one, other) == pytest.approx(
        structural_similarity(one, other, data_range=1, win_size=7), abs=1e-7
    )
    assert mse(one, other) == pytest.approx(mean_squared_error(one, other), rel=1e-6)


def test_ssim_is_the_mean_of_7_by_7_windows_by_hand():
    one, other = IMAGE[0].astype(float), OTHER[0].astype(float)
    values = []
    for y in range(10):
        for x in range(10):
            a, b = one[y : y + 7, x : x + 7], other[y : y + 7, x : x + 7]
            covariance = np.cov(a.ravel(), b.ravel())
            means = 2 * a.mean() * b.mean() + 0.01**2, a.mean() ** 2 + b.mean() ** 2 + 0.01**2
            spreads = 2 * covariance[0, 1] + 0.03**2, covariance[0, 0] + covariance[1, 1] + 0.03**2
            values.append(means[0] * spreads[0] / (means[1] * spreads[1]))
    assert ssim(one, other) == pytest.approx(np.mean(values), abs=1e-9)


def test_a_perfect_reconstruction_has_ssim_one_and_mse_zero():
    found = fidelity(IMAGE, IMAGE.copy(), HEALTHY)
    assert found["ssim"][HEALTHY] == pytest.approx([1, 1, 1])
    assert found["mse"][HEALTHY].tolist() == [0, 0, 0]


def test_each_chosen_slice_has_its_own_and_the_others_have_none():
    found = fidelity(IMAGE, OTHER, HEALTHY)
    assert list(found) == ["ssim", "mse"]
    for name, measured in (("ssim", ssim), ("mse", mse)):
        pairs = zip(IMAGE, OTHER, HEALTHY, strict=True)
        expected = [measured(a, b) if chosen else math.nan for a, b, chosen in pairs]
        assert found[name].tolist() == pytest.approx(expected, abs=0, nan_ok=True)


def test_a_perceptual_distance_is_averaged_over_pixels():
    found = fidelity(IMAGE, OTHER, HEALTHY, lpips=lambda other, image: other - 2 * image)
    assert list(found) == ["ssim", "mse", "lpips"]
    expected = (OTHER - 2 * IMAGE).mean((1, 2))[HEALTHY]
    assert found["lpips"][HEALTHY] == pytest.approx(expected, abs=1e-6)
    assert np.isnan(found["lpips"][~HEALTHY]).all()


@pytest.mark.parametrize(
    ("space", "dimensions", "shape"),
    [
        ((16, 16), 2, (1, 1, 16, 16)),
        ((2, 8, 8, 8), 3, (1, 2, 8, 8, 8)),
    ],
)
def test_a_perceptual_distance_sees_one_slice_with_channels(space, dimensions, shape):
    shapes = []

    def distance(reconstruction: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
        shapes.append((tuple(reconstruction.shape), tuple(image.shape)))
        return image

    pair = np.random.default_rng(0).random((2, 1, *space), dtype=np.float32)
    fidelity(*pair, np.ones(1, bool), dimensions, distance)
    assert shapes == [(shape, shape)]


@pytest.mark.parametrize(("space", "dimensions"), [((16, 16), 2), ((8, 8, 8), 3)])
def test_the_ssim_of_channels_is_the_mean_of_theirs(space, dimensions):
    image, other = np.random.default_rng(1).random((2, 2, *space))
    each = [ssim(a, b, dimensions) for a, b in zip(image, other, strict=True)]
    assert ssim(image, other, dimensions) == pytest.approx(np.mean(each), abs=1e-12)
    assert each[0] == pytest.approx(structural_similarity(image[0], other[0], data_range=1))


def test_the_mse_is_computed_in_double_precision():
    one, other = IMAGE, OTHER
    expected = math.fsum(
        (a - b) ** 2 for a, b in zip(one.ravel().tolist(), other.ravel().tolist(), strict=True)
    )
    assert mse(one, other) == pytest.approx(expected / one.size, rel=1e-12)
