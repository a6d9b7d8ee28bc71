"""Bootstrap over subjects, histograms of scores, paired differences, and the other statistics of
the protocol."""

import math

import numpy as np
import pytest
import reference
from scipy import ndimage, stats
from sklearn.metrics import roc_auc_score

from autoddpm.metrics import statistics
from autoddpm.metrics.histogram import (
    FLAGGED_STEP,
    RECALL_BINS,
    RESAMPLES_AT_ONCE,
    histograms,
    resampled_localization,
)
from autoddpm.metrics.localization import auprc, max_dice, threshold_counts
from autoddpm.metrics.statistics import (
    MOST_FALSE_POSITIVES,
    Detections,
    detections,
    difference,
    holm,
    interval,
    pixel_counts,
    resampled_auroc,
    resampled_dice,
    resampled_mean,
    resampled_sensitivity,
    seed_spread,
    slice_dice,
    slice_scores,
    subject_weights,
)

SLICES, SIDE = 8, 96


def exact(maps: np.ndarray, lesion: np.ndarray) -> tuple[float, float]:
    counts = threshold_counts(maps, lesion)
    return auprc(counts), max_dice(counts)[0]


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
        "a detector turned round": (noise - dense + 1, dense),
        "chance": (noise, dense),
        "rare lesions": (noise + 0.7 * rare, rare),
        "almost all lesion": (weak, ~rare),
        "seven values": (np.round(6 * weak / weak.max()), dense),
        "uneven ties": (np.round(3000 * weak**4), dense),
        "all equal": (np.full(shape, 0.3), dense),
        "mostly zero": (np.where(noise < 0.9, 0, weak), dense),
        "mostly the highest": (np.minimum(weak, 0.3), dense),
        "six orders of magnitude": (10 ** (6 * weak / weak.max() - 6), dense),
        "six orders of magnitude, rare lesions": (
            10 ** (6 * np.minimum(noise + 0.3 * rare, 1) - 6),
            rare,
        ),
        "one slice above all": (one_slice_on_top, dense),
        "lesions in blocks": (falling, in_blocks),
        "lesions in blocks turned round": (falling[::-1, ::-1, ::-1], in_blocks),
    }
    return {name: (scores.astype(np.float32), lesion) for name, (scores, lesion) in maps.items()}


POPULATIONS = populations()
every_population = pytest.mark.parametrize(
    ("maps", "lesion"), POPULATIONS.values(), ids=POPULATIONS.keys()
)


@every_population
def test_auprc_and_max_dice_from_histograms_are_within_a_thousandth_of_the_exact_ones(maps, lesion):
    average_precision, dice = exact(maps, lesion)
    (binned,), (binned_dice,) = resampled_localization(
        histograms(maps, lesion), np.ones((1, SLICES))
    )
    assert average_precision / (1 + FLAGGED_STEP) <= binned + 1e-12
    assert binned <= average_precision + FLAGGED_STEP
    assert dice / (1 + FLAGGED_STEP) - 1e-12 <= binned_dice <= dice + 1e-12
    assert FLAGGED_STEP <= 1e-3


@every_population
def test_in_resamples_they_are_those_of_the_drawn_slices_put_together(maps, lesion):
    subjects = [f"subject {i // 2}" for i in range(SLICES)]
    weights = subject_weights(subjects, np.ones(SLICES, dtype=bool), resamples=12)
    assert (weights[:, 0] == 0).any()
    both = resampled_localization(histograms(maps, lesion), weights)
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
def test_from_one_lesion_score_of_a_bin_to_another_flagged_pixels_and_recall_grow_little(
    maps, lesion
):
    every = threshold_counts(maps, lesion)
    at_lesions = np.diff(every.hits, prepend=0) > 0
    bins = np.searchsorted(-histograms(maps, lesion).threshold, -every.threshold[at_lesions])
    first = np.diff(bins, prepend=-1) > 0
    last = np.append(first[1:], True)
    hits, flagged = every.hits[at_lesions], every.flagged[at_lesions]
    assert (flagged[last] <= flagged[first] * (1 + FLAGGED_STEP)).all()
    assert (hits[last] - hits[first] <= every.positives / RECALL_BINS).all()


def test_many_lesion_scores_share_a_bin():
    maps, lesion = POPULATIONS["a weak detector"]
    assert len(histograms(maps, lesion).threshold) < len(np.unique(maps[lesion])) / 3


def test_few_lesion_pixels_give_exact_values_in_every_resample():
    rng = np.random.default_rng(2)
    lesion = np.zeros((6, 64, 64), dtype=bool)
    lesion[:, 10:25, 10:30] = True
    maps = (rng.random(lesion.shape) + 0.3 * lesion).astype(np.float32)
    maps[0] += 2
    assert lesion.sum() <= RECALL_BINS
    counts = histograms(maps, lesion)
    assert np.array_equal(counts.threshold, np.unique(maps[lesion])[::-1])
    weights = rng.integers(0, 3, (20, 6)).astype(float)
    for row, *values in zip(
        weights.astype(int), *resampled_localization(counts, weights), strict=True
    ):
        drawn = np.repeat(np.arange(6), row)
        assert values == pytest.approx(exact(maps[drawn], lesion[drawn]), abs=1e-12)


def test_counts_of_slices_beyond_65535_pixels_do_not_overflow():
    lesion = np.ones((1, 256, 257), dtype=bool)
    counts = histograms(np.arange(lesion.size, dtype=np.float32).reshape(lesion.shape), lesion)
    assert counts.hits[0, -1] == counts.flagged[0, -1] == lesion.size


def test_a_resample_does_not_depend_on_those_computed_with_it():
    maps, lesion = POPULATIONS["mostly zero"]
    counts = histograms(maps, lesion)
    weights = (
        np.random.default_rng(3).integers(0, 3, (2 * RESAMPLES_AT_ONCE + 3, SLICES)).astype(float)
    )
    together = resampled_localization(counts, weights)
    for part in (slice(0, 1), slice(RESAMPLES_AT_ONCE - 1, RESAMPLES_AT_ONCE + 2), slice(-1, None)):
        for whole, alone in zip(
            together, resampled_localization(counts, weights[part]), strict=True
        ):
            assert len(whole) == len(weights)
            assert whole[part] == pytest.approx(alone, abs=1e-12)


def test_a_resample_without_lesion_pixels_is_undefined_and_the_others_are_not():
    maps, lesion = (array[:3].copy() for array in POPULATIONS["a good detector"])
    lesion[0] = False
    maps[0] += 5
    values = resampled_localization(
        histograms(maps, lesion), np.array([[3.0, 0, 0], [0, 1, 2], [2, 1, 0]])
    )
    for samples in values:
        assert np.isnan(samples).tolist() == [True, False, False]


def test_a_lesion_of_zeros_and_ones_is_that_of_false_and_true():
    maps, lesion = POPULATIONS["rare lesions"]
    assert all(
        map(np.array_equal, histograms(maps, lesion.astype(np.uint8)), histograms(maps, lesion))
    )


def test_histograms_refuse_what_has_no_auprc():
    maps, lesion = POPULATIONS["chance"]
    with pytest.raises(ValueError, match="no lesion pixel"):
        histograms(maps, np.zeros_like(lesion))
    spoilt = maps.copy()
    spoilt[3, 5, 5] = math.nan
    with pytest.raises(ValueError, match="an anomaly map holds NaN"):
        histograms(spoilt, lesion)
    with pytest.raises(ValueError, match="weights of 7 slices do not fit histograms of 8"):
        resampled_localization(histograms(maps, lesion), np.ones((4, 7)))


# ---- which subjects are drawn

SUBJECTS = ["b", "a", "c", "a", "d", "e", "e", "f", "g"]
IS_LESION = np.array(
    [1, 0, 0, 1, 1, 0, 0, 0, 1], dtype=bool
)  # a, b, d, g; a has a healthy slice too
LESION_SUBJECTS, HEALTHY_SUBJECTS = set("abdg"), set("cef")


def test_all_slices_of_a_subject_are_drawn_together():
    weights = subject_weights(SUBJECTS, IS_LESION, resamples=200)
    assert weights.shape == (200, 9)
    assert np.array_equal(weights[:, 1], weights[:, 3])
    assert np.array_equal(weights[:, 5], weights[:, 6])
    for kind in (LESION_SUBJECTS, HEALTHY_SUBJECTS):
        assert (weights[:, [SUBJECTS.index(name) for name in kind]].sum(axis=1) == len(kind)).all()


def test_each_subject_is_drawn_with_the_same_chance_and_replaced():
    weights = subject_weights(
        [str(i) for i in range(10)], np.ones(10, dtype=bool), resamples=20_000
    )
    assert weights.mean(axis=0) == pytest.approx(np.ones(10), abs=0.03)
    assert weights.var(axis=0) == pytest.approx(np.full(10, 0.9), abs=0.04)
    assert np.mean(weights == 0) == pytest.approx(0.9**10, abs=0.01)


def test_weights_depend_on_the_seed_and_not_on_the_order_of_slices_or_on_the_healthy_ones():
    weights = subject_weights(SUBJECTS, IS_LESION, resamples=50, seed=4)
    assert np.array_equal(weights, subject_weights(SUBJECTS, IS_LESION, resamples=50, seed=4))
    assert not np.array_equal(weights, subject_weights(SUBJECTS, IS_LESION, resamples=50, seed=5))
    order = np.random.default_rng(0).permutation(9)
    shuffled = subject_weights([SUBJECTS[i] for i in order], IS_LESION[order], resamples=50, seed=4)
    assert np.array_equal(shuffled, weights[:, order])
    lesion_slices = [SUBJECTS[i] for i in np.flatnonzero(IS_LESION)]
    alone = subject_weights(lesion_slices, np.ones(4, dtype=bool), resamples=50, seed=4)
    assert np.array_equal(alone, weights[:, IS_LESION])


def test_healthy_and_lesion_subjects_are_drawn_independently():
    names = [f"{kind}{i}" for kind in "hl" for i in range(2)]
    weights = subject_weights(names, np.array([False, False, True, True]), resamples=20_000)
    assert np.corrcoef(weights[:, 0], weights[:, 2])[0, 1] == pytest.approx(0, abs=0.03)


@pytest.mark.parametrize(
    ("is_lesion", "kind"), [([True, False, False], "with a lesion"), ([True, True, False], "heal")]
)
def test_a_single_subject_of_a_kind_shows_no_spread_and_is_refused(is_lesion, kind):
    with pytest.raises(ValueError, match=f"one .*{kind}"):
        subject_weights(["x", "y", "z"], np.array(is_lesion), resamples=10)


# ---- against scipy's bootstrap, which draws indices


def scipy_interval(statistic, *samples, resamples=2000):
    result = stats.bootstrap(
        samples,
        statistic,
        method="percentile",
        vectorized=False,
        n_resamples=resamples,
        rng=np.random.default_rng(8),
    )
    return result.confidence_interval


def test_the_interval_of_a_mean_is_that_of_scipys_percentile_bootstrap():
    values = np.random.default_rng(6).gamma(2, 0.1, 40)
    weights = subject_weights(
        [f"{i:02}" for i in range(40)], np.zeros(40, dtype=bool), resamples=10_000
    )
    ours, theirs = (
        interval(resampled_mean(values, weights)),
        scipy_interval(np.mean, values, resamples=10_000),
    )
    width = theirs.high - theirs.low
    assert ours.undefined == 0
    assert ours.low == pytest.approx(theirs.low, abs=0.06 * width)
    assert ours.high == pytest.approx(theirs.high, abs=0.06 * width)


def test_intervals_are_those_of_scipys_bootstrap_over_subjects():
    rng = np.random.default_rng(7)
    lesion = rng.random((16, 12, 12)) < 0.15
    maps = (rng.random((16, 12, 12)) + lesion * rng.random((16, 1, 1))).astype(np.float32)
    subject = np.arange(16) // 2
    weights = subject_weights([f"s{i}" for i in subject], np.ones(16, dtype=bool), resamples=4000)

    def drawn(subjects: np.ndarray, which: int) -> float:
        slices = np.concatenate([np.flatnonzero(subject == i) for i in subjects])
        return exact(maps[slices], lesion[slices])[which]

    for which, samples in enumerate(resampled_localization(histograms(maps, lesion), weights)):
        ours = interval(samples)
        theirs = scipy_interval(
            lambda subjects, which=which: drawn(subjects, which), np.arange(8), resamples=1500
        )
        width = theirs.high - theirs.low
        assert ours[:2] == pytest.approx(theirs, abs=0.12 * width)


def test_the_interval_of_auroc_is_that_of_scipys_bootstrap_of_two_samples():
    rng = np.random.default_rng(9)
    healthy, lesion = rng.normal(0, 1, 25), rng.normal(0.8, 1, 35)
    is_lesion = np.repeat([False, True], [25, 35])
    weights = subject_weights([f"{i:02}" for i in range(60)], is_lesion, resamples=4000)
    ours = interval(resampled_auroc(np.concatenate([healthy, lesion]), is_lesion, weights))
    theirs = scipy_interval(lambda a, b: float(np.mean(a[:, None] < b)), healthy, lesion)
    assert ours[:2] == pytest.approx(theirs, abs=0.12 * (theirs.high - theirs.low))


# ---- statistics of slices under weights

WEIGHTS = np.array([[1.0, 1, 1, 1, 1], [0, 3, 1, 0, 1], [2, 0, 0, 3, 0]])


def test_a_mean_counts_each_slice_as_often_as_it_is_drawn():
    values = np.array([0.1, 0.2, 0.4, 0.8, 1.0])
    assert resampled_mean(values, WEIGHTS) == pytest.approx([0.5, 0.4, 0.52])
    assert np.isnan(resampled_mean(values[:2], np.array([[0.0, 0]]))).all()
    with pytest.raises(ValueError, match="NaN"):
        resampled_mean(np.array([0.1, math.nan]), np.ones((1, 2)))


def masks() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(10)
    flagged, lesion = rng.random((2, 5, 9, 9)) < [[[[0.3]]], [[[0.2]]]]
    return flagged, lesion


def test_dice_at_a_fixed_threshold_is_that_of_the_drawn_slices_put_together():
    flagged, lesion = masks()
    lesion[0] = False
    counts = pixel_counts(flagged, lesion)
    for row, value in zip(WEIGHTS.astype(int), resampled_dice(counts, WEIGHTS), strict=True):
        drawn = np.repeat(np.arange(5), row)
        assert value == pytest.approx(reference.dice(flagged[drawn], lesion[drawn]), abs=1e-12)


def test_dice_is_undefined_without_lesion_pixels_although_pixels_are_flagged():
    flagged, lesion = masks()
    lesion[0] = False
    samples = resampled_dice(
        pixel_counts(flagged, lesion), np.array([[5.0, 0, 0, 0, 0], [4, 1, 0, 0, 0]])
    )
    assert np.isnan(samples).tolist() == [True, False]


def test_the_dice_of_each_slice_is_its_own_and_a_slice_without_lesion_has_none():
    flagged, lesion = masks()
    counts = pixel_counts(flagged, lesion)
    assert slice_dice(counts) == pytest.approx(
        [reference.dice(*pair) for pair in zip(flagged, lesion, strict=True)]
    )
    lesion[3] = False
    with pytest.raises(ValueError, match="no lesion pixel"):
        slice_dice(pixel_counts(flagged, lesion))


@pytest.mark.parametrize("ties", [False, True])
def test_auroc_is_scikit_learns_under_any_weights_and_scipys_without(ties):
    rng = np.random.default_rng(11)
    is_lesion = rng.random(40) < 0.4
    scores = rng.random(40) + 0.3 * is_lesion
    scores = np.round(5 * scores) if ties else scores
    weights = np.vstack([np.ones(40), rng.integers(0, 4, (20, 40))])
    values = resampled_auroc(scores, is_lesion, weights)
    for row, value in zip(weights, values, strict=True):
        assert value == pytest.approx(
            roc_auc_score(is_lesion, scores, sample_weight=row), abs=1e-12
        )
    u = stats.mannwhitneyu(scores[is_lesion], scores[~is_lesion]).statistic
    assert values[0] == pytest.approx(u / is_lesion.sum() / (~is_lesion).sum(), abs=1e-12)


def test_auroc_is_undefined_where_only_one_kind_of_slice_is_drawn():
    is_lesion = np.array([False, False, True, True])
    weights = np.array([[1.0, 1, 0, 0], [0, 0, 2, 0], [1, 0, 0, 1]])
    assert np.isnan(resampled_auroc(np.arange(4.0), is_lesion, weights)).tolist() == [
        True,
        True,
        False,
    ]
    assert np.isnan(resampled_auroc(np.arange(4.0), np.ones(4, dtype=bool), np.ones((1, 4)))).all()
    with pytest.raises(ValueError, match="NaN"):
        resampled_auroc(np.array([0.0, 1, math.nan, 2]), is_lesion, weights)


def test_the_score_of_a_slice_is_the_mean_of_its_highest_hundredth():
    maps = np.random.default_rng(12).random((3, 20, 15)).astype(np.float32)
    assert slice_scores(maps) == pytest.approx(
        [np.sort(one.ravel())[-3:].mean() for one in maps], abs=1e-7
    )
    assert slice_scores(maps[:, :5, :5]) == pytest.approx(maps[:, :5, :5].max((1, 2)))
    assert slice_scores(maps[:, :5, :21]) == pytest.approx(
        [np.sort(one.ravel())[-1:].mean() for one in maps[:, :5, :21]], abs=1e-7
    )
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
def test_lesions_and_false_positives_are_counted_as_by_flooding_each_slice(at_once, monkeypatch):
    monkeypatch.setattr(statistics, "SLICES_AT_ONCE", at_once)
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


def test_lesions_of_whole_numbers_count_as_those_of_booleans():
    rng = np.random.default_rng(16)
    maps = ndimage.gaussian_filter(rng.random((3, 20, 20)), (0, 1, 1)).astype(np.float32)
    lesion = ndimage.gaussian_filter(rng.random((3, 20, 20)), (0, 1.5, 1.5)) > 0.57
    for found, expected in zip(
        detections(maps, lesion.astype(np.uint8)), detections(maps, lesion), strict=True
    ):
        assert np.array_equal(found, expected)


def test_pixels_that_touch_at_a_corner_are_one_region_and_slices_never_share_one():
    maps, lesion = np.zeros((2, 10, 10), dtype=np.float32), np.zeros((2, 10, 10), dtype=bool)
    maps[0, 2, 2] = maps[0, 3, 3] = maps[1, 3, 3] = maps[1, 3, 5] = 1
    lesion[0, 3, 3] = lesion[1, 7, 7] = True
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
    assert resampled_sensitivity(counts, np.ones((1, 2)), 1).tolist() == [0]


def test_sensitivity_stops_at_the_first_threshold_of_too_many_false_positives():
    counts = Detections(
        threshold=np.array([0.9, 0.8, 0.7, 0.6]),
        lesions=np.array([2, 1]),
        found=np.array([[0, 1, 1, 2], [0, 0, 1, 1]]),
        false_positives=np.array([[0, 1, 4, 0], [0, 1, 0, 0]]),
    )
    weights = np.array([[1.0, 1], [2, 0], [0, 2], [4, 0]])
    assert resampled_sensitivity(counts, weights, 1) == pytest.approx([1 / 3, 1 / 2, 1, 1 / 2])
    assert resampled_sensitivity(counts, weights, 2) == pytest.approx([1, 1 / 2, 1, 1 / 2])
    assert resampled_sensitivity(counts, weights, 0) == pytest.approx([0, 0, 0, 0])
    assert (
        resampled_sensitivity(
            counts._replace(false_positives=counts.false_positives + 2), weights, 1
        ).max()
        == 0
    )


def test_sensitivity_is_undefined_without_lesions():
    counts = Detections(
        np.array([0.5]), np.array([0, 1]), np.array([[0], [1]]), np.array([[0], [0]])
    )
    assert np.isnan(resampled_sensitivity(counts, np.array([[2.0, 0], [0, 2]]), 1)).tolist() == [
        True,
        False,
    ]
    for number in (-1, MOST_FALSE_POSITIVES + 1):
        with pytest.raises(ValueError, match="must be from 0 to"):
            resampled_sensitivity(counts, np.ones((1, 2)), number)


def test_a_map_with_nan_has_no_detections():
    maps = np.zeros((1, 4, 4), dtype=np.float32)
    maps[0, 1, 1] = math.nan
    with pytest.raises(ValueError, match="NaN"):
        detections(maps, np.zeros((1, 4, 4), dtype=bool))


# ---- intervals, differences, families, seeds


def test_an_interval_leaves_the_same_share_out_at_either_end():
    samples = np.random.default_rng(16).permutation(np.linspace(0, 1, 1001))
    assert interval(samples) == pytest.approx((0.025, 0.975, 0))
    assert interval(samples, level=0.9)[:2] == pytest.approx((0.05, 0.95))


def test_undefined_resamples_are_left_out_and_counted():
    samples = np.append(np.linspace(0, 1, 901), np.full(99, math.nan))
    assert interval(samples) == pytest.approx((0.025, 0.975, 99))
    assert difference(samples + 1, samples).undefined == 99


def test_an_interval_is_refused_where_more_than_a_tenth_of_the_resamples_is_undefined():
    samples = np.append(np.linspace(0, 1, 890), np.full(110, math.nan))
    with pytest.raises(ValueError, match="undefined in 110 of 1000 resamples"):
        interval(samples)
    with pytest.raises(ValueError, match="undefined in 110 of 1000 resamples"):
        difference(np.ones(1000), samples)
    with pytest.raises(ValueError, match="undefined in 0 of 0"):
        interval(np.empty(0))


def test_a_group_of_one_subject_among_many_has_no_interval():
    weights = subject_weights([f"{i:02}" for i in range(50)], np.ones(50, dtype=bool))
    with pytest.raises(ValueError, match="too few subjects"):
        interval(resampled_mean(np.array([0.5]), weights[:, :1]))
    assert interval(resampled_mean(np.array([0.4, 0.5, 0.6]), weights[:, :3])).undefined < 100


def test_a_difference_is_paired_so_what_the_methods_share_cancels():
    rng = np.random.default_rng(17)
    shared = rng.normal(0, 1, 60)
    weights = subject_weights([f"{i:02}" for i in range(60)], np.ones(60, dtype=bool))
    first, second = (resampled_mean(values, weights) for values in (shared + 0.1, shared))
    low, high, p_value, _ = difference(first, second)
    assert (low, high) == pytest.approx((0.1, 0.1))
    assert p_value == pytest.approx(2 / 1001)
    assert interval(first).low < interval(second).high


@pytest.mark.parametrize(
    ("samples", "p_value"),
    [
        (np.arange(1, 100), 2 / 100),
        (np.arange(-2, 97), 2 * (1 + 3) / 100),  # -2, -1 and 0 are not above zero
        (np.arange(-96, 3), 2 * (1 + 3) / 100),
        (np.arange(-49, 50), 1),
        (np.zeros(99), 1),
        (np.append(np.arange(1, 100), math.nan), 2 / 100),
    ],
)
def test_the_p_value_is_twice_the_share_on_the_rarer_side_and_never_zero(samples, p_value):
    assert difference(samples.astype(float), np.zeros(len(samples))).p_value == pytest.approx(
        p_value
    )
    assert difference(np.zeros(len(samples)), samples.astype(float)).p_value == pytest.approx(
        p_value
    )


def test_a_difference_of_unlike_numbers_of_resamples_is_refused():
    with pytest.raises(ValueError, match="5 and 6 resamples"):
        difference(np.zeros(5), np.zeros(6))


def test_two_methods_alike_are_seldom_told_apart():
    rng = np.random.default_rng(18)
    weights = subject_weights(
        [f"{i:02}" for i in range(50)], np.ones(50, dtype=bool), resamples=400
    )
    pairs = rng.normal(0, 1, (200, 2, 50))
    p = [
        difference(*(resampled_mean(values, weights) for values in pair)).p_value for pair in pairs
    ]
    assert 0.01 < np.mean(np.array(p) < 0.05) < 0.1
    assert 0.4 < np.mean(p) < 0.6


def test_holms_correction_is_the_one_worked_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.3, 0.5]) == pytest.approx([0.6, 0.6])
    assert holm([0.7, 0.9, 0.8]) == pytest.approx([1, 1, 1])
    assert holm([0.02]) == pytest.approx([0.02])
    assert holm([]).shape == (0,)


def test_the_spread_over_seeds_is_mean_and_deviation_with_their_number():
    assert seed_spread([0.1, 0.2, 0.6]) == pytest.approx((0.3, math.sqrt(0.07), 3))


def test_one_seed_has_a_text_for_a_spread_and_none_an_error():
    assert seed_spread([0.25]) == (0.25, "one seed: no spread over seeds", 1)
    for values in ([], [0.1, math.nan]):
        with pytest.raises(ValueError, match="finite value of one seed"):
            seed_spread(values)


def test_rows_of_ones_give_the_values_of_the_data():
    maps, lesion = POPULATIONS["seven values"]
    ones = np.ones((1, SLICES))
    counts = histograms(maps, lesion)
    values = [float(samples[0]) for samples in resampled_localization(counts, ones)]
    assert values == pytest.approx(exact(maps, lesion), abs=1e-12)
    at_best = pixel_counts(maps >= np.float32(max_dice(threshold_counts(maps, lesion))[1]), lesion)
    assert resampled_dice(at_best, ones) == pytest.approx([exact(maps, lesion)[1]])
