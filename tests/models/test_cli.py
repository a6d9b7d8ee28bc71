"""The console script: what its commands write, and one line for bad input."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from test_authors_weights import SMALL, authors_names, network, save
from test_weights_file import entry, make, save_checkpoint

from autoddpm import __version__, cli
from autoddpm.atomic import write_json
from autoddpm.models.trained import load_checkpoint
from autoddpm.models.weights_file import write_weights

pytestmark = pytest.mark.usefixtures("one_thread")


def run(*arguments: str | Path) -> int:
    return cli.main([str(argument) for argument in arguments])


@pytest.fixture
def authors_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("autoddpm.models.authors_weights.PAPER_NETWORK", SMALL)
    return save(authors_names(network()), tmp_path / "best_model.pt")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--help"], "import-weights"),
        (["export-weights", "--help"], "--half"),
        (["--version"], f"autoddpm {__version__}"),
    ],
)
def test_help_and_version(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        run(*arguments)
    assert end.value.code == 0
    assert words in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [[], ["export-weights", "x.ckpt"], ["fly"]])
def test_a_command_that_is_not_whole_is_explained(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        run(*arguments)
    assert end.value.code == 2
    assert "usage: autoddpm" in capsys.readouterr().err


def test_help_waits_for_no_library() -> None:
    code = (
        "import sys, autoddpm.cli as c\ntry: c.main(['--help'])\n"
        "finally: print({'torch', 'monai'} & set(sys.modules))"
    )
    src = str(Path(cli.__file__).parents[1])
    result = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": src},
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout.splitlines()[-1] == "set()"


def test_import_weights_writes_beside_the_file_or_where_asked(
    authors_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("import-weights", authors_file) == 0
    assert run("import-weights", authors_file, "--output", tmp_path / "a.safetensors") == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0].startswith(f"{tmp_path}/best_model.safetensors: ")
    assert out[1].startswith(f"{tmp_path}/a.safetensors: ")
    assert load_checkpoint(tmp_path / "best_model.safetensors").weights_hash == (
        load_checkpoint(tmp_path / "a.safetensors").weights_hash
    )


def test_bad_input_is_one_line_and_exit_code_1(
    authors_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = save({}, tmp_path / "bad.pt")
    for arguments, words in [
        (["import-weights", tmp_path / "none.pt"], f"autoddpm: {tmp_path}/none.pt: no such file"),
        (["import-weights", bad], f"autoddpm: {bad}: without unet.conv_in"),
        (["import-weights", authors_file, "--output", tmp_path / "x.ckpt"], "autoddpm: "),
        (["import-weights", authors_file, "--output", bad / "x.safetensors"], "autoddpm: "),
        (
            ["export-weights", tmp_path / "none.ckpt", tmp_path / "x.safetensors"],
            f"{tmp_path}/none.ckpt: no such file",
        ),
        (["export-weights", bad, tmp_path / "x.safetensors"], f"autoddpm: {bad}: not a checkpoint"),
    ]:
        assert run(*arguments) == 1
        captured = capsys.readouterr()
        assert captured.err.startswith(words) or words in captured.err
        assert captured.err.count("\n") == 1
        assert captured.out == ""
    assert not list(tmp_path.glob("*.safetensors"))


def test_export_weights_takes_a_checkpoint_and_its_thresholds(tmp_path: Path) -> None:
    path = save_checkpoint(make(tmp_path / "last.ckpt"), tmp_path / "last.ckpt")
    threshold = entry(load_checkpoint(path).weights_hash, 0.5)
    write_json(tmp_path / "last.thresholds.json", [threshold])
    assert run("export-weights", path, tmp_path / "x.safetensors") == 0
    exported = load_checkpoint(tmp_path / "x.safetensors")
    assert exported.step == 9
    assert exported.thresholds == [entry(exported.weights_hash, 0.5)]


def test_export_weights_in_half_and_in_shards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (path,) = write_weights(make(tmp_path / "last.ckpt"), tmp_path / "x.safetensors")
    assert run("export-weights", path, tmp_path / "half.safetensors", "--half") == 0
    assert (tmp_path / "half.safetensors").stat().st_size < 0.8 * path.stat().st_size
    assert run("export-weights", path, tmp_path / "one.safetensors", "--split") == 0
    assert load_checkpoint(tmp_path / "one.safetensors").path.is_file()
    monkeypatch.setattr("autoddpm.models.weights_file.SHARD_BYTES", 16_000)
    capsys.readouterr()
    assert run("export-weights", path, tmp_path / "s.safetensors", "--split") == 0
    shards = sorted(tmp_path.glob("s-*"))
    assert len(shards) > 2
    assert [line.split(": ")[0] for line in capsys.readouterr().out.splitlines()] == [
        str(shard) for shard in shards
    ]
