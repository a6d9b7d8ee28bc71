"""What share of a device's speed a training uses."""

import logging
import time
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch.utils.flop_counter import FlopCounterMode

from autoddpm.models.model import Model

log = logging.getLogger(__name__)

BACKWARD = 2  # operations of a backward pass, in forward passes
SIDE = 8192  # of the matrices whose product says what the device can do
REPEATS = 5


class Throughput(Callback):
    """Logs operations per second of training, over what the same device reaches with matrix
    products alone.

    every_minutes: how often. Times are of many steps, so that nothing waits for the device.
    """

    def __init__(self, every_minutes: float = 1.0) -> None:
        self.every_minutes = every_minutes
        self._per_slice = self._ideal = 0.0
        self._since, self._slices = 0.0, 0

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        size = pl_module.hparams["data"]["size"]
        self._per_slice = (1 + BACKWARD) * forward_operations(pl_module.model, size)
        self._ideal = ideal_operations(pl_module.device, _type(trainer))
        self._since, self._slices = time.monotonic(), 0

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *_: Any
    ) -> None:
        self._slices += len(batch.id)
        seconds = time.monotonic() - self._since
        if seconds < 60 * self.every_minutes or not trainer.is_global_zero:
            return
        achieved = self._per_slice * self._slices / seconds
        log.info(
            "%.1f slices a second, %.4g TFLOP/s of the %.4g that matrix products reach here (%.0f "
            "%%)",
            self._slices / seconds,
            achieved / 1e12,
            self._ideal / 1e12,
            100 * achieved / self._ideal,
        )
        self._since, self._slices = time.monotonic(), 0


def forward_operations(model: Model, size: int) -> float:
    """Floating-point operations of one forward pass per image: two per multiply and add."""
    device = next(model.network.parameters()).device
    eager = torch.compiler.set_stance("force_eager")  # else a compiled network is never compiled
    with eager, FlopCounterMode(display=False) as counter, torch.no_grad():
        model.trial(torch.zeros(1, model.channels, *[size] * model.dimensions, device=device))
    return float(counter.get_total_flops())


def ideal_operations(device: torch.device, dtype: torch.dtype) -> float:
    """Operations per second of a large matrix product (a small one on a CPU), the best of some."""
    side = SIDE if device.type == "cuda" else SIDE // 16
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    best = float("inf")
    for repeat in range(REPEATS + 1):
        _finish(device)
        start = time.perf_counter()
        a @ b
        _finish(device)
        if repeat:
            best = min(best, time.perf_counter() - start)
    return 2 * side**3 / best


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _type(trainer: Trainer) -> torch.dtype:
    return torch.bfloat16 if "bf16" in str(trainer.precision) else torch.float32
