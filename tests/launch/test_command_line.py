"""The command line of a verb: any path, lines that can be pasted, and errors in one line."""

import errno
import os
import shlex
from pathlib import Path

import pytest
from conftest import TINY_EVALUATION, TINY_TRAINING, Verb, write_ixi, write_stroke
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from autoddpm.launch.command_line import command, home_expanded, pasteable, understood
from autoddpm.launch.reasons import known_reason, reason

NAMES = (
    *("müller", "a b", "x(1)", "k=v", "a,b", "a#b", "[a]", "{a}", "a:b", "it's", 'q"q', "c$d"),
    *(
        "100%",
        "2024_10",
        "a;b&c",
        "ä,(=#) [x]",
        "a\\b",
        "$(x)",
        "日本",
        "1e3",
        "true",
        "a ~ b",
        "`x`",
    ),
)


def value_of(argument: str, *more: str) -> object:
    (read,) = understood([*more, argument])[len(more) :]
    return OverridesParser.create().parse_override(read).value()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "heim ß"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    return folder


@pytest.mark.parametrize("name", NAMES)
def test_a_path_of_any_name_is_read_and_printed_to_be_pasted(name: str) -> None:
    for path in (name, f"/data/{name}/last.ckpt", f"../{name}/x"):
        assert value_of(f"checkpoint={path}") == path
        (pasted,) = shlex.split(pasteable("checkpoint", path))
        assert OverridesParser.create().parse_override(pasted).value() == path
        assert value_of(pasted) == path
        assert value_of(pasted, "-m") == path


def test_a_plain_path_is_printed_without_quotes() -> None:
    assert pasteable("checkpoint", "/data/last.ckpt") == "checkpoint=/data/last.ckpt"


@pytest.mark.parametrize("given", ["~/x", "'~/x'", '"~/x"'])
def test_the_home_folder_is_meant_by_a_tilde(given: str, home: Path) -> None:
    assert value_of(f"paths.runs={given}") == str(home / "x")
    assert value_of(f"data.sources.healthy.index={given}") == str(home / "x")


def test_the_home_folder_is_known_in_lists_and_mappings(home: Path) -> None:
    assert value_of("a={b: ~/x, c: [~/y,1]}") == {"b": f"{home}/x", "c": [f"{home}/y", 1]}


def test_nobody_s_home_is_refused() -> None:
    with pytest.raises(SystemExit, match=r"paths\.runs=~nobody_here/x: ~nobody_here is no user"):
        understood(["paths.runs=~nobody_here/x"])


def test_a_tilde_of_a_file_or_of_the_environment_is_home(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOMEWHERE", "~/sets")
    paths = {"data": "${oc.env:SOMEWHERE}", "ixi": "${paths.data}/ixi"}
    config = home_expanded(OmegaConf.create({"paths": paths, "a": {"b": ["~/c", "~", 3, "x~"]}}))
    assert config.paths.ixi == str(home / "sets" / "ixi")
    assert config.a.b == [str(home / "c"), str(home), 3, "x~"]


def test_a_sweep_has_its_values_and_existing_files_their_commas(home: Path, tmp_path: Path) -> None:
    (tmp_path / "a,ü.ckpt").touch()
    assert understood(["detector.t=1,2", "-m"]) == ["-m", "detector.t=1,2"]
    both = understood(["-m", "checkpoint=/ä.ckpt,~/b.ckpt"])[1]
    sweep = OverridesParser.create().parse_override(both)
    assert [str(one.text) for one in sweep.value().list] == ["/ä.ckpt", f"{home}/b.ckpt"]
    assert value_of(f"checkpoint={tmp_path}/a,ü.ckpt", "-m") == f"{tmp_path}/a,ü.ckpt"


@pytest.mark.parametrize(
    "argument",
    [
        *("~paths", "seed=3", "a=[1,2]", "a={b: c}", "checkpoint=null", "name=${x}", "-cd=x"),
        *("t=range(1,3)", "a='b c'", "module.lr=1e-4", "paths.ixi=${paths.data}/ixi"),
    ],
)
def test_what_hydra_understands_is_left_as_it_is(argument: str) -> None:
    assert understood([argument]) == [argument]


@pytest.mark.slow
def test_training_to_report_in_a_folder_of_a_strange_name(
    verb: Verb, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = home / "ä,(=#) [x] it's"
    write_ixi(folder / "data" / "ixi", train=3, val=1, test=1)
    write_stroke(folder / "data" / "ixi_stroke", ["healthy", "small", "large"])
    monkeypatch.setenv("AUTODDPM_DATA", f"~/{folder.name}/data")
    monkeypatch.chdir(home)
    own = (f"paths.runs=~/{folder.name}/runs", f"paths.prepared={folder.name}/prepared", "name=n")
    done = verb("train", "+experiment=ixi", *TINY_TRAINING, *own, "trainer.max_steps=1")
    assert done.code == 0, done.err
    (line,) = [one for one in done.out.splitlines() if "checkpoint=" in one]
    (pasted,) = shlex.split(line[line.index("'checkpoint=") :])
    strokes = f"paths.ixi_stroke={folder}/data/ixi_stroke"
    row = ("+experiment=ixi_stroke", *TINY_EVALUATION, "detector=anoddpm", *own, strokes, pasted)
    assert verb("evaluate", *row, "detector.t=20,30", "-m").code == 0
    assert len(list(folder.glob("runs/n/evaluate/*/metrics.json"))) == 2
    assert verb("report", "+experiment=ixi_stroke", *own, "report.resamples=20").code == 0
    assert not (home / "~").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("train", "data=foo"), "data=foo: there is no such choice; There are atlas,"),
        (("train", "data=phantoms"), "did you mean phantom?"),
        (("train", "module.learning_rat=1"), "module.learning_rat: there is no such setting"),
        (("train", "trainer.max_step=1"), "did you mean trainer.max_steps?"),
        (("train", "module.lr=1,2"), "several values need -m"),
        (("train", "module.lr=[1"), "module.lr=[1: is not understood"),
        (("train", "foo"), "foo: is not understood"),
        (("train", "~foo"), "'foo' does not exist"),
        (("train", "hydra/launcher=gpu"), "did you mean gpus?"),
        (("train", "seed=${nix}"), "Interpolation key 'nix' not found"),
        (("train", "trainer=gpu"), "trainer.accelerator=gpu: PyTorch finds no such device"),
        (("train", "trainer.accelerator=mps"), "use trainer=cpu"),
        (("train", "+exclude=[a]"), "+exclude: there is no such setting, and nothing would read"),
        (("prepare", "+exclude=[a]"), "+exclude: there is no such setting"),
        (("train", "seed=a=b", "data=phantom"), "seed=a=b: must be a number"),
        (("train", "data.batch_size=0"), "data.batch_size=0: must be a whole number of at least 1"),
        (("train", "data.num_workers=x"), "data.num_workers=x: must be a whole number"),
        (("evaluate", "trainer=ddp"), "trainer.accelerator=gpu: PyTorch finds no such device"),
        (("report", "report.slides=[a]"), "report.slides: there is no such setting"),
        (("prepare", "+experiment=nix"), "experiment=nix: there is no such choice"),
        (("predict", "detector=nix"), "detector=nix: there is no such choice"),
    ],
)
def test_what_libraries_refuse_is_one_line_of_ours(
    arguments: tuple[str, ...],
    words: str,
    verb: Verb,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    name, *rest = arguments
    outcome = verb(name, *rest, f"paths.runs={tmp_path}")
    assert outcome.code == 1
    (line,) = outcome.err.rstrip().splitlines()
    assert line.startswith(f"{name}: ")
    assert words in line


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("+trainer.foo=1", "trainer.foo: "),
        ("trainer.precision=7", "trainer"),
        ("trainer.strategy=foo", "trainer: "),
        ("trainer.devices=0", "trainer"),
        ("trainer.max_steps=abc", "trainer.max_steps=abc"),
        ("module.lr=-1", "module.lr=-1: must be above 0"),
        ("module.weight_decay=-1", "module.weight_decay=-1: must be 0 or more"),
    ],
)
def test_what_lightning_refuses_names_its_setting(
    override: str, named: str, verb: Verb, tmp_path: Path
) -> None:
    write_ixi(tmp_path / "data" / "ixi", train=3, val=1, test=1)
    paths = [f"paths.{key}={tmp_path / key}" for key in ("data", "prepared", "runs")]
    outcome = verb("train", "+experiment=ixi", *TINY_TRAINING, *paths, override)
    assert outcome.code == 1
    (line,) = outcome.err.rstrip().splitlines()
    assert named in line
    assert "not expected" not in line


@pytest.mark.parametrize("where", ["a_file", "a_file/below"])
def test_a_run_folder_that_cannot_be_made_names_its_setting(
    where: str, verb: Verb, tmp_path: Path
) -> None:
    (tmp_path / "a_file").touch()
    outcome = verb("train", "+experiment=ixi", f"paths.runs={tmp_path / where}")
    assert outcome.code == 1
    (line,) = outcome.err.rstrip().splitlines()
    assert line.startswith(f"train: {tmp_path / 'a_file'}")
    assert "name another place: paths.runs=DIR" in line


def test_a_reader_that_has_enough_of_the_help_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def main() -> None:
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    closed: list[int] = []
    monkeypatch.setattr(os, "dup2", lambda null, out: closed.append(out))
    monkeypatch.setattr("sys.argv", ["train.py", "--help"])
    with pytest.raises(SystemExit) as end:
        command("train")(main)()
    assert end.value.code == 0
    assert len(closed) == 1
    monkeypatch.setattr("sys.argv", ["train.py"])
    with pytest.raises(SystemExit, match="Broken pipe"):
        command("train")(main)()


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.EACCES, "permission denied; give yourself the right to it"),
        (errno.EROFS, "cannot be written"),
        (errno.ENOSPC, "the disk is full; free some space"),
        (errno.ENAMETOOLONG, "name=..."),
        (errno.EMFILE, "ulimit -n"),
    ],
)
def test_what_the_system_refuses_names_file_and_remedy(number: int, words: str) -> None:
    error = OSError(number, os.strerror(number), "/sets/prepared/x.npy")
    said = known_reason(error, {"paths.prepared": "/sets/prepared", "paths.data": "/sets"})
    assert said is not None
    assert said.startswith("/sets/prepared/x.npy: ")
    assert words in said
    assert "paths.data" not in said


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), "data.eval_batch_size=1"),
        (MemoryError(), "data.batch_size=4"),
        (RuntimeError("DataLoader worker (pid 3) is killed by signal: Killed."), "num_workers=0"),
        (
            RuntimeError("DataLoader worker: Bus error, out of shared memory"),
            "--shm-size",
        ),
        (RuntimeError("PytorchStreamWriter failed writing file data/0"), "the disk is full"),
        (RuntimeError("cannot cache function 'f': no locator available"), "NUMBA_CACHE_DIR"),
        (RuntimeError("You set `--ntasks=2` in your SLURM bash script"), "--ntasks-per-node"),
        (RuntimeError('no "srun", are you indeed on a slurm cluster?'), "hydra/launcher=gpus"),
        (ModuleNotFoundError("No module named 'wandb'", name="wandb"), "'autoddpm[wandb]'"),
        (ModuleNotFoundError("No module named 'optuna'", name="optuna"), "'autoddpm[optuna]'"),
        (TypeError("Cannot convert a MPS Tensor to float64 dtype"), "use trainer=cpu"),
        (RuntimeError("CUDA error: no kernel image is available"), "does not fit this GPU"),
    ],
)
def test_a_library_s_error_becomes_its_remedy(error: Exception, words: str) -> None:
    said = reason(error)
    assert words in said
    assert "not expected" not in said


def test_an_error_that_nobody_knows_says_how_to_see_more() -> None:
    said = reason(KeyError("x\ny"))
    assert said.startswith("KeyError: ")
    assert "HYDRA_FULL_ERROR=1" in said
    assert "\n" not in said


def test_wandb_without_a_login_says_both_remedies() -> None:
    errors = pytest.importorskip("wandb.errors")
    said = reason(errors.UsageError("api_key not configured (no-tty)"))
    assert "wandb login" in said
    assert "offline=true" in said


def test_the_console_script_knows_home(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from autoddpm import cli

    assert cli.main(["export-weights", "~/none.ckpt", "~/x.safetensors"]) == 1
    assert f"{home}/none.ckpt: no such file" in capsys.readouterr().err
    assert cli.main(["predict", "~nobody_here/a.nii", "-o", "x"]) == 1
    assert "~nobody_here is no user" in capsys.readouterr().err
