"""From a model configuration to a DDPM, and from a checkpoint file back to it."""

import hashlib
import pickle
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from hydra.errors import InstantiationException
from hydra.utils import get_class, instantiate
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from torch import Tensor

from autoddpm.atomic import written_whole
from autoddpm.diffusion.ddpm import DDPM
from autoddpm.models.weights_file import read_about, read_weights, released_names, weights_files

TRUSTED = ("autoddpm.diffusion.", "monai.networks.nets.")


def build_ddpm(model: Mapping[str, Any]) -> DDPM:
    """The DDPM that a `conf/model` configuration (plain containers) describes."""
    ddpm = instantiate(model, _convert_="all")
    if not isinstance(ddpm, DDPM):
        raise ValueError(
            "model: expected a configuration of autoddpm.diffusion.ddpm.DDPM, got "
            f"{model.get('_target_')}"
        )
    return ddpm


@dataclass(frozen=True)
class TrainedDDPM:
    """A DDPM with its weights, and what its checkpoint says of it.

    model: its configuration.  data: `hash`, `size` and `train_subjects` of the data it was trained
    on.  step: optimiser steps taken, 0 where unknown.  weights_hash: see the function.  record: how
    it was trained, or where it is from.
    thresholds: those stored in the file, as entries of `autoddpm.evaluation.thresholds`.
    """

    ddpm: DDPM
    model: dict[str, Any]
    data: dict[str, Any]
    step: int
    path: Path
    weights_hash: str
    record: dict[str, Any] = field(default_factory=dict)
    thresholds: list[dict[str, Any]] = field(default_factory=list)


def load_checkpoint(path: str | Path | None) -> TrainedDDPM:
    """Read a checkpoint of `src.train`, with its averaged weights, on the CPU in float32 and in
    evaluation mode.

    path: a .ckpt, or a weights file, see `autoddpm.models.weights_file`. No code in the file is
    run: it is read with `weights_only`, and its configuration may name only classes that are
    defined in autoddpm.diffusion and in monai.networks.nets. Raises FileNotFoundError or
    ValueError, naming the file.
    """
    if path is None:
        names = "".join(f" or checkpoint={name}" for name in released_names())
        raise ValueError(
            f"checkpoint: none given; name one of `python -m src.train`: checkpoint=FILE{names}"
        )
    path = Path(path)
    if weights_files(path):
        stored = read_weights(path)
        path, about, digest = stored.path, stored.about, stored.about["weights_sha256"][:16]
        ddpm = trained_ddpm(about["model"], stored.state, path)
        return TrainedDDPM(
            ddpm,
            about["model"],
            about["data"],
            about["step"],
            path,
            digest,
            about["record"],
            about["thresholds"],
        )
    if not path.is_file():
        released = f"; released are {', '.join(released_names())}" if released_names() else ""
        raise FileNotFoundError(
            f"checkpoint={path}: no such file. `python -m src.train` writes one to "
            f"checkpoints/last.ckpt{released}"
        )
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        hyper_parameters, state, step = (
            content["hyper_parameters"],
            content["state_dict"],
            content["global_step"],
        )
        model, data = hyper_parameters["model"], hyper_parameters["data"]
        _ = model["_target_"], data["size"], data["train_subjects"]
        weights = {
            name.removeprefix("ddpm."): values
            for name, values in state.items()
            if name.startswith("ddpm.")
        }
    except (
        LookupError,
        TypeError,
        AttributeError,
        RuntimeError,
        EOFError,
        OSError,
        pickle.UnpicklingError,
    ) as error:
        reason = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        raise ValueError(
            f"{path}: not a checkpoint of autoddpm, or truncated ({reason}); weights of the "
            "paper's authors must be "
            f"imported: autoddpm import-weights {path}"
        ) from error
    record = {
        "training": {
            name: value for name, value in hyper_parameters.items() if name not in ("model", "data")
        }
    }
    return TrainedDDPM(
        trained_ddpm(model, weights, path), model, data, step, path, file_hash(path), record
    )


def trained_ddpm(model: Mapping[str, Any], weights: Mapping[str, Tensor], path: Path) -> DDPM:
    """The frozen DDPM of a configuration and its weights. Raises ValueError, naming the file
    `path`, where the one may not be built, or the other are not finite or not those of this
    network."""
    check_targets(model, str(path))
    try:
        ddpm = build_ddpm(model)
    except InstantiationException as error:
        raise ValueError(
            f"{path}: its network cannot be built: {' '.join(str(error).split())[:300]}"
        ) from error
    network = model["denoiser"]
    for name, value in {"spatial_dims": 2, "in_channels": 1, "out_channels": 1}.items():
        if (found := network.get(name, value)) != value:
            raise ValueError(
                f"{path}: its network has {name} {found}; slices of one channel need {value}"
            )
    try:
        ddpm.load_state_dict(weights)
    except RuntimeError as error:
        differences = [line.strip() for line in str(error).splitlines()[1:]]
        raise ValueError(
            f"{path}: its weights are not those of the network it describes: {differences[0][:200]}"
            + (f" (and {len(differences) - 1} more differences)" if len(differences) > 1 else "")
        ) from error
    if broken := [name for name, values in weights.items() if not values.isfinite().all()]:
        raise ValueError(f"{path}: weights with NaN or infinity: {', '.join(broken[:3])}")
    return (
        ddpm.eval().requires_grad_(False).to(memory_format=torch.channels_last)
    )  # the faster layout for inference


def begin(module: Any, path: str | Path | None) -> dict[str, Any]:
    """Give a module that is to be trained the weights of a trained model; returns what tells such a
    training apart.

    module: a LightningModule with `ddpm` and its configuration in `hparams`.
    path: as for `load_checkpoint`; None: nothing is done.
    Raises ValueError if it is of another network, range, noise or schedule.
    """
    if path is None:
        return {}
    trained = load_checkpoint(path)
    model = module.hparams["model"]
    if differing := sorted(
        key for key in {*model, *trained.model} if model.get(key) != trained.model.get(key)
    ):
        raise ValueError(
            f"begin_from={path}: it has another {', '.join(differing)} than `model` asks for"
        )
    module.ddpm.load_state_dict(trained.ddpm.state_dict())
    data = module.hparams[
        "data"
    ]  # what it has seen before counts too: a checkpoint names all of its training subjects
    data["train_subjects"] = sorted({*data["train_subjects"], *trained.data["train_subjects"]})
    data["begun_from"] = trained.weights_hash
    return {"begin_from": trained.weights_hash}


def check_size(ddpm: DDPM, size: int) -> None:
    """Refuse slices of a size that the network cannot take, by one forward pass of one empty
    slice."""
    try:
        with torch.no_grad():
            ddpm.predict_eps(torch.zeros(1, 1, size, size), 1)
    except RuntimeError as error:
        raise ValueError(
            f"data.size={size}: the network cannot take it ({error}); use a multiple of 8"
        ) from error


def check_targets(model: Mapping[str, Any], where: str) -> None:
    """Refuse a model configuration that names what a checkpoint may not name; where: the file or
    key it stands in."""
    if "${" in repr(model):  # OmegaConf would resolve it, and with `oc.create` it can hide a target
        raise ValueError(
            f"{where}: its configuration holds an interpolation, ${{...}}; a checkpoint has plain "
            "values"
        )
    for target in _targets(model):
        if not _is_trusted(target):
            raise ValueError(
                f"{where}: its configuration names {target}, which is no class of "
                f"{' or '.join(TRUSTED)}*"
            )


def check_compatible(
    trained: TrainedDDPM, size: int, test_subjects: Iterable[str], given: Mapping[str, Any]
) -> None:
    """Refuse data or settings that do not go with a trained model: ValueError that names what
    differs.

    size: of the data's slices.  test_subjects: none of them may have been trained on.  given:
    `model` and `noise` as asked for in the configuration, each None where the checkpoint's own is
    to be used.
    """
    path, data = trained.path, trained.data
    if data["size"] != size:
        raise ValueError(
            f"{path} was trained at {data['size']} px, these slices have {size}: set "
            f"data.size={data['size']}"
        )
    if leaked := sorted(set(data["train_subjects"]) & set(test_subjects)):
        raise ValueError(
            f"{path} was trained on {len(leaked)} of the test subjects ({', '.join(leaked[:3])}): "
            "test on others, or "
            "train without them"
        )
    if given.get("noise") and given["noise"] != trained.model["noise"]:
        raise ValueError(
            f"{path} was trained with noise {trained.model['noise']}, asked for was "
            f"{given['noise']}: leave `noise` out"
        )
    for key, value in (given.get("model") or {}).items():
        if value is not None and value != trained.model.get(key):
            raise ValueError(
                f"{path} has another {key} than `model` asks for: {trained.model.get(key)} against "
                f"{value}. "
                "Leave `model` out: it comes with the checkpoint"
            )


def weights_hash(path: str | Path) -> str:
    """16 hex digits that tell weights apart: of a .ckpt file's sha256, or of the tensors' that a
    weights file states.

    Raises FileNotFoundError or ValueError where there is no such file.
    """
    return read_about(path)["weights_sha256"][:16] if weights_files(path) else file_hash(path)


def file_hash(path: str | Path) -> str:
    """First 16 hex digits of a file's sha256."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside its destination and renames it, so that a file that is there is
    whole."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None
    ) -> None:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        with written_whole(path) as temporary:
            super().save_checkpoint(checkpoint, temporary, storage_options)


def _is_trusted(target: str) -> bool:
    """Whether a class is defined in a trusted package; `autoddpm.diffusion.x.os.remove` is only
    reached through one."""
    try:
        return target.startswith(TRUSTED) and get_class(target).__module__.startswith(TRUSTED)
    except (ImportError, ValueError):
        return False


def _targets(config: Any) -> Iterator[str]:
    """Every `_target_` in nested containers."""
    if isinstance(config, Mapping):
        if "_target_" in config:
            yield str(config["_target_"])
        for value in config.values():
            yield from _targets(value)
    elif isinstance(config, (list, tuple)):
        for value in config:
            yield from _targets(value)
