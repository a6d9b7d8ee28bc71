"""Which GPU a job of a multirun uses: one that no other job has, by a lock file."""

import logging
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from filelock import FileLock, Timeout
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

log = logging.getLogger(__name__)

#: On this machine, for all runs of this user.
LOCKS = Path(tempfile.gettempdir()) / f"autoddpm-devices-{os.getuid()}"


def jobs_at_once(trainer: DictConfig) -> int:
    """How many jobs `hydra/launcher=gpus` runs at once: one a GPU; one with `trainer=cpu`, or where
    there is no GPU.

    trainer: as in `conf/trainer`. Ends the program unless a job asks for one device: OmegaConf,
    which calls this for `conf/hydra/launcher/gpus.yaml`, would bury any other error in its
    traceback.
    """
    if trainer.devices != 1:
        raise SystemExit(
            f"trainer.devices={trainer.devices}: hydra/launcher=gpus gives each job one GPU; use "
            "trainer=gpu, or leave "
            "the launcher out and run one job after the other on all GPUs"
        )
    return max(1, _gpus_here(trainer))


def gpus_of_job(trainer: DictConfig) -> int | None:
    """How many GPUs `hydra/launcher=slurm` asks for: the trainer's devices; None (no request) with
    `trainer=cpu`.

    Ends the program where it is not said how many, as `jobs_at_once`.
    """
    if not isinstance(trainer.devices, int) or trainer.devices < 1:
        raise SystemExit(
            f"trainer.devices={trainer.devices}: hydra/launcher=slurm needs a number: "
            "trainer.devices=4"
        )
    return None if trainer.accelerator == "cpu" else trainer.devices


@contextmanager
def claimed_device(trainer: DictConfig) -> Iterator[int | str | list[int]]:
    """`devices` for this job's Trainer: in a multirun with one GPU a job, [the number of one that
    no other job has], waiting while there is none; it is given back at the end. Everywhere else
    what the configuration says.

    trainer: as in `conf/trainer`.
    """
    count = _gpus_here(trainer)
    if HydraConfig.get().mode != RunMode.MULTIRUN or trainer.devices != 1 or not count:
        yield trainer.devices
        return
    names = [str(torch.cuda.get_device_properties(number).uuid) for number in range(count)]
    with claimed(
        names, LOCKS, first=torch.cuda.current_device()
    ) as number:  # where this process has memory already
        yield [number]


@contextmanager
def claimed(
    names: Sequence[str], folder: Path, first: int = 0, every_s: float = 1.0
) -> Iterator[int]:
    """Hold the lock of one of `names` and give its place among them: the first that is free, from
    `first` on.

    The lock is the operating system's, on `folder/NAME.lock`: it ends with the process that has it,
    however that ends.
    every_s: seconds between two looks while all are taken.
    """
    folder.mkdir(parents=True, exist_ok=True)
    locks = [FileLock(folder / f"{name}.lock") for name in names]
    order = [*range(first, len(names)), *range(first)]
    waiting = False
    while (number := next((number for number in order if _acquired(locks[number])), None)) is None:
        if not waiting:
            log.info("every GPU is taken by another job (locks in %s): waiting", folder)
        waiting = True
        time.sleep(every_s)
    try:
        yield number
    finally:
        locks[number].release()


def _acquired(lock: FileLock) -> bool:
    try:
        lock.acquire(blocking=False)
    except Timeout:
        return False
    return True


def _gpus_here(trainer: DictConfig) -> int:
    return 0 if trainer.accelerator == "cpu" else torch.cuda.device_count()
