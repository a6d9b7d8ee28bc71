"""As many slices at once as fit into memory."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from lightning import Trainer
from lightning.pytorch.utilities.memory import garbage_collection_cuda, is_oom_error

from autoddpm.data.sample import Batch
from autoddpm.detectors.detector import Detection
from autoddpm.diffusion.ddpm import DDPM

log = logging.getLogger(__name__)

ON_CPU = 16  # more is not faster there
MOST = 512  # nor here
TRIAL = 4  # slices of the forward pass that is measured
USED_SHARE = 0.6  # of the free memory: the perceptual distance and the noise need some as well


def eval_batch_size(asked: int | str, ddpm: DDPM, size: int, trainer: Trainer) -> int:
    """Slices at once: as asked, or for "auto" as many as the device's free memory takes; on a CPU 16.

    size: pixels a side. On a CUDA device one forward pass of four slices is measured, at the trainer's precision; 1
    where not even these fit.
    """
    if asked != "auto":
        if type(asked) is not int or asked < 1:
            raise ValueError(f"data.eval_batch_size={asked}: must be a whole number of at least 1, or auto")
        return asked
    device = trainer.strategy.root_device
    if device.type != "cuda":
        return ON_CPU
    with out_of_memory("the network itself does not fit; free some memory, or use a smaller one or another device"):
        ddpm.to(device)
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    try:
        with torch.no_grad(), trainer.precision_plugin.forward_context():
            ddpm.predict_eps(torch.zeros(TRIAL, 1, size, size, device=device), 1)
    except torch.OutOfMemoryError:
        log.warning("data.eval_batch_size: 1 (%d slices do not fit into the memory that is free)", TRIAL)
        return 1
    needed = (torch.cuda.max_memory_allocated(device) - before) / TRIAL
    torch.cuda.empty_cache()
    found = fitting(torch.cuda.mem_get_info(device)[0], needed)
    log.info("data.eval_batch_size: %d (%.0f MB a slice)", found, needed / 2**20)
    return found


def fitting(free: int, needed: float) -> int:
    """How many slices of `needed` bytes go into USED_SHARE of `free` bytes: at least 1, at most MOST."""
    return min(MOST, max(1, int(USED_SHARE * free / max(needed, 1))))


@contextmanager
def out_of_memory(advice: str) -> Iterator[None]:
    """Raise ValueError with the advice where what is done inside runs out of memory."""
    try:
        yield
    except RuntimeError as error:
        if not _is_out_of_memory(error):
            raise
        raise ValueError(f"out of memory ({str(error).splitlines()[0]}): {advice}") from error


def smaller_steps(batch_size: int, accumulated: int) -> str:
    """What to do where a training step does not fit into memory."""
    halved = f"data.batch_size={batch_size // 2} trainer.accumulate_grad_batches={2 * accumulated}"
    same = f"{halved} takes the same steps in half of it; or " if batch_size > 1 else ""
    return same + "use trainer.precision=bf16-mixed, or model=small"


def _is_out_of_memory(error: RuntimeError) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or is_oom_error(error)


class InParts:
    """A detector on as many slices at once as memory allows; the result of a batch is the same in parts.

    Where a batch does not fit, it is halved, with a warning, and so is every later one of the same pass. Raises
    ValueError where a single slice does not fit.
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
                "out of memory with %d slices at once: in this pass from here on %d", len(parts[0].id), self.most
            )
            parts = [smaller for part in parts for smaller in self._parts(part)]
        return done[0] if len(done) == 1 else _joined(done)

    def _tried(self, batch: Batch) -> Detection | None:
        """The detection, or None where it ran out of memory. None is returned so that no traceback holds tensors."""
        try:
            return self.detector(batch)
        except RuntimeError as error:
            if not _is_out_of_memory(error):
                raise
            if len(batch.id) == 1:
                raise ValueError(
                    f"{batch.id[0]}: a single slice of {batch.image.shape[-2]} x {batch.image.shape[-1]} does not fit "
                    f"into the memory of {batch.image.device} ({str(error).splitlines()[0]}): free some of it, or use "
                    "trainer.precision=bf16-mixed, a smaller network or another device"
                ) from error
        return None

    def _parts(self, batch: Batch) -> list[Batch]:
        size = self.most or len(batch.id)
        parts = [slice(start, start + size) for start in range(0, len(batch.id), size)]
        return [Batch(batch.image[part], batch.lesion[part], batch.id[part], batch.epoch[part]) for part in parts]


def _joined(parts: list[Detection]) -> Detection:
    def cat(name: str) -> Any:
        return torch.cat([getattr(part, name) for part in parts])

    stages = {name: torch.cat([part.stages[name] for part in parts]) for name in parts[0].stages}
    return Detection(cat("anomaly_map"), cat("reconstruction"), cat("calls"), stages)
