"""Batch size of an evaluation: as many slices at once as fit into memory."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import torch
from lightning import Trainer
from torch import nn

from autoddpm.allowance import is_out_of_memory
from autoddpm.models.model import Model

log = logging.getLogger(__name__)

ON_CPU = 16  # more is not faster there
MOST = 512  # nor here
TRIAL = 4  # slices of the forward pass that is measured
USED_SHARE = 0.6  # of the free memory: the perceptual distance and the noise need some as well


def eval_batch_size(asked: int | str, model: Model, size: int, trainer: Trainer) -> int:
    """Slices at once: as asked, or for "auto" as many as the device's free memory takes.

    asked: a number of at least 1, or "auto".
    size: side of a slice in pixels.

    "auto" is 16 on a CPU. On a CUDA device one forward pass of four slices is measured at the
    trainer's precision. If not even these fit, the result is 1.

    Raises ValueError if `asked` is neither, or if the network itself does not fit.
    """
    if asked != "auto":
        if type(asked) is not int or asked < 1:
            raise ValueError(
                f"data.eval_batch_size={asked}: must be a whole number of at least 1, or auto"
            )
        return asked
    device = trainer.strategy.root_device
    if device.type != "cuda":
        return ON_CPU
    with out_of_memory(
        "the network itself does not fit; free some memory, or use a smaller one or another device"
    ):
        cast(nn.Module, model).to(device)
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    try:
        with torch.no_grad(), trainer.precision_plugin.forward_context():
            shape = (TRIAL, model.channels, *[size] * model.dimensions)
            model.trial(torch.zeros(shape, device=device))
    except torch.OutOfMemoryError:
        log.warning(
            "data.eval_batch_size: 1 (%d slices do not fit into the memory that is free)", TRIAL
        )
        return 1
    needed = (torch.cuda.max_memory_allocated(device) - before) / TRIAL
    torch.cuda.empty_cache()
    found = fitting(torch.cuda.mem_get_info(device)[0], needed)
    log.info("data.eval_batch_size: %d (%.0f MB a slice)", found, needed / 2**20)
    return found


def fitting(free: int, needed: float) -> int:
    """Number of slices of `needed` bytes in USED_SHARE of `free` bytes, from 1 to MOST."""
    return min(MOST, max(1, int(USED_SHARE * free / max(needed, 1))))


@contextmanager
def out_of_memory(advice: str) -> Iterator[None]:
    """Raise ValueError with the advice if what is done inside runs out of memory."""
    try:
        yield
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise ValueError(f"out of memory ({str(error).splitlines()[0]}): {advice}") from error


def smaller_steps(batch_size: int, accumulated: int) -> str:
    """Advice for a training step that does not fit into memory."""
    halved = f"data.batch_size={batch_size // 2} trainer.accumulate_grad_batches={2 * accumulated}"
    same = f"{halved} takes the same steps in half of it; or " if batch_size > 1 else ""
    return same + "use trainer.precision=bf16-mixed, or model=small"
