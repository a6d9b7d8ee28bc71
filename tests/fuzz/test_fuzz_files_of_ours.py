"""Files that this program wrote: what is read is what was written, or damage is refused by name."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import safetensors.torch
import yaml
from fuzzed import any_json, damage, examples, or_refused, places, replaced
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from autoddpm.data.store import COLUMNS
from autoddpm.datasets.packed import PackedStore, packed, write_packed
from autoddpm.models.model import Trained
from autoddpm.models.weights_file import (
    known_preparation,
    read_about,
    read_thresholds,
    read_weights,
    write_weights,
)
from autoddpm.runs.maps import MapReader
from autoddpm.runs.row import COLUMNS as SLICE_COLUMNS
from autoddpm.runs.row import read_row, read_slices, write_row

THRESHOLD = {"threshold": 0.5, "conditions": {"weights_hash": "a", "detector": {"name": "AnoDDPM"}}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ours")


@pytest.fixture(scope="module")
def pack(folder: Path) -> tuple[PackedStore, Path]:
    """A store of three slices, and its packed file."""
    images = np.random.default_rng(0).random((3, 1, 9, 9)).astype("f4")
    index = pd.DataFrame(
        [[f"s/{n}", f"p{n}", "test", *[""] * (len(COLUMNS) - 3)] for n in range(3)]
    )
    index.columns = pd.Index(COLUMNS)
    store = PackedStore(folder, "abc", index, ("T1",), None)
    store.__dict__ |= {"images": images, "lesions": images > 0.9}
    return store, write_packed({"s": store}, folder / "whole.npz")


@examples(50)
@given(harm=damage())
def test_a_packed_file_is_as_it_was_packed_or_refused(folder, pack, harm):
    store, whole = pack
    path = folder / "packed.npz"
    path.write_bytes(harm(whole.read_bytes()))
    read = or_refused(lambda: packed(path, "s"), path)
    if read is not None:
        np.testing.assert_array_equal(read.images, store.images)
        np.testing.assert_array_equal(read.lesions, store.lesions)
        assert list(read.index["id"]) == list(store.index["id"])


@examples(50)
@given(data=st.data(), value=any_json("abc", 2, {"hash": ""}))
def test_parts_of_a_packed_file_that_do_not_fit_are_refused(folder, pack, data, value):
    store, whole = pack
    with np.load(whole) as stored:
        arrays = dict(stored)
    name = data.draw(st.sampled_from(sorted(arrays)))
    change = data.draw(st.sampled_from(["drop", "first", "twice", "negative", "text", "json"]))
    if name == "about" and change != "drop":
        about = json.loads(str(arrays["about"]))
        place = data.draw(st.sampled_from(places(about)))
        arrays["about"] = np.array(json.dumps(replaced(about, place, value)))
    elif change == "drop":
        del arrays[name]
    elif change == "first":
        arrays[name] = arrays[name][:1] if arrays[name].ndim else np.array(str(arrays[name])[:60])
    elif change == "twice":
        arrays[name] = np.concatenate([np.atleast_1d(arrays[name])] * 2)
    elif change == "text" or name == "s.index":
        arrays[name] = np.array("id,subject\n1,2,3,4\n")
    else:
        arrays[name] = -arrays[name].astype("f4")
    path = folder / "changed.npz"
    np.savez(path, **arrays)
    read = or_refused(lambda: packed(path, "s"), path)
    if read is not None:
        assert len(read.index) == len(read.images) == len(read.lesions) == len(store.index)
        assert name == "about"


@pytest.fixture(scope="module")
def weights(folder: Path) -> bytes:
    """A weights file of a layer, with a threshold."""
    path = folder / "whole.safetensors"
    data = {"hash": "", "size": 8, "train_subjects": ["a"], "preparation": None}
    trained = Trained(nn.Linear(3, 2), {"_target_": "x"}, data, 0, path, "a", {}, [THRESHOLD])  # type: ignore[arg-type]
    write_weights(trained, path)
    return path.read_bytes()


@examples(70)
@given(harm=damage())
def test_a_weights_file_is_as_it_was_written_or_refused(folder, weights, harm):
    path = folder / "w.safetensors"
    path.write_bytes(weights)
    before = read_weights(path)
    path.write_bytes(harm(weights))
    read = or_refused(lambda: read_weights(path), path)
    if read is not None:
        assert {name: value.tolist() for name, value in read.state.items()} == {
            name: value.tolist() for name, value in before.state.items()
        }
        assert read.about["model"] == before.about["model"]


@examples(50)
@given(data=st.data(), value=any_json("x", 1, {"size": 1}, [{"threshold": 0.1}]))
def test_what_a_weights_file_says_is_whole_or_refused(folder, weights, data, value):
    state = safetensors.torch.load(weights)
    path = folder / "about.safetensors"
    path.write_bytes(weights)
    about = read_about(path)
    changed = replaced(about, data.draw(st.sampled_from(places(about))), value)
    path.write_bytes(safetensors.torch.save(state, {"autoddpm": json.dumps(changed)}))
    read = or_refused(lambda: read_about(path), path)
    if read is not None:
        assert all(np.isfinite(entry["threshold"]) for entry in read["thresholds"])


@examples(60)
@given(data=st.data(), value=any_json(0.5, {"conditions": {}}), harm=damage())
def test_files_beside_weights_are_whole_or_refused(folder, data, value, harm):
    path = folder / "beside.safetensors"
    entries, stated = [THRESHOLD], {"modality": "T1", "slices": [95], "steps": {}}
    thresholds, preparation = (
        path.with_suffix(f".{n}.json") for n in ("thresholds", "preparation")
    )
    for file, content in ((thresholds, entries), (preparation, stated)):
        changed = replaced(content, data.draw(st.sampled_from(places(content))), value)
        file.write_bytes(harm(json.dumps(changed).encode()))
    known = or_refused(lambda: read_thresholds(thresholds), thresholds)
    assert known is None or all(np.isfinite(entry["threshold"]) for entry in known)
    trained = SimpleNamespace(data={}, path=path)
    said = or_refused(lambda: known_preparation(trained), preparation)  # type: ignore[arg-type]
    assert said is None or {"modality", "slices", "steps"} <= set(said)


@pytest.fixture(scope="module")
def run(folder: Path) -> Path:
    """A finished run folder of two slices."""
    run = folder / "run"
    run.mkdir()
    parts = {"detector": {"name": "AnoDDPM", "t": 3}, "provenance": {"device": "cpu"}}
    numbers = {"metrics": {"dice": 0.5}, "thresholds": {"map": 0.1}, "undefined": {}}
    slices = [dict.fromkeys(SLICE_COLUMNS, 1) | {"id": f"s{n}"} for n in range(2)]
    arrays = {"id": np.array(["s0", "s1"]), "anomaly_map": np.zeros((2, 4, 4), "f4")}
    config = yaml.safe_dump({"detector": {"t": 3}, "data": {"test": ["x"]}})
    write_row(run, {"label": "AnoDDPM", **parts, **numbers}, config, arrays, slices)
    return run


@examples(60)
@given(
    data=st.data(),
    name=st.sampled_from(["metrics.json", "config.yaml", "slices.csv", "maps.npz"]),
    value=any_json("2020-99-99", 1e999),
    harm=damage(),
)
def test_a_run_folder_is_whole_or_refused(folder, run, data, name, value, harm):
    copy = folder / "copy"
    shutil.copytree(run, copy, dirs_exist_ok=True)
    content = (copy / name).read_bytes()
    if name == "metrics.json":
        record = json.loads(content)
        place = data.draw(st.sampled_from(places(record)))
        content = json.dumps(replaced(record, place, value)).encode()
    (copy / name).write_bytes(harm(content))
    row = or_refused(lambda: read_row(copy, MapReader()), copy / name)
    if row is None:
        return
    assert all(value is None or np.isfinite(value) for value in row.metrics.values())
    slices = or_refused(lambda: read_slices(row), copy / name)
    assert slices is None or slices["id"].is_unique
    maps = or_refused(lambda: row.reader.read(copy / "maps.npz", "anomaly_map"), copy / name)
    if maps is not None:
        np.testing.assert_array_equal(maps, np.zeros((2, 4, 4)))
