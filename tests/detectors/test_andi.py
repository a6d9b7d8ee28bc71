"""ANDi: deviations of single denoising steps, aggregated."""

import pytest
import torch
from tiny import (
    Constant,
    Conv,
    KnowsTheImage,
    Recording,
    Slices,
    images,
    short_ddpm,
    short_schedule,
)
from tiny import one_thread as one_thread

from autoddpm.detectors.andi import ANDi
from autoddpm.detectors.detector import detect
from autoddpm.diffusion.ddpm import DDPM
from autoddpm.diffusion.noise import NoiseOf
from autoddpm.diffusion.noise.gaussian import Gaussian
from autoddpm.diffusion.schedule import LinearSchedule
from autoddpm.random import Draw, Stage, slice_keys

BATCH = Slices(images(3), ["a", "b", "c"])


def andi(denoiser: torch.nn.Module, **settings: int) -> ANDi:
    return ANDi(short_ddpm(denoiser), **{"seed": 4, "low": 2, "high": 9} | settings)


def posterior_mean(x0: torch.Tensor, x_t: torch.Tensor, t: int) -> torch.Tensor:
    """Eq. (7) of Ho et al. (2020)."""
    schedule = short_schedule()
    beta, now, before = schedule.beta[t], schedule.alpha_bar[t], schedule.alpha_bar[t - 1]
    of_x0 = before.sqrt() * beta / (1 - now)
    return of_x0 * x0 + (1 - beta).sqrt() * (1 - before) / (1 - now) * x_t


@pytest.mark.parametrize("t", [1, 2, 12])
def test_a_deviation_is_that_of_two_posterior_means(t):
    ddpm, (eps, eps_hat) = short_ddpm(Conv()), torch.randn(2, 3, 1, 16, 16)
    x0 = ddpm.encode(BATCH.image)
    x_t = ddpm.q_sample(x0, t, eps)
    alpha_bar = ddpm.schedule.alpha_bar[t]
    estimate = (x_t - (1 - alpha_bar).sqrt() * eps_hat) / alpha_bar.sqrt()
    expected = (posterior_mean(x0, x_t, t) - posterior_mean(estimate, x_t, t)).square()
    torch.testing.assert_close(andi(Conv()).deviation(t, eps, eps_hat), expected)


def test_its_map_is_the_geometric_mean_over_times():
    ddpm, detector = short_ddpm(Conv()), andi(Conv())
    product, keys = torch.ones(3, 1, 16, 16, dtype=torch.float64), slice_keys(4, BATCH.id)
    for t in range(3, 10):
        eps = ddpm.noise(keys, (1, 16, 16), Stage.RECONSTRUCTION, Draw.FORWARD, t)
        eps_hat = ddpm.predict_eps(ddpm.q_sample(ddpm.encode(BATCH.image), t, eps), t)
        product *= detector.deviation(t, eps, eps_hat).double()
    expected = product.pow(1 / 7).float()
    torch.testing.assert_close(detect(detector, BATCH).anomaly_map, expected, atol=0, rtol=1e-3)


def test_a_network_that_knows_the_image_finds_nothing():
    found = detect(andi(KnowsTheImage(2 * BATCH.image - 1, short_schedule())), BATCH)
    assert found.anomaly_map.max() < 1e-10
    torch.testing.assert_close(found.reconstruction, BATCH.image, atol=1e-5, rtol=0)


def test_a_network_that_knows_healthy_tissue_finds_a_lesion():
    healthy = 0.2 + 0.6 * images(1)
    image = healthy.clone()
    image[..., 4:8, 5:9] = 0
    network = KnowsTheImage(2 * healthy - 1, short_schedule())
    found = detect(andi(network), Slices(image, ["a"])).anomaly_map[0, 0]
    assert found[4:8, 5:9].min() > 1e3 * found[10:, 10:].max()


def test_of_several_channels_the_map_is_the_largest():
    image = torch.rand(2, 2, 16, 16)
    ddpm = short_ddpm(Constant(0.0))
    batch = Slices(image, ["a", "b"])
    found = detect(ANDi(ddpm, low=2, high=9), batch)
    assert found.anomaly_map.shape == (2, 1, 16, 16)
    assert found.reconstruction.shape == image.shape
    noise = NoiseOf.batch(ddpm.noise, 0, batch.id, image, Stage.RECONSTRUCTION)
    alpha_bar, beta = ddpm.schedule.alpha_bar, ddpm.schedule.beta
    logarithms = torch.stack(
        [
            (
                beta[t] ** 2 / ((1 - beta[t]) * (1 - alpha_bar[t])) * noise(Draw.FORWARD, t) ** 2
            ).log()
            for t in range(3, 10)
        ]
    )
    expected = logarithms.mean(0).exp().amax(1, keepdim=True)  # its network says: no noise
    torch.testing.assert_close(found.anomaly_map, expected)


@pytest.mark.parametrize(("every", "calls"), [(1, 7), (3, 3)])
def test_the_calls_it_states_are_the_calls_it_makes(every, calls):
    network = Recording(Conv())
    found = detect(andi(network, every=every), BATCH)
    assert found.calls.tolist() == [calls] * 3
    assert network.slices == 3 * calls


def test_its_default_times_are_a_hundred():
    assert ANDi(DDPM(Conv(), LinearSchedule(), Gaussian())).most_calls == 100
    assert andi(Conv()).times == range(9, 2, -1)
    assert andi(Conv()).label == "ANDi (t=2-9)"


@pytest.mark.parametrize(
    ("settings", "words"),
    [({"high": 13}, r"high=13.*T=12"), ({"low": 9}, "low=9"), ({"every": 0}, "every=0")],
)
def test_settings_out_of_range_are_refused_by_name(settings, words):
    with pytest.raises(ValueError, match=rf"detector\.{words}"):
        andi(Conv(), **settings)
