"""Restoration: it begins with changing nothing, learns to restore, and begins with a denoiser."""

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from autoddpm.autoencoder.restoration import Restoration, RestorationObjective
from autoddpm.detectors.anomaly_map import brighter_residual
from autoddpm.detectors.detector import detect
from autoddpm.detectors.perceptual import NoPerceptual
from autoddpm.detectors.restoration import RestorationDetector
from autoddpm.diffusion.ddpm import DDPM
from autoddpm.diffusion.noise.gaussian import Gaussian
from autoddpm.diffusion.schedule import LinearSchedule
from autoddpm.models.model import BeginsWithAnother, Model, Trained
from autoddpm.random import Stage, slice_keys
from autoddpm.settings import lacking
from autoddpm.training.begin import begin

IDS = ["a", "b", "c"]


class TwoLayers(nn.Module):
    """A network with a time that it ignores."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.first, self.last = (
            nn.Conv2d(1, width, 3, padding=1),
            nn.Conv2d(width, 1, 3, padding=1),
        )
        self.times: list[Tensor] = []

    def forward(self, x: Tensor, times: Tensor) -> Tensor:
        self.times.append(times)
        return self.last(torch.relu(self.first(x)))


@pytest.fixture
def images() -> Tensor:
    inside = torch.linspace(-1, 1, 32)
    head = (inside[:, None].square() + inside.square()).sqrt() < 0.8
    return head * torch.full((3, 1, 32, 32), 0.6)


@pytest.fixture
def restoration() -> Restoration:
    torch.manual_seed(0)
    return Restoration(TwoLayers(), objective=RestorationObjective(untouched=0.0))


def keys() -> Tensor:
    return slice_keys(0, IDS)


def test_it_begins_with_changing_nothing(restoration, images):
    assert lacking(restoration, Model) == []
    assert torch.equal(restoration.restore(images), images)
    assert [int(times[0]) for times in restoration.unet.times] == [20]


def test_its_loss_at_first_is_the_weighted_corruption(restoration, images):
    found = restoration.objective(images, keys(), Stage.TRAINING, 5)
    change, anomalous = (found.image - images).abs(), found.share > 0.05
    assert (change[anomalous] > 0).any()
    expected = (torch.where(anomalous, 30.0, 1.0) * change).mean((1, 2, 3))
    loss = restoration.loss(images, keys(), torch.tensor([5, 5, 5]))
    torch.testing.assert_close(loss, expected)
    assert torch.equal(restoration.seen(images, keys(), 5), found.image)


def test_its_validation_errors_add_up(restoration, images):
    nn.init.normal_(restoration.unet.last.weight, std=0.1)
    with torch.no_grad():
        losses = restoration.validation_losses(images, keys())
        again = restoration.validation_losses(images, keys())
    assert list(losses) == restoration.validation_names
    assert all(torch.equal(losses[name], again[name]) for name in losses)
    total = 30 * losses["error_anomalous"] + losses["error_around"]
    torch.testing.assert_close(losses["loss"], total)
    untouched = (restoration.restore(images) - images).abs().mean((1, 2, 3))
    torch.testing.assert_close(losses["error_untouched"], untouched)


def test_a_network_that_knows_the_healthy_image_has_no_loss(images):
    class Knows(TwoLayers):
        def forward(self, x: Tensor, times: Tensor) -> Tensor:
            return images - x

    losses = Restoration(Knows()).validation_losses(images, keys())
    assert all(values.abs().max() < 1e-6 for values in losses.values())


def test_a_step_downhill_lowers_its_loss(restoration, images):
    nn.init.normal_(restoration.unet.last.weight, std=0.1)  # away from the kinks at 0
    optimizer = torch.optim.SGD(restoration.parameters(), lr=1e-4)
    before = restoration.loss(images, keys(), torch.zeros(3).long()).mean()
    before.backward()
    optimizer.step()
    with torch.no_grad():
        after = restoration.loss(images, keys(), torch.zeros(3).long()).mean()
    assert after < before


def test_its_example_shows_corrupted_and_restored_images(restoration, images):
    shown = restoration.example(images, IDS)
    assert list(shown) == ["healthy", "corrupted", "restored", "difference"]
    assert torch.equal(shown["corrupted"], shown["restored"])  # untrained
    assert not shown["difference"].any()


def test_the_detector_maps_what_became_brighter(restoration, images):
    with torch.no_grad():
        restoration.unet.last.bias.fill_(0.1)
    detector = RestorationDetector(restoration, NoPerceptual(), brighter_residual)
    found = detect(detector, SimpleNamespace(image=images, id=IDS))
    torch.testing.assert_close(found.anomaly_map, torch.full_like(images, 0.1))
    assert found.calls.tolist() == [1, 1, 1]
    assert found.reconstruction.max() <= 1


def test_the_detector_refuses_another_family_s_weights():
    ddpm = DDPM(TwoLayers(), LinearSchedule(), Gaussian())
    with pytest.raises(
        ValueError, match="of model=restoration, as ixi-restoration; these are of a DDPM"
    ):
        RestorationDetector(ddpm, NoPerceptual(), brighter_residual)


def begun(
    restoration: Restoration, width: int, monkeypatch: pytest.MonkeyPatch, slices: str = "s"
) -> tuple[dict, dict]:
    """Begin a restoration with a DDPM's weights: what tells it apart, and its record of data."""
    trained = Trained(
        DDPM(TwoLayers(width), LinearSchedule(), Gaussian()),
        {},
        {"train_subjects": ["x"], "hash": "s", "preparation": {"slices": 95}},
        7,
        "ddpm.ckpt",
        "abc",
    )
    monkeypatch.setattr("autoddpm.training.begin.load_checkpoint", lambda path: trained)
    data = {"train_subjects": ["y"], "hash": slices, "preparation": None}
    module = SimpleNamespace(model=restoration, hparams={"model": {}, "data": data})
    found = begin(module, "ddpm.ckpt")
    assert torch.equal(restoration.unet.first.weight, trained.model.denoiser.first.weight)
    return found, data


def test_it_begins_with_a_denoiser_and_still_changes_nothing(restoration, images, monkeypatch):
    assert isinstance(restoration, BeginsWithAnother)
    found, data = begun(restoration, 8, monkeypatch)
    assert found == {"begin_from": "abc"}
    assert data["train_subjects"] == ["x", "y"]
    assert data["begun_from"] == "abc"
    assert torch.equal(restoration.restore(images), images)


@pytest.mark.parametrize(("slices", "known"), [("s", {"slices": 95}), ("others", None)])
def test_the_same_slices_were_prepared_in_the_same_way(restoration, monkeypatch, slices, known):
    """A training on packed slices does not know how they were made; the first one may."""
    _, data = begun(restoration, 8, monkeypatch, slices)
    assert data["preparation"] == known


def test_it_does_not_begin_with_another_network(restoration, monkeypatch):
    with pytest.raises(ValueError, match=r"begin_from=ddpm\.ckpt: its network is not that of"):
        begun(restoration, 4, monkeypatch)


def test_it_does_not_begin_with_a_network_of_another_range(restoration):
    ddpm = DDPM(TwoLayers(), LinearSchedule(), Gaussian(), (-1.0, 1.0))
    with pytest.raises(ValueError, match=r"knows images of \[-1.0, 1.0\], a restoration sees"):
        restoration.begin_with(ddpm)


def test_a_weight_of_0_is_refused():
    with pytest.raises(ValueError, match=r"objective\.lesion_weight=0: must be above 0"):
        RestorationObjective(lesion_weight=0)


def test_an_unknown_loss_is_refused():
    with pytest.raises(ValueError, match=r"objective\.loss=huber: must be l1 or mse"):
        RestorationObjective(loss="huber")


@pytest.mark.parametrize(("loss", "expected"), [("l1", 0.25), ("mse", 0.175)])
def test_the_loss_weighs_the_lesion(loss, expected):
    image = torch.zeros(1, 1, 1, 10)
    restored, share = image.clone(), image.clone()
    restored[..., 0], restored[..., 1], share[..., 0] = 0.5, 1.0, 1.0
    objective = RestorationObjective(lesion_weight=3, loss=loss)
    errors = objective.errors(restored, image, share)
    torch.testing.assert_close(errors, torch.tensor([expected]))


@pytest.mark.parametrize("time", [-1, 0.5])
def test_a_time_out_of_range_is_refused(time):
    with pytest.raises(ValueError, match=r"model\.time=.*must be a whole number of 0 or more"):
        Restoration(TwoLayers(), time=time)
