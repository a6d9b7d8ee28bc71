"""What is typical of healthy slices, so that a slice that is not can be told by numbers."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

AIR = 0.1  # intensities below it are not counted
BINS = 45  # from `AIR` to 1


def histogram(image: NDArray) -> NDArray[np.float64]:
    """Shares of the intensities of one image, (BINS,), without what is darker than `AIR`.

    image: (*space) in [0, 1]. Without a brighter pixel all shares are 0.
    """
    counts = np.histogram(image, np.linspace(AIR, 1, BINS + 1))[0]
    return counts / max(1, counts.sum())


def histogram_distance(one: NDArray, other: NDArray) -> float:
    """Earth mover's distance of two histograms, in units of intensity."""
    width = (1 - AIR) / BINS
    return float(width * np.abs(np.cumsum(one) - np.cumsum(other)).sum())


def reconstruction_error(image: NDArray, reconstruction: NDArray) -> float:
    """Mean absolute difference of pixels and their reconstruction, of any shape."""
    return float(np.abs(image.astype(np.float64) - reconstruction).mean())


def typical(images: NDArray, reconstructions: NDArray) -> dict[str, Any]:
    """What healthy slices have in common, in plain containers, for `judged`.

    images: (N, *space) in [0, 1] of healthy slices, N at least 2.
    reconstructions: of the same shape.

    histogram: the mean of all slices.
    histogram_distance, reconstruction_error: the lowest, the median and the highest of the slices.
        A slice's distance is that to the mean of the others.
    """
    histograms = np.stack([histogram(image) for image in images])
    total, count = histograms.sum(0), len(images)
    distances = [histogram_distance(one, (total - one) / (count - 1)) for one in histograms]
    errors = [reconstruction_error(*pair) for pair in zip(images, reconstructions, strict=True)]
    return {
        "slices": count,
        "histogram": (total / count).tolist(),
        "histogram_distance": np.percentile(distances, [0, 50, 100]).tolist(),
        "reconstruction_error": np.percentile(errors, [0, 50, 100]).tolist(),
    }


def judged(
    images: NDArray,
    reconstructions: NDArray,
    flagged: NDArray[np.bool_],
    healthy: Mapping[str, Any],
) -> dict[str, dict[str, float]]:
    """The measures of `typical` of a scan, beside the range of healthy slices.

    images, reconstructions: (N, *space), slices of one scan. The median of their values counts.
    flagged: (N, *space). Its pixels are left out of the error: what was found there is an anomaly,
        and how well the rest is known is the question. With all of a slice flagged, all count.
    healthy: of `typical`.
    """
    counted = ~flagged | flagged.all(axis=tuple(range(1, flagged.ndim)), keepdims=True)
    reference = np.array(healthy["histogram"])
    found = {
        "histogram_distance": [histogram_distance(histogram(one), reference) for one in images],
        "reconstruction_error": [
            reconstruction_error(image[kept], made[kept])
            for image, made, kept in zip(images, reconstructions, counted, strict=True)
        ],
    }
    return {
        name: {
            "value": float(np.median(values)),
            "healthy_median": healthy[name][1],
            "healthy_highest": healthy[name][2],
        }
        for name, values in found.items()
    }
