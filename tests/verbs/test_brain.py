"""`+experiment=ixi_brain`: from volumes to weights that know 70 slices, and to a map of them."""

from pathlib import Path

import nibabel
import numpy as np
import pytest
from conftest import TINY_TRAINING, Verb

import autoddpm
from autoddpm.datasets.published import published
from autoddpm.models.trained import load_checkpoint
from autoddpm.prediction.method import DetectorSettings
from autoddpm.preparation.template import template


def write_head(path: Path, seed: int) -> Path:
    """The template's brain on its own grid, moved and lit by a seed."""
    x = np.arange(template().data.shape[0])[:, None, None]
    lit = template().data * (1 + 0.3 * np.sin(x / 15 + seed))
    moved = np.roll(lit, (2 * seed, seed), (1, 2))
    nibabel.save(nibabel.Nifti1Image((500 * moved).astype(np.int16), template().affine), path)
    return path


@pytest.mark.slow
def test_a_brain_is_prepared_trained_on_and_mapped(tmp_path: Path, verb: Verb) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    validation = published("ixi_split.csv").query("split == 'val'")["subject"].iloc[0]
    files = [
        write_head(raw / f"sub-{subject}_ses-M00_T1w.nii", seed)
        for seed, subject in enumerate(("IXI002", validation))
    ]
    folders = {"data": "data", "prepared": "prepared", "runs": "runs"}
    common = ["+experiment=ixi_brain", *(f"paths.{k}={tmp_path / v}" for k, v in folders.items())]
    prepared = verb(
        "prepare",
        *common,
        f"paths.raw={raw}",
        "processes=1",
        "data.size=32",
        "preparation.steps.brain_mask=nonzero",
    )
    assert (prepared.code, prepared.err) == (0, "")
    assert len(list((tmp_path / "data" / "ixi_brain" / "slices").iterdir())) == 2 * 70
    trained = verb("train", *common, *TINY_TRAINING, "data.allow_leaks=true", "data.test=[]")
    assert trained.code == 0
    (checkpoint,) = tmp_path.glob("runs/ixi_brain/train/*/checkpoints/last.ckpt")
    stated = load_checkpoint(checkpoint).data["preparation"]
    assert (stated["slices"], stated["modality"]) == ("60:130", "T1")
    settings = DetectorSettings("anoddpm", t=20, stride=10)
    made = autoddpm.predict(files[1], str(checkpoint), settings, threshold=0.1)
    assert made.record["coverage"]["known"] == list(range(60, 130))
    assert made.record["coverage"]["margin"] == [58, 59, 130, 131]
    planes = np.flatnonzero(np.asarray(made.anomaly_map.dataobj).any(axis=(0, 1)))
    assert (planes[0], planes[-1], len(planes)) == (58, 131, 74)
    assert b"slices 58-131" in made.mask.header["descrip"].item()
