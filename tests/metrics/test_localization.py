"""AUPRC, Dice and thresholds over pooled pixels, by lesion size."""

import math

import numpy as np
import pytest
import reference
from sklearn.metrics import average_precision_score

from autoddpm.metrics.counts import counts_at, every_score, histograms
from autoddpm.metrics.localization import (
    GRID,
    Localization,
    dice,
    healthy_threshold,
    localization,
    pooled_dice,
    precision_recall,
    slice_dice,
)

RNG = np.random.default_rng(0)
LESION = RNG.random(200) < 0.2
SCORES = {
    "all different": RNG.random(200).astype(np.float32),
    "informative": (RNG.random(200) + LESION).astype(np.float32) / 2,
    "ties": RNG.integers(0, 6, 200).astype(np.float32) / 5,
    "all equal": np.full(200, 0.3, dtype=np.float32),
    "perfect": LESION.astype(np.float32),
    "inverted": 1 - LESION.astype(np.float32),
    "above one": 100 * RNG.random(200).astype(np.float32),
}
every_kind = pytest.mark.parametrize("scores", SCORES.values(), ids=SCORES.keys())


def exact(scores: np.ndarray, lesion: np.ndarray) -> Localization:
    return Localization(*(value[0] for value in localization(every_score(scores, lesion))))


def grid_dice(scores: np.ndarray, lesion: np.ndarray) -> float:
    counts = counts_at(scores[None], lesion[None], GRID, "right")
    return pooled_dice(counts, np.ones((1, 1))).max()


@every_kind
def test_auprc_is_scikit_learns_average_precision(scores):
    assert exact(scores, LESION).auprc == pytest.approx(
        average_precision_score(LESION, scores), abs=1e-12
    )


@every_kind
def test_max_dice_is_the_best_and_its_threshold_gives_it(scores):
    _, best, threshold = exact(scores, LESION)
    assert best == pytest.approx(reference.max_dice(scores, LESION), abs=1e-12)
    assert reference.dice(scores >= np.float32(threshold), LESION) == pytest.approx(best, abs=1e-12)


@every_kind
def test_grid_dice_is_the_best_of_a_hundred_and_one(scores):
    assert grid_dice(scores, LESION) == pytest.approx(
        reference.grid_dice(scores, LESION), abs=1e-12
    )
    assert grid_dice(scores, LESION.astype(np.uint8)) == grid_dice(scores, LESION)
    assert grid_dice(scores, LESION) <= exact(scores, LESION).max_dice + 1e-12


def test_the_grid_goes_from_zero_to_one_and_flags_what_is_above():
    scores, lesion = (
        np.array([0.0, 0.005, 0.5, 0.995, 1.0]),
        np.array([False, True, True, True, True]),
    )
    assert grid_dice(scores, lesion) == 1.0
    assert grid_dice(np.array([0.995, 0.993]), np.array([True, False])) == pytest.approx(2 / 3)
    assert grid_dice(np.array([2.0, 1.0]), np.array([True, False])) == 1.0


def test_dice_is_the_share_of_both_in_each():
    assert dice(SCORES["ties"] > 0.5, LESION) == pytest.approx(
        reference.dice(SCORES["ties"] > 0.5, LESION)
    )
    assert dice(LESION, LESION) == 1
    assert dice(~LESION, LESION) == 0
    assert dice(np.zeros(200, bool), LESION) == 0


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_map_with_nan_or_infinity_has_no_metric(bad):
    scores = np.append(SCORES["ties"][1:], bad)
    with pytest.raises(ValueError, match="NaN or infinity"):
        every_score(scores, LESION)
    with pytest.raises(ValueError, match="no lesion pixel"):
        every_score(SCORES["ties"], np.zeros_like(LESION))
    with pytest.raises(ValueError, match="NaN or infinity"):
        healthy_threshold(scores, 0.05)


@every_kind
@pytest.mark.parametrize("rate", [0.0, 0.05, 0.29, 0.57, 1.0])
def test_a_healthy_threshold_is_the_smallest_within_the_rate(scores, rate):
    for values in (scores, scores[:100], scores[:7], scores[:1]):
        threshold = healthy_threshold(values, rate)
        assert threshold in values
        assert np.mean(values > threshold) <= rate
        smaller = values[values < threshold]
        assert not len(smaller) or np.mean(values > smaller.max()) > rate


def test_a_threshold_cannot_be_calibrated_on_nothing():
    with pytest.raises(ValueError, match="cannot calibrate"):
        healthy_threshold(np.zeros((0, 4, 4)), 0.05)


def test_the_curve_falls_at_once_if_scores_are_equal():
    maps, lesion = np.zeros((1, 10, 10)), np.zeros((1, 10, 10), bool)
    maps[0, 0, :5] = 1
    lesion[0, :2, :5] = True
    recall, precision = precision_recall(histograms(maps, lesion))
    assert recall.tolist() == [0.5, 0.5, 1.0]
    assert precision.tolist() == [1.0, 0.1, 0.1]


# ---- Dice under weights

WEIGHTS = np.array([[1.0, 1, 1, 1, 1], [0, 3, 1, 0, 1], [2, 0, 0, 3, 0]])


def masks() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(10)
    flagged, lesion = rng.random((2, 5, 9, 9)) < [[[[0.3]]], [[[0.2]]]]
    return flagged, lesion


def test_dice_is_that_of_the_drawn_slices_put_together():
    flagged, lesion = masks()
    lesion[0] = False
    counts = counts_at(flagged * 1.0, lesion, np.ones(1))
    for row, value in zip(WEIGHTS.astype(int), pooled_dice(counts, WEIGHTS)[:, 0], strict=True):
        drawn = np.repeat(np.arange(5), row)
        assert value == pytest.approx(reference.dice(flagged[drawn], lesion[drawn]), abs=1e-12)


def test_dice_is_undefined_without_lesion_pixels():
    flagged, lesion = masks()
    lesion[0] = False
    counts = counts_at(flagged * 1.0, lesion, np.ones(1))
    samples = pooled_dice(counts, np.array([[5.0, 0, 0, 0, 0], [4, 1, 0, 0, 0]]))[:, 0]
    assert np.isnan(samples).tolist() == [True, False]


def test_each_slice_has_its_own_dice_and_none_without_lesion():
    flagged, lesion = masks()
    counts = counts_at(flagged * 1.0, lesion, np.ones(1))
    assert slice_dice(counts)[:, 0] == pytest.approx(
        [reference.dice(*pair) for pair in zip(flagged, lesion, strict=True)]
    )
    lesion[3] = False
    with pytest.raises(ValueError, match="no lesion pixel"):
        slice_dice(counts_at(flagged * 1.0, lesion, np.ones(1)))
