"""Contracts: what lies under conf/ builds, and every command that is promised somewhere
composes."""

import inspect
import json
import re
import shlex
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest
import torch
import yaml
from conftest import CONF, ROOT, Verb, choices, compose_config
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.utils import _locate
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import InstantiationException
from hydra.utils import get_class, instantiate
from lightning import Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import Logger
from omegaconf import DictConfig, OmegaConf
from tiny import SlicesWithLesion

from autoddpm.data.datamodule import SliceDataModule
from autoddpm.detectors.detector import Detector, detect
from autoddpm.models.model import Model
from autoddpm.models.trained import build_model
from autoddpm.random import Draw, Stage, slice_keys
from autoddpm.settings import describe, is_plain, lacking
from autoddpm.training.module import TrainingModule

VERBS = ("train", "evaluate", "predict", "report")
PARAMETERS = {"paper": 18_040_449, "small": 1_096_161}  # stated in conf/model
EXAMPLE = re.compile(r"=(mine|toy)\b")  # the documents', not in conf/: tests/test_docs.py

pytestmark = pytest.mark.usefixtures("one_thread")


def model_of(name: str) -> dict:
    model = OmegaConf.to_container(compose_config("train", f"model={name}").model, resolve=True)
    assert isinstance(model, dict)
    return model


def paths_of(folder: Path) -> list[str]:
    return [f"paths.{key}={folder / key}" for key in ("data", "prepared", "phantoms", "runs")]


# what lies under conf/


def family_of(name: str) -> str:
    return str(model_of(name)["_target_"]).rsplit(".", 1)[1]


@pytest.mark.parametrize("name", choices("model"))
def test_a_model_promises_what_every_family_does(name: str) -> None:
    model, ids = build_model(model_of(name)).eval(), ["a", "b"]
    keys, epoch = slice_keys(0, ids), torch.tensor([0, 3])
    image = torch.rand(2, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert model.loss(image, keys, epoch).shape == (2,)
        losses = model.validation_losses(image, keys)
        assert list(losses) == list(model.validation_names)
        assert "loss" in losses
        assert all(values.shape == (2,) for values in losses.values())
        assert model.seen(image, keys, epoch).shape == image.shape
        assert model.trial(image).shape == image.shape
        shown = {"": image} if name == "paper" else model.example(image, ids)  # paper: a minute
    for picture in shown.values():
        assert picture.shape == image.shape
        assert 0 <= picture.min() <= picture.max() <= 1


@pytest.mark.parametrize("name", sorted(PARAMETERS))
def test_a_model_has_its_stated_size(name: str) -> None:
    size = sum(p.numel() for p in build_model(model_of(name)).parameters())
    assert size == PARAMETERS[name]
    first_line = (CONF / "model" / f"{name}.yaml").read_text().splitlines()[0]
    assert f"{size / 1e6:.1f} M" in first_line


@pytest.mark.parametrize("name", [name for name in choices("model") if family_of(name) == "DDPM"])
def test_a_new_ddpm_predicts_nothing_and_has_the_authors_range(name: str) -> None:
    ddpm, keys = build_model(model_of(name)).eval(), slice_keys(0, ["a"])
    x0 = ddpm.encode(torch.rand(1, 1, 32, 32, generator=torch.Generator().manual_seed(0)))
    eps = ddpm.noise(keys, (1, 32, 32), Stage.TRAINING, Draw.FORWARD)
    with torch.no_grad():
        loss = ddpm.noise_error(x0, torch.tensor([500]), eps)
    torch.testing.assert_close(loss, eps.square().mean().view(1))  # the last layer begins at 0
    # Their range: their t is their noise.
    assert (ddpm.low, ddpm.high, ddpm.schedule.T) == (0, 1, 1000)


@pytest.mark.parametrize("name", choices("data"))
def test_a_data_set_builds_without_touching_its_files(name: str, tmp_path: Path) -> None:
    cfg = compose_config("train", f"data={name}", *paths_of(tmp_path))
    datamodule = instantiate(cfg.data, _convert_="all")
    assert isinstance(datamodule, SliceDataModule)
    assert set(datamodule.roles["test"]) <= set(datamodule.sources)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", choices("detector"))
def test_a_detector_s_file_names_its_constructor_s_arguments(name: str) -> None:
    written = OmegaConf.to_container(compose_config("evaluate", f"detector={name}").detector)
    assert isinstance(written, dict)
    assert written.pop("_partial_") is True
    kind = get_class(written.pop("_target_"))
    arguments = inspect.signature(kind).parameters
    assert set(written) == set(arguments) - {"model"}
    assert all("_target_" in part for part in written.values() if isinstance(part, dict))
    lists = {key: value for key, value in written.items() if isinstance(value, list)}
    assert all(is_plain(value) for value in lists.values())  # these are recorded
    settings = {key: value for key, value in written.items() if "$" not in str(value)}
    own = kind.__name__.lower().removesuffix("detector") == name.replace("_", "")
    if own and "__init__" in vars(kind):  # another one's defaults are for its file to change
        defaults = {key: arguments[key].default for key in settings}
        assert settings == defaults | {key: list(defaults[key]) for key in lists}


@cache
def one_of_each_family() -> list[Model]:
    families = {family_of(name): name for name in choices("model")} | {"DDPM": "tiny"}
    return [build_model(model_of(name)).eval() for name in families.values()]


def with_its_family(make_detector: Callable[..., Detector]) -> Detector:
    """The detector with a model of the family that it takes; it refuses all others."""
    made, refused = [], []
    for model in one_of_each_family():
        try:
            made.append(make_detector(model=model))
        except ValueError as error:
            refused.append(str(error))
    assert all("these are of a" in message or "these weights are" in message for message in refused)
    (detector,) = made
    return detector


@pytest.mark.parametrize(
    ("detector", "anomaly_map"),
    [(one, "product") for one in choices("detector")]
    + [("autoddpm", one) for one in choices("anomaly_map")],
)
def test_every_detector_and_every_anomaly_map_builds_and_runs(
    detector: str, anomaly_map: str, restoration_weights: Path
) -> None:
    cfg = compose_config(
        "evaluate",
        f"detector={detector}",
        f"anomaly_map={anomaly_map}",
        "perceptual=none",
        "sampler.stride=100",
    )
    if "every" in cfg.detector:
        cfg.detector.every = 50
    if "mask_threshold" in cfg.detector:
        cfg.detector.mask_threshold = 0.1
    if cfg.detector.get("initial"):
        cfg.detector.initial.weights = str(restoration_weights)
    batch = SlicesWithLesion(torch.rand(2, 1, 32, 32), ["a", "b"], torch.rand(2, 1, 32, 32) > 0.9)
    made = with_its_family(instantiate(cfg.detector))
    assert lacking(made, Detector) == []
    assert describe(made) == json.loads(json.dumps(describe(made)))
    detection = detect(made, batch)
    assert detection.calls.max() <= made.most_calls
    assert detection.anomaly_map.shape == detection.reconstruction.shape == batch.image.shape
    assert detection.anomaly_map.min() >= 0
    assert detection.anomaly_map.isfinite().all()


@pytest.mark.parametrize("name", choices("noise"))
def test_a_noise_gives_every_slice_its_own(name: str) -> None:
    noise = instantiate(compose_config("train", f"noise={name}").noise)
    eps = noise(slice_keys(0, ["a", "b"]), (1, 16, 16), Stage.TRAINING, Draw.FORWARD)
    assert eps.shape == (2, 1, 16, 16)
    assert not torch.equal(eps[0], eps[1])


@pytest.mark.parametrize("name", choices("sampler"))
def test_a_sampler_goes_from_t_to_0_in_falling_times(name: str) -> None:
    sampler = compose_config("evaluate", f"sampler={name}").sampler
    times = instantiate(sampler).times(200)
    assert (times[0], times[-1]) == (200, 0)
    assert times == sorted(set(times), reverse=True)
    assert len(times) == -(-200 // sampler.stride) + 1


@pytest.mark.parametrize("name", choices("perceptual"))
def test_a_perceptual_distance_builds_or_says_what_to_do(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    cfg = compose_config("evaluate", f"perceptual={name}").perceptual
    if name == "lpips":
        with pytest.raises(
            InstantiationException, match=r"perceptual=denoiser.*perceptual=lpips_random"
        ):
            instantiate(cfg)
        return
    if name in ("default", "lpips_alex", "lpips_vgg"):
        pytest.importorskip("stlpips_pytorch", reason="needs pip install 'autoddpm[perceptual]'")
    distance = instantiate(cfg)
    assert name == "default" or distance.name.startswith(name)
    a, b = torch.rand(2, 1, 32, 32), torch.rand(2, 1, 32, 32)
    with torch.no_grad():
        assert distance(build_model(model_of("tiny")), a, b).shape == a.shape


@pytest.mark.parametrize("verb", ["train", "evaluate"])
@pytest.mark.parametrize("name", choices("trainer"))
def test_a_trainer_builds_and_leaves_sharding_to_the_data_module(name: str, verb: str) -> None:
    here = ["trainer.accelerator=cpu", "trainer.devices=1"]  # this machine may have no accelerator
    cfg = compose_config(verb, f"trainer={name}", *here).trainer
    assert cfg.use_distributed_sampler is False
    assert isinstance(instantiate(cfg), Trainer)


@pytest.mark.parametrize("name", choices("logger"))
def test_a_logger_builds_and_writes_into_the_run_folder(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip({"csv": "csv"}.get(name, name))
    cfg = compose_config("train", f"logger={name}", f"hydra.run.dir={tmp_path}", hydra=True)
    cfg.hydra.runtime.output_dir = str(tmp_path)
    monkeypatch.setattr(HydraConfig.instance(), "cfg", None)
    HydraConfig.instance().set_config(cfg)
    (logger,) = instantiate(cfg.logger).values()
    assert isinstance(logger, Logger)
    assert str(logger.save_dir).startswith(str(tmp_path))


def test_the_callbacks_and_lpips_of_the_verbs_build(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(HydraConfig.instance(), "cfg", None)
    for verb in ("train", "evaluate"):
        cfg = compose_config(verb, f"hydra.run.dir={tmp_path}", hydra=True)
        cfg.hydra.runtime.output_dir = str(tmp_path)
        HydraConfig.instance().set_config(cfg)
        assert all(
            isinstance(callback, Callback) for callback in instantiate(cfg.callbacks).values()
        )
    assert instantiate(cfg.lpips) is None  # its weights are not in TORCH_HOME


def test_the_module_s_settings_are_its_constructor_s_arguments() -> None:
    arguments = set(inspect.signature(TrainingModule).parameters)
    arguments -= {"model", "data", "objective"}  # of `conf/model`, and of the data module
    assert set(compose_config("train").module) - {"_target_"} == arguments


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("name", choices("experiment"))
def test_an_experiment_composes_with_every_verb_and_names_itself(name: str, verb: str) -> None:
    cfg = compose_config(verb, f"+experiment={name}")
    assert cfg.name == name
    OmegaConf.to_container(cfg.report if verb == "report" else cfg.data, resolve=True)


@pytest.mark.parametrize("verb", VERBS)
def test_no_defaults_list_names_an_experiment(verb: str) -> None:
    defaults = yaml.safe_load((CONF / f"{verb}.yaml").read_text())["defaults"]
    assert not any("experiment" in entry for entry in defaults if isinstance(entry, dict))


@pytest.mark.parametrize(
    "path", sorted(CONF.rglob("*.yaml")), ids=lambda p: str(p.relative_to(CONF))
)
def test_every_target_in_conf_can_be_imported(path: Path) -> None:
    for target in re.findall(r"_target_:\s*(\S+)", path.read_text()):
        assert _locate(target), target


# every command that is promised somewhere


def commands() -> Iterator[tuple[Path, str]]:
    """Every `python -m src.VERB ...` of recipes, README, docs/ and conf/ itself, with its file."""
    recipes = (path for path in ROOT.glob("experiments/**/*") if path.suffix in (".sh", ".md"))
    documents = (ROOT / "README.md", ROOT / "weights" / "README.md", *ROOT.glob("docs/*.md"))
    for path in (*documents, *recipes, *CONF.rglob("*.yaml")):
        text = path.read_text(encoding="utf-8").replace("\\\n", " ") if path.is_file() else ""
        variables = dict(re.findall(r'^(\w+)="?([^"\s#]+)"?', text, re.MULTILINE))
        variables |= dict(re.findall(r"^ *for (\w+) in ([^\s;]+)", text, re.MULTILINE))  # the first
        for command in re.findall(r"python -m src\.\w+[^\n`#]*", text):
            command = re.split(r"\s{3,}|[;|>]|\.$| \.\.\.", command)[
                0
            ]  # what follows is explanation
            if not EXAMPLE.search(command):
                yield path, substitute(command, variables)


def substitute(command: str, variables: dict[str, str]) -> str:
    """Put in the shell variables that the script sets itself, and the default of those that it may
    be given."""

    def value(match: re.Match[str]) -> str:
        name, default = match[1] or match[3], match[2]
        return substitute(variables[name], variables) if name in variables else default or "X"

    command = re.sub(r'"\$(@|\{@:\d\})"', "", command)
    return re.sub(r"\$(?:\{(\w+)(?::-([^}]*))?\}|(\w+))", value, command)


COMMANDS = sorted({(str(path.relative_to(ROOT)), command) for path, command in commands()})


@pytest.mark.parametrize(("source", "command"), COMMANDS)
def test_every_promised_command_composes(source: str, command: str) -> None:
    _, _, module, *arguments = shlex.split(command)
    overrides = [
        argument.replace("=...", "=X") for argument in arguments if not argument.startswith("-")
    ]
    parsed = OverridesParser.create().parse_overrides(overrides)
    jobs = BasicSweeper.split_arguments(parsed, max_batch_size=None)[0]
    assert len(jobs) == 1 or "-m" in arguments or "--multirun" in arguments
    for job in jobs:
        cfg = compose_config(module.removeprefix("src."), *job)
        assert isinstance(cfg, DictConfig)
        said = dict(override.split("=", 1) for override in job)
        assert cfg.name == (said.get("name") or said.get("+experiment") or cfg.name)


def test_the_recipes_of_the_repository_are_among_the_commands() -> None:
    sources = {source for source, _ in COMMANDS}
    assert {str(path.relative_to(ROOT)) for path in ROOT.glob("experiments/*/run.sh")} <= sources
    assert {"conf/train.yaml", "conf/evaluate.yaml", "conf/report.yaml"} <= sources
    assert {"README.md", "docs/data.md", "docs/train.md", "docs/evaluate.md"} <= sources


def test_a_script_s_variables_are_put_into_its_commands() -> None:
    variables = {
        "checkpoint": "runs/$name/last.ckpt",
        "perceptual": "${1:-denoiser}",
        "name": "ixi",
    }
    command = "python -m src.evaluate checkpoint=$checkpoint perceptual=${perceptual} t=${2:-50}"
    expected = "python -m src.evaluate checkpoint=runs/ixi/last.ckpt perceptual=denoiser t=50"
    assert substitute(command, variables) == expected


# the verbs' own words


@pytest.mark.parametrize("name", VERBS)
def test_help_explains_the_choices_and_shows_the_way(name: str, verb: Verb) -> None:
    outcome = verb(name, "--help")
    assert outcome.code == 0
    assert f"python -m src.{name}" in outcome.out
    of_method = ("detector", "sampler", "perceptual", "anomaly_map")
    groups = {
        "train": ("data", "model", "noise", "trainer", "logger"),
        "evaluate": ("data", *of_method, "trainer"),
        "predict": of_method,
        "report": (),
    }[name]
    for group in groups:
        for choice in choices(group):
            assert re.search(rf"^{group}={choice} +[A-Z].{{6}}", outcome.out, re.MULTILINE), (
                f"{group}={choice}"
            )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("train", "module.learning_rate=1e-3"), "module.learning_rate: there is no such setting"),
        (
            ("evaluate", "detector=autodpm"),
            "detector=autodpm: there is no such choice; did you mean autoddpm?",
        ),
        (("evaluate", "detector=official_v0"), ", authors_code, "),  # its former name
        (("report", "report.slides=[a]"), "report.slides: there is no such setting"),
    ],
)
def test_a_misspelt_key_or_choice_is_refused_in_one_line(
    arguments: tuple[str, ...], words: str, verb: Verb
) -> None:
    outcome = verb(*arguments)
    assert outcome.code == 1
    assert words in outcome.err
    assert "Traceback" not in outcome.err
    assert len(outcome.err.splitlines()) == 1
