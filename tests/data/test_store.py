"""The store: identity, atomicity, refusals."""

import logging
import multiprocessing
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from autoddpm.data import store as module
from autoddpm.data.image_file import read_image
from autoddpm.data.preprocess import preprocess
from autoddpm.data.sample import Record
from autoddpm.data.store import build_store


def records(folder: Path, n: int = 4) -> list[Record]:
    """n test slices of 40 x 33, the odd ones with a lesion of 100 pixels, the last with one of a
    single pixel."""
    folder.mkdir(exist_ok=True)
    listed = []
    for i in range(n):
        image, lesion = folder / f"{i}.png", folder / f"{i}_mask.png" if i % 2 else None
        Image.fromarray(np.random.default_rng(i).integers(0, 255, (40, 33), dtype=np.uint8)).save(
            image
        )
        if lesion:
            mask = np.zeros((40, 33), np.uint8)
            mask[10 : 11 if i == n - 1 else 20, 10 : 11 if i == n - 1 else 20] = 255
            Image.fromarray(mask).save(lesion)
        listed.append(Record(f"s/{i}", f"00{i}", "test", {"T1": image}, lesion))
    return listed


def test_the_store_holds_each_slice_as_preprocess_makes_it(tmp_path):
    listed = records(tmp_path / "d")
    store = build_store("s", listed, 20, tmp_path / "p")
    assert store.folder == tmp_path / "p" / f"s-{store.hash}"
    assert isinstance(store.images, np.memmap)
    assert store.images.dtype == np.float32
    assert store.lesions.dtype == bool
    for i, record in enumerate(listed):
        lesion = np.asarray(Image.open(record.lesion)) > 0 if record.lesion else None
        expected = preprocess(
            np.asarray(Image.open(record.images["T1"])).astype(np.float32), lesion, 20
        )
        np.testing.assert_array_equal(store.images[i], [expected.image])
        np.testing.assert_array_equal(store.lesions[i], [expected.lesion])
    assert list(store.index["id"]) == ["s/0", "s/1", "s/2", "s/3"]
    assert list(store.index["subject"]) == ["000", "001", "002", "003"]
    assert list(store.index["lesion_pixels_full"]) == [0, 100, 0, 1]
    assert list(store.index["lesion_pixels"]) == [
        0,
        26,
        0,
        0,
    ]  # 5 x 4, and twice 3 that are exactly one half
    assert list(store.index["lesion_lost"]) == [False, False, False, True]
    assert list(store.index["lesion_sha256"].str.len()) == [0, 64, 0, 64]
    assert list(store.index["volume"]) == ["000", "001", "002", "003"]


def test_a_lesion_that_the_resize_lost_is_named_in_the_log(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        build_store("s", records(tmp_path / "d"), 20, tmp_path / "p")
    assert caplog.text.count("the resize lost the lesion of 1 slices: s/3") == 1


def test_a_store_is_built_once(tmp_path, monkeypatch):
    first = build_store("s", records(tmp_path / "d"), 20, tmp_path / "p")
    monkeypatch.setattr(module, "read_image", None)
    again = build_store("s", records(tmp_path / "d"), 20, tmp_path / "p")
    assert again.hash == first.hash
    assert again.index.equals(first.index)


def test_the_hash_is_of_settings_and_contents_and_not_of_places(tmp_path):
    listed = records(tmp_path / "d")
    first = build_store("s", listed, 20, tmp_path / "p")
    elsewhere = build_store("s", records(tmp_path / "moved"), 20, tmp_path / "p")
    assert elsewhere.hash == first.hash
    assert elsewhere.index["image"][0] == str(tmp_path / "moved" / "0.png")
    changed = [
        replace(listed[0], id="s/x"),
        replace(listed[0], subject="x"),
        replace(listed[0], split="val"),
    ]
    hashes = {
        build_store("s", [record, *listed[1:]], 20, tmp_path / "p").hash for record in changed
    }
    hashes |= {first.hash, build_store("s", listed, 24, tmp_path / "p").hash}
    for path in (listed[2].images["T1"], listed[1].lesion):
        pixels = np.asarray(Image.open(path)).copy()
        pixels[0, 0] ^= 1
        Image.fromarray(pixels).save(path)
        hashes.add(build_store("s", listed, 20, tmp_path / "p").hash)
    assert len(hashes) == 7


def test_bad_files_are_named_in_one_message_and_leave_nothing(tmp_path):
    listed = records(tmp_path / "d", 9)
    for record in listed[:7]:
        Image.fromarray(np.zeros((40, 33), np.uint8)).save(record.images["T1"])
    with pytest.raises(
        ValueError, match=r"(?s)0\.png: every pixel is 0.*4\.png: every.*\.\.\. and 2 more files"
    ) as error:
        build_store("s", listed, 20, tmp_path / "p")
    assert len(str(error.value).splitlines()) == 6
    assert list((tmp_path / "p").iterdir()) == []
    listed[0].images["T1"].unlink()
    with pytest.raises(FileNotFoundError, match=r"0\.png: there is no such file"):
        build_store("s", listed, 20, tmp_path / "p")


def test_a_slice_that_cannot_be_windowed_is_named(tmp_path):
    listed = records(tmp_path / "d", 1)
    image = np.zeros((40, 33), np.uint8)
    image[3, 3:18] = np.arange(1, 16)
    Image.fromarray(image).save(listed[0].images["T1"])
    with pytest.raises(ValueError, match=r"0\.png: 98 % of its pixels are not above 0; leave"):
        build_store("s", listed, 20, tmp_path / "p")


def test_an_interrupted_build_leaves_nothing_that_looks_whole(tmp_path, monkeypatch):
    listed = records(tmp_path / "d")

    def interrupt(path, dimensions, like=None):
        if path.name == "2.png":
            raise KeyboardInterrupt
        return read_image(path, dimensions, like)

    monkeypatch.setattr(module, "read_image", interrupt)
    with pytest.raises(KeyboardInterrupt):
        build_store("s", listed, 20, tmp_path / "p")
    assert list((tmp_path / "p").iterdir()) == []
    monkeypatch.setattr(module, "read_image", read_image)
    assert len(build_store("s", listed, 20, tmp_path / "p").images) == 4


def test_processes_that_build_at_once_get_the_same_whole_store(tmp_path):
    listed = records(tmp_path / "d", 12)
    with multiprocessing.get_context("fork").Pool(4) as pool:
        stores = pool.starmap(build_store, [("s", listed, 20, tmp_path / "p")] * 4)
    assert len({store.hash for store in stores}) == 1
    assert len(list((tmp_path / "p").iterdir())) == 1
    assert all(np.array_equal(store.images, stores[0].images) for store in stores)


def test_a_store_travels_to_another_process_without_its_arrays(tmp_path):
    store = build_store("s", records(tmp_path / "d"), 64, tmp_path / "p")
    before = np.array(store.images)
    sent = pickle.dumps(store)
    assert len(sent) < before.nbytes / 4
    np.testing.assert_array_equal(pickle.loads(sent).images, before)


def test_a_store_of_an_older_format_is_left_alone(tmp_path):
    listed = records(tmp_path / "d")
    current = build_store("s", listed, 20, tmp_path / "p")
    older = tmp_path / "p" / "s-0123456789ab"
    current.folder.rename(older)
    np.save(older / "images.npy", np.zeros((4, 20, 20), np.float32))
    assert build_store("s", listed, 20, tmp_path / "p").images.shape == (4, 1, 20, 20)
    assert np.load(older / "images.npy").shape == (4, 20, 20)
