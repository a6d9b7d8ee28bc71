"""Bad input through the verbs: one message as the last line, which names the file and the remedy,
and no work begun."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import (
    SIZE,
    TINY_EVALUATION,
    TINY_TRAINING,
    Outcome,
    Site,
    Verb,
    brain,
    make_site,
    write_table,
)
from PIL import Image

from autoddpm.diffusion.ddpm import DDPM


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
    assert {path.suffix for path in written} <= {".log"}


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


# training


def test_a_missing_folder(verb: Verb, own: Site) -> None:
    outcome = train(verb, own, f"paths.ixi={own.folder}/nowhere")
    assert_refused(
        outcome, own, f"train: {own.folder}/nowhere: there is no such folder", "paths.ixi=DIR"
    )


def test_a_missing_list(verb: Verb, own: Site) -> None:
    path = own.folder / "data" / "ixi" / "split.csv"
    path.unlink()
    assert_refused(train(verb, own), own, f"{path}: there is no such file", "correct")


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:100])


def black(path: Path) -> None:
    Image.fromarray(np.zeros((SIZE, SIZE), np.uint8)).save(path)


def coloured(path: Path) -> None:
    Image.fromarray(
        np.random.default_rng(0).integers(0, 255, (SIZE, SIZE, 3), dtype=np.uint8)
    ).save(path)


def tiny(path: Path) -> None:
    Image.fromarray(brain(0)[0][:8, :8]).save(path)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (truncated, "cannot be read"),
        (black, "every pixel is 0; an empty slice must be left out"),
        (coloured, "its 3 channels differ"),
        (tiny, "8 x 8 pixels are too few"),
    ],
)
def test_an_image_that_is_none(
    spoil: Callable[[Path], None], words: str, verb: Verb, own: Site
) -> None:
    path = own.folder / "data" / "ixi" / "slices" / "IXI001.png"
    spoil(path)
    assert_refused(train(verb, own), own, str(path), words)


def test_an_image_with_nan(verb: Verb, own: Site) -> None:
    folder = own.folder / "data" / "ixi"
    image = brain(1)[0].astype(np.float32)
    image[5, 5] = np.nan
    np.save(folder / "slices" / "IXI001.npy", image)
    (folder / "slices" / "IXI001.png").unlink()
    text = (folder / "split.csv").read_text().replace("IXI001.png", "IXI001.npy")
    (folder / "split.csv").write_text(text)
    assert_refused(
        train(verb, own), own, str(folder / "slices" / "IXI001.npy"), "NaN", "leave the slice out"
    )


def test_a_subject_in_two_splits(verb: Verb, own: Site) -> None:
    folder = own.folder / "data" / "ixi"
    rows = [["subject", "file", "split"], ["A", "IXI000.png", "train"], ["A", "IXI001.png", "val"]]
    write_table(folder / "split.csv", rows)
    assert_refused(train(verb, own), own, "IXI000.png", "IXI001.png")
    outcome = verb(
        "train",
        *TINY_TRAINING,
        *own.paths,
        "data=slice_folder",
        f"paths.healthy={folder / 'slices'}",
        f"data.sources.healthy.index={folder / 'split.csv'}",
        "data.test=[]",
    )
    words = (
        "subject A of healthy is in two splits",
        "IXI000.png",
        "IXI001.png",
        "put all its slices in one",
    )
    assert_refused(outcome, own, *words)


def test_a_lesion_slice_among_those_to_train_on(verb: Verb, own: Site) -> None:
    folder = own.folder / "data" / "healthy"
    folder.mkdir()
    for number in range(4):
        Image.fromarray(brain(number)[0]).save(folder / f"S{number}.png")
    Image.fromarray(brain(2, 4)[1]).save(folder / "S2_mask.png")
    outcome = verb(
        "train",
        *TINY_TRAINING,
        *own.paths,
        "data=slice_folder",
        "data.sources.healthy.split=train",
        "data.calibrate=[]",
        "data.test=[]",
    )
    assert_refused(
        outcome,
        own,
        "lesion slices among those to train on",
        f"{folder / 'S2.png'}",
        "leave them out",
    )


def test_a_folder_that_holds_a_run_of_other_data(verb: Verb, own: Site) -> None:
    assert train(verb, own, f"paths.ixi={own.folder}/nowhere").code == 1
    (run,) = (own.folder / "runs" / "ixi" / "train").iterdir()
    (run / "settings.json").write_text('{"data": "of before"}')
    outcome = train(verb, own)
    assert outcome.code == 1
    assert f"{run} holds a run with another" in outcome.err.splitlines()[-1]
    assert "name=" in outcome.err.splitlines()[-1]
    assert not (run / "checkpoints").exists()


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("model.schedule.beta_end=2", "0 < beta_start <= beta_end < 1"),
        ("model.data_range=[1,0]", "data_range"),
        ("data.train=[ixy]", "unknown source 'ixy'; the sources are ixi"),
        ("data.train=[]", "no source to train on; name one in `train`"),
    ],
)
def test_a_setting_that_cannot_be_meant(override: str, words: str, verb: Verb, own: Site) -> None:
    assert_refused(train(verb, own, override), own, "train: ", words)


# evaluation


def test_no_checkpoint(verb: Verb, own: Site) -> None:
    outcome = verb("evaluate", "+experiment=ixi_stroke", *TINY_EVALUATION, *own.paths)
    assert_refused(outcome, own, "evaluate: checkpoint: none given", "checkpoint=FILE")


def test_a_missing_checkpoint(verb: Verb, own: Site) -> None:
    outcome = evaluate(verb, own, own.folder / "none.ckpt")
    assert_refused(
        outcome, own, f"evaluate: checkpoint={own.folder}/none.ckpt: no such file", "src.train"
    )


def test_a_truncated_checkpoint(verb: Verb, own: Site, checkpoint: Path) -> None:
    path = own.folder / "half.ckpt"
    path.write_bytes(checkpoint.read_bytes()[:5000])
    assert_refused(
        evaluate(verb, own, path), own, f"{path}: not a checkpoint of autoddpm, or truncated"
    )


def test_a_checkpoint_of_another_size(verb: Verb, own: Site, checkpoint: Path) -> None:
    outcome = evaluate(verb, own, checkpoint, "data.size=48")
    assert_refused(
        outcome, own, f"{checkpoint} was trained at 32 px, these slices have 48: set data.size=32"
    )


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("noise=simplex", "leave `noise` out"),
        ("model=small", "Leave `model` out: it comes with the checkpoint"),
    ],
)
def test_a_checkpoint_of_another_noise_or_network(
    override: str, words: str, verb: Verb, own: Site, checkpoint: Path
) -> None:
    assert_refused(evaluate(verb, own, checkpoint, override), own, str(checkpoint), words)


def test_weights_with_nan(verb: Verb, own: Site, checkpoint: Path) -> None:
    content = torch.load(checkpoint)
    content["state_dict"]["model.denoiser.conv_in.conv.bias"][0] = float("nan")
    path = own.folder / "nan.ckpt"
    torch.save(content, path)
    assert_refused(evaluate(verb, own, path), own, str(path), "NaN", "conv_in.conv.bias")


def test_a_test_subject_that_the_network_was_trained_on(
    verb: Verb, own: Site, checkpoint: Path
) -> None:
    path = own.folder / "data" / "ixi_stroke" / "index.csv"
    path.write_text(path.read_text().replace("IXI501", "IXI005"))
    assert_refused(evaluate(verb, own, checkpoint), own, str(checkpoint), "test subjects (IXI005)")


def test_a_perceptual_distance_without_its_weights(verb: Verb, own: Site, checkpoint: Path) -> None:
    outcome = evaluate(verb, own, checkpoint, "perceptual=lpips")
    assert_refused(outcome, own, "squeezenet1_1", "perceptual=denoiser", "perceptual=lpips_random")


def test_a_mask_of_another_size(verb: Verb, own: Site, checkpoint: Path) -> None:
    path = own.folder / "data" / "ixi_stroke" / "lesions" / "lesion_003.png"
    Image.fromarray(np.full((16, 16), 255, np.uint8)).save(path)
    assert_refused(evaluate(verb, own, checkpoint), own, str(path), "16 x 16", "save both alike")


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("detector.t=2000", "detector.t=2000: must be a noise level from 1 to T=1000"),
        ("detector.dilation=2", "detector.dilation=2: must be an odd number"),
        ("detector.mask_threshold=some", "must be a number, 'calibrated' or 'percentile'"),
    ],
)
def test_a_detector_s_setting_that_cannot_be_meant(
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
