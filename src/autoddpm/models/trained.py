"""From a model configuration to a model, and from a file of weights back to it."""

import hashlib
import pickle
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import torch
from hydra.errors import InstantiationException
from hydra.utils import get_class, instantiate
from torch import Tensor, nn

from autoddpm.home import at_home
from autoddpm.models.model import Model, Trained
from autoddpm.models.weights_file import read_about, read_weights, released_names, weights_files
from autoddpm.settings import lacking

NETWORKS = "monai.networks.nets."


def build_model(config: Mapping[str, Any], **more: Any) -> Model:
    """The model that a `conf/model` configuration (plain containers) describes.

    more: further arguments of its constructor, configurations or values.

    Raises ValueError if the configuration describes no `Model`.
    """
    model = instantiate({**config, **more}, _convert_="all")
    missing = ", ".join(lacking(model, Model))
    if missing or not isinstance(model, nn.Module):
        missing = missing or "weights: it is no torch.nn.Module"
        raise ValueError(
            f"model: {config.get('_target_')} is no model, it has no {missing}. A model is a "
            "torch.nn.Module with all that autoddpm.models.model.Model names, such as "
            "autoddpm.diffusion.ddpm.DDPM"
        )
    return cast(Model, model)


def load_checkpoint(path: str | Path | None) -> Trained:
    """Read a model with its averaged weights: on the CPU, float32, in evaluation mode.

    path: a .ckpt of `src.train`, or a weights file, see `autoddpm.models.weights_file`.

    No code in the file is run: it is read with `weights_only`. Its configuration may name only
    classes of the packages that weights files may name.

    Raises FileNotFoundError if there is no such file. Raises ValueError, naming the file, if it is
    something else or damaged, and also if `path` is None.
    """
    if path is None:
        names = "".join(f" or checkpoint={name}" for name in released_names())
        raise ValueError(
            f"checkpoint: none given; name one of `python -m src.train`: checkpoint=FILE{names}"
        )
    path = at_home(path)
    if weights_files(path):
        stored = read_weights(path)
        about = stored.about
        return Trained(
            model=trained_model(about["model"], stored.state, stored.path),
            config=about["model"],
            data=about["data"],
            step=about["step"],
            path=stored.path,
            weights_hash=about["weights_sha256"][:16],
            record=about["record"],
            thresholds=about["thresholds"],
        )
    if not path.is_file():
        released = f"; released are {', '.join(released_names())}" if released_names() else ""
        raise FileNotFoundError(
            f"checkpoint={path}: no such file. `python -m src.train` writes one to "
            f"checkpoints/last.ckpt{released}"
        )
    return _read_checkpoint(path)


def load_model(path: str | Path, device: str | torch.device = "cpu") -> Model:
    """Read a model, as `load_checkpoint` does, and put it on a device.

    path: a checkpoint, a weights file, or the name of released weights: "ixi-small" or
        "ixi-restoration".
    device: as PyTorch names it.
    """
    model = load_checkpoint(path).model
    cast(nn.Module, model).to(device)
    return model


#: Errors of `torch.load`, and of a look into what it gave, on a file that is something else.
NOT_A_CHECKPOINT = (
    LookupError,
    TypeError,
    AttributeError,
    RuntimeError,
    EOFError,
    OSError,
    pickle.UnpicklingError,
)


def _read_checkpoint(path: Path) -> Trained:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        settings, step = dict(content["hyper_parameters"]), content["global_step"]
        config, data = settings.pop("model"), settings.pop("data")
        _ = config["_target_"], data["size"], data["train_subjects"]
        weights = {}
        for name, values in content["state_dict"].items():
            part, _, own = name.partition(".")
            if part in ("model", "ddpm"):  # 0.1.0 called it ddpm
                weights[own] = values
    except NOT_A_CHECKPOINT as error:
        reason = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        raise ValueError(
            f"{path}: not a checkpoint of autoddpm, or truncated ({reason}); weights of the "
            f"paper's authors must be imported: autoddpm import-weights {path}"
        ) from error
    model = trained_model(config, weights, path)
    return Trained(model, config, data, step, path, file_hash(path), {"training": settings})


def trained_model(config: Mapping[str, Any], weights: Mapping[str, Tensor], path: Path) -> Model:
    """The frozen model of a configuration and its weights, laid out for inference.

    path: of the file, for messages.

    Raises ValueError if the model may not be built. Raises it too if the weights are not finite, or
    not those of this network.
    """
    check_targets(config, str(path))
    try:
        model = build_model(config)
    except InstantiationException as error:
        raise ValueError(
            f"{path}: its network cannot be built: {' '.join(str(error).split())[:300]}"
        ) from error
    _check_networks(model, config, path)
    module = cast(nn.Module, model)
    try:
        module.load_state_dict(weights)
    except RuntimeError as error:
        differences = [line.strip() for line in str(error).splitlines()[1:]]
        more = f" (and {len(differences) - 1} more differences)" if len(differences) > 1 else ""
        raise ValueError(
            f"{path}: its weights are not those of the network it describes: "
            f"{differences[0][:200]}{more}"
        ) from error
    if broken := [name for name, values in weights.items() if not values.isfinite().all()]:
        raise ValueError(f"{path}: weights with NaN or infinity: {', '.join(broken[:3])}")
    laid_out(module)
    return model


def laid_out(module: nn.Module) -> nn.Module:
    """A module, frozen and with its weights laid out as the fast convolutions want them."""
    module.eval().requires_grad_(False)
    if all(values.ndim <= 4 for values in module.parameters()):  # volumes have another layout
        module.to(memory_format=torch.channels_last)
    return module


def _check_networks(model: Model, config: Mapping[str, Any], path: Path) -> None:
    """Refuse a network of other channels or dimensions than its model has."""
    wanted = {
        "spatial_dims": model.dimensions,
        "in_channels": model.channels,
        "out_channels": model.channels,
    }
    for network in _nested(config):
        if not str(network["_target_"]).startswith(NETWORKS):
            continue
        for name, value in wanted.items():
            if (found := network.get(name, value)) != value:
                raise ValueError(
                    f"{path}: its network has {name} {found}, its model needs {value} "
                    f"(channels {model.channels}, dimensions {model.dimensions})"
                )


def check_targets(config: Mapping[str, Any], where: str) -> None:
    """Refuse a model configuration that names what a weights file may not name.

    where: the file or key of the configuration, for the message.

    Raises ValueError if it does, or if it holds an interpolation.
    """
    # OmegaConf would resolve an interpolation, and with `oc.create` it can hide a target.
    if "${" in repr(config):
        raise ValueError(
            f"{where}: its configuration holds an interpolation, ${{...}}; a checkpoint has plain "
            "values"
        )
    for part in _nested(config):
        if not _is_trusted(target := str(part["_target_"])):
            raise ValueError(
                f"{where}: its configuration names {target}, which is no class of {NETWORKS}* or "
                "of autoddpm's models; a folder of models says IN_WEIGHTS_FILES = True in its "
                "__init__.py"
            )


def weights_hash(path: str | Path) -> str:
    """16 hex digits that tell weights apart.

    They are the first of a .ckpt file's sha256, or of the tensors' sha256 that a weights file
    states.

    Raises FileNotFoundError or ValueError if there is no such file.
    """
    return read_about(path)["weights_sha256"][:16] if weights_files(path) else file_hash(path)


def file_hash(path: str | Path) -> str:
    """First 16 hex digits of a file's sha256."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def _is_trusted(target: str) -> bool:
    """Whether a class is defined in a package that weights files may name.

    The module that defines it counts: `autoddpm.diffusion.x.os.remove` is only reached through one.
    """
    if not target.startswith(("autoddpm.", NETWORKS)):
        return False
    try:
        defined = get_class(target).__module__
        if defined.startswith("autoddpm."):
            room = import_module(".".join(defined.split(".")[:2]))
            return bool(getattr(room, "IN_WEIGHTS_FILES", False))
        return defined.startswith(NETWORKS)
    except (ImportError, ValueError):
        return False


def _nested(config: Any) -> Iterator[Mapping[str, Any]]:
    """Every mapping with a `_target_` in nested containers."""
    if isinstance(config, Mapping):
        if "_target_" in config:
            yield config
        for value in config.values():
            yield from _nested(value)
    elif isinstance(config, (list, tuple)):
        for value in config:
            yield from _nested(value)
