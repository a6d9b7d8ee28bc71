"""Samplers: grids of times, chains, and single steps against MONAI."""

from itertools import pairwise

import numpy as np
import pytest
import reference
import torch
from monai.networks.schedulers import DDIMScheduler
from tiny import (
    FIRST,
    LAST,
    WIDE,
    Constant,
    Conv,
    KnowsTheImage,
    Recording,
    RecordingNoise,
    T,
    images,
    short_ddpm,
)
from tiny import one_thread as one_thread

from autoddpm.diffusion.ddpm import DDPM
from autoddpm.diffusion.noise import NoiseOf
from autoddpm.diffusion.noise.gaussian import Gaussian
from autoddpm.diffusion.sampler import (
    DDIM,
    Ancestral,
    DPMSolver,
    Sampler,
    count_calls,
    reconstruct,
)
from autoddpm.diffusion.schedule import LinearSchedule
from autoddpm.random import Draw, Stage, slice_keys

BETA = reference.betas(T, FIRST, LAST)
SAMPLERS = [
    Ancestral(1),
    Ancestral(5),
    DDIM(1),
    DDIM(5),
    DDIM(1, eta=1.0),
    DDIM(7, eta=0.5),
    DPMSolver(1),
    DPMSolver(5),
]


def name(sampler: Sampler) -> str:
    return "-".join([type(sampler).__name__, *map(str, vars(sampler).values())])


def noise_of(ids: list[str], size: tuple[int, ...] = (1, 16, 16)) -> NoiseOf:
    return NoiseOf(Gaussian(), slice_keys(0, ids), size, Stage.RECONSTRUCTION)


@pytest.mark.parametrize(("t", "stride"), [(1, 1), (2, 7), (50, 3), (200, 10), (200, 999)])
def test_times_fall_from_t_to_zero_by_the_stride_or_a_last_rest(t, stride):
    times = Ancestral(stride).times(t)
    jumps = [a - b for a, b in pairwise(times)]
    assert times[0] == t
    assert times[-1] == 0
    assert all(jump == stride for jump in jumps[:-1])
    assert 0 < jumps[-1] <= stride
    assert Ancestral(stride).times(t) == DDIM(stride).times(t) == times


def test_a_grid_is_counted_from_its_own_start():
    assert Ancestral(3).times(7) == [7, 4, 1, 0]
    assert Ancestral(3).times(9) == [9, 6, 3, 0]


@pytest.mark.parametrize("stride", [0, -1])
def test_a_stride_below_one_is_refused(stride):
    with pytest.raises(ValueError, match=r"sampler\.stride"):
        Ancestral(stride).times(10)


@pytest.mark.parametrize(("t", "stride"), [(1, 1), (10, 3), (200, 10)])
@pytest.mark.parametrize("kind", [Ancestral, DDIM, lambda stride: DDIM(stride, 1.0), DPMSolver])
def test_with_the_true_noise_every_chain_returns_the_image(kind, t, stride):
    x0, schedule = 2 * images(1, side=8) - 1, LinearSchedule()
    denoiser = Recording(KnowsTheImage(x0, schedule))
    ddpm = DDPM(denoiser, schedule, Gaussian(), WIDE)
    sampler = kind(stride)
    result = reconstruct(ddpm, sampler, x0, t, noise_of(["a"], (1, 8, 8)))
    torch.testing.assert_close(result, x0, atol=1e-4, rtol=0)
    visited = [time + 1 for (time,) in denoiser.timesteps]
    assert [time for time in visited if time in sampler.times(t)] == sampler.times(t)[:-1]
    assert kind is DPMSolver or len(visited) == len(sampler.times(t)) - 1


@pytest.mark.parametrize("stride", [1, 5, 100])
def test_an_ancestral_reconstruction_is_the_loop_of_section_3_1(stride):
    x, noise = 2 * images(2) - 1, noise_of(["a", "b"])
    result = reconstruct(short_ddpm(Conv()), Ancestral(stride), x, T, noise)
    for i in range(2):
        expected = reference.reconstruct(
            lambda x_t, index: Conv()(
                torch.from_numpy(x_t).float()[None, None], torch.tensor([index])
            )[0, 0].numpy(),
            x[i, 0].double().numpy(),
            T,
            stride,
            BETA,
            lambda draw, t, repeat, i=i: noise(Draw[draw], t, repeat)[i, 0].double().numpy(),
        )
        np.testing.assert_allclose(result[i, 0].numpy(), expected, atol=1e-4)


@pytest.mark.parametrize("sampler", SAMPLERS, ids=name)
def test_a_reconstruction_draws_each_noise_that_it_uses_once(sampler):
    noise = RecordingNoise()
    reconstruct(
        short_ddpm(Conv()),
        sampler,
        images(1),
        T,
        NoiseOf.batch(noise, 0, ["a"], images(1), Stage.RECONSTRUCTION),
    )
    times = sampler.times(T)[:-1]
    is_random = isinstance(sampler, Ancestral) or getattr(sampler, "eta", 0) > 0
    drawn = [
        ("FORWARD", T),
        *(("ANCESTRAL", t) for t in times[:-1] if is_random),
    ]  # the last step has none
    assert noise.asked == [(Stage.RECONSTRUCTION, draw, t, 0) for draw, t in drawn]


@pytest.mark.parametrize("eta", [0.0, 0.4])
@pytest.mark.parametrize(("t", "stride"), [(1, 1), (300, 1), (1000, 1), (10, 10), (995, 10)])
def test_a_ddim_step_equals_monais_where_nothing_is_clipped(t, stride, eta):
    theirs = DDIMScheduler(1000, schedule="linear_beta", beta_start=1e-4, beta_end=0.02)
    theirs.set_timesteps(1000 // stride)
    ddpm = DDPM(Constant(0.2), LinearSchedule(), Gaussian(), WIDE)
    x_t = ddpm.q_sample(images(1) - 0.5, t, torch.full((1, 1, 16, 16), 0.2))
    eps = torch.randn(x_t.shape, generator=torch.Generator().manual_seed(t))
    estimate = torch.full_like(x_t, 0.2)
    expected, _ = theirs.step(estimate, t - 1, x_t, eta, generator=torch.Generator().manual_seed(t))
    step = DDIM(stride, eta).step(ddpm, x_t, t, max(t - stride, 0), eps)
    torch.testing.assert_close(step, expected, atol=2e-4, rtol=0)


@pytest.mark.parametrize(("t", "s"), [(T, 11), (9, 2), (5, 0)])
def test_ddim_with_eta_one_is_the_ancestral_step(t, s):
    ddpm, x_t, eps = (
        short_ddpm(Conv()),
        2 * torch.randn(1, 1, 16, 16, generator=torch.manual_seed(0)),
        images(1),
    )
    expected = ddpm.p_sample(x_t, t, s, eps)
    torch.testing.assert_close(
        DDIM(eta=1.0).step(ddpm, x_t, t, s, eps), expected, atol=1e-5, rtol=0
    )


class KnowsTheDistribution(torch.nn.Module):
    """The best estimate for images whose pixels are independent normals of standard deviation c."""

    def __init__(self, c: float, schedule: LinearSchedule) -> None:
        super().__init__()
        self.c, self.alpha_bar = c, schedule.alpha_bar

    def forward(self, x: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        alpha_bar = self.alpha_bar[timesteps + 1].view(-1, 1, 1, 1)
        return (1 - alpha_bar).sqrt() / (alpha_bar * self.c**2 + 1 - alpha_bar) * x


def flow_error(sampler: Sampler, t: int = 600, s: int = 40, c: float = 0.1) -> float:
    """How far a chain from t to s is from the exact solution of the probability-flow equation,
    relative to it."""
    schedule = LinearSchedule()
    ddpm = DDPM(KnowsTheDistribution(c, schedule), schedule, Gaussian(), WIDE).double()
    x = torch.full((1, 1, 2, 2), 0.05, dtype=torch.float64)
    alpha_bar = schedule.alpha_bar.double()
    spread = (alpha_bar * c**2 + 1 - alpha_bar).sqrt()
    exact = x * spread[s] / spread[t]
    times = [time for time in sampler.times(t) if time > s] + [s]
    for now, following in pairwise(times):
        x = sampler.step(ddpm, x, now, following, torch.zeros_like(x))
    return float(((x - exact) / exact).abs().max())


def test_ddim_is_first_order_in_the_stride_and_the_solver_second():
    ddim = [flow_error(DDIM(stride)) for stride in (40, 20)]
    solver = [flow_error(DPMSolver(stride)) for stride in (40, 20)]
    assert 1.8 < ddim[0] / ddim[1] < 2.3
    assert 3.3 < solver[0] / solver[1] < 5
    assert flow_error(DPMSolver(40)) < flow_error(DDIM(20)) / 3  # at the same number of calls


@pytest.mark.parametrize("sampler", SAMPLERS, ids=name)
@pytest.mark.parametrize("t", [1, T])
def test_the_calls_that_are_counted_are_those_that_are_made(sampler, t):
    network = Recording(Constant(0.0))
    reconstruct(short_ddpm(network), sampler, images(1), t, noise_of(["a"]))
    assert len(network.timesteps) == count_calls(sampler, sampler.times(t))


def test_the_solver_visits_one_integer_time_inside_its_step():
    network = Recording(Constant(0.0))
    DPMSolver().step(short_ddpm(network), images(1), 10, 4, images(1))
    (first,), (second,) = network.timesteps
    assert first == 10 - 1
    assert 4 < second + 1 < 10
