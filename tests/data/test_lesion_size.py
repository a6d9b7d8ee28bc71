"""The groups of lesion sizes."""

import numpy as np
import pytest

from autoddpm.data.lesion_size import GROUPS, size_group


@pytest.mark.parametrize(
    ("size", "last_of"),
    [(128, (1, 71, 570)), (64, (0, 17, 142)), (256, (4, 284, 2280))],
)
def test_the_size_groups_change_at_the_authors_cuts(size, last_of):
    for group, pixels in enumerate(last_of):
        found = size_group([pixels, pixels + 1], size)
        assert [GROUPS[one] for one in found] == list(GROUPS[group : group + 2])


def test_percentiles_are_of_the_unique_sizes_of_lesions():
    pixels = np.array([0, 1, 10, 10, 10, 20, 30, 40, 50])
    low, high = np.percentile([10, 20, 30, 40, 50], [25, 75])
    expected = np.where(pixels <= 1, 0, 1 + (pixels > low) + (pixels > high))
    assert size_group(pixels, 128, "percentiles").tolist() == expected.tolist()
    with pytest.raises(ValueError, match="size_groups=quartiles: must be published"):
        size_group(pixels, 128, "quartiles")
