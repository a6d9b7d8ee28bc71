"""Every metric: its value, by hand to the last digit, and its resamples, from one function."""

import math
from dataclasses import replace

import numpy as np
import pytest
import reference
from scipy import ndimage
from sklearn.metrics import average_precision_score, roc_auc_score

from autoddpm.data.lesion_size import GROUPS
from autoddpm.metrics.counts import RECALL_BINS
from autoddpm.metrics.detection import detections, sensitivity, slice_scores
from autoddpm.metrics.localization import HEALTHY_FPRS
from autoddpm.metrics.measure import max_mean_dice, measure
from autoddpm.metrics.scored_slices import ScoredSlices

THRESHOLDS = {
    "healthy_fpr0.2": 0.85,
    "healthy_fpr1": 0.75,
    "healthy_fpr2": 0.65,
    "healthy_fpr5": 0.55,
}
POPULATIONS = {"lesion": "", "small": "/small", "medium": "/medium", "large": "/large"}
KEYS = [
    "all/auprc",
    "all/max_dice",
    "all/dice@healthy_fpr5",
    "all/slice_auroc",
    "all/slice_auprc",
    "all/max_slice_dice",
    "lesion/slice_dice",
    "lesion/slice_dice@healthy_fpr5",
    "lesion/sensitivity@1fp",
    "lesion/sensitivity@2fp",
    "lesion/aupimo",
    *(
        f"lesion/{name}@{threshold}"
        for threshold in HEALTHY_FPRS
        for name in ("lesion_f1", "count_difference", "volume_difference")
    ),
    *(f"lesion/dice_gap@{threshold}" for threshold in HEALTHY_FPRS),
    "healthy/ssim",
    *(
        f"lesion/{name}{suffix}"
        for suffix in POPULATIONS.values()
        for name in (
            *("auprc", "max_dice", "grid_dice", "best_threshold"),
            *(f"dice@{name}" for name in HEALTHY_FPRS),
        )
    ),
    *(f"healthy/fpr@{name}" for name in HEALTHY_FPRS),
]


def scored(chosen: list[int] | None = None, space: tuple[int, ...] = (24, 24)) -> ScoredSlices:
    """Fifteen maps, five of each kind, healthy ones with a pixel marked, some scores equal."""
    rng = np.random.default_rng(3)
    group = np.array([0, 1, 2, 3, 0] * 3)
    y, x = np.mgrid[:24, :24]
    radius = np.array([0, 1.5, 3, 6])[group]
    center = rng.uniform(8, 16, (2, len(group), 1, 1))
    lesion = np.hypot(y - center[0], x - center[1]) < radius[:, None, None]
    lesion[0, 3, 3] = True
    maps = (np.round(0.6 * rng.random(lesion.shape), 3) + 0.4 * lesion).astype(np.float32)
    kept = {"ssim": np.where(group == 0, rng.random(len(group)), np.nan)}
    maps, lesion = (one.reshape(-1, *space) for one in (maps, lesion))
    at = np.arange(len(group)) if chosen is None else np.array(chosen)
    kept = {name: values[at] for name, values in kept.items()}
    return ScoredSlices(maps[at], lesion[at], group[at], THRESHOLDS, kept)


def values(slices: ScoredSlices) -> dict[str, float | str]:
    found = measure(slices, np.ones((1, len(slices.maps))))
    return {key: one if isinstance(one, str) else float(one[0]) for key, one in found.items()}


def overlap_by_hand(scores: np.ndarray, lesion: np.ndarray) -> dict[str, float]:
    """AUPRC and Dice of pooled pixels at each distinct lesion score, counted one by one."""
    levels = np.unique(scores[lesion])[::-1]
    hits = np.array([np.sum(lesion & (scores >= level)) for level in levels])
    flagged = np.array([np.sum(scores >= level) for level in levels])
    dice = 2 * hits / (flagged + lesion.sum())
    found = {
        "auprc": np.sum(np.diff(hits, prepend=0) / lesion.sum() * hits / flagged),
        "max_dice": dice.max(),
        "best_threshold": levels[dice.argmax()],
        "grid_dice": reference.grid_dice(scores, lesion),
    }
    for name, threshold in THRESHOLDS.items():
        found[f"dice@{name}"] = reference.dice(scores > np.float32(threshold), lesion)
    return found


def regions_by_hand(flagged: np.ndarray, lesion: np.ndarray) -> tuple[int, int, int, int, int]:
    """Lesions hit, lesions, flagged regions, those that touch no lesion, and excess pixels."""
    (lesions, count), (regions, number) = (
        ndimage.label(one, np.ones((3, 3))) for one in (lesion, flagged)
    )
    hit = sum(flagged[lesions == n].any() for n in range(1, count + 1))
    wrong = sum(not lesion[regions == n].any() for n in range(1, number + 1))
    return hit, count, number, wrong, int(flagged.sum()) - int(lesion.sum())


def slice_dice_by_hand(flagged: np.ndarray, lesion: np.ndarray) -> float:
    return reference.dice(flagged, lesion) if lesion.any() else float(not flagged.any())


def by_hand(slices: ScoredSlices) -> dict[str, float]:
    maps, ill = slices.maps, slices.group != 0
    lesion = slices.annotated & ill[:, None, None]
    everything = overlap_by_hand(maps, lesion)
    found = {f"all/{name}": everything[name] for name in ("auprc", "max_dice")}
    found["all/dice@healthy_fpr5"] = everything["dice@healthy_fpr5"]
    for population, suffix in POPULATIONS.items():
        chosen = ill if population == "lesion" else slices.group == GROUPS.index(population)
        own = overlap_by_hand(maps[chosen], lesion[chosen])
        found |= {f"lesion/{name}{suffix}": value for name, value in own.items()}
    best = np.float32(found["lesion/best_threshold"])
    for key, flagged in (
        ("lesion/slice_dice", maps[ill] >= best),
        ("lesion/slice_dice@healthy_fpr5", maps[ill] > np.float32(0.55)),
    ):
        each = [reference.dice(*pair) for pair in zip(flagged, lesion[ill], strict=True)]
        found[key] = np.mean(each)
    for name, threshold in THRESHOLDS.items():
        found[f"healthy/fpr@{name}"] = (maps[~ill] > np.float32(threshold)).mean()
        regions = [
            regions_by_hand(maps[n] > np.float32(threshold), lesion[n]) for n in ill.nonzero()[0]
        ]
        hit, lesions, flagged, wrong, pixels = np.array(regions).T
        f1 = 2 * hit.sum() / (hit.sum() + lesions.sum() + wrong.sum())
        found[f"lesion/lesion_f1@{name}"] = f1
        found[f"lesion/count_difference@{name}"] = np.mean(np.abs(flagged - lesions))
        found[f"lesion/volume_difference@{name}"] = np.mean(np.abs(pixels) / maps[0].size)
        gap = found["lesion/max_dice"] - found[f"lesion/dice@{name}"]
        found[f"lesion/dice_gap@{name}"] = gap
    found["all/max_slice_dice"] = max(
        np.mean([slice_dice_by_hand(*pair) for pair in zip(maps >= at, lesion, strict=True)])
        for at in (*np.unique(maps), np.inf)
    )
    total = 0.0
    for value in slices.fidelity["ssim"][~ill]:
        total += value
    return found | {"healthy/ssim": total / np.sum(~ill)}


def test_every_value_is_that_by_hand_to_the_last_digit():
    slices = scored()
    found, expected = values(slices), by_hand(slices)
    assert list(found) == KEYS
    others = {"all/slice_auroc", "all/slice_auprc", "lesion/aupimo"}
    others |= {"lesion/sensitivity@1fp", "lesion/sensitivity@2fp"}
    assert found.keys() - expected.keys() == others
    assert {key: found[key] for key in expected} == expected


def test_values_are_those_of_scikit_learn():
    slices = scored()
    found, ill = values(slices), slices.is_lesion
    assert found["lesion/auprc"] == pytest.approx(
        average_precision_score(slices.lesion[ill].ravel(), slices.maps[ill].ravel())
    )
    assert found["all/slice_auroc"] == pytest.approx(roc_auc_score(ill, slice_scores(slices.maps)))
    assert found["all/slice_auprc"] == pytest.approx(
        average_precision_score(ill, slice_scores(slices.maps))
    )
    hit = sensitivity(detections(slices.maps, slices.lesion), np.ones((1, 15)), 1)
    assert found["lesion/sensitivity@1fp"] == hit[0]


def test_a_resample_is_measured_as_the_drawn_slices_put_together():
    slices, rng = scored(), np.random.default_rng(4)
    weights = rng.integers(0, 3, (6, 15)).astype(float)
    weights[0] = 1
    found = measure(slices, weights)
    assert list(found) == KEYS
    # the first keeps the threshold of the data, the others look at scores that all slices share
    of_the_data = {"lesion/slice_dice", "lesion/aupimo"}
    of_the_data |= {"lesion/sensitivity@1fp", "lesion/sensitivity@2fp"}
    for n, row in enumerate(weights.astype(int)):
        drawn = values(scored([i for i, times in enumerate(row) for _ in range(times)]))
        for key in found.keys() - of_the_data:
            assert found[key][n] == pytest.approx(drawn[key], abs=1e-12), key
    for key in of_the_data:
        assert found[key][0] == pytest.approx(values(slices)[key], abs=1e-15)
    flagged = slices.maps >= np.float32(values(slices)["lesion/best_threshold"])
    own = [reference.dice(*pair) for pair in zip(flagged[1:4], slices.lesion[1:4], strict=True)]
    drawn = np.zeros((1, 15))
    drawn[0, 1:4] = 1, 0, 2
    kept = measure(slices, drawn, {"lesion/slice_dice"})["lesion/slice_dice"]
    assert kept == pytest.approx((own[0] + 2 * own[2]) / 3)


def test_only_the_wanted_keys_are_measured():
    wanted = {"lesion/max_dice", "healthy/ssim"}
    assert measure(scored(), np.ones((1, 15)), wanted).keys() == wanted


def test_a_single_pixel_counts_as_healthy():
    slices = scored()
    clean = ScoredSlices(slices.maps, slices.lesion, slices.group, THRESHOLDS, slices.fidelity)
    assert slices.annotated[0].any()
    assert not clean.annotated[0].any()
    assert values(slices) == values(clean)


def test_a_pixel_at_the_healthy_threshold_is_not_flagged():
    slices = scored()
    slices.maps[slices.group == 0] = 0.55
    assert values(slices)["healthy/fpr@healthy_fpr5"] == 0


def test_more_false_positives_find_no_fewer_lesions():
    found = values(scored())
    assert 0 <= found["lesion/sensitivity@1fp"] <= found["lesion/sensitivity@2fp"] <= 1
    clear = scored()
    clear.maps[clear.lesion] += 2
    found = values(clear)
    assert found["lesion/sensitivity@1fp"] == found["lesion/sensitivity@2fp"] == 1


def test_an_absent_group_has_a_text_and_the_others_values():
    found = values(scored([0, 1, 2, 4, 5, 6]))
    texts = {key: value for key, value in found.items() if isinstance(value, str)}
    assert set(texts) == {key for key in KEYS if key.endswith("/large")}
    assert set(texts.values()) == {"no lesion slice in the group large"}
    assert all(math.isfinite(value) for key, value in found.items() if key not in texts)


def test_without_lesions_there_are_texts_and_never_nan():
    found = values(scored([0, 4, 5, 9]))
    numbers = {key for key, value in found.items() if not isinstance(value, str)}
    assert numbers == {key for key in KEYS if key.startswith("healthy/")}
    assert found["all/auprc"] == found["lesion/auprc"] == "no lesion slice in the test set"
    assert found["all/slice_auroc"] == "no lesion slice in the test set"


def test_without_healthy_slices_there_are_texts_and_never_nan():
    found = values(scored([1, 2, 3, 6]))
    texts = {key for key, value in found.items() if isinstance(value, str)}
    needed = {"all/slice_auroc", "all/slice_auprc", "lesion/aupimo"}
    assert texts == needed | {key for key in KEYS if key.startswith("healthy/")}
    assert {found[key] for key in texts} == {"no healthy slice in the test set"}


def test_a_threshold_that_was_not_calibrated_is_said():
    slices = scored()
    bare = ScoredSlices(slices.maps, slices.annotated, slices.group, {})
    reason = "no threshold healthy_fpr5 was calibrated"
    assert values(bare)["all/dice@healthy_fpr5"] == reason
    assert values(bare)["all/auprc"] == values(slices)["all/auprc"]


def test_a_map_with_nan_has_no_metric_of_its_slice():
    slices = scored()
    slices.maps[1, 5, 5] = math.nan
    assert "NaN or infinity" in str(values(slices)["all/auprc"])
    slices.fidelity["ssim"][4] = math.nan
    assert values(slices)["healthy/ssim"].startswith("the ssim of each slice holds NaN")


def test_volumes_are_measured_as_the_slices_of_their_pixels():
    flat, deep = values(scored()), values(scored(space=(4, 6, 24)))
    regions = {key for key in flat if "sensitivity" in key or "f1" in key or "count" in key}
    assert {key: deep[key] for key in deep.keys() - regions} == {
        key: flat[key] for key in flat.keys() - regions
    }
    assert all(0 <= deep[key] <= 1 for key in regions if "count" not in key)


def test_false_positives_are_said_by_site_if_there_are_several():
    slices = scored()
    site = np.array(["HH", "IOP", "", "HH", "IOP"] * 3)
    found = values(replace(slices, site=site))
    above = slices.maps > np.float32(0.55)
    for name in ("HH", "IOP"):
        chosen = (slices.group == 0) & (site == name)
        assert found[f"healthy/fpr@healthy_fpr5/{name}"] == above[chosen].mean()
    assert found.keys() - set(KEYS) == {
        f"healthy/fpr@{threshold}/{name}" for threshold in THRESHOLDS for name in ("HH", "IOP")
    }
    assert list(values(replace(slices, site=np.full(15, "HH")))) == KEYS


def test_a_flat_map_has_the_share_of_healthy_slices():
    slices = scored()
    flat = replace(slices, maps=np.zeros_like(slices.maps))
    assert values(flat)["all/max_slice_dice"] == np.mean(slices.group == 0)


def test_the_highest_mean_of_slices_sees_each_healthy_slice_fall():
    rng = np.random.default_rng(3)
    lesion = np.zeros((8, 100, 100), bool)
    lesion[:4, 10:60, 10:60] = True
    maps = (0.5 * rng.random(lesion.shape) + 0.5 * lesion).astype(np.float32)
    scores = np.unique(maps[lesion])
    assert len(scores) > 4 * RECALL_BINS
    maps[4:] = 0
    for last in range(6000, 6010):  # at whatever place within a bin
        maps[4:, 0, 0] = scores[[37, 2011, 4002, last]]
        expected = max(
            np.mean([slice_dice_by_hand(*pair) for pair in zip(maps >= at, lesion, strict=True)])
            for at in scores[[38, 2012, 4003, last + 1]]
        )
        slices = ScoredSlices(maps, lesion, np.repeat([3, 0], 4), THRESHOLDS, {})
        (found,) = max_mean_dice(slices, np.ones((1, 8)))
        assert found[0] == pytest.approx(expected, abs=1e-12)
