"""From image and reconstruction to a map: Eq. (9) and its parts."""

import inspect

import numpy as np
import pytest
import reference
import torch
from scipy import ndimage
from skimage.exposure import equalize_adapthist
from skimage.metrics import structural_similarity
from tiny import images
from tiny import one_thread as one_thread

from autoddpm.detectors import anomaly_map
from autoddpm.detectors.anomaly_map import (
    SSIM_WIDTHS,
    brighter_perceptual,
    brighter_product,
    brighter_residual,
    brighter_ssim,
    clahe_residual,
    closed,
    compare,
    dilated,
    head,
    head_product,
    needs_distance,
    norm95,
    norm95_residual,
    perceptual,
    product,
    residual,
    residual_product,
    smoothed,
    ssim,
)

BRIGHTER = {brighter_residual: residual, brighter_perceptual: perceptual, brighter_product: product}
WITH_DISTANCE = [
    perceptual,
    product,
    residual_product,
    head_product,
    brighter_perceptual,
    brighter_product,
]
MAPS = [
    residual,
    clahe_residual,
    norm95_residual,
    ssim,
    brighter_residual,
    brighter_ssim,
    *WITH_DISTANCE,
]
IMAGE, RECONSTRUCTION = images(3), images(3, seed=1)


def squared(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return (a - b).square() + 0.1 * a  # not symmetric, to see the order of its arguments


def test_all_maps_of_the_file_are_tested_here():
    forms = (["image", "reconstruction"], ["image", "reconstruction", "distance"])
    functions = [function for _, function in inspect.getmembers(anomaly_map, inspect.isfunction)]
    maps = [
        function for function in functions if list(inspect.signature(function).parameters) in forms
    ]
    assert {one.__name__ for one in maps} - {"brighter"} == {one.__name__ for one in MAPS}


def test_norm95_divides_by_an_image_s_percentile_and_clips_at_1():
    difference = (IMAGE - RECONSTRUCTION).abs() * torch.tensor([0.1, 1.0, 7.0]).view(3, 1, 1, 1)
    scaled = norm95(difference)
    for i in range(3):
        values = difference[i, 0].double().numpy()
        np.testing.assert_allclose(
            scaled[i, 0].numpy(), np.clip(values / np.percentile(values, 95), 0, 1), atol=1e-6
        )
        np.testing.assert_allclose(scaled[i, 0].numpy(), reference.norm95(values), atol=1e-6)
    assert scaled.max() == 1


def test_norm95_ignores_an_image_s_scale_and_the_other_images():
    difference = (IMAGE - RECONSTRUCTION).abs()
    torch.testing.assert_close(norm95(1e-3 * difference), norm95(difference))
    assert torch.equal(
        norm95(torch.cat([difference[:1], 1e6 * difference[1:]]))[:1], norm95(difference[:1])
    )


def test_norm95_of_a_constant_image_is_one_and_of_zeros_zero():
    assert torch.equal(norm95(torch.full((1, 1, 8, 8), 0.3)), torch.ones(1, 1, 8, 8))
    assert torch.equal(norm95(torch.zeros(2, 1, 8, 8)), torch.zeros(2, 1, 8, 8))


def test_norm95_of_a_few_pixels_on_nothing_makes_only_them_one():
    difference = torch.zeros(1, 1, 16, 16)
    difference[..., 3, 4] = 0.2
    assert torch.equal(norm95(difference), (difference > 0).float())


def test_it_is_known_which_maps_ask_for_the_distance():
    assert [each for each in MAPS if needs_distance(each)] == WITH_DISTANCE
    assert needs_distance(lambda image, reconstruction, distance: distance(image, image))


def test_norm95_does_not_hide_a_nan():
    difference = torch.ones(2, 1, 8, 8)
    difference[0] = float("nan")
    assert norm95(difference)[0].isnan().all()
    assert norm95(difference)[1].isfinite().all()


def test_the_plain_maps_are_equation_9_and_its_parts():
    expected = (IMAGE - RECONSTRUCTION).abs()
    distance = squared(RECONSTRUCTION, IMAGE)
    assert torch.equal(residual(IMAGE, RECONSTRUCTION), expected)
    assert torch.equal(norm95_residual(IMAGE, RECONSTRUCTION), norm95(expected))
    assert torch.equal(perceptual(IMAGE, RECONSTRUCTION, squared), distance)
    equation_9 = norm95(expected) * distance
    assert torch.equal(product(IMAGE, RECONSTRUCTION, squared), equation_9)
    assert torch.equal(residual_product(IMAGE, RECONSTRUCTION, squared), expected * equation_9)


def test_clahe_subtracts_slices_equalised_by_scikit_image():
    difference = clahe_residual(IMAGE, RECONSTRUCTION)
    for i in range(3):
        one, other = (equalize_adapthist(x[i, 0].double().numpy()) for x in (IMAGE, RECONSTRUCTION))
        np.testing.assert_allclose(difference[i, 0].numpy(), np.abs(one - other), atol=1e-6)


@pytest.mark.parametrize(("signed", "plain"), BRIGHTER.items(), ids=lambda one: one.__name__)
def test_a_signed_map_is_the_plain_map_of_brightened_pixels(signed, plain):
    found, expected = (compare(one, IMAGE, RECONSTRUCTION, squared) for one in (signed, plain))
    brighter = RECONSTRUCTION > IMAGE
    torch.testing.assert_close(found[brighter], expected[brighter])
    assert (found[~brighter] == 0).all()
    assert 0 < brighter.float().mean() < 1


def test_the_ssim_map_is_the_mean_of_scikit_images_maps():
    image, reconstruction = images(2, side=48), images(2, side=48, seed=1)
    found = ssim(image, reconstruction)
    for i in range(2):
        pair = (image[i, 0].double().numpy(), reconstruction[i, 0].double().numpy())
        settings = {
            "data_range": 1,
            "gaussian_weights": True,
            "use_sample_covariance": False,
            "full": True,
        }
        maps = [structural_similarity(*pair, sigma=width, **settings)[1] for width in SSIM_WIDTHS]
        inside = slice(10, -10)
        expected = np.clip(1 - np.mean(maps, axis=0), 0, None)
        np.testing.assert_allclose(
            found[i, 0].numpy()[inside, inside], expected[inside, inside], atol=1e-4
        )
    assert torch.equal(
        brighter_ssim(image, reconstruction),
        found * brighter_residual(image, reconstruction),
    )


def noisy_head() -> torch.Tensor:
    """A disc with a dark hole in a noisy background, (1, 1, 64, 64)."""
    y, x = torch.meshgrid(torch.arange(64.0) - 32, torch.arange(64.0) - 32, indexing="ij")
    disc = ((x**2 + y**2 < 22**2) & ~((x.abs() < 3) & (y.abs() < 6))).float() * 0.7
    noise = 0.06 * torch.randn(2, 64, 64, generator=torch.Generator().manual_seed(0))
    return ((disc + noise[0]).square() + noise[1].square()).sqrt()[None, None].clamp(max=1)


def test_the_head_is_found_in_noise_with_its_dark_hole():
    found, y = head(noisy_head())[0, 0], torch.arange(64.0) - 32
    distance = (y[:, None] ** 2 + y**2).sqrt()  # the head's radius is 22
    assert found[distance < 20].all()
    assert not found[distance > 26].any()


def test_inside_the_head_equation_9_does_not_see_the_background():
    image = noisy_head()
    reconstruction = (image + 0.1 * (image > 0.3)).clamp(max=1)
    changed = torch.where(head(image), reconstruction, torch.rand(64, 64))
    one, other = (
        head_product(image, each, lambda a, b: torch.ones_like(a))
        for each in (reconstruction, changed)
    )
    assert torch.equal(one, other)
    assert (one[~head(image)] == 0).all()
    assert one.max() == 1
    assert (
        head_product(torch.zeros(1, 1, 32, 32), torch.ones(1, 1, 32, 32), squared).max() == 0
    )  # no head


@pytest.mark.parametrize("one", MAPS, ids=lambda one: one.__name__)
def test_every_map_looks_at_each_slice_alone(one):
    together = compare(one, IMAGE, RECONSTRUCTION, squared)
    assert together.shape == IMAGE.shape
    assert together.dtype == torch.float32
    assert together.min() >= 0
    for i in (2, 0):
        assert torch.equal(
            together[i : i + 1], compare(one, IMAGE[i : i + 1], RECONSTRUCTION[i : i + 1], squared)
        )


@pytest.mark.parametrize("one", MAPS, ids=lambda one: one.__name__)
def test_every_map_of_equal_constant_images_is_zero(one):
    image = torch.tensor([0.0, 0.4, 1.0]).view(3, 1, 1, 1).expand(3, 1, 16, 16).contiguous()
    found = compare(one, image, image.clone(), lambda a, b: (a - b).abs())
    torch.testing.assert_close(found, torch.zeros_like(image), atol=1e-6, rtol=0)


def test_dilation_and_closing_are_those_of_scipy():
    for plane, grown, filled in zip(IMAGE, dilated(IMAGE, 5), closed(IMAGE, 5), strict=True):
        grey = plane[0].numpy()
        np.testing.assert_array_equal(grown[0], ndimage.grey_dilation(grey, 5, mode="nearest"))
        np.testing.assert_array_equal(filled[0], ndimage.grey_closing(grey, 5, mode="nearest"))


def test_smoothing_is_scipy_s_gaussian_filter_in_any_dimension():
    for values in (IMAGE, torch.rand(1, 1, 6, 7, 8)):
        expected = ndimage.gaussian_filter(values[0, 0].numpy(), 2.0, mode="nearest")
        np.testing.assert_allclose(smoothed(values, 2.0)[0, 0], expected, atol=1e-6)
