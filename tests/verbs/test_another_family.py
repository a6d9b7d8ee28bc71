"""A family of models that is no DDPM: its own folder and two yaml files, and nothing else."""

import json
from pathlib import Path

import pytest
from conftest import SIZE, Site, Verb

import autoddpm

FAMILY = """
from torch import nn
from autoddpm.detectors.detector import PlainDetector, Reconstruction

class Toy(nn.Module):
    channels, dimensions, validation_names = 1, 2, ["loss"]

    def __init__(self, width):
        super().__init__()
        self.network = nn.Sequential(nn.Conv2d(1, width, 3, padding=1), nn.Conv2d(width, 1, 1))
        self.trial = self.network.forward

    def loss(self, image, keys, epoch):
        return (self.network(image) - image).square().mean((1, 2, 3))

    def validation_losses(self, image, keys): return {"loss": self.loss(image, keys, None)}
    def seen(self, image, keys, epoch): return image
    def example(self, image, ids): return {"restored": self.network(image).clamp(0, 1)}
    def record(self): return {}

class OneCall(PlainDetector):
    label = "one call"

    def __init__(self, model, seed=0): self.model, self.seed = model, seed

    def reconstruct(self, batch, first=None):
        image = self.model.network(batch.image).clamp(0, 1)
        return Reconstruction(image, image.new_ones(len(image)).long().cpu())

    def anomaly_map(self, batch, made): return (batch.image - made.image).abs()
"""


@pytest.fixture
def family(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The override with which Hydra finds the family's yaml files."""
    package, conf = tmp_path / "lib" / "puppets", tmp_path / "conf"
    for folder in (package, conf / "model", conf / "detector"):
        folder.mkdir(parents=True)
    (package / "__init__.py").write_text("IN_WEIGHTS_FILES = True\n")
    (package / "toy.py").write_text(FAMILY)
    (conf / "model" / "toy.yaml").write_text("_target_: autoddpm.puppets.toy.Toy\nwidth: 4\n")
    detector = "_target_: autoddpm.puppets.toy.OneCall\n_partial_: true\nseed: ${seed}\n"
    (conf / "detector" / "toy.yaml").write_text(detector)
    monkeypatch.setattr(autoddpm, "__path__", [*autoddpm.__path__, str(tmp_path / "lib")])
    return f"hydra.searchpath=[file://{conf}]"


@pytest.mark.slow
def test_it_goes_through_train_evaluate_and_report(
    verb: Verb, site: Site, family: str, tmp_path: Path
) -> None:
    own = (*site.paths, f"paths.runs={tmp_path}", f"data.size={SIZE}", family, "name=toy")
    training = ("data=ixi", "data.batch_size=4", "trainer.max_steps=6", "trainer.precision=32-true")
    outcome = verb("train", "model=toy", *training, *own)
    assert outcome.code == 0, outcome.err
    (checkpoint,) = (tmp_path / "toy" / "train").rglob("last.ckpt")
    outcome = verb("evaluate", "data=ixi_stroke", "detector=toy", f"checkpoint={checkpoint}", *own)
    assert outcome.code == 0, outcome.err
    (path,) = (tmp_path / "toy" / "evaluate").rglob("metrics.json")
    row = json.loads(path.read_text())
    assert row["label"] == "one call"
    assert row["metrics"]["calls_per_slice"] == 1
    assert row["metrics"]["lesion/auprc"] > 0
    assert row["provenance"]["sampler"] is None
    evaluation = ("data=ixi_stroke", "detector=anoddpm", f"checkpoint={checkpoint}")
    outcome = verb("evaluate", *evaluation, *own)
    assert outcome.code == 1
    assert "detector.t=200: this detector noises and denoises, and needs a DDPM" in outcome.err
    assert "say detector=restoration" in outcome.err
    outcome = verb("report", f"paths.runs={tmp_path}", "name=toy", "report.resamples=20")
    assert outcome.code == 0, outcome.err
    assert "one call" in (tmp_path / "toy" / "report" / "measured.csv").read_text()
