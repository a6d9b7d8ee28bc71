"""Every metric of a row: its value and its resamples come from one function.

A metric takes the scored slices and `weights` (R, N), how often each slice is drawn in each of R
resamples, and gives (R,). A row of ones gives the value that stands in metrics.json.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np

from autoddpm.data.lesion_size import GROUPS
from autoddpm.metrics.counts import Counts, histograms, refuse_non_finite
from autoddpm.metrics.detection import (
    auroc,
    detections,
    detections_above,
    sensitivity,
    slice_scores,
)
from autoddpm.metrics.localization import (
    GRID,
    localization,
    max_slice_dice,
    pooled_counts,
    pooled_dice,
    slice_dice,
)
from autoddpm.metrics.pimo import aupimo
from autoddpm.metrics.scored_slices import ScoredSlices
from autoddpm.metrics.statistics import ratio, weighted_mean

CALIBRATED = "healthy_fpr5"  # the threshold of what is not measured at every calibrated one
FALSE_POSITIVES = (1, 2)  # per slice
OVERLAP = ("auprc", "max_dice", "grid_dice", "best_threshold")
REGIONS = ("lesion_f1", "count_difference", "volume_difference")
#: Keys of metrics.json, and what gives (R,) for each of them, or raises ValueError.
Metric = tuple[Sequence[str], Callable[[np.ndarray], Sequence[np.ndarray]]]


def measure(
    scored: ScoredSlices, weights: np.ndarray, wanted: set[str] | None = None
) -> dict[str, np.ndarray | str]:
    """{key of metrics.json: (R,) its value in each resample, or why it has none}.

    `all/` pools lesion and healthy slices, `lesion/` the lesion slices, and a size group stands
    behind: `lesion/auprc/small`. Of a population's pooled pixels:

    - `auprc`, and `max_dice` over all thresholds (the paper's) with its `best_threshold`;
    - `grid_dice` over the authors' thresholds;
    - `dice@healthy_fpr5` at a threshold calibrated on healthy validation slices;
    - `lesion/dice_gap@healthy_fpr5`: what the highest Dice has more than that.

    Of whole slices, the two conventions of a mean Dice, which must not be mixed, and others:

    - `lesion/slice_dice`: mean of each lesion slice's Dice at the threshold of `lesion/max_dice`;
    - `all/max_slice_dice`: the highest, over thresholds, of the mean of all slices' Dice, where a
      healthy slice counts 1 if nothing of it is flagged, else 0 (as MAD-AD and REFLECT report);
    - `all/slice_auroc`, `all/slice_auprc`: whether a slice's score is higher if it has a lesion;
    - `lesion/aupimo`: mean recall of lesion slices at few false positives, see `pimo.aupimo`.

    Of single lesions, pooled over lesion slices, but for the first, whose false positives are
    counted in healthy slices too:

    - `lesion/sensitivity@1fp`: share of lesions hit at so many false positives per slice;
    - `lesion/lesion_f1@healthy_fpr5`: twice the lesions hit, over lesions, lesions hit and flagged
      regions that touch none;
    - `lesion/count_difference@healthy_fpr5`: mean of how many more or fewer regions are flagged
      than there are lesions in a slice;
    - `lesion/volume_difference@healthy_fpr5`: the same of pixels, as a share of the slice's pixels.

    Of healthy slices: `healthy/ssim` and its like, means; `healthy/fpr@healthy_fpr5`, the share of
    their pixels that a calibrated threshold flags, and by site, `healthy/fpr@healthy_fpr5/HH`, if
    there is more than one.

    Thresholds are those of the data themselves, but for AUPRC, the highest Dice and the
    sensitivity, which choose theirs anew in each resample.

    weights: (R, N), how often each slice is drawn. A row of ones is measured exactly, together with
        other rows AUPRC and highest Dice are within the bounds of `counts.histograms`.
    wanted: the keys to give. All by default.
    """
    found: dict[str, np.ndarray | str] = {}
    for keys, metric in _metrics(scored):
        if wanted is not None and wanted.isdisjoint(keys):
            continue
        try:
            found |= dict(zip(keys, metric(weights), strict=True))
        except ValueError as error:
            found |= dict.fromkeys(keys, str(error))
    return {key: one for key, one in found.items() if wanted is None or key in wanted}


def metric_keys(thresholds: Sequence[str], fidelity: Sequence[str]) -> list[str]:
    """The keys of `measure`, without those of single sites.

    thresholds: names of the calibrated ones.
    fidelity: names of what is measured of reconstructions, such as "ssim".
    """
    none = np.zeros((0, 1, 1))
    scored = ScoredSlices(
        none,
        none.astype(bool),
        np.zeros(0, int),
        dict.fromkeys(thresholds, 0.0),
        dict.fromkeys(fidelity, np.zeros(0)),
    )
    return [key for keys, _ in _metrics(scored) for key in keys]


def _metrics(scored: ScoredSlices) -> Iterator[Metric]:
    """In the order of metrics.json."""
    yield ["all/auprc", "all/max_dice"], partial(overlap, scored, "all", OVERLAP[:2])
    yield [f"all/dice@{CALIBRATED}"], partial(dice_above, scored, "all", CALIBRATED)
    yield ["all/slice_auroc"], partial(slice_auroc, scored)
    yield ["all/slice_auprc"], partial(slice_auprc, scored)
    yield ["all/max_slice_dice"], partial(max_mean_dice, scored)
    yield ["lesion/slice_dice"], partial(slice_dice_at_best, scored)
    yield [f"lesion/slice_dice@{CALIBRATED}"], partial(slice_dice_above, scored, CALIBRATED)
    keys = [f"lesion/sensitivity@{number}fp" for number in FALSE_POSITIVES]
    yield keys, partial(lesion_sensitivity, scored)
    yield ["lesion/aupimo"], partial(lesion_aupimo, scored)
    for name in scored.thresholds:
        yield [f"lesion/{one}@{name}" for one in REGIONS], partial(regions_above, scored, name)
    yield [f"lesion/dice_gap@{name}" for name in scored.thresholds], partial(dice_gaps, scored)
    for name in scored.fidelity:
        yield [f"healthy/{name}"], partial(healthy_mean, scored, name)
    for population in ("lesion", *GROUPS[1:]):
        suffix = "" if population == "lesion" else f"/{population}"
        keys = [f"lesion/{name}{suffix}" for name in OVERLAP]
        yield keys, partial(overlap, scored, population, OVERLAP)
        for name in scored.thresholds:
            yield [f"lesion/dice@{name}{suffix}"], partial(dice_above, scored, population, name)
    for name in scored.thresholds:
        yield [f"healthy/fpr@{name}"], partial(healthy_fpr, scored, name)
    for site in scored.sites_of_healthy:
        for name in scored.thresholds:
            yield [f"healthy/fpr@{name}/{site}"], partial(healthy_fpr, scored, name, site=site)


def overlap(
    scored: ScoredSlices, population: str, names: Sequence[str], weights: np.ndarray
) -> list[np.ndarray]:
    """Of the pooled pixels of a population those of OVERLAP that `names` names."""
    chosen = scored.slices(population)
    weights = weights[:, chosen]
    best = localization(*pooled_counts(scored.maps[chosen], scored.lesion[chosen], weights))
    grid = pooled_dice(scored.at_thresholds.of(chosen), weights)[:, : len(GRID)].max(axis=1)
    return [{**best._asdict(), "grid_dice": grid}[name] for name in names]


def dice_above(
    scored: ScoredSlices, population: str, threshold: str, weights: np.ndarray
) -> list[np.ndarray]:
    """Dice of the pooled pixels of a population above a calibrated threshold."""
    chosen = scored.slices(population)
    return [pooled_dice(scored.above(threshold).of(chosen), weights[:, chosen])[:, 0]]


def slice_auroc(scored: ScoredSlices, weights: np.ndarray) -> list[np.ndarray]:
    """Area under the ROC curve of slices with a lesion against healthy ones."""
    ill, _ = scored.slices("lesion"), scored.slices("healthy")
    return [auroc(slice_scores(scored.maps), ill, weights)]


def slice_auprc(scored: ScoredSlices, weights: np.ndarray) -> list[np.ndarray]:
    """Average precision of slices with a lesion, by their scores."""
    ill, _ = scored.slices("lesion"), scored.slices("healthy")
    counts = histograms(slice_scores(scored.maps)[:, None], ill[:, None])
    return [localization(counts, weights).auprc]


def max_mean_dice(scored: ScoredSlices, weights: np.ndarray) -> list[np.ndarray]:
    """The highest mean of all slices' Dice, one threshold for all, in each resample its own.

    A healthy slice falls from 1 to 0 at its highest score. So the lowest score of a lesion's pixel
    above that is among the thresholds, for each healthy slice.
    """
    chosen = scored.slices("all")
    maps, lesion = scored.maps[chosen], scored.lesion[chosen]
    healthy = ~lesion.reshape(len(lesion), -1).any(axis=1)
    scores = np.unique(maps[lesion.astype(bool)])
    highest = maps.reshape(len(maps), -1).max(axis=1)[healthy]
    above = np.searchsorted(scores, highest, "right")
    also = scores[np.unique(above[above < len(scores)])]
    return [max_slice_dice(histograms(maps, lesion, also), weights)]


def slice_dice_at_best(scored: ScoredSlices, weights: np.ndarray) -> list[np.ndarray]:
    """Mean of each lesion slice's Dice at the threshold of the highest pooled Dice."""
    return _mean_dice(scored.at_best, weights[:, scored.slices("lesion")])


def slice_dice_above(scored: ScoredSlices, threshold: str, weights: np.ndarray) -> list[np.ndarray]:
    """Mean of each lesion slice's Dice above a calibrated threshold."""
    chosen = scored.slices("lesion")
    return _mean_dice(scored.above(threshold).of(chosen), weights[:, chosen])


def _mean_dice(counts: Counts, weights: np.ndarray) -> list[np.ndarray]:
    return [weighted_mean(slice_dice(counts)[:, 0], weights)]


def lesion_sensitivity(scored: ScoredSlices, weights: np.ndarray) -> list[np.ndarray]:
    """Share of lesions found, at each of FALSE_POSITIVES."""
    scored.slices("lesion")
    found = detections(scored.maps, scored.lesion)
    return [sensitivity(found, weights, number) for number in FALSE_POSITIVES]


def lesion_aupimo(scored: ScoredSlices, weights: np.ndarray) -> list[np.ndarray]:
    """Mean recall of lesion slices over low false-positive rates of healthy ones."""
    ill, healthy = scored.slices("lesion"), scored.slices("healthy")
    return [aupimo(scored.maps, scored.lesion, ill, healthy, weights)]


def regions_above(scored: ScoredSlices, threshold: str, weights: np.ndarray) -> list[np.ndarray]:
    """F1 of lesions, and differences in count and volume, above a calibrated threshold."""
    chosen = scored.slices("lesion")
    weights, counts = weights[:, chosen], scored.above(threshold).of(chosen)
    found = detections_above(scored.maps[chosen], scored.lesion[chosen], counts.threshold[0])
    hit, lesions = (weights @ one for one in (found.found, found.lesions))
    wrong = weights @ found.false_positives
    pixels = np.abs(counts.flagged[:, 0].astype(np.float64) - counts.positives)
    return [
        ratio(2 * hit, hit + lesions + wrong),
        weighted_mean(np.abs(found.regions - found.lesions), weights),
        weighted_mean(pixels / scored.maps[0].size, weights),
    ]


def dice_gaps(scored: ScoredSlices, weights: np.ndarray) -> list[np.ndarray]:
    """Highest Dice of lesion slices' pooled pixels, minus that above each calibrated threshold."""
    (best,) = overlap(scored, "lesion", ("max_dice",), weights)
    return [best - dice_above(scored, "lesion", name, weights)[0] for name in scored.thresholds]


def healthy_mean(scored: ScoredSlices, name: str, weights: np.ndarray) -> list[np.ndarray]:
    """Mean of how well healthy slices were kept, such as their SSIM."""
    chosen = scored.slices("healthy")
    values, weights = scored.fidelity[name][chosen], weights[:, chosen]
    refuse_non_finite(values, f"the {name} of each slice")
    total = np.cumsum(weights * values, axis=1)[:, -1]  # in turn: the last digit of 0.1.0
    return [ratio(total, weights.sum(axis=1))]


def healthy_fpr(
    scored: ScoredSlices, threshold: str, weights: np.ndarray, site: str | None = None
) -> list[np.ndarray]:
    """Share of the pixels of healthy slices above a calibrated threshold.

    site: of the slices; None for all.
    """
    chosen = scored.slices("healthy")
    if site is not None:
        chosen = chosen & (scored.site == site)
    flagged = scored.above(threshold).flagged[chosen, 0].astype(np.float64)
    weights = weights[:, chosen]
    return [ratio(weights @ flagged, weights.sum(axis=1) * scored.maps[0].size)]
