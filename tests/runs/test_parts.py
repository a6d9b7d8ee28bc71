"""Run folders: names that can be given back, that keep runs apart, and settings that may not change
under a run."""

import json
import mmap
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from conftest import CONF, TINY_EVALUATION, Site, Verb, compose_config
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from autoddpm.launch.names import check_same_run, slug
from autoddpm.runs.parts import PartFolder
from autoddpm.runs.provenance import CLEAR_REFS, forget_peak_memory, peak_memory_mb

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def _hydra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(HydraConfig.instance(), "cfg", None)


def folder_of(verb: str, *overrides: str, key: str = "run.dir") -> str:
    """The run folder that a command has, from the configuration alone."""
    cfg = compose_config(verb, *overrides, hydra=True)
    HydraConfig.instance().set_config(cfg)
    return str(OmegaConf.select(cfg.hydra, key))


# names


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (None, "default"),
        ("detector-anoddpm+detector.t-50", "detector-anoddpm+detector.t-50"),
        ("perceptual.weights-/home/x/y.pth", "perceptual.weights-_home_x_y.pth"),
        ("a-b c='ü'", "a-b_c____"),
    ],
)
def test_a_slug_is_one_folder_in_letters_that_an_override_takes(
    text: str | None, name: str
) -> None:
    assert slug(text) == name


def test_long_slugs_are_cut_and_still_differ_if_their_ends_do() -> None:
    names = {slug("x" * 300 + end) for end in ("a", "b")}
    assert len(names) == 2
    assert all(len(name) <= 200 and name.startswith("x" * 190) for name in names)
    assert slug("x" * 200) == "x" * 200


def test_a_run_is_named_by_its_overrides_and_not_by_its_paths(tmp_path: Path) -> None:
    paths = [
        f"paths.{key}={tmp_path / key}"
        for key in yaml.safe_load((CONF / "paths" / "default.yaml").read_text())
    ]
    here = f"{tmp_path}/runs/mine"
    without = ["+experiment=ixi", "name=mine", *paths]
    assert folder_of("train", *without, "logger=tensorboard") == f"{here}/train/default"
    named = folder_of("train", *without, "module.lr=1e-3", "model=tiny")
    assert named == f"{here}/train/model-tiny+module.lr-1e-3"
    row = folder_of(
        "evaluate", "+experiment=ixi_stroke", *without[1:], "checkpoint=x.ckpt", "detector.t=50"
    )
    assert row == f"{here}/evaluate/detector.t-50+no-weights"
    subfolder = folder_of(
        "evaluate", *without[1:], "checkpoint=x.ckpt", "detector.t=50", key="sweep.subdir"
    )
    assert f"{here}/evaluate/{subfolder}" == row


def test_an_experiment_s_runs_lie_under_its_name() -> None:
    assert folder_of("train", "+experiment=demo") == "runs/demo/train/default"


def test_two_checkpoints_of_one_name_never_share_a_row(tmp_path: Path) -> None:
    folders = set()
    for content in (b"one", b"two"):
        (tmp_path / "last.ckpt").write_bytes(content)
        folders.add(folder_of("evaluate", f"checkpoint={tmp_path}/last.ckpt", "detector.t=50"))
    assert len(folders) == 2
    assert all(re.search(r"/detector\.t-50\+[0-9a-f]{8}$", folder) for folder in folders)


def test_the_path_of_a_checkpoint_can_be_given_back_unquoted(
    verb: Verb, site: Site, tmp_path: Path
) -> None:
    overrides = [
        "data.batch_size=4",
        "module.lr=1e-3",
        "+trainer.limit_val_batches=1.0",
        "data.train=[ixi]",
    ]
    folder = Path(folder_of("train", "+experiment=ixi", *overrides, f"paths.runs={tmp_path}"))
    path = folder / "checkpoints" / "last.ckpt"
    assert compose_config("evaluate", f"checkpoint={path}").checkpoint == str(path)
    outcome = verb(
        "evaluate", "+experiment=ixi_stroke", f"checkpoint={path}", *TINY_EVALUATION, *site.paths
    )
    assert outcome.code == 1
    assert f"checkpoint={path}: no such file" in outcome.err


# settings


SETTINGS = {"model": {"channels": [8, 8]}, "data": "abc", "lr": 1e-3, "seed": 0}


def test_a_run_is_continued_with_the_settings_it_was_begun_with(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    check_same_run(folder, SETTINGS)
    assert json.loads((folder / "settings.json").read_text()) == SETTINGS
    check_same_run(folder, SETTINGS)
    check_same_run(folder, SETTINGS | {"model": {"channels": (8, 8)}})  # JSON knows no tuples


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"lr": 1e-4}, "lr"),
        ({"model": {"channels": [8, 16]}, "data": "abd"}, "data, model"),
        ({"new": 1}, "new"),
        ({"seed": None}, "seed"),
    ],
)
def test_a_run_is_not_continued_with_other_settings(
    changed: dict, named: str, tmp_path: Path
) -> None:
    check_same_run(tmp_path, SETTINGS)
    before = (tmp_path / "settings.json").read_bytes()
    with pytest.raises(
        ValueError, match=f"{tmp_path} holds a run with another {named}: .*name="
    ) as error:
        check_same_run(tmp_path, {k: v for k, v in (SETTINGS | changed).items() if v is not None})
    assert "\n" not in str(error.value)
    assert (tmp_path / "settings.json").read_bytes() == before


# what is written


def part(ids: list[str], value: float) -> tuple[list[str], dict[str, torch.Tensor], torch.Tensor]:
    image = torch.full((len(ids), 1, 4, 4), value)
    images = {"image": image, "reconstruction": image * 3, "mask": image > 0.5}
    return ids, images, torch.full((len(ids),), 7)


def test_parts_are_merged_by_id_with_each_slice_once(tmp_path: Path) -> None:
    parts = PartFolder(tmp_path / "parts")
    parts.write(*part(["c", "a"], 0.25), 2.0)
    parts.write(*part(["b"], 0.75), 5.0)
    parts.write(*part(["a"], 0.25), 9.0)  # a process that was stopped after writing
    assert parts.done() == {"a", "b", "c"}
    merged = parts.merged()
    assert merged["id"].tolist() == ["a", "b", "c"]
    assert merged["image"].shape == (3, 1, 4, 4)
    assert merged["image"][:, 0, 0, 0].tolist() == [0.25, 0.75, 0.25]
    assert merged["reconstruction"][:, 0, 0, 0].tolist() == [0.75, 2.25, 0.75]
    assert merged["mask"].dtype == bool
    assert merged["mask"][:, 0, 0, 0].tolist() == [False, True, False]
    assert merged["seconds"].tolist() == [1.0, 5.0, 1.0]
    assert merged["calls"].tolist() == [7, 7, 7]


def test_a_part_that_was_being_written_at_a_stop_is_not_there(tmp_path: Path) -> None:
    parts = PartFolder(tmp_path / "parts")
    parts.write(*part(["a"], 0.5), 1.0)
    (whole,) = parts.folder.glob("*.npz")
    (parts.folder / ".7-0a1b2c3d.2.npz").write_bytes(whole.read_bytes()[:50])
    assert parts.done() == {"a"}
    np.testing.assert_array_equal(parts.merged()["id"], ["a"])


@pytest.mark.skipif(not CLEAR_REFS.exists(), reason="only Linux can count its peak memory anew")
def test_the_memory_of_a_row_is_not_that_of_the_row_before() -> None:
    cpu = torch.device("cpu")
    forget_peak_memory(cpu)
    before = peak_memory_mb(cpu)
    # Not of the allocator, which may have as much to spare.
    with mmap.mmap(-1, 400 * 2**20) as held:
        for page in range(0, len(held), mmap.PAGESIZE):
            held[page] = 1
        assert peak_memory_mb(cpu) > before + 300
    forget_peak_memory(cpu)
    assert peak_memory_mb(cpu) < before + 100
