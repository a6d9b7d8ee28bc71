"""What a detector promises: each broken promise is refused by name, before anything is kept."""

import pytest
import torch
from tiny import Slices, images
from torch import Tensor

from autoddpm.detectors.detector import (
    PlainDetector,
    Reconstruction,
    checked_detector,
    checked_map,
    checked_reconstruction,
)
from autoddpm.settings import arguments

BATCH = Slices(images(2), ["a", "b"])
CALLS = torch.tensor([1, 1])


class Half(PlainDetector):
    label = "half"

    def __init__(self, levels: object = 1) -> None:
        self.levels = levels

    def reconstruct(self, batch: Slices, first: object = None) -> Reconstruction:
        return Reconstruction(batch.image / 2, CALLS)

    def anomaly_map(self, batch: Slices, made: Reconstruction) -> Tensor:
        return (batch.image - made.image).abs()


class WithoutBase:
    label, variant = "x", "paper"
    reconstruct, anomaly_map = Half.reconstruct, Half.anomaly_map


def test_a_detector_passes() -> None:
    half = checked_detector(Half())
    made = checked_reconstruction(half.reconstruct(BATCH), BATCH)
    assert checked_map(half.anomaly_map(BATCH, made), BATCH).shape == BATCH.image.shape


def test_a_class_that_lacks_something_is_refused_with_its_names() -> None:
    words = (
        "WithoutBase has no begins_with, only_of_map, sees_lesion, to_calibrate; .*PlainDetector"
    )
    with pytest.raises(ValueError, match=words):
        checked_detector(WithoutBase())


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (Reconstruction(images(2)[:, 0], CALLS), r"reconstruction is \(2, 16, 16\) torch.float32"),
        (Reconstruction(images(2).bfloat16(), CALLS), "bfloat16, must be .* torch.float32"),
        (Reconstruction(images(2), 3), r"calls must be a tensor \(2,\)"),
        (Reconstruction(images(2), CALLS[:1]), r"calls must be a tensor \(2,\)"),
        (Reconstruction(images(2), CALLS, {"lesion": images(2)}), "may not be called lesion"),
    ],
)
def test_a_reconstruction_of_another_form_is_refused(made: Reconstruction, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        checked_reconstruction(made, BATCH)


@pytest.mark.parametrize("shape", [(2, 16, 16), (2, 2, 16, 16), (1, 1, 16, 16)])
def test_a_map_of_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"its anomaly map is .* must be \(2, 1, 16, 16\)"):
        checked_map(torch.zeros(shape), BATCH)


@pytest.mark.parametrize("levels", [[1, [2]], (1, None), {"a": 1}])
def test_a_setting_that_no_record_holds_is_refused_by_name(levels: object) -> None:
    with pytest.raises(ValueError, match="Half: its setting levels is a "):
        arguments(Half(levels))
