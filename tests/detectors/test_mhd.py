"""MHD: Mahalanobis distance from several reconstructions."""

import pytest
import torch
from tiny import (
    Conv,
    Difference,
    KnowsTheImage,
    Recording,
    Slices,
    T,
    images,
    short_ddpm,
    short_schedule,
)
from tiny import one_thread as one_thread

from autoddpm.detectors.anoddpm import AnoDDPM
from autoddpm.detectors.anomaly_map import head, residual, smoothed, unlikeness
from autoddpm.detectors.detector import detect
from autoddpm.detectors.mhd import MHD, RIDGE, mahalanobis
from autoddpm.diffusion.sampler import Ancestral

BATCH = Slices(images(3), ["a", "b", "c"])


def mhd(denoiser: torch.nn.Module, **settings: int) -> MHD:
    return MHD(short_ddpm(denoiser), Ancestral(3), **{"seed": 4, "t": 10, "samples": 3} | settings)


def test_a_length_is_that_of_the_whole_covariance():
    difference, centred = torch.randn(2, 2, 4, 5), torch.randn(6, 2, 2, 4, 5)
    centred -= centred.mean(0)
    region = torch.rand(2, 1, 4, 5) > 0.3
    found = mahalanobis(difference, centred, region)
    for i in range(2):
        inside = region[i].expand(2, 4, 5)
        d, rows = difference[i][inside].double(), centred[:, i][:, inside].double()
        covariance = rows.T @ rows / 5 + RIDGE * torch.eye(len(d), dtype=torch.float64)
        shares = torch.zeros(2, 4, 5, dtype=torch.float64)
        shares[inside] = d * torch.linalg.inv(covariance).mv(d)
        expected = shares.sum(0).clamp(min=0).sqrt().float()
        torch.testing.assert_close(found[i, 0], expected, atol=1e-5, rtol=1e-4)


def test_without_spread_the_length_is_the_difference():
    difference = torch.randn(2, 1, 4, 5)
    region = torch.ones(2, 1, 4, 5, dtype=torch.bool)
    found = mahalanobis(difference, torch.zeros(6, 2, 1, 4, 5), region)
    torch.testing.assert_close(found, difference.abs() / RIDGE**0.5)


def test_pixels_in_which_reconstructions_differ_count_less():
    difference, region = torch.ones(1, 1, 1, 2), torch.ones(1, 1, 1, 2, dtype=torch.bool)
    centred = torch.tensor([[0.0, 1.0], [0.0, -1.0]]).view(2, 1, 1, 1, 2)
    sure, unsure = mahalanobis(difference, centred, region)[0, 0, 0]
    assert sure > 5 * unsure


def test_of_a_detector_without_chance_it_is_the_residual():
    healthy = 0.2 + 0.6 * images(1)
    image = healthy.clone()
    image[..., 4:8, 5:9] = 0.1
    network = KnowsTheImage(2 * healthy - 1, short_schedule())
    found = detect(mhd(network), Slices(image, ["a"]))
    length = (image - healthy).abs() / RIDGE**0.5 * head(image)
    torch.testing.assert_close(found.stages["length"], length, atol=1e-3, rtol=0)
    expected = smoothed(length, 1.0) * unlikeness(image, healthy, [1.5]) * head(image)
    torch.testing.assert_close(found.anomaly_map, expected, atol=1e-3, rtol=0)


def test_a_network_that_knows_the_image_finds_nothing():
    found = detect(mhd(KnowsTheImage(2 * BATCH.image - 1, short_schedule())), BATCH)
    assert found.anomaly_map.max() < 1e-5


def test_its_reconstruction_is_the_mean_of_unlike_ones():
    ddpm = short_ddpm(Conv())
    first = detect(AnoDDPM(ddpm, Ancestral(3), Difference(), residual, seed=4, t=10), BATCH)
    two, three = (detect(mhd(Conv(), samples=n), BATCH).reconstruction for n in (2, 3))
    second = 2 * two - first.reconstruction
    assert second.min() > -1e-5  # the first is AnoDDPM's own
    assert second.max() < 1 + 1e-5
    third = 3 * three - 2 * two
    assert (second - third).abs().mean() > 0.01
    assert (second - first.reconstruction).abs().mean() > 0.01


def test_the_calls_it_states_are_the_calls_it_makes():
    network = Recording(Conv())
    found = detect(mhd(network), BATCH)
    assert found.calls.tolist() == [3 * 4] * 3
    assert network.slices == 3 * 3 * 4
    assert mhd(Conv()).label == "MHD (3 x t=10)"


@pytest.mark.parametrize(
    ("settings", "words"), [({"t": T + 1}, rf"t={T + 1}"), ({"samples": 1}, "samples=1")]
)
def test_settings_out_of_range_are_refused_by_name(settings, words):
    with pytest.raises(ValueError, match=rf"detector\.{words}"):
        mhd(Conv(), **settings)
