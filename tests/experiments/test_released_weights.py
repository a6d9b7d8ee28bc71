"""weights/: the released file is what its model card says."""

import csv
import hashlib
import re
from inspect import signature
from itertools import takewhile
from pathlib import Path

import pytest
import torch
from conftest import REAL_DATA
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from autoddpm.cli import _parser
from autoddpm.models.model import Trained
from autoddpm.models.trained import load_checkpoint
from autoddpm.models.weights_file import released_names
from autoddpm.prediction.command import Asked, predict_image
from autoddpm.prediction.method import DetectorSettings, method_of
from autoddpm.training.module import TrainingModule

ROOT = Path(__file__).resolve().parents[2]
RELEASED = ("ixi-small", "ixi-restoration")
CARD = (ROOT / "weights" / "README.md").read_text()
IXI = REAL_DATA / "ixi"
needs_ixi = pytest.mark.skipif(
    not (IXI / "split.csv").is_file(), reason=f"no IXI slices in {IXI}: set AUTODDPM_DATA"
)


@pytest.fixture(scope="module")
def released() -> Trained:
    return load_checkpoint("ixi-small")


def split(name: str) -> dict[str, str]:
    """Subject to file, of one split of IXI."""
    with (IXI / "split.csv").open() as file:
        return {row["subject"]: row["file"] for row in csv.DictReader(file) if row["split"] == name}


def card_losses() -> dict[str, float]:
    """Range of t to loss, in the last line of the card's table of losses."""
    lines = [line.strip("| ").split(" | ") for line in CARD.splitlines() if line.startswith("|")]
    first = next(index for index, line in enumerate(lines) if line[:2] == ["step", "all"])
    names = [name.removeprefix("t = ") for name in lines[first]]
    *_, last = takewhile(lambda line: line[0].replace(",", "").isdigit(), lines[first + 2 :])
    return dict(zip(names[2:], map(float, last[2:]), strict=True))


@pytest.mark.parametrize("name", RELEASED)
def test_it_is_as_small_as_promised(name):
    assert name in released_names()
    assert (ROOT / "weights" / f"{name}.safetensors").stat().st_size <= 9_000_000
    weights = load_checkpoint(name).model.parameters()
    assert sum(values.numel() for values in weights) <= 4_500_000


@pytest.mark.parametrize("name", RELEASED)
def test_the_card_has_the_file_s_checksum_hash_and_steps(name):
    _, card = CARD.split(f"\n# {name}\n")
    card = card.split("\n# ")[0]
    file, trained = ROOT / "weights" / f"{name}.safetensors", load_checkpoint(name)
    assert f"`{hashlib.sha256(file.read_bytes()).hexdigest()}`" in card
    assert f"`{trained.weights_hash}`" in card
    assert f"{trained.step:,} steps" in card


def test_a_restoration_has_its_threshold_and_preparation(released):
    restoration = load_checkpoint("ixi-restoration")
    assert restoration.data["begun_from"] == released.weights_hash
    assert restoration.data["preparation"] == released.data["preparation"]
    method = method_of("ixi-restoration", DetectorSettings().make)
    assert method.threshold.false_positive_rate == 0.002
    assert f"{method.threshold.value:.4f} for 0.2 %" in CARD


def test_what_predict_uses_unless_told_is_one_released_file():
    used = {
        Asked("scan", "out").weights,
        signature(predict_image).parameters["weights"].default,
        _parser().parse_args(["predict", "scan", "-o", "out"]).weights,
    }
    assert used == {"ixi-restoration"}


@pytest.mark.parametrize(
    "path",
    [*ROOT.glob("*.md"), *ROOT.glob("weights/*.md"), *ROOT.glob("experiments/**/*.md")],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_what_a_document_links_to_is_there(path):
    targets = re.findall(r"\]\(([^)#\s]+)", path.read_text())
    assert not [
        target for target in targets if "://" not in target and not (path.parent / target).exists()
    ]


@pytest.mark.parametrize(
    ("detector", "t", "anomaly_map", "precision"),
    [
        ("AnoDDPM", 200, "product", "bf16-mixed"),
        ("AnoDDPM", 200, "product", "32-true"),
        ("AutoDDPM", 200, "residual", "bf16-mixed"),
        ("AutoDDPM", 200, "residual", "32-true"),
        *(("AnoDDPM", t, "residual", "bf16-mixed") for t in (50, 100, 150, 200, 250, 300)),
    ],
)
def test_the_thresholds_are_in_the_file(released, detector, t, anomaly_map, precision):
    """The mask's (of the first map, which is AnoDDPM's) and the final map's: not calibrated
    again."""
    wanted = {
        "weights_hash": released.weights_hash,
        "precision": precision,
        "false_positive_rate": 0.05,
    }
    wanted["sampler"] = {"name": "Ancestral", "stride": 5}
    if (detector, anomaly_map) != ("AnoDDPM", "residual"):  # which asks no perceptual distance
        wanted["perceptual"] = {"name": "TrainedLPIPS", "net": "vgg", "scale": 1.0}
    found = [
        entry["threshold"]
        for entry in released.thresholds
        if wanted.items() <= entry["conditions"].items()
        and (entry["conditions"]["detector"]["name"], entry["conditions"]["detector"]["t"])
        == (detector, t)
        and entry["conditions"]["anomaly_map"]["name"] == anomaly_map
    ]
    assert found
    assert all(0 < threshold < 1 for threshold in found)


@needs_ixi
def test_all_thresholds_are_of_all_validation_slices(released, monkeypatch):
    """Not of the half of them that ixi_tuning calibrates on."""
    monkeypatch.setenv("AUTODDPM_DATA", str(IXI.parent))
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        data = instantiate(compose("train", ["+experiment=ixi"]).data, _convert_="all")
    data.prepare_data()
    data.setup("fit")
    assert len(data.index("calibrate")) == 30
    assert {entry["conditions"]["data_hash"] for entry in released.thresholds} == {
        data.hash("calibrate")
    }


@needs_ixi
@pytest.mark.parametrize("name", RELEASED)
def test_it_was_trained_on_the_training_subjects_and_on_no_other(name):
    subjects = load_checkpoint(name).data["train_subjects"]
    assert sorted(subjects) == sorted(split("train"))
    assert len(subjects) == 470


@needs_ixi
@pytest.mark.slow
def test_its_loss_on_validation_subjects_is_the_card_s(released, monkeypatch):
    """The card's last line of losses, of the same slices, times and noise: there in bf16, here in
    float32."""
    monkeypatch.setenv("AUTODDPM_DATA", str(IXI.parent))
    monkeypatch.syspath_prepend(str(ROOT / "experiments" / "release"))
    from card import validation_slices

    module = TrainingModule(model=released.config, data=released.data)
    module.model.load_state_dict(released.model.state_dict())
    module.log_dict = lambda *arguments, **settings: None  # needs a trainer
    with torch.no_grad():
        module.eval().validation_step(validation_slices(), 0)
    found = {name: float(value) for name, value in module.validation.compute().items()}
    assert card_losses().keys() == {
        name.removeprefix("val/loss_t") for name in found if "_t" in name
    }
    for name, stated in card_losses().items():
        assert found[f"val/loss_t{name}"] == pytest.approx(stated, rel=0.02), name
