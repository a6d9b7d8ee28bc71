"""The groups of lesion sizes."""

import numpy as np
import pytest

from autoddpm.data.lesion_size import GROUPS, size_group


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
    assert GROUPS[size_group([pixels], 128)[0]] == group


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
def test_at_another_size_the_groups_are_those_at_128(pixels, size, group):
    assert GROUPS[size_group([pixels], size)[0]] == group


def test_percentiles_are_of_the_unique_sizes_of_lesions():
    pixels = np.array([0, 1, 10, 10, 10, 20, 30, 40, 50])
    low, high = np.percentile([10, 20, 30, 40, 50], [25, 75])
    expected = np.where(pixels <= 1, 0, 1 + (pixels > low) + (pixels > high))
    assert size_group(pixels, 128, "percentiles").tolist() == expected.tolist()
    with pytest.raises(ValueError, match="size_groups=quartiles: must be published"):
        size_group(pixels, 128, "quartiles")
