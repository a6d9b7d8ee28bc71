"""What is no slice is told what it is, and volumes of one's own become records."""

from pathlib import Path

import nibabel
import numpy as np
import pytest
from conftest import brain
from PIL import Image

from autoddpm.datasets.slice_folder import slice_folder
from autoddpm.datasets.volumes import own_volumes


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


def test_a_folder_without_volumes_says_what_it_holds(folder: Path) -> None:
    (folder / "1.dcm").touch()
    with pytest.raises(FileNotFoundError, match=r"holds no volume .*this is DICOM"):
        own_volumes(folder)
