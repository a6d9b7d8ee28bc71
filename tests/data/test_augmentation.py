"""Augmentation: identity, direction, range, and independence of slices."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from autoddpm.data.augmentation import augment

REST = [0.5, 0.5, 0.5, 0.5, 0.5]


def blobs(n: int = 3, side: int = 64) -> torch.Tensor:
    noise = np.random.default_rng(0).random((n, side, side))
    smooth = ndimage.gaussian_filter(noise, (0, 3, 3))
    smooth = (smooth - smooth.min()) / (smooth.max() - smooth.min())
    return torch.from_numpy(smooth).float()[:, None] * disc(side)


def disc(side: int) -> torch.Tensor:
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    return torch.from_numpy((x**2 + y**2 < (0.3 * side) ** 2).astype(np.float32))


def at(**changes: float) -> torch.Tensor:
    names = ["angle", "x", "y", "scale", "mirror"]
    return torch.tensor([[changes.get(name, 0.5) for name in names]])


def centre(image: torch.Tensor) -> tuple[float, float]:
    """(x, y) of the centre of mass."""
    y, x = ndimage.center_of_mass(image[0, 0].numpy())
    return x, y


def test_one_half_everywhere_is_the_identity():
    image = blobs()
    torch.testing.assert_close(augment(image, torch.tensor([REST] * 3)), image, atol=1e-5, rtol=0)


def test_shifts_reach_a_tenth_of_the_width_both_ways():
    image = blobs(1)
    x, y = centre(image)
    for u, pixels in ((0.0, -6.4), (1.0, 6.4), (0.75, 3.2)):
        assert centre(augment(image, at(x=u))) == pytest.approx((x + pixels, y), abs=0.05)
        assert centre(augment(image, at(y=u))) == pytest.approx((x, y + pixels), abs=0.05)


@pytest.mark.parametrize("u", [0.0, 0.25, 1.0])
def test_the_rotation_and_scale_agree_with_scipy(u):
    image = blobs(1)
    angle, scale = np.radians((2 * u - 1) * 10), 0.9 + 0.2 * u
    cos, sin = np.cos(angle) / scale, np.sin(angle) / scale
    matrix = np.array([[cos, -sin], [sin, cos]])  # of (y, x)
    middle = np.full(2, 31.5)
    expected = ndimage.affine_transform(
        image[0, 0].numpy(), matrix, middle - matrix @ middle, order=1
    )
    moved = augment(image, at(angle=u, scale=u))[0, 0].numpy()
    np.testing.assert_allclose(moved, expected, atol=1e-4)


def test_what_moves_in_is_the_minimum_and_the_range_stays():
    image = 0.25 + 0.75 * torch.rand(8, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    moved = augment(image, torch.rand(8, 5, generator=torch.Generator().manual_seed(1)))
    assert moved.max() <= 1
    assert torch.all(moved.amin(dim=(1, 2, 3)) >= image.amin(dim=(1, 2, 3)) - 1e-6)
    shifted = augment(image[:1], at(x=1.0))
    torch.testing.assert_close(shifted[..., 0], image[:1].amin().expand(1, 1, 32))


def test_slices_do_not_influence_each_other():
    image, u = blobs(5), torch.rand(5, 5, generator=torch.Generator().manual_seed(0))
    whole = augment(image, u)
    for i in range(5):
        torch.testing.assert_close(
            augment(image[i : i + 1], u[i : i + 1]), whole[i : i + 1], atol=1e-6, rtol=0
        )


def test_half_of_the_slices_are_mirrored():
    u = torch.tensor([[*REST[:4], n / 2000] for n in range(2000)])
    image = torch.rand(1, 1, 16, 16, generator=torch.Generator().manual_seed(0)).repeat(
        2000, 1, 1, 1
    )
    moved = augment(image, u)
    torch.testing.assert_close(moved[:1000], image[:1000].flip(-1), atol=1e-5, rtol=0)
    torch.testing.assert_close(moved[1000:], image[1000:], atol=1e-5, rtol=0)


def test_mixed_precision_does_not_coarsen_the_grid():
    image, u = blobs(), torch.rand(3, 5, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", torch.bfloat16):
        mixed = augment(image, u)
    torch.testing.assert_close(mixed, augment(image, u))
