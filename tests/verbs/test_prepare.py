"""`src.prepare` on small copies of the three data sets in their real layouts, then training and
evaluation on them."""

import gzip
import shutil
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pytest
from conftest import TINY_EVALUATION, TINY_TRAINING, Verb, call_verb, single_thread
from raw_trees import (
    IXI_SPACING,
    head_in_scanner,
    write_atlas_tree,
    write_fastmri_tree,
    write_ixi_tree,
)
from scipy import ndimage

from autoddpm.datasets.fastmri_plus import COLUMNS, published_splits
from autoddpm.datasets.published import published
from autoddpm.preparation import registration
from autoddpm.preparation.correction import brain_mask
from autoddpm.preparation.cutting import Steps
from autoddpm.preparation.folder import prepared, read_index
from autoddpm.preparation.geometry import SliceGeometry
from autoddpm.preparation.template import template
from autoddpm.preparation.volume import Source, Volume, read_volume

pytestmark = pytest.mark.slow


@dataclass
class Laboratory:
    folder: Path
    bodies: dict[str, np.ndarray]

    @property
    def paths(self) -> tuple[str, ...]:
        names = {"data": "data", "prepared": "prepared", "runs": "runs"}
        return tuple(f"paths.{key}={self.folder / name}" for key, name in names.items())

    def prepare(self, name: str, *overrides: str) -> int:
        raw = {"ixi": "IXI-T1", "atlas": "ATLAS_2", "fastmri": "brain_h5"}[name]
        more = (f"paths.annotations={self.folder / 'brain.csv'}",) if name == "fastmri" else ()
        paths = (*self.paths, f"paths.raw={self.folder / raw}", *more)
        return call_verb("prepare", f"+experiment={name}", "processes=1", *paths, *overrides)


@pytest.fixture(scope="module")
def laboratory(tmp_path_factory: pytest.TempPathFactory) -> Laboratory:
    folder = tmp_path_factory.mktemp("prepare")
    validation = next(s for s, split in ixi_splits().items() if split == "val")
    names = {"IXI002-Guys-0828": 1, f"{validation}-HH-0001": 2}
    bodies = write_ixi_tree(folder / "IXI-T1", names)
    write_atlas_tree(folder / "ATLAS_2", {"r001s001": 0, "r001s002": 14, "r009s003": 28})
    files = {
        split: next(f for f, s in published_splits().items() if s == split)
        for split in ("train", "val", "test")
    }
    boxed = "file_brain_AXT1_201_6002688"
    write_fastmri_tree(folder / "brain_h5", [*files.values(), boxed])
    rows = [
        [boxed, 3, "No", 150, 120, 60, 50, "Mass"],
        [files["train"], 0, "Yes", "", "", "", "", "Normal for age"],
    ]
    pd.DataFrame(rows, columns=COLUMNS).to_csv(folder / "brain.csv", index=False)
    laboratory = Laboratory(folder, bodies)
    with single_thread():
        assert laboratory.prepare("ixi", "preparation.steps.brain_mask=nonzero") == 0
        assert laboratory.prepare("atlas") == 0
        assert laboratory.prepare("fastmri") == 0
    return laboratory


def ixi_splits() -> dict[str, str]:
    return published("ixi_split.csv").set_index("subject")["split"].to_dict()


def test_brains_in_the_scanner_are_registered_to_the_template(laboratory: Laboratory) -> None:
    index = read_index(laboratory.folder / "data" / "ixi")
    assert len(index) == 2
    assert (index["brain_dice"].astype(float) >= 0.95).all()
    assert set(index["steps"]) == {"n4 brain:nonzero registered"}
    points = np.array([[0, 0, 0, 1], [40, 30, 40, 1], [-50, -60, 20, 1], [30, 50, -10, 1.0]]).T
    for row in index.to_dict("records"):
        found = SliceGeometry.from_json(row["geometry"]).to_source @ points
        true = laboratory.bodies[row["subject"]] @ points
        assert (
            np.linalg.norm((found - true)[:3], axis=0).max() < 4
        )  # the deformation itself is of up to 3 mm an axis


def test_a_registration_gives_the_same_numbers_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registration, "SHRINK", (8,))  # the coarse level alone is quick
    monkeypatch.setattr(registration, "SMOOTH", (4.0,))
    image, _ = head_in_scanner(3)
    canonical = nibabel.as_closest_canonical(image)
    values = np.asarray(canonical.dataobj, dtype=np.float32)
    volume = Volume(values, canonical.affine, image.shape, image.affine, "")
    first, second = (registration.register(volume, values > 0) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_the_published_grid_is_cut_as_it_is(laboratory: Laboratory) -> None:
    root = laboratory.folder / "data" / "atlas"
    row = next(row for row in read_index(root).to_dict("records") if row["subject"] == "r009s003")
    assert row["steps"] == ""
    volume = np.asarray(nibabel.load(row["source"]).dataobj)
    np.testing.assert_array_equal(
        np.asarray(nibabel.load(root / row["file"]).dataobj)[..., 0], volume[:, :, 95]
    )


def test_atlas_counts_lesions_and_shows_the_published_numbers(
    laboratory: Laboratory, verb: Verb
) -> None:
    paths = (*laboratory.paths, f"paths.raw={laboratory.folder / 'ATLAS_2'}")
    outcome = verb(
        "prepare", "+experiment=atlas", "processes=1", *paths
    )  # finished before: counts only
    assert outcome.code == 0, outcome.err
    assert "Preparing" not in outcome.out
    for words in ("published", "215", "209", "152", "59"):
        assert words in outcome.out
    page = (laboratory.folder / "data" / "atlas" / "report" / "index.html").read_text()
    assert "Lesion sizes" in page
    assert "215" in page


def test_fastmri_s_healthy_middle_slices_and_boxes(laboratory: Laboratory) -> None:
    records = prepared(laboratory.folder / "data" / "fastmri", "fastmri")
    assert sorted(record.split for record in records) == ["test", "test", "train", "val"]
    index = read_index(laboratory.folder / "data" / "fastmri")
    used = index[index["excluded"] == ""]
    assert set(used["slice"]) == {"3"}  # of 7
    assert index["excluded"].str.endswith("not in this folder").sum() == 176 - 3
    (boxed,) = used[used["lesion_file"] != ""].to_dict("records")
    lesion = np.asarray(
        nibabel.load(laboratory.folder / "data" / "fastmri" / boxed["lesion_file"]).dataobj
    )
    assert np.count_nonzero(lesion) == 60 * 50


def test_training_and_evaluation_run_on_what_was_prepared(
    laboratory: Laboratory, verb: Verb
) -> None:
    quick = [o for o in TINY_TRAINING if not o.startswith(("data.batch", "data.size"))] + [
        "data.size=64"
    ]
    trained = verb(
        "train", "+experiment=paper", *quick, "data.batch_size=2", "trainer=cpu", *laboratory.paths
    )
    assert trained.code == 0, trained.err
    assert "3 training slices, 1 validation slices" in trained.out
    (checkpoint,) = laboratory.folder.glob("runs/paper/train/*/checkpoints/last.ckpt")
    overrides = (
        *TINY_EVALUATION[1:],
        "data.size=64",
        "detector=anoddpm",
        f"checkpoint={checkpoint}",
        "nifti=true",
        *laboratory.paths,
    )
    done = verb("evaluate", "+experiment=atlas", *overrides)
    assert done.code == 0, done.err
    (row,) = laboratory.folder.glob("runs/atlas/evaluate/*")
    slices = pd.read_csv(row / "slices.csv")
    assert slices["size_group"].tolist() == ["healthy", "medium", "large"]
    volume = nibabel.load(row / "nifti" / "r009s003_anomaly_map.nii.gz")
    source = next(laboratory.folder.glob("ATLAS_2/**/sub-r009s003*T1w.nii.gz"))
    assert volume.shape == nibabel.load(source).shape
    planes = np.flatnonzero(np.asarray(volume.dataobj).any(axis=(0, 1)))
    assert planes.tolist() == [95]
    with np.load(row / "maps.npz") as maps:
        ours = maps["anomaly_map"][maps["id"].tolist().index("atlas/r009s003")]
    assert np.asarray(volume.dataobj).max() == pytest.approx(ours.max(), rel=0.2)
    before = (row / "nifti" / "r009s003_anomaly_map.nii.gz").read_bytes()
    shutil.rmtree(row / "nifti")
    again = verb("evaluate", "+experiment=atlas", *overrides)
    assert again.code == 0, again.err
    assert "finished already" in again.out
    after = (row / "nifti" / "r009s003_anomaly_map.nii.gz").read_bytes()
    assert gzip.decompress(after) == gzip.decompress(before)


def test_without_a_data_set_the_choices_are_named(verb: Verb) -> None:
    outcome = verb("prepare")
    assert outcome.code == 1
    assert "prepare: say which data set: +experiment=ixi, fastmri, atlas or volumes" in outcome.err


def test_a_setting_of_preparation_that_is_not_read_is_refused(verb: Verb, tmp_path: Path) -> None:
    outcome = verb(
        "prepare", "+experiment=ixi", f"paths.raw={tmp_path}", "+preparation.leave_out=[x]"
    )
    assert outcome.code == 1
    assert "prepare: unknown setting preparation.leave_out; preparation has exclude" in outcome.err


def test_who_is_excluded_and_not_there_is_named(verb: Verb, tmp_path: Path) -> None:
    write_fastmri_tree(tmp_path / "h5", [next(iter(published_splits()))])
    (tmp_path / "brain.csv").write_text(",".join(COLUMNS) + "\n")
    outcome = verb(
        "prepare",
        "+experiment=fastmri",
        f"paths.raw={tmp_path / 'h5'}",
        f"paths.annotations={tmp_path / 'brain.csv'}",
        "preparation.exclude={nobody:motion}",
    )
    assert outcome.code == 1
    assert "prepare: preparation.exclude: nobody is none of the " in outcome.err


def test_a_head_with_its_skull_is_stripped_and_registered(tmp_path: Path) -> None:
    pytest.importorskip("deepbet", reason="the extra `prepare` is not installed")
    image, _ = head_in_scanner(5)
    skull = ndimage.binary_dilation(np.asarray(image.dataobj) > 0, iterations=6)
    data = np.asarray(image.dataobj) * 0.5
    head = np.where(skull & (data == 0), 400, data)  # a bright rim where fat would be
    nibabel.save(
        nibabel.Nifti1Image(head.astype(np.float32), image.affine), tmp_path / "head.nii.gz"
    )
    volume = read_volume(Source(tmp_path / "head.nii.gz"))
    brain = brain_mask(volume, Steps().brain_mask)
    true = np.asarray(nibabel.as_closest_canonical(image).dataobj) > 0
    assert 2 * (brain & true).sum() / (brain.sum() + true.sum()) > 0.9
    assert brain.shape == volume.data.shape
    assert abs(brain.sum() * np.prod(IXI_SPACING) / template().brain.sum() - 1) < 0.3
