"""Running a detector over a split with a Lightning trainer."""

import logging
import time
from collections.abc import Callable
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.utilities.memory import garbage_collection_cuda

from autoddpm.data.datamodule import Role, SliceDataModule
from autoddpm.data.sample import Batch
from autoddpm.detectors.detector import Detection
from autoddpm.diffusion.ddpm import DDPM
from autoddpm.machine.batch_size import is_out_of_memory
from autoddpm.models.trained import TrainedDDPM
from autoddpm.runs.parts import MapFolder

log = logging.getLogger(__name__)


def run(
    detector: Any,
    trained: TrainedDDPM,
    datamodule: SliceDataModule,
    trainer: Trainer,
    maps: MapFolder,
    role: Role,
    title: str,
) -> None:
    """Run a detector over the slices of a role that `maps` does not have yet; under DDP each rank
    does its share.

    Raises ValueError where the role has no slices, or where the trainer did not go through all of
    them.
    """
    every = set(datamodule.index(role)["id"])
    if not every:
        raise ValueError(f"no slices to {role} on: name a source in data.{role}")
    done = maps.done()
    trainer.strategy.barrier()
    if every - done:  # asked of all slices: a rank without any takes part all the same
        loader = datamodule.loader(role, skip=done)
        trainer.test(DetectionModule(detector, trained.ddpm, maps, title), loader, verbose=False)
    trainer.strategy.barrier()
    if missing := every - maps.done():
        raise ValueError(
            f"{maps.folder}: {len(missing)} of {len(every)} slices were not processed: a row is of "
            "all of them, so "
            "leave trainer.limit_test_batches out, or run the same command again if it was stopped"
        )


class DetectionModule(LightningModule):
    """Tests with any detector: writes what it says of each batch to `maps`.

    A batch that does not fit into memory is detected in parts, see `InParts`.

    ddpm: the detector's model, named here so that Lightning moves it to the device. title: shown by
        the progress bar.
    """

    def __init__(
        self,
        detector: Callable[[Batch], Detection],
        ddpm: DDPM,
        maps: MapFolder,
        title: str = "test",
    ) -> None:
        super().__init__()
        self.detector, self.ddpm, self.maps, self.title = detector, ddpm, maps, title
        self.in_parts = InParts(detector)
        self.allow_zero_length_dataloader_with_multiple_devices = (
            True  # fewer slices than processes
        )

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        start = time.perf_counter()
        detection = self.in_parts(batch)
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        self.maps.write(batch, detection, time.perf_counter() - start)


class InParts:
    """A detector on as many slices at once as memory allows; the result of a batch is the same in
    parts.

    Where a batch does not fit, it is halved, with a warning, and so is every later one of the same
    pass. Raises ValueError where a single slice does not fit.
    """

    def __init__(self, detector: Callable[[Batch], Detection]) -> None:
        self.detector = detector
        self.most: int | None = None

    def __call__(self, batch: Batch) -> Detection:
        parts, done = self._parts(batch), []
        while parts:
            detection = self._tried(parts[0])
            if detection is not None:
                done.append(detection)
                del parts[0]
                continue
            garbage_collection_cuda()
            self.most = len(parts[0].id) // 2
            log.warning(
                "out of memory with %d slices at once: in this pass from here on %d",
                len(parts[0].id),
                self.most,
            )
            parts = [smaller for part in parts for smaller in self._parts(part)]
        return done[0] if len(done) == 1 else _joined(done)

    def _tried(self, batch: Batch) -> Detection | None:
        """The detection, or None where it ran out of memory. None is returned so that no traceback
        holds tensors."""
        try:
            return self.detector(batch)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            if len(batch.id) == 1:
                raise ValueError(
                    f"{batch.id[0]}: a single slice of {batch.image.shape[-2]} x "
                    f"{batch.image.shape[-1]} does not fit "
                    f"into the memory of {batch.image.device} ({str(error).splitlines()[0]}): free "
                    "some of it, or use "
                    "trainer.precision=bf16-mixed, a smaller network or another device"
                ) from error
        return None

    def _parts(self, batch: Batch) -> list[Batch]:
        size = self.most or len(batch.id)
        parts = [slice(start, start + size) for start in range(0, len(batch.id), size)]
        return [
            Batch(batch.image[part], batch.lesion[part], batch.id[part], batch.epoch[part])
            for part in parts
        ]


def _joined(parts: list[Detection]) -> Detection:
    def cat(name: str) -> Any:
        return torch.cat([getattr(part, name) for part in parts])

    stages = {name: torch.cat([part.stages[name] for part in parts]) for name in parts[0].stages}
    return Detection(cat("anomaly_map"), cat("reconstruction"), cat("calls"), stages)
