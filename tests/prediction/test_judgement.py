"""What a prediction warns of: scans that the weights do not know, and not what is found on one."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from autoddpm.metrics.typical import typical
from autoddpm.prediction.detect import Detected
from autoddpm.prediction.method import Threshold
from autoddpm.prediction.result import judgement

SIDE = 40


def heads(count: int) -> NDArray[np.float32]:
    generator = np.random.default_rng(0)
    images = np.zeros((count, SIDE, SIDE), np.float32)
    images[:, 5:-5, 5:-5] = generator.uniform(0.4, 0.9, (count, 30, 30))
    return images


def warnings(made: NDArray, states_healthy: bool = True) -> list[str]:
    """Of a scan of one slice that is reconstructed so; healthy ones are to within 0.02."""
    known = heads(8)
    healthy = typical(known, known + 0.02) if states_healthy else None
    method: Any = SimpleNamespace(threshold=Threshold(0.1, healthy=healthy))
    prepared: Any = SimpleNamespace(
        brain_dice=0.99, slices=[95], known=[95], absent=[], images=heads(1)
    )
    maps = np.abs(made - prepared.images)
    return judgement(prepared, Detected(maps, made, 0.0), method, {"at_border": None})[1]


def filled(rows: slice, by: float) -> NDArray[np.float32]:
    made = heads(1) + 0.015
    made[:, rows, 5:-5] += by
    return made


def test_a_lesion_is_no_warning() -> None:
    assert warnings(filled(slice(10, 18), 0.5)) == []


def test_an_error_where_nothing_is_flagged_is_a_warning() -> None:
    (said,) = warnings(filled(slice(5, 35), 0.07))
    assert said.startswith("what is not flagged is reconstructed with an error of 0.0")


@pytest.mark.parametrize("rows", [slice(5, 35), slice(0, 40)])
def test_a_scan_that_is_flagged_nearly_everywhere_is_a_warning(rows: slice) -> None:
    for states_healthy in (True, False):
        said = warnings(filled(rows, 0.5), states_healthy)
        assert sum("% of its known slices is flagged" in one for one in said) == 1
