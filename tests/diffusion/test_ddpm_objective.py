"""The objective of a DDPM: which times its training samples have, and how much each counts."""

import pytest
import torch

from autoddpm.diffusion.objective import Objective

T = 1000


def test_a_share_of_times_is_in_focus_and_the_rest_anywhere() -> None:
    t = Objective(t_focus=100, t_focus_share=0.75).times((torch.arange(40_000) + 0.5) / 40_000, T)
    assert (t.min(), t.max()) == (1, T)
    assert (t <= 100).float().mean() == pytest.approx(0.75 + 0.25 * 100 / T, abs=1e-3)
    counts = t.bincount()
    assert counts[1:101].max() - counts[1:101].min() <= 2
    assert counts[102:].max() - counts[102:].min() <= 1


def test_min_snr_counts_each_sample_by_its_noise_level() -> None:
    beta = torch.linspace(1e-4, 0.02, T, dtype=torch.float64)
    alpha_bar = torch.cumprod(1 - beta, 0)[[0, 49, 99, 299, 999]]
    snr = alpha_bar / (1 - alpha_bar)
    expected = torch.minimum(snr, torch.tensor(5.0)) / snr
    found = Objective(min_snr=5.0).weights(alpha_bar)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=0)
    assert found[0] < 0.01
    assert found[3] == 1
    assert Objective().weights(alpha_bar).tolist() == [1] * 5


@pytest.mark.parametrize(
    "settings", [{"t_focus_share": 1.0}, {"t_focus_share": -0.1}, {"min_snr": 0}]
)
def test_a_share_or_a_strength_that_cannot_be_is_refused(settings: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(settings))):
        Objective(**settings)


def test_times_go_from_1_to_t_and_each_is_as_likely() -> None:
    u = (torch.arange(40) + 0.5) / 40
    times = Objective().times(u, 10)
    assert times.bincount(minlength=11).tolist() == [0, *[4] * 10]
    assert Objective().times(torch.tensor([0.0, 1 - 2**-24]), 1000).tolist() == [1, 1000]
