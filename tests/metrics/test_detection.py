"""Whole slices and single lesions, against other ways to count."""

import math

import numpy as np
import pytest
from scipy import ndimage, stats
from sklearn.metrics import roc_auc_score

from autoddpm.metrics import detection
from autoddpm.metrics.detection import (
    MOST_FALSE_POSITIVES,
    Detections,
    auroc,
    detections,
    sensitivity,
    slice_scores,
)


@pytest.mark.parametrize("ties", [False, True])
def test_auroc_is_scikit_learns_under_any_weights(ties):
    rng = np.random.default_rng(11)
    is_lesion = rng.random(40) < 0.4
    scores = rng.random(40) + 0.3 * is_lesion
    scores = np.round(5 * scores) if ties else scores
    weights = np.vstack([np.ones(40), rng.integers(0, 4, (20, 40))])
    values = auroc(scores, is_lesion, weights)
    for row, value in zip(weights, values, strict=True):
        assert value == pytest.approx(
            roc_auc_score(is_lesion, scores, sample_weight=row), abs=1e-12
        )
    u = stats.mannwhitneyu(scores[is_lesion], scores[~is_lesion]).statistic
    assert values[0] == pytest.approx(u / is_lesion.sum() / (~is_lesion).sum(), abs=1e-12)


def test_auroc_is_undefined_without_one_kind_of_slice():
    is_lesion = np.array([False, False, True, True])
    weights = np.array([[1.0, 1, 0, 0], [0, 0, 2, 0], [1, 0, 0, 1]])
    assert np.isnan(auroc(np.arange(4.0), is_lesion, weights)).tolist() == [True, True, False]
    assert np.isnan(auroc(np.arange(4.0), np.ones(4, dtype=bool), np.ones((1, 4)))).all()
    with pytest.raises(ValueError, match="NaN"):
        auroc(np.array([0.0, 1, math.nan, 2]), is_lesion, weights)


def test_a_slice_s_score_is_the_mean_of_its_highest_hundredth():
    maps = np.random.default_rng(12).random((3, 20, 15)).astype(np.float32)
    assert slice_scores(maps) == pytest.approx(
        [np.sort(one.ravel())[-3:].mean() for one in maps], abs=1e-7
    )
    assert slice_scores(maps[:, :5, :5]) == pytest.approx(maps[:, :5, :5].max((1, 2)))
    maps[0, 0, 0] = math.inf
    with pytest.raises(ValueError, match="infinity"):
        slice_scores(maps)


# ---- lesions found at a number of false positives


def regions(mask: np.ndarray) -> list[set[tuple[int, int]]]:
    """The 8-connected components of one slice, by flooding."""
    left = {tuple(map(int, pixel)) for pixel in np.argwhere(mask)}
    found = []
    while left:
        region, edge = set(), {left.pop()}
        while edge:
            region |= edge
            edge = {(y + i, x + j) for y, x in edge for i in (-1, 0, 1) for j in (-1, 0, 1)} & left
            left -= edge
        found.append(region)
    return found


@pytest.mark.parametrize("at_once", [3, 256])
def test_lesions_and_false_positives_are_those_of_flooding(at_once, monkeypatch):
    monkeypatch.setattr(detection, "SLICES_AT_ONCE", at_once)
    rng = np.random.default_rng(13)
    lesion = ndimage.gaussian_filter(rng.random((4, 20, 20)), (0, 1.5, 1.5)) > 0.57
    maps = (
        ndimage.gaussian_filter(rng.random((4, 20, 20)), (0, 1, 1)).astype(np.float32)
        + 0.1 * lesion
    )
    lesion[2] = False
    counts = detections(maps, lesion)
    assert len(counts.threshold) > 20
    assert counts.lesions.sum() > 4
    for i in range(4):
        truth = regions(lesion[i])
        assert counts.lesions[i] == len(truth)
        for column in range(0, len(counts.threshold), 5):
            flagged = regions(maps[i] >= counts.threshold[column])
            pixels = set().union(*flagged)
            assert counts.found[i, column] == sum(bool(one & pixels) for one in truth)
            assert counts.false_positives[i, column] == sum(
                not any(one & t for t in truth) for one in flagged
            )


@pytest.mark.parametrize("dimensions", [2, 3])
def test_corners_connect_pixels_and_slices_share_no_region(dimensions):
    maps = np.zeros((2, *[10] * dimensions), np.float32)
    lesion = np.zeros(maps.shape, bool)

    def at(n: int, *place: int) -> tuple[int, ...]:
        return (n, *place, *[place[-1]] * (dimensions - 2))

    for pixel in (at(0, 2, 2), at(0, 3, 3), at(1, 3, 3), at(1, 3, 5)):
        maps[pixel] = 1
    lesion[at(0, 3, 3)] = lesion[at(1, 7, 7)] = True
    counts = detections(maps, lesion)
    assert counts.threshold.tolist() == [1]
    assert counts.lesions.tolist() == [1, 1]
    assert counts.found.tolist() == [[1], [0]]
    assert counts.false_positives.tolist() == [[0], [2]]


def test_the_thresholds_flag_from_a_pixel_to_a_fifth_of_all():
    maps = np.random.default_rng(14).permutation(2500).reshape(1, 50, 50).astype(np.float32)
    smooth = ndimage.gaussian_filter(maps, (0, 8, 8))
    counts = detections(smooth, np.zeros_like(maps, dtype=bool))
    flagged = [(smooth >= threshold).sum() for threshold in counts.threshold]
    assert flagged[0] == 1
    assert flagged[-1] == 500
    assert flagged == sorted(flagged)


def test_maps_of_many_specks_are_not_searched_to_the_end():
    maps = np.random.default_rng(15).random((2, 64, 64)).astype(np.float32)
    counts = detections(maps, np.zeros_like(maps, dtype=bool))
    medians = np.median(counts.false_positives, axis=0)
    assert medians[-1] > 4 * MOST_FALSE_POSITIVES
    assert (medians[:-1] <= 4 * MOST_FALSE_POSITIVES).all()
    assert counts.found.shape == counts.false_positives.shape == (2, len(counts.threshold))


def test_a_map_of_one_value_flags_nothing_and_finds_nothing():
    lesion = np.zeros((2, 8, 8), dtype=bool)
    lesion[:, 2, 2] = True
    counts = detections(np.full((2, 8, 8), 0.3, dtype=np.float32), lesion)
    assert counts.found.shape == (2, 0)
    assert sensitivity(counts, np.ones((1, 2)), 1).tolist() == [0]


def test_sensitivity_stops_at_too_many_false_positives():
    counts = Detections(
        threshold=np.array([0.9, 0.8, 0.7, 0.6]),
        lesions=np.array([2, 1]),
        found=np.array([[0, 1, 1, 2], [0, 0, 1, 1]]),
        false_positives=np.array([[0, 1, 4, 0], [0, 1, 0, 0]]),
    )
    weights = np.array([[1.0, 1], [2, 0], [0, 2], [4, 0]])
    assert sensitivity(counts, weights, 1) == pytest.approx([1 / 3, 1 / 2, 1, 1 / 2])
    assert sensitivity(counts, weights, 2) == pytest.approx([1, 1 / 2, 1, 1 / 2])
    assert sensitivity(counts, weights, 0) == pytest.approx([0, 0, 0, 0])
    assert (
        sensitivity(counts._replace(false_positives=counts.false_positives + 2), weights, 1).max()
        == 0
    )


def test_sensitivity_is_undefined_without_lesions():
    counts = Detections(
        np.array([0.5]), np.array([0, 1]), np.array([[0], [1]]), np.array([[0], [0]])
    )
    assert np.isnan(sensitivity(counts, np.array([[2.0, 0], [0, 2]]), 1)).tolist() == [
        True,
        False,
    ]
    for number in (-1, MOST_FALSE_POSITIVES + 1):
        with pytest.raises(ValueError, match="must be from 0 to"):
            sensitivity(counts, np.ones((1, 2)), number)


def test_a_map_with_nan_has_no_detections():
    maps = np.zeros((1, 4, 4), dtype=np.float32)
    maps[0, 1, 1] = math.nan
    with pytest.raises(ValueError, match="NaN"):
        detections(maps, np.zeros((1, 4, 4), dtype=bool))


def test_lesions_of_a_flat_volume_are_those_of_its_slice():
    rng = np.random.default_rng(17)
    maps = ndimage.gaussian_filter(rng.random((3, 20, 20)), (0, 1, 1)).astype(np.float32)
    lesion = ndimage.gaussian_filter(rng.random((3, 20, 20)), (0, 1.5, 1.5)) > 0.57
    for flat, whole in zip(
        detections(maps[:, None], lesion[:, None]), detections(maps, lesion), strict=True
    ):
        assert np.array_equal(flat, whole)
    assert np.array_equal(slice_scores(maps[:, None]), slice_scores(maps))
