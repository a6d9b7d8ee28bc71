"""Networks of other shapes: volumes, and slices of two modalities, through the verbs."""

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import Verb

SHAPES = {
    "volumes": ("toy_data.volumes", ("+model.dimensions=3",), (16, 16, 16), (16, 16, 16)),
    "two": ("toy_data.two_modalities", ("+model.channels=2",), (2, 16, 16), (16, 16)),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", SHAPES)
def test_it_goes_through_train_evaluate_and_report(kind: str, verb: Verb, tmp_path: Path) -> None:
    source, model, shape, space = SHAPES[kind]
    toy = f"{{_target_: {source}, _partial_: true, folder: {tmp_path / 'toy'}}}"
    own = (
        f"+data.sources.toy={toy}",
        "data.calibrate=[toy]",
        "data.size=16",
        f"paths.runs={tmp_path}",
        f"paths.prepared={tmp_path / 'stores'}",
        "name=toy",
    )
    training = (
        "model=tiny",
        "data.train=[toy]",
        "data.test=[]",
        "data.batch_size=2",
        "module.augmentation=false",
        "trainer.max_steps=2",
        "trainer.precision=32-true",
        "trainer.val_check_interval=2",
    )
    outcome = verb("train", *training, *model, *own)
    assert outcome.code == 0, outcome.err
    (checkpoint,) = (tmp_path / "toy" / "train").rglob("last.ckpt")
    outcome = verb(
        "evaluate",
        "detector=autoddpm",
        "detector.t=20",
        "detector.t_resample=10",
        "detector.resample_steps=1",
        "sampler.stride=10",
        "perceptual=denoiser",
        f"checkpoint={checkpoint}",
        "data.train=[]",
        "data.test=[toy]",
        *own,
    )
    assert outcome.code == 0, outcome.err
    (path,) = (tmp_path / "toy" / "evaluate").rglob("maps.npz")
    with np.load(path) as maps:
        assert maps["image"].shape == maps["reconstruction"].shape == (3, *shape)
        assert maps["anomaly_map"].shape == maps["lesion"].shape == (3, *space)
    row = json.loads((path.parent / "metrics.json").read_text())
    assert row["metrics"]["lesion/auprc"] > 0
    outcome = verb("report", f"paths.runs={tmp_path}", "name=toy", "report.resamples=20")
    assert outcome.code == 0, outcome.err
    assert row["label"] in (tmp_path / "toy" / "report" / "measured.csv").read_text()
