"""Bootstrap over subjects, paired differences, and families of comparisons."""

import math

import numpy as np
import pytest
from scipy import stats

from autoddpm.metrics.counts import every_score, histograms
from autoddpm.metrics.localization import localization
from autoddpm.metrics.statistics import (
    difference,
    holm,
    interval,
    subject_weights,
    weighted_mean,
)

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


def test_weights_depend_on_the_seed_and_not_on_the_order():
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
def test_a_single_subject_of_a_kind_is_refused(is_lesion, kind):
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


def test_the_interval_of_a_mean_is_scipys_percentile_bootstrap():
    values = np.random.default_rng(6).gamma(2, 0.1, 40)
    weights = subject_weights(
        [f"{i:02}" for i in range(40)], np.zeros(40, dtype=bool), resamples=10_000
    )
    ours, theirs = (
        interval(weighted_mean(values, weights)),
        scipy_interval(np.mean, values, resamples=10_000),
    )
    width = theirs.high - theirs.low
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
        return localization(every_score(maps[slices], lesion[slices]))[which][0]

    for which, samples in enumerate(localization(histograms(maps, lesion), weights)[:2]):
        ours = interval(samples)
        theirs = scipy_interval(
            lambda subjects, which=which: drawn(subjects, which), np.arange(8), resamples=1500
        )
        width = theirs.high - theirs.low
        assert ours[:2] == pytest.approx(theirs, abs=0.12 * width)


# ---- a mean under weights

WEIGHTS = np.array([[1.0, 1, 1, 1, 1], [0, 3, 1, 0, 1], [2, 0, 0, 3, 0]])


def test_a_mean_counts_each_slice_as_often_as_it_is_drawn():
    values = np.array([0.1, 0.2, 0.4, 0.8, 1.0])
    assert weighted_mean(values, WEIGHTS) == pytest.approx([0.5, 0.4, 0.52])
    assert np.isnan(weighted_mean(values[:2], np.array([[0.0, 0]]))).all()
    with pytest.raises(ValueError, match="NaN"):
        weighted_mean(np.array([0.1, math.nan]), np.ones((1, 2)))


# ---- intervals, differences, families, seeds


def test_an_interval_leaves_the_same_share_out_at_either_end():
    samples = np.random.default_rng(16).permutation(np.linspace(0, 1, 1001))
    assert interval(samples) == pytest.approx((0.025, 0.975))
    assert interval(samples, level=0.9) == pytest.approx((0.05, 0.95))


def test_undefined_resamples_are_left_out():
    samples = np.append(np.linspace(0, 1, 901), np.full(99, math.nan))
    assert interval(samples) == pytest.approx((0.025, 0.975))
    assert difference(samples + 1, samples) == pytest.approx((1, 1, 2 / 902))


def test_an_interval_is_refused_above_a_tenth_undefined():
    samples = np.append(np.linspace(0, 1, 890), np.full(110, math.nan))
    with pytest.raises(ValueError, match="undefined in 110 of 1000 resamples"):
        interval(samples)
    with pytest.raises(ValueError, match="undefined in 110 of 1000 resamples"):
        difference(np.ones(1000), samples)
    with pytest.raises(ValueError, match="5 and 6 resamples"):
        difference(np.zeros(5), np.zeros(6))
    with pytest.raises(ValueError, match="undefined in 0 of 0"):
        interval(np.empty(0))


def test_a_group_of_one_subject_among_many_has_no_interval():
    weights = subject_weights([f"{i:02}" for i in range(50)], np.ones(50, dtype=bool))
    with pytest.raises(ValueError, match="too few subjects"):
        interval(weighted_mean(np.array([0.5]), weights[:, :1]))
    assert interval(weighted_mean(np.array([0.4, 0.5, 0.6]), weights[:, :3])).low >= 0.4 - 1e-12


def test_a_difference_is_paired_and_what_is_shared_cancels():
    rng = np.random.default_rng(17)
    shared = rng.normal(0, 1, 60)
    weights = subject_weights([f"{i:02}" for i in range(60)], np.ones(60, dtype=bool))
    first, second = (weighted_mean(values, weights) for values in (shared + 0.1, shared))
    low, high, p_value = difference(first, second)
    assert (low, high) == pytest.approx((0.1, 0.1))
    assert p_value == pytest.approx(2 / 1001)
    assert interval(first).low < interval(second).high


@pytest.mark.parametrize(
    ("samples", "p_value"),
    [
        (np.arange(1, 100), 2 / 100),
        (np.arange(-2, 97), 2 * (1 + 3) / 100),  # -2, -1 and 0 are not above zero
        (np.arange(-49, 50), 1),
        (np.zeros(99), 1),
        (np.append(np.arange(1, 100), math.nan), 2 / 100),
    ],
)
def test_the_p_value_is_twice_the_share_on_the_rarer_side(samples, p_value):
    assert difference(samples.astype(float), np.zeros(len(samples))).p_value == pytest.approx(
        p_value
    )
    assert difference(np.zeros(len(samples)), samples.astype(float)).p_value == pytest.approx(
        p_value
    )


def test_two_methods_alike_are_seldom_told_apart():
    rng = np.random.default_rng(18)
    weights = subject_weights(
        [f"{i:02}" for i in range(50)], np.ones(50, dtype=bool), resamples=400
    )
    pairs = rng.normal(0, 1, (200, 2, 50))
    p = [difference(*(weighted_mean(values, weights) for values in pair)).p_value for pair in pairs]
    assert 0.01 < np.mean(np.array(p) < 0.05) < 0.1
    assert 0.4 < np.mean(p) < 0.6


def test_holms_correction_is_the_one_worked_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.3, 0.5]) == pytest.approx([0.6, 0.6])
    assert holm([0.7, 0.9, 0.8]) == pytest.approx([1, 1, 1])
    assert holm([0.02]) == pytest.approx([0.02])
    assert holm([]).shape == (0,)
