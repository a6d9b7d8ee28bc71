"""The whole way, as README says it: files in the real layouts, the verbs as commands, a kill -9,
and all again."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from conftest import ROOT, SIZE, Verb, single_thread, write_ixi, write_stroke

from autoddpm.detectors.anoddpm import AnoDDPM

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]

STEPS = 60
TRAIN = (
    "train +experiment=ixi model=tiny data.size=32 data.batch_size=4 module.lr=3e-3 "
    f"trainer.max_steps={STEPS} trainer.precision=32-true trainer.log_every_n_steps=1 "
    "callbacks.last.every_n_steps=2"
)
TINY = "perceptual=denoiser data.size=32 sampler.stride=10"
AUTODDPM = f"+experiment=ixi_stroke checkpoint=$C {TINY} detector=autoddpm detector.t_resample=20"
ANODDPM = f"-m +experiment=ixi_stroke checkpoint=$C {TINY} detector=anoddpm detector.t=20,40"
REPORT = "report +experiment=ixi_stroke report.noise_levels=[20,40]"


@dataclass
class Pipeline:
    """A folder in which the verbs were run, and what they printed."""

    folder: Path
    environment: dict[str, str]
    said: dict[str, str]
    killed_at: int = 0

    @property
    def checkpoint(self) -> Path:
        (path,) = self.folder.glob("runs/ixi/train/*/checkpoints/last.ckpt")
        return path

    @property
    def rows(self) -> list[Path]:
        return sorted(self.folder.glob("runs/ixi_stroke/evaluate/*/"))

    def arguments(self, command: str) -> list[str]:
        if "$C" in command:
            command = command.replace("$C", str(self.checkpoint.relative_to(self.folder)))
        return shlex.split(command)

    def run(self, command: str) -> None:
        verb, *overrides = self.arguments(command)
        done = subprocess.run(
            [sys.executable, "-m", f"src.{verb}", *overrides],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert done.returncode == 0, done.stderr
        self.said[command] = done.stdout

    def train_and_kill(self) -> None:
        """Start to train, and kill -9 as soon as there is a checkpoint."""
        verb, *overrides = self.arguments(TRAIN)
        process = subprocess.Popen(
            [sys.executable, "-m", f"src.{verb}", *overrides],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        while not list(self.folder.glob("runs/ixi/train/*/checkpoints/last.ckpt")):
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        self.killed_at = torch.load(self.checkpoint)["global_step"]


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    """All the commands, in the order of the README, the training killed and run again."""
    folder = tmp_path_factory.mktemp("pipeline")
    write_ixi(folder / "sets" / "ixi")
    write_stroke(folder / "data" / "ixi_stroke")
    environment = os.environ | {
        "AUTODDPM_DATA": str(folder / "sets"),
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
    }
    pipeline = Pipeline(folder, environment, {})
    pipeline.train_and_kill()
    for command in (TRAIN, f"evaluate {AUTODDPM}", f"evaluate {ANODDPM}", REPORT):
        pipeline.run(command)
    return pipeline


def test_a_killed_training_resumed_its_checkpoint_and_finished(pipeline: Pipeline) -> None:
    assert 0 < pipeline.killed_at < STEPS
    assert f"continuing from {pipeline.checkpoint}" in pipeline.said[TRAIN]
    assert f"checkpoint={pipeline.checkpoint}" in pipeline.said[TRAIN]
    content = torch.load(pipeline.checkpoint, weights_only=True)
    assert content["global_step"] == STEPS
    run = pipeline.checkpoint.parents[1]
    after = pd.read_csv(run / "csv" / "version_1" / "metrics.csv")["step"].dropna().astype(int)
    assert after.drop_duplicates().tolist() == list(range(pipeline.killed_at, STEPS))


def test_every_row_says_how_it_was_made(pipeline: Pipeline) -> None:
    labels = {}
    for folder in pipeline.rows:
        assert not list(folder.glob("parts*"))
        row = json.loads((folder / "metrics.json").read_text())
        labels[row["label"]] = row
        config = yaml.safe_load((folder / "config.yaml").read_text())
        assert config["detector"]["t"] == row["detector"]["t"]
        assert config["detector"]["seed"] == row["detector"]["seed"] == 0  # and not ${seed}
        with np.load(folder / "maps.npz") as maps:
            assert maps["anomaly_map"].shape == (9, SIZE, SIZE)
        assert row["provenance"]["experiment"] == "ixi_stroke"
    assert set(labels) == {"AutoDDPM", "AnoDDPM (t=20)", "AnoDDPM (t=40)"}
    perceptual = {name: row["provenance"]["perceptual"] for name, row in labels.items()}
    assert perceptual.pop("AutoDDPM") == "denoiser"
    assert set(perceptual.values()) == {None}  # their map does not ask for it
    for key in ("data_hash", "weights_hash"):
        assert len({row["provenance"][key] for row in labels.values()}) == 1
    similarity = [labels[f"AnoDDPM (t={t})"]["metrics"]["healthy/ssim"] for t in (20, 40)]
    assert similarity[0] > similarity[1]  # more noise, less of the image


def test_the_report_has_its_tables_figures_and_page(pipeline: Pipeline) -> None:
    report = pipeline.folder / "runs" / "ixi_stroke" / "report"
    names = {path.name for path in report.iterdir()}
    tables = {f"table{n}.{suffix}" for n in (1, 2, 3) for suffix in ("csv", "md")}
    assert names >= tables | {"figure4.png", "figure5.png", "noise_paradox.png", "index.html"}
    table = pd.read_csv(report / "table1.csv")
    row = json.loads((pipeline.rows[0] / "metrics.json").read_text())
    assert len(table) == 3
    assert f"{100 * row['metrics']['healthy/ssim']:.1f}"[:3] in table.to_csv()
    assert "AnoDDPM (t=20)" in pipeline.said[REPORT]
    assert "runs/ixi_stroke/report/index.html" in pipeline.said[REPORT]
    assert "Semi-synthetic" in (report / "index.html").read_text()


@pytest.fixture
def again(
    pipeline: Pipeline, verb: Verb, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], tuple[str, dict[str, Any]]]:
    """Gives a command a second time; no network may be run. What it says, and the files with their
    times."""
    monkeypatch.chdir(pipeline.folder)
    monkeypatch.setenv("AUTODDPM_DATA", pipeline.environment["AUTODDPM_DATA"])

    def refuse(*_: Any) -> None:
        raise AssertionError("a network was run")

    monkeypatch.setattr(AnoDDPM, "__call__", refuse)
    monkeypatch.setattr("autoddpm.training.module.TrainingModule.training_step", refuse)

    def run(command: str) -> tuple[str, dict[str, Any]]:
        with single_thread():
            outcome = verb(*pipeline.arguments(command))
        assert outcome.code == 0, outcome.err
        return outcome.out, results(pipeline)

    return run


def results(pipeline: Pipeline) -> dict[str, Any]:
    """Time of change of every result of training and evaluation."""
    kept = {".ckpt", ".json", ".npz", ".npy", ".png"}
    files = [
        path
        for path in pipeline.folder.rglob("*")
        if path.suffix in kept and "report" not in path.parts
    ]
    files += list(pipeline.folder.glob("runs/ixi_stroke/evaluate/*/slices.csv"))
    return {str(path): path.stat().st_mtime_ns for path in files}


def test_a_second_training_has_nothing_to_do(
    pipeline: Pipeline, again: Callable[[str], tuple[str, dict[str, Any]]]
) -> None:
    before = results(pipeline)
    _, after = again(TRAIN)
    assert after == before


@pytest.mark.parametrize(
    "command", [f"evaluate {AUTODDPM}", f"evaluate {ANODDPM}"], ids=["autoddpm", "anoddpm"]
)
def test_a_second_evaluation_has_nothing_to_do(
    command: str, pipeline: Pipeline, again: Callable[[str], tuple[str, dict[str, Any]]]
) -> None:
    before = results(pipeline)
    said, after = again(command)
    assert after == before
    assert "finished already" in said


def test_a_second_report_says_the_same(
    pipeline: Pipeline, again: Callable[[str], tuple[str, dict[str, Any]]]
) -> None:
    table = pipeline.folder / "runs" / "ixi_stroke" / "report" / "table1.csv"
    before = table.read_bytes()
    again(REPORT)
    assert table.read_bytes() == before
