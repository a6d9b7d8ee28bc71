"""Of several GPUs each job has one to itself: laws of the lock files, and what the launchers ask
for."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from lightning import Trainer
from omegaconf import DictConfig, OmegaConf

from autoddpm.machine import devices
from autoddpm.machine.devices import (
    check_devices,
    claimed,
    claimed_device,
    cluster_plugins,
    gpus_of_job,
    jobs_at_once,
)

FORK = multiprocessing.get_context("fork")  # a new Python would import torch again
CPU = OmegaConf.create({"accelerator": "cpu", "devices": 1})
GPU = OmegaConf.create({"accelerator": "gpu", "devices": 1})
SOON = 0.01


def trainer(accelerator: str, number: int | str) -> DictConfig:
    return OmegaConf.create({"accelerator": accelerator, "devices": number})


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[int], None]:
    """A machine with so many GPUs, in a multirun."""

    def have(count: int) -> None:
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
        monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
        monkeypatch.setattr(
            torch.cuda,
            "get_device_properties",
            lambda number: SimpleNamespace(uuid=f"GPU-{number}"),
        )
        monkeypatch.setattr(devices, "LOCKS", tmp_path)
        in_mode(monkeypatch, RunMode.MULTIRUN)

    return have


def in_mode(monkeypatch: pytest.MonkeyPatch, mode: RunMode) -> None:
    monkeypatch.setattr(HydraConfig, "get", staticmethod(lambda: SimpleNamespace(mode=mode)))


# lock files


def test_the_first_free_one_is_taken_and_given_back(tmp_path: Path) -> None:
    with claimed("ab", tmp_path) as one, claimed("ab", tmp_path) as two:
        assert (one, two) == (0, 1)
    with pytest.raises(ZeroDivisionError), claimed("ab", tmp_path) as again:
        _ = 1 / again
    with claimed("ab", tmp_path) as again:
        assert again == 0


def test_the_search_begins_where_one_says_and_goes_round(tmp_path: Path) -> None:
    with claimed("abc", tmp_path, first=2) as one, claimed("abc", tmp_path, first=2) as two:
        assert (one, two) == (2, 0)


def use(folder: Path, times: int) -> None:
    """Claim one of two again and again; exit code 1 if another process has the same one."""
    for _ in range(times):
        with claimed("ab", folder, every_s=0.001) as number:
            held = folder / f"held-{number}"
            held.touch(exist_ok=False)
            time.sleep(0.002)
            held.unlink()


def test_processes_never_hold_the_same_one(tmp_path: Path) -> None:
    processes = [FORK.Process(target=use, args=(tmp_path, 25)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(30)
    assert [process.exitcode for process in processes] == [0, 0, 0, 0]


def hold(folder: Path, ready: Connection) -> None:
    with claimed("a", folder):
        ready.send(True)
        time.sleep(60)


def test_a_killed_holder_frees_it_and_until_then_others_wait(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ready, end = FORK.Pipe()
    holder = FORK.Process(target=hold, args=(tmp_path, end))
    holder.start()
    assert ready.recv()
    have = threading.Event()

    def wait() -> None:
        with claimed("a", tmp_path, every_s=SOON):
            have.set()

    waiter = threading.Thread(target=wait, daemon=True)
    with caplog.at_level("INFO"):
        waiter.start()
        assert not have.wait(20 * SOON)
    assert caplog.text.count("waiting for a free GPU, which another process has") == 1
    assert holder.pid is not None
    os.kill(holder.pid, signal.SIGKILL)
    assert have.wait(10)
    holder.join()
    waiter.join()


# the devices of a job


def test_jobs_of_a_multirun_have_one_gpu_each(gpus: Callable[[int], None]) -> None:
    gpus(2)
    with claimed_device(GPU) as one, claimed_device(GPU) as two:
        assert (one, two) == ([0], [1])
    with claimed_device(GPU) as again:
        assert again == [0]


def test_a_process_stays_on_the_gpu_where_it_has_memory(
    gpus: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    gpus(3)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    with claimed_device(GPU) as one:
        assert one == [1]


def test_locks_name_the_gpu_and_not_its_number_among_the_visible(
    gpus: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    gpus(2)
    with claimed_device(GPU):  # GPU-0
        monkeypatch.setattr(
            torch.cuda,
            "get_device_properties",
            lambda number: SimpleNamespace(uuid=f"GPU-{1 - number}"),
        )
        with claimed_device(GPU) as other:
            assert other == [0]  # the other GPU, which here is number 0


@pytest.mark.parametrize(
    ("config", "count"),
    [(CPU, 2), (GPU, 0), (trainer("gpu", 2), 4), (trainer("gpu", -1), 4)],
)
def test_with_no_gpu_or_several_per_job_the_configuration_stands(
    config: DictConfig, count: int, gpus: Callable[[int], None], tmp_path: Path
) -> None:
    gpus(count)
    with claimed_device(config) as found:
        assert found == config.devices
    assert not list(tmp_path.iterdir())


def test_a_single_run_takes_what_the_configuration_says(
    gpus: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    gpus(2)
    in_mode(monkeypatch, RunMode.RUN)
    with claimed_device(GPU) as one, claimed_device(GPU) as two:
        assert (one, two) == (1, 1)


# what the launchers ask for


@pytest.mark.parametrize(
    ("config", "count", "jobs"), [(GPU, 4, 4), (GPU, 1, 1), (GPU, 0, 1), (CPU, 4, 1)]
)
def test_as_many_jobs_at_once_as_gpus(
    config: DictConfig, count: int, jobs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    assert jobs_at_once(config) == jobs


@pytest.mark.parametrize("number", [2, -1, "auto"])
def test_a_job_of_several_gpus_is_refused_on_one_machine(number: int | str) -> None:
    with pytest.raises(SystemExit, match=f"trainer.devices={number}.*trainer=gpu"):
        jobs_at_once(trainer("gpu", number))


def test_a_cluster_is_asked_for_the_gpus_of_a_job() -> None:
    assert gpus_of_job(trainer("gpu", 4)) == 4
    assert gpus_of_job(trainer("cpu", 4)) is None
    for number in (-1, "auto", 0):
        with pytest.raises(SystemExit, match="needs a number"):
            gpus_of_job(trainer("gpu", number))


@pytest.mark.parametrize(
    ("variables", "devices", "begins_others"),
    [
        ({}, 1, False),
        ({"SLURM_NTASKS": "1"}, 1, False),
        ({"SLURM_NTASKS": "4"}, 1, True),  # a script without srun
        ({"SLURM_NTASKS": "4", "SLURM_JOB_NAME": "bash", "SLURM_STEP_NUM_TASKS": "4"}, 1, True),
        ({"SLURM_NTASKS": "1", "SLURM_JOB_NAME": "interactive"}, 2, True),
        ({"SLURM_NTASKS": "2", "SLURM_STEP_NUM_TASKS": "2"}, 2, False),  # srun, a task a device
    ],
)
def test_a_job_of_slurm_runs_as_many_processes_as_asked(
    variables: dict[str, str], devices: int, begins_others: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("SLURM_NTASKS", "SLURM_STEP_NUM_TASKS", "SLURM_JOB_NAME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    plugins = cluster_plugins(OmegaConf.create({"devices": devices}))
    assert bool(plugins) == begins_others
    if devices == 1:
        assert Trainer(accelerator="cpu", devices=1, plugins=plugins, logger=False).world_size == 1


@pytest.mark.parametrize(
    ("trainer", "words"),
    [
        ({"devices": 1}, "srun has started 4 processes, and 1 are asked for"),
        ({"devices": 2, "num_nodes": 4}, "use srun --ntasks=8"),
    ],
)
def test_tasks_of_srun_that_do_not_fit_are_refused(
    trainer: dict[str, int], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_NTASKS", "4")
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "4")
    monkeypatch.delenv("SLURM_JOB_NAME", raising=False)
    with pytest.raises(ValueError, match=words):
        cluster_plugins(OmegaConf.create(trainer))


def test_more_devices_than_there_are_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    check_devices(OmegaConf.create({"accelerator": "gpu", "devices": -1}))
    with pytest.raises(ValueError, match=r"trainer\.devices=3: this machine has 2"):
        check_devices(OmegaConf.create({"accelerator": "gpu", "devices": 3}))
