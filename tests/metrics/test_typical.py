"""What is typical of healthy slices, and a slice that is not."""

import json

import numpy as np
import pytest
from scipy.stats import wasserstein_distance

from autoddpm.metrics.typical import (
    AIR,
    BINS,
    histogram,
    histogram_distance,
    judged,
    reconstruction_error,
    typical,
)

CENTRES = AIR + (np.arange(BINS) + 0.5) * (1 - AIR) / BINS


def slices(seed: int, count: int = 6, middle: float = 0.5) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(middle, 0.1, (count, 40, 40)).clip(0, 1).astype(np.float32)


def test_the_distance_is_the_earth_mover_s() -> None:
    one, other = (histogram(slices(seed)[0] ** (1 + seed)) for seed in range(2))
    expected = wasserstein_distance(CENTRES, CENTRES, one, other)
    assert histogram_distance(one, other) == pytest.approx(expected)
    assert histogram_distance(one, one) == 0


def test_air_is_not_counted() -> None:
    image = slices(0)[0]
    padded = np.pad(image, 20)
    np.testing.assert_allclose(histogram(padded), histogram(image))
    assert histogram(np.zeros((8, 8))).sum() == 0


def test_a_strange_slice_is_outside_the_healthy_range() -> None:
    images = slices(0, 12)
    healthy = json.loads(json.dumps(typical(images, images + 0.02)))
    assert healthy["slices"] == 12
    none = np.zeros_like(slices(1, 3), dtype=bool)
    same = judged(slices(1, 3), slices(1, 3) + 0.02, none, healthy)
    strange = judged(slices(1, 3, middle=0.7), slices(1, 3, middle=0.7) + 0.1, none, healthy)
    for name in ("histogram_distance", "reconstruction_error"):
        assert same[name]["value"] < 1.5 * same[name]["healthy_highest"]
        assert strange[name]["value"] > 3 * strange[name]["healthy_highest"]


def test_what_is_flagged_does_not_make_a_slice_unknown() -> None:
    images = slices(0, 12)
    healthy = typical(images, images + 0.02)
    made = images[:3] + 0.02
    made[:, :8, :8] = 1
    flagged = np.zeros_like(made, dtype=bool)
    flagged[:, :8, :8] = True
    errors = [
        judged(images[:3], made, of, healthy)["reconstruction_error"]["value"]
        for of in (flagged, ~flagged, ~np.zeros_like(flagged))
    ]
    assert errors[0] == pytest.approx(0.02, abs=1e-6)
    assert errors[1] > errors[2] > errors[0]


def test_the_error_is_the_mean_of_all_pixels() -> None:
    image = slices(2)[0]
    assert reconstruction_error(image, image + 0.25) == pytest.approx(0.25, abs=1e-6)
