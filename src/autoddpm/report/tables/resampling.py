"""Every metric of a row in every resample of its subjects, from the saved maps: no model is run."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autoddpm.metrics.histogram import Histograms, histograms, resampled_localization
from autoddpm.metrics.statistics import (
    PixelCounts,
    detections,
    pixel_counts,
    resampled_auroc,
    resampled_dice,
    resampled_mean,
    resampled_sensitivity,
    slice_dice,
    slice_scores,
)
from autoddpm.report.rows.scored import Scored

SLICE_MEANS = ("ssim", "mse", "lpips")  # columns of slices.csv
GROUPS = ("small", "medium", "large")
FALSE_POSITIVES = (1, 2)  # a slice
CURVE_POINTS = 300

Array = NDArray[Any]
#: Keys of metrics.json, and what gives an array (R,) for each of them or raises ValueError.
Statistic = tuple[list[str], Callable[[], Sequence[Array]]]


def resampled_metrics(
    scored: Scored,
    metrics: Mapping[str, float | None],
    thresholds: Mapping[str, float | None],
    weights: Array,
) -> tuple[dict[str, Array], dict[str, str]]:
    """{key of metrics.json: (R,) its value in each resample}, and {key: why it has none}, of the
    keys with a value.

    weights: (R, N) from `subject_weights`; a row of ones gives the values of the data themselves.
        Thresholds stay as
    given: the calibrated ones (`thresholds`, flag scores above) and lesion/best_threshold, of
    lesion/slice_dice (flag scores of at least it). The highest Dice and the sensitivity choose
    theirs anew in each resample.
    """
    values: dict[str, Array] = {}
    reasons: dict[str, str] = {}
    wanted = {key for key, value in metrics.items() if value is not None}
    calibrated = {
        name: value
        for name, value in thresholds.items()
        if value is not None and name != "mask_threshold"
    }
    for keys, statistic in (
        *_means(scored, weights),
        *_over_all_thresholds(scored, weights),
        *_at_thresholds(scored, calibrated, metrics.get("lesion/best_threshold"), weights),
    ):
        if wanted.isdisjoint(keys):
            continue
        try:
            values |= dict(zip(keys, statistic(), strict=True))
        except ValueError as error:
            reasons |= dict.fromkeys(keys, str(error))
    return values, reasons


def populations(scored: Scored) -> dict[str, Array]:
    """The lesion slices whose pixels are pooled: {suffix of the key: (N,) bool}."""
    return {"": scored.is_lesion} | {f"/{group}": scored.group == group for group in GROUPS}


def _means(scored: Scored, weights: Array) -> Iterator[Statistic]:
    for column in SLICE_MEANS:
        if column in scored.slices:
            values = scored.slices[column].to_numpy(dtype=float)
            yield [f"healthy/{column}"], partial(_mean, values, ~scored.is_lesion, weights)


def _over_all_thresholds(scored: Scored, weights: Array) -> Iterator[Statistic]:
    everything = np.ones(len(scored.group), dtype=bool)
    for suffix, chosen in populations(scored).items():
        keys = [f"lesion/auprc{suffix}", f"lesion/max_dice{suffix}"]
        yield keys, partial(_localization, scored, chosen, weights)
    yield ["all/auprc", "all/max_dice"], partial(_localization, scored, everything, weights)
    yield (
        [f"lesion/sensitivity@{number}fp" for number in FALSE_POSITIVES],
        partial(_sensitivities, scored, weights),
    )
    yield ["all/slice_auroc"], partial(_auroc, scored, weights)


def _at_thresholds(
    scored: Scored, calibrated: Mapping[str, float], best_threshold: float | None, weights: Array
) -> Iterator[Statistic]:
    everything = np.ones(len(scored.group), dtype=bool)
    for name, threshold in calibrated.items():
        counts = pixel_counts(scored.maps > threshold, scored.lesion)
        share = counts.flagged / scored.maps[0].size
        yield [f"healthy/fpr@{name}"], partial(_mean, share, ~scored.is_lesion, weights)
        for suffix, chosen in populations(scored).items():
            yield [f"lesion/dice@{name}{suffix}"], partial(_dice, counts, chosen, weights)
        yield [f"all/dice@{name}"], partial(_dice, counts, everything, weights)
        yield [f"lesion/slice_dice@{name}"], partial(_slice_dice, counts, scored.is_lesion, weights)
    grid = [pixel_counts(scored.maps > step / 100, scored.lesion) for step in range(101)]
    for suffix, chosen in populations(scored).items():
        yield [f"lesion/grid_dice{suffix}"], partial(_grid_dice, grid, chosen, weights)
    if best_threshold is not None:
        counts = pixel_counts(scored.maps >= best_threshold, scored.lesion)
        yield ["lesion/slice_dice"], partial(_slice_dice, counts, scored.is_lesion, weights)


def _mean(values: Array, chosen: Array, weights: Array) -> list[Array]:
    return [resampled_mean(values[chosen], weights[:, chosen])]


def _localization(scored: Scored, chosen: Array, weights: Array) -> tuple[Array, Array]:
    return resampled_localization(
        histograms(scored.maps[chosen], scored.lesion[chosen]), weights[:, chosen]
    )


def _sensitivities(scored: Scored, weights: Array) -> list[Array]:
    found = detections(scored.maps, scored.lesion)
    return [resampled_sensitivity(found, weights, number) for number in FALSE_POSITIVES]


def _auroc(scored: Scored, weights: Array) -> list[Array]:
    return [resampled_auroc(slice_scores(scored.maps), scored.is_lesion, weights)]


def _of(counts: PixelCounts, chosen: Array) -> PixelCounts:
    return PixelCounts(*(count[chosen] for count in counts))


def _dice(counts: PixelCounts, chosen: Array, weights: Array) -> list[Array]:
    return [resampled_dice(_of(counts, chosen), weights[:, chosen])]


def _grid_dice(grid: Sequence[PixelCounts], chosen: Array, weights: Array) -> list[Array]:
    return [np.max([_dice(counts, chosen, weights)[0] for counts in grid], axis=0)]


def _slice_dice(counts: PixelCounts, chosen: Array, weights: Array) -> list[Array]:
    return _mean(
        slice_dice(_of(counts, chosen)), np.ones(int(chosen.sum()), dtype=bool), weights[:, chosen]
    )


def precision_recall(counts: Histograms) -> Array:
    """(2, K) recall and precision of the pooled pixels, from high thresholds to low.

    Of at most CURVE_POINTS thresholds, evenly in recall, and that of the highest Dice. Between two
    whose recalls are far apart, as with equal scores, precision is that of the lower one, as in the
    area that is AUPRC.
    """
    hits, flagged = counts.hits.sum(axis=0, dtype=float), counts.flagged.sum(axis=0, dtype=float)
    recall, precision = hits / hits[-1], hits / flagged
    even = np.searchsorted(recall, np.linspace(recall[0], 1, CURVE_POINTS - 1)).clip(
        max=len(recall) - 1
    )
    kept = np.union1d(even, [np.argmax(2 * hits / (flagged + hits[-1]))])
    recall, precision = recall[kept], precision[kept]
    gaps = np.flatnonzero(np.diff(recall) > 4 / CURVE_POINTS)
    return np.stack(
        [
            np.insert(recall, gaps + 1, recall[gaps]),
            np.insert(precision, gaps + 1, precision[gaps + 1]),
        ]
    )
