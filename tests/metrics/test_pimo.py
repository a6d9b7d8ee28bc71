"""AUPIMO: against its definition, counted one threshold after the other."""

import numpy as np
import pytest
from scipy.integrate import trapezoid

from autoddpm.metrics.pimo import FPR_BOUNDS, RATES, aupimo

ILL = np.arange(12) < 5


def slices(clear: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    """Twelve maps of 40 x 40, the first five with a lesion; scores in steps, so that many tie."""
    rng = np.random.default_rng(5)
    lesion = np.zeros((12, 40, 40), bool)
    for n in np.flatnonzero(ILL):
        lesion[n, 5 : 9 + 2 * n, 7 : 12 + n] = True
    maps = np.round(rng.random(lesion.shape) + clear * lesion, 3).astype(np.float32)
    return maps, lesion


def by_hand(maps: np.ndarray, lesion: np.ndarray) -> float:
    healthy, at_rates = maps[~lesion.any((1, 2))], []
    candidates = np.unique(healthy)[::-1]
    rates = np.array([(healthy > one).mean() for one in candidates])
    for rate in RATES:
        threshold = candidates[rates <= rate][-1]
        recalls = [
            (one[at] > threshold).mean() for one, at in zip(maps, lesion, strict=True) if at.any()
        ]
        at_rates.append(np.mean(recalls))
    rates = np.log(RATES)
    return float(trapezoid(at_rates, rates) / (rates[-1] - rates[0]))


def of(maps: np.ndarray, lesion: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    return aupimo(maps, lesion, ILL, ~ILL, np.ones((1, 12)) if weights is None else weights)


def test_it_is_the_mean_recall_over_the_logarithm_of_rates():
    maps, lesion = slices()
    assert of(maps, lesion)[0] == pytest.approx(by_hand(maps, lesion), abs=1e-12)


def test_a_perfect_map_has_one_and_a_random_one_what_is_said():
    assert of(*slices(clear=2))[0] == 1
    rng = np.random.default_rng(0)
    lesion = np.zeros((12, 256, 256), bool)
    lesion[:5, 20:240, 20:240] = True
    low, high = FPR_BOUNDS
    expected = (high - low) / np.log(high / low)
    assert of(rng.random(lesion.shape), lesion)[0] == pytest.approx(expected, rel=0.05)


def test_a_resample_is_close_to_the_drawn_slices_put_together():
    maps, lesion = slices()
    weights = np.random.default_rng(1).integers(0, 3, (4, 12)).astype(float)
    found = of(maps, lesion, weights)
    for n, row in enumerate(weights.astype(int)):
        drawn = np.repeat(np.arange(12), row)
        assert found[n] == pytest.approx(by_hand(maps[drawn], lesion[drawn]), abs=0.01)


def test_a_resample_without_one_of_the_two_kinds_has_none():
    maps, lesion = slices()
    weights = np.stack([ILL, ~ILL, np.ones(12)]).astype(float)
    assert np.isnan(of(maps, lesion, weights)).tolist() == [True, True, False]
