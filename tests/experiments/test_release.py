"""experiments/release: the recipe, and what the model card shows."""

from types import ModuleType

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from PIL import Image
from report_runs import ROOT

from autoddpm.models.trained import build_model


@pytest.fixture
def script(monkeypatch):
    def load(name: str) -> ModuleType:
        monkeypatch.syspath_prepend(str(ROOT / "experiments" / "release"))
        return __import__(name)

    return load


@pytest.fixture
def run(tmp_path):
    """A training that was stopped after its first validation and repeated the step."""
    ranges = ("0001-0050", "0051-0100", "0101-0200", "0201-0300")
    columns = ",".join(["epoch,step,train/loss,val/loss", *(f"val/loss_t{one}" for one in ranges)])
    written = {
        "version_0": ["0,19,0.5,,,,,", "0,99,,0.9,0.9,0.9,0.9,0.9"],
        "version_1": [
            "0,99,,0.4,0.8,0.5,0.2,0.1",
            "1,119,0.3,,,,,",
            "1,199,,0.3,0.7,0.4,0.1,0.05",
            "1,219,0.2,,,,,",
        ],
    }
    for version, lines in written.items():
        (tmp_path / "csv" / version).mkdir(parents=True)
        (tmp_path / "csv" / version / "metrics.csv").write_text("\n".join([columns, *lines]) + "\n")
    return tmp_path


def test_a_training_is_judged_by_its_last_validation(script, run):
    expected = (50 * 0.7 + 50 * 0.4 + 100 * 0.1 + 100 * 0.05) / 300
    assert script("card").detection_loss(run) == pytest.approx(expected)


def test_the_card_shows_the_last_measure_of_each_validation(script, run):
    shown = script("card").losses(run)
    assert list(shown.columns)[:3] == ["step", "all", "t = 0001-0050"]
    assert shown.to_numpy()[:, :3].tolist() == [[100, 0.4, 0.8], [200, 0.3, 0.7]]


def test_the_card_s_picture_is_a_grid_of_slices(script, tmp_path):
    rows = [torch.full((3, 1, 4, 5), 0.2), torch.ones(3, 1, 4, 5)]
    script("card").picture(rows, tmp_path / "x.png")
    pixels = np.asarray(Image.open(tmp_path / "x.png"))
    assert pixels.shape == (8, 15)
    assert (pixels[:4] == 51).all()
    assert (pixels[4:] == 255).all()


def test_the_recipe_is_a_network_that_may_be_released():
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        cfg = compose("train", ["+experiment=ixi_release"])
    ddpm = build_model(OmegaConf.to_container(cfg.model, resolve=True))
    assert sum(values.numel() for values in ddpm.parameters()) <= 4_500_000
    assert (ddpm.low, ddpm.high) == (0, 1)
    assert cfg.trainer.max_steps * cfg.data.batch_size >= 36_000 * 8
    assert cfg.module.shift > 0
