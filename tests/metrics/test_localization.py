"""AUPRC, Dice and thresholds over pooled pixels, by lesion size."""

import math

import numpy as np
import pytest
import reference
import torch
from sklearn.metrics import average_precision_score
from tiny import one_thread as one_thread

from autoddpm.data.lesion_size import GROUPS, size_group
from autoddpm.metrics import histogram
from autoddpm.metrics.localization import (
    LesionLocalization,
    auprc,
    dice,
    grid_dice,
    healthy_threshold,
    max_dice,
    threshold_counts,
)

RNG = np.random.default_rng(0)
LESION = RNG.random(200) < 0.2
SCORES = {
    "all different": RNG.random(200).astype(np.float32),
    "informative": (RNG.random(200) + LESION).astype(np.float32) / 2,
    "ties": RNG.integers(0, 6, 200).astype(np.float32) / 5,
    "two values": (RNG.random(200) < 0.5).astype(np.float32),
    "all equal": np.full(200, 0.3, dtype=np.float32),
    "all zero": np.zeros(200, dtype=np.float32),
    "perfect": LESION.astype(np.float32),
    "inverted": 1 - LESION.astype(np.float32),
    "above one": 100 * RNG.random(200).astype(np.float32),
}
every_score = pytest.mark.parametrize("scores", SCORES.values(), ids=SCORES.keys())


@every_score
def test_auprc_is_scikit_learns_average_precision(scores):
    assert auprc(threshold_counts(scores, LESION)) == pytest.approx(
        average_precision_score(LESION, scores), abs=1e-12
    )


@every_score
def test_max_dice_is_the_best_of_all_thresholds_and_its_threshold_gives_it(scores):
    best, threshold = max_dice(threshold_counts(scores, LESION))
    assert best == pytest.approx(reference.max_dice(scores, LESION), abs=1e-12)
    assert reference.dice(scores >= np.float32(threshold), LESION) == pytest.approx(best, abs=1e-12)


@every_score
def test_grid_dice_is_the_best_of_the_hundred_and_one_thresholds(scores):
    assert grid_dice(scores, LESION) == pytest.approx(
        reference.grid_dice(scores, LESION), abs=1e-12
    )
    assert grid_dice(scores, LESION.astype(np.uint8)) == grid_dice(scores, LESION)
    assert grid_dice(scores, LESION) <= max_dice(threshold_counts(scores, LESION))[0] + 1e-12


def test_the_grid_goes_from_zero_to_one_and_flags_what_is_above():
    scores, lesion = (
        np.array([0.0, 0.005, 0.5, 0.995, 1.0]),
        np.array([False, True, True, True, True]),
    )
    assert grid_dice(scores, lesion) == 1.0
    assert grid_dice(np.array([0.995, 0.993]), np.array([True, False])) == pytest.approx(2 / 3)
    assert grid_dice(np.array([2.0, 1.0]), np.array([True, False])) == 1.0


@every_score
@pytest.mark.parametrize("at_once", [7, 2**22])
def test_counts_are_those_of_each_distinct_lesion_score_from_high_to_low(
    scores, at_once, monkeypatch
):
    monkeypatch.setattr(histogram, "SORTED_AT_ONCE", at_once)
    counts = threshold_counts(scores, LESION)
    assert counts.threshold.tolist() == sorted(set(scores[LESION].tolist()), reverse=True)
    assert counts.positives == LESION.sum()
    for threshold, hits, flagged in zip(counts.threshold, counts.hits, counts.flagged, strict=True):
        assert flagged == (scores >= threshold).sum()
        assert hits == (LESION & (scores >= threshold)).sum()


def test_counts_take_maps_of_any_shape():
    flat, shaped = (
        threshold_counts(SCORES["ties"].reshape(s), LESION.reshape(s)) for s in (200, (2, 10, 10))
    )
    assert all(map(np.array_equal, flat, shaped))


def test_dice_is_the_share_of_both_in_each():
    assert dice(SCORES["ties"] > 0.5, LESION) == pytest.approx(
        reference.dice(SCORES["ties"] > 0.5, LESION)
    )
    assert dice(LESION, LESION) == 1
    assert dice(~LESION, LESION) == 0
    assert dice(np.zeros(200, bool), LESION) == 0


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_map_with_nan_or_infinity_has_no_metric(bad):
    scores = np.append(SCORES["ties"][1:], bad)
    with pytest.raises(ValueError, match="NaN or infinity"):
        threshold_counts(scores, LESION)
    with pytest.raises(ValueError, match="no lesion pixel"):
        threshold_counts(SCORES["ties"], np.zeros_like(LESION))
    with pytest.raises(ValueError, match="NaN or infinity"):
        healthy_threshold(scores, 0.05)


@every_score
@pytest.mark.parametrize("rate", [0.0, 0.05, 0.07, 0.29, 0.5, 0.57, 1.0])
def test_a_healthy_threshold_is_the_smallest_score_that_at_most_the_rate_lies_above(scores, rate):
    for values in (scores, scores[:100], scores[:7], scores[:1]):
        threshold = healthy_threshold(values, rate)
        assert threshold in values
        assert np.mean(values > threshold) <= rate
        smaller = values[values < threshold]
        assert not len(smaller) or np.mean(values > smaller.max()) > rate


def test_a_threshold_cannot_be_calibrated_on_nothing():
    with pytest.raises(ValueError, match="cannot calibrate"):
        healthy_threshold(np.zeros((0, 4, 4)), 0.05)


@pytest.mark.parametrize(
    ("pixels", "group"),
    [
        (0, "healthy"),
        (1, "healthy"),
        (2, "small"),
        (71, "small"),
        (72, "medium"),
        (570, "medium"),
        (571, "large"),
        (16384, "large"),
    ],
)
def test_the_size_groups_change_at_the_authors_cuts(pixels, group):
    assert GROUPS[int(size_group(torch.tensor([pixels]), 128)[0])] == group


@pytest.mark.parametrize(
    ("pixels", "size", "group"),
    [
        (0, 64, "healthy"),
        (1, 64, "small"),
        (17, 64, "small"),
        (18, 64, "medium"),
        (142, 64, "medium"),
        (143, 64, "large"),
        (4, 256, "healthy"),
        (5, 256, "small"),
        (284, 256, "small"),
        (285, 256, "medium"),
        (2280, 256, "medium"),
        (2281, 256, "large"),
    ],
)
def test_at_another_size_the_groups_are_those_of_the_lesion_at_128(pixels, size, group):
    assert GROUPS[int(size_group(torch.tensor([pixels]), size)[0])] == group


def slices(seed: int = 3) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Six maps at 12x12 with lesions of 0, 4, 9, 100, 0 and 6 pixels, in groups as one might set
    them."""
    rng = np.random.default_rng(seed)
    lesion = np.zeros((6, 12, 12), dtype=bool)
    for i, (height, width) in {1: (2, 2), 2: (3, 3), 3: (10, 10), 5: (2, 3)}.items():
        lesion[i, 1 : 1 + height, 1 : 1 + width] = True
    maps = np.round(0.6 * rng.random((6, 12, 12)) + 0.4 * lesion, 2)
    return (
        torch.from_numpy(maps).float(),
        torch.from_numpy(lesion),
        torch.tensor([0, 1, 2, 3, 0, 1]),
    )


def at(threshold: float) -> dict[str, float]:
    """Thresholds of which the one for 5 % is this, and the others are higher."""
    return {
        "healthy_fpr1": threshold + 0.2,
        "healthy_fpr2": threshold + 0.1,
        "healthy_fpr5": threshold,
    }


def test_every_value_is_that_of_the_pooled_pixels_of_its_group():
    maps, lesion, group = slices()
    metric = LesionLocalization()
    metric.update(maps, lesion, group, at(0.55))
    values = metric.compute()
    groups = {"": [1, 2, 3, 5], "/small": [1, 5], "/medium": [2], "/large": [3]}
    for suffix, chosen in groups.items():
        scores, truth = maps[chosen].numpy(), lesion[chosen].numpy()
        expected = {
            "auprc": average_precision_score(truth.ravel(), scores.ravel()),
            "max_dice": reference.max_dice(scores, truth),
            "grid_dice": reference.grid_dice(scores, truth),
            "dice@healthy_fpr5": reference.dice(scores > np.float32(0.55), truth),
            "dice@healthy_fpr2": reference.dice(scores > np.float32(0.65), truth),
            "dice@healthy_fpr1": reference.dice(scores > np.float32(0.75), truth),
        }
        for key, value in expected.items():
            assert values[f"lesion/{key}{suffix}"] == pytest.approx(value, abs=1e-12), key
        best = np.float32(values[f"lesion/best_threshold{suffix}"])
        assert reference.dice(scores >= best, truth) == pytest.approx(expected["max_dice"])
    assert values["healthy/fpr@healthy_fpr5"] == pytest.approx(
        (maps[[0, 4]] > 0.55).float().mean().item()
    )
    assert len(values) == 7 * 4 + 3


def test_a_pixel_at_the_healthy_threshold_is_not_flagged():
    maps, lesion, group = slices()
    maps[0] = 0.5
    metric = LesionLocalization()
    metric.update(maps[:2], lesion[:2], group[:2], at(0.5))
    assert metric.compute()["healthy/fpr@healthy_fpr5"] == 0


def test_a_threshold_calibrated_on_the_healthy_maps_gives_their_rate():
    maps, lesion, group = slices()
    metric = LesionLocalization()
    metric.update(maps, lesion, group, at(healthy_threshold(maps[[0, 4]].numpy(), 0.05)))
    assert 0.03 < metric.compute()["healthy/fpr@healthy_fpr5"] <= 0.05


def test_two_updates_equal_one():
    maps, lesion, group = slices()
    whole, parts = LesionLocalization(), LesionLocalization()
    whole.update(maps, lesion, group, at(0.55))
    for part in (slice(0, 4), slice(4, 6)):
        parts.update(maps[part], lesion[part], group[part], at(0.55))
    assert parts.compute() == whole.compute()


def test_an_absent_group_has_a_text_and_the_others_their_values():
    maps, lesion, group = slices()
    metric = LesionLocalization()
    metric.update(maps[:3], lesion[:3], group[:3], at(0.55))
    values = metric.compute()
    texts = {key: value for key, value in values.items() if isinstance(value, str)}
    assert len(texts) == 7
    assert all(
        key.endswith("/large") and text == "no lesion slice in the group large"
        for key, text in texts.items()
    )
    assert all(math.isfinite(value) for value in values.values() if not isinstance(value, str))


def test_without_lesions_or_without_healthy_slices_there_are_texts_and_never_nan():
    maps, lesion, group = slices()
    only_healthy, only_lesions = LesionLocalization(), LesionLocalization()
    only_healthy.update(maps[[0, 4]], lesion[[0, 4]], group[[0, 4]], at(0.55))
    values = only_healthy.compute()
    assert all(
        isinstance(values.pop(f"healthy/fpr@healthy_fpr{rate}"), float) for rate in (1, 2, 5)
    )
    assert len(values) == 28
    assert all(isinstance(value, str) for value in values.values())
    assert values["lesion/auprc"] == "no lesion slice in the test set"
    only_lesions.update(maps[[1, 2, 3]], lesion[[1, 2, 3]], group[[1, 2, 3]], at(0.55))
    values = only_lesions.compute()
    for rate in (1, 2, 5):
        assert values.pop(f"healthy/fpr@healthy_fpr{rate}") == "no healthy slice in the test set"
    assert all(isinstance(value, float) and math.isfinite(value) for value in values.values())


@pytest.mark.parametrize("where", [0, 1, 3])
def test_a_nan_in_any_map_ends_the_evaluation_also_in_a_healthy_one(where):
    maps, lesion, group = slices()
    maps[where, 5, 5] = math.nan
    metric = LesionLocalization()
    metric.update(maps, lesion, group, at(0.55))
    with pytest.raises(ValueError, match="NaN or infinity"):
        metric.compute()


def test_a_reset_metric_begins_again():
    maps, lesion, group = slices()
    used, fresh = LesionLocalization(), LesionLocalization()
    used.update(maps, lesion, group, at(0.1))
    used.reset()
    for one in (used, fresh):
        one.update(maps[:3], lesion[:3], group[:3], at(0.55))
    assert used.compute() == fresh.compute()
