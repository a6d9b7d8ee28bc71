"""Window, pad, resize: laws, an independent oracle, and the real slices."""

import numpy as np
import pytest
from conftest import REAL_DATA
from PIL import Image

from autoddpm.data.preprocess import (
    is_windowed,
    pad_to_square,
    preprocess,
    resize_image,
    resize_lesion,
    window98,
)


def scan(shape=(60, 50), seed=0) -> np.ndarray:
    """Something like a raw slice: positive, with a long tail."""
    return np.random.default_rng(seed).gamma(2.0, 100.0, shape).astype(np.float32)


def test_the_window_divides_by_the_98th_percentile_and_clips():
    image = scan()
    windowed = window98(image)
    np.testing.assert_allclose(
        windowed, np.minimum(image / np.sort(image.ravel())[int(0.98 * 2999)], 1), rtol=2e-3
    )
    assert 0.015 < np.mean(windowed == 1) < 0.025
    assert windowed.dtype == np.float32


def test_windowing_twice_is_windowing_once():
    once = window98(scan())
    assert np.array_equal(window98(once), once)


def test_a_slice_clipped_and_then_cropped_keeps_its_values():
    once = np.where(
        np.arange(50) < 40, window98(scan()), 0
    )  # an emptier border: its 98th percentile is below 1
    once[once == 1] = np.where(np.arange(np.sum(once == 1)) % 3, 0.5, 1)
    assert np.percentile(once, 98) < 1
    assert is_windowed(once)
    np.testing.assert_array_equal(window98(once), once.astype(np.float32))


def test_a_raw_slice_is_not_taken_for_windowed():
    image = np.clip(scan((200, 200)) / 10, 0, 254).astype(np.uint8)
    assert not is_windowed(image)
    assert not is_windowed(np.arange(256).reshape(16, 16) // 4)  # of few grey levels
    assert window98(image).max() == 1
    assert np.mean(window98(image) == 1) > 0.01


@pytest.mark.skipif(not (REAL_DATA / "ixi").is_dir(), reason=f"no ixi in {REAL_DATA}")
def test_the_released_windowed_slices_stay_as_they_are():
    paths = sorted((REAL_DATA / "ixi" / "slices").glob("*.png"))
    assert len(paths) > 100
    for path in paths:
        image = np.asarray(Image.open(path))
        np.testing.assert_array_equal(
            window98(image), image.astype(np.float32) / np.float32(255), err_msg=str(path)
        )


def test_an_almost_empty_and_a_centred_slice_are_refused():
    dot = np.zeros((20, 20))
    dot[0, 0] = 1
    with pytest.raises(ValueError, match="98 % of its pixels are not above 0"):
        window98(dot)
    with pytest.raises(ValueError, match="far below 0"):
        window98(scan() - 200)


def test_padding_centres_and_sends_an_odd_pixel_down_or_right():
    padded = pad_to_square(np.ones((2, 5)), 7)
    assert padded.shape == (5, 5)
    assert (padded[1:3] == 1).all()
    assert (padded[[0, 3, 4]] == 7).all()
    assert (pad_to_square(np.ones((5, 2)), 7)[:, 1:3] == 1).all()


def test_the_resize_is_antialiased_bilinear():
    image = window98(scan((60, 60)))
    # halving with a triangle of width 4: weights 1 3 3 1 over 8, renormalised at the border
    weights = np.array([1, 3, 3, 1]) / 8
    expected = sum(
        weights[i] * weights[j] * image[9 + i : 49 + i : 2, 9 + j : 49 + j : 2]
        for i in range(4)
        for j in range(4)
    )
    np.testing.assert_allclose(resize_image(image, 30)[5:25, 5:25], expected, atol=1e-5)


def test_a_pixel_is_lesion_from_one_half_on():
    lesion = np.zeros((32, 32), bool)
    lesion[:, :16] = True
    assert np.array_equal(resize_lesion(lesion, 16), np.arange(16)[None].repeat(16, 0) < 8)
    column = np.zeros((32, 32), bool)
    column[:, 8:10] = True  # weights 3 + 3 over 8 for one output pixel, 1 over 8 for its neighbours
    assert np.flatnonzero(resize_lesion(column, 16)[5]).tolist() == [4]
    column[:, 9:11] = True  # 3 columns: 7/8 and 4/8
    assert np.flatnonzero(resize_lesion(column, 16)[5]).tolist() == [4, 5]


def test_resizing_keeps_a_large_lesion_s_area_and_drops_a_dot():
    yy, xx = np.mgrid[:233, :233]
    disc = (yy - 100) ** 2 + (xx - 130) ** 2 < 30**2
    assert resize_lesion(disc, 128).sum() == pytest.approx(disc.sum() * (128 / 233) ** 2, rel=0.03)
    dot = np.zeros((233, 233), bool)
    dot[100, 100] = True
    assert not resize_lesion(dot, 128).any()


def test_the_order_is_window_then_padding_then_resize():
    image = scan((60, 31)) + 300
    prepared = preprocess(image, None, 32)
    windowed = np.minimum(image / np.percentile(image, 98), 1)
    padded = np.full((60, 60), windowed.min(), np.float32)
    padded[:, 14:45] = windowed
    np.testing.assert_allclose(prepared.image, resize_image(padded, 32), atol=1e-6)
    assert prepared.image[0, 0] == pytest.approx(windowed.min())
    assert not prepared.lesion.any()
    assert prepared.lesion_pixels_full == 0


def test_the_lesion_is_moved_as_its_image_is():
    image = np.full((61, 30), 10.0)
    image[12:31, 3:20] = 200.0
    prepared = preprocess(image, image > 100, 32)
    assert prepared.lesion_pixels_full == 19 * 17
    assert np.array_equal(prepared.lesion, prepared.image >= (0.05 + 1) / 2)
    assert prepared.lesion.any()
