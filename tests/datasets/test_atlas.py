"""ATLAS v2.0: the tree as downloaded, the 20 artefacts, and the authors' own slices."""

from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pytest
from conftest import REAL_DATA
from nibabel.nifti1 import Nifti1Image
from PIL import Image

from autoddpm.data.sample import HEALTHY_PIXELS
from autoddpm.data.store import build_store
from autoddpm.datasets.atlas import ARTEFACT, atlas, atlas_volumes
from autoddpm.datasets.published import published
from autoddpm.preparation.cutting import Steps
from autoddpm.preparation.folder import prepare_volumes

SHARED = REAL_DATA / "atlas" / "published_index.csv"
STEPS = Steps(n4=False, brain_mask="none", register=False, slices=3)
SHAPE = (20, 24, 6)
TABLE = published("atlas_index.csv")
ARTEFACTS = list(TABLE.loc[TABLE["excluded_artefact"] == "1", "subject"])
GOOD = list(TABLE.loc[TABLE["excluded_artefact"] == "0", "subject"])


def write(root: Path, subject: str, lesion_pixels: int = 0, session: int = 1) -> Path:
    """A volume of ATLAS' layout, small, and its mask; returns the image's path."""
    anat = root / "Training" / subject[:4].upper() / f"sub-{subject}" / f"ses-{session}" / "anat"
    anat.mkdir(parents=True)
    stem = f"sub-{subject}_ses-{session}_space-MNI152NLin2009aSym"
    data = np.random.default_rng(0).integers(1, 90, SHAPE).astype(np.float32)
    mask = np.zeros(SHAPE, np.uint8)
    mask[4:14, 5, 3].flat[:lesion_pixels] = 1
    image = anat / f"{stem}_T1w.nii.gz"
    nibabel.save(Nifti1Image(data, np.eye(4)), image)
    nibabel.save(Nifti1Image(mask, np.eye(4)), anat / f"{stem}_label-L_desc-T1lesion_mask.nii.gz")
    return image


def test_the_tree_gives_each_subject_its_mask_site_and_exclusion(
    tmp_path: Path,
) -> None:
    subjects = [GOOD[0], ARTEFACTS[0], "r099s001"]  # the last is on no list
    images = {subject: write(tmp_path / "ATLAS_2", subject) for subject in subjects}
    (tmp_path / "ATLAS_2" / "Training" / "dataset_description.json").write_text("{}")
    hidden = (
        tmp_path / "ATLAS_2" / "Testing" / "R001" / "sub-r001s900" / "ses-1" / "anat"
    )  # they have no mask
    hidden.mkdir(parents=True)
    (hidden / "sub-r001s900_ses-1_space-MNI152NLin2009aSym_T1w.nii.gz").touch()
    volumes = atlas_volumes(tmp_path / "ATLAS_2")
    assert [volume.id for volume in volumes] == sorted(subjects)
    for volume in volumes:
        image = images[volume.subject]
        assert volume.image.path == image
        assert volume.lesion is not None
        assert volume.lesion.path.name == image.name.replace("T1w", "label-L_desc-T1lesion_mask")
        assert (volume.split, volume.site) == ("test", volume.subject[:4].upper())
        assert volume.excluded == (ARTEFACT if volume.subject == ARTEFACTS[0] else "")


def test_only_the_artefacts_are_given_where_they_are_asked_for(tmp_path: Path) -> None:
    for subject in (GOOD[0], ARTEFACTS[0]):
        write(tmp_path / "ATLAS_2", subject)
    (volume,) = atlas_volumes(tmp_path / "ATLAS_2", artefacts="only")
    assert (volume.subject, volume.excluded) == (ARTEFACTS[0], "")
    with pytest.raises(ValueError, match="artefacts=some: must be leave_out or only"):
        atlas_volumes(tmp_path / "ATLAS_2", artefacts="some")


def test_a_folder_above_may_have_any_name(tmp_path: Path) -> None:
    write(tmp_path / "Testing" / "ATLAS_2", GOOD[0])
    assert [volume.id for volume in atlas_volumes(tmp_path / "Testing" / "ATLAS_2")] == [GOOD[0]]


def test_volumes_of_other_names_are_left_out_by_name(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    raw = tmp_path / "ATLAS_2"
    write(raw, GOOD[0])
    write(raw / "Testing", GOOD[1])
    (raw / "sub-r001s009_ses-1_T1w.nii.gz").touch()
    own, other = atlas_volumes(raw)
    assert (own.subject, own.excluded) == (GOOD[0], "")
    assert (other.id, other.image.name) == ("sub-r001s009_ses-1_T1w", f"{other.id}.nii.gz")
    assert other.excluded.startswith("its name is not like sub-r001s001_ses-1_space-MNI152")
    assert "1 volumes are left out" in caplog.text
    assert "1 volumes below Testing/ have no masks" in caplog.text


def test_a_tree_becomes_test_slices_without_the_artefacts(tmp_path: Path) -> None:
    for subject, pixels in ((GOOD[0], 0), (GOOD[1], 7), (ARTEFACTS[0], 5)):
        write(tmp_path / "ATLAS_2", subject, pixels)
    prepare_volumes(atlas_volumes(tmp_path / "ATLAS_2"), STEPS, tmp_path / "set", processes=1)
    store = build_store("atlas", atlas(tmp_path / "set"), 24, tmp_path / "prepared")
    counted = dict(zip(store.index["id"], store.index["lesion_pixels"], strict=True))
    assert counted == {f"atlas/{GOOD[0]}": 0, f"atlas/{GOOD[1]}": 7}


def test_the_folder_of_another_set_is_refused(tmp_path: Path) -> None:
    (tmp_path / "IXI012-HH-1211-T1.nii.gz").touch()
    (tmp_path / "sub-IXI012_ses-M00_T1w.nii.gz").touch()
    with pytest.raises(
        FileNotFoundError, match=r"holds no ATLAS v2\.0 volume such as .*; correct paths\.raw"
    ):
        atlas_volumes(tmp_path)
    for absent in (None, tmp_path / "nowhere"):
        with pytest.raises(FileNotFoundError, match=r"give paths\.raw=DIR"):
            atlas_volumes(absent)
    with pytest.raises(FileNotFoundError, match=r"nowhere: .*give paths\.atlas=DIR"):
        atlas(tmp_path / "nowhere")


def test_the_authors_slices_are_taken_exactly_as_they_are(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    folder = tmp_path / "slices"
    folder.mkdir()
    sizes = dict(zip(GOOD[:6], (0, 1, 2, 71, 72, 571), strict=True))
    for subject, pixels in {**sizes, ARTEFACTS[3]: 40}.items():
        image = rng.integers(0, 200, (128, 128), dtype=np.uint8)
        image[30:60, 40:70] = 255  # cut off at the top, as windowed slices are
        Image.fromarray(image).save(folder / f"{subject}.png")
        mask = np.zeros(128 * 128, np.uint8)
        mask[rng.choice(mask.size, pixels, replace=False)] = rng.integers(
            1, 256, pixels
        )  # grey at the rim
        Image.fromarray(mask.reshape(128, 128)).save(folder / f"{subject}_mask.png")
    records = atlas(folder)
    assert [record.id for record in records] == sorted(f"atlas/{subject}" for subject in sizes)
    assert {record.split for record in records} == {"test"}
    store = build_store("atlas", records, 128, tmp_path / "prepared")
    assert dict(zip(store.index["subject"], store.index["lesion_pixels"], strict=True)) == sizes
    assert (store.index["lesion_pixels"] <= HEALTHY_PIXELS).sum() == 2
    for i, record in enumerate(records):
        np.testing.assert_allclose(
            store.images[i, 0], np.asarray(Image.open(record.images["T1"])) / 255, atol=1e-6
        )
        np.testing.assert_array_equal(
            store.lesions[i, 0], np.asarray(Image.open(record.lesion)) > 0
        )


def test_the_packaged_index_has_655_subjects_and_20_artefacts() -> None:
    assert len(TABLE) == TABLE["subject"].nunique() == 655
    assert len(ARTEFACTS) == 20


@pytest.mark.skipif(not SHARED.is_file(), reason=f"the published index is not at {SHARED}")
def test_the_packaged_index_is_the_published_one() -> None:
    pd.testing.assert_frame_equal(TABLE, pd.read_csv(SHARED, dtype=str))
