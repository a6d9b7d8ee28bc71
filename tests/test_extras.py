"""The core is enough for a prediction; what is missing is named with its extra."""

import subprocess
import sys
import tomllib

import matplotlib
import numpy as np
import pytest
from conftest import ROOT

from autoddpm.extras import EXTRAS, need
from autoddpm.prediction.page import inferno

#: All packages of extras, by the name to import.
BLOCKED = (
    *("lightning", "pytorch_lightning", "opensimplex", "numba", "rich", "bokeh", "matplotlib"),
    *("wandb", "wandb_workspaces", "tensorboard", "joblib_launcher", "submitit", "optuna"),
    *("SimpleITK", "deepbet", "h5py", "ancpbids", "stlpips_pytorch", "fire", "jsonschema"),
    *("ignite", "IPython", "ipykernel"),
)
CORE = "prediction.command prediction.export detectors.autoddpm detectors.anoddpm models.trained"
#: What blocks them for our own code. Others import what is here, since they look it up otherwise.
WITHOUT = f"""
import builtins, importlib.util as util, sys
blocked, real, find = {BLOCKED}, builtins.__import__, util.find_spec
def without(name, globals=None, *more, **named):
    ours = (globals or {{}}).get("__name__", "").split(".")[0] in ("autoddpm", "src")
    if ours and name.split(".")[0] in blocked:
        raise ModuleNotFoundError(f"No module named {{name!r}}")
    return real(name, globals, *more, **named)
builtins.__import__ = without
util.find_spec = lambda name, *more: None if name in blocked else find(name, *more)
"""


def run(code: str) -> subprocess.CompletedProcess[str]:
    """Python with every extra's packages blocked."""
    command = [sys.executable, "-c", WITHOUT + code]
    environment = {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}", "PATH": "", "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False
    )


def test_the_core_is_enough_for_prediction_and_python() -> None:
    imports = "".join(f"import autoddpm.{name}\n" for name in CORE.split())
    code = (
        "import torch, autoddpm\nfor name in autoddpm.PUBLIC: getattr(autoddpm, name)\n"
        "from autoddpm.prediction.method import DetectorSettings\n"
        "model = autoddpm.load_model('ixi-small')\n"
        "detector = DetectorSettings('anoddpm', t=2, stride=2, perceptual='none').make(model)\n"
        "print(autoddpm.detect_images(detector, torch.rand(1, 1, 32, 32)).anomaly_map.shape)"
    )
    made = run(imports + code)
    assert made.returncode == 0, made.stderr
    assert made.stdout == "torch.Size([1, 1, 32, 32])\n"


@pytest.mark.parametrize(
    ("code", "extra", "package"),
    [
        (
            "from autoddpm.diffusion.noise.simplex import Simplex; "
            "from autoddpm.random import Draw, Stage, slice_keys; "
            "keys = slice_keys(0, ['a'], 'cpu'); "
            "Simplex()(keys, (1, 4, 4), Stage.TRAINING, Draw.FORWARD)",
            "train",
            "opensimplex",
        ),
        ("import autoddpm.report.write", "report", "matplotlib, rich"),
        ("import autoddpm.training.module", "train", "lightning, rich"),
        ("import src.train", "train", "lightning, rich"),
        ("import src.evaluate", "train", "lightning, rich"),
        ("import src.report", "report", "matplotlib, rich"),
    ],
)
def test_a_missing_package_is_named_with_its_extra(code: str, extra: str, package: str) -> None:
    last = run(code).stderr.splitlines()[-1]
    assert last.startswith(
        f"ImportError: {package}: not installed; pip install 'autoddpm[{extra}]'"
    )


def test_the_blocker_would_find_an_import() -> None:
    code = "import autoddpm\nexec('import lightning', {'__name__': 'autoddpm.x'})"
    assert "No module named 'lightning'" in run(code).stderr


def test_the_extras_are_those_of_the_installation() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    for extra, names in EXTRAS.items():
        need(extra)  # all are here
        stated = " ".join(extras[extra])
        assert [name for name in names if name not in stated] == []
        assert [name for name in names if name in " ".join(project["dependencies"])] == []
    everything = extras["dev"][0]
    left_out = {"dev", "notebooks"}  # it has what runs them, without a program to look at them
    assert set(everything.split("[")[1].rstrip("]").split(",")) == set(extras) - left_out


def test_the_colours_of_the_mosaic_are_matplotlib_s() -> None:
    wanted = matplotlib.colormaps["inferno"](np.arange(256))[:, :3]
    np.testing.assert_array_equal(inferno(), (255 * wanted).astype(np.uint8))
