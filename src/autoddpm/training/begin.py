"""The start of a training: a size that its network takes, and weights of another training."""

from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from autoddpm.models.model import BeginsWithAnother, Model, Trained
from autoddpm.models.trained import load_checkpoint

LARGEST_MULTIPLE = 64  # of a side, that a network is tried with


def begin(module: Any, path: str | Path | None) -> dict[str, Any]:
    """Give a module the weights of a trained model.

    module: a LightningModule with `model` and its configuration in `hparams`.
    path: as for `load_checkpoint`. None: nothing is done.

    Returns the settings that tell such a training apart.

    Raises ValueError if the trained model has another network, range, noise or schedule. A model of
    another family is taken if this one can begin with it.
    """
    if path is None:
        return {}
    trained = load_checkpoint(path)
    model: Any = module.model
    if type(trained.model) is not type(model) and isinstance(model, BeginsWithAnother):
        try:
            model.begin_with(trained.model)
        except ValueError as error:
            raise ValueError(f"begin_from={path}: {error}") from error
        return _begun(module, trained)
    if type(trained.model) is not type(model):
        raise ValueError(
            f"begin_from={path}: it is of a {type(trained.model).__name__}, and this trains a "
            f"{type(model).__name__}; say the model that it is of"
        )
    config = module.hparams["model"]
    keys = {*config, *trained.config}
    if differing := sorted(key for key in keys if config.get(key) != trained.config.get(key)):
        raise ValueError(
            f"begin_from={path}: it has another {', '.join(differing)} than `model` asks for"
        )
    module.model.load_state_dict(trained.model.state_dict())
    return _begun(module, trained)


def _begun(module: Any, trained: Trained) -> dict[str, Any]:
    # What it has seen before counts too: a checkpoint names all of its training subjects.
    data = module.hparams["data"]
    data["train_subjects"] = sorted({*data["train_subjects"], *trained.data["train_subjects"]})
    data["begun_from"] = trained.weights_hash
    # The very same slices: how they were made, the first training may know.
    if data.get("preparation") is None and data["hash"] == trained.data["hash"]:
        data["preparation"] = trained.data.get("preparation")
    return {"begin_from": trained.weights_hash}


def check_size(model: Model, size: int) -> None:
    """Try one forward pass of an empty image.

    Raises ValueError if the network cannot take images of this size.
    """
    if (error := _refused_size(model, size)) is None:
        return
    raise ValueError(
        f"data.size={size}: the network cannot take it ({' '.join(str(error).split())[:160]}); "
        f"{_sizes(model, size)}"
    ) from error


def _refused_size(model: Model, size: int) -> Exception | None:
    """The error of a forward pass at a size. None if it goes through."""
    device = next(cast(nn.Module, model).parameters()).device
    empty = torch.zeros(1, model.channels, *[size] * model.dimensions, device=device)
    try:
        with torch.no_grad():
            made = model.trial(empty)
    except (RuntimeError, ValueError, IndexError) as error:
        return error
    if made.shape != empty.shape:
        return ValueError(f"it gives {made.shape[-1]} pixels back")
    return None


def _sizes(model: Model, size: int) -> str:
    """Which sizes a network takes, found by trying those around the one that it does not."""
    for multiple in (2**power for power in range(1, LARGEST_MULTIPLE.bit_length())):
        below = size // multiple * multiple
        near = sorted({below, below + multiple} - {0})
        if all(_refused_size(model, one) is None for one in near):
            return f"use a multiple of {multiple}, such as {' or '.join(map(str, near))}"
    return "use 128, as the paper"
