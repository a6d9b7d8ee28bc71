"""The scored slices of a test set: what every metric is computed from."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from autoddpm.data.lesion_size import GROUPS, HEALTHY
from autoddpm.metrics.counts import Counts, counts_at, every_score
from autoddpm.metrics.localization import GRID, localization


@dataclass(frozen=True)
class ScoredSlices:
    """N slices, or volumes, with their anomaly maps.

    maps: (N, *space) anomaly maps.
    annotated: (N, *space) pixels that the annotation marks.
    group: (N,) indices into GROUPS.
    thresholds: calibrated ones by name; pixels above them are flagged.
    fidelity: {"ssim": (N,)}: how well each healthy slice was kept. Other entries are not read.
    site: (N,) where each was acquired, "" if nobody says; empty if nobody says of any.
    """

    maps: np.ndarray
    annotated: np.ndarray
    group: np.ndarray
    thresholds: Mapping[str, float]
    fidelity: Mapping[str, np.ndarray] = field(default_factory=dict)
    site: np.ndarray = field(default_factory=lambda: np.empty(0, str))

    @cached_property
    def is_lesion(self) -> np.ndarray:
        """(N,) which slices count as slices with a lesion."""
        return np.asarray(self.group != HEALTHY)

    @cached_property
    def lesion(self) -> np.ndarray:
        """(N, *space) bool, empty in healthy slices, of which some have a single marked pixel."""
        ill = self.is_lesion.reshape(-1, *[1] * (self.maps.ndim - 1))
        return self.annotated.astype(bool) & ill

    def slices(self, population: str) -> np.ndarray:
        """(N,) which slices belong to "all", "lesion", "healthy", or a size group.

        Raises ValueError if there is none, and without any lesion slice for "all".
        """
        of_lesions = population in ("all", "lesion")
        chosen = self.is_lesion if of_lesions else self.group == GROUPS.index(population)
        if not chosen.any():
            kind = "healthy" if population == GROUPS[HEALTHY] else "lesion"
            where = f"the group {population}" if population in GROUPS[1:] else "the test set"
            raise ValueError(f"no {kind} slice in {where}")
        return np.ones_like(chosen) if population == "all" else chosen

    @cached_property
    def sites_of_healthy(self) -> list[str]:
        """The sites of healthy slices, sorted, if there are several."""
        sites = np.unique(self.site[~self.is_lesion]) if len(self.site) else self.site
        named = [str(site) for site in sites if site]
        return named if len(named) > 1 else []

    @cached_property
    def at_thresholds(self) -> Counts:
        """Counts of each slice above the authors' GRID, then above the calibrated thresholds."""
        thresholds = np.array([*GRID, *self.thresholds.values()])
        return counts_at(self.maps, self.lesion, thresholds, "right")

    def above(self, name: str) -> Counts:
        """Counts of each slice above one calibrated threshold, T = 1; ValueError without it."""
        if name not in self.thresholds:
            raise ValueError(f"no threshold {name} was calibrated")
        at, counts = [len(GRID) + [*self.thresholds].index(name)], self.at_thresholds
        return Counts(
            counts.threshold[at], counts.hits[:, at], counts.flagged[:, at], counts.positives
        )

    @cached_property
    def at_best(self) -> Counts:
        """Counts of each lesion slice at the threshold of the highest pooled Dice; T is 1.

        It is the threshold of the data themselves, also in a resample.
        """
        maps, lesion = (one[self.slices("lesion")] for one in (self.maps, self.lesion))
        return counts_at(maps, lesion, localization(every_score(maps, lesion)).best_threshold)
