"""Forward and reverse steps and the loss: Eqs. (1)-(4), (8), (13), as laws and against MONAI."""

import math

import numpy as np
import pytest
import reference
import torch
from monai.networks.schedulers import DDPMScheduler
from tiny import (
    FIRST,
    LAST,
    Constant,
    Conv,
    Recording,
    T,
    images,
    short_ddpm,
)
from tiny import one_thread as one_thread

from autoddpm.diffusion.ddpm import DDPM
from autoddpm.diffusion.noise.gaussian import Gaussian
from autoddpm.diffusion.schedule import LinearSchedule
from autoddpm.random import Draw, Stage, normal, slice_keys

BETA = reference.betas(T, FIRST, LAST)
ZERO, ONE = torch.zeros(1, 1, 1, 1), torch.ones(1, 1, 1, 1)


def paper_ddpm(denoiser: torch.nn.Module, data_range: tuple[float, float] = (-1.0, 1.0)) -> DDPM:
    return DDPM(denoiser, LinearSchedule(1000, 1e-4, 0.02), Gaussian(), data_range)


def normals(count: int, t: int) -> torch.Tensor:
    return normal(slice_keys(0, ["a"]), count, Stage.VALIDATION, Draw.FORWARD, t).view(1, 1, 1, -1)


def test_time_zero_returns_the_image_bit_for_bit():
    ddpm, x0, eps = short_ddpm(Conv()), images(3), torch.randn(3, 1, 16, 16)
    assert torch.equal(ddpm.q_sample(x0, 0, eps), x0)
    assert torch.equal(ddpm.q_sample(x0, torch.zeros(3, dtype=torch.int64), eps), x0)


@pytest.mark.parametrize("t", [1, 2, 7, T])
def test_noising_to_t_has_the_moments_of_equation_4(t):
    ddpm, alpha_bar = short_ddpm(Conv()), reference.alpha_bars(BETA)[t]
    assert float(ddpm.q_sample(ONE, t, ZERO)) == pytest.approx(math.sqrt(alpha_bar), rel=1e-6)
    assert float(ddpm.q_sample(ZERO, t, ONE)) == pytest.approx(math.sqrt(1 - alpha_bar), rel=1e-6)


@pytest.mark.parametrize("t", [1, 2, 7, T])
def test_a_single_step_has_the_moments_of_equation_1(t):
    ddpm = short_ddpm(Conv())
    assert float(ddpm.q_step(ONE, t - 1, t, ZERO)) == pytest.approx(
        math.sqrt(1 - BETA[t]), rel=1e-6
    )
    assert float(ddpm.q_step(ZERO, t - 1, t, ONE)) ** 2 == pytest.approx(BETA[t], rel=1e-5)


def test_draws_by_single_steps_have_the_moments_of_equation_4():
    ddpm, t, count = short_ddpm(Conv()), 6, 50_000
    x = torch.full((1, 1, 1, count), 0.7)
    for step in range(1, t + 1):
        x = ddpm.q_step(x, step - 1, step, normals(count, step))
    at_once = ddpm.q_sample(torch.full((1, 1, 1, count), 0.7), t, normals(count, 0))
    alpha_bar = reference.alpha_bars(BETA)[t]
    for draws in (x, at_once):
        assert float(draws.mean()) == pytest.approx(0.7 * math.sqrt(alpha_bar), abs=0.01)
        assert float(draws.var()) == pytest.approx(1 - alpha_bar, rel=0.02)


@pytest.mark.parametrize(("s", "t"), [(0, 5), (1, 2), (3, 11), (4, 4), (11, T)])
def test_noising_to_s_and_on_to_t_is_noising_to_t(s, t):
    ddpm = short_ddpm(Conv())
    scale = float(ddpm.q_step(ddpm.q_sample(ONE, s, ZERO), s, t, ZERO))
    first = float(ddpm.q_step(ddpm.q_sample(ZERO, s, ONE), s, t, ZERO))
    second = float(ddpm.q_step(ddpm.q_sample(ZERO, s, ZERO), s, t, ONE))
    assert scale == pytest.approx(float(ddpm.q_sample(ONE, t, ZERO)), rel=1e-5)
    assert first**2 + second**2 == pytest.approx(float(ddpm.q_sample(ZERO, t, ONE)) ** 2, rel=1e-5)
    oracle = reference.forward(np.array(0.3), s, t, BETA, np.array(-1.2))
    assert float(ddpm.q_step(0.3 * ONE, s, t, -1.2 * ONE)) == pytest.approx(float(oracle), abs=1e-6)


@pytest.mark.parametrize("t", [1, 2, 200, 1000])
def test_a_reverse_step_equals_monais(t):
    theirs = DDPMScheduler(1000, schedule="linear_beta", beta_start=1e-4, beta_end=0.02)
    ddpm, x_t = paper_ddpm(Conv()), 2 * images(2, seed=t) - 1
    estimate = ddpm.predict_eps(x_t, t)
    eps = torch.randn(x_t.shape, generator=torch.Generator().manual_seed(t))
    expected, expected_x0 = theirs.step(
        estimate, t - 1, x_t, generator=torch.Generator().manual_seed(t)
    )
    torch.testing.assert_close(ddpm.p_sample(x_t, t, t - 1, eps), expected, atol=2e-4, rtol=0)
    torch.testing.assert_close(ddpm.predict_x0(x_t, t, estimate), expected_x0, atol=1e-4, rtol=0)


@pytest.mark.parametrize("t", [2, 50, 500])
def test_the_mean_of_a_reverse_step_is_equation_3_if_not_clipped(t):
    ddpm, beta = paper_ddpm(Constant(0.3)), reference.betas(1000, 1e-4, 0.02)
    alpha_bar = reference.alpha_bars(beta)[t]
    x_t = ddpm.q_sample(images(1) - 0.5, t, torch.full((1, 1, 16, 16), 0.3))
    mean = (x_t - beta[t] / math.sqrt(1 - alpha_bar) * 0.3) / math.sqrt(1 - beta[t])
    torch.testing.assert_close(
        ddpm.p_sample(x_t, t, t - 1, torch.zeros_like(x_t)), mean, atol=5e-5, rtol=0
    )


@pytest.mark.parametrize(("t", "s"), [(1, 0), (2, 1), (9, 2), (T, 0)])
def test_a_reverse_step_of_any_length_draws_bayes_posterior(t, s):
    ddpm, x_t, eps = (
        short_ddpm(Conv()),
        1.5 * torch.randn(1, 1, 16, 16, generator=torch.manual_seed(0)),
        images(1),
    )
    expected = reference.ancestral(
        lambda x, index: (
            Conv()(torch.from_numpy(x).float()[None, None], torch.tensor([index]))[0, 0]
            .double()
            .numpy()
        ),
        x_t[0, 0].double().numpy(),
        t,
        s,
        BETA,
        eps[0, 0].double().numpy(),
    )
    np.testing.assert_allclose(ddpm.p_sample(x_t, t, s, eps)[0, 0].numpy(), expected, atol=2e-5)


def test_a_step_to_time_zero_gives_the_estimate_for_any_noise():
    ddpm, x_t = short_ddpm(Conv()), torch.randn(1, 1, 16, 16, generator=torch.manual_seed(0))
    for t in (1, 5, T):
        x0 = ddpm.predict_x0(x_t, t, ddpm.predict_eps(x_t, t))
        torch.testing.assert_close(
            ddpm.p_sample(x_t, t, 0, 1e6 * torch.ones_like(x_t)), x0, atol=1e-6, rtol=0
        )


def test_times_of_a_batch_act_slice_by_slice():
    ddpm, x, eps = short_ddpm(Conv()), images(3), images(3, seed=1)
    s, t = torch.tensor([0, 2, 5]), torch.tensor([3, 3, 12])
    for together, alone in (
        (
            ddpm.q_sample(x, t, eps),
            lambda i: ddpm.q_sample(x[i : i + 1], int(t[i]), eps[i : i + 1]),
        ),
        (
            ddpm.q_step(x, s, t, eps),
            lambda i: ddpm.q_step(x[i : i + 1], int(s[i]), int(t[i]), eps[i : i + 1]),
        ),
        (
            ddpm.p_sample(x, t, s, eps),
            lambda i: ddpm.p_sample(x[i : i + 1], int(t[i]), int(s[i]), eps[i : i + 1]),
        ),
        (
            ddpm.noise_error(x, t, eps),
            lambda i: ddpm.noise_error(x[i : i + 1], int(t[i]), eps[i : i + 1]),
        ),
    ):
        torch.testing.assert_close(
            together, torch.cat([alone(i) for i in range(3)]), atol=1e-6, rtol=0
        )


def test_the_network_sees_the_time_less_one():
    denoiser = Recording(Conv())
    ddpm, x = short_ddpm(denoiser), images(2)
    ddpm.predict_eps(x, 1)
    ddpm.predict_eps(x, torch.tensor([T, 4]))
    ddpm.p_sample(x, 7, 3, x)
    ddpm.noise_error(x, 5, x)
    assert denoiser.timesteps == [[0, 0], [T - 1, 3], [6, 6], [4, 4]]


def test_an_estimate_in_half_precision_leaves_the_chain_in_full():
    class Half(Conv):
        def forward(self, x, timesteps):
            return super().forward(x, timesteps).bfloat16()

    ddpm = short_ddpm(Half())
    assert ddpm.predict_eps(images(1), 3).dtype == torch.float32
    assert ddpm.p_sample(images(1), 3, 2, images(1)).dtype == torch.float32


@pytest.mark.parametrize("data_range", [(-1.0, 1.0), (0.0, 1.0)])
def test_the_estimated_image_is_clipped_to_the_models_range(data_range):
    x_t, low = torch.tensor([-9.0, -0.5, 9.0]).view(1, 1, 1, 3), data_range[0]
    ddpm = paper_ddpm(Conv(), data_range)
    x0 = ddpm.predict_x0(x_t, 1, torch.zeros(1, 1, 1, 3))
    torch.testing.assert_close(
        x0.flatten(), torch.tensor([low, max(low, -0.5), 1.0]), atol=1e-3, rtol=0
    )


def test_a_model_can_clip_to_other_values_as_the_authors_do():
    ddpm, x_t = paper_ddpm(Conv(), (0.0, 1.0)), torch.tensor([-9.0, -0.5, 9.0]).view(1, 1, 1, 3)
    other = ddpm.clipped(-1.0, 1.0)
    x0 = other.predict_x0(x_t, 1, torch.zeros(1, 1, 1, 3))
    torch.testing.assert_close(x0.flatten(), torch.tensor([-1.0, -0.5, 1.0]), atol=1e-3, rtol=0)
    assert ddpm.predict_x0(x_t, 1, torch.zeros(1, 1, 1, 3)).min() == 0
    assert other.denoiser is ddpm.denoiser


SAME_LEVEL = {50: 102, 200: 331, 500: 617}  # the paper's t: t on [-1, 1]


def noise_to_signal(ddpm: DDPM, t: int) -> float:
    """Of a noised image: standard deviation of its noise over that of its image."""
    image = images(1, side=64)
    x0, eps = ddpm.encode(image), normals(64 * 64, t).view(1, 1, 64, 64)
    clean = ddpm.q_sample(x0, t, torch.zeros_like(x0))
    return float((ddpm.q_sample(x0, t, eps) - clean).std() / clean.std())


@pytest.mark.parametrize(("t", "other"), SAME_LEVEL.items())
def test_a_noise_level_is_reached_at_another_t_on_another_range(t, other):
    ours, wide = paper_ddpm(Conv(), (0.0, 1.0)), paper_ddpm(Conv(), (-1.0, 1.0))
    eps_ratio = float(normals(4096, t).std() / normals(4096, other).std())
    assert noise_to_signal(ours, t) == pytest.approx(
        noise_to_signal(wide, other) * eps_ratio, rel=0.01
    )
    assert noise_to_signal(ours, t) > 1.5 * noise_to_signal(wide, t)  # and not at the same


class Bounded(Conv):
    """An estimate of at most one half that depends on the image alone."""

    def forward(self, x: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        return super().forward(x, torch.zeros_like(timesteps))


class SeesTheOtherRange(torch.nn.Module):
    """A denoiser of [-1, 1] that is given x_t of [0, 1]: the same noise and image at the other
    range's time."""

    def __init__(self, denoiser: torch.nn.Module, schedule: LinearSchedule) -> None:
        super().__init__()
        self.denoiser, self.root = denoiser, schedule.alpha_bar.sqrt()

    def forward(self, x: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        t = int(timesteps[0]) + 1
        other = SAME_LEVEL[t]
        return self.denoiser(
            self.root[other] * (2 * x / self.root[t] - 1), torch.full_like(timesteps, other - 1)
        )


@pytest.mark.parametrize(("t", "other"), SAME_LEVEL.items())
def test_networks_of_two_ranges_see_one_image_at_matching_times(t, other):
    wide = paper_ddpm(Bounded(), (-1.0, 1.0))
    ours = paper_ddpm(SeesTheOtherRange(wide.denoiser, wide.schedule), (0.0, 1.0))
    image, eps = (
        images(2, side=32),
        torch.randn(2, 1, 32, 32, generator=torch.Generator().manual_seed(t)),
    )
    found = []
    for ddpm, time in ((ours, t), (wide, other)):
        ddpm.clip = (-1e9, 1e9)
        x_t = ddpm.q_sample(ddpm.encode(image), time, eps)
        x0 = ddpm.predict_x0(x_t, time, ddpm.predict_eps(x_t, time))
        found.append((x0 - ddpm.low) / (ddpm.high - ddpm.low))
    noise = float((1 / ours.schedule.alpha_bar[t] - 1).sqrt())
    torch.testing.assert_close(found[0], found[1], atol=0.02 * noise, rtol=0)


def test_the_loss_is_equation_8_for_each_slice():
    ddpm, x0, eps = short_ddpm(Conv()), images(3, side=4), images(3, side=4, seed=1)
    loss = ddpm.noise_error(x0, 6, eps)
    assert loss.shape == (3,)
    for i in range(3):
        x_t = reference.forward(x0[i, 0].double().numpy(), 0, 6, BETA, eps[i, 0].double().numpy())
        estimate = Conv()(torch.from_numpy(x_t).float()[None, None], torch.tensor([5]))[
            0, 0
        ].numpy()
        squares = [
            (eps[i, 0, y, x].item() - estimate[y, x]) ** 2 for y in range(4) for x in range(4)
        ]
        assert float(loss[i]) == pytest.approx(sum(squares) / 16, rel=1e-4)


@pytest.mark.parametrize("data_range", [(-1.0, 1.0), (0.0, 1.0)])
def test_the_models_range_is_entered_and_left_in_one_place(data_range):
    ddpm = paper_ddpm(Conv(), data_range)
    ends = ddpm.encode(torch.tensor([0.0, 0.5, 1.0]))
    assert ends.tolist() == [data_range[0], sum(data_range) / 2, data_range[1]]
    image = images(1)
    torch.testing.assert_close(ddpm.decode(ddpm.encode(image)), image, atol=1e-6, rtol=0)
    assert ddpm.decode(torch.tensor([-7.0, 7.0])).tolist() == [0, 1]
    assert ddpm.decode(torch.tensor([-torch.inf, torch.inf, torch.nan])).isnan().all()


def test_a_range_upside_down_is_refused():
    with pytest.raises(ValueError, match="data_range"):
        paper_ddpm(Conv(), (1.0, -1.0))
