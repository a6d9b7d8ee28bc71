"""What the tests of training, evaluation and the verbs share: tiny slices in the real layouts, and
the verbs."""

import csv
import importlib
import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.singleton import Singleton
from omegaconf import DictConfig, OmegaConf
from PIL import Image

from autoddpm.launch.names import register_resolvers
from autoddpm.models.model import Trained
from autoddpm.models.trained import build_model
from autoddpm.models.weights_file import write_weights
from autoddpm.report.tables.definition import register_tables

ROOT = Path(__file__).resolve().parents[1]
CONF = ROOT / "conf"
REAL_DATA = Path(os.environ.get("AUTODDPM_DATA", "/AUTODDPM_DATA is not set"))
SIZE = 32
SIDE_OF_LESION = {
    "healthy": 0,
    "small": 2,
    "medium": 4,
    "large": 7,
}  # at 32 pixels one counts for 16 at 128

# A training and an evaluation of seconds, for slices of 32 x 32.
TINY_TRAINING = (
    "model=tiny",
    "data.size=32",
    "data.batch_size=4",
    "trainer.max_steps=4",
    "trainer.precision=32-true",
    "trainer.val_check_interval=2",
    "trainer.log_every_n_steps=1",
    "callbacks.last.every_n_steps=2",
)
TINY_EVALUATION = ("data.size=32", "perceptual=denoiser", "sampler.stride=10", "detector.t=30")
TINY_AUTODDPM = (
    *TINY_EVALUATION,
    "detector=autoddpm",
    "detector.t_resample=20",
    "detector.resample_steps=2",
)


@contextmanager
def single_thread() -> Iterator[None]:
    """Tiny networks are fastest on one thread, and repeat themselves exactly."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@pytest.fixture
def one_thread() -> Iterator[None]:
    with single_thread():
        yield


def compose_config(verb: str, *overrides: str, hydra: bool = False) -> DictConfig:
    """The configuration that `python -m src.<verb> OVERRIDES` would have; with `hydra`, also
    Hydra's own part."""
    register_resolvers()
    register_tables(ROOT / "experiments")
    with initialize_config_dir(version_base="1.3", config_dir=str(CONF)):
        return compose(verb, list(overrides), return_hydra_config=hydra)


def choices(group: str) -> list[str]:
    """Every option of a group of conf/."""
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


def brain(seed: int, lesion_side: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A textured ellipse of 32 x 32 uint8 and the mask (0, 255) of a dark square of `lesion_side`
    pixels in it."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:SIZE, :SIZE] - SIZE / 2 + 0.5
    a, b, phase, tilt = *rng.uniform(9, 14, 2), *rng.uniform(0, 6, 2)
    folds = 70 * np.sin((x + tilt * y) / 3 + phase) * np.cos(y / 4 + phase) + rng.normal(
        0, 12, (SIZE, SIZE)
    )
    image = (np.hypot(x / a, y / b) < 1) * (150 + folds)
    mask = np.zeros((SIZE, SIZE), np.uint8)
    row, column = rng.integers(9, 16, 2)
    mask[row : row + lesion_side, column : column + lesion_side] = 255
    return np.where(mask > 0, 30, image).clip(0, 255).astype(np.uint8), mask


def write_table(path: Path, rows: Sequence[Sequence[str]]) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)


def write_ixi(root: Path, train: int = 8, val: int = 3, test: int = 2) -> Path:
    """Healthy slices in IXI's layout: slices/*.png and split.csv (subject, file, split)."""
    (root / "slices").mkdir(parents=True)
    rows = [["subject", "file", "split"]]
    for number, split in enumerate(["train"] * train + ["val"] * val + ["test"] * test):
        subject = f"IXI{number:03d}"
        Image.fromarray(brain(number)[0]).save(root / "slices" / f"{subject}.png")
        rows.append([subject, f"{subject}.png", split])
    write_table(root / "split.csv", rows)
    return root


def write_stroke(
    root: Path, groups: Sequence[str] = (*["healthy"] * 3, *["small", "medium", "large"] * 2)
) -> Path:
    """Test slices in the layout of a prepared set: images/*.png, lesions/*.png, index.csv,
    preparation.json."""
    (root / "images").mkdir(parents=True)
    (root / "lesions").mkdir()
    (root / "preparation.json").write_text("{}")
    rows = [["id", "file", "lesion_file", "subject", "split", "excluded", "windowed"]]
    for number, group in enumerate(groups):
        image, mask = brain(500 + number, SIDE_OF_LESION[group])
        kind = "healthy" if group == "healthy" else "lesion"
        name = f"{kind}_{number:03d}"
        Image.fromarray(image).save(root / "images" / f"{name}.png")
        if mask.any():
            Image.fromarray(mask).save(root / "lesions" / f"{name}.png")
        lesion_file = f"lesions/{name}.png" if mask.any() else ""
        rows.append([name, f"images/{name}.png", lesion_file, f"IXI{500 + number}", "test", "", ""])
    write_table(root / "index.csv", rows)
    return root


@dataclass
class Site:
    """A folder with both data sets in it, and room for what the verbs write."""

    folder: Path

    @property
    def paths(self) -> tuple[str, ...]:
        """The overrides that name every folder."""
        folders = {"data": "data", "prepared": "prepared", "runs": "runs", "phantoms": "phantoms"}
        folders["ixi_stroke"] = "data/ixi_stroke"
        return tuple(f"paths.{key}={self.folder / name}" for key, name in folders.items())


def make_site(folder: Path, **counts: int) -> Site:
    write_ixi(folder / "data" / "ixi", **counts)
    write_stroke(folder / "data" / "ixi_stroke")
    return Site(folder)


@contextmanager
def untouched_process() -> Iterator[None]:
    """Undo what a verb leaves behind in this process: Hydra's singletons, logging, the command
    line, TF32 flags."""
    argv, handlers, level, state = (
        sys.argv,
        logging.root.handlers[:],
        logging.root.level,
        Singleton.get_state(),
    )
    flags = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    try:
        yield
    finally:
        sys.argv, logging.root.handlers[:], logging.root.level = argv, handlers, level
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = flags
        Singleton.set_state(state)


@dataclass
class Outcome:
    code: int
    out: str
    err: str


Verb = Callable[..., Outcome]


def call_verb(verb: str, *arguments: str) -> int:
    """`python -m src.<verb> ARGUMENTS` in this process, which saves the seconds of importing torch
    again."""
    main = importlib.import_module(f"src.{verb}").main
    with untouched_process():
        sys.argv = [f"{verb}.py", "--config-path", str(CONF), *arguments]
        try:
            main()
        except SystemExit as end:
            if isinstance(end.code, str):  # as the interpreter does
                print(end.code, file=sys.stderr)
                return 1
            return end.code or 0
    return 0


@pytest.fixture
def verb(
    capfd: pytest.CaptureFixture[str], one_thread: None, monkeypatch: pytest.MonkeyPatch
) -> Verb:
    """Runs a verb in this process: `verb("train", "+experiment=ixi")` gives its exit code, stdout
    and stderr."""
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)

    def run(name: str, *arguments: str) -> Outcome:
        capfd.readouterr()
        code = call_verb(name, *arguments)
        return Outcome(code, *capfd.readouterr())

    return run


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """Data sets of 32 px that no test changes."""
    return make_site(tmp_path_factory.mktemp("site"))


@pytest.fixture(scope="session")
def checkpoint(site: Site) -> Path:
    """A tiny network, trained for four steps by the verb itself. No test changes it."""
    with single_thread():
        assert (
            call_verb("train", "+experiment=ixi", *TINY_TRAINING, *site.paths, "name=shared") == 0
        )
    (path,) = site.folder.glob("runs/shared/train/*/checkpoints/last.ckpt")
    return path


@pytest.fixture(scope="session")
def restoration_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A weights file of an untrained restoration."""
    cfg = compose_config("train", "model=restoration").model
    config = OmegaConf.to_container(cfg, resolve=True)
    del config["objective"]
    path = tmp_path_factory.mktemp("weights") / "restoration.safetensors"
    data = {"hash": "", "size": SIZE, "train_subjects": [], "preparation": None}
    write_weights(Trained(build_model(config), config, data, 0, path, ""), path)
    return path
