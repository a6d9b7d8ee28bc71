"""SSIM and MSE of the healthy slices."""

import math

import numpy as np
import pytest
import torch
from skimage.metrics import mean_squared_error, structural_similarity
from tiny import images
from tiny import one_thread as one_thread

from autoddpm.metrics.reconstruction import HealthyReconstruction, mse, ssim

IMAGE, OTHER = images(5)[:, 0], (0.7 * images(5) + 0.3 * images(5, seed=1))[:, 0]
GROUP = torch.tensor([0, 2, 0, 3, 0])
CHOSEN = [0, 2, 4]


def test_ssim_and_mse_are_scikit_images():
    one, other = IMAGE[0].numpy(), OTHER[0].numpy()
    assert ssim(one, other) == pytest.approx(
        structural_similarity(one, other, data_range=1, win_size=7), abs=1e-7
    )
    assert mse(one, other) == pytest.approx(mean_squared_error(one, other), rel=1e-6)


def test_ssim_is_the_mean_of_7_by_7_windows_by_hand():
    one, other = IMAGE[0].double().numpy(), OTHER[0].double().numpy()
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
    metric = HealthyReconstruction()
    metric.update(IMAGE, IMAGE.clone(), GROUP)
    assert metric.compute() == {"healthy/ssim": pytest.approx(1), "healthy/mse": 0}


def test_the_means_are_over_the_healthy_slices_alone():
    metric = HealthyReconstruction()
    metric.update(IMAGE, OTHER, GROUP)
    pairs = [(IMAGE[i].numpy(), OTHER[i].numpy()) for i in CHOSEN]
    expected = {
        "healthy/ssim": np.mean([structural_similarity(a, b, data_range=1) for a, b in pairs]),
        "healthy/mse": np.mean([mean_squared_error(a, b) for a, b in pairs]),
    }
    assert metric.compute() == pytest.approx(expected, rel=1e-6)


def test_updates_in_parts_equal_one_update():
    whole, parts = HealthyReconstruction(), HealthyReconstruction()
    whole.update(IMAGE, OTHER, GROUP)
    for part in (slice(0, 1), slice(1, 2), slice(2, 5)):
        parts.update(IMAGE[part], OTHER[part], GROUP[part])
    assert parts.compute() == pytest.approx(whole.compute(), rel=1e-12)
    assert int(parts.count) == 3


def test_a_perceptual_distance_is_averaged_over_pixels_and_slices():
    metric = HealthyReconstruction(lpips=lambda reconstruction, image: reconstruction - 2 * image)
    metric.update(IMAGE, OTHER, GROUP)
    expected = np.mean([float((OTHER[i] - 2 * IMAGE[i]).mean()) for i in CHOSEN])
    values = metric.compute()
    assert list(values) == ["healthy/ssim", "healthy/mse", "healthy/lpips"]
    assert values["healthy/lpips"] == pytest.approx(expected, abs=1e-6)


def test_a_perceptual_distance_sees_one_slice_with_a_channel():
    shapes = []

    def distance(reconstruction: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
        shapes.append((tuple(reconstruction.shape), tuple(image.shape)))
        return image

    HealthyReconstruction(lpips=distance).update(IMAGE, OTHER, GROUP)
    assert shapes == [((1, 1, 16, 16), (1, 1, 16, 16))] * 3


@pytest.mark.parametrize("lpips", [None, lambda a, b: a])
def test_without_a_healthy_slice_every_key_has_a_text(lpips):
    metric = HealthyReconstruction(lpips=lpips)
    metric.update(IMAGE, OTHER, torch.ones(5, dtype=torch.int64))
    values = metric.compute()
    assert set(values.values()) == {"no healthy slice in the test set"}
    assert len(values) == (3 if lpips else 2)


def test_the_mse_is_computed_in_double_precision():
    one, other = IMAGE.numpy(), OTHER.numpy()
    expected = math.fsum(
        (a - b) ** 2 for a, b in zip(one.ravel().tolist(), other.ravel().tolist(), strict=True)
    )
    assert mse(one, other) == pytest.approx(expected / one.size, rel=1e-12)
