"""Slice folders: layouts, splits, refusals."""

from collections import Counter
from pathlib import Path

import pytest

from autoddpm.datasets.slice_folder import slice_folder


def files(folder: Path, *names: str) -> Path:
    """Files that are never opened: listing needs their names only."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def table(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n")
    return path


# --- layouts -------------------------------------------------------------------------------------


def test_a_folder_of_images_is_test_slices_each_its_own_subject(tmp_path):
    records = slice_folder(
        files(tmp_path, "b.png", "a.nii.gz", "c.npy", "d.nii", "notes.txt", ".hidden.png"), name="n"
    )
    assert [(r.id, r.subject, r.split, r.lesion) for r in records] == [
        (f"n/{name}", name, "test", None) for name in "abcd"
    ]
    names = [record.images["T1"].name for record in records]
    assert names == ["a.nii.gz", "b.png", "c.npy", "d.nii"]


def test_masks_in_a_second_folder_go_by_name_in_any_format(tmp_path):
    images, lesions = files(tmp_path / "i", "a.png", "b.png"), files(tmp_path / "l", "b.nii.gz")
    a, b = slice_folder(images, lesions)
    assert a.lesion is None
    assert b.lesion == lesions / "b.nii.gz"


def test_masks_beside_their_images_go_by_suffix(tmp_path):
    a, b = slice_folder(files(tmp_path, "a.png", "a_mask.png", "b.png"))
    assert (a.id, a.lesion) == ("slice_folder/a", tmp_path / "a_mask.png")
    assert (b.id, b.lesion) == ("slice_folder/b", None)


@pytest.mark.parametrize(("header", "masks_listed"), [([], []), (["filename"], ["sub/a_mask.png"])])
def test_a_csv_lists_paths_from_its_folder_and_masks_beside_them(tmp_path, header, masks_listed):
    files(tmp_path, "sub/a.png", "sub/a_mask.png", "sub/b.png", "sub/not_listed.png")
    listed = table(tmp_path / "list.csv", *header, "sub/b.png", "./sub/a.png", *masks_listed)
    a, b = slice_folder(listed, name="n")
    assert (a.id, a.subject, a.images["T1"], a.lesion) == (
        "n/sub/a",
        "a",
        tmp_path / "sub/a.png",
        tmp_path / "sub/a_mask.png",
    )
    assert (b.id, b.lesion) == ("n/sub/b", None)


def test_an_index_names_subjects_splits_and_the_slices_to_use(tmp_path, caplog):
    images = files(tmp_path / "i", "a.png", "b.png", "c.png", "spare.png")
    index = table(
        tmp_path / "index.csv",
        "subject,file,split",
        "007,a.png,train",
        "007,b.png,train",
        "008,c.png,val",
    )
    records = slice_folder(images, index=index)
    assert [(r.subject, r.split) for r in records] == [
        ("007", "train"),
        ("007", "train"),
        ("008", "val"),
    ]
    assert "1 images of" in caplog.text


# --- splits --------------------------------------------------------------------------------------

THIRDS = {"train": 0.5, "val": 0.2, "test": 0.3}


def split_of(records):
    return {record.subject: record.split for record in records}


def test_fractions_split_by_subject_and_add_up(tmp_path):
    images = files(tmp_path / "i", *(f"s{i}_{k}.png" for i in range(20) for k in range(2)))
    rows = [f"s{i}_{k}.png,s{i}" for i in range(20) for k in range(2)]
    records = slice_folder(
        images, index=table(tmp_path / "x.csv", "file,subject", *rows), split=THIRDS
    )
    assert Counter(split_of(records).values()) == {"train": 10, "val": 4, "test": 6}
    assert Counter(record.split for record in records) == {"train": 20, "val": 8, "test": 12}
    assert all(record.split == split_of(records)[record.subject] for record in records)


def test_fractions_depend_on_the_seed_and_on_nothing_else(tmp_path):
    first = files(tmp_path / "1", *(f"s{i:02d}.png" for i in range(30)))
    second = files(tmp_path / "2", *(f"s{i:02d}.npy" for i in reversed(range(30))))
    assert split_of(slice_folder(first, split=THIRDS)) == split_of(
        slice_folder(second, split=THIRDS)
    )
    assert split_of(slice_folder(first, split=THIRDS)) != split_of(
        slice_folder(first, split=THIRDS, seed=1)
    )


def test_fractions_that_leave_no_half_subject_use_every_subject(tmp_path):
    for n in range(1, 8):
        images = files(tmp_path / str(n), *(f"{i}.png" for i in range(n)))
        assert len(slice_folder(images, split={"train": 1 / 3, "val": 1 / 3, "test": 1 / 3})) == n
    halves = split_of(slice_folder(tmp_path / "7", split={"train": 0.5, "test": 0.5}))
    assert Counter(halves.values()) == {"train": 4, "test": 3}


# --- refusals ------------------------------------------------------------------------------------


def refusals(tmp_path: Path) -> dict[str, tuple[tuple, dict]]:
    """What is said, and the arguments of which it is said."""
    images, six = files(tmp_path / "i", "a.png", "b.png"), [f"{i}.png" for i in range(6)]
    lesions = files(tmp_path / "l", *(f"{i}.png" for i in range(7)))
    files(tmp_path, "1/a.png", "2/a.png", "m/a.png")
    (tmp_path / "empty").mkdir()
    gone = tmp_path / "gone"

    def index(*lines: str) -> dict:
        return {"index": table(tmp_path / f"{len(list(tmp_path.iterdir()))}.csv", *lines)}

    def listed(*lines: str) -> Path:
        return index(*lines)["index"]

    return {
        r"gone: there is no such folder; correct data\.sources\.slice_folder\.images": (
            (gone,),
            {},
        ),
        r"gone: there is no such folder; correct data\.sources\.slice_folder\.lesions": (
            (images, gone),
            {},
        ),
        r"empty: holds no file of \.png": ((tmp_path / "empty",), {}),
        r"gone\.csv: there is no such file": ((tmp_path / "gone.csv",), {}),
        r"csv: lists no image": ((listed("path"),), {}),
        r"files that are no slice: .*b\.jpg": ((files(tmp_path / "j", "a.png", "b.jpg"),), {}),
        r"masks without an image: .*0\.png.* and 2 more; add": ((images, lesions), {}),
        r"masks without an image: .*b_mask\.png": (
            (files(tmp_path / "k", "a.png", "b_mask.png"),),
            {},
        ),
        r"a mask among the images": ((files(tmp_path / "n", "a.png", "a_mask.png"), lesions), {}),
        r"lists files that are absent: .*0\.png.* and 1": ((images,), index("file", *six)),
        r"csv: lists files that are absent: ": ((listed(*six),), {}),
        r"a\.png and .*a\.npy have the same id 'a'": (
            (files(tmp_path / "o", "a.png", "a.npy"),),
            {},
        ),
        r"lists files twice: a\.png": ((images,), index("file", "a.png", "a.png")),
        r"lists files twice: i/a\.png": ((listed("i/a.png", "i/a.png"),), {}),
        r"same name, so masks cannot be told": (
            (listed("1/a.png", "2/a.png"), tmp_path / "m"),
            {},
        ),
        r"has no column file, its columns are name, split": (
            (images,),
            index("name,split", "a.png,test"),
        ),
        r"unknown split 'valid'; a split is one of train, val, test": (
            (images,),
            index("file,split", "a.png,valid"),
        ),
        r"rows without a subject: b\.png": (
            (images,),
            index("file,subject", "a.png,1", "b.png,"),
        ),
        r"unknown kind 'sick'": ((images,), index("file,kind", "a.png,sick")),
        r"lesion slices without a mask: .*a\.png": ((images,), index("file,kind", "a.png,lesion")),
        r"line 3 has 4 cells, its header 2": (
            (images,),
            index("file,kind", "a.png,healthy", "a,b,c,d"),
        ),
        r"unknown split 'dev'; fractions are given for": (
            (images,),
            {"split": {"train": 0.5, "dev": 0.5}},
        ),
        r"do not add up to 1": ((images,), {"split": {"train": 0.5, "test": 0.4}}),
    }


def test_what_cannot_be_meant_is_refused_by_name(tmp_path):
    for words, (arguments, settings) in refusals(tmp_path).items():
        with pytest.raises((ValueError, FileNotFoundError), match=words):
            slice_folder(*arguments, **settings)


# --- masks by their endings ----------------------------------------------------------------------

ENDINGS = ("_seg", "_label", "_lesion", "_gt", "_mask", "_SEG", "-Mask", ".label", "_labels", "_GT")


@pytest.mark.parametrize("ending", ENDINGS)
def test_the_usual_endings_are_masks_everywhere(tmp_path, ending):
    beside = files(tmp_path / "beside", "p001.png", f"p001{ending}.png", "p002.png")
    images = files(tmp_path / "images", "p001.png", "p002.png")
    lesions = files(tmp_path / "lesions", f"p001{ending}.png")
    listed = table(tmp_path / "list.csv", "beside/p001.png", "beside/p002.png")
    for arguments, folder in (
        ((beside,), beside),
        ((images, lesions), lesions),
        ((listed,), beside),
    ):
        one, two = slice_folder(*arguments)
        assert (one.subject, one.lesion) == ("p001", folder / f"p001{ending}.png")
        assert (two.subject, two.lesion) == ("p002", None)


def test_two_endings_are_one_mask(tmp_path):
    (one,) = slice_folder(files(tmp_path, "a.png", "a_lesion_mask.nii.gz"))
    assert one.lesion == tmp_path / "a_lesion_mask.nii.gz"


def test_masks_are_no_slices_to_train_on(tmp_path):
    with pytest.raises(ValueError, match=r"masks without an image: .*p001_GT\.png"):
        slice_folder(files(tmp_path / "1", "p002.png", "p001_GT.png"), split=THIRDS)
    folder = files(tmp_path / "2", "a.png", "a_seg.png")
    index = table(tmp_path / "x.csv", "file,split", "a.png,train", "a_seg.png,train")
    with pytest.raises(ValueError, match=r"lists masks as slices: a_seg\.png; list images alone"):
        slice_folder(folder, index=index)


def test_two_masks_of_one_image_are_refused(tmp_path):
    folder = files(tmp_path / "1", "a.png", "a_seg.png", "a_mask.png")
    lesions = files(tmp_path / "l", "a.png", "a_lesion.png")
    listed = table(tmp_path / "list.csv", "1/a.png")
    for arguments in ((folder,), (files(tmp_path / "2", "a.png"), lesions), (listed,)):
        with pytest.raises(ValueError, match=r"are two masks of one image; leave one"):
            slice_folder(*arguments)


# --- what is in a folder -------------------------------------------------------------------------


def test_links_are_followed_and_one_that_leads_nowhere_is_named(tmp_path):
    files(tmp_path / "real", "a.png", "b.png")
    (tmp_path / "link").symlink_to(tmp_path / "real", target_is_directory=True)
    (tmp_path / "real" / "c.png").symlink_to(tmp_path / "real" / "a.png")
    assert len(slice_folder(tmp_path / "link")) == 3
    (tmp_path / "real" / "d.png").symlink_to(tmp_path / "gone.png")
    with pytest.raises(FileNotFoundError, match=r"d\.png: is a link that leads nowhere"):
        slice_folder(tmp_path / "link")


def test_folders_that_are_not_searched_are_named(tmp_path, caplog):
    folder = files(tmp_path, "a.png", "p1/b.png", "p2/c.png", "lesions/a.png")
    assert len(slice_folder(folder, folder / "lesions")) == 1
    assert "2 folders in it are not searched: p1, p2" in caplog.text


def test_capital_endings_are_one_suffix(tmp_path):
    (one,) = slice_folder(files(tmp_path, "A.NII.GZ", "A_MASK.NII"))
    assert (one.subject, one.lesion.name) == ("A", "A_MASK.NII")
