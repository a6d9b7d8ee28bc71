"""Checkpoints: what is read from one, what is refused and in which words, and that saving never
spoils the old one."""

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import SIZE, compose_config
from omegaconf import OmegaConf

from autoddpm.models.compatibility import check_compatible
from autoddpm.models.model import Trained
from autoddpm.models.trained import build_model, file_hash, load_checkpoint
from autoddpm.training.begin import begin
from autoddpm.training.checkpoint_io import AtomicCheckpointIO
from autoddpm.training.module import TrainingModule

pytestmark = pytest.mark.usefixtures("one_thread")


def model_of(*overrides: str) -> dict[str, Any]:
    model = OmegaConf.to_container(compose_config("train", *overrides).model, resolve=True)
    assert isinstance(model, dict)
    del model["objective"]
    return model


@pytest.fixture
def content(checkpoint: Path) -> dict[str, Any]:
    return torch.load(checkpoint, weights_only=True)


@pytest.fixture(scope="module")
def trained(checkpoint: Path) -> Trained:
    return load_checkpoint(checkpoint)


def test_a_checkpoint_gives_the_averaged_weights_frozen(
    trained: Trained, content: dict[str, Any]
) -> None:
    averaged, last = content["state_dict"], content["current_model_state"]
    loaded = {f"model.{name}": values for name, values in trained.model.state_dict().items()}
    assert loaded.keys() == averaged.keys() == last.keys()
    assert all(torch.equal(values, averaged[name]) for name, values in loaded.items())
    assert any(not torch.equal(values, last[name]) for name, values in loaded.items())
    assert not trained.model.training
    assert not any(parameter.requires_grad for parameter in trained.model.parameters())


def test_a_checkpoint_says_what_it_was_trained_on_and_how(
    trained: Trained, checkpoint: Path
) -> None:
    assert trained.config == model_of("model=tiny")
    assert trained.config["noise"] == {"_target_": "autoddpm.diffusion.noise.gaussian.Gaussian"}
    assert trained.data["size"] == SIZE
    assert trained.data["train_subjects"] == [f"IXI{number:03d}" for number in range(8)]
    assert (trained.step, trained.path) == (4, checkpoint)
    assert trained.weights_hash == file_hash(checkpoint)
    assert len(trained.weights_hash) == 16


def test_a_checkpoint_has_the_range_and_schedule_it_records(
    content: dict[str, Any], tmp_path: Path
) -> None:
    content["hyper_parameters"]["model"] |= {"data_range": [-1, 1]}
    content["hyper_parameters"]["model"]["schedule"]["T"] = 500
    torch.save(content, tmp_path / "x.ckpt")
    ddpm = load_checkpoint(tmp_path / "x.ckpt").model
    assert (ddpm.low, ddpm.high, ddpm.schedule.T) == (-1, 1, 500)


def test_a_training_from_weights_has_them_and_their_subjects(
    trained: Trained, checkpoint: Path
) -> None:
    module = TrainingModule(
        trained.config, {"hash": "x", "size": SIZE, "train_subjects": ["new"]}, seed=9
    )
    assert begin(module, None) == {}
    assert begin(module, checkpoint) == {"begin_from": trained.weights_hash}
    for name, values in trained.model.state_dict().items():
        assert torch.equal(module.model.state_dict()[name], values)
    assert set(module.hparams["data"]["train_subjects"]) == {"new", *trained.data["train_subjects"]}
    assert all(p.requires_grad for p in module.model.parameters())
    other = TrainingModule(trained.config | {"data_range": [-1, 1]}, {"train_subjects": []})
    with pytest.raises(
        ValueError, match=r"begin_from=.*it has another data_range than `model` asks for"
    ):
        begin(other, checkpoint)


# refusals: the file itself


def refused(path: Path) -> str:
    with pytest.raises((ValueError, FileNotFoundError)) as error:
        load_checkpoint(path)
    message = str(error.value)
    assert str(path) in message
    assert "\n" not in message
    return message


def test_a_missing_file_is_refused_with_the_command_to_make_it(tmp_path: Path) -> None:
    assert "src.train" in refused(tmp_path / "none.ckpt")


def test_no_checkpoint_at_all_is_refused_with_the_key_to_give() -> None:
    with pytest.raises(ValueError, match="checkpoint=FILE"):
        load_checkpoint(None)


def as_text(path: Path) -> None:
    path.write_text("not a checkpoint\n")


def as_pickled_list(path: Path) -> None:
    path.write_bytes(pickle.dumps([1, 2]))


def as_tensor(path: Path) -> None:
    torch.save(torch.zeros(3), path)


def as_lightning_of_another(path: Path) -> None:
    torch.save({"state_dict": {}, "global_step": 3, "hyper_parameters": {"lr": 1e-4}}, path)


@pytest.mark.parametrize("write", [as_text, as_pickled_list, as_tensor, as_lightning_of_another])
def test_what_is_no_checkpoint_is_refused(write: Callable[[Path], None], tmp_path: Path) -> None:
    write(tmp_path / "x.ckpt")
    assert "not a checkpoint of autoddpm, or truncated" in refused(tmp_path / "x.ckpt")


@pytest.mark.parametrize("share", [0, 0.5, 0.999])
def test_a_truncated_checkpoint_is_refused(share: float, checkpoint: Path, tmp_path: Path) -> None:
    whole = checkpoint.read_bytes()
    (tmp_path / "x.ckpt").write_bytes(whole[: int(len(whole) * share)])
    assert "truncated" in refused(tmp_path / "x.ckpt")


class Bomb:
    """An object whose unpickling makes a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.folder),)


def test_code_in_a_checkpoint_is_refused_and_not_run(
    content: dict[str, Any], tmp_path: Path
) -> None:
    torch.save(content | {"extra": Bomb(tmp_path / "boom")}, tmp_path / "x.ckpt")
    refused(tmp_path / "x.ckpt")
    assert not (tmp_path / "boom").exists()


@pytest.mark.parametrize("place", ["denoiser", None, "channels"])
def test_a_foreign_class_in_a_checkpoint_is_refused_uncalled(
    place: str | None, content: dict[str, Any], tmp_path: Path
) -> None:
    model = content["hyper_parameters"]["model"]
    folder = {"_target_": "os.mkdir", "path": str(tmp_path / "boom")}
    if place == "channels":  # in a list
        model["denoiser"]["channels"] = [8, folder]
    else:
        (model[place] if place else model).update(folder)
    torch.save(content, tmp_path / "x.ckpt")
    assert "names os.mkdir" in refused(tmp_path / "x.ckpt")
    assert not (tmp_path / "boom").exists()


@pytest.mark.parametrize(
    "target", ["autoddpmx.Thing", "monai.networks_of_mine.Thing", "monai.apps.download_url"]
)
def test_a_name_that_only_resembles_a_trusted_one_is_refused(
    target: str, content: dict[str, Any], tmp_path: Path
) -> None:
    content["hyper_parameters"]["model"]["denoiser"]["_target_"] = target
    torch.save(content, tmp_path / "x.ckpt")
    assert f"names {target}" in refused(tmp_path / "x.ckpt")


def test_the_weights_of_another_network_are_refused_in_one_line(
    content: dict[str, Any], tmp_path: Path
) -> None:
    content["hyper_parameters"]["model"]["denoiser"]["channels"] = [16, 16]
    torch.save(content, tmp_path / "x.ckpt")
    message = refused(tmp_path / "x.ckpt")
    assert "size mismatch for denoiser" in message
    assert len(message) < len(str(tmp_path)) + 400


def test_a_missing_weight_is_refused_by_name(content: dict[str, Any], tmp_path: Path) -> None:
    del content["state_dict"]["model.denoiser.conv_in.conv.weight"]
    torch.save(content, tmp_path / "x.ckpt")
    assert "conv_in.conv.weight" in refused(tmp_path / "x.ckpt")


def test_weights_that_are_not_finite_are_refused_by_name(
    content: dict[str, Any], tmp_path: Path
) -> None:
    content["state_dict"]["model.denoiser.conv_in.conv.bias"][0] = float("inf")
    torch.save(content, tmp_path / "x.ckpt")
    message = refused(tmp_path / "x.ckpt")
    assert "NaN or infinity" in message
    assert "conv_in.conv.bias" in message


def test_a_model_that_is_no_ddpm_is_refused() -> None:
    words = r"it has no channels, dimensions, .*autoddpm\.diffusion\.ddpm\.DDPM"
    with pytest.raises(ValueError, match=words):
        build_model({"_target_": "autoddpm.diffusion.noise.gaussian.Gaussian"})


# refusals: what it is to be used with


NOTHING = {"model": None, "noise": None}


def test_what_agrees_with_a_checkpoint_is_accepted(trained: Trained) -> None:
    check_compatible(trained, SIZE, ["IXI500"], NOTHING)
    check_compatible(trained, SIZE, [], {})
    check_compatible(
        trained, SIZE, [], {"model": model_of("model=tiny"), "noise": trained.config["noise"]}
    )
    without_noise = compose_config(
        "evaluate", "model=tiny"
    )  # its noise is the configuration's, which is left open
    check_compatible(
        trained, SIZE, [], {"model": OmegaConf.to_container(without_noise.model, resolve=True)}
    )


@pytest.mark.parametrize(
    ("size", "subjects", "given", "words"),
    [
        (64, [], {}, r"trained at 32 px, these slices have 64.*data\.size=32"),
        (SIZE, ["IXI900", "IXI003"], {}, r"trained on 1 of the test subjects \(IXI003\)"),
        (
            SIZE,
            [],
            {"noise": {"_target_": "autoddpm.diffusion.noise.simplex.Simplex"}},
            "trained with noise .*Gaussian",
        ),
        (SIZE, [], {"model": "small"}, "has another denoiser than `model` asks for"),
        (
            SIZE,
            [],
            {"model": "tiny", "key": {"data_range": [-1, 1]}},
            "has another data_range .*Leave `model` out",
        ),
        (SIZE, [], {"model": "tiny", "key": {"schedule": {"T": 100}}}, "has another schedule"),
    ],
)
def test_what_does_not_go_with_a_checkpoint_is_refused(
    size: int, subjects: list[str], given: dict[str, Any], words: str, trained: Trained
) -> None:
    if "model" in given:
        given = {"model": model_of(f"model={given['model']}") | given.get("key", {})}
    with pytest.raises(ValueError, match=words) as error:
        check_compatible(trained, size, subjects, given)
    assert str(trained.path) in str(error.value)


# saving


def test_a_failed_save_leaves_the_old_checkpoint_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"a": torch.ones(2)}, path)
    before = path.read_bytes()

    def half(checkpoint: dict[str, Any], path: Path, *_: Any) -> None:
        Path(path).write_bytes(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr("lightning.fabric.plugins.io.torch_io._atomic_save", half)
    with pytest.raises(OSError, match="no space"):
        AtomicCheckpointIO().save_checkpoint({"a": torch.zeros(2)}, path)
    assert path.read_bytes() == before
