"""The linear schedule, in the paper's index."""

import numpy as np
import pytest
import reference
import torch
from monai.networks.schedulers import DDPMScheduler

from autoddpm.diffusion.schedule import LinearSchedule


def test_it_agrees_with_monais_scheduler_one_index_later():
    ours = LinearSchedule()
    theirs = DDPMScheduler(1000, schedule="linear_beta", beta_start=1e-4, beta_end=0.02)
    torch.testing.assert_close(ours.beta[1:], theirs.betas, rtol=1e-6, atol=0)
    torch.testing.assert_close(ours.alpha_bar[1:], theirs.alphas_cumprod, rtol=1e-5, atol=0)
    variances = torch.stack(
        [theirs._get_variance(t) for t in range(1, 1000)]
    )  # its entry 0 is floored at 1e-20
    torch.testing.assert_close(ours.beta_tilde[2:], variances, rtol=1e-3, atol=0)


@pytest.mark.parametrize(
    ("T", "first", "last"), [(1000, 1e-4, 0.02), (12, 0.02, 0.3), (2, 0.1, 0.1)]
)
def test_it_agrees_with_a_loop_over_the_definitions(T, first, last):  # noqa: N803
    schedule = LinearSchedule(T, first, last)
    beta = reference.betas(T, first, last)
    alpha_bar = reference.alpha_bars(beta)
    beta_tilde = [
        0.0,
        *((1 - alpha_bar[t - 1]) / (1 - alpha_bar[t]) * beta[t] for t in range(1, T + 1)),
    ]
    for values, expected in (
        (schedule.beta, beta),
        (schedule.alpha_bar, alpha_bar),
        (schedule.beta_tilde, beta_tilde),
    ):
        assert values.shape == (T + 1,)
        assert values.dtype == torch.float32
        np.testing.assert_allclose(values, expected, rtol=1e-6)


def test_entry_zero_is_the_clean_image_reached_without_variance():
    schedule = LinearSchedule()
    assert (schedule.alpha_bar[0], schedule.beta[0]) == (1, 0)
    assert schedule.beta_tilde[:2].tolist() == [0, 0]
    assert LinearSchedule(1, 0.5, 0.5).alpha_bar.tolist() == [1, 0.5]  # one step is a schedule


def test_it_moves_with_a_module_and_is_not_part_of_the_weights():
    schedule = LinearSchedule(3)
    assert not schedule.state_dict()
    assert schedule.to("meta").alpha_bar.device.type == "meta"


@pytest.mark.parametrize(
    "arguments",
    [(0, 1e-4, 0.02), (10, 0.0, 0.02), (10, 0.02, 1e-4), (10, 1e-4, 1.0), (10, -0.1, 0.1)],
)
def test_impossible_schedules_are_refused(arguments):
    with pytest.raises(ValueError, match="schedule"):
        LinearSchedule(*arguments)
