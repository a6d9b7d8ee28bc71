"""AutoDDPM with its mask from a restoration: it stitches and re-samples where one call sees
something."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from conftest import compose_config
from hydra.utils import instantiate
from tiny import Difference, Slices, images, short_schedule, unet
from tiny import one_thread as one_thread

from autoddpm.autoencoder.restoration import Restoration
from autoddpm.detectors.anomaly_map import brighter_residual, residual
from autoddpm.detectors.autoddpm import AutoDDPM
from autoddpm.detectors.detector import detect, trained_parts
from autoddpm.detectors.restoration import RestorationDetector
from autoddpm.diffusion.ddpm import DDPM
from autoddpm.diffusion.noise.gaussian import Gaussian
from autoddpm.diffusion.sampler import Ancestral
from autoddpm.diffusion.schedule import LinearSchedule
from autoddpm.evaluation.conditions import of_detector, record_of_parts
from autoddpm.evaluation.reconstructions import depends_on
from autoddpm.models.compatibility import check_compatible, check_same_images
from autoddpm.models.trained import load_checkpoint

pytestmark = pytest.mark.usefixtures("one_thread")
DARK = slice(4, 8)


@pytest.fixture
def batch() -> Slices:
    image = 0.5 + 0.4 * images(2)
    image[0, :, DARK, DARK] = 0.1
    return Slices(image, ["lesion", "healthy"])


class Brightens(torch.nn.Module):
    """Restores what is darker than 0.3 to 0.7."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(1, 1, 1)

    def forward(self, x: torch.Tensor, times: torch.Tensor) -> torch.Tensor:
        return torch.where(x < 0.3, 0.7 - x, 0.0)


def detector(**settings: object) -> AutoDDPM:
    torch.manual_seed(0)
    ddpm = DDPM(unet(), short_schedule(), Gaussian())
    first = RestorationDetector(Restoration(Brightens()), Difference(), brighter_residual, "w1")
    settings = {"mask_threshold": 0.1, "dilation": 1, "resample_steps": 2} | settings
    return AutoDDPM(
        ddpm, Ancestral(), Difference(), residual, t=8, t_resample=4, initial=first, **settings
    )


def test_it_changes_only_what_the_restoration_sees(batch):
    found = detect(detector(), batch)
    mask = found.stages["mask"]
    assert mask[0, 0, DARK, DARK].all()
    assert mask.sum() == 16
    assert torch.equal(found.reconstruction[~mask], batch.image[~mask])
    assert found.calls.tolist() == [1 + 2 * 4, 1]  # without a mask: the one call


def test_plain_stitching_takes_the_restored_pixels(batch):
    found = detect(detector(resample_steps=0, use_uncertainty=False), batch)
    torch.testing.assert_close(found.reconstruction[0, 0, DARK, DARK], torch.full((4, 4), 0.7))
    assert found.calls.tolist() == [1, 1]


def test_its_threshold_is_calibrated_on_the_restoration_s_map(batch):
    one = detector(mask_threshold="calibrated")
    assert one.to_calibrate() == {"mask_threshold": one.initial}
    assert one.begins_with is one.initial


def test_it_says_whose_mask_it_has_and_with_which_weights():
    one = detector()
    assert one.label == "AutoDDPM (mask: Restoration)"
    assert detector(resample_steps=0).label == "AutoDDPM (mask: Restoration, w/o re-sampling)"
    first = {"name": "RestorationDetector", "weights": "w1"}
    assert record_of_parts(one)["initial"] == first | {"anomaly_map": {"name": "brighter_residual"}}


def test_another_map_of_the_first_stage_is_another_result():
    one, other = detector(), detector()
    other.initial.map = residual
    assert depends_on(one, {}) == depends_on(detector(), {})
    assert depends_on(one, {}) != depends_on(other, {})
    assert of_detector(one) != of_detector(other)


def test_its_restoration_is_checked_against_the_data(restoration_weights: Path):
    one = detector()
    assert trained_parts(one) == []
    one.initial = RestorationDetector.of_weights(str(restoration_weights), Difference(), residual)
    (part,) = trained_parts(one)
    assert part.path == restoration_weights
    part.data["train_subjects"].append("leaked")
    with pytest.raises(ValueError, match="was trained on 1 of the test subjects"):
        check_compatible(part, part.data["size"], ["leaked"], {})
    two = replace(part, model=SimpleNamespace(channels=2, dimensions=2))
    with pytest.raises(ValueError, match=r"was trained on images of channels = 1, .* on 2: "):
        check_same_images(part, two)


def test_weights_that_are_not_there_name_their_setting(tmp_path: Path):
    weights = tmp_path / "none.ckpt"
    with pytest.raises(FileNotFoundError, match=r"^detector\.initial\.weights=.*no such file"):
        RestorationDetector.of_weights(str(weights), Difference(), residual)


def test_the_yaml_reads_the_restoration_s_own_weights(restoration_weights: Path):
    weights = f"detector.initial.weights={restoration_weights}"
    cfg = compose_config("evaluate", "detector=autoddpm_restoration", weights)
    model = DDPM(unet(), LinearSchedule(), Gaussian())
    made = instantiate(cfg.detector)(model=model)
    assert isinstance(made.initial, RestorationDetector)
    assert made.initial.weights == load_checkpoint(restoration_weights).weights_hash


def test_infinity_is_refused_and_not_clamped(batch):
    model = Restoration(Brightens())
    model.restore = lambda image: torch.full_like(image, torch.inf)
    with pytest.raises(ValueError, match=r"lesion, healthy: .* NaN or infinity"):
        detect(RestorationDetector(model, Difference(), brighter_residual), batch)
