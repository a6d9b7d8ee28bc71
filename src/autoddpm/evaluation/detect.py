"""A detector over a split: reconstructions, made once and kept, and anomaly maps over them."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
import torch
from lightning import LightningModule, Trainer
from torch import nn

from autoddpm.data.datamodule import Role, SliceDataModule
from autoddpm.data.sample import Batch
from autoddpm.detectors.anomaly_map import POSTPROCESS
from autoddpm.detectors.detector import (
    Detector,
    Reconstruction,
    checked_map,
    checked_reconstruction,
    seen_by,
)
from autoddpm.evaluation.in_parts import InParts
from autoddpm.evaluation.reconstructions import Reconstructions, Stored, depends_on
from autoddpm.models.model import Trained
from autoddpm.runs.parts import PartFolder

Result = TypeVar("Result")


@dataclass(frozen=True)
class Bench:
    """The model, data, trainer and folder that detectors are run with.

    reconstructions: the folder that keeps what they reconstruct, see `Reconstructions`.
    postprocess: what follows the last map, of `POSTPROCESS`.
    """

    trained: Trained
    datamodule: SliceDataModule
    trainer: Trainer
    reconstructions: Path
    postprocess: str = "none"

    def __post_init__(self) -> None:
        if self.postprocess not in POSTPROCESS:
            raise ValueError(f"postprocess={self.postprocess}: must be {' or '.join(POSTPROCESS)}")

    def ids(self, role: Role) -> set[str]:
        """Ids of all slices of a role.

        Raises ValueError if it has none.
        """
        if not (ids := set(self.datamodule.index(role)["id"])):
            raise ValueError(f"no slices to {role} on: name a source in data.{role}")
        return ids

    def kept(self, detector: Detector, role: Role) -> Reconstructions:
        """The place of a detector's reconstructions of a role's slices."""
        given = {
            "weights_hash": self.trained.weights_hash,
            "data_hash": self.datamodule.hash(role),
            "size": self.datamodule.size,
            "precision": str(self.trainer.precision),
        }
        return Reconstructions(self.reconstructions, depends_on(detector, given))


@dataclass(frozen=True)
class Made:
    """Reconstructions of a split.

    stored: the reconstructions, of the last stage.
    seconds: time of all stages per slice, in the order of `stored`.
    reused: what made them if all were there already, see `Reconstructions.made_by`. Else None.
    """

    stored: Stored
    seconds: np.ndarray
    reused: dict[str, Any] | None


def reconstruct(bench: Bench, detector: Detector, role: Role, title: str) -> Made:
    """Reconstruct the slices of a role, or read those that are kept already.

    Under DDP each rank does its share.

    title: shown by the progress bar.
    """
    ids, kept = bench.ids(role), bench.kept(detector, role)
    first = detector.begins_with
    begun = reconstruct(bench, first, role, f"{title}: first stage") if first else None
    with kept.claimed(bench.trainer):
        missing = ids - kept.parts.done()

        def work(batch: Batch) -> Reconstruction:
            first_stage = begun.stored.of(batch) if begun else None
            made = detector.reconstruct(seen_by(detector, batch), first_stage)
            return checked_reconstruction(made, batch)

        in_parts = InParts(work, joined_reconstructions)

        def step(batch: Batch) -> None:
            made, seconds = timed(lambda: in_parts(batch), bench.trainer)
            kept.write(batch, made, seconds)

        go_over(bench, step, role, kept.parts, title)
        stored = Stored(kept.parts.merged())
    seconds = stored.arrays["seconds"]
    if begun:
        seconds = seconds + begun.stored.seconds(stored.arrays["id"].tolist())
    return Made(stored, seconds, None if missing else kept.made_by())


def map_anomalies(
    bench: Bench,
    detector: Detector,
    role: Role,
    made: Stored,
    parts: PartFolder,
    title: str,
    postprocess: str = "none",
) -> dict[str, np.ndarray]:
    """Anomaly maps, images and lesions of a role's slices, (N, C, *space) each, in their order.

    postprocess: what follows the map, of `POSTPROCESS`.
    """
    finish = POSTPROCESS[postprocess]

    def work(batch: Batch) -> torch.Tensor:
        made_map = detector.anomaly_map(seen_by(detector, batch), made.of(batch))
        return finish(checked_map(made_map, batch))

    in_parts = InParts(work, torch.cat)

    def step(batch: Batch) -> None:
        anomaly_map, seconds = timed(lambda: in_parts(batch), bench.trainer)
        images = {"anomaly_map": anomaly_map, "image": batch.image, "lesion": batch.lesion}
        parts.write(batch.id, images, torch.zeros(len(batch.id), dtype=torch.int64), seconds)

    go_over(bench, step, role, parts, title)
    return parts.merged()


def go_over(
    bench: Bench, step: Callable[[Batch], None], role: Role, parts: PartFolder, title: str
) -> None:
    """Call `step` with every batch of slices that `parts` does not have.

    Each rank does its share.

    Raises ValueError if the trainer did not go through all of them.
    """
    trainer, ids, done = bench.trainer, bench.ids(role), parts.done()
    trainer.strategy.barrier()
    if ids - done:  # asked of all slices: a rank without any takes part all the same
        loader = bench.datamodule.loader(role, skip=done)
        module = StepModule(step, cast(nn.Module, bench.trained.model), title)
        trainer.test(module, loader, verbose=False)
    trainer.strategy.barrier()
    if missing := ids - parts.done():
        raise ValueError(
            f"{parts.folder}: {len(missing)} of {len(ids)} slices were not processed: a row is of "
            "all of them, so leave trainer.limit_test_batches out, or run the same command again "
            "if it was stopped"
        )


class StepModule(LightningModule):
    """Calls a function with each batch of a test.

    model: named here so that Lightning moves it to the device.
    title: shown by the progress bar.
    """

    def __init__(
        self, step: Callable[[Batch], None], model: nn.Module, title: str = "test"
    ) -> None:
        super().__init__()
        self.step, self.model, self.title = step, model, title
        # There may be fewer slices than processes.
        self.allow_zero_length_dataloader_with_multiple_devices = True

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        self.step(batch)


def timed(work: Callable[[], Result], trainer: Trainer) -> tuple[Result, float]:
    """A result and the seconds that it took, the device's included."""
    device, start = trainer.strategy.root_device, time.perf_counter()
    result = work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return result, time.perf_counter() - start


def joined_reconstructions(parts: list[Reconstruction]) -> Reconstruction:
    """The reconstruction of a batch from those of its parts."""
    stages: Mapping[str, torch.Tensor] = {
        name: torch.cat([part.stages[name] for part in parts]) for name in parts[0].stages
    }
    image = torch.cat([part.image for part in parts])
    return Reconstruction(image, torch.cat([part.calls for part in parts]), stages)
