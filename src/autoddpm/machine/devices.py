"""Choice of a GPU for each job of a multirun: one that no other job has, by a lock file."""

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from lightning.pytorch.plugins.environments import LightningEnvironment
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


def check_devices(trainer: DictConfig) -> None:
    """Refuse devices that this machine has not, before any work.

    trainer: as in `conf/trainer`.

    Raises ValueError that names the setting.
    """
    accelerator, devices = str(trainer.accelerator), trainer.devices
    count = {"cpu": None, "gpu": _any_gpus(), "cuda": torch.cuda.device_count()}.get(accelerator)
    if accelerator == "mps":
        count = int(torch.backends.mps.is_available())
    if count == 0:
        raise ValueError(
            f"trainer.accelerator={accelerator}: PyTorch finds no such device on this machine; use "
            "trainer=cpu, or install the PyTorch that fits the GPU and its driver (pytorch.org)"
        )
    if count is not None and isinstance(devices, int) and devices > count:
        raise ValueError(
            f"trainer.devices={devices}: this machine has {count}; use trainer.devices={count}"
        )


def cluster_plugins(trainer: DictConfig) -> list[Any]:
    """The plugin that has a job of Slurm run as many processes as `trainer.devices` asks for.

    Lightning takes each job with SLURM_NTASKS for one that srun has started, task by task. An
    interactive job and a script without srun are one process, which begins the others itself.

    trainer: as in `conf/trainer`.

    Raises ValueError if srun has started another number of processes than is asked for.
    """
    if "SLURM_NTASKS" not in os.environ:
        return []
    tasks = _tasks_of_srun()
    nodes = int(trainer.get("num_nodes") or 1)
    wanted = trainer.devices * nodes if isinstance(trainer.devices, int) else None
    if tasks > 1 and wanted is not None and wanted > 0 and tasks != wanted:
        raise ValueError(
            f"trainer.devices={trainer.devices}: srun has started {tasks} processes, and "
            f"{wanted} are asked for; use srun --ntasks={wanted}, or trainer.devices={tasks}"
        )
    if tasks == 1 and nodes > 1:
        raise ValueError(
            f"trainer.num_nodes={nodes}: one process was started; start the command with srun, one "
            "task per GPU"
        )
    by_srun = tasks > 1 or (wanted == 1 and os.environ["SLURM_NTASKS"] == "1")
    return [] if by_srun else [LightningEnvironment()]


def _tasks_of_srun() -> int:
    """The processes that srun has started beside this one, and this one."""
    number = os.environ.get("SLURM_STEP_NUM_TASKS", "1")
    is_interactive = os.environ.get("SLURM_JOB_NAME") in ("bash", "interactive")
    return int(number) if number.isdecimal() and not is_interactive else 1


def _any_gpus() -> int:
    return torch.cuda.device_count() or int(torch.backends.mps.is_available())


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
