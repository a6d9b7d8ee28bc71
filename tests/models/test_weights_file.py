"""Weights files: what goes in comes out, in one piece or in shards, and what is damaged or foreign
is refused."""

import copy
import json
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import compose_config
from omegaconf import OmegaConf
from safetensors.torch import load_file, save_file

from autoddpm.atomic import write_json
from autoddpm.models import weights_file
from autoddpm.models.trained import (
    Trained,
    build_model,
    file_hash,
    load_checkpoint,
    weights_hash,
)
from autoddpm.models.weights_file import (
    known_thresholds,
    read_about,
    read_weights,
    weights_files,
    write_weights,
)

pytestmark = pytest.mark.usefixtures("one_thread")

DATA = {"hash": "0123", "size": 32, "train_subjects": ["IXI002", "IXI013"]}
RECORD = {"recipe": "ixi_release", "loss": [0.1, 0.02]}


def make(path: Path, scale: float = 0.1) -> Trained:
    """A tiny model with random weights that half precision rounds, which claims to be read from
    `path`."""
    model = OmegaConf.to_container(compose_config("train", "model=tiny").model, resolve=True)
    assert isinstance(model, dict)
    ddpm = build_model(model)
    generator = torch.Generator().manual_seed(0)
    for parameter in ddpm.parameters():
        parameter.data = scale * torch.randn(parameter.shape, generator=generator)
    return Trained(ddpm, model, DATA, 7, path, "of the .ckpt", RECORD)


@pytest.fixture
def trained(tmp_path: Path) -> Trained:
    return make(tmp_path / "last.ckpt")


@pytest.fixture
def path(trained: Trained, tmp_path: Path) -> Path:
    """The model in one file."""
    (written,) = write_weights(trained, tmp_path / "x.safetensors")
    return written


def rewrite(path: Path, **changes: Any) -> None:
    """Change entries of the metadata, as another program might."""
    about = read_about(path) | changes
    save_file(load_file(path), path, {"autoddpm": json.dumps(about)})


def refused(path: Path) -> str:
    with pytest.raises((ValueError, FileNotFoundError)) as error:
        load_checkpoint(path)
    message = str(error.value)
    assert str(path.parent) in message
    assert "\n" not in message
    return message


# what goes in comes out


def test_what_is_written_is_read_again(trained: Trained, path: Path) -> None:
    loaded = load_checkpoint(path)
    before, after = trained.model.state_dict(), loaded.model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(values, after[name]) for name, values in before.items())
    assert (loaded.config, loaded.data, loaded.step) == (trained.config, DATA, 7)
    assert (loaded.record, loaded.thresholds, loaded.path) == (RECORD, [], path)
    assert not loaded.model.training
    assert not any(parameter.requires_grad for parameter in loaded.model.parameters())


def test_half_precision_rounds_the_weights_and_halves_the_file(
    trained: Trained, path: Path
) -> None:
    (half,) = write_weights(trained, path.with_name("half.safetensors"), half=True)
    loaded = load_checkpoint(half).model.state_dict()
    exact = trained.model.state_dict()
    assert {values.dtype for values in load_file(half).values()} == {torch.float16}
    assert {values.dtype for values in loaded.values()} == {torch.float32}
    assert all(torch.equal(loaded[name], values.half().float()) for name, values in exact.items())
    assert any(not torch.equal(loaded[name], values) for name, values in exact.items())
    tensors = [sum(values.nbytes for values in load_file(file).values()) for file in (half, path)]
    assert tensors[0] * 2 == tensors[1]


def test_a_weight_that_half_precision_cannot_hold_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="too large for half precision"):
        write_weights(make(tmp_path / "last.ckpt", 1e5), tmp_path / "x.safetensors", half=True)
    assert list(tmp_path.iterdir()) == []


def test_the_same_model_gives_the_same_bytes(trained: Trained, path: Path) -> None:
    (again,) = write_weights(trained, path.with_name("again.safetensors"))
    assert again.read_bytes() == path.read_bytes()


def save_checkpoint(trained: Trained, path: Path, **changes: Any) -> Path:
    """The checkpoint of a training whose average is this model."""
    state = {f"model.{name}": values for name, values in trained.model.state_dict().items()}
    content = {
        "hyper_parameters": {"model": trained.config, "data": DATA, **changes},
        "state_dict": state,
        "global_step": 9,
    }
    torch.save(content, path)
    return path


def test_a_checkpoint_s_average_and_its_settings_are_exported(
    trained: Trained, tmp_path: Path
) -> None:
    checkpoint = load_checkpoint(save_checkpoint(trained, tmp_path / "last.ckpt", lr=1e-4, seed=3))
    (written,) = write_weights(checkpoint, tmp_path / "out" / "x.safetensors")
    loaded, state = load_checkpoint(written), trained.model.state_dict()
    for name, values in loaded.model.state_dict().items():
        assert torch.equal(state[name], values)
    assert (loaded.step, loaded.record) == (9, {"training": {"lr": 1e-4, "seed": 3}})


@pytest.mark.parametrize("name", ["x.ckpt", "x", "x-00001-of-00002.safetensors"])
def test_a_name_that_could_not_be_read_again_is_refused(
    name: str, trained: Trained, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=r"x\.safetensors, without a shard's number"):
        write_weights(trained, tmp_path / name)
    assert list(tmp_path.iterdir()) == []


# shards


@pytest.fixture
def shards(trained: Trained, tmp_path: Path) -> list[Path]:
    return write_weights(trained, tmp_path / "v1.5" / "x[1].safetensors", shard_bytes=16_000)


def test_shards_are_no_larger_than_asked_for_and_lose_nothing(
    trained: Trained, shards: list[Path]
) -> None:
    assert len(shards) > 2
    assert [file.name for file in shards] == [
        f"x[1]-{number:05d}-of-{len(shards):05d}.safetensors"
        for number in range(1, len(shards) + 1)
    ]
    assert sorted(shards[0].parent.iterdir()) == shards
    assert max(file.stat().st_size for file in shards) <= 16_000
    assert min(file.stat().st_size for file in shards[:-1]) > 8_000
    names = [name for file in shards for name in load_file(file)]
    assert sorted(names) == sorted(trained.model.state_dict())


@pytest.mark.parametrize("number", [0, 1, -1, "x[1].safetensors", "x[1]"])
def test_any_shard_and_the_stem_name_the_whole(
    number: int | str, trained: Trained, shards: list[Path]
) -> None:
    path = shards[number] if isinstance(number, int) else shards[0].with_name(number)
    loaded = load_checkpoint(path)
    before = trained.model.state_dict()
    assert all(
        torch.equal(before[name], values) for name, values in loaded.model.state_dict().items()
    )
    assert loaded.path == shards[0].with_name("x[1].safetensors")
    assert weights_files(path) == shards


def test_a_stem_names_a_whole_file_and_never_a_checkpoint(path: Path) -> None:
    assert weights_files(path.with_suffix("")) == [path]
    assert load_checkpoint(path.with_suffix("")).path == path
    path.with_suffix("").touch()
    assert weights_files(path.with_suffix("")) == []
    assert weights_files("") == weights_files("none.safetensors") == []


def test_what_fits_is_not_split(trained: Trained, path: Path) -> None:
    assert write_weights(trained, path, shard_bytes=10**6) == [path]


def test_a_new_writing_replaces_what_the_name_held(trained: Trained, shards: list[Path]) -> None:
    folder, whole = shards[0].parent, shards[0].with_name("x[1].safetensors")
    (folder / "x[1]-other.safetensors").touch()
    fewer = write_weights(trained, whole, shard_bytes=30_000)
    assert len(fewer) < len(shards)
    assert sorted(folder.iterdir()) == sorted([*fewer, folder / "x[1]-other.safetensors"])
    assert write_weights(trained, whole) == [whole]
    assert sorted(folder.iterdir()) == [folder / "x[1]-other.safetensors", whole]
    assert write_weights(trained, whole, shard_bytes=30_000) == fewer
    assert not whole.exists()


def test_a_missing_shard_is_refused_by_name(shards: list[Path]) -> None:
    shards[1].unlink()
    assert shards[1].name in refused(shards[0])
    assert shards[1].name in refused(shards[1])


def test_shards_of_two_writings_are_refused(trained: Trained, shards: list[Path]) -> None:
    old = shards[1].read_bytes()
    trained.model.state_dict()["denoiser.conv_in.conv.bias"][0] += 1
    write_weights(trained, shards[0].with_name("x[1].safetensors"), shard_bytes=16_000)
    shards[1].write_bytes(old)
    assert "two writings" in refused(shards[0])
    shards[0].with_name("x[1]-00001-of-00009.safetensors").touch()
    assert f"shards of {len(shards)} and of 9" in refused(shards[0])


# the hash of weights


def test_the_hash_is_the_weights_and_not_of_what_is_said_of_them(
    trained: Trained, path: Path, tmp_path: Path
) -> None:
    first = load_checkpoint(path).weights_hash
    more = replace(trained, record={"more": 1}, step=8, thresholds=[entry("of the .ckpt")])
    for index, shard_bytes in enumerate((None, 16_000)):
        written = write_weights(more, tmp_path / f"{index}.safetensors", shard_bytes=shard_bytes)
        assert load_checkpoint(written[0]).weights_hash == first == weights_hash(written[-1])
    assert len(first) == 16


def test_the_hash_tells_weights_models_and_precisions_apart(trained: Trained, path: Path) -> None:
    hashes = [weights_hash(path), weights_hash(write_weights(trained, path, half=True)[0])]
    other = replace(trained, config=trained.config | {"data_range": [-1, 1]})
    hashes.append(weights_hash(write_weights(other, path)[0]))
    trained.model.state_dict()["denoiser.conv_in.conv.bias"][0] += 1e-3
    hashes.append(weights_hash(write_weights(trained, path)[0]))
    assert len(set(hashes)) == 4


def test_the_hash_of_another_file_is_of_all_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "x.ckpt").write_bytes(b"abc")
    assert weights_hash(tmp_path / "x.ckpt") == file_hash(tmp_path / "x.ckpt") == "ba7816bf8f01cfea"
    with pytest.raises(FileNotFoundError):
        weights_hash(tmp_path / "none")


# thresholds


def entry(weights: str, value: float = 0.0) -> dict[str, Any]:
    return {
        "threshold": value,
        "conditions": {"weights_hash": weights, "detector": {"name": "AutoDDPM", "t": 200}},
    }


def test_thresholds_follow_weights_that_are_written_unrounded(
    trained: Trained, tmp_path: Path
) -> None:
    mine = replace(trained, thresholds=[entry("of the .ckpt", 0.25), entry("of another", 0.5)])
    (path,) = write_weights(mine, tmp_path / "x.safetensors")
    loaded = load_checkpoint(path)
    assert loaded.thresholds == [entry(loaded.weights_hash, 0.25)]


def test_thresholds_of_unrounded_weights_are_left_out_aloud(
    trained: Trained, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    mine = replace(trained, thresholds=[entry("of the .ckpt", 0.25)])
    with caplog.at_level(logging.WARNING):
        (path,) = write_weights(mine, tmp_path / "x.safetensors", half=True)
    assert load_checkpoint(path).thresholds == []
    assert "AutoDDPM" in caplog.text


def test_thresholds_of_a_half_precision_file_can_be_put_into_it(
    trained: Trained, tmp_path: Path
) -> None:
    (path,) = write_weights(trained, tmp_path / "x.safetensors", half=True)
    released = load_checkpoint(path)
    write_json(tmp_path / "x.thresholds.json", [entry(released.weights_hash, 0.125)])
    for _ in range(2):  # those inside are not there twice
        write_weights(replace(released, thresholds=known_thresholds(released)), path, half=True)
        released = load_checkpoint(path)
        assert released.thresholds == [entry(released.weights_hash, 0.125)]
        assert known_thresholds(released) == released.thresholds


# refusals


def as_text(path: Path) -> None:
    path.write_text("not a weights file, though it is long enough for a header\n")


def as_pickle(path: Path) -> None:
    torch.save({"a": torch.zeros(3)}, path)


@pytest.mark.parametrize("write", [as_text, as_pickle])
def test_what_is_no_safetensors_file_is_refused(write: Callable[[Path], None], path: Path) -> None:
    write(path)
    assert "not a safetensors file, or truncated" in refused(path)


@pytest.mark.parametrize("share", [0, 0.1, 0.999])
def test_a_truncated_file_is_refused(share: float, path: Path) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    assert "truncated" in refused(path)


def test_a_flipped_bit_is_noticed(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-10] ^= 1
    path.write_bytes(content)
    assert "damaged" in refused(path)


def test_a_file_of_another_program_is_refused(path: Path) -> None:
    save_file(load_file(path), path, {"format": "pt"})
    assert "no description of autoddpm" in refused(path)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model", None),
        ("data", {"size": "128", "train_subjects": []}),
        ("data", {"size": 128, "train_subjects": "IXI002"}),
        ("step", "7"),
        ("record", []),
        ("thresholds", [1]),
        ("thresholds", [{"threshold": "0.1", "conditions": {"weights_hash": ""}}]),
        ("thresholds", [{"threshold": 0.1, "conditions": {}}]),
        ("format", "1"),
        ("weights_sha256", 1),
    ],
)
def test_a_description_of_another_form_is_refused(key: str, value: Any, path: Path) -> None:
    rewrite(path, **{key: value})
    assert "damaged" in refused(path)


def test_a_later_format_asks_for_a_later_program(path: Path) -> None:
    rewrite(path, format=2)
    assert "newer autoddpm" in refused(path)


def test_weights_with_nan_are_refused_by_name(trained: Trained, path: Path) -> None:
    trained.model.state_dict()["denoiser.conv_in.conv.bias"][0] = float("nan")
    with pytest.raises(ValueError, match=r"denoiser\.conv_in\.conv\.bias"):
        write_weights(trained, path)


def test_a_model_whose_network_takes_other_images_is_refused(trained: Trained, path: Path) -> None:
    model = copy.deepcopy(trained.config)
    model["denoiser"]["in_channels"] = 3
    write_weights(replace(trained, model=build_model(model), config=model), path)
    assert "has in_channels 3, its model needs 1" in refused(path)


def test_a_model_that_is_unbuildable_or_misfits_is_refused(trained: Trained, path: Path) -> None:
    for change, words in (
        ({"colour": "red"}, "cannot be built"),
        ({"channels": [16, 16]}, "size mismatch"),
    ):
        config = trained.config | {"denoiser": trained.config["denoiser"] | change}
        write_weights(replace(trained, config=config), path)
        assert words in refused(path)


@pytest.mark.parametrize("suffix", [".ckpt", ".safetensors"])
def test_a_target_hidden_in_an_interpolation_is_refused_uncalled(
    suffix: str, trained: Trained, tmp_path: Path
) -> None:
    folder, path = tmp_path / "boom", (tmp_path / "x").with_suffix(suffix)
    model = trained.config | {"noise": f"${{oc.create:{{_target_: os.mkdir, path: {folder}}}}}"}
    if suffix == ".ckpt":
        save_checkpoint(replace(trained, config=model), path)
    else:
        write_weights(replace(trained, config=model), path)
    assert "interpolation" in refused(path)
    assert not folder.exists()


def test_reading_asks_for_a_file(tmp_path: Path) -> None:
    for read in (read_weights, read_about):
        with pytest.raises(FileNotFoundError, match=r"none\.safetensors"):
            read(tmp_path / "none.safetensors")


# released weights


@pytest.fixture
def released(trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of released weights: one in a piece, one in shards."""
    folder = tmp_path / "released"
    folder.mkdir()
    write_weights(trained, folder / "ixi-one.safetensors")
    write_weights(trained, folder / "ixi-two.safetensors", shard_bytes=4096)
    monkeypatch.setattr(weights_file, "RELEASED", (tmp_path / "nowhere", folder))
    return folder


def test_released_weights_are_named_by_their_names(released: Path, path: Path) -> None:
    assert weights_file.released_names() == ["ixi-one", "ixi-two"]
    for name in ("ixi-one", "ixi-two"):
        assert load_checkpoint(name).weights_hash == weights_hash(path) == weights_hash(name)
    assert load_checkpoint("ixi-one").path == released / "ixi-one.safetensors"


def test_a_file_here_goes_before_released_weights_of_its_name(
    released: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ixi-one").write_text("mine")
    with pytest.raises(ValueError, match="ixi-one: not a checkpoint"):
        load_checkpoint("ixi-one")


def test_an_unknown_name_is_refused_with_the_known_names(released: Path) -> None:
    with pytest.raises(FileNotFoundError, match="released are ixi-one, ixi-two"):
        load_checkpoint("ixi-three")
    with pytest.raises(ValueError, match="checkpoint=ixi-two"):
        load_checkpoint(None)
