"""The interface of every family of models, and a model with its weights and its history."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn


class Model(Protocol):
    """A model of healthy images: a `torch.nn.Module` with these attributes and methods.

    Images are (B, C, *space) in [0, 1]. It is made by `_target_` in `conf/model` from plain values
    alone, so that a weights file can make it again.

    channels: C.
    dimensions: of space, 2 or 3.
    network: the part that takes the time. It is compiled, laid out in memory, and measured.
    """

    channels: int
    dimensions: int

    @property
    def network(self) -> nn.Module: ...

    @property
    def validation_names(self) -> Sequence[str]:
        """The names of `validation_losses`. The one called "loss" chooses the best weights."""

    def loss(self, image: Tensor, keys: Tensor, epoch: Tensor) -> Tensor:
        """Training's loss, (B,).

        keys: (B, 2), see `autoddpm.random`: all randomness is a function of them and of the epoch.
        epoch: (B,) int64, how often the training stream had gone through the set.
        """

    def validation_losses(self, image: Tensor, keys: Tensor) -> dict[str, Tensor]:
        """Losses by name, (B,) each, with the same noise at each validation."""

    def trial(self, image: Tensor) -> Tensor:
        """One forward pass of the network as in a detector, to measure its memory and its cost."""

    def seen(self, image: Tensor, keys: Tensor, epoch: Tensor) -> Tensor:
        """Images as the network sees them in training. Arguments as `loss`."""

    def example(self, image: Tensor, ids: Sequence[str]) -> dict[str, Tensor]:
        """Rows of the pictures of a training, by name: healthy images, and what becomes of them.

        Each is shaped as the images, in [0, 1].
        """

    def record(self) -> dict[str, Any]:
        """Entries of a row's provenance that tell two models apart, beside their weights."""

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]: ...


@runtime_checkable
class BeginsWithAnother(Protocol):
    """A model that can begin with the weights of another family."""

    def begin_with(self, other: Model) -> None:
        """Take another model's weights.

        Raises ValueError if they do not fit.
        """


@dataclass(frozen=True)
class Trained:
    """A model with its weights, and what its file tells about it.

    config: of the model, plain values with `_target_`.
    data: `hash`, `size`, `train_subjects` and `preparation` of the data it was trained on. The last
        tells how its slices were made from volumes, None if that is not known.
    step: optimiser steps taken, 0 if unknown.
    path: of the file.
    weights_hash: see `autoddpm.models.trained.weights_hash`.
    record: its training or its origin.
    thresholds: those stored in the file, as entries of `autoddpm.evaluation.thresholds`.
    """

    model: Model
    config: dict[str, Any]
    data: dict[str, Any]
    step: int
    path: Path
    weights_hash: str
    record: dict[str, Any] = field(default_factory=dict)
    thresholds: list[dict[str, Any]] = field(default_factory=list)
