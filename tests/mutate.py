"""Breaks the library one line at a time, and asks whether the tests notice.

`python tests/mutate.py [WORDS]` tries the faults of mutations.toml, or those whose file or line
holds one of the words. Each is put into a copy of the tree, never into the tree itself. Verdicts
are kept in runs/mutations.json: a second call goes on, and tries again what survived or has
changed.
"""

import hashlib
import json
import os
import shutil
import sys
import tempfile
import time
import tomllib
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
COPIED = ("src", "tests", "conf", "experiments", "docs")
FILES = ("pyproject.toml", "README.md", "Makefile")
KEPT = ROOT / "runs" / "mutations.json"
KILLED, SURVIVED, NO_TEST = "killed", "SURVIVED", "NO TEST RAN"
LIMIT_S = 600
#: What the tests import, once for all of them: a library of ours among these would hide a fault.
PRELOADED = ("h5py", "hydra", "lightning", "monai.networks.nets", "nibabel", "pandas", "skimage")


def mutations() -> list[dict[str, Any]]:
    """The faults of mutations.toml: file, line, to, tests."""
    return tomllib.loads((ROOT / "tests" / "mutations.toml").read_text("utf-8"))["mutation"]


def mutated(text: str, line: str, to: str) -> str:
    """A text in which one line, without its blanks in front, is another.

    Raises ValueError unless the line is there exactly once.
    """
    lines = text.split("\n")
    found = [number for number, one in enumerate(lines) if one.strip() == line]
    if len(found) != 1:
        raise ValueError(f"{line!r} stands there {len(found)} times, not once")
    lines[found[0]] = lines[found[0]].replace(line, to)
    return "\n".join(lines)


def verdict(tests: Sequence[str], fault: dict[str, Any] | None = None) -> str:
    """Whether tests notice a fault. None: there is none, and they must not."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        for name in COPIED:
            shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        for name in FILES:
            shutil.copy(ROOT / name, copy / name)
        (copy / "weights").symlink_to(ROOT / "weights")
        if fault is not None:
            file = copy / "src" / "autoddpm" / fault["file"]
            text = mutated(file.read_text("utf-8"), fault["line"], fault["to"])
            file.write_text(text, "utf-8")
        process = get_context("fork").Process(target=_tested, args=(copy, tests))
        process.start()
        process.join(LIMIT_S)
        if process.is_alive():  # a fault that never ends
            process.kill()
            return KILLED
        ended = process.exitcode
    return {0: SURVIVED, 1: KILLED}.get(ended or 0, NO_TEST)


def _tested(copy: Path, tests: Sequence[str]) -> None:
    """Run tests in a copy of the tree, and end this process with their verdict."""
    os.chdir(copy)
    paths = [str(copy / "src"), str(copy), str(copy / "tests")]
    sys.path[:0] = paths
    os.environ["PYTHONPATH"] = os.pathsep.join(paths)
    sys.dont_write_bytecode = True
    with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        ended = pytest.main(["-q", "-x", "-p", "no:cacheprovider", *tests])
    os._exit(int(ended))


def key(mutation: dict[str, Any]) -> str:
    """What a verdict depends on: the fault, its file and its tests."""
    named = [ROOT / "src" / "autoddpm" / mutation["file"], *map(ROOT.joinpath, mutation["tests"])]
    files = [
        file for one in named for file in ([one] if one.is_file() else sorted(one.rglob("*.py")))
    ]
    contents = [file.read_bytes() for file in files]
    return hashlib.sha256(b"".join([repr(mutation).encode(), *contents])).hexdigest()[:16]


def main(words: list[str]) -> int:
    """Try them all, and say what survived; 1 if anything did."""
    chosen = [m for m in mutations() if not words or any(w in m["file"] + m["line"] for w in words)]
    kept = json.loads(KEPT.read_text("utf-8")) if KEPT.is_file() else {}
    keys = [key(one) for one in chosen]  # now: a test may change while others run
    open_ = [(k, one) for k, one in zip(keys, chosen, strict=True) if kept.get(k) != KILLED]
    print(f"{len(chosen) - len(open_)} of {len(chosen)} were killed before")
    for name in PRELOADED if open_ else ():
        import_module(name)
    sets = {tuple(one["tests"]) for _, one in open_}
    if failing := [" ".join(tests) for tests in sorted(sets) if verdict(tests) != SURVIVED]:
        print(f"these fail without a fault, mend them first: {', '.join(failing)}")
        return 1
    began = time.monotonic()
    for number, (at, one) in enumerate(open_, start=1):
        kept[at] = found = verdict(one["tests"], one)
        KEPT.parent.mkdir(exist_ok=True)
        KEPT.write_text(json.dumps(kept, indent=1), "utf-8")
        left = (time.monotonic() - began) / number * (len(open_) - number)
        print(
            f"{number}/{len(open_)} {found}: {one['file']}: {one['to']} ({left:.0f} s left)",
            flush=True,
        )
    alive = [at for at in keys if kept[at] != KILLED]
    print(f"{len(chosen) - len(alive)} of {len(chosen)} are killed")
    return int(bool(alive))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
