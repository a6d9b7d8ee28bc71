"""Slices as older patients and other scanners give them: what changes, by how much, and what does
not."""

import numpy as np
import pytest
import torch
from scipy import ndimage
from tiny import one_thread as one_thread

from autoddpm.data.preprocess import preprocess
from autoddpm.data.shift import (
    AGE_NUMBERS,
    BLUR,
    CUT,
    GAMMA,
    NOISE,
    SCAN_NUMBERS,
    age,
    older,
    rescanned,
    scan,
)
from autoddpm.datasets.phantom.phantoms import phantom_slice

SWITCHES = {name: n for n, name in enumerate(["gamma", "tone", "bias", "blur", "noise", "cut"])}
ZERO = torch.zeros(1, 2, 128, 128)


@pytest.fixture(scope="module")
def heads() -> torch.Tensor:
    """Three phantom heads, (3, 1, 128, 128)."""
    slices = [
        preprocess(phantom_slice("healthy_val", number)[0], None, 128).image for number in range(3)
    ]
    return torch.from_numpy(np.stack(slices))[:, None]


def numbers(switch: str, **values: float) -> torch.Tensor:
    """The uniforms that make one change, of a given amount: (1, SCAN_NUMBERS)."""
    u = torch.full((1, SCAN_NUMBERS), 0.5)
    u[:, :6] = 1.0
    u[:, SWITCHES[switch]] = 0.0
    for place, value in values.items():
        u[:, int(place.removeprefix("u"))] = value
    return u


def white(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_numbers_of_one_change_nothing(heads):
    assert torch.equal(scan(heads, torch.ones(3, SCAN_NUMBERS), white(3, 2, 128, 128))[0], heads)
    torch.testing.assert_close(age(heads, torch.ones(3, AGE_NUMBERS)), heads, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("u", "exponent"), [(0.0, GAMMA[0]), (1.0, GAMMA[1])])
def test_gamma_goes_from_six_tenths_to_sixteen(heads, u, exponent):
    image, _ = scan(heads[:1], numbers("gamma", u6=u), ZERO)
    expected = heads[:1] ** exponent
    expected = (expected / expected.flatten().quantile(0.98)).clamp(0, 1)
    torch.testing.assert_close(image, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("u", [0.0, 0.3, 1.0])
def test_a_tone_curve_never_turns_dark_to_bright(heads, u):
    image, _ = scan(heads[:1], numbers("tone", u7=u), ZERO)
    order = heads[0, 0].flatten().argsort()
    assert (image[0, 0].flatten()[order].diff() >= -1e-6).all()
    assert (image - heads[:1]).abs().max() > 0.03


def test_a_bias_field_is_smooth_and_at_most_half(heads):
    image, _ = scan(heads[:1], numbers("bias", u8=1.0, u9=0.0, u10=1.0), ZERO)
    inside = (heads[0, 0] > 0.1) & (heads[0, 0] < 0.6) & (image[0, 0] < 0.99)
    ratio = (image[0, 0] / heads[0, 0])[inside]
    assert 1.1 < ratio.max() / ratio.min() < 1.5**2.2
    rows, columns = inside.nonzero(as_tuple=True)
    terms = np.stack(
        [np.ones(len(rows)), rows, columns, rows**2, columns**2, rows * columns], axis=1
    ).astype(float)
    logs = ratio.double().log().numpy()
    left = logs - terms @ np.linalg.lstsq(terms, logs, rcond=None)[0]
    assert np.abs(left).max() < 1e-3


@pytest.mark.parametrize("u", [0.0, 1.0])
def test_blur_is_a_gaussian_of_its_width(heads, u):
    image, _ = scan(heads[:1].double(), numbers("blur", u13=u), ZERO.double())
    sigma = BLUR[0] + (BLUR[1] - BLUR[0]) * u
    expected = ndimage.gaussian_filter(
        heads[0, 0].double().numpy(), sigma, mode="nearest", radius=5
    )
    expected = (expected / np.quantile(expected, 0.98)).clip(0, 1)
    np.testing.assert_allclose(image[0, 0].numpy(), expected, atol=3e-3)


@pytest.mark.parametrize("u", [0.0, 1.0])
def test_noise_is_rician_in_the_background_too(heads, u):
    sigma = NOISE[0] * (NOISE[1] / NOISE[0]) ** u
    image, _ = scan(heads[:1], numbers("noise", u16=0.0, u17=u), white(1, 2, 128, 128))
    corner = image[0, 0, :20, :20]
    top = (heads[0, 0] + 1e-9).flatten().quantile(0.98)
    assert corner.mean() == pytest.approx(
        sigma * np.sqrt(np.pi / 2) / float(top), rel=0.1
    )  # of a Rayleigh variable
    assert corner.min() > 0


def test_correlated_noise_keeps_its_strength(heads):
    black = torch.zeros(1, 1, 128, 128)
    black[..., :4, :4] = 1.0
    plain, smooth = (
        scan(black, numbers("noise", u16=u, u17=1.0), white(1, 2, 128, 128))[0] for u in (0.0, 1.0)
    )
    inside = (slice(None), slice(None), slice(20, -20), slice(20, -20))
    ratio = smooth[inside].square().mean().sqrt() / plain[inside].square().mean().sqrt()
    assert float(ratio) == pytest.approx(1, abs=0.25)  # each over its own 98th percentile
    neighbours = np.corrcoef(smooth[inside][..., 1:].flatten(), smooth[inside][..., :-1].flatten())[
        0, 1
    ]
    assert neighbours > 0.3


def test_behind_a_cut_there_is_nothing_and_the_line_is_straight(heads):
    image, seen = scan(heads[:1], numbers("cut", u14=0.125, u15=0.0), ZERO)
    y, x = np.mgrid[:128, :128] - 63.5
    expected = (x + y) / np.sqrt(2) / 63.5 < CUT[0]
    assert (seen[0, 0].numpy() == expected).mean() > 0.99
    assert (image[~seen] == 0).all()
    assert (heads[:1][~seen] > 0.1).any()


@pytest.mark.parametrize(("u18", "filled"), [(0.2, True), (0.8, False)])
def test_behind_a_cut_there_may_be_noise(heads, u18, filled):
    u = numbers("cut", u14=0.125, u15=0.0, u17=1.0, u18=u18)
    u[:, SWITCHES["noise"]] = 0.0
    image, seen = scan(heads[:1], u, white(1, 2, 128, 128))
    assert bool((image[~seen] > 0).any()) == filled


def dark_pixels(image: torch.Tensor, rows: int, columns: int) -> int:
    """Pixels of fluid in the middle of a head."""
    return int((image[..., 64 - rows : 64 + rows, 64 - columns : 64 + columns] < 0.4).sum())


def test_age_widens_the_ventricles_and_leaves_the_skull(heads):
    for head in heads.split(1):
        aged = age(head, torch.tensor([[1.0, 0.0, 0.0, 1.0]]))
        assert dark_pixels(aged, 20, 20) > 1.25 * dark_pixels(head, 20, 20)
        changed = (aged - head).abs()
        assert changed[..., :12, :].max() < 0.15 * changed.max()
        assert changed[..., :12].max() < 0.02


def test_age_widens_the_sulci(heads):
    for head in heads.split(1):
        aged = age(head, torch.tensor([[0.0, 1.0, 1.0, 0.0]]))
        assert dark_pixels(aged, 44, 36) > 1.2 * dark_pixels(head, 44, 36)
        assert aged.min() >= 0
        assert aged.max() <= 1


@pytest.mark.parametrize(
    "u", [[0.0, 0.0, 0.0, 1.0], [0.0, 1.0, 1.0, 0.0]], ids=["ventricles", "sulci"]
)
def test_the_same_numbers_make_one_change_at_any_resolution(u):
    image, u = phantom_slice("healthy_val", 0)[0], torch.tensor([u])
    changes = []
    for side in (128, 256):
        x = torch.from_numpy(preprocess(image, None, side).image)[None, None]
        change = torch.nn.functional.interpolate(
            age(x, u) - x, (128, 128), mode="bilinear", antialias=True
        )
        changes.append(change.flatten())
    assert float(torch.corrcoef(torch.stack(changes))[0, 1]) > 0.95
    assert float(changes[1].norm() / changes[0].norm()) == pytest.approx(1, abs=0.1)


def test_no_slice_depends_on_another(heads):
    generator = torch.Generator().manual_seed(1)
    for _ in range(4):
        u, v = (
            torch.rand(3, SCAN_NUMBERS, generator=generator),
            torch.rand(3, AGE_NUMBERS, generator=generator),
        )
        normals = torch.randn(3, 2, 128, 128, generator=generator)
        together = scan(age(heads, v), u, normals)[0]
        for i in range(3):
            one = slice(i, i + 1)
            alone = scan(age(heads[one], v[one]), u[one], normals[one])[0]
            torch.testing.assert_close(alone, together[one], atol=1e-5, rtol=0)


def test_mixed_precision_changes_nothing(heads):
    generator = torch.Generator().manual_seed(2)
    u, v = (
        torch.rand(3, SCAN_NUMBERS, generator=generator),
        torch.rand(3, AGE_NUMBERS, generator=generator),
    )
    normals = torch.randn(3, 2, 128, 128, generator=generator)
    expected = scan(age(heads, v), u, normals)[0]
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(scan(age(heads, v), u, normals)[0], expected)


def test_a_single_slice_is_a_function_of_its_key():
    image = phantom_slice("healthy_val", 0)[0].astype(float)
    image = image / image.max()
    none = np.zeros(image.shape, bool)
    first, seen = rescanned(older(image, "a"), none, "a")
    assert first.dtype == np.float64
    assert first.shape == seen.shape == image.shape
    assert np.array_equal(first, rescanned(older(image, "a"), none, "a")[0])
    assert not np.array_equal(first, rescanned(older(image, "b"), none, "b")[0])


def test_the_field_of_view_of_a_slice_holds_most_of_its_lesion():
    image = phantom_slice("healthy_val", 0)[0].astype(float)
    lesion = np.zeros(image.shape, bool)
    lesion[:60, 60:140] = True  # at the front, where one cut in four takes much of it
    for number in range(30):
        _, seen = rescanned(image / image.max(), lesion, f"{number}")
        assert not (seen & ~lesion).any()
        assert seen.sum() >= 0.8 * lesion.sum()
