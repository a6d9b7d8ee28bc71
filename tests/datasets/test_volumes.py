"""What is no slice is told what it is, and volumes of one's own become records."""

from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
from conftest import brain
from PIL import Image

from autoddpm.datasets.atlas import atlas_volumes
from autoddpm.datasets.fastmri_plus import COLUMNS, fastmri_volumes
from autoddpm.datasets.ixi import ixi_volumes
from autoddpm.datasets.slice_folder import slice_folder
from autoddpm.datasets.volumes import own_volumes
from autoddpm.preparation.volume import RawVolume


def fastmri(folder: Path) -> list[RawVolume]:
    table = folder.with_name("brain.csv")
    table.write_text(",".join(COLUMNS) + "\n" + "," * (len(COLUMNS) - 1) + "\n")
    return fastmri_volumes(folder, table)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "given"
    folder.mkdir()
    return folder


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("IM0001", "this is DICOM: `dcm2niix"),
        ("a.dcm", "src.prepare \\+experiment=volumes"),
        ("a.JPG", "picture of another format: save it as PNG"),
        ("a.tiff", "picture of another format"),
        ("a.zip", "archive: unpack it first \\(`unzip a.zip`"),
        ("a.tar.gz", "archive: unpack it first \\(`tar xf a.tar.gz`"),
        ("a.mgz", "volume of FreeSurfer, not a slice: .*src.prepare"),
        ("a.nrrd", "SimpleITK.*makes NIfTI of it, and .*src.prepare"),
        ("a.mha", "SimpleITK"),
        ("a.h5", "\\+experiment=fastmri"),
    ],
)
@pytest.mark.parametrize("has_slices", [True, False])
def test_a_file_that_is_no_slice_is_told_what_it_is(
    name: str, words: str, has_slices: bool, folder: Path
) -> None:
    mark = b"DICM" if name == "IM0001" else b""
    (folder / name).write_bytes(bytes(128) + mark)
    if has_slices:
        Image.fromarray(brain(0)[0]).save(folder / "b.png")
    with pytest.raises((ValueError, FileNotFoundError), match=words):
        slice_folder(folder, name="healthy")


def test_slices_in_folders_are_found_and_a_list_is_asked_for(folder: Path) -> None:
    (folder / "p1").mkdir()
    Image.fromarray(brain(0)[0]).save(folder / "p1" / "z1.png")
    with pytest.raises(FileNotFoundError, match="1 lie in folders of it \\(p1\\): give a csv"):
        slice_folder(folder, name="healthy")


def test_a_missing_folder_is_named_by_its_setting(folder: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no such folder; correct paths\.healthy"):
        slice_folder(folder / "none", name="healthy")
    Image.fromarray(brain(0)[0]).save(folder / "b.png")
    with pytest.raises(FileNotFoundError, match=r"no such folder; correct paths\.lesions"):
        slice_folder(folder, folder / "none", name="test")


def test_own_volumes_are_split_by_subject(folder: Path) -> None:
    image = nibabel.Nifti1Image(np.random.default_rng(0).random((4, 4, 4), np.float32), np.eye(4))
    for number in range(10):
        at = folder / f"sub-{number:02d}" / "anat"
        at.mkdir(parents=True)
        for run in (1, 2):
            nibabel.save(image, at / f"sub-{number:02d}_run-{run}_T1w.nii.gz")
    (folder / "readme.txt").touch()
    found = own_volumes(folder)
    assert len(found) == len({one.id for one in found}) == 20
    splits = {one.subject: one.split for one in found}
    assert sorted(splits) == [f"sub-{number:02d}" for number in range(10)]
    assert sorted(splits.values()) == ["test"] + ["train"] * 8 + ["val"]
    assert all(splits[one.subject] == one.split for one in found)


def touched(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def test_what_is_no_t1_volume_is_left_out_and_said(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    touched(folder, "a.nii.gz", "a_seg.nii.gz", "a_FLAIR.NII.GZ", "b.nrrd", "c.dcm", "x.json")
    found = {one.id: one.excluded for one in own_volumes(folder)}
    assert found == {
        "a": "",
        "a_FLAIR": "its name says FLAIR, and not T1w",
        "a_seg": "its name says that it is a mask",
    }
    assert "2 files are left out" in caplog.text
    assert "2 other files are not read: b.nrrd, c.dcm; this is a volume" in caplog.text


def test_two_volumes_of_one_person_are_asked_for(folder: Path) -> None:
    touched(folder, "p1_s1.nii", "p1_s2.nii", "p2_s1.nii")
    with pytest.raises(ValueError, match=r"number alone: .*preparation\.volumes\.subject=REGEX"):
        own_volumes(folder)
    assert [one.subject for one in own_volumes(folder, subject="p\\d")] == ["p1", "p1", "p2"]


@pytest.mark.parametrize(
    ("volumes", "name"),
    [
        (ixi_volumes, "IXI012-HH-1211-T1.nii.gz"),
        (atlas_volumes, "sub-r001s001_ses-1_space-MNI152NLin2009aSym_T1w.nii.gz"),
        (fastmri, "file_brain_AXT1_200_6002646.h5"),
    ],
)
def test_files_that_no_data_set_reads_are_said(
    volumes: Callable[[Path], list[RawVolume]],
    name: str,
    folder: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    touched(folder, name, "more.tar.xz", "readme.txt")
    assert volumes(folder)
    assert "1 other files are not read: more.tar.xz; this is an archive: unpack" in caplog.text


def test_a_folder_without_volumes_says_what_it_holds(folder: Path) -> None:
    (folder / "1.dcm").touch()
    with pytest.raises(FileNotFoundError, match=r"holds no volume .*this is DICOM"):
        own_volumes(folder)
