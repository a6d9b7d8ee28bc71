"""How the same network is run faster on a device: memory layout, compilation, CUDA graphs, freed memory that is kept.

None of it changes the precision, nor a result by more than rounding.
"""

import ctypes
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

log = logging.getLogger(__name__)

Setting = str | bool
ALLOWED: dict[str, tuple[Setting, ...]] = {
    "layout": ("auto", "contiguous", "channels_last"),
    "compile": ("auto", True, False),
    "cuda_graphs": ("auto", True, False),
    "keep_memory": ("auto", True, False),
}
LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
COMPILE_FROM_CALLS = 10_000  # of the network, a batch each, where it is tried unasked
GRAPHS_BELOW_PARAMETERS = 5_000_000  # kernels of a network so small are done before the next is launched
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of <malloc.h>


@dataclass(frozen=True)
class Work:
    """What is to be run.

    device: "cpu", "cuda" or another.  training: or evaluation.  precision: as Lightning names it.  parameters: of the
    network.  calls: of the network, a batch each, at most.
    """

    device: str
    training: bool
    precision: str
    parameters: int
    calls: int


class Acceleration(Callback):
    """Chooses for each run, logs with the reason and applies; each setting may be given instead of `auto`.

    layout:       contiguous or channels_last, of the network's weights; features follow.
    compile:      torch.compile of the network.
    cuda_graphs:  replay the compiled network's kernels as one graph.
    keep_memory:  freed memory stays with the process. Linux clears what it hands out: for tensors above 32 MB, which
                  the C library takes from it and gives back each time, that costs as much as the convolutions.

    Raises ValueError, naming the key, on a setting that is not allowed or not possible here.
    """

    def __init__(
        self,
        layout: str = "auto",
        compile: Setting = "auto",
        cuda_graphs: Setting = "auto",
        keep_memory: Setting = "auto",
    ) -> None:
        self.asked = {"layout": layout, "compile": compile, "cuda_graphs": cuda_graphs, "keep_memory": keep_memory}
        for name, value in self.asked.items():
            if value not in ALLOWED[name]:
                allowed = ", ".join(str(one).lower() for one in ALLOWED[name])
                raise ValueError(f"callbacks.acceleration.{name}={value}: must be one of {allowed}")
        if cuda_graphs is True and compile is False:
            raise ValueError(
                "callbacks.acceleration.cuda_graphs=true needs a compiled network: leave compile=false out"
            )
        self._said = ""
        self._compiled: torch.nn.Module | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage == "fit":  # before the optimiser and DDP take hold of the weights
            self._apply(trainer, pl_module, training=True, calls=trainer.max_steps)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        calls = int(sum(trainer.num_test_batches)) * getattr(pl_module.detector, "most_calls", 0)
        self._apply(trainer, pl_module, training=False, calls=calls)

    def _apply(self, trainer: Trainer, pl_module: Any, training: bool, calls: int) -> None:
        network, device = pl_module.ddpm.denoiser, trainer.strategy.root_device.type
        parameters = sum(values.numel() for values in network.parameters())
        chosen = choose(self.asked, Work(device, training, str(trainer.precision), parameters, calls))
        said = "; ".join(f"{name}: {str(value).lower()} ({reason})" for name, (value, reason) in chosen.items())
        if trainer.is_global_zero and said != self._said:
            log.info("%s", said)
        self._said = said
        network.to(memory_format=LAYOUTS[str(chosen["layout"][0])])
        if chosen["keep_memory"][0]:
            keep_freed_memory()
        if chosen["compile"][0] and self._compiled is not network:
            if self.asked["compile"] == "auto":
                torch._dynamo.config.suppress_errors = True  # what cannot be compiled is run as it is
            graphs = bool(chosen["cuda_graphs"][0])
            options = {"triton.cudagraphs": True, "triton.cudagraph_skip_dynamic_graphs": True} if graphs else None
            network.compile(options=options)
            self._compiled = network


def choose(asked: Mapping[str, Setting], work: Work) -> dict[str, tuple[Setting, str]]:
    """Each setting's value and the reason for it; what is not `auto` is taken as asked.

    Raises ValueError on what is asked for and cannot be had on this device.
    """
    on_gpu = work.device == "cuda"
    if asked["cuda_graphs"] is True and not on_gpu:
        raise ValueError("callbacks.acceleration.cuda_graphs=true: needs a CUDA device")
    if asked["keep_memory"] is True and not can_keep_freed_memory():
        raise ValueError("callbacks.acceleration.keep_memory=true: this system's C library has no such setting")
    chosen = {"layout": _layout(work), "compile": _compile(work), "keep_memory": _keep_memory(work)}
    if asked["cuda_graphs"] is True:
        chosen["compile"] = (True, "CUDA graphs need it")
    given = {name: (value, "as asked") for name, value in asked.items() if value != "auto"}
    chosen |= given
    chosen["cuda_graphs"] = given.get("cuda_graphs", _cuda_graphs(work, bool(chosen["compile"][0])))
    return chosen


def _layout(work: Work) -> tuple[Setting, str]:
    if work.device == "cpu":
        if work.training:
            return "contiguous", "on CPUs channels_last is slower in training: measured"
        return "channels_last", "on CPUs 1.1 to 1.4 times faster: measured"
    if work.device == "cuda" and not work.precision.startswith("32"):
        return "channels_last", "tensor cores take it as it is"
    return "contiguous", "in float32 there is nothing to be gained"


def _compile(work: Work) -> tuple[Setting, str]:
    if work.device == "cpu":
        return False, "on CPUs it takes a minute and is 6 % faster at best, in bf16 slower: measured"
    if work.device != "cuda" or work.training:
        return False, "not measured"
    if work.calls < COMPILE_FROM_CALLS:
        return False, f"{work.calls} calls are too few to pay for its start, {COMPILE_FROM_CALLS} would do"
    return True, f"{work.calls} calls pay for its start"


def _cuda_graphs(work: Work, compiled: bool) -> tuple[Setting, str]:
    if work.device != "cuda" or not compiled:
        return False, "needs a compiled network on a CUDA device"
    if work.parameters < GRAPHS_BELOW_PARAMETERS:
        return True, "launching the kernels of a small network takes longer than the kernels"
    return False, "the kernels of a large network take longer than their launching"


def _keep_memory(work: Work) -> tuple[Setting, str]:
    if work.device != "cpu":
        return False, "the memory of this device is kept anyway"
    if not can_keep_freed_memory():
        return False, "this system's C library has no such setting"
    return True, "up to twice as fast on large tensors: measured"


def can_keep_freed_memory() -> bool:
    """Whether the C library's allocator can be told so: glibc's."""
    return hasattr(ctypes.CDLL(None), "mallopt")


def keep_freed_memory() -> None:
    """Let the C library neither give memory back to the system nor take large blocks apart; for the whole process."""
    libc = ctypes.CDLL(None)
    libc.mallopt(M_MMAP_MAX, 0)
    libc.mallopt(M_TRIM_THRESHOLD, -1)
