"""Acceleration of a network: layout, attention, compilation, CUDA graphs, kept memory.

None of it changes the precision, nor a result by more than rounding.
"""

import json
import logging
from collections.abc import Mapping
from functools import lru_cache
from importlib.resources import files
from typing import Any, NamedTuple

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch import nn

from autoddpm.machine.memory import can_keep_freed_memory, keep_freed_memory

log = logging.getLogger(__name__)

Setting = str | bool
SWITCHES = ("fused_attention", "compile", "cuda_graphs", "keep_memory")
ALLOWED: dict[str, tuple[Setting, ...]] = {
    "layout": ("auto", "contiguous", "channels_last"),
    **dict.fromkeys(SWITCHES, ("auto", True, False)),
}
LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
NOT_MEASURED = "another was not measured on this device: ask for it"


class Job(NamedTuple):
    """What is to be run: the GPU's name, Lightning's precision, and the network's parameters."""

    gpu: str = ""
    precision: str = ""
    parameters: int = 0


UNKNOWN = Job()


class Acceleration(Callback):
    """Chooses settings for each run, logs them with the reason, and applies them.

    Each setting is `auto` (chosen by device) or given.

    layout: memory layout of the network's weights, contiguous or channels_last. Features follow.
    fused_attention: PyTorch's own attention, without a table of all pairs of pixels. false: as the
        network is configured.
    compile: torch.compile of the network.
    cuda_graphs: replay the compiled network's kernels as one graph.
    keep_memory: freed memory stays with the process. The C library would take tensors above 32 MB
        from Linux and give them back each time. Linux clears what it hands out, and that costs as
        much as the convolutions.

    Raises ValueError, naming the key, if a setting is not allowed or not possible here.
    """

    def __init__(
        self,
        layout: str = "auto",
        fused_attention: Setting = "auto",
        compile: Setting = "auto",
        cuda_graphs: Setting = "auto",
        keep_memory: Setting = "auto",
    ) -> None:
        asked = (layout, fused_attention, compile, cuda_graphs, keep_memory)
        self.asked: dict[str, Setting] = dict(zip(ALLOWED, asked, strict=True))
        for name, value in self.asked.items():
            if value not in ALLOWED[name]:
                allowed = ", ".join(str(one).lower() for one in ALLOWED[name])
                raise ValueError(f"callbacks.acceleration.{name}={value}: must be one of {allowed}")
        if cuda_graphs is True and compile is False:
            raise ValueError(
                "callbacks.acceleration.cuda_graphs=true needs a compiled network: leave "
                "compile=false out"
            )
        self._said = ""
        self._compiled: torch.nn.Module | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage == "fit":  # before the optimiser and DDP take hold of the weights
            self._apply(trainer, pl_module, training=True)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._apply(trainer, pl_module, training=False)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if (
            self._compiled is not None
        ):  # for a few slices of other numbers it would be compiled anew
            torch.compiler.set_stance("force_eager")

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        torch.compiler.set_stance("default")

    def _apply(self, trainer: Trainer, pl_module: Any, training: bool) -> None:
        network = pl_module.model.network
        device = trainer.strategy.root_device
        job = Job(
            torch.cuda.get_device_name(device) if device.type == "cuda" else "",
            str(trainer.precision),
            sum(values.numel() for values in network.parameters()),
        )
        chosen = choose(self.asked, device.type, training, job)
        said = "; ".join(
            f"{name}: {str(value).lower()} ({reason})" for name, (value, reason) in chosen.items()
        )
        if trainer.is_global_zero and said != self._said:
            log.info("%s", said)
        self._said = said
        if pl_module.model.dimensions == 2:  # volumes have another layout of that kind
            network.to(memory_format=LAYOUTS[str(chosen["layout"][0])])
        if chosen["fused_attention"][0]:
            fuse_attention(network)
        if chosen["keep_memory"][0]:
            keep_freed_memory()
        if chosen["compile"][0] and self._compiled is not network:
            graphs = bool(chosen["cuda_graphs"][0])
            options = (
                {"triton.cudagraphs": True, "triton.cudagraph_skip_dynamic_graphs": True}
                if graphs
                else None
            )
            network.compile(options=options)
            self._compiled = network


def choose(
    asked: Mapping[str, Setting], device: str, training: bool, job: Job = UNKNOWN
) -> dict[str, tuple[Setting, str]]:
    """Each setting's value and the reason for it.

    asked: by setting, the value, or "auto". Settings that were not measured on a device are not
        chosen for it.
    device: "cpu", "cuda" or another.
    training: or evaluation.
    job: what was measured counts for that GPU and precision, and for a network of half to twice as
        many parameters: small networks are slowed by what pays for large ones.

    Raises ValueError if a setting is asked for that this device does not have.
    """
    if asked["cuda_graphs"] is True and device != "cuda":
        raise ValueError("callbacks.acceleration.cuda_graphs=true: needs a CUDA device")
    if asked["keep_memory"] is True and not can_keep_freed_memory():
        raise ValueError(
            "callbacks.acceleration.keep_memory=true: this system's C library has no such setting"
        )
    chosen = {
        "layout": _layout(device, training),
        "fused_attention": (False, NOT_MEASURED),
        "compile": _compile(device),
    }
    if asked["cuda_graphs"] is True:
        chosen["compile"] = (True, "CUDA graphs need it")
    graphs = NOT_MEASURED if device == "cuda" else "needs a CUDA device"
    chosen |= {"keep_memory": _keep_memory(device), "cuda_graphs": (False, graphs)}
    measured = fastest_settings().get(job.gpu, {})
    found = measured.get("training" if training else "evaluation")
    if found is not None and _is_like(found, job):
        reason = (
            f"with the others {found['gain']:.2f} times as fast as none of them: measured on "
            f"{job.gpu} in {found['precision']}"
        )
        chosen |= {key: (value, reason) for key, value in found.items() if key in ALLOWED}
    return chosen | {name: (value, "as asked") for name, value in asked.items() if value != "auto"}


def _is_like(found: Mapping[str, Any], job: Job) -> bool:
    """Whether a job is like what a measurement is of."""
    several = job.parameters / found["parameters"]
    return job.precision.startswith(found["precision"]) and 0.5 <= several <= 2


def fuse_attention(network: nn.Module) -> None:
    """Have PyTorch do each attention of a network of MONAI at once; others are left alone."""
    for module in network.modules():
        if hasattr(module, "use_flash_attention"):
            setattr(module, "use_flash_attention", True)  # noqa: B010 (typed as a tensor)


@lru_cache(maxsize=1)
def fastest_settings() -> dict[str, dict[str, dict[str, Any]]]:
    """The fastest settings on each GPU, measured by experiments/gpu/speed.py.

    Returns by GPU name and "training" or "evaluation": the settings; `gain`, how many times as fast
    they are; and of which `precision` and network (its `parameters`).
    """
    return json.loads(
        (files("autoddpm.machine") / "measured_speed.json").read_text(encoding="utf-8")
    )


def _layout(device: str, training: bool) -> tuple[Setting, str]:
    if device != "cpu":
        return "contiguous", NOT_MEASURED
    if training:
        return "contiguous", "on CPUs channels_last is slower in training: measured"
    return "channels_last", "on CPUs 1.1 to 1.2 times faster: measured"


def _compile(device: str) -> tuple[Setting, str]:
    return (
        False,
        "on CPUs it takes a minute and is slower: measured" if device == "cpu" else NOT_MEASURED,
    )


def _keep_memory(device: str) -> tuple[Setting, str]:
    if device != "cpu":
        return False, "the memory of this device is kept anyway"
    if not can_keep_freed_memory():
        return False, "this system's C library has no such setting"
    return True, "two to five times as fast on large tensors: measured"
