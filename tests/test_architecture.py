"""The laws of the layout: who may import whom, how long a function is, what the wheel holds."""

import ast
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterable, Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder

ROOT = Path(__file__).resolve().parents[1]
SRC = ROOT / "src"
#: For each room, the other rooms that it may import: the way of a scan, and never back.
ROOMS: dict[str, set[str]] = {
    "data": set(),
    "diffusion": set(),
    "autoencoder": set(),
    "preparation": {"data"},
    "datasets": {"data", "preparation"},
    "metrics": {"data"},
    "models": {"diffusion"},
    "detectors": {"autoencoder", "diffusion", "models"},
    "runs": set(),
    "machine": {"diffusion", "models"},
    "training": {"data", "diffusion", "machine", "models"},
    "evaluation": {
        "data",
        "detectors",
        "diffusion",
        "machine",
        "metrics",
        "models",
        "preparation",
        "runs",
    },
    "prediction": {
        "autoencoder",
        "data",
        "detectors",
        "diffusion",
        "evaluation",
        "machine",
        "metrics",
        "models",
        "preparation",
        "runs",
    },
    "launch": {"machine", "models", "runs"},
    "report": {"data", "metrics", "preparation", "runs"},
}
#: Rooms of further families of models, known by their mark: mathematics, which no room imports.
FAMILIES = {
    file.parent.name
    for file in (SRC / "autoddpm").glob("*/__init__.py")
    if "IN_WEIGHTS_FILES = True" in file.read_text("utf-8")
} - set(ROOMS)
ROOMS |= {family: {"detectors", "diffusion", "models"} for family in FAMILIES}
FRAMEWORKS = {"lightning", "pytorch_lightning", "hydra", "omegaconf", "wandb", "monai.data"}
FORBIDDEN = {
    room: {f"autoddpm.{other}" for other in ROOMS if other not in {room, *allowed}}
    | (FRAMEWORKS if room in {"autoencoder", "diffusion", "detectors", *FAMILIES} else set())
    | ({"lightning", "pytorch_lightning", "monai.networks"} if room == "report" else set())
    for room, allowed in ROOMS.items()
}
WITH_LIGHTNING_MODULES = {"training", "evaluation"}
MOST_LINES, MOST_PARAMETERS, LONGEST_NAME = 40, 7, 60
DRAWERS = {"utils", "util", "helpers", "helper", "common", "misc"}


def imported_modules(file: Path, root: Path) -> set[str]:
    """Absolute names of all that `file` imports, anywhere in it; `root` is the folder that holds
    its outermost package.

    `from a.b import c` gives both a.b and a.b.c, since c may be a module.
    """
    package = file.relative_to(root).parent.parts
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            origin = ".".join([*above, *([node.module] if node.module else [])])
            names.add(origin)
            names.update(f"{origin}.{alias.name}" for alias in node.names)
    return names


def within(name: str, packages: Iterable[str]) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def forbidden_imports(src: Path, folder: str) -> list[str]:
    """`file: module` for each import in src/autoddpm/<folder> that its place in the layout does not
    allow."""
    return sorted(
        f"{file.relative_to(src)}: {name}"
        for file in (src / "autoddpm" / folder).rglob("*.py")
        for name in imported_modules(file, src)
        if within(name, FORBIDDEN[folder])
    )


def folder_imports(src: Path) -> dict[str, set[str]]:
    """For each folder of the library, the other folders that it imports."""
    return {
        folder: {
            other
            for file in (src / "autoddpm" / folder).rglob("*.py")
            for name in imported_modules(file, src)
            for other in ROOMS
            if other != folder and within(name, [f"autoddpm.{other}"])
        }
        for folder in ROOMS
    }


def lightning_modules(src: Path) -> Iterator[Path]:
    """The files that define a LightningModule."""
    for file in (src / "autoddpm").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef) and any(
                ast.unparse(b).endswith("LightningModule") for b in node.bases
            ):
                yield file


def strangers(names: Iterable[str]) -> list[str]:
    """Files of a wheel that are neither the library nor the wheel's own description."""
    tops = ((name, name.split("/")[0]) for name in names)
    return sorted(
        name for name, top in tops if top != "autoddpm" and not top.endswith(".dist-info")
    )


def write(src: Path, path: str, text: str = "") -> Path:
    file = src / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    return file


def functions(file: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def code_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines from `def` to the last, without its docstring's."""
    first = function.body[0]
    has_docstring = ast.get_docstring(function) is not None
    documented = (first.end_lineno or 0) - first.lineno + 1 if has_docstring else 0
    return (function.end_lineno or 0) - function.lineno + 1 - documented


def parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Parameters, without self and cls."""
    given = function.args
    names = [one.arg for one in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
    return len([name for name in names if name not in ("self", "cls")])


def test_the_library_has_just_the_folders_that_these_laws_name() -> None:
    folders = {
        path.name
        for path in (SRC / "autoddpm").iterdir()
        if path.is_dir() and any(path.glob("*.py"))
    }
    assert folders == set(ROOMS)


@pytest.mark.parametrize("folder", FORBIDDEN)
def test_imports_point_one_way(folder: str) -> None:
    assert not forbidden_imports(SRC, folder)


def test_the_folders_import_each_other_in_no_circle() -> None:
    imports = folder_imports(SRC)
    assert set(imports) <= {*TopologicalSorter(imports).static_order()}


def test_lightning_modules_are_just_for_training_and_evaluation() -> None:
    assert {file.parent.name for file in lightning_modules(SRC)} == WITH_LIGHTNING_MODULES


@pytest.mark.parametrize(
    ("folder", "text", "found"),
    [
        ("detectors", "import lightning.pytorch as L", "lightning.pytorch"),
        ("diffusion", "from monai import data", "monai.data"),
        ("diffusion", "def late():\n    from hydra.utils import call", "hydra.utils"),
        ("diffusion", "from ..detectors import anoddpm", "autoddpm.detectors"),
        ("diffusion/noise", "from ...data.sample import Batch", "autoddpm.data.sample"),
        ("detectors", "from .. import evaluation", "autoddpm.evaluation"),
        ("detectors", "from autoddpm import report", "autoddpm.report"),
        ("report", "import autoddpm.diffusion.ddpm", "autoddpm.diffusion.ddpm"),
        ("data", "import autoddpm.training.module", "autoddpm.training.module"),
    ],
)
def test_a_forbidden_import_is_found_however_it_is_spelt(
    tmp_path: Path, folder: str, text: str, found: str
) -> None:
    write(tmp_path, f"autoddpm/{folder}/x.py", text)
    assert f"autoddpm/{folder}/x.py: {found}" in forbidden_imports(tmp_path, folder.split("/")[0])


@pytest.mark.parametrize(
    "text",
    [
        "import torch",
        "from . import anomaly_map",
        "from ..diffusion.schedule import Schedule",
        "from autoddpm.models.model import Model",
        "from monai.networks.nets import DiffusionModelUNet",
        "import lightning_utilities",
        "from monai import data_statistics",
    ],
)
def test_an_allowed_import_is_left_alone(tmp_path: Path, text: str) -> None:
    write(tmp_path, "autoddpm/detectors/x.py", text)
    assert not forbidden_imports(tmp_path, "detectors")


def test_a_circle_between_folders_is_found(tmp_path: Path) -> None:
    write(tmp_path, "autoddpm/metrics/x.py", "from ..data import sample")
    write(tmp_path, "autoddpm/data/x.py", "import autoddpm.metrics.statistics")
    with pytest.raises(CycleError):
        TopologicalSorter(folder_imports(tmp_path)).prepare()


def test_a_lightning_module_is_found_by_its_base(tmp_path: Path) -> None:
    file = write(tmp_path, "autoddpm/diffusion/x.py", "class DDPM(L.LightningModule): ...")
    write(tmp_path, "autoddpm/data/x.py", "class Data(L.LightningDataModule): ...")
    assert list(lightning_modules(tmp_path)) == [file]


def test_nothing_imports_the_library_through_src() -> None:
    files = [
        *SRC.rglob("*.py"),
        *(ROOT / "tests").rglob("*.py"),
        *(ROOT / "experiments").rglob("*.py"),
    ]
    assert [
        file
        for file in files
        if any(within(n, ["src.autoddpm"]) for n in imported_modules(file, ROOT))
    ] == []
    configured = [
        file
        for file in (ROOT / "conf").rglob("*.yaml")
        if "src.autoddpm" in file.read_text("utf-8")
    ]
    assert configured == []


def test_a_verb_that_imports_the_library_through_src_is_found(tmp_path: Path) -> None:
    for text in (
        "from src.autoddpm.data import ixi",
        "from .autoddpm import data",
        "import src.autoddpm",
    ):
        verb = write(tmp_path, "src/train.py", text)
        assert any(within(name, ["src.autoddpm"]) for name in imported_modules(verb, tmp_path)), (
            text
        )


def test_there_is_no_drawer_for_odds_and_ends() -> None:
    assert [path for path in SRC.rglob("*") if path.stem.lower() in DRAWERS] == []


def test_a_function_is_short_enough_to_be_read_at_once() -> None:
    found = [(file, one) for file in SRC.rglob("*.py") for one in functions(file)]
    long = {f"{file.name}: {one.name}": code_lines(one) for file, one in found}
    assert {name: lines for name, lines in long.items() if lines > MOST_LINES} == {}


def test_a_room_says_of_itself_what_the_architecture_page_says() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    said = {}
    for room in set(ROOMS) - FAMILIES:
        text = (SRC / "autoddpm" / room / "__init__.py").read_text("utf-8")
        words = " ".join((ast.get_docstring(ast.parse(text)) or "").split())
        said[room] = re.split(r"(?<=\.) ", words)[0]
    assert dict(re.findall(r"^\| `(\w+)/` \| (.*) \|$", page, re.MULTILINE)) == said


def configured() -> set[str]:
    """Classes and functions that `conf/` fills: each parameter of theirs is a setting."""
    lines = (ROOT / "conf").rglob("*.yaml")
    found = re.findall(
        r"_target_: autoddpm\.([\w.]+)", "\n".join(one.read_text("utf-8") for one in lines)
    )
    return {name.rsplit(".", 1)[-1] for name in found}


def test_a_function_has_few_parameters_unless_conf_fills_them() -> None:
    many, settings = {}, configured()
    for file in SRC.rglob("*.py"):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        free = [one for one in ast.walk(tree) if getattr(one, "name", None) in settings]
        exempt = {id(one) for node in free for one in [node, *ast.iter_child_nodes(node)]}
        for node in ast.walk(tree):
            is_function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            if is_function and id(node) not in exempt and parameters(node) > MOST_PARAMETERS:
                many[f"{file.name}: {node.name}"] = parameters(node)
    assert many == {}


def test_a_test_s_name_is_a_sentence_of_at_most_60_characters() -> None:
    found = [(file, one) for file in (ROOT / "tests").rglob("test_*.py") for one in functions(file)]
    long = [
        f"{file.name}: {one.name}"
        for file, one in found
        if one.name.startswith("test_") and len(one.name) > LONGEST_NAME
    ]
    assert found
    assert long == []


def test_docstrings_and_self_do_not_count(tmp_path: Path) -> None:
    text = 'def f(self, a, *, b):\n    """Two\n    lines."""\n    return (\n        a\n    )\n'
    (one,) = functions(write(tmp_path, "x.py", text))
    assert (code_lines(one), parameters(one)) == (4, 2)


def test_the_wheel_holds_the_whole_library_and_nothing_else(tmp_path: Path) -> None:
    (wheel,) = WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert strangers(names) == []
    assert {str(file.relative_to(SRC)) for file in (SRC / "autoddpm").rglob("*.py")} <= set(names)
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)
    viewer = {f"autoddpm/prediction/viewer/niivue.{end}" for end in ("umd.js", "LICENSE.txt")}
    released = {f"autoddpm/weights/{file.name}" for file in ROOT.glob("weights/*.safetensors")}
    assert {*viewer, *released} <= set(names)
    assert len(released) == 2


def test_a_stranger_in_the_wheel_is_found() -> None:
    library = ["autoddpm/datasets/ixi.py", "autoddpm-0.1.0.dist-info/METADATA"]
    foreign = ["conf/train.yaml", "src/autoddpm/datasets/ixi.py", "tests/test_x.py", "train.py"]
    assert strangers(library + foreign) == foreign


def test_the_verbs_use_the_checkout_before_another_autoddpm(tmp_path: Path) -> None:
    other = write(tmp_path, "autoddpm/__init__.py")

    def file_after(statement: str) -> Path:
        environment = os.environ | {"PYTHONPATH": str(tmp_path)}
        command = [sys.executable, "-c", f"{statement}; print(autoddpm.__file__)"]
        run = subprocess.run(
            command,
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        return Path(run.stdout.strip()).resolve()

    assert file_after("import autoddpm") == other.resolve()
    assert file_after("import src, autoddpm") == SRC / "autoddpm" / "__init__.py"
