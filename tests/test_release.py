"""experiments/release: how trials are judged, and what the model card shows."""

from types import ModuleType

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from PIL import Image
from report_runs import ROOT

from autoddpm.modules.checkpoint import build_ddpm

TRIALS = [
    line.partition("#")[0].split()[1:]
    for line in (ROOT / "experiments" / "release" / "trials.sh").read_text().splitlines()
    if line.startswith("trial ")
]


@pytest.fixture
def script(monkeypatch):
    def load(name: str) -> ModuleType:
        monkeypatch.syspath_prepend(str(ROOT / "experiments" / "release"))
        return __import__(name)

    return load


@pytest.fixture
def run(tmp_path):
    """A training that was stopped after its first validation and repeated the step."""
    columns = (
        "epoch,step,train/loss,val/loss,val/loss_t0001-0050,val/loss_t0051-0100,val/loss_t0101-0200,val/loss_t0201-0300"
    )
    written = {
        "version_0": ["0,19,0.5,,,,,", "0,99,,0.9,0.9,0.9,0.9,0.9"],
        "version_1": ["0,99,,0.4,0.8,0.5,0.2,0.1", "1,119,0.3,,,,,", "1,199,,0.3,0.7,0.4,0.1,0.05", "1,219,0.2,,,,,"],
    }
    for version, lines in written.items():
        (tmp_path / "csv" / version).mkdir(parents=True)
        (tmp_path / "csv" / version / "metrics.csv").write_text("\n".join([columns, *lines]) + "\n")
    return tmp_path


def test_a_trial_is_judged_by_its_last_validation_where_detection_happens(script, run):
    expected = (50 * 0.7 + 50 * 0.4 + 100 * 0.1 + 100 * 0.05) / 300
    assert script("trials").detection_loss(run) == pytest.approx(expected)


def test_a_trial_s_minutes_are_of_training_alone(script, tmp_path):
    lines = ["05:00:00,5 470 training slices", "05:04:30,1 - checkpoint=x", "09:00:00,0 470 training slices"]
    lines += ["09:00:00,2 - continuing from x", "09:00:06,0 - checkpoint=x"]
    stamped = [f"[2026-11-23 {line[:10]}][__main__][INFO] - {line[11:].removeprefix('- ')}" for line in lines]
    (tmp_path / "train.log").write_text("\n".join(stamped))
    assert script("trials").minutes(tmp_path) == pytest.approx(4.6)


def test_the_card_shows_each_validation_once_as_it_was_measured_last(script, run):
    shown = script("card").losses(run)
    assert list(shown.columns)[:3] == ["step", "all", "t = 0001-0050"]
    assert shown.to_numpy()[:, :3].tolist() == [[100, 0.4, 0.8], [200, 0.3, 0.7]]


def test_the_card_s_picture_has_slices_beside_each_other_and_rows_below(script, tmp_path):
    rows = [torch.full((3, 1, 4, 5), 0.2), torch.ones(3, 1, 4, 5)]
    script("card").picture(rows, tmp_path / "x.png")
    pixels = np.asarray(Image.open(tmp_path / "x.png"))
    assert pixels.shape == (8, 15)
    assert (pixels[:4] == 51).all()
    assert (pixels[4:] == 255).all()


def test_a_shift_of_the_validation_slices_is_the_same_each_time_and_none_without_one(script):
    shifts, image = script("trials").SHIFTS, torch.linspace(0, 1, 512).reshape(2, 1, 16, 16)
    u = torch.full((2, 6), 0.9)
    assert torch.equal(shifts[""](image, u), image)
    shifted = shifts[" shifted"](image, u)
    assert torch.equal(shifted, shifts[" shifted"](image, u))
    assert (shifted - image).abs().max() > 0.01


@pytest.mark.parametrize("trial", TRIALS, ids=" ".join)
def test_a_trial_is_a_network_that_may_be_released(trial):
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        model = compose("train", ["+experiment=ixi_release", *trial[1:]]).model
    ddpm = build_ddpm(OmegaConf.to_container(model, resolve=True))
    assert sum(values.numel() for values in ddpm.parameters()) <= 4_500_000
    with torch.no_grad():
        assert ddpm.predict_eps(torch.zeros(1, 1, 64, 64), 1).shape == (1, 1, 64, 64)


def test_no_trial_is_there_twice():
    assert len({" ".join(trial) for trial in TRIALS}) == len(TRIALS) >= 20
