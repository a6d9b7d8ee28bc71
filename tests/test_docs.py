"""The documents: their code runs, their links lead somewhere, their tables are complete."""

import importlib
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from conftest import (
    ROOT,
    TINY_EVALUATION,
    TINY_TRAINING,
    Site,
    Verb,
    brain,
)
from fenced import blocks, commands
from PIL import Image
from released import write_released

import autoddpm
from autoddpm.metrics import measure as measure_module
from autoddpm.metrics.scored_slices import ScoredSlices
from autoddpm.models import weights_file

DOCS = ROOT / "docs"
README = ROOT / "README.md"
DOCUMENTS = sorted(
    path
    for folder in (".", "docs", "weights", "experiments", "experiments/*")
    for path in ROOT.glob(f"{folder}/*.md")
)
LINK = re.compile(r"\]\((?P<inline>[^)\s]+)\)|^\[[^\]]+\]: (?P<below>\S+)$", re.MULTILINE)
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
ROW = re.compile(r"^\| (?P<package>[\w-]+) \| (?P<of>\w+) \| .{5,} \|$", re.MULTILINE)
SNIPPETS = [README, DOCS / "getting-started.md", DOCS / "predict.md"]

pytestmark = pytest.mark.usefixtures("one_thread")


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


# what a reader finds


def test_the_readme_is_short() -> None:
    lines = README.read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 150
    assert [line for line in lines if len(line) > 100] == []


def anchors(document: Path) -> set[str]:
    """Of the headings, as GitHub and MkDocs make them."""
    text = re.sub(r"^```.*?^```$", "", document.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    kept = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in HEADING.findall(text))
    return {one.strip().replace(" ", "-") for one in kept}


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_every_link_within_the_repository_leads_somewhere(document: Path) -> None:
    for match in LINK.finditer(document.read_text(encoding="utf-8")):
        link = match["inline"] or match["below"]
        if link.startswith("http"):
            continue
        file, _, anchor = link.partition("#")
        target = document.parent / file if file else document
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_the_dependencies_are_those_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    groups = {"core": project["dependencies"], **project["optional-dependencies"]}
    names = {
        (re.split(r"[\[<>=~! ]", one)[0], group)
        for group, several in groups.items()
        for one in several
    }
    table = (DOCS / "dependencies.md").read_text(encoding="utf-8").split("|---|")[-1]
    listed = [(row["package"], row["of"]) for row in ROW.finditer(table)]
    assert len(listed) == len({*listed})
    assert {*listed} == {one for one in names if one[0] != "autoddpm"}


@pytest.mark.slow
def test_the_pages_build_and_ask_no_network(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs", reason="the extra `docs` is not installed")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", "docs/mkdocs/mkdocs.yml"]
    done = subprocess.run(
        [*command, "-d", str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    for page in tmp_path.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        assert not re.findall(r'<(?:script|img|iframe)[^>]* src="?(?:https?:)?//', text), page
        assert not re.findall(r'<link[^>]* href="?(?:https?:)?//[^>]*stylesheet', text), page
    assert "noise level" in (tmp_path / "reference.html").read_text(encoding="utf-8")


# code that stands alone


@pytest.fixture
def released(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A working folder with a scan; `ixi-small` is a tiny network, with thresholds."""
    write_released(tmp_path)
    monkeypatch.setattr(weights_file, "RELEASED", (tmp_path / "weights",))
    monkeypatch.chdir(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("document", SNIPPETS, ids=name_of)
def test_the_python_of_a_document_runs(document: Path, released: None) -> None:
    found = [one.text for one in blocks(document) if one.language == "python" and not one.file]
    assert found
    for text in found:
        exec(compile(text.replace("128, 128", "32, 32"), name_of(document), "exec"), {})


def test_no_document_has_python_that_nothing_runs() -> None:
    examples = {*DOCS.glob("own-*.md")}
    with_code = {
        path
        for path in (README, *DOCS.glob("*.md"))
        if any(one.language == "python" for one in blocks(path))
    }
    assert with_code == {*SNIPPETS} | examples


# the worked examples


Example = Callable[[Path], str]


@pytest.fixture
def example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Example]:
    """Puts the files of a document beside those of the package; the override for its conf/."""
    root = tmp_path / "example"

    def write(document: Path) -> str:
        for one in blocks(document):
            if one.file:
                file = root / one.file
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(one.text, encoding="utf-8")
        for folder in (root / "src" / "autoddpm").iterdir():
            is_new = (folder / "__init__.py").exists()
            package = autoddpm if is_new else importlib.import_module(f"autoddpm.{folder.name}")
            place = folder.parent if is_new else folder
            monkeypatch.setattr(package, "__path__", [*package.__path__, str(place)])
        importlib.invalidate_caches()
        (root / "conf").mkdir(exist_ok=True)
        return f"hydra.searchpath=[file://{root / 'conf'}]"

    yield write
    for name, module in [*sys.modules.items()]:
        if str(getattr(module, "__file__", "")).startswith(str(root)):
            del sys.modules[name]
            parent, _, own = name.rpartition(".")
            vars(sys.modules.get(parent, ModuleType(""))).pop(own, None)


def run(verb: Verb, command: str, *more: str) -> None:
    """A document's command; overrides of `more` take the place of its own."""
    _, _, module, *said = command.split()
    given = {one.split("=")[0] for one in more}
    kept = [one for one in said if one.split("=")[0] not in given]
    outcome = verb(module.removeprefix("src."), *kept, *more)
    assert outcome.code == 0, outcome.err


def rows(runs: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted(runs.rglob("metrics.json"))]


def own(site: Site, runs: Path) -> list[str]:
    return [one for one in site.paths if not one.startswith("paths.runs")] + [f"paths.runs={runs}"]


@pytest.mark.slow
def test_the_readme_s_detector_is_a_row(
    example: Example, verb: Verb, site: Site, checkpoint: Path, tmp_path: Path
) -> None:
    conf, runs = example(README), tmp_path / "runs"
    command = f"python -m src.evaluate +experiment=ixi_stroke checkpoint={checkpoint}"
    run(verb, f"{command} detector=mine", *own(site, runs), *TINY_EVALUATION, conf)
    (row,) = rows(runs)
    assert row["label"] == "darker than its reconstruction"
    assert row["metrics"]["lesion/auprc"] > 0


@pytest.mark.slow
def test_a_detector_of_one_s_own(
    example: Example, verb: Verb, site: Site, checkpoint: Path, tmp_path: Path
) -> None:
    page, runs = DOCS / "own-detector.md", tmp_path / "runs"
    conf = example(page)
    for command in commands(page):
        run(verb, command, *own(site, runs), f"checkpoint={checkpoint}", "data.size=32", conf)
    found = rows(runs)
    assert sorted(row["detector"]["t"] for row in found) == [50, 100, 100]
    assert all(row["metrics"]["calls_per_slice"] == 1 for row in found)


@pytest.mark.slow
def test_a_family_of_models_of_one_s_own(
    example: Example, verb: Verb, site: Site, tmp_path: Path
) -> None:
    page, runs = DOCS / "own-model.md", tmp_path / "runs"
    conf = example(page)
    train, evaluate, report = commands(page)
    small = [one for one in TINY_TRAINING if not one.startswith("model")]
    run(verb, train, *own(site, runs), *small, conf)
    evaluate = evaluate.replace("checkpoint=runs", f"checkpoint={runs}")
    (last,) = runs.rglob("last.ckpt")
    evaluate = re.sub(r"checkpoint=\S+", f"checkpoint={last}", evaluate)
    run(verb, evaluate, *own(site, runs), "data.size=32", conf)
    run(verb, report, f"paths.runs={runs}", "report.resamples=20")
    (row,) = rows(runs)
    assert row["label"] == "Toy"
    assert "Toy" in (runs / "toy" / "report" / "measured.csv").read_text()


@pytest.mark.slow
def test_a_data_set_of_one_s_own(example: Example, verb: Verb, tmp_path: Path) -> None:
    page, runs, data = DOCS / "own-data.md", tmp_path / "runs", tmp_path / "data"
    conf = example(page)
    for number, side in enumerate([0] * 8 + [4, 7]):
        image, lesion = brain(number, side)
        folder = data / "mine" / ("ill" if side else "healthy")
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"s{number}.png")
        if side:
            Image.fromarray(lesion).save(folder / f"s{number}_lesion.png")
    paths = [f"paths.{one}={tmp_path / one}" for one in ("data", "prepared", "runs")]
    train, evaluate = commands(page)
    run(verb, train, *paths, *TINY_TRAINING, conf)
    (last,) = runs.rglob("last.ckpt")
    run(verb, evaluate, *paths, *TINY_EVALUATION, f"checkpoint={last}", conf)
    (row,) = rows(runs)
    assert row["metrics"]["lesion/max_dice"] > 0
    assert "no healthy slice" in row["undefined"]["healthy/ssim"]


def test_a_metric_of_one_s_own(example: Example) -> None:
    page = DOCS / "own-metric.md"
    example(page)
    line, trial = [one.text for one in blocks(page) if one.language == "python" and not one.file]
    exec(compile(trial, page.name, "exec"), {})
    source = Path(measure_module.__file__).read_text(encoding="utf-8")
    place = '    """In the order of metrics.json."""\n'
    assert source.count(place) == 1
    added = "from autoddpm.metrics.precision import precision_above\n"
    changed: dict[str, Any] = {}
    exec(compile(added + source.replace(place, place + line), "measure.py", "exec"), changed)
    rng = np.random.default_rng(0)
    lesion = np.zeros((6, 16, 16), bool)
    lesion[3:, 4:9, 4:9] = True
    maps = (lesion + rng.random(lesion.shape)).astype(np.float32)
    scored = ScoredSlices(maps, lesion, np.array([0, 0, 0, 2, 2, 2]), {"healthy_fpr5": 0.9})
    found = changed["measure"](scored, np.ones((2, 6)), {"lesion/precision@healthy_fpr5"})
    flagged = maps[3:] > 0.9
    expected = (flagged & lesion[3:]).sum() / flagged.sum()
    np.testing.assert_allclose(found["lesion/precision@healthy_fpr5"], expected)
