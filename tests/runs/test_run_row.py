"""A run folder is read as it was written, and no channel of it is dropped."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from autoddpm.runs.folder import (
    UnreadableRunError,
    forget_failure,
    is_finished,
    read_failure,
    write_failure,
)
from autoddpm.runs.maps import MapReader, as_stored, write_npz
from autoddpm.runs.parts import PartFolder
from autoddpm.runs.row import (
    has_stage,
    read_config,
    read_ids,
    read_maps,
    read_row,
    read_rows,
    read_slices,
    write_row,
)

RECORD = {
    "label": "AnoDDPM (t=50)",
    "detector": {"name": "AnoDDPM", "t": 50},
    "metrics": {"lesion/auprc": 0.5, "healthy/ssim": None},
    "undefined": {"healthy/ssim": "no healthy slice in the test set"},
    "thresholds": {"mask_threshold": None, "healthy_fpr5": 0.1},
    "provenance": {"seed": 0},
}
LINES = [
    {"id": "a", "subject": "007", "lesion_pixels": 3, "size_group": "small", "max_dice": 0.25},
    {"id": "b", "subject": "008", "lesion_pixels": 0, "size_group": "healthy", "ssim": 0.5},
]
SPACES = [(4, 5), (3, 4, 5)]


def merged(folder: Path, channels: int, space: tuple[int, ...]) -> dict[str, np.ndarray]:
    """The maps of two slices or volumes, through the parts of an evaluation."""
    generator = torch.Generator().manual_seed(channels)
    image = torch.rand(2, channels, *space, generator=generator)
    one = image[:, :1]
    images = {"image": image, "lesion": one > 0.7, "anomaly_map": one * 2}
    images |= {"reconstruction": image * 3, "mask": one > 0.5}
    parts = PartFolder(folder / "parts")
    parts.write(["b", "a"], images, torch.tensor([7, 8]), 1.0)
    arrays = parts.merged()
    return arrays | {name: as_stored(name, arrays[name]) for name in images}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "demo" / "evaluate" / "row"
    folder.mkdir(parents=True)
    config = "seed: 3\npaths: {runs: x}\nsampler: {_target_: a.b.Ancestral, stride: 10}\n"
    write_row(folder, RECORD, config, merged(tmp_path, 1, (4, 5)), LINES)
    return folder


def test_a_row_is_read_as_it_was_written(run: Path) -> None:
    ([row], remarks) = read_rows(run.parent)
    assert remarks == []
    read = {key: getattr(row, key) for key in RECORD}
    assert read == RECORD
    assert row.settings == {
        "detector.name": "AnoDDPM",
        "detector.t": 50,
        "seed": 3,
        "sampler": "Ancestral",
        "sampler.stride": 10,
    }
    assert read_config(run)["paths"] == {"runs": "x"}
    slices = read_slices(row)
    assert slices["subject"].tolist() == ["007", "008"]
    assert slices["max_dice"].tolist() == pytest.approx([0.25, np.nan], nan_ok=True)
    assert read_ids(row) == ["a", "b"]
    assert has_stage(row, "mask")
    assert not has_stage(row, "stitched")


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("channels", [1, 2, 3])
def test_no_channel_is_dropped(tmp_path: Path, channels: int, space: tuple[int, ...]) -> None:
    write_row(tmp_path, RECORD, "", merged(tmp_path, channels, space), LINES)
    stages = ["image", "reconstruction", "anomaly_map", "lesion", "mask"]
    maps = read_maps(read_row(tmp_path), ["b", "a"], stages)
    generator = torch.Generator().manual_seed(channels)
    image = torch.rand(2, channels, *space, generator=generator).numpy()
    shape = (2, *space) if channels == 1 else (2, channels, *space)
    assert np.array_equal(maps["image"], image.reshape(shape))
    assert np.array_equal(maps["reconstruction"], (image * 3).reshape(shape))
    assert np.array_equal(maps["anomaly_map"], image[:, 0] * 2)
    assert np.array_equal(maps["lesion"], image[:, 0] > 0.7)
    assert np.array_equal(maps["mask"], image[:, 0] > 0.5)


@pytest.mark.parametrize("name", ["anomaly_map", "lesion"])
def test_a_map_or_lesion_of_two_channels_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} has 2 channels: it must have one"):
        as_stored(name, np.zeros((1, 2, 4, 4)))
    assert as_stored("image", np.zeros((1, 2, 4, 4))).shape == (1, 2, 4, 4)


def test_the_maps_of_a_row_are_opened_once(run: Path) -> None:
    row = read_row(run)
    assert read_ids(row) == ["a", "b"]
    (run / "maps.npz").unlink()
    assert read_maps(row, ["a"], ["image", "mask"]).keys() == {"image", "mask"}
    with pytest.raises(UnreadableRunError, match=r"row/maps\.npz is not readable"):
        read_ids(read_row(run))


def test_only_the_last_used_arrays_are_kept(tmp_path: Path) -> None:
    arrays = {name: np.full((2, 4, 4), n, np.float32) for n, name in enumerate("xyz")}
    write_npz(tmp_path / "maps.npz", {"id": np.array(["a", "b"]), **arrays})
    reader = MapReader(most=2 * arrays["x"].nbytes)
    first = {name: reader.read(tmp_path / "maps.npz", name) for name in "xyz"}
    assert reader.read(tmp_path / "maps.npz", "z") is first["z"]
    again = reader.read(tmp_path / "maps.npz", "x")
    assert again is not first["x"]
    assert np.array_equal(again, arrays["x"])


@pytest.mark.parametrize("shape", [(3, 4, 5), (2, 4)])
def test_maps_of_another_number_or_shape_are_refused(run: Path, shape: tuple[int, ...]) -> None:
    with np.load(run / "maps.npz") as archive:
        arrays = dict(archive)
    write_npz(run / "maps.npz", arrays | {"image": np.zeros(shape)})
    with pytest.raises(UnreadableRunError, match=r"maps\.npz: image has shape"):
        read_maps(read_row(run), ["a"], ["image"])


def test_a_stage_or_slice_that_is_not_there_is_named(run: Path) -> None:
    row = read_row(run)
    with pytest.raises(UnreadableRunError, match=r"maps\.npz is not whole .*stitched"):
        read_maps(row, ["a"], ["stitched"])
    with pytest.raises(UnreadableRunError, match=r"maps\.npz has no slice c"):
        read_maps(row, ["a", "c"], ["image"])


def test_a_failure_is_noted_until_the_next_start(tmp_path: Path) -> None:
    assert read_failure(tmp_path) is None
    write_failure(tmp_path, "out of memory.")
    assert read_failure(tmp_path) == "out of memory"
    (tmp_path / "failed.json").write_text("{")
    assert "failed.json is not readable" in str(read_failure(tmp_path))
    forget_failure(tmp_path)
    forget_failure(tmp_path)
    assert read_failure(tmp_path) is None


def test_a_finished_row_gets_no_failure(run: Path) -> None:
    write_failure(run, "killed")
    assert is_finished(run)
    assert not (run / "failed.json").exists()
    (run / "failed.json").write_text(json.dumps({"error": "old"}))
    assert read_failure(run) is None


@pytest.mark.parametrize(
    "damage", [lambda b: b"", lambda b: b[:-30], lambda b: b[:600] + b"?" * 50 + b[650:]]
)
def test_damaged_maps_are_an_error_that_names_the_file(
    run: Path, damage: Callable[[bytes], bytes]
) -> None:
    path = run / "maps.npz"
    path.write_bytes(damage(path.read_bytes()))
    stages = ["image", "lesion", "reconstruction", "anomaly_map"]
    with pytest.raises(UnreadableRunError, match=re.escape(str(path))):
        read_maps(read_row(run), ["a"], stages)


@pytest.mark.parametrize(
    ("part", "value", "words"),
    [
        ("thresholds", {"healthy_fpr5": "high"}, "healthy_fpr5 is 'high'"),
        ("metrics", {"lesion/auprc": "high"}, "lesion/auprc is 'high'"),
        ("metrics", ["x"], ""),
        ("undefined", ["x"], ""),
        ("thresholds", ["x"], ""),
    ],
)
def test_a_record_of_another_kind_makes_a_row_unreadable(
    run: Path, part: str, value: object, words: str
) -> None:
    path = run / "metrics.json"
    path.write_text(json.dumps(RECORD | {part: value}))
    with pytest.raises(UnreadableRunError, match=re.escape(str(path)) + f".*{words}"):
        read_row(run)


def test_no_finished_row_is_an_error_with_folder_and_command(tmp_path: Path, run: Path) -> None:
    (run / "metrics.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"row has no metrics\.json"):
        read_rows(run.parent)
    write_failure(run, "no space left")
    words = r"demo/evaluate.*Failed: .*row: no space left.*src\.evaluate \+experiment=demo checkp"
    with pytest.raises(FileNotFoundError, match=rf"(?s){words}"):
        read_rows(run.parent)
