"""Lesion sizes: the groups that every table goes by."""

import numpy as np
from numpy.typing import ArrayLike

GROUPS = ("healthy", "small", "medium", "large")
CUTS = ("published", "percentiles")  # between small, medium and large
HEALTHY = 0  # index of a slice's group in GROUPS
#: Lesion pixels at 128 x 128, by the authors' code (the text prints < 71 and >= 570).
LARGEST_OF_GROUP = (1, 71, 570)


def size_group(lesion_pixels: ArrayLike, size: int, cuts: str = "published") -> np.ndarray:
    """(N,) indices into GROUPS, by the lesion's size as if at 128x128.

    lesion_pixels: (N,) at size x size.
    size: pixels a side.
    cuts: "published" (71 and 570 pixels), or "percentiles", as the published cuts were made. Small
        is up to the 25th and large above the 75th percentile of these lesions' unique sizes.
    """
    at_128 = np.asarray(lesion_pixels, dtype=np.float64) * (128 / size) ** 2
    largest = np.array(LARGEST_OF_GROUP, dtype=np.float64)
    lesions = at_128[at_128 > largest[HEALTHY]]
    if cuts == "percentiles" and len(lesions):
        largest[1:] = np.quantile(np.unique(lesions), [0.25, 0.75])
    elif cuts not in CUTS:
        raise ValueError(f"size_groups={cuts}: must be {' or '.join(CUTS)}")
    return np.searchsorted(largest, at_128)
