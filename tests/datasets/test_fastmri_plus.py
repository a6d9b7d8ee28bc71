"""fastMRI+: which files are healthy, which slices have boxes, and that a box lands on what it was
drawn around."""

import shutil
from collections import Counter
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from conftest import REAL_DATA

from autoddpm.data.image_file import read_image, read_lesion
from autoddpm.data.sample import Record
from autoddpm.data.store import build_store
from autoddpm.datasets.fastmri_plus import (
    COLUMNS,
    derived_splits,
    fastmri_plus,
    fastmri_volumes,
    published_splits,
    read_annotations,
)
from autoddpm.preparation.cutting import Steps
from autoddpm.preparation.folder import prepare_volumes
from autoddpm.preparation.geometry import SliceGeometry, to_volume
from autoddpm.preparation.volume import RawVolume

SHARED = REAL_DATA / "fastmri_plus"
STEPS = Steps(n4=False, brain_mask="none", register=False, slices="middle")
TRAIN, VAL, TEST = (
    next(f for f, s in published_splits().items() if s == split)
    for split in ("train", "val", "test")
)
ILL, ODD, NEW = (f"file_brain_AXT1_999_{number}" for number in (1, 2, 3))  # on no list
ROWS, COLUMNS_OF_IMAGE = 40, 30
BOX = (17, 6, 9, 4)  # x, y, width, height: right of the middle, in the front


def lesion_of(record: Record) -> np.ndarray:
    path = record.images["T1"]
    return read_lesion(record.lesion, read_image(path), path).pixels


def stack(slices: int = 5) -> np.ndarray:
    """(slices, rows, columns), between 0.1 and 0.5."""
    return (
        np.random.default_rng(0)
        .uniform(0.1, 0.5, (slices, ROWS, COLUMNS_OF_IMAGE))
        .astype(np.float32)
    )


def write_h5(folder: Path, name: str, reconstruction: np.ndarray | None = None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    with h5py.File(folder / f"{name}.h5", "w") as file:
        file["reconstruction_rss"] = stack() if reconstruction is None else reconstruction
    return folder


def write_csv(folder: Path, *rows: tuple[object, ...]) -> Path:
    """brain.csv with (file, label) of a whole study, or (file, slice, box, label)."""
    full = [
        (r[0], 0, "Yes", "", "", "", "", r[1]) if len(r) == 2 else (*r[:2], "No", *r[2], r[3])
        for r in rows
    ]
    pd.DataFrame(full, columns=COLUMNS).to_csv(folder / "brain.csv", index=False)
    return folder / "brain.csv"


def by_file(volumes: list[RawVolume]) -> dict[str, RawVolume]:
    return {volume.subject: volume for volume in volumes}


# Boxes


def test_a_box_is_exactly_the_rectangle_that_it_was_drawn_around(tmp_path: Path) -> None:
    reconstruction = stack()
    x, y, width, height = BOX
    flipped = np.flipud(reconstruction[3])  # a view: the annotators saw the image flipped up/down
    flipped[y : y + height, x : x + width] = 1
    raw = write_h5(tmp_path / "raw", ILL, reconstruction)
    volumes = fastmri_volumes(raw, write_csv(tmp_path, (ILL, 3, BOX, "Mass")))
    prepare_volumes(volumes, STEPS, tmp_path / "set", processes=1)
    (record,) = fastmri_plus(tmp_path / "set")
    image = read_image(record.images["T1"])
    np.testing.assert_array_equal(image, flipped)
    np.testing.assert_array_equal(lesion_of(record), flipped == 1)
    # To the network, and back into the stack.
    store = build_store("fastmri", [record], ROWS, tmp_path / "prepared")
    assert store.lesions[0, 0].sum() == width * height
    assert store.images[0, 0][store.lesions[0, 0]].min() == 1
    assert np.argwhere(store.lesions[0, 0]).min(axis=0).tolist() == [
        y,
        x + (ROWS - COLUMNS_OF_IMAGE) // 2,
    ]
    geometry = SliceGeometry.from_json(store.index["geometry"][0])
    back = np.asarray(to_volume([store.lesions[0, 0].astype(np.float32)], [geometry]).dataobj)
    np.testing.assert_allclose(back.transpose(2, 1, 0) > 0.5, reconstruction == 1)


def test_slices_are_counted_from_0_and_have_their_own_boxes(tmp_path: Path) -> None:
    raw = write_h5(tmp_path / "raw", ILL)
    first, second = (2, 3, 4, 5), (20, 30, 6, 7)
    rows = [
        (ILL, 0, first, "Mass"),
        (ILL, 4, first, "Edema"),
        (ILL, 4, second, "Mass"),
        (ILL, "Normal for age"),
    ]
    prepare_volumes(
        fastmri_volumes(raw, write_csv(tmp_path, *rows)), STEPS, tmp_path / "set", processes=1
    )
    bottom, top = fastmri_plus(tmp_path / "set")
    assert [bottom.id, top.id] == ["fastmri/999_1_z000", "fastmri/999_1_z004"]
    for record, z, areas in ((bottom, 0, [first]), (top, 4, [first, second])):
        expected = np.zeros((ROWS, COLUMNS_OF_IMAGE), bool)
        for x, y, width, height in areas:
            expected[y : y + height, x : x + width] = True
        np.testing.assert_array_equal(read_image(record.images["T1"]), np.flipud(stack()[z]))
        np.testing.assert_array_equal(lesion_of(record), expected)


def test_a_box_that_reaches_over_the_edge_is_cut_there(tmp_path: Path) -> None:
    raw = write_h5(tmp_path / "raw", ILL)
    box = (COLUMNS_OF_IMAGE - 3, ROWS - 2, 50, 50)
    volumes = fastmri_volumes(raw, write_csv(tmp_path, (ILL, 2, box, "Mass")))
    prepare_volumes(volumes, STEPS, tmp_path / "set", processes=1)
    (record,) = fastmri_plus(tmp_path / "set")
    lesion = lesion_of(record)
    assert lesion.sum() == 6
    assert lesion[-2:, -3:].all()


@pytest.mark.parametrize(
    ("z", "box", "words"),
    [
        (2, (COLUMNS_OF_IMAGE, 3, 4, 4), r"slice 2 has 30 x 40 pixels, and the box at \(30, 3\)"),
        (5, BOX, "has no slice 5, it has 5"),
    ],
)
def test_a_box_outside_its_image_is_refused_by_name(
    tmp_path: Path, z: int, box: tuple[int, int, int, int], words: str
) -> None:
    raw = write_h5(write_h5(tmp_path / "raw", ILL), TRAIN)
    rows = [(ILL, 0, BOX, "Mass"), (ILL, z, box, "Mass")]
    volumes = fastmri_volumes(raw, write_csv(tmp_path, *rows))
    with pytest.raises(ValueError, match=words) as refused:
        prepare_volumes(volumes, STEPS, tmp_path / "set", processes=1)
    assert str(refused.value).startswith(f"{raw}/{ILL}.h5: ")
    index = prepare_volumes(volumes, STEPS, tmp_path / "set", processes=1, on_error="skip")
    assert (index["excluded"] == f"error: {refused.value}").sum() == 1
    assert [record.subject for record in fastmri_plus(tmp_path / "set")] == [TRAIN]
    assert len(list((tmp_path / "set" / "slices").iterdir())) == 1  # none of the slice before it


# Which files


def test_a_file_gives_its_middle_slice_its_boxes_or_a_reason(
    tmp_path: Path,
) -> None:
    raw = tmp_path / "raw"
    for name in (TRAIN, VAL):
        write_h5(raw / "train", name)
    for name in (TEST, ILL, ODD, NEW):
        write_h5(raw / "val", name)
    write_h5(raw, "file_brain_AXFLAIR_200_6002425")
    rows = [(TRAIN, "Normal for age"), (ILL, 1, BOX, "Mass"), (ODD, "Motion artifact")]
    annotations = write_csv(tmp_path, *rows, ("file_brain_AXFLAIR_200_6002425", 2, BOX, "Mass"))
    volumes = by_file(fastmri_volumes(raw, annotations))
    assert len(volumes) == 176 + 3
    assert [volumes[f].split for f in (TRAIN, VAL, TEST, ILL)] == ["train", "val", "test", "test"]
    assert [volumes[f].excluded for f in (TRAIN, VAL, TEST, ILL)] == [""] * 4
    assert volumes[TRAIN].image.path == raw / "train" / f"{TRAIN}.h5"
    assert (volumes[TRAIN].slices, volumes[ILL].slices) == (None, [1])
    assert volumes[ODD].excluded == "neither healthy nor with a box: Motion artifact"
    assert volumes[NEW].excluded == "not labelled by fastMRI+"
    reasons = Counter(volume.excluded for volume in volumes.values())
    assert reasons["on the published list, not in this folder"] == 173
    index = prepare_volumes(list(volumes.values()), STEPS, tmp_path / "set", processes=1)
    used = index[index["excluded"] == ""].set_index("subject")
    assert used["slice"].to_dict() == {TRAIN: "2", VAL: "2", TEST: "2", ILL: "1"}
    assert used["labels"].to_dict() == {TRAIN: "Normal for age", VAL: "", TEST: "", ILL: "Mass"}
    found = [(r.subject, r.split, r.lesion is None) for r in fastmri_plus(tmp_path / "set")]
    healthy = [(TRAIN, "train", True), (VAL, "val", True), (TEST, "test", True)]
    assert found == sorted([*healthy, (ILL, "test", False)])


@pytest.mark.parametrize("healthy", ["published", "labels"])
def test_a_file_known_only_by_annotations_is_left_out(tmp_path: Path, healthy: str) -> None:
    annotations = write_csv(tmp_path, (ILL, 1, BOX, "Mass"), (ODD, "Normal for age"))
    raw = write_h5(tmp_path / "raw", TRAIN)
    volumes = by_file(fastmri_volumes(raw, annotations, healthy))
    assert volumes[ILL].excluded == volumes[ODD].excluded == "labelled, not in this folder"


def test_healthy_by_labels_are_files_with_normal_labels_only(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    for name in (TRAIN, ILL, ODD, NEW):
        write_h5(raw, name)
    rows = [
        (ODD, 0, BOX, "Normal variant"),
        (ODD, "Normal for age"),
        (ILL, 0, BOX, "Normal variant"),
    ]
    volumes = by_file(
        fastmri_volumes(raw, write_csv(tmp_path, *rows, (ILL, 3, BOX, "Mass")), "labels")
    )
    assert volumes[ODD].excluded == ""
    assert volumes[ODD].slices is None
    assert volumes[TRAIN].excluded == volumes[NEW].excluded == "not labelled by fastMRI+"
    assert volumes[ILL].slices == [3]


def test_a_normal_variant_and_a_box_without_area_are_no_lesions(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    for name in (ILL, ODD, NEW):
        write_h5(raw, name)
    rows = [
        *[(ILL, 2, BOX, "Normal variant"), (ILL, 3, BOX, "Mass")],
        (ODD, 2, BOX, "Normal variant"),
        *[(NEW, 2, (5, 5, 0, 0), "Mass"), (NEW, 3, (5, 5, 3, 0), "Mass")],
    ]
    volumes = by_file(fastmri_volumes(raw, write_csv(tmp_path, *rows)))
    assert volumes[ILL].slices == [3]
    assert volumes[ODD].excluded == "neither healthy nor with a box: Normal variant"
    assert volumes[NEW].excluded == "neither healthy nor with a box: Mass"


def test_boxes_can_be_chosen_by_label(tmp_path: Path) -> None:
    raw = write_h5(write_h5(tmp_path / "raw", ILL), ODD)
    rows = [
        (ILL, 1, BOX, "Mass"),
        (ILL, 2, BOX, "Edema"),
        (ILL, 2, (1, 1, 2, 2), "Mass"),
        (ODD, 1, BOX, "Edema"),
    ]
    annotations = write_csv(tmp_path, *rows)
    volumes = by_file(fastmri_volumes(raw, annotations, labels=["Edema"]))
    assert {z: list(boxes) for z, boxes in volumes[ILL].boxes.items()} == {2: [BOX]}
    assert volumes[ILL].slices == [2]
    with pytest.raises(ValueError, match=r"brain\.csv has no 'Tumour'"):
        fastmri_volumes(raw, annotations, labels=["Edema", "Tumour"])
    with pytest.raises(ValueError, match="healthy=all: must be published or labels"):
        fastmri_volumes(raw, annotations, healthy="all")


def test_a_file_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    write_h5(tmp_path / "raw" / "batch_0", ILL)
    raw = write_h5(tmp_path / "raw" / "batch_1", ILL).parent
    with pytest.raises(
        ValueError, match=rf"batch_0/{ILL}.h5 and .*batch_1/{ILL}.h5 have the same name"
    ):
        fastmri_volumes(raw, write_csv(tmp_path, (ILL, 1, BOX, "Mass")))


def test_files_of_other_names_are_left_out_by_name(tmp_path: Path) -> None:
    raw = write_h5(tmp_path / "raw", ILL)
    for name in ("file_brain_AXT2_200_1", "file_brain_AXT1POST_200_1", "my_AXT1"):
        shutil.copy(raw / f"{ILL}.h5", raw / f"{name}.h5")
    shutil.copy(raw / f"{ILL}.h5", raw / f"{ILL}.H5")
    volumes = fastmri_volumes(raw, write_csv(tmp_path, (ILL, "Normal for age")))
    others = [v.image.name for v in volumes if v.excluded.startswith("its name is not like")]
    assert others == [f"{ILL}.H5", "my_AXT1.h5"]


def test_the_folder_of_another_set_is_refused(tmp_path: Path) -> None:
    raw = write_h5(tmp_path / "raw", "file_brain_AXT2_200_1")
    annotations = write_csv(tmp_path, (ILL, 1, BOX, "Mass"))
    with pytest.raises(
        FileNotFoundError, match=r"raw: holds no file_brain_AXT1_\*\.h5; correct paths\.raw"
    ):
        fastmri_volumes(raw, annotations)
    for absent in (None, tmp_path / "nowhere"):
        with pytest.raises(FileNotFoundError, match=r"give paths\.raw=DIR"):
            fastmri_volumes(absent, annotations)
    with pytest.raises(FileNotFoundError, match=r"raw: was not written by `python -m src\.prepare"):
        fastmri_plus(raw)


# The annotations


HEAD = ",".join(COLUMNS)
BAD_TABLES = {
    "another table": (b"file,split\na,train\n", "has no column slice"),
    "a decimal": (
        f"{HEAD}\na,1,No,1,2,3,4,Mass\na,1,No,1.5,2,3,4,Mass\n".encode(),
        "line 3 has x='1.5', no integer",
    ),
    "a negative slice": (
        f"{HEAD}\na,-1,No,1,2,3,4,Mass\n".encode(),
        "line 2 has slice='-1', no integer from 0",
    ),
    "nothing": (b"", "is no csv table"),
    "ragged": (f"{HEAD}\na,1\n{'a,' * 20}\n".encode(), "line 2 has 2 cells, its header 8"),
}


@pytest.mark.parametrize("what", BAD_TABLES)
def test_annotations_of_another_kind_are_refused_by_name(tmp_path: Path, what: str) -> None:
    content, words = BAD_TABLES[what]
    (tmp_path / "brain.csv").write_bytes(content)
    with pytest.raises(ValueError, match=words) as refused:
        read_annotations(tmp_path / "brain.csv")
    assert str(refused.value).startswith(f"{tmp_path}/brain.csv: ")


def test_annotations_that_are_absent_are_asked_for(tmp_path: Path) -> None:
    for absent in (None, tmp_path / "brain.csv", tmp_path):
        with pytest.raises(FileNotFoundError, match=r"give paths\.annotations=brain\.csv"):
            read_annotations(absent)


# The published facts


def test_the_packaged_list_has_131_15_and_30_files() -> None:
    assert Counter(published_splits().values()) == {"train": 131, "val": 15, "test": 30}


@pytest.fixture(scope="module")
def annotations() -> pd.DataFrame:
    if not (SHARED / "brain.csv").is_file():
        pytest.skip(f"fastMRI+'s brain.csv is not at {SHARED}")
    return read_annotations(SHARED / "brain.csv")


def test_the_packaged_list_is_the_published_one(annotations: pd.DataFrame) -> None:
    table = pd.read_csv(SHARED / "published_split.csv")
    assert published_splits() == dict(zip(table["file"], table["split"], strict=True))
    assert set(published_splits()) <= set(annotations["file"])


def test_of_the_177_derived_files_175_are_the_published_ones(
    annotations: pd.DataFrame,
) -> None:
    splits = derived_splits(annotations)
    assert Counter(splits.values()) == {"train": 133, "val": 14, "test": 30}
    assert len(splits) == 177
    assert len(splits.keys() & published_splits().keys()) == 175
    assert (
        derived_splits(annotations.sample(frac=1, random_state=0)) == splits
    )  # whatever the order of the rows


def test_the_real_annotations_sort_a_folder_s_files(
    tmp_path: Path, annotations: pd.DataFrame
) -> None:
    tmp_path.joinpath("raw").mkdir()
    for name in set(annotations["file"]):
        tmp_path.joinpath("raw", f"{name}.h5").touch()  # only listed, not read
    volumes = fastmri_volumes(tmp_path / "raw", SHARED / "brain.csv")
    ill = [volume for volume in volumes if volume.boxes]
    assert len(volumes) == 340
    assert sum(not volume.excluded for volume in volumes) == 176 + len(ill)
    assert all(set(volume.slices or ()) == set(volume.boxes) for volume in ill)
    assert all(
        w > 0 and h > 0 for volume in ill for boxes in volume.boxes.values() for _, _, w, h in boxes
    )
    assert next(v.excluded for v in volumes if v.id == "202_2020345").endswith(
        "with a box: Normal variant"
    )


def test_annotations_that_are_not_given_are_asked_for() -> None:
    with pytest.raises(FileNotFoundError, match=r"^paths\.annotations is not given; give paths\."):
        read_annotations(None)
