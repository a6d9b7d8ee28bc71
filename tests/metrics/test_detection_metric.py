"""Whole slices, single lesions and single images, against other ways to count."""

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, roc_auc_score

from autoddpm.metrics.detection import LesionDetection
from autoddpm.metrics.localization import max_dice, threshold_counts
from autoddpm.metrics.statistics import slice_scores

THRESHOLDS = {"healthy_fpr1": 0.7, "healthy_fpr2": 0.6, "healthy_fpr5": 0.5}
KEYS = {
    "all/auprc",
    "all/max_dice",
    "all/dice@healthy_fpr5",
    "all/slice_auroc",
    "lesion/slice_dice",
    "lesion/slice_dice@healthy_fpr5",
    "lesion/sensitivity@1fp",
    "lesion/sensitivity@2fp",
}


def slices(seed: int = 0, n: int = 12, strength: float = 0.5):
    rng = np.random.default_rng(seed)
    lesion = np.zeros((n, 24, 24), bool)
    for i in range(0, n, 2):
        y, x = rng.integers(2, 16, 2)
        lesion[i, y : y + 2 + i // 3, x : x + 3] = True
    maps = (0.6 * rng.random((n, 24, 24)) + strength * lesion).astype(np.float32)
    return torch.from_numpy(maps), torch.from_numpy(lesion), torch.tensor([1, 0] * (n // 2))


def computed(maps, lesion, group):
    metric = LesionDetection()
    metric.update(maps, lesion, group, THRESHOLDS)
    return metric.compute()


def test_every_value_is_what_counting_by_hand_gives():
    maps, lesion, group = slices()
    values = computed(maps, lesion, group)
    scores, truth = maps.numpy(), lesion.numpy()
    assert values.keys() == KEYS
    assert values["all/auprc"] == pytest.approx(
        average_precision_score(truth.ravel(), scores.ravel())
    )
    assert values["all/max_dice"] == pytest.approx(max_dice(threshold_counts(scores, truth))[0])
    flagged = scores > 0.5
    assert values["all/dice@healthy_fpr5"] == pytest.approx(
        2 * (flagged & truth).sum() / (flagged.sum() + truth.sum())
    )
    assert values["all/slice_auroc"] == pytest.approx(
        roc_auc_score(group.numpy() > 0, slice_scores(scores))
    )
    ill = group.numpy() > 0
    best = scores[ill] >= max_dice(threshold_counts(scores[ill], truth[ill]))[1]
    for key, picked in (
        ("lesion/slice_dice", best),
        ("lesion/slice_dice@healthy_fpr5", flagged[ill]),
    ):
        each = [
            2 * (p & t).sum() / (p.sum() + t.sum()) for p, t in zip(picked, truth[ill], strict=True)
        ]
        assert values[key] == pytest.approx(np.mean(each))


def test_lesions_above_everything_are_all_found_and_more_false_positives_find_no_fewer():
    values = computed(*slices(strength=2.0))
    assert values["lesion/sensitivity@1fp"] == values["lesion/sensitivity@2fp"] == 1
    values = computed(*slices(strength=0.1))
    assert 0 <= values["lesion/sensitivity@1fp"] <= values["lesion/sensitivity@2fp"] <= 1


def test_a_single_pixel_counts_as_healthy():
    maps, lesion, group = slices()
    marked = lesion.clone()
    marked[1, 5, 5] = True
    assert computed(maps, marked, group) == computed(maps, lesion, group)


def test_two_updates_equal_one():
    maps, lesion, group = slices()
    metric = LesionDetection()
    for part in (slice(0, 5), slice(5, 12)):
        metric.update(maps[part], lesion[part], group[part], THRESHOLDS)
    assert metric.compute() == computed(maps, lesion, group)


def test_what_is_undefined_is_a_text():
    maps, lesion, group = slices()
    none = computed(maps[1::2], lesion[1::2], group[1::2])
    assert none == dict.fromkeys(KEYS, "no lesion slice in the test set")
    only = computed(maps[::2], lesion[::2], group[::2])
    assert only.pop("all/slice_auroc") == "no healthy slice in the test set"
    assert all(isinstance(value, float) and np.isfinite(value) for value in only.values())
