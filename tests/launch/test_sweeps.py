"""Multiruns: a failed job stays alone, what is finished stays, several processes, a cluster, a
search."""

import importlib
import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cloudpickle
import pytest
import yaml
from conftest import (
    ROOT,
    TINY_AUTODDPM,
    TINY_EVALUATION,
    TINY_TRAINING,
    Outcome,
    Site,
    Verb,
    compose_config,
)
from hydra.utils import instantiate
from joblib.externals.loky import get_reusable_executor
from omegaconf import OmegaConf

from autoddpm.detectors.anoddpm import AnoDDPM
from autoddpm.launch.failed_jobs import FailedJobs

TOO_MUCH = "detector.t=2000: must be a noise level from 1 to T=1000"
LAUNCHERS, SWEEPER = ("gpus", "slurm"), "optuna_mask"


@pytest.fixture
def own(site: Site, tmp_path: Path) -> tuple[str, ...]:
    """The shared data sets, and runs of this test alone."""
    return (*site.paths, f"paths.runs={tmp_path}")


def sweep(
    verb: Verb, own: tuple[str, ...], checkpoint: Path, *overrides: str, multirun: bool = True
) -> Outcome:
    flags = ("-m",) if multirun else ()
    settings = (*TINY_EVALUATION, "detector=anoddpm", f"checkpoint={checkpoint}", *own)
    return verb("evaluate", *flags, "+experiment=ixi_stroke", *settings, *overrides)


def row(folder: Path, t: int) -> Path:
    (found,) = (folder / "ixi_stroke" / "evaluate").glob(f"*detector.t-{t}+*")
    return found


def files(folder: Path) -> dict[str, int]:
    """Results and when they were written."""
    return {
        str(path): path.stat().st_mtime_ns
        for path in folder.rglob("*")
        if path.name in ("metrics.json", "maps.npz")
    }


def error_of(run: Path) -> str:
    content = json.loads((run / "failed.json").read_text())
    assert list(content) == ["error"]
    return content["error"]


def assert_only_2000_failed(outcome: Outcome, folder: Path) -> None:
    assert outcome.code == 1
    assert all((row(folder, t) / "metrics.json").is_file() for t in (20, 30))
    assert TOO_MUCH in error_of(row(folder, 2000))
    assert not any((row(folder, t) / "failed.json").exists() for t in (20, 30))
    *_, headline, line = outcome.err.rstrip().splitlines()
    assert headline.startswith("1 failed; the same command computes what is missing")
    assert line.strip().startswith(f"{row(folder, 2000)}: evaluate: {TOO_MUCH}")
    assert "Traceback" not in outcome.err + outcome.out
    assert not list(folder.rglob(".failed-*"))


# failures


@pytest.mark.slow
def test_a_refused_job_does_not_stop_the_others(
    verb: Verb, own: tuple[str, ...], checkpoint: Path, tmp_path: Path
) -> None:
    outcome = sweep(verb, own, checkpoint, "detector.t=2000,20,30")
    assert_only_2000_failed(outcome, tmp_path)
    assert outcome.out.count("[ERROR]") == 1
    before = files(tmp_path)
    again = sweep(verb, own, checkpoint, "detector.t=2000,20,30")
    assert_only_2000_failed(again, tmp_path)
    assert again.out.count("finished already") == 2
    assert files(tmp_path) == before


@pytest.mark.slow
def test_a_bug_is_logged_and_its_error_kept_until_a_success(
    verb: Verb,
    own: tuple[str, ...],
    checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reconstruct = AnoDDPM.reconstruct

    def fail(self: AnoDDPM, batch: Any, first: Any = None) -> Any:
        if self.t == 20:
            raise RuntimeError("a matrix of another shape")
        return reconstruct(self, batch, first)

    with monkeypatch.context() as broken:
        broken.setattr(AnoDDPM, "reconstruct", fail)
        outcome = sweep(verb, own, checkpoint, "detector.t=20,30")
    assert outcome.code == 1
    assert error_of(row(tmp_path, 20)) == "RuntimeError: a matrix of another shape"
    assert "in fail" in (row(tmp_path, 20) / "evaluate.log").read_text()
    assert (row(tmp_path, 30) / "metrics.json").is_file()
    assert "1 failed" in outcome.err

    done = sweep(verb, own, checkpoint, "detector.t=20,30")
    assert done.code == 0, done.err
    assert not list(tmp_path.rglob("failed.json"))
    assert (row(tmp_path, 20) / "metrics.json").is_file()
    assert done.out.count("finished already") == 1


def test_a_single_run_ends_as_ever_and_writes_no_failed_json(
    verb: Verb, own: tuple[str, ...], checkpoint: Path, tmp_path: Path
) -> None:
    outcome = sweep(verb, own, checkpoint, "detector.t=2000", multirun=False)
    assert outcome.code == 1
    assert outcome.err.splitlines()[-1].startswith(f"evaluate: {TOO_MUCH}")
    assert not list(tmp_path.rglob("failed.json"))


def test_each_job_of_a_training_multirun_fails_by_itself_too(
    verb: Verb, own: tuple[str, ...], tmp_path: Path
) -> None:
    overrides = (
        "+experiment=ixi",
        *TINY_TRAINING,
        *own,
        f"paths.ixi={tmp_path}/nowhere",
        "seed=0,1",
    )
    outcome = verb("train", "-m", *overrides)
    assert outcome.code == 1
    assert outcome.err.splitlines()[-3].startswith("2 failed")
    found = sorted(tmp_path.glob("ixi/train/*/failed.json"))
    assert [path.parent.name.split("seed-")[1][0] for path in found] == ["0", "1"]
    assert all("there is no such folder" in path.read_text() for path in found)


# several processes


@pytest.fixture
def processes(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Send a verb to a launcher's processes as `python -m` does: main by value, since __main__ is
    another one there."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    module = importlib.import_module("src.evaluate")
    cloudpickle.register_pickle_by_value(module)
    yield
    cloudpickle.unregister_pickle_by_value(module)
    get_reusable_executor(reuse=True).shutdown(kill_workers=True)


@pytest.mark.slow
def test_two_processes_share_jobs_and_a_rerun_fills_the_gaps(
    verb: Verb, own: tuple[str, ...], checkpoint: Path, tmp_path: Path, processes: None
) -> None:
    launcher = ("hydra/launcher=gpus", "hydra.launcher.n_jobs=2")
    outcome = sweep(verb, own, checkpoint, "detector.t=20,2000,30", *launcher)
    assert "n_jobs=2" in outcome.out
    assert_only_2000_failed(outcome, tmp_path)

    shutil.rmtree(row(tmp_path, 30))
    (row(tmp_path, 2000) / "failed.json").unlink()
    kept = files(tmp_path)
    again = sweep(verb, own, checkpoint, "detector.t=20,2000,30", *launcher)
    assert_only_2000_failed(again, tmp_path)
    assert again.out.count("finished already") == 1
    assert kept.items() <= files(tmp_path).items()


@pytest.mark.parametrize("name", ["train", "evaluate"])
def test_a_verb_can_be_sent_to_another_process(name: str) -> None:
    module = importlib.import_module(f"src.{name}")
    cloudpickle.register_pickle_by_value(module)
    try:
        assert callable(pickle.loads(cloudpickle.dumps(module.main)))
    finally:
        cloudpickle.unregister_pickle_by_value(module)


def test_the_callback_brings_resolvers_into_another_process() -> None:
    callback = FailedJobs()
    callback.on_multirun_start(compose_config("train", hydra=True))
    sent = pickle.dumps(callback)
    OmegaConf.clear_resolver("slug")
    pickle.loads(sent)
    assert OmegaConf.create({"name": "${slug:a/b}"}).name == "a_b"


# what is composed


@pytest.mark.parametrize("verb_name", ["train", "evaluate"])
@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_a_launcher_goes_with_an_experiment(verb_name: str, launcher: str) -> None:
    overrides = (f"hydra/launcher={launcher}", "+experiment=demo", "trainer=gpu")
    cfg = compose_config(verb_name, *overrides, hydra=True)
    OmegaConf.resolve(cfg.hydra.launcher)
    assert {callback["_target_"] for callback in cfg.hydra.callbacks.values()} == {
        f"{FailedJobs.__module__}.FailedJobs"
    }
    assert isinstance(instantiate(cfg.hydra.callbacks.failed_jobs), FailedJobs)


def test_a_cluster_is_asked_for_a_task_per_device_and_to_requeue() -> None:
    cfg = compose_config(
        "train", "hydra/launcher=slurm", "trainer=ddp", "trainer.devices=4", hydra=True
    )
    launcher = cfg.hydra.launcher
    assert (launcher.tasks_per_node, launcher.gpus_per_node) == (4, 4)
    assert launcher.max_num_timeout > 0
    cpu = compose_config("evaluate", "hydra/launcher=slurm", hydra=True).hydra.launcher
    assert (cpu.tasks_per_node, cpu.gpus_per_node) == (1, None)


@pytest.mark.parametrize(
    ("launcher", "words"), [("gpus", "one GPU; use trainer=gpu"), ("slurm", "trainer.devices=4")]
)
def test_a_launcher_refuses_devices_it_cannot_give_before_jobs(
    launcher: str, words: str, verb: Verb, own: tuple[str, ...], tmp_path: Path
) -> None:
    outcome = verb("train", "-m", f"hydra/launcher={launcher}", "trainer=ddp", "seed=0,1", *own)
    assert outcome.code == 1
    assert words in outcome.err.splitlines()[-1]
    assert "Traceback" not in outcome.err
    assert not list(tmp_path.rglob("*.log"))


# a search


COUNTS = {"calibration": {"val": 2}, "tuning": {"test_healthy": 1, "test_lesion": 2}}


def test_tuning_and_test_phantoms_differ_and_calibrate_alike(site: Site) -> None:
    small = ("data.size=32", *site.paths)
    phantom = ("train=1", "val=2", "test_healthy=1", "test_lesion=2")
    ours = instantiate(tuning_data(site), _convert_="all")
    overrides = [f"data.sources.phantom.{count}" for count in phantom]
    theirs = instantiate(
        compose_config("evaluate", "data=phantom", *small, *overrides).data, _convert_="all"
    )
    assert ours.hash("calibrate") == theirs.hash("calibrate")
    assert len(ours.index("test")) == len(theirs.index("test")) == 3
    assert not set(ours.index("test")["sha256"]) & set(theirs.index("test")["sha256"])
    seen = {subject for role in ("train", "calibrate", "test") for subject in theirs.subjects(role)}
    assert not set(ours.subjects("test")) & seen


def tuning_data(site: Site) -> Any:
    return compose_config("evaluate", *tuning(site)).data


def tuning(site: Site) -> tuple[str, ...]:
    counts = [
        f"data.sources.{source}.{k}={n}"
        for source, given in COUNTS.items()
        for k, n in given.items()
    ]
    return ("data=phantom_tuning", "data.size=32", *site.paths, *counts)


@pytest.mark.slow
def test_a_search_on_tuning_phantoms_finds_the_best_repeatably(
    verb: Verb, site: Site, checkpoint: Path, tmp_path: Path
) -> None:
    search = (f"hydra/sweeper={SWEEPER}", "name=tuning", "hydra.sweeper.n_trials=2")
    settings = (*tuning(site), *TINY_AUTODDPM[1:], "sampler.stride=50", f"checkpoint={checkpoint}")
    settings = tuple(
        s for s in settings if s not in ("detector.t=30", "detector=autoddpm")
    )  # the sweeper gives them
    outcome = verb("evaluate", "-m", *search, *settings, f"paths.runs={tmp_path}")
    assert outcome.code == 0, outcome.err
    folder = tmp_path / "tuning" / "evaluate"
    rows = [json.loads(path.read_text()) for path in folder.glob("*/metrics.json")]
    found = {row["detector"]["t"]: row["metrics"]["lesion/max_dice"] for row in rows}
    assert len(found) == 2
    best = yaml.safe_load((folder / "optimization_results.yaml").read_text())
    assert best["best_value"] == max(found.values())
    assert found[best["best_params"]["detector.t"]] == best["best_value"]
    expected = instantiate(tuning_data(site), _convert_="all").hash("test")
    assert {row["provenance"]["data_hash"] for row in rows} == {expected}

    before = files(tmp_path)
    again = verb("evaluate", "-m", *search, *settings, f"paths.runs={tmp_path}")
    assert again.code == 0, again.err
    assert files(tmp_path) == before


# a cluster


def slurm_is_up() -> bool:
    if not shutil.which("sbatch"):
        return False
    found = subprocess.run(["sinfo", "-h", "-o", "%T"], capture_output=True, text=True, timeout=30)
    return any(state in found.stdout for state in ("idle", "mixed"))


@pytest.mark.slow
@pytest.mark.skipif(
    not slurm_is_up(),
    reason="needs a Slurm cluster that answers `sinfo` and takes jobs with sbatch",
)
def test_slurm_runs_the_jobs_and_tells_which_failed(
    site: Site, checkpoint: Path, tmp_path: Path
) -> None:
    overrides = (
        *TINY_EVALUATION,
        "detector=anoddpm",
        "detector.t=20,30,2000",
        f"checkpoint={checkpoint}",
        *site.paths,
    )
    launcher = ("hydra/launcher=slurm", "hydra.launcher.timeout_min=5")
    command = [
        sys.executable,
        "-m",
        "src.evaluate",
        "-m",
        "+experiment=ixi_stroke",
        *overrides,
        *launcher,
    ]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, f"paths.runs={tmp_path}"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert_only_2000_failed(Outcome(done.returncode, done.stdout, done.stderr), tmp_path)
