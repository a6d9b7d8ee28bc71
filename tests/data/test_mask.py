"""What a mask's values mean: soft masks, labels, images, inverted ones."""

import io

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from autoddpm.data.mask import covering, mask_of

Y, X = np.mgrid[:128, :128]
LESION = (Y - 50) ** 2 + (X - 70) ** 2 < 97  # of 305 pixels
HEAD = (Y - 64) ** 2 / 58**2 + (X - 64) ** 2 / 48**2 < 1
RNG = np.random.default_rng(0)


def jpeg(quality: int) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(255 * LESION.astype(np.uint8)).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


SOFT = {
    "JPEG 75": lambda: jpeg(75),
    "JPEG 30": lambda: jpeg(30),
    "a blur of 1 pixel": lambda: ndimage.gaussian_filter(255.0 * LESION, 1).astype(np.uint8),
    "a blur, as float": lambda: ndimage.gaussian_filter(LESION.astype(np.float32), 1),
    "splines, below 0": lambda: ndimage.shift(LESION.astype(np.float32), (0.3, 0.2), order=3),
    "resampled twice": lambda: ndimage.zoom(ndimage.zoom(100.0 * LESION, 0.5, order=1), 2, order=1),
}


@pytest.mark.parametrize("how", SOFT)
def test_a_soft_mask_is_cut_at_half_and_its_share_is_said(how: str) -> None:
    values = SOFT[how]()
    assert (values > 0).sum() > 1.3 * LESION.sum()  # what "above 0" would take
    mask = mask_of(values)
    assert abs(int(mask.pixels.sum()) - int(LESION.sum())) <= 0.08 * LESION.sum()
    between = int(((values > 1e-3 * values.max()) & (values < 0.999 * values.max())).sum())
    assert "% of its pixels above 0" in mask.remark
    assert abs(int(mask.remark.split("(")[1].split()[0]) - between) <= 400
    assert "half of it or more" in mask.remark


@pytest.mark.parametrize("value", [1, 255, 0.3, 7])
def test_a_mask_of_two_values_is_as_it_was(value: float) -> None:
    mask = mask_of(value * LESION)
    np.testing.assert_array_equal(mask.pixels, LESION)
    assert mask.remark == ""
    assert not mask_of(0 * LESION).pixels.any()


def test_the_authors_shrunk_masks_are_what_is_above_0() -> None:
    values = ndimage.gaussian_filter(255.0 * LESION, 1).astype(np.uint8)
    mask = mask_of(values, above_0=True)
    np.testing.assert_array_equal(mask.pixels, values > 0)
    assert mask.remark == ""


def probability() -> np.ndarray:
    return np.where(LESION, 0.98, 0.02) + 1e-3 * RNG.random(LESION.shape)


BAD = {
    "{1, 2}": (lambda: 1 + LESION, "holds no 0, its values are 1, 2"),
    "all lesion": (lambda: np.ones((20, 20)), "holds no 0, its values are 1"),
    "a background of 2 %": (probability, "holds no 0"),
    "inverted": (lambda: ~LESION, "covers 100% of the image's border: it is inverted"),
    "inverted, 255": (lambda: 255 * (1 - LESION), "it is inverted"),
    "inverted JPEG": (lambda: 255 - jpeg(75), "it is inverted"),
    "an image": (lambda: HEAD * RNG.integers(50, 255, HEAD.shape), "it looks like an image"),
    "labels 1, 2": (
        lambda: LESION * (1 + (X > 70)),
        "holds several labels, its values are 0, 1, 2",
    ),
    "labels 1, 2, 4": (
        lambda: LESION * np.where(X > 72, 1, np.where(Y > 50, 2, 4)),
        "holds several labels, its values are 0, 1, 2, 4",
    ),
    "labels 85, 170, 255": (
        lambda: LESION * np.where(X > 72, 85, np.where(Y > 50, 170, 255)),
        "holds areas of (85|170), between 0 and its maximum 255",
    ),
    "raters' mean": (lambda: LESION * (1 + (X > 70)) / 2, "holds areas of 0.5"),
    "NaN": (lambda: np.where(LESION, np.nan, 0), "holds NaN, infinite or negative"),
    "infinite": (lambda: np.where(LESION, np.inf, 0), "holds NaN, infinite or negative"),
    "below 0": (lambda: LESION - 1.0 * (X < 3), "holds NaN, infinite or negative"),
}


@pytest.mark.parametrize("what", BAD)
def test_values_that_no_lesion_has_are_refused(what: str) -> None:
    make, words = BAD[what]
    with pytest.raises(ValueError, match=words) as refused:
        mask_of(np.asarray(make(), np.float32))
    assert "save 0 for healthy and one other value" in str(refused.value)


def test_a_volume_s_mask_is_judged_as_a_slice_s() -> None:
    ball = np.sum(np.square(np.mgrid[:24, :24, :24] - 12), axis=0) < 25
    soft = mask_of(ndimage.gaussian_filter(ball.astype(np.float32), 0.8))
    assert abs(int(soft.pixels.sum()) - int(ball.sum())) < 0.1 * ball.sum()
    assert soft.remark
    np.testing.assert_array_equal(mask_of(ball.astype(np.float32)).pixels, ball)
    with pytest.raises(ValueError, match="it is inverted"):
        mask_of(~ball)


def test_a_lesion_of_more_than_half_of_the_head_is_said() -> None:
    image = np.where(HEAD, 0.6, 0.0)
    assert covering(LESION, image) == ""
    assert "the head: is it inverted" in covering(HEAD & ~LESION, image)


def test_a_pixel_of_just_half_of_the_maximum_is_lesion() -> None:
    values = np.zeros((20, 20), np.float32)
    values[5:9, 5:9] = 200
    values[5, 9], values[6, 9] = 100, 99
    pixels = mask_of(values).pixels
    assert (pixels[5, 9], pixels[6, 9], pixels.sum()) == (True, False, 17)
