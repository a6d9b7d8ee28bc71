"""Bad input through the verbs: one message as the last line, which names the file and the remedy,
and no work begun."""

import os
from pathlib import Path

import numpy as np
import pytest
from conftest import (
    TINY_EVALUATION,
    TINY_TRAINING,
    Outcome,
    Site,
    Verb,
    brain,
    make_site,
    write_table,
)

from autoddpm.diffusion.ddpm import DDPM
from autoddpm.locks import alone
from autoddpm.models.trained import load_checkpoint
from autoddpm.models.weights_file import write_weights

PID = os.getpid()


@pytest.fixture(autouse=True)
def _no_work(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A slice that is noised is work that was begun. And there are no weights of LPIPS on this
    machine."""

    def run(*_: object) -> None:
        raise AssertionError("a slice was noised")

    monkeypatch.setattr(DDPM, "q_sample", run)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))


@pytest.fixture
def own(tmp_path: Path) -> Site:
    """Data sets that a test may break."""
    return make_site(tmp_path, train=3, val=1, test=1)


def assert_refused(outcome: Outcome, site: Site, *words: str) -> None:
    """The verb ended before its work, and its last line says what is wrong."""
    assert outcome.code == 1
    last = outcome.err.rstrip().splitlines()[-1]
    assert all(word in last for word in words), last
    assert "Traceback" not in outcome.err
    written = [
        path
        for path in (site.folder / "runs").rglob("*")
        if path.is_file() and ".hydra" not in path.parts
    ]
    assert {path.suffix for path in written} <= {".log", ".lock"}


def train(verb: Verb, site: Site, *overrides: str) -> Outcome:
    return verb("train", "+experiment=ixi", *TINY_TRAINING, *site.paths, *overrides)


def evaluate(verb: Verb, site: Site, checkpoint: Path | str, *overrides: str) -> Outcome:
    return verb(
        "evaluate",
        "+experiment=ixi_stroke",
        f"checkpoint={checkpoint}",
        *TINY_EVALUATION,
        *site.paths,
        *overrides,
    )


# One of each origin: what is refused, and in which words, is tested where it is refused.


def test_a_missing_folder(verb: Verb, own: Site) -> None:
    words = f"train: {own.folder}/nowhere: there is no such folder", "paths.ixi=DIR"
    assert_refused(train(verb, own, f"paths.ixi={own.folder}/nowhere"), own, *words)


def test_an_image_with_nan(verb: Verb, own: Site) -> None:
    folder = own.folder / "data" / "ixi"
    image = brain(1)[0].astype(np.float32)
    image[5, 5] = np.nan
    np.save(folder / "slices" / "IXI001.npy", image)
    (folder / "slices" / "IXI001.png").unlink()
    text = (folder / "split.csv").read_text().replace("IXI001.png", "IXI001.npy")
    (folder / "split.csv").write_text(text)
    words = str(folder / "slices" / "IXI001.npy"), "NaN", "leave the slice out"
    assert_refused(train(verb, own), own, *words)


def test_a_subject_in_two_splits(verb: Verb, own: Site) -> None:
    folder = own.folder / "data" / "ixi"
    rows = [["subject", "file", "split"], ["A", "IXI000.png", "train"], ["A", "IXI001.png", "val"]]
    write_table(folder / "split.csv", rows)
    outcome = verb(
        "train",
        *TINY_TRAINING,
        *own.paths,
        "data=slice_folder",
        f"paths.healthy={folder / 'slices'}",
        f"data.sources.healthy.index={folder / 'split.csv'}",
        "data.test=[]",
    )
    words = "subject A of healthy is in two splits", "IXI000.png", "IXI001.png"
    assert_refused(outcome, own, *words, "put all its slices in one")


def test_a_folder_that_holds_a_run_of_other_data(verb: Verb, own: Site) -> None:
    assert train(verb, own, f"paths.ixi={own.folder}/nowhere").code == 1
    (run,) = (own.folder / "runs" / "ixi" / "train").iterdir()
    (run / "settings.json").write_text('{"data": "of before"}')
    outcome = train(verb, own)
    assert outcome.code == 1
    assert f"{run} holds a run with another" in outcome.err.splitlines()[-1]
    assert not (run / "checkpoints").exists()


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("model.schedule.beta_end=2", "0 < beta_start <= beta_end < 1"),
        ("data.train=[]", "no source to train on; name one in `train`"),
    ],
)
def test_a_setting_that_cannot_be_meant(override: str, words: str, verb: Verb, own: Site) -> None:
    assert_refused(train(verb, own, override), own, "train: ", words)


@pytest.mark.parametrize(
    ("model", "size", "words"),
    [
        ("compact", 72, "use a multiple of 16, such as 64 or 80"),
        ("tiny", 33, "use a multiple of 2, such as 32 or 34"),
        ("pddpm", 50, "use a multiple of 16, such as 48 or 64"),
        ("vae", 50, "use a multiple of"),
    ],
)
def test_a_size_that_the_network_cannot_take(
    model: str, size: int, words: str, verb: Verb, own: Site
) -> None:
    outcome = train(verb, own, f"model={model}", f"data.size={size}")
    assert_refused(outcome, own, f"train: data.size={size}: the network cannot take it", words)


def test_a_missing_checkpoint(verb: Verb, own: Site) -> None:
    words = f"evaluate: checkpoint={own.folder}/none.ckpt: no such file", "src.train"
    assert_refused(evaluate(verb, own, own.folder / "none.ckpt"), own, *words)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("data.size=48", "was trained at 32 px, these slices have 48: set data.size=32"),
        ("noise=simplex", "leave `noise` out"),
    ],
)
def test_a_checkpoint_of_another_size_or_noise(
    override: str, words: str, verb: Verb, own: Site, checkpoint: Path
) -> None:
    assert_refused(evaluate(verb, own, checkpoint, override), own, str(checkpoint), words)


def test_a_test_subject_that_the_second_network_was_trained_on(
    verb: Verb, own: Site, checkpoint: Path, restoration_weights: Path
) -> None:
    trained = load_checkpoint(restoration_weights)
    trained.data["train_subjects"].append("IXI501")
    second = own.folder / "second.safetensors"
    write_weights(trained, second)
    given = "detector=autoddpm_restoration", f"detector.initial.weights={second}"
    outcome = evaluate(verb, own, checkpoint, *given)
    assert_refused(outcome, own, str(second), "test subjects (IXI501)")


def test_the_second_network_s_weights_are_not_there(
    verb: Verb, own: Site, checkpoint: Path
) -> None:
    given = "detector=autoddpm_restoration", "detector.initial.weights=none.ckpt"
    outcome = evaluate(verb, own, checkpoint, *given)
    assert_refused(outcome, own, "evaluate: detector.initial.weights=none.ckpt: no such file")


def test_a_test_subject_that_the_network_was_trained_on(
    verb: Verb, own: Site, checkpoint: Path
) -> None:
    path = own.folder / "data" / "ixi_stroke" / "index.csv"
    path.write_text(path.read_text().replace("IXI501", "IXI005"))
    assert_refused(evaluate(verb, own, checkpoint), own, str(checkpoint), "test subjects (IXI005)")


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("perceptual=lpips", "squeezenet1_1"),
        ("detector.dilation=2", "detector.dilation=2: must be an odd number"),
    ],
)
def test_a_part_of_a_detector_that_cannot_be(
    override: str, words: str, verb: Verb, own: Site, checkpoint: Path
) -> None:
    assert_refused(evaluate(verb, own, checkpoint, override), own, "evaluate: ", words)


def test_a_report_of_nothing(verb: Verb, own: Site) -> None:
    outcome = verb("report", "+experiment=ixi_stroke", *own.paths)
    assert_refused(outcome, own, "report: no finished evaluation row in", "python -m src.evaluate")


def test_the_whole_traceback_can_be_had(
    verb: Verb, own: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    with pytest.raises(FileNotFoundError, match="nowhere"):
        train(verb, own, f"paths.ixi={own.folder}/nowhere")


# two at once


def test_a_second_training_in_one_folder_is_told_of_the_first(verb: Verb, own: Site) -> None:
    name = "name=twice"
    assert train(verb, own, name, "data.size=-1").code == 1  # makes the folder, which it names
    (folder,) = (own.folder / "runs" / "twice" / "train").iterdir()
    with alone(folder):
        second = train(verb, own, name, "data.size=-1")
    assert_refused(second, own, f"train: {folder}", f"another process is at work here (pid {PID} ")


def test_a_second_preparation_is_told_of_the_first(verb: Verb, tmp_path: Path) -> None:
    with alone(tmp_path / "ixi", beside=True):
        paths = [f"paths.{name}={tmp_path / name}" for name in ("ixi", "raw", "prepared")]
        second = verb("prepare", "+experiment=ixi", *paths)
    assert second.code == 1
    assert f"prepare: {tmp_path / 'ixi'}: another process is at work here (pid {PID} " in second.err


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("size_groups=thirds", "size_groups=thirds: must be published or percentiles"),
        ("mask_false_positive_rate=5", "mask_false_positive_rate=5: must be above 0 and below 1"),
        ("objective=lesion/dice", "objective=lesion/dice: is no metric; there are "),
        ("postprocess=median", "postprocess=median: must be none or median5"),
        ("nifti=true", "do not say which volumes they were cut from; see src.prepare"),
    ],
)
def test_what_is_needed_after_the_work_is_tried_before(
    verb: Verb, own: Site, checkpoint: Path, setting: str, said: str
) -> None:
    assert_refused(evaluate(verb, own, checkpoint, setting), own, said)


def test_stores_that_cannot_be_written_are_named_first(verb: Verb, tmp_path: Path) -> None:
    (tmp_path / "prepared").write_text("a file")
    paths = [f"paths.{name}={tmp_path / name}" for name in ("ixi", "raw", "prepared")]
    outcome = verb("prepare", "+experiment=ixi", *paths)
    assert outcome.code == 1
    assert f"{tmp_path / 'prepared'}: cannot be written to" in outcome.err
    assert "paths.prepared=DIR" in outcome.err
