"""The VAE's detector: the difference, alone or times the size of the divergence's derivative."""

import pytest
import torch
from tiny import Slices, images
from tiny import one_thread as one_thread
from torch import Tensor, nn

from autoddpm.autoencoder.dae import DAE
from autoddpm.autoencoder.vae import VAE
from autoddpm.detectors.anomaly_map import residual, smoothed
from autoddpm.detectors.detector import detect
from autoddpm.detectors.perceptual import NoPerceptual
from autoddpm.detectors.vae import VAEDetector

BATCH = Slices(images(3), ["a", "b", "c"])


class Squares(nn.Module):
    """Its code is the image less 0.5, with deviation 1: the divergence is half of its square."""

    def encode(self, image: Tensor) -> tuple[Tensor, Tensor]:
        return image - 0.5, torch.ones_like(image)

    def decode(self, code: Tensor) -> Tensor:
        return 0.9 * (code + 0.5)


def detector(context_weight: float = 0.0, **settings: float) -> VAEDetector:
    return VAEDetector(VAE(Squares(), context_weight), NoPerceptual(), residual, **settings)


def test_it_maps_the_difference():
    found = detect(detector(), BATCH)
    torch.testing.assert_close(found.anomaly_map, 0.1 * BATCH.image)
    assert found.calls.tolist() == [1, 1, 1]
    assert found.stages == {}


def test_the_combi_map_is_the_difference_times_the_derivative():
    found = detect(detector(combi=True, smoothing=1.5), BATCH)
    derivative = BATCH.image - 0.5
    assert (derivative < 0).any()
    torch.testing.assert_close(found.stages["kl_gradient"], derivative)
    size = smoothed(derivative.abs(), 1.5)
    torch.testing.assert_close(found.anomaly_map, 0.1 * BATCH.image * size)
    assert found.calls.tolist() == [2, 2, 2]


def test_a_slice_has_the_same_map_alone_and_in_a_batch():
    together = detect(detector(combi=True), BATCH).anomaly_map
    alone = detect(detector(combi=True), Slices(BATCH.image[1:2], ["b"])).anomaly_map
    torch.testing.assert_close(alone[0], together[1])


def test_its_label_says_how_it_was_trained_and_mapped():
    assert [detector(weight).label for weight in (0.0, 0.5)] == ["VAE", "ceVAE"]
    assert detector(0.5, combi=True).label == "ceVAE (combi)"


def test_it_refuses_another_family_s_weights():
    with pytest.raises(ValueError, match="of model=vae or model=cevae; these are of a DAE"):
        VAEDetector(DAE(nn.Identity()), NoPerceptual(), residual)


def test_a_filter_without_a_width_is_refused():
    with pytest.raises(ValueError, match=r"detector\.smoothing=0: must be above 0"):
        detector(smoothing=0)
