"""THOR: denoising that is led back to the scan."""

import numpy as np
import pytest
import torch
from scipy import ndimage
from tiny import (
    Conv,
    Difference,
    KnowsTheImage,
    Recording,
    RecordingNoise,
    Slices,
    T,
    images,
    short_ddpm,
    short_schedule,
)
from tiny import one_thread as one_thread

from autoddpm.detectors.anoddpm import AnoDDPM
from autoddpm.detectors.anomaly_map import residual
from autoddpm.detectors.detector import detect
from autoddpm.detectors.perceptual import NoPerceptual
from autoddpm.detectors.thor import THOR, replaced
from autoddpm.diffusion.sampler import DDIM, Ancestral, DPMSolver, Sampler
from autoddpm.random import Draw, Stage, slice_keys

BATCH = Slices(images(3), ["a", "b", "c"])


def thor(
    denoiser: torch.nn.Module, *harmonise: int, sampler: Sampler | None = None, t: int = 10
) -> THOR:
    chain = sampler or Ancestral()
    return THOR(short_ddpm(denoiser), chain, Difference(), seed=4, t=t, harmonise=harmonise)


@pytest.mark.parametrize("sampler", [Ancestral(3), DDIM(2), DPMSolver(3)])
def test_without_harmonising_it_reconstructs_as_anoddpm(sampler):
    ddpm = short_ddpm(Conv())
    expected = detect(AnoDDPM(ddpm, sampler, Difference(), residual, seed=4, t=10), BATCH)
    found = detect(thor(Conv(), sampler=sampler), BATCH)
    assert torch.equal(found.reconstruction, expected.reconstruction)
    assert torch.equal(found.calls, expected.calls)
    torch.testing.assert_close(found.anomaly_map, found.stages["map_at_0"])


def test_a_network_that_knows_the_image_finds_nothing():
    found = detect(thor(KnowsTheImage(2 * BATCH.image - 1, short_schedule()), 8, 4, 2), BATCH)
    torch.testing.assert_close(found.reconstruction, BATCH.image, atol=1e-5, rtol=0)
    assert found.anomaly_map.max() < 1e-3


def test_a_lesion_is_replaced_and_healthy_tissue_kept():
    healthy = 0.2 + 0.6 * images(1, side=48)
    image = healthy.clone()
    image[..., 4:8, 5:9] = 0
    network = KnowsTheImage(2 * healthy - 1, short_schedule())
    found = detect(thor(network, 8, 4), Slices(image, ["a"]))
    torch.testing.assert_close(found.reconstruction, healthy, atol=1e-5, rtol=0)
    map_of_slice = found.anomaly_map[0, 0]
    assert map_of_slice[4:8, 5:9].min() > 10 * map_of_slice[24:, 24:].max()


def test_the_blend_is_that_of_scipy_s_morphology():
    changed = torch.rand(2, 1, 40, 40, generator=torch.Generator().manual_seed(2)).pow(8)
    for one, found in zip(changed[:, 0].numpy(), replaced(changed)[:, 0].numpy(), strict=True):
        low, high = ({"mode": "constant", "cval": end} for end in (-np.inf, np.inf))
        closed = ndimage.grey_erosion(ndimage.grey_dilation(one, 13, **low), 13, **high)
        expected = (ndimage.grey_dilation(closed, 13, **low) + one) / 2
        np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_a_change_is_the_residual_times_the_smoothed_distance():
    one, other = images(2), images(2).flip(-1)
    found = thor(Conv()).changed(one, other)
    distance = Difference()(None, other, one).numpy()
    for n in range(2):
        smooth = ndimage.gaussian_filter(distance[n, 0], 2.0, mode="nearest", truncate=4)
        expected = np.abs(one[n, 0] - other[n, 0]).numpy() * smooth.clip(0, 1)
        np.testing.assert_allclose(found[n, 0], expected / expected.max(), rtol=1e-4, atol=1e-6)


def test_its_map_is_the_harmonic_mean_of_its_stages():
    found = detect(thor(Conv(), 8, 3), BATCH)
    assert list(found.stages) == ["map_at_8", "map_at_3", "map_at_0"]
    one, two, three = (values.double() for values in found.stages.values())
    expected = 3 * one * two * three / (one * two + two * three + one * three)
    torch.testing.assert_close(found.anomaly_map.double(), expected.nan_to_num(), rtol=1e-4, atol=0)
    assert one.flatten(1).amax(1).min() > 0.99


def test_a_step_of_its_chain_is_as_in_the_paper():
    noise = RecordingNoise()
    ddpm = short_ddpm(Conv(), noise)
    detector = THOR(ddpm, DDIM(5), Difference(), seed=4, t=10, harmonise=[10])
    found = detect(detector, BATCH)
    assert [asked[1:3] for asked in noise.asked] == [("FORWARD", 10)]  # the first noise, again
    eps = noise(slice_keys(4, BATCH.id), (1, 16, 16), Stage.RECONSTRUCTION, Draw.FORWARD, 10)
    x_10 = ddpm.q_sample(ddpm.encode(BATCH.image), 10, eps)
    healthy = ddpm.decode(ddpm.predict_x0(x_10, 10, ddpm.predict_eps(x_10, 10)))
    share = replaced(detector.changed(BATCH.image, healthy))
    blend = share * healthy + (1 - share) * BATCH.image
    x_5 = ddpm.q_sample(ddpm.encode(blend), 5, eps)
    expected = ddpm.decode(ddpm.predict_x0(x_5, 5, ddpm.predict_eps(x_5, 5)))
    torch.testing.assert_close(found.reconstruction, expected)


def test_the_scale_of_a_map_is_its_slice_s_own():
    detector = THOR(short_ddpm(Conv()), Ancestral(), NoPerceptual(), t=10, harmonise=())
    difference = torch.rand(2, 1, 16, 16) * torch.tensor([0.01, 0.5]).view(2, 1, 1, 1)
    changed = detector.changed(torch.zeros(2, 1, 16, 16), difference)
    torch.testing.assert_close(changed.flatten(1).amax(1), torch.ones(2), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("sampler", "harmonise", "calls"),
    [
        (Ancestral(), (8, 4), 10),
        (Ancestral(5), (8, 4), 4),  # 10, 8, 5, 4
        (DPMSolver(5), (8, 4), 5),  # two calls at 10
        (Ancestral(5), (), 2),
    ],
)
def test_the_calls_it_states_are_the_calls_it_makes(sampler, harmonise, calls):
    network = Recording(Conv())
    detector = thor(network, *harmonise, sampler=sampler)
    assert detect(detector, BATCH).calls.tolist() == [calls] * 3
    assert detector.most_calls == calls
    assert network.slices == 3 * calls


def test_its_label_says_if_it_does_not_harmonise():
    assert thor(Conv(), 4).label == "THOR (t=10)"
    assert thor(Conv()).label == "THOR (t=10, w/o harmonising)"


@pytest.mark.parametrize(
    ("t", "harmonise", "words"),
    [
        (T + 1, (), rf"t={T + 1}"),
        (10, (0,), "harmonise=0"),
        (5, (6,), r"harmonise: 6 is above detector\.t=5"),
        (10, (4, 4), r"harmonise=\[4, 4\]"),
    ],
)
def test_times_that_make_no_sense_are_refused_by_name(t, harmonise, words):
    with pytest.raises(ValueError, match=rf"detector\.{words}"):
        thor(Conv(), *harmonise, t=t)
