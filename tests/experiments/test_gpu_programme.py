"""experiments/gpu: what can be shown of the programme for a GPU without one."""

import json
import os
import shlex
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import ROOT, compose_config
from report_runs import AUTODDPM, write_row
from test_contracts import COMMANDS
from tiny import one_thread as one_thread

from autoddpm.data.store import COLUMNS
from autoddpm.datasets.packed import PackedStore, packed, write_packed
from autoddpm.detectors.detector import Detection
from autoddpm.machine import acceleration
from autoddpm.machine.acceleration import ALLOWED, Job, choose

GPU = ROOT / "experiments" / "gpu"
Runs = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    monkeypatch.syspath_prepend(str(GPU))
    return lambda name: __import__(name)


@pytest.fixture
def run(tmp_path: Path) -> Runs:
    """Runs a script with a Python that notes what it is asked for, and does what `does` says."""

    def started(
        name: str, *arguments: str, does: str = "", **given: str
    ) -> subprocess.CompletedProcess[str]:
        python = tmp_path / "bin" / "python"
        python.parent.mkdir(exist_ok=True)
        python.write_text(
            f'#!/bin/bash\necho "$@" >> {tmp_path}/asked\ncase "$*" in\n{does}\nesac\n'
        )
        python.chmod(0o755)
        paths = {"OUT": f"{tmp_path}/out", "WORK": f"{tmp_path}/work", "LOGS": f"{tmp_path}/logs"}
        path = f"{python.parent}:{os.environ['PATH']}"
        environment = os.environ | paths | {"PYTHON": str(python), "PATH": path} | given
        return subprocess.run(
            ["bash", str(GPU / name), *arguments],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )

    return started


def asked(folder: Path, part: str) -> list[str]:
    lines = (folder / "asked").read_text().splitlines()
    return [line for line in lines if part in line]


# the stages


@pytest.mark.parametrize(
    "arguments", [["chekc"], ["check", "speed=soon"], ["train=0"], [""]], ids=str
)
def test_what_is_no_stage_is_refused_before_anything_is_done(run, arguments, tmp_path):
    done = run("run.sh", *arguments)
    assert done.returncode == 2
    assert "run.sh: " in done.stderr
    assert not (tmp_path / "asked").exists()


# What the fake Python does for a stage's script.
TRAINED = """*src.train*)
    mkdir -p {0}/work/ixi-paper/csv/version_0
    touch {0}/work/ixi-paper/csv/version_0/metrics.csv {0}/out/ixi-paper.safetensors ;;"""
SPEED = """*speed.py*) for file in "${@:3}"; do echo '{"lines": []}' > "$file"; done"""


def test_a_check_that_fails_lets_the_speed_be_measured(run, tmp_path):
    speed = f"{SPEED} ;;"
    done = run("run.sh", "check=9", "speed=9", does=f"*m?pytest?-m*) exit 1 ;;\n{speed}")
    assert done.returncode == 1
    _, last = done.stdout.split("=== in ")
    assert [line.split()[:2] for line in last.splitlines()[1:3]] == [
        ["check", "NOT"],
        ["speed", "done"],
    ]
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"log.txt", "speed.json"}


def test_a_stage_that_is_cut_keeps_what_it_had_written(run, tmp_path):
    done = run("run.sh", "speed=1", does=f"{SPEED}; exec sleep 25 ;;")
    assert done.returncode == 1
    for folder in ("out", "work"):
        assert (tmp_path / folder / "speed.json").is_file()
    assert int(done.stdout.split("NOT DONE")[1].split()[0]) < 10


def test_a_cut_is_an_interrupt_even_in_the_background(run, tmp_path):
    """A shell has what it starts in the background ignore interrupts, and Python then does too."""
    python = "import time, sys\ntry: time.sleep(25)\nexcept KeyboardInterrupt: print('cut')"
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        done = run("run.sh", "speed=1", does=f'*speed.py*) exec {sys.executable} -c "{python}" ;;')
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    assert "\ncut\n" in done.stdout


def test_a_training_that_does_not_start_is_tried_plainly(run, tmp_path):
    fast = (
        "*choice.py*) echo callbacks.acceleration.compile=true ;;\n*src.train*compile*) exit 1 ;;"
    )
    run("run.sh", "train=90", does=fast)
    first, second = asked(tmp_path, "src.train")
    assert "callbacks.acceleration.compile=true trainer.max_time=${until:70," in first
    assert "callbacks.acceleration.compile=false trainer.max_time=${until:" in second


def test_a_training_that_has_ended_goes_on_only_if_given_more(run, tmp_path):
    for seconds in ("90", "90", "80", "91"):
        assert run("run.sh", f"train={seconds}", does=TRAINED.format(tmp_path)).returncode == 0
    begun = [line.split("${until:")[1].split(",")[0] for line in asked(tmp_path, "src.train")]
    assert begun == ["70", "71"]


def test_a_training_s_results_are_few_files(run, tmp_path):
    assert run("run.sh", "train=90", does=TRAINED.format(tmp_path)).returncode == 0
    brought = {path.name for path in (tmp_path / "out").iterdir()}
    assert brought == {"log.txt", "ixi-paper.safetensors", "results.tar.gz"}
    with tarfile.open(tmp_path / "out" / "results.tar.gz") as results:
        assert "./ixi-paper.csv" in results.getnames()


NAMES = ["restoration", "restoration-seed1", "small-seed1", "dae", "vae", "cevae"]
#: Each training writes where it is told to.
EACH = """*src.train*)
    for word in "$@"; do
        case $word in
            callbacks.export.path=*) touch "${word#*=}" ;;
            hydra.run.dir=*) mkdir -p "${word#*=}"/csv/version_0 "${word#*=}"/pictures
                echo step > "${word#*=}"/csv/version_0/metrics.csv ;;
        esac
    done ;;"""


def test_all_methods_are_trained_and_brought_back_in_few_files(run, tmp_path, monkeypatch):
    monkeypatch.setenv("DENOISER", "small.safetensors")
    assert run("run.sh", "methods=90", does=EACH).returncode == 0
    lines = asked(tmp_path, "src.train")
    assert len(lines) == len(NAMES)
    assert sum("begin_from=small.safetensors" in line for line in lines) == 2
    for line in lines:
        words = [word for word in shlex.split(line)[2:] if "until" not in word]
        compose_config("train", *words)
    brought = {path.name for path in (tmp_path / "out").iterdir()}
    weights = {f"ixi-{name}.safetensors" for name in NAMES[:3]}
    assert brought == weights | {"log.txt", "results.tar.gz", "rivals.tar"}
    with tarfile.open(tmp_path / "out" / "rivals.tar") as rivals:
        assert {Path(name).name for name in rivals.getnames()} >= {"ixi-dae.safetensors"}
    with tarfile.open(tmp_path / "out" / "results.tar.gz") as results:
        assert {f"./ixi-{name}.csv" for name in NAMES} <= {*results.getnames()}


def test_a_method_that_fails_does_not_stop_the_others(run, tmp_path):
    done = run("run.sh", "methods=90", does="*ixi_vae*) echo no memory; exit 1 ;;\n" + EACH)
    assert done.returncode == 1
    assert "NOT FINISHED: ixi-vae: no memory" in done.stdout
    assert len(asked(tmp_path, "src.train")) == len(NAMES)
    with tarfile.open(tmp_path / "out" / "rivals.tar") as rivals:
        assert len([name for name in rivals.getnames() if "safetensors" in name]) == 2


def test_rows_are_kept_even_if_their_tables_are_not_made(run, tmp_path):
    row = tmp_path / "work" / "runs" / "ixi_stroke" / "evaluate" / "row"
    row.mkdir(parents=True)
    for name in ("metrics.json", "maps.npz"):
        (row / name).touch()
    assert run("run.sh", "tables=9", does="*src.report*) exit 1 ;;").returncode == 1
    with tarfile.open(tmp_path / "out" / "results.tar.gz") as results:
        assert "./rows.tar" in results.getnames()
    with tarfile.open(tmp_path / "work" / "rows.tar") as kept:
        assert [Path(name).name for name in kept.getnames()] == ["evaluate", "row", "metrics.json"]


@pytest.fixture
def rows(run, tmp_path) -> list[list[str]]:
    """The overrides of each row, in the order in which they are begun."""
    done = run("tables.sh", "ixi-small", "0,1", "1", "data.size=128")
    assert done.returncode == 0
    return [shlex.split(line)[2:] for line in asked(tmp_path, "src.evaluate")]


def test_the_rows_compose_and_the_most_telling_come_first(rows):
    assert len({" ".join(row) for row in rows}) == len(rows) == 2 * (2 * 5 + 6 + 2)
    for row in rows[:5] + rows[10:18]:
        cfg = compose_config("evaluate", *row)
        assert (cfg.checkpoint, cfg.trainer.precision) == ("ixi-small", "bf16-mixed")
    strides = [compose_config("evaluate", *row).sampler.stride for row in rows[:2]]
    assert strides == [1, 10]
    precisions = [next(one for one in row if "precision" in one) for row in rows]
    assert precisions == sorted(precisions, key="trainer.precision=32-true".__eq__)


def test_a_row_that_fails_does_not_stop_the_others(run, tmp_path):
    done = run("tables.sh", "ixi-small", "0", "2", does="*stride=10*) exit 1 ;;")
    assert done.returncode != 0
    assert done.stdout.count("NOT FINISHED") == 2
    assert len(asked(tmp_path, "src.evaluate")) == 2 * 13


def test_the_programme_s_commands_are_among_those_that_compose():
    sources = {source for source, _ in COMMANDS}
    assert {f"experiments/gpu/{name}.sh" for name in ("run", "tables", "report")} <= sources


# speed, and what is chosen by it


@pytest.fixture
def speed(script, monkeypatch, one_thread) -> ModuleType:
    module = script("speed")
    if module.CUDA:
        pytest.skip("is measured in full here")
    monkeypatch.setattr(module, "LEAST", 0.0)
    monkeypatch.setattr(module, "END", float("inf"))
    monkeypatch.setattr(module, "EAGER", (module.EAGER[0], module.EAGER[-1]))
    return module


def test_speed_is_written_and_then_chosen_by(speed, tmp_path, monkeypatch, capsys):
    files = [tmp_path / "speed.json", tmp_path / "more" / "speed.json"]
    speed.main("inf", *map(str, files))
    written, again = (json.loads(file.read_text()) for file in files)
    assert written == again
    lines = written["lines"]
    assert {line["what"] for line in lines} >= {"call", "step", "plain detection"}
    assert not any("problem" in line for line in lines)
    assert "tiny    step  bf16  plain" in capsys.readouterr().out.split("cpu: of")[-1]

    way = {"what": "step", "layout": "channels_last", "fused_attention": True}
    (best,) = [line for line in lines if way.items() <= line.items()]
    best["slices/s"] = 3 * max(line.get("slices/s", 0) for line in lines)
    entry = {"training": speed.choice(lines, "step", "bf16")}
    assert entry["training"]["gain"] > 3
    monkeypatch.setattr(acceleration, "fastest_settings", lambda: {"GPU A": entry})
    job = Job("GPU A", "bf16-mixed", speed.parameters("tiny"))
    chosen = choose(dict.fromkeys(ALLOWED, "auto"), "cuda", True, job)
    assert chosen["layout"][0] == "channels_last"
    assert chosen["fused_attention"][0] is True
    assert chosen["compile"][0] is False


def test_what_does_not_pay_is_not_chosen(speed):
    common = {"what": "call", "model": "tiny", "precision": "bf16", "batch": speed.LARGE}
    plain = common | {
        "layout": "contiguous",
        "fused_attention": False,
        "engine": "eager",
        "slices/s": 100,
    }
    other = plain | {"layout": "channels_last", "slices/s": 104}
    compiled = other | {"engine": "compiled", "slices/s": 300}
    assert speed.choice([plain, other, compiled], "call", "bf16") is None
    assert speed.choice([plain, other | {"slices/s": 106}], "call", "bf16")["gain"] == 1.06


@pytest.mark.parametrize(
    ("problem", "said"),
    [
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried"),
            "OutOfMemoryError: CUDA out of memory",
        ),
        (TimeoutError("took more than 75 s"), "TimeoutError: took more than 75 s"),
    ],
    ids=["memory", "time"],
)
def test_what_cannot_be_measured_is_a_line_that_says_why(speed, problem, said):
    def measure() -> dict:
        raise problem

    line = speed.tried("call", "tiny", "bf16", speed.PLAIN, 512, measure)
    assert line["problem"].startswith(said)
    assert any(said in shown for shown in speed.summary([line], {}))


def test_speed_ends_with_its_time_and_says_what_it_has(speed, tmp_path, capsys, monkeypatch):
    lines = [{"what": "call", "model": "tiny", "problem": "none"}] * 3
    monkeypatch.setattr(speed, "measurements", lambda _: iter(lines))
    monkeypatch.setattr(speed, "compared", lambda *_: [])
    monkeypatch.setattr(speed, "summary", lambda lines, _: [f"{len(lines)} lines"])
    speed.main("0", str(tmp_path / "speed.json"))
    said = capsys.readouterr().out.splitlines()
    assert "the time is over" in said
    assert said[-1] == "1 lines"


def test_a_training_step_s_weights_are_cast_in_each_step(speed, monkeypatch):
    """Casts are kept as long as an autocast lasts: one around all steps would time other steps."""
    ended, end = [], torch.clear_autocast_cache
    monkeypatch.setattr(torch, "clear_autocast_cache", lambda: ended.append(end()))
    assert "problem" not in speed.step("tiny", speed.PLAIN)
    assert len(ended) >= 2


def test_what_takes_too_long_is_ended(speed):
    with pytest.raises(TimeoutError), speed.at_most(0.05):
        time.sleep(5)


def test_a_compilation_must_pay_in_the_time_that_there_is(script, tmp_path, capsys):
    plain = {
        "what": "step",
        "model": "paper",
        "precision": "bf16",
        "batch": 64,
        "layout": "contiguous",
    }
    plain |= {"fused_attention": False, "engine": "eager", "slices/s": 100.0, "first_s": 1.0}
    compiled = plain | {"engine": "compiled", "slices/s": 130.0, "first_s": 61.0}
    broken = {key: value for key, value in compiled.items() if key != "slices/s"} | {
        "problem": "took long"
    }
    file = tmp_path / "speed.json"
    file.write_text(json.dumps({"lines": [plain, compiled, broken]}))
    found = {}
    for stage, seconds in (("train", 200), ("train", 400), ("tables", 400)):
        script("choice").main(str(file), stage, str(seconds))
        found[stage, seconds] = capsys.readouterr().out.strip()
    assert "acceleration.compile=false" in found["train", 200]
    assert "acceleration.compile=true" in found["train", 400]
    assert found["tables", 400] == ""  # no call was measured
    tuned = plain | {"engine": "tuned", "slices/s": 200.0}
    file.write_text(json.dumps({"lines": [plain, compiled, tuned]}))
    script("choice").main(str(file), "train", "400")
    said = capsys.readouterr().out.split()
    assert {"callbacks.acceleration.compile=false", "+trainer.benchmark=true"} <= {*said}
    script("choice").main(str(tmp_path / "nothing.json"), "train", "200")
    assert capsys.readouterr().out.strip() == ""


# the same maps; as few calls


def detection(offset: float = 0.0, mask: bool = True) -> Detection:
    shape = 2, 1, 4, 4
    stages = {"mask": torch.full(shape, mask), "initial_map": torch.full(shape, 0.2)}
    return Detection(torch.full(shape, 0.1 + offset), torch.zeros(shape), torch.zeros(2), stages)


def test_maps_that_differ_end_the_check(script, capsys):
    compare = script("sameness").compare
    compare(detection(), detection(5e-5), "cuda")
    assert "mask pixels that differ 0" in capsys.readouterr().out
    for other in (detection(2e-4), detection(mask=False)):
        with pytest.raises(SystemExit, match="the maps differ"):
            compare(detection(), other, "cuda")


def seeds(runs: Path, stride: int, blurred: bool = False, count: int = 2) -> None:
    for seed in range(count):
        made_by = {
            "sampler": {"name": "Ancestral", "stride": stride},
            "seed": seed,
            "precision": "bf16-mixed",
        }
        folder = write_row(
            runs,
            f"stride-{stride}-{seed}",
            "AutoDDPM",
            AUTODDPM,
            None,
            provenance=made_by,
            metrics={"calls_per_slice": 450 / stride},
        )
        if blurred:  # a worse map, of which metrics.json says nothing here
            arrays = dict(np.load(folder / "maps.npz"))
            arrays["anomaly_map"] = arrays["anomaly_map"][::-1]
            np.savez(folder / "maps.npz", **arrays)


def test_fewer_calls_are_as_good_if_both_lower_ends_are_high(script, tmp_path, capsys):
    runs = tmp_path / "demo"
    seeds(runs / "evaluate", 1)
    seeds(runs / "evaluate", 10)
    seeds(runs / "evaluate", 50, blurred=True, count=3)
    script("fewer_calls").main(str(runs), "50")
    said = capsys.readouterr().out
    lines = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in said.splitlines()
        if "bf16" in line
    ]
    assert [(line[1], line[3], line[-1]) for line in lines[:2]] == [
        ("10", "2", "yes"),
        ("50", "2", "not shown"),
    ]
    assert lines[0][6] == "+0.0 to +0.0 %"
    assert said.endswith("bf16-mixed, 2 seed(s): as good as stride 1.\n")


def test_without_a_seed_in_common_nothing_is_said_of_fewer_calls(script, tmp_path, capsys):
    seeds(tmp_path / "demo" / "evaluate", 10, count=1)
    script("fewer_calls").main(str(tmp_path / "demo"), "20")
    assert "no seed in common" in capsys.readouterr().out


def store_of(splits: str, folder: Path) -> PackedStore:
    images = np.random.default_rng(0).random((len(splits), 1, 8, 8)).astype(np.float32)
    index = pd.DataFrame(dict.fromkeys(COLUMNS, ""), index=range(len(splits)))
    index["id"] = [f"s{number}" for number in range(len(splits))]
    index["split"] = [{"r": "train", "v": "val", "t": "test"}[split] for split in splits]
    store = PackedStore(folder, "0123", index, ("T1",))
    store.__dict__ |= {"images": images, "lesions": images > 0.5}
    return store


def test_each_third_slice_is_another_set_of_data(script, tmp_path):
    store = store_of("rrvttrv", tmp_path)
    few = script("pack").every(store, 3)
    assert list(few.index["id"]) == ["s0", "s3", "s6"]
    np.testing.assert_array_equal(few.images, store.images[[0, 3, 6]])
    assert few.hash != store.hash
    assert script("pack").every(store, 1) is store


def test_a_training_s_slices_are_packed_in_half_precision(script, tmp_path):
    store = store_of("rtv", tmp_path)
    few = script("pack").to_train(store)
    read = packed(write_packed({"ixi": few}, tmp_path / "packed.npz"), "ixi")
    assert list(read.index["split"]) == ["train", "val"]
    assert read.images.dtype == np.float32
    assert read.hash == few.hash != store.hash
    np.testing.assert_allclose(read.images, store.images[[0, 2]], atol=5e-4)
    np.testing.assert_array_equal(read.lesions, store.lesions[[0, 2]])


def test_a_training_s_last_validations_and_speed_are_shown(script, tmp_path, capsys):
    table, log = tmp_path / "train.csv", tmp_path / "train.log"
    table.write_text(
        "step,train/loss,val/loss\n9,0.5,\n19,,0.25\nstep,train/loss,val/loss\n29,,0.125\n"
    )
    log.write_text("[now][x][INFO] - begun\n[now][x][INFO] - 100.0 slices a second, 5 TFLOP/s\n")
    script("progress").main(str(table), str(log))
    assert capsys.readouterr().out.splitlines()[1:] == [
        "      19  0.25000",
        "      29  0.12500",
        "100.0 slices a second, 5 TFLOP/s",
    ]
