"""IXI: its volumes as downloaded, in a tar, or registered; sites and splits."""

import gzip
import tarfile
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import REAL_DATA
from nibabel.nifti1 import Nifti1Image
from PIL import Image

from autoddpm.datasets.ixi import ixi, ixi_volumes
from autoddpm.datasets.published import published
from autoddpm.preparation.cutting import Steps
from autoddpm.preparation.folder import prepare_volumes
from autoddpm.preparation.volume import RawVolume

SHARED = REAL_DATA / "ixi" / "split.csv"
SPLITS = published("ixi_split.csv").set_index("subject")["split"].to_dict()
TRAIN, VAL, TEST = (
    next(s for s, part in SPLITS.items() if part == split) for split in ("train", "val", "test")
)
STEPS = Steps(n4=False, brain_mask="none", register=False, slices=2)
NAMES = (
    f"{TRAIN}-Guys-0828-T1.nii.gz",
    f"{VAL}-HH-1211-T1.nii.gz",
    f"{TEST}-IOP-0873-T1.nii",
    "IXI999-HH-1-T1.nii.gz",
)


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def data(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(1, 900, (18, 20, 5)).astype(np.int16)


def write(path: Path, seed: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    content = Nifti1Image(data(seed), np.eye(4)).to_bytes()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def told(volumes: list[RawVolume]) -> list[tuple[str, str, str]]:
    return [(volume.subject, volume.split, volume.site) for volume in volumes]


EXPECTED = sorted(
    [(TRAIN, "train", "Guys"), (VAL, "val", "HH"), (TEST, "test", "IOP"), ("IXI999", "train", "HH")]
)


def test_the_names_as_downloaded_give_subject_site_and_split(tmp_path: Path) -> None:
    folder = touch(
        tmp_path / "IXI-T1", *NAMES, "IXI012-HH-1211-T2.nii.gz", f"._{NAMES[0]}", "readme.txt"
    )
    volumes = ixi_volumes(folder)
    assert told(volumes) == EXPECTED
    assert [volume.id for volume in volumes] == [subject for subject, *_ in EXPECTED]
    assert {volume.image.path.name for volume in volumes} == set(NAMES)
    assert all(volume.lesion is None and not volume.excluded for volume in volumes)
    assert told(ixi_volumes(tmp_path)) == EXPECTED  # a folder above


def test_volumes_registered_by_clinica_are_known_by_their_names(tmp_path: Path) -> None:
    name = f"sub-{VAL}_ses-M00_T1w_space-MNI152NLin2009cSym_res-1x1x1_T1w.nii.gz"
    matrix = f"sub-{VAL}_ses-M00_T1w_space-MNI152NLin2009cSym_res-1x1x1_affine.mat"
    place = Path("subjects") / f"sub-{VAL}" / "ses-M00" / "t1_linear"
    (volume,) = ixi_volumes(touch(tmp_path, str(place / name), str(place / matrix)))
    assert (volume.subject, volume.split, volume.site) == (VAL, "val", "")
    assert volume.image.path == tmp_path / place / name


def test_the_tar_as_downloaded_is_read_without_unpacking(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "IXI-T1.tar", "w") as tar:
        for seed, name in enumerate(NAMES):
            tar.add(write(tmp_path / "files" / name, seed), name)
        tar.add(touch(tmp_path, "license.txt") / "license.txt", "license.txt")
    volumes = ixi_volumes(tmp_path / "IXI-T1.tar")
    assert told(volumes) == EXPECTED
    from_tar = prepare_volumes(volumes, STEPS, tmp_path / "from_tar", processes=1)
    from_files = prepare_volumes(
        ixi_volumes(tmp_path / "files"), STEPS, tmp_path / "from_files", processes=1
    )
    assert from_tar.drop(columns="source").equals(from_files.drop(columns="source"))
    assert from_tar["source"][0] == f"{tmp_path}/IXI-T1.tar/{volumes[0].image.name}"
    for path in (tmp_path / "from_files" / "slices").iterdir():
        assert path.read_bytes() == (tmp_path / "from_tar" / "slices" / path.name).read_bytes()
    records = ixi(tmp_path / "from_tar")
    assert [(record.id, record.split) for record in records] == [
        (f"ixi/{s}", split) for s, split, _ in EXPECTED
    ]
    assert [record.origin["site"] for record in records] == [site for *_, site in EXPECTED]


def test_a_subject_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    folder = touch(tmp_path, "IXI012-HH-1211-T1.nii", "IXI012-HH-1211-T1.nii.gz")
    with pytest.raises(
        ValueError, match=r"T1\.nii\.gz and .*T1\.nii are of the same subject; leave one out"
    ):
        ixi_volumes(folder)


def test_what_is_no_ixi_is_refused(tmp_path: Path) -> None:
    other = touch(
        tmp_path / "ATLAS_2",
        "sub-r001s001_ses-1_space-MNI152NLin2009aSym_T1w.nii.gz",
        "IXI1-HH-2-T2.nii.gz",
    )
    with pytest.raises(
        FileNotFoundError, match=r"ATLAS_2: holds no IXI volume such as .*; correct paths\.raw"
    ):
        ixi_volumes(other)
    for absent in (None, tmp_path / "nowhere"):
        with pytest.raises(FileNotFoundError, match=r"give paths\.raw=DIR"):
            ixi_volumes(absent)
    with pytest.raises(ValueError, match=r"IXI012-HH-1211-T1\.nii\.gz: cannot be read as a tar"):
        ixi_volumes(write(tmp_path / "IXI012-HH-1211-T1.nii.gz", 0))


def test_slices_as_released_keep_their_subject_s_id(tmp_path: Path) -> None:
    (tmp_path / "slices").mkdir()
    name = f"sub-{VAL}_ses-M00_T1w_space-MNI152NLin2009cSym_res-1x1x1_T1w.png"
    Image.fromarray(data(0)[:, :, 0].astype(np.uint8)).save(tmp_path / "slices" / name)
    (tmp_path / "split.csv").write_text(f"subject,file,split\n{VAL},{name},val\n")
    (record,) = ixi(tmp_path)
    assert (record.id, record.subject, record.split) == (f"ixi/{VAL}", VAL, "val")


def test_the_packaged_split_has_470_30_and_81_subjects() -> None:
    assert Counter(SPLITS.values()) == {"train": 470, "val": 30, "test": 81}
    assert len(SPLITS) == len(published("ixi_split.csv")) == 581


@pytest.mark.skipif(not SHARED.is_file(), reason=f"the split of IXI is not at {SHARED}")
def test_the_packaged_split_is_that_of_the_released_slices() -> None:
    assert pd.read_csv(SHARED).set_index("subject")["split"].to_dict() == SPLITS


def test_names_that_differ_a_little_are_understood(tmp_path: Path) -> None:
    names = ("IXI012-HH-1211_T1.nii.gz", "IXI013-HH-1212-t1.nii", "ixi014-Guys-0001_T1w.NII.GZ")
    volumes = ixi_volumes(touch(tmp_path, *names))
    assert [v.subject for v in volumes] == ["IXI012", "IXI013", "IXI014"]
    assert not any(v.excluded for v in volumes)


def test_names_that_are_not_understood_are_counted_and_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    strange = ("IXI012-HH-1211-T1_brain.nii.gz", "deep/IXI_13.nii", "IXI014.nii.gz")
    known = ("IXI015-HH-1-T2.nii.gz", "IXI015-HH-1-PD.nii", "IXI015-HH-1-DTI-03.nii.gz")
    volumes = ixi_volumes(touch(tmp_path, NAMES[0], *strange, *known, "license.txt"))
    assert told(volumes[:1]) == [(TRAIN, "train", "Guys")]
    assert [(v.id, v.excluded) for v in volumes[1:]] == [
        (name, "its name is not like IXI012-HH-1211-T1.nii.gz")
        for name in ("IXI012-HH-1211-T1_brain", "IXI014", "deep_IXI_13")
    ]
    assert "3 volumes are left out" in caplog.text
    assert "IXI012-HH-1211-T1_brain.nii.gz, IXI014.nii.gz, IXI_13.nii; rename" in caplog.text
    with pytest.raises(FileNotFoundError, match=r"no IXI volume .*, and 1 others: IXI_13\.nii"):
        ixi_volumes(tmp_path / "deep")
