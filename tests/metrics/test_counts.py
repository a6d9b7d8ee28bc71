"""Counts at thresholds: exact, and in few bins that make many resamples cheap."""

import math

import numpy as np
import pytest

from autoddpm.metrics import counts as counting
from autoddpm.metrics.counts import (
    FLAGGED_STEP,
    RECALL_BINS,
    counts_at,
    every_score,
    histograms,
)
from autoddpm.metrics.localization import RESAMPLES_AT_ONCE, localization, pooled_counts
from autoddpm.metrics.statistics import subject_weights

SLICES, SIDE = 8, 96


def exact(maps: np.ndarray, lesion: np.ndarray) -> tuple[float, float]:
    found = localization(every_score(maps, lesion))
    return found.auprc[0], found.max_dice[0]


def populations() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Maps (8, 96, 96) with their lesions, of every kind that might strain a histogram."""
    rng = np.random.default_rng(1)
    shape = (SLICES, SIDE, SIDE)
    dense, rare = rng.random(shape) < 0.3, rng.random(shape) < 2e-4
    noise = rng.random(shape)
    weak = noise + 0.5 * dense * rng.random(shape)
    one_slice_on_top = weak.copy()
    one_slice_on_top[0] += 10 + 10 * noise[0]
    block = np.array(
        [1] * 9 + [0] * 40 + [1]
    )  # in each bin nine lesion pixels, many others, one lesion pixel
    in_blocks = np.resize(block, noise.size).astype(bool).reshape(shape)
    falling = np.linspace(1, 0, noise.size).reshape(shape)
    maps = {
        "a weak detector": (weak, dense),
        "a good detector": (noise + dense, dense),
        "chance": (noise, dense),
        "rare lesions": (noise + 0.7 * rare, rare),
        "almost all lesion": (weak, ~rare),
        "uneven ties": (np.round(3000 * weak**4), dense),
        "all equal": (np.full(shape, 0.3), dense),
        "mostly zero": (np.where(noise < 0.9, 0, weak), dense),
        "six orders of magnitude": (10 ** (6 * weak / weak.max() - 6), dense),
        "six orders of magnitude, rare lesions": (
            10 ** (6 * np.minimum(noise + 0.3 * rare, 1) - 6),
            rare,
        ),
        "one slice above all": (one_slice_on_top, dense),
        "lesions in blocks": (falling, in_blocks),
    }
    return {name: (scores.astype(np.float32), lesion) for name, (scores, lesion) in maps.items()}


POPULATIONS = populations()
every_population = pytest.mark.parametrize(
    ("maps", "lesion"), POPULATIONS.values(), ids=POPULATIONS.keys()
)


@every_population
def test_auprc_and_dice_of_histograms_keep_their_bounds(maps, lesion):
    average_precision, dice = exact(maps, lesion)
    (binned,), (binned_dice,), _ = localization(histograms(maps, lesion))
    assert average_precision / (1 + FLAGGED_STEP) <= binned + 1e-12
    assert binned <= average_precision + FLAGGED_STEP
    assert dice / (1 + FLAGGED_STEP) - 1e-12 <= binned_dice <= dice + 1e-12
    assert FLAGGED_STEP <= 1e-3


@every_population
def test_a_resample_is_that_of_the_drawn_slices_put_together(maps, lesion):
    subjects = [f"subject {i // 2}" for i in range(SLICES)]
    weights = subject_weights(subjects, np.ones(SLICES, dtype=bool), resamples=12)
    assert (weights[:, 0] == 0).any()
    both = localization(histograms(maps, lesion), weights)[:2]
    for row, *values in zip(weights.astype(int), *both, strict=True):
        drawn = np.repeat(np.arange(SLICES), row)
        assert values == pytest.approx(exact(maps[drawn], lesion[drawn]), abs=1e-3)


@every_population
def test_each_slice_is_counted_at_each_threshold(maps, lesion):
    counts = histograms(maps, lesion)
    assert (np.diff(counts.threshold) < 0).all()
    assert counts.threshold[-1] == maps[lesion].min()
    assert np.array_equal(counts.hits[:, -1], lesion.sum((1, 2)))
    for column in range(0, len(counts.threshold), max(1, len(counts.threshold) // 20)):
        flagged = maps >= counts.threshold[column]
        assert np.array_equal(counts.flagged[:, column], flagged.sum((1, 2)))
        assert np.array_equal(counts.hits[:, column], (flagged & lesion).sum((1, 2)))


@every_population
def test_the_bins_are_few_and_small(maps, lesion):
    counts = histograms(maps, lesion)
    assert (
        len(counts.threshold)
        <= (1 + math.log(maps.size * FLAGGED_STEP)) / FLAGGED_STEP + RECALL_BINS
    )
    assert counts.hits.dtype == counts.flagged.dtype == np.uint16


@every_population
def test_within_a_bin_flagged_pixels_and_recall_grow_little(maps, lesion):
    every = every_score(maps, lesion)
    every = every._replace(hits=every.hits[0].astype(int), flagged=every.flagged[0].astype(int))
    at_lesions = np.diff(every.hits, prepend=0) > 0
    bins = np.searchsorted(-histograms(maps, lesion).threshold, -every.threshold[at_lesions])
    first = np.diff(bins, prepend=-1) > 0
    last = np.append(first[1:], True)
    hits, flagged = every.hits[at_lesions], every.flagged[at_lesions]
    assert (flagged[last] <= flagged[first] * (1 + FLAGGED_STEP)).all()
    assert (hits[last] - hits[first] <= every.positives[0] / RECALL_BINS).all()


def test_few_lesion_pixels_give_exact_values_in_each_resample():
    rng = np.random.default_rng(2)
    lesion = np.zeros((6, 64, 64), dtype=bool)
    lesion[:, 10:25, 10:30] = True
    maps = (rng.random(lesion.shape) + 0.3 * lesion).astype(np.float32)
    maps[0] += 2
    assert lesion.sum() <= RECALL_BINS
    counts = histograms(maps, lesion)
    assert np.array_equal(counts.threshold, np.unique(maps[lesion])[::-1])
    weights = rng.integers(0, 3, (20, 6)).astype(float)
    for row, *values in zip(weights.astype(int), *localization(counts, weights)[:2], strict=True):
        drawn = np.repeat(np.arange(6), row)
        assert values == pytest.approx(exact(maps[drawn], lesion[drawn]), abs=1e-12)


def test_counts_of_slices_beyond_65535_pixels_do_not_overflow():
    lesion = np.ones((1, 256, 257), dtype=bool)
    counts = histograms(np.arange(lesion.size, dtype=np.float32).reshape(lesion.shape), lesion)
    assert counts.hits[0, -1] == counts.flagged[0, -1] == lesion.size


def test_a_resample_does_not_depend_on_those_beside_it():
    maps, lesion = POPULATIONS["mostly zero"]
    counts = histograms(maps, lesion)
    weights = (
        np.random.default_rng(3).integers(0, 3, (2 * RESAMPLES_AT_ONCE + 3, SLICES)).astype(float)
    )
    together = localization(counts, weights)
    for part in (slice(0, 1), slice(RESAMPLES_AT_ONCE - 1, RESAMPLES_AT_ONCE + 2), slice(-1, None)):
        for whole, alone in zip(together, localization(counts, weights[part]), strict=True):
            assert len(whole) == len(weights)
            assert whole[part] == pytest.approx(alone, abs=1e-12)


def test_a_resample_without_lesion_pixels_is_undefined():
    maps, lesion = (array[:3].copy() for array in POPULATIONS["a good detector"])
    lesion[0] = False
    maps[0] += 5
    weights = np.array([[3.0, 0, 0], [0, 1, 2], [2, 1, 0]])
    values = localization(histograms(maps, lesion), weights)[:2]
    for samples in values:
        assert np.isnan(samples).tolist() == [True, False, False]


def test_histograms_refuse_what_has_no_auprc():
    maps, lesion = POPULATIONS["chance"]
    with pytest.raises(ValueError, match="no lesion pixel"):
        histograms(maps, np.zeros_like(lesion))
    spoilt = maps.copy()
    spoilt[3, 5, 5] = math.nan
    with pytest.raises(ValueError, match="an anomaly map holds NaN"):
        histograms(spoilt, lesion)
    with pytest.raises(ValueError, match="weights of 7 slices do not fit counts of 8"):
        localization(histograms(maps, lesion), np.ones((4, 7)))


# ---- exact counts


@pytest.mark.parametrize("at_once", [7, 2**22])
def test_exact_counts_are_those_at_each_lesion_score(at_once, monkeypatch):
    monkeypatch.setattr(counting, "SORTED_AT_ONCE", at_once)
    rng = np.random.default_rng(21)
    lesion = rng.random(200) < 0.2
    for scores in (rng.random(200), rng.integers(0, 6, 200) / 5, np.full(200, 0.3)):
        counts = every_score(scores, lesion)
        assert counts.threshold.tolist() == sorted(set(scores[lesion].tolist()), reverse=True)
        assert counts.positives.tolist() == [lesion.sum()]
        at_least = scores >= counts.threshold[:, None]
        assert counts.flagged[0].tolist() == at_least.sum(1).tolist()
        assert counts.hits[0].tolist() == (at_least & lesion).sum(1).tolist()
        shaped = every_score(scores.reshape(2, 10, 10), lesion.reshape(2, 10, 10))
        assert all(map(np.array_equal, counts, shaped))


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_volume_is_counted_as_the_slice_of_its_pixels(side):
    rng = np.random.default_rng(22)
    maps, lesion = rng.integers(0, 9, (3, 4, 5, 6)) / 8, rng.random((3, 4, 5, 6)) < 0.2
    thresholds = np.arange(9) / 8
    for counts in (
        counts_at(maps, lesion, thresholds, side),
        counts_at(maps.reshape(3, 20, 6), lesion.reshape(3, 20, 6), thresholds, side),
    ):
        for n, threshold in enumerate(thresholds):
            flagged = maps >= threshold if side == "left" else maps > threshold
            assert counts.flagged[:, n].tolist() == flagged.sum((1, 2, 3)).tolist()
            assert counts.hits[:, n].tolist() == (flagged & lesion).sum((1, 2, 3)).tolist()
        assert counts.positives.tolist() == lesion.sum((1, 2, 3)).tolist()


def test_only_resamples_that_differ_from_the_data_are_binned():
    maps, lesion = POPULATIONS["a weak detector"]
    ones = np.ones((3, SLICES))
    counts, weights = pooled_counts(maps, lesion, ones * [[1], [2], [1]])
    assert len(counts.hits) == 1
    assert weights.tolist() == [[1], [2], [1]]
    ones[1, 4] = 2
    counts, weights = pooled_counts(maps, lesion, ones)
    assert len(counts.hits) == SLICES
    assert weights is ones
