"""README and getting-started as a newcomer works through them: each command as it is written, by
bash, in a folder of its own, on small copies of the downloads.

The copied configuration is that of tiny networks and few steps. Nothing is installed. It takes
minutes, mostly to import libraries, and is not of the suite: `make newcomer` runs it.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import ROOT, single_thread
from fenced import blocks
from raw_trees import write_atlas_tree, write_ixi_tree
from released import write_released

from autoddpm.datasets.published import published

DOCUMENTS = (ROOT / "README.md", ROOT / "docs" / "getting-started.md")
COPIED = ("src", "conf", "experiments", "pyproject.toml", "Makefile")
#: What the documents leave to the reader.
STANDS_FOR = {"FILE": "ixi-small", "PATH": "sub-01_T1w.nii.gz"}
INSTALLS = re.compile(r"^pip install .*$", re.MULTILINE)
#: The data sets whose command is whole in README's table.
OFFERED = re.compile(r"^\|.*\| `(?P<rest>\+experiment=[^`]*)` \|$", re.MULTILINE)

#: What is made small in the copied configuration: a file, what is there, and what instead.
SMALLER = (
    ("preparation/ixi.yaml", "brain_mask: deepbet", "brain_mask: nonzero"),
    ("preparation/ixi.yaml", "n4: true", "n4: false"),
    ("preparation/volumes.yaml", "brain_mask: deepbet", "brain_mask: nonzero"),
    ("data/base/slices.yaml", r"^size: \d+", "size: 32"),
    ("experiment/demo.yaml", r"^  size: \d+", "  size: 32"),
    ("experiment/demo.yaml", r"^  stride: \d+", "  stride: 50"),
    ("experiment/demo.yaml", r"( (?:train|val|test_\w+)): \d+", r"\1: 3"),
    ("experiment/demo.yaml", r"^  max_steps: \d+", "  max_steps: 4"),
    ("experiment/ixi.yaml", r"^  max_steps: \d+", "  max_steps: 4"),
)
#: Files of it that stand in the place of others.
INSTEAD = {
    "model/small.yaml": "model/tiny.yaml",
    "perceptual/default.yaml": "perceptual/denoiser.yaml",
}

#: What there is to look at in the end.
PAGES = {
    *(f"{name}/report/index.html" for name in ("data/ixi", "data/ixi_stroke", "data/atlas", "OUT")),
    *(f"runs/{name}/report/index.html" for name in ("demo", "ixi_stroke")),
    *(f"{name}/sub-01_T1w/report.html" for name in ("out", "DIR")),
}


@dataclass
class Newcomer:
    """Somebody in a folder, with a shell."""

    folder: Path

    def types(self, text: str) -> str:
        """What the commands print; the first that fails ends it."""
        text = re.sub(rf"\b({'|'.join(STANDS_FOR)})\b", lambda m: STANDS_FOR[m[1]], text)
        environment = os.environ | {
            "PATH": f"{self.folder / '.venv' / 'bin'}:{os.environ['PATH']}",
            "PYTHONPATH": str(self.folder / "src"),
            "OMP_NUM_THREADS": "1",
        }
        environment.pop("AUTODDPM_DATA", None)
        done = subprocess.run(
            ["bash", "-euxo", "pipefail", "-c", text],
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


def write_environment(folder: Path) -> None:
    """What `make` takes for a finished installation."""
    programs = folder / ".venv" / "bin"
    programs.mkdir(parents=True)
    (programs / "activate").touch()
    (programs / "python").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    call = "from autoddpm.cli import main; main()"
    (programs / "autoddpm").write_text(f'#!/bin/sh\nexec {sys.executable} -c "{call}" "$@"\n')
    for program in programs.iterdir():
        program.chmod(0o755)
    (folder / ".venv" / "installed").touch()


def make_small(conf: Path) -> None:
    """Change the settings that make the commands long."""
    for name, other in INSTEAD.items():
        shutil.copy2(conf / other, conf / name)
    for name, there, instead in SMALLER:
        text, count = re.subn(there, instead, (conf / name).read_text(), flags=re.MULTILINE)
        assert count, (name, there)
        (conf / name).write_text(text)


def write_downloads(folder: Path) -> None:
    """IXI with subjects of each split, ATLAS, volumes in a folder."""
    split = published("ixi_split.csv").groupby("split")["subject"]
    names = split.first()
    write_ixi_tree(folder / "IXI-T1", {f"{name}-HH-0001": n for n, name in enumerate(names)})
    write_atlas_tree(folder / "ATLAS_2", {"r001s001": 0, "r001s002": 14})
    (folder / "DIR").mkdir()
    shutil.copy2(
        folder / "IXI-T1" / f"{names.iloc[0]}-HH-0001-T1.nii.gz",
        folder / "DIR" / "sub-01_T1w.nii.gz",
    )


@pytest.fixture(scope="module")
def newcomer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Newcomer]:
    folder = tmp_path_factory.mktemp("newcomer") / "autoddpm"
    folder.mkdir()
    for name in COPIED:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy2
        copy(ROOT / name, folder / name)
    make_small(folder / "conf")
    with single_thread():
        write_released(folder)
    write_downloads(folder)
    write_environment(folder)
    yield Newcomer(folder)
    shutil.rmtree(folder)


def commands(document: Path) -> list[str]:
    """The lines for a shell, without installations."""
    lines = [
        line
        for one in blocks(document)
        if one.language == "bash"
        for line in INSTALLS.sub("", one.text).splitlines()
    ]
    return [typed for line in lines if (typed := line.split(" #")[0].strip())]


def test_the_commands_of_the_documents_do_as_they_say(newcomer: Newcomer) -> None:
    readme, started = DOCUMENTS
    table = OFFERED.finditer(readme.read_text("utf-8"))
    rows = [f"python -m src.prepare {row['rest']}" for row in table]
    assert len(rows) == 4
    first = [*rows, *commands(readme)]
    again = [line.replace("DIR", "data") for line in commands(started) if line not in first]
    newcomer.types("\n".join(dict.fromkeys(first)))
    newcomer.types("\n".join(again))
    assert [page for page in sorted(PAGES) if not (newcomer.folder / page).is_file()] == []
