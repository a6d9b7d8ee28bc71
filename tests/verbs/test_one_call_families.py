"""Each one-call family goes from its training to its row by the documented commands."""

import json
from pathlib import Path

import pytest
from conftest import SIZE, Site, Verb

TRAINING = (
    "data=ixi",
    "data.batch_size=4",
    "trainer.max_steps=2",
    "trainer.val_check_interval=2",
    "callbacks.picture.every_n_validations=1",
)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "detector", "label", "calls"),
    [
        ("dae", "dae", "DAE", 1),
        ("vae", "vae", "VAE", 1),
        ("cevae", "vae detector.combi=true", "ceVAE (combi)", 2),
        ("pddpm", "pddpm", "pDDPM (t=500)", 4),
        ("cddpm_without_encoder", "pddpm", "cDDPM without encoder (t=500)", 1),
    ],
)
def test_it_goes_from_training_to_its_row(
    model: str, detector: str, label: str, calls: int, verb: Verb, site: Site, tmp_path: Path
) -> None:
    own = (*site.paths, f"paths.runs={tmp_path}", f"data.size={SIZE}", "name=one")
    outcome = verb("train", f"model={model}", *TRAINING, *own)
    assert outcome.code == 0, outcome.err
    (checkpoint,) = (tmp_path / "one" / "train").rglob("last.ckpt")
    said = ("data=ixi_stroke", "perceptual=none", f"checkpoint={checkpoint}", *own)
    outcome = verb("evaluate", *f"detector={detector}".split(), *said)
    assert outcome.code == 0, outcome.err
    (path,) = (tmp_path / "one" / "evaluate").rglob("metrics.json")
    row = json.loads(path.read_text())
    assert row["label"] == label
    assert row["metrics"]["calls_per_slice"] == calls
    assert row["metrics"]["lesion/auprc"] > 0
    outcome = verb("evaluate", "detector=restoration", *said)
    assert outcome.code == 1
    assert (
        "detector=restoration: needs weights of model=restoration, as ixi-restoration; these are"
        in outcome.err
    )
