"""The detector that weights ask for, its thresholds, and what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from scan_files import write_small_weights

from autoddpm.atomic import write_json
from autoddpm.autoencoder.restoration import Restoration
from autoddpm.detectors.anoddpm import AnoDDPM
from autoddpm.detectors.autoddpm import AutoDDPM
from autoddpm.detectors.restoration import RestorationDetector
from autoddpm.evaluation.conditions import of_detector
from autoddpm.models.trained import load_checkpoint, weights_hash
from autoddpm.prediction.method import DetectorSettings, method_of
from autoddpm.settings import describe

pytestmark = pytest.mark.usefixtures("one_thread")
SETTINGS = DetectorSettings(t=30, stride=10, perceptual="none")


@pytest.fixture(scope="module")
def ddpm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_weights(tmp_path_factory.mktemp("ddpm") / "ddpm.safetensors", "tiny")


@pytest.fixture(scope="module")
def restoration(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_weights(tmp_path_factory.mktemp("restoration") / "r.safetensors")


def keep(weights: Path, *entries: dict[str, Any]) -> None:
    """The thresholds beside weights."""
    write_json(weights.with_suffix(".thresholds.json"), list(entries))


def entry(weights: Path, detector: Any, threshold: float, **other: Any) -> dict[str, Any]:
    """A threshold as a calibration keeps it."""
    sampler = getattr(detector, "sampler", None)
    conditions = {
        "weights_hash": weights_hash(weights),
        "seed": getattr(detector, "seed", None),
        "sampler": None if sampler is None else describe(sampler),
        "precision": "32-true",
        "size": 32,
        "data_hash": "abc",
        "clip": [0, 1],
        "false_positive_rate": 0.05,
        **of_detector(detector),
    }
    healthy = {"healthy": other.pop("healthy")} if "healthy" in other else {}
    return {"threshold": threshold, "conditions": conditions | other, **healthy}


def test_the_weights_say_which_detector(ddpm: Path, restoration: Path) -> None:
    for weights, kind in ((ddpm, AutoDDPM), (restoration, RestorationDetector)):
        assert type(DetectorSettings().make(load_checkpoint(weights).model)) is kind
    assert type(DetectorSettings("anoddpm").make(load_checkpoint(ddpm).model)) is AnoDDPM
    with pytest.raises(ValueError, match="detector=restoration: needs"):
        DetectorSettings("restoration").make(load_checkpoint(ddpm).model)
    with pytest.raises(ValueError, match="--perceptual nose: must be one of"):
        DetectorSettings(perceptual="nose").make(load_checkpoint(ddpm).model)


@pytest.mark.parametrize(
    "given", [{"t": 100}, {"stride": 1}, {"perceptual": "none"}, {"seed": 7}], ids=str
)
def test_what_a_restoration_has_not_is_refused(restoration: Path, given: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"^--\w+ \w+: a restoration .* leave it out, or say"):
        DetectorSettings(**given).make(load_checkpoint(restoration).model)


def test_a_map_says_which_sign_it_counts(ddpm: Path, restoration: Path) -> None:
    named = (
        (restoration, "auto", "how much darker the scan is"),
        (ddpm, "anoddpm", "how far the scan is"),
    )
    for weights, name, words in named:
        method = method_of(str(weights), DetectorSettings(name).make, threshold=0.1)
        assert words in method.meaning


def test_both_thresholds_of_autoddpm_are_those_beside_it(ddpm: Path) -> None:
    detector: Any = SETTINGS.make(load_checkpoint(ddpm).model)
    first = entry(ddpm, detector.first, 0.3)
    detector.mask_threshold = 0.3
    own = entry(ddpm, detector, 0.2, healthy={"slices": 30})
    keep(ddpm, first, own, entry(ddpm, detector, 0.4, false_positive_rate=0.01))
    method = method_of(str(ddpm), SETTINGS.make)
    assert method.detector.mask_threshold == 0.3
    assert (method.threshold.value, method.threshold.data_hash) == (0.2, "abc")
    assert method.threshold.healthy == {"slices": 30}
    assert method.warnings == []
    assert method_of(str(ddpm), SETTINGS.make, 0.01).threshold.value == 0.4
    with pytest.raises(ValueError, match=r"at a false-positive rate of 0.03; it has 0.01, 0.05"):
        method_of(str(ddpm), SETTINGS.make, 0.03)


def test_a_threshold_of_another_seed_is_used_and_said(ddpm: Path) -> None:
    anoddpm = DetectorSettings("anoddpm", t=30, stride=10)
    keep(ddpm, entry(ddpm, anoddpm.make(load_checkpoint(ddpm).model), 0.2))
    other = DetectorSettings("anoddpm", t=30, stride=10, seed=7)
    method = method_of(str(ddpm), other.make)
    assert method.threshold.value == 0.2
    assert method.warnings == ["thresholds were calibrated with seed 0, these maps have seed 7"]


def test_no_other_threshold_is_taken_instead(ddpm: Path) -> None:
    anoddpm = DetectorSettings("anoddpm", t=30, stride=10)
    detector = anoddpm.make(load_checkpoint(ddpm).model)
    keep(ddpm, entry(ddpm, detector, 0.2))
    with pytest.raises(ValueError, match=r"no threshold of AnoDDPM \(t=31\).*t=30 stride=10"):
        method_of(str(ddpm), DetectorSettings("anoddpm", t=31, stride=10).make)
    for wrong in (
        {"precision": "bf16-mixed"},
        {"size": 128},
        {"weights_hash": "0"},
        {"clip": [-1, 1]},
    ):
        keep(ddpm, entry(ddpm, detector, 0.2, **wrong))
        with pytest.raises(ValueError, match="holds no threshold"):
            method_of(str(ddpm), anoddpm.make)
    keep(ddpm, entry(ddpm, detector, 0.2), entry(ddpm, detector, 0.3, data_hash="def"))
    with pytest.raises(ValueError, match=r"several sets of healthy slices \(abc, def\)"):
        method_of(str(ddpm), anoddpm.make)
    assert method_of(str(ddpm), anoddpm.make, threshold=0.9).threshold.value == 0.9


def test_weights_without_steps_are_refused_unless_a_file_says(tmp_path: Path) -> None:
    weights = write_small_weights(tmp_path / "old.safetensors", preparation={})
    with pytest.raises(
        ValueError, match=r"old.safetensors: does not say how.*old.preparation.json"
    ):
        method_of(str(weights), DetectorSettings().make, threshold=0.1)
    steps = {"n4": True, "brain_mask": "deepbet", "register": True, "window": "slice"}
    stated = {"modality": "T1", "slices": 95, "steps": steps, "note": "as far as is known"}
    write_json(tmp_path / "old.preparation.json", stated)
    method = method_of(str(weights), DetectorSettings().make, threshold=0.1)
    assert method.record()["preparation"] == {"modality": "T1", "slices": 95, "steps": steps}
    assert method.note == "as far as is known"


def test_released_weights_can_be_predicted_with() -> None:
    method = method_of("ixi-small", DetectorSettings().make)
    assert (method.steps.slices, method.steps.register, method.modality) == (95, True, "T1")
    assert method.threshold.false_positive_rate == 0.05
    json.dumps(method.record())


def test_a_restoration_has_a_usual_rate_of_its_own(restoration: Path) -> None:
    detector = DetectorSettings().make(load_checkpoint(restoration).model)
    entries = {
        rate: entry(restoration, detector, 1 - rate, false_positive_rate=rate)
        for rate in (0.05, 0.002)
    }
    keep(restoration, *entries.values())
    make = DetectorSettings().make
    assert method_of(str(restoration), make).threshold.value == 0.998
    assert method_of(str(restoration), make, 0.05).threshold.value == 0.95


def test_a_threshold_in_the_file_is_preferred_to_one_beside_it(
    restoration: Path, tmp_path: Path
) -> None:
    detector = DetectorSettings().make(load_checkpoint(restoration).model)
    own = entry(restoration, detector, 0.3, false_positive_rate=0.002)
    weights = write_small_weights(tmp_path / "with.safetensors", thresholds=[own])
    keep(weights, own | {"threshold": 0.4, "conditions": own["conditions"] | {"data_hash": "def"}})
    assert method_of(str(weights), DetectorSettings().make).threshold.value == 0.3


def test_weights_of_volumes_or_of_two_channels_are_refused(
    restoration: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    of_two = Restoration(torch.nn.Conv2d(2, 2, 1), channels=2)
    trained = load_checkpoint(restoration)
    monkeypatch.setattr(
        "autoddpm.prediction.method.load_checkpoint",
        lambda path: type(trained)(**(vars(trained) | {"model": of_two})),
    )
    with pytest.raises(ValueError, match="is of 2 channels in 2 dimensions"):
        method_of(str(restoration), DetectorSettings().make, threshold=0.1)
