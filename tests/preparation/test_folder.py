"""From raw volumes to a folder of slices: nothing is lost, mixed or left half-written."""

import errno
import hashlib
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pandas as pd
import pytest
from test_cutting import AFFINE, PLAIN, SHAPE, data, raw, save

from autoddpm.atomic import read_json, write_json
from autoddpm.data.image_file import read_image, read_lesion
from autoddpm.data.store import build_store
from autoddpm.preparation import cutting
from autoddpm.preparation import folder as preparation
from autoddpm.preparation.cutting import Aligned, Steps, align
from autoddpm.preparation.folder import EMPTY, prepare_volumes, prepared, read_index, write_slices
from autoddpm.preparation.geometry import SliceGeometry, to_volume
from autoddpm.preparation.volume import RawVolume, Source, Volume, read_volume


def three(tmp_path: Path) -> list[RawVolume]:
    folder = tmp_path / "raw"
    lesion = np.zeros(SHAPE, bool)
    lesion[4:7, 9:14, 3] = True
    return [raw(folder, "c", 3), raw(folder, "a", 1, lesion), raw(folder, "b", 2)]


def prepare(
    tmp_path: Path, volumes: list[RawVolume], steps: Steps = PLAIN, to: str = "set", **settings: Any
) -> pd.DataFrame:
    return prepare_volumes(volumes, steps, tmp_path / to, **{"processes": 1} | settings)


def contents(folder: Path) -> dict[str, str]:
    """Every file of a folder by its digest."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def plane(folder: Path, file: str) -> np.ndarray:
    array = np.asarray(nibabel.load(folder / file).dataobj)
    assert array.shape[2:] == (1,)
    return array[..., 0]


@pytest.fixture
def parts(tmp_path: Path) -> Path:
    """A folder with room for slices and lesions."""
    for name in ("slices", "lesions"):
        (tmp_path / "parts" / name).mkdir(parents=True)
    return tmp_path / "parts"


def test_a_slice_is_written_turned_with_the_front_above(tmp_path: Path, parts: Path) -> None:
    lesion = np.zeros(SHAPE, bool)
    lesion[4:7, 9:14, 2:4] = True
    (row,) = write_slices(raw(tmp_path, "a", 1, lesion), PLAIN, parts)
    np.testing.assert_array_equal(plane(parts, row["file"]), data(1)[:, :, 3])
    np.testing.assert_array_equal(plane(parts, row["lesion_file"]), lesion[:, :, 3])
    image = read_image(parts / row["file"])
    np.testing.assert_array_equal(image, np.rot90(data(1)[:, :, 3]))
    seen = read_lesion(parts / row["lesion_file"], image, parts / row["file"]).pixels
    np.testing.assert_array_equal(seen, np.rot90(lesion[:, :, 3]))
    corner = nibabel.load(parts / row["file"]).affine @ [5, 7, 0, 1]
    np.testing.assert_allclose(corner, AFFINE @ [5, 7, 3, 1], atol=1e-4)
    assert (row["id"], row["volume"], row["slice"], row["windowed"]) == ("a", "a", "3", "")
    assert row["source_sha256"] == hashlib.sha256((tmp_path / "a.nii.gz").read_bytes()).hexdigest()


def test_each_slice_has_its_name_and_only_a_lesion_has_a_mask(tmp_path: Path, parts: Path) -> None:
    lesion = np.zeros(SHAPE, bool)
    lesion[4:7, 9:14, 2] = True
    rows = write_slices(raw(tmp_path, "a", 1, lesion), replace(PLAIN, slices="1:4"), parts)
    assert [row["id"] for row in rows] == ["a_z001", "a_z002", "a_z003"]
    assert {row["volume"] for row in rows} == {"a"}
    assert [row["lesion_file"] for row in rows] == ["", "lesions/a_z002.nii.gz", ""]
    assert sorted(path.name for path in (parts / "lesions").iterdir()) == ["a_z002.nii.gz"]


def test_empty_slices_are_left_out_and_counted(tmp_path: Path) -> None:
    volume = raw(tmp_path, "a", 1)
    values = data(1)
    values[:, :, 3:] = 0
    save(volume.image.path, values)
    index = prepare(tmp_path, [volume], replace(PLAIN, slices="all"))
    assert index["id"].tolist() == [f"a_z00{z}" for z in range(6)]
    assert index["excluded"].tolist() == [""] * 3 + [EMPTY] * 3
    assert [record.id for record in prepared(tmp_path / "set", "s")] == [
        f"s/a_z00{z}" for z in range(3)
    ]
    with pytest.raises(ValueError, match=r"a\.nii\.gz: slice 4 is empty; choose others"):
        prepare(tmp_path, [volume], replace(PLAIN, slices=4), to="one")
    assert not (tmp_path / "one").exists()


def test_one_slice_that_is_left_of_two_keeps_its_number(tmp_path: Path) -> None:
    volume = raw(tmp_path, "a", 1)
    values = data(1)
    values[:, :, 3:] = 0
    save(volume.image.path, values)
    index = prepare(tmp_path, [volume], replace(PLAIN, slices=[2, 3]))
    assert index.loc[index["excluded"] == "", "id"].tolist() == ["a_z002"]


STRANGE: dict[str, Exception] = {
    "SimpleITK's": RuntimeError("Exception thrown in ShrinkImageFilter:\n/x.cxx:1:\nITK ERROR: 7"),
    "NumPy's": ValueError("operands could not be broadcast"),
    "memory": MemoryError(),
    "none of ours": KeyError("lost"),
}


@pytest.mark.parametrize("whose", STRANGE)
def test_any_error_of_a_volume_is_that_volume_s_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whose: str
) -> None:
    def corrected(volume: Volume) -> np.ndarray:
        if volume.name.endswith("/a.nii.gz"):
            raise STRANGE[whose]
        return volume.data

    monkeypatch.setattr(cutting, "n4", corrected)
    volumes, steps = three(tmp_path), replace(PLAIN, n4=True)
    with pytest.raises(ValueError, match=r"raw/a\.nii\.gz: cannot be prepared \(.*\); ") as refused:
        prepare(tmp_path, volumes, steps)
    assert "\n" not in str(refused.value)
    assert "preparation.exclude, or on_error=skip" in str(refused.value)
    index = prepare(tmp_path, volumes, steps, on_error="skip").set_index("id")
    assert index["excluded"].str.startswith("error: ").tolist() == [True, False, False]
    assert [record.id for record in prepared(tmp_path / "set", "s")] == ["s/b", "s/c"]


def test_a_localiser_of_few_slices_is_left_out_by_name(tmp_path: Path) -> None:
    pytest.importorskip("SimpleITK")
    volumes, steps = three(tmp_path)[1:], replace(PLAIN, n4=True, slices=0)
    localiser = np.random.default_rng(0).integers(1, 900, (18, 21, 3)).astype(np.float32)
    save(volumes[0].image.path, localiser)
    (tmp_path / "raw" / "a_mask.nii.gz").unlink()
    volumes = [replace(volume, lesion=None) for volume in volumes]
    thick = np.random.default_rng(1).integers(1, 900, (18, 21, 9)).astype(np.float32)
    save(volumes[1].image.path, thick)
    index = prepare(tmp_path, volumes, steps, on_error="skip").set_index("id")
    assert index.loc["a", "excluded"].startswith(f"error: {tmp_path}/raw/a.nii.gz: cannot be prep")
    assert index.loc["b", "excluded"] == ""


def test_an_implausible_brain_is_left_out_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = replace(PLAIN, register=True, brain_mask="nonzero", slices=3)
    monkeypatch.setattr(cutting, "BRAIN_ML", (0, 2800))
    dice = {"a": 0.39, "b": 0.81, "c": 0.97}

    def aligned(volume: Volume, _: Steps) -> Aligned:
        name = Path(volume.name).name[0]
        return replace(align(volume, PLAIN), brain=volume.data > 0, brain_dice=dice[name])

    monkeypatch.setattr(cutting, "align", aligned)
    index = prepare(tmp_path, three(tmp_path), steps).set_index("id")
    assert index.loc["a", "excluded"] == (
        f"implausible brain: {tmp_path}/raw/a.nii.gz: its brain covers the template's with a Dice "
        "of 0.39, below 0.8"
    )
    assert index["excluded"].tolist()[1:] == ["", ""]


def test_without_a_library_nothing_is_left_out_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(volume: Volume) -> np.ndarray:
        raise ValueError("N4 needs SimpleITK: pip install") from ImportError("SimpleITK")

    monkeypatch.setattr(cutting, "n4", missing)
    with pytest.raises(ValueError, match=r"^N4 needs SimpleITK"):
        prepare(tmp_path, three(tmp_path), replace(PLAIN, n4=True), on_error="skip")


def test_a_folder_lists_its_slices_and_what_was_left_out(tmp_path: Path) -> None:
    left = RawVolume(
        "d",
        "d",
        "test",
        Source(tmp_path / "never read"),
        excluded="artefact",
        about={"labels": "x"},
    )
    index = prepare(tmp_path, [*three(tmp_path), left])
    assert index["id"].tolist() == ["a", "b", "c", "d"]
    assert index["excluded"].tolist() == ["", "", "", "artefact"]
    assert index["lesion_file"].tolist() == ["lesions/a.nii.gz", "", "", ""]
    assert index["labels"].tolist() == ["", "", "", "x"]
    assert index["source"][0] == f"{tmp_path}/raw/a.nii.gz"
    assert index.columns[0] == "id"
    for row, seed in zip(index.to_dict("records"), (1, 2, 3), strict=False):
        np.testing.assert_array_equal(plane(tmp_path / "set", row["file"]), data(seed)[:, :, 3])
    files = ["slices/a.nii.gz", "slices/b.nii.gz", "slices/c.nii.gz", "lesions/a.nii.gz"]
    assert sorted(contents(tmp_path / "set")) == sorted([*files, "index.csv", "preparation.json"])
    assert [path.name for path in tmp_path.glob("set*")] == ["set"]


def test_prepared_slices_reach_the_network_with_their_origin(tmp_path: Path) -> None:
    volumes = [*three(tmp_path), raw(tmp_path / "raw", "w", 5, site="HH")]
    prepare(tmp_path, volumes, replace(PLAIN, window="volume"))
    records = prepared(tmp_path / "set", "mine")
    assert [record.id for record in records] == ["mine/a", "mine/b", "mine/c", "mine/w"]
    assert all(record.windowed for record in records)
    store = build_store("mine", records, 21, tmp_path / "prepared")
    assert store.index["site"].tolist() == ["", "", "", "HH"]
    assert store.index["volume"].tolist() == ["mine/a", "mine/b", "mine/c", "mine/w"]
    assert store.index["lesion_pixels"].tolist() == [15, 0, 0, 0]
    scale = np.percentile(data(1), 98)
    expected = np.clip(
        np.rot90(data(1)[:, :, 3]) / scale, 0, 1
    )  # windowed once, not again by the slice
    np.testing.assert_allclose(store.images[0, 0, :, 1:19], expected, rtol=1e-5)
    geometry = SliceGeometry.from_json(store.index["geometry"][0])
    back = np.asarray(to_volume([store.images[0, 0]], [geometry]).dataobj)
    np.testing.assert_allclose(back[::-1, :, 3], np.clip(data(1)[:, :, 3] / scale, 0, 1), atol=2e-4)


def test_slices_say_how_they_were_made(tmp_path: Path) -> None:
    volumes = [replace(volume, modality="FLAIR") for volume in three(tmp_path)]
    prepare(tmp_path, volumes)
    records = prepared(tmp_path / "set", "s")
    assert all(list(record.images) == ["FLAIR"] for record in records)
    store = build_store("s", records, 21, tmp_path / "prepared")
    assert store.modalities == ("FLAIR",)
    assert store.preparation == PLAIN.record("FLAIR")
    with pytest.raises(ValueError, match="modality is FLAIR there and T1 here"):
        prepare(tmp_path, three(tmp_path))
    with pytest.raises(ValueError, match=r"c\.nii\.gz is FLAIR .* is T1; prepare each modality"):
        prepare(tmp_path, [three(tmp_path)[1], volumes[0]], to="two")


def test_a_folder_of_before_modalities_is_of_t1(tmp_path: Path) -> None:
    prepare(tmp_path, three(tmp_path))
    settings = read_json(tmp_path / "set" / "preparation.json")
    del settings["modality"]
    write_json(tmp_path / "set" / "preparation.json", settings)
    prepare(tmp_path, three(tmp_path))
    (record, *_) = prepared(tmp_path / "set", "s")
    assert (list(record.images), record.preparation) == (["T1"], PLAIN.record("T1"))


def test_a_slice_without_a_window_is_left_out_with_its_volume(
    tmp_path: Path,
) -> None:
    volumes = three(tmp_path)
    save(volumes[0].image.path, data(3) - 600)
    with pytest.raises(
        ValueError, match=r"raw/c\.nii\.gz: slice 3 cannot be used: its values reach far below 0"
    ):
        prepare(tmp_path, volumes)
    prepare(tmp_path, volumes, on_error="skip")
    assert [record.id for record in prepared(tmp_path / "set", "mine")] == ["mine/a", "mine/b"]


def test_a_prepared_folder_that_lost_a_file_is_refused(tmp_path: Path) -> None:
    prepare(tmp_path, three(tmp_path))
    (tmp_path / "set" / "lesions" / "a.nii.gz").unlink()
    with pytest.raises(FileNotFoundError, match=r"lesions/a\.nii\.gz: there is no such file"):
        prepared(tmp_path / "set", "mine")


@pytest.fixture
def cuts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The volumes whose files were read."""
    done: list[str] = []

    def counted(source: Source) -> Volume:
        done.append(source.name.removesuffix(".nii.gz"))
        return read_volume(source)

    monkeypatch.setattr(preparation, "read_volume", counted)
    return done


def stop_at(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Stop after the slices of a volume were written and before its rows are."""

    def stopping(path: Path, content: Any) -> None:
        if path.name.startswith(f"{name}-"):
            raise KeyboardInterrupt
        write_json(path, content)

    monkeypatch.setattr(preparation, "write_json", stopping)


def stopped(tmp_path: Path, at: str, volumes: list[RawVolume], **settings: Any) -> None:
    with pytest.MonkeyPatch.context() as patch:
        stop_at(patch, at)
        with pytest.raises(KeyboardInterrupt):
            prepare(tmp_path, volumes, **settings)


def test_after_a_stop_the_work_is_continued_to_the_same_bytes(
    tmp_path: Path, cuts: list[str]
) -> None:
    volumes = three(tmp_path)
    prepare(tmp_path, volumes, to="straight")
    stopped(tmp_path, "a", volumes)
    assert not (tmp_path / "set").exists()
    cuts.clear()
    prepare(tmp_path, volumes)
    assert cuts == ["a", "b"]
    assert contents(tmp_path / "set") == contents(tmp_path / "straight")


def test_two_processes_write_the_same_bytes_as_one(tmp_path: Path) -> None:
    volumes = three(tmp_path)
    (tmp_path / "raw" / "b.nii.gz").write_bytes(b"broken")
    one = prepare(tmp_path, volumes, to="one", on_error="skip")
    two = prepare(tmp_path, volumes, to="two", processes=2, on_error="skip")
    assert one.equals(two)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_what_is_there_is_reused_but_never_with_other_settings(
    tmp_path: Path, cuts: list[str]
) -> None:
    volumes = three(tmp_path)
    first = prepare(tmp_path, volumes)
    before = contents(tmp_path / "set")
    assert prepare(tmp_path, volumes).equals(first)
    assert len(cuts) == 3
    lesion = raw(tmp_path / "raw", "b", 2, np.ones(SHAPE, bool))
    excluded = replace(volumes[2], excluded="doubtful")
    for others, steps, difference in (
        (volumes, replace(PLAIN, slices=2), "slices is 3 there and 2 here"),
        (volumes[:2], PLAIN, "3 volumes there and 2 here"),
        ([*volumes[:2], excluded], PLAIN, "b has changed"),
        ([*volumes[:2], lesion], PLAIN, "b has changed"),
    ):
        with pytest.raises(
            ValueError, match=rf"set was prepared with other settings .*\({difference}\): .*move"
        ):
            prepare(tmp_path, others, steps)
    assert len(cuts) == 3
    assert contents(tmp_path / "set") == before


def test_work_with_other_settings_is_not_continued(tmp_path: Path, cuts: list[str]) -> None:
    volumes = three(tmp_path)
    stopped(tmp_path, "b", volumes)
    cuts.clear()
    prepare(tmp_path, volumes, replace(PLAIN, slices=2))
    assert cuts == ["c", "a", "b"]
    for name, seed in zip("abc", (1, 2, 3), strict=True):
        np.testing.assert_array_equal(
            plane(tmp_path / "set", f"slices/{name}.nii.gz"), data(seed)[:, :, 2]
        )


def test_a_volume_that_changed_since_the_stop_leaves_no_trace(
    tmp_path: Path, cuts: list[str]
) -> None:
    c, a, b = (replace(volume, lesion=None) for volume in three(tmp_path))
    volumes = [replace(c, slices=[1, 2]), a, b]
    stopped(tmp_path, "b", volumes)
    cuts.clear()
    size = a.image.size
    save(a.image.path, np.pad(data(7), ((0, 4), (0, 0), (0, 0))))
    assert a.image.size != size
    prepare(tmp_path, [replace(c, excluded="doubtful"), a, b])
    assert cuts == ["a", "b"]
    assert sorted(path.name for path in tmp_path.glob("set/slices/*")) == ["a.nii.gz", "b.nii.gz"]
    assert plane(tmp_path / "set", "slices/a.nii.gz").shape == (22, 21)


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "mine.txt").write_text("mine")
    with pytest.raises(
        ValueError, match="set is there already and was not written by this command"
    ):
        prepare(tmp_path, three(tmp_path))
    assert sorted(contents(tmp_path / "set")) == ["mine.txt"]


def test_only_the_bad_file_that_stopped_the_work_is_done_again(
    tmp_path: Path, cuts: list[str]
) -> None:
    volumes = three(tmp_path)
    whole = (tmp_path / "raw" / "a.nii.gz").read_bytes()
    (tmp_path / "raw" / "a.nii.gz").write_bytes(whole[:-50])
    with pytest.raises(ValueError, match=r"raw/a\.nii\.gz: is not whole"):
        prepare(tmp_path, volumes)
    assert not (tmp_path / "set").exists()
    (tmp_path / "raw" / "a.nii.gz").write_bytes(whole)  # downloaded again, of another size
    index = prepare(tmp_path, volumes)
    assert cuts == ["c", "a", "a", "b"]
    assert index["excluded"].tolist() == ["", "", ""]


def test_a_bad_file_is_skipped_and_listed_if_one_says_so(tmp_path: Path) -> None:
    volumes = three(tmp_path)
    save(tmp_path / "raw" / "a_mask.nii.gz", np.full(SHAPE, -1, np.float32))
    index = prepare(tmp_path, volumes, on_error="skip")
    excluded = index.set_index("id")["excluded"]
    assert excluded["a"].startswith(
        f"error: {tmp_path}/raw/a_mask.nii.gz: holds NaN, infinite or negative"
    )
    assert [record.id for record in prepared(tmp_path / "set", "s")] == ["s/b", "s/c"]
    assert sorted(path.name for path in (tmp_path / "set").glob("*/*")) == ["b.nii.gz", "c.nii.gz"]


def test_what_was_skipped_is_tried_again_when_the_work_goes_on(tmp_path: Path) -> None:
    volumes = three(tmp_path)
    (tmp_path / "raw" / "c.nii.gz").write_bytes(b"broken")
    stopped(tmp_path, "b", volumes, on_error="skip")
    with pytest.raises(ValueError, match=r"raw/c\.nii\.gz: cannot be used"):  # no longer skipped
        prepare(tmp_path, volumes, on_error="stop")


@pytest.mark.parametrize("name", ["a.nii.gz", "a_mask.nii.gz"])
def test_an_absent_file_or_mask_stops_before_anything_is_done(
    tmp_path: Path, name: str, cuts: list[str]
) -> None:
    volumes = three(tmp_path)
    (tmp_path / "raw" / name).unlink()
    with pytest.raises(
        FileNotFoundError, match=rf"raw/{name}: there is no such file; .*on_error=skip"
    ):
        prepare(tmp_path, volumes)
    assert not cuts
    assert not list(tmp_path.glob("set*"))
    index = prepare(tmp_path, volumes, on_error="skip")
    (reason,) = index.loc[index["excluded"] != "", "excluded"]
    assert f"raw/{name}: cannot be used (No such file" in reason


def test_a_set_of_which_nothing_can_be_used_is_refused(tmp_path: Path) -> None:
    volumes = [replace(volume, excluded="artefact") for volume in three(tmp_path)]
    with pytest.raises(ValueError, match="set: none of 3 volumes can be used; artefact"):
        prepare(tmp_path, volumes)
    with pytest.raises(ValueError, match="set: no volume"):
        prepare(tmp_path, [])
    assert not (tmp_path / "set").exists()


def test_two_volumes_of_one_name_are_refused(tmp_path: Path) -> None:
    volumes = [raw(tmp_path / "raw", "a"), raw(tmp_path / "more", "a")]
    with pytest.raises(
        ValueError, match=r"more/a\.nii\.gz and .*raw/a\.nii\.gz are both a; leave one out"
    ):
        prepare(tmp_path, volumes)


def test_on_error_is_stop_or_skip(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="on_error=ignore: must be stop or skip"):
        prepare(tmp_path, three(tmp_path), on_error="ignore")


@pytest.mark.parametrize(
    ("writer", "name", "when"),
    [
        (nibabel, "save", "b.nii.gz"),
        (Path, "write_bytes", ".b-"),
        (Path, "write_bytes", ".preparation.json"),
    ],
    ids=["a slice", "its rows", "the settings"],
)
def test_a_full_disk_leaves_nothing_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writer: Any, name: str, when: str
) -> None:
    """Not even if bad volumes are skipped."""
    volumes = three(tmp_path)
    prepare(tmp_path, volumes, to="straight")
    write, met = getattr(writer, name), []

    def write_while_there_is_room(*arguments: Any) -> None:
        path = next(argument for argument in arguments if isinstance(argument, Path))
        if when not in path.name:
            return write(*arguments)
        met.append(path)
        path.write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(writer, name, write_while_there_is_room)
        with pytest.raises(
            OSError, match=r"set\..*: the disk is full; free some space and run the"
        ):
            prepare(tmp_path, volumes, on_error="skip")
    assert len(met) == 1
    assert not (tmp_path / "set").exists()
    (work,) = tmp_path.glob("set.*.unfinished")
    assert not [path for path in work.rglob("*") if path.is_file() and path.read_bytes() == b"half"]
    prepare(tmp_path, volumes)
    assert contents(tmp_path / "set") == contents(tmp_path / "straight")


class KilledPool:
    """A pool whose processes die."""

    def __init__(self, *_: object) -> None: ...

    def __enter__(self) -> "KilledPool":
        return self

    def __exit__(self, *_: object) -> None: ...

    def submit(self, *_: object) -> "Future[None]":
        future: Future[None] = Future()
        future.set_exception(BrokenProcessPool("terminated abruptly"))
        return future


def test_a_process_that_is_killed_is_said_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("autoddpm.processes.ProcessPoolExecutor", KilledPool)
    with pytest.raises(OSError, match=r"killed, most likely for want of memory.* fewer processes"):
        prepare(tmp_path, three(tmp_path), processes=2)


def test_an_index_is_read_as_text(tmp_path: Path) -> None:
    volumes = [raw(tmp_path / "raw", "007"), raw(tmp_path / "raw", "1e5")]
    prepare(tmp_path, volumes)
    assert read_index(tmp_path / "set")["id"].tolist() == ["007", "1e5"]
    assert [record.subject for record in prepared(tmp_path / "set", "s")] == ["007", "1e5"]
