"""Choice of a GPU for each job of a multirun: one that no other job has, by a lock file."""

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from autoddpm.locks import in_turn

#: Folder of the lock files, for all runs of this user on this machine.
LOCKS = Path(tempfile.gettempdir()) / f"autoddpm-devices-{os.getuid()}"


def jobs_at_once(trainer: DictConfig) -> int:
    """Number of jobs that `hydra/launcher=gpus` runs at once: one per GPU, and at least one.

    It is one with `trainer=cpu`.

    trainer: as in `conf/trainer`.

    Raises SystemExit unless a job asks for one device. OmegaConf calls this for
    `conf/hydra/launcher/gpus.yaml` and would bury any other error in its traceback.
    """
    if trainer.devices != 1:
        raise SystemExit(
            f"trainer.devices={trainer.devices}: hydra/launcher=gpus gives each job one GPU; use "
            "trainer=gpu, or leave the launcher out and run one job after the other on all GPUs"
        )
    return max(1, _gpus_here(trainer))


def gpus_of_job(trainer: DictConfig) -> int | None:
    """Number of GPUs that `hydra/launcher=slurm` asks for: the trainer's devices.

    Returns None, no request, with `trainer=cpu`.

    Raises SystemExit, as `jobs_at_once`, if the configuration gives no number.
    """
    if not isinstance(trainer.devices, int) or trainer.devices < 1:
        raise SystemExit(
            f"trainer.devices={trainer.devices}: hydra/launcher=slurm needs a number: "
            "trainer.devices=4"
        )
    return None if trainer.accelerator == "cpu" else trainer.devices


@contextmanager
def claimed_device(trainer: DictConfig) -> Iterator[int | str | list[int]]:
    """Give `devices` for this job's Trainer, and hold the GPU until the end.

    In a multirun with one GPU per job it is [number] of a GPU that no other job has. While there is
    none, the job waits. In any other run it is what the configuration says.

    trainer: as in `conf/trainer`.
    """
    count = _gpus_here(trainer)
    if HydraConfig.get().mode != RunMode.MULTIRUN or trainer.devices != 1 or not count:
        yield trainer.devices
        return
    names = [str(torch.cuda.get_device_properties(number).uuid) for number in range(count)]
    # This process has memory on the current device already.
    with claimed(names, LOCKS, first=torch.cuda.current_device()) as number:
        yield [number]


@contextmanager
def claimed(
    names: Sequence[str], folder: Path, first: int = 0, every_s: float = 1.0
) -> Iterator[int]:
    """Hold the lock of the first free one of `names`, and give its place among them.

    The lock is a file lock of the operating system, on `folder/NAME.lock`. It is released when the
    process that holds it ends, even by a crash.

    folder: of the lock files.
    first: the place at which the search starts.
    every_s: seconds between two tries while all are taken.
    """
    order = [*range(first, len(names)), *range(first)]
    locks = [folder / f"{names[number]}.lock" for number in order]
    with in_turn(locks, "a free GPU", every_s) as place:
        yield order[place]


def _gpus_here(trainer: DictConfig) -> int:
    return 0 if trainer.accelerator == "cpu" else torch.cuda.device_count()
