"""Each recipe of experiments/ runs from its first command to its report, on a few phantoms, with a
tiny network."""

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest
from conftest import ROOT, Verb, call_verb, single_thread

pytestmark = pytest.mark.slow
SMALL = (
    "data.size=32",
    "data.sources.phantom.train=6",
    "data.sources.phantom.val=2",
    "data.sources.phantom.test_healthy=2",
    "data.sources.phantom.test_lesion=3",
)
TRAINING = (
    "model=tiny",
    "trainer.max_steps=2",
    "trainer.val_check_interval=2",
    "trainer.precision=32-true",
)
OVERRIDES = {
    "train": (*SMALL, *TRAINING),
    "evaluate": (*SMALL, "model=tiny", "sampler.stride=25"),
    "report": (),
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network of two steps on phantoms, where the demo's would be."""
    folder = tmp_path_factory.mktemp("recipes")
    with single_thread():
        assert call_verb("train", "+experiment=demo", *OVERRIDES["train"], *paths(folder)) == 0
    return folder


@pytest.fixture
def folder(trained: Path, tmp_path: Path) -> Path:
    """The same, with no row yet."""
    return Path(shutil.copytree(trained, tmp_path / "site"))


def paths(folder: Path) -> list[str]:
    return [f"paths.{name}={folder / name}" for name in ("runs", "prepared", "phantoms")]


def commands(recipe: str, values: int = 2) -> list[list[str]]:
    """The commands of a recipe's run.sh on phantoms: of each sweep the first values."""
    text = (ROOT / "experiments" / recipe / "run.sh").read_text()
    text = text.replace("$experiment", "demo").replace(
        '"$@"', "perceptual=none" if "perceptual=" not in text else ""
    )
    found = [
        shlex.split(line)[2:] for line in text.splitlines() if line.startswith("python -m src.")
    ]
    return [[",".join(argument.split(",")[:values]) for argument in command] for command in found]


BASELINES = ["AnoDDPM (t=50)", "AnoDDPM (t=100)"]
ABLATIONS = ["AutoDDPM", "AutoDDPM (w/o uncertainty)", "AutoDDPM (w/o re-sampling)"]
AUTHORS = ["AutoDDPM authors_code", "AnoDDPM authors_code (t=50)", "AnoDDPM authors_code (t=100)"]
MAPS = ("clahe_residual", "norm95_residual")
FAIRNESS = [
    f"{method} [{name}]" for method in (*BASELINES, *ABLATIONS[:2]) for name in ("residual", *MAPS)
]


@pytest.mark.parametrize(
    ("recipe", "table", "rows"),
    [
        ("paper", "table1", ["AutoDDPM", *BASELINES]),
        ("table3_uncertainty", "table3", ABLATIONS),
        ("figure5_resampling", "table3", ["AutoDDPM"]),
        ("fairness", "fairness", FAIRNESS),
        ("authors_code", "table1", AUTHORS),
    ],
)
def test_a_recipe_of_the_paper_ends_with_its_table(
    recipe: str, table: str, rows: list[str], folder: Path, verb: Verb
) -> None:
    run(commands(recipe), folder, verb)
    report = folder / "runs" / "demo" / "report"
    written = pd.read_csv(report / f"{table}.csv")
    assert sorted(
        re.sub(r"\[.*anomaly_map=(\w+).*\]", r"[\1]", name) for name in written["Method"]
    ) == sorted(rows)
    page = (report / "index.html").read_text()
    assert "Shown once" not in page
    assert "Shown more than once" not in page
    assert (report / "figure5.png").is_file() == (recipe != "authors_code")


@pytest.mark.parametrize(
    "path", sorted(ROOT.glob("experiments/*/*.sh")), ids=lambda path: path.parent.name
)
def test_a_recipe_is_a_program_of_bash(path: Path) -> None:
    assert os.access(path, os.X_OK)
    subprocess.run(["bash", "-n", path], check=True)


def test_the_ablations_end_with_their_report(folder: Path, verb: Verb) -> None:
    run(
        [command for command in commands("ablations", 1) if "lpips" not in " ".join(command)],
        folder,
        verb,
    )
    rows = list((folder / "runs" / "ablations" / "evaluate").glob("*/metrics.json"))
    assert len(rows) == 11  # one of each sweep, but LPIPS
    report = folder / "runs" / "ablations" / "report"
    assert "Unreadable" not in (report / "index.html").read_text()
    assert (
        pd.read_csv(report / "measured.csv")["method"].nunique() == len(rows) + 1
    )  # and a mean of two seeds


def run(commands: list[list[str]], folder: Path, verb: Verb) -> None:
    trained = {
        name: next(iter(folder.glob(f"runs/demo/train/*{part}*/checkpoints/last.ckpt")), None)
        for name, part in (("$checkpoint", "model-tiny"), ("$simplex", "noise-simplex"))
    }
    for module, *arguments in commands:
        if module == "src.train":
            said = [*arguments, *OVERRIDES["train"], *paths(folder)]
            assert verb("train", *said).code == 0
            trained["$simplex"] = next(
                folder.glob("runs/demo/train/*noise-simplex*/checkpoints/last.ckpt")
            )
            continue
        name = module.removeprefix("src.")
        said = [
            a.replace("$checkpoint", str(trained["$checkpoint"])).replace(
                "$simplex", str(trained["$simplex"])
            )
            for a in arguments
        ]
        outcome = verb(name, *said, *OVERRIDES[name], *paths(folder))
        assert outcome.code == 0, f"{arguments}\n{outcome.err}"
