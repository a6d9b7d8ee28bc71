"""The variance schedule of the forward process (paper, section 2)."""

import torch
from torch import Tensor, nn


class LinearSchedule(nn.Module):
    """Betas that grow linearly from `beta_start` at t=1 to `beta_end` at t=T.

    The index is the paper's: every array has T+1 entries and entry 0 is the clean image, so
    `alpha_bar[0]` is 1 and `beta_tilde[1]` is 0. They are computed in float64 and stored as
    float32.

    beta: (T+1,) variance that the step t-1 -> t adds, Eq. (1).
    alpha_bar: (T+1,) share of the clean image's variance that is left at t, Eq. (4).
    beta_tilde: (T+1,) variance of the posterior q(x_{t-1} | x_t, x_0), Eq. (2), which is the fixed
        variance of the sampler.
    """

    beta: Tensor
    alpha_bar: Tensor
    beta_tilde: Tensor

    def __init__(self, T: int = 1000, beta_start: float = 1e-4, beta_end: float = 0.02) -> None:  # noqa: N803
        super().__init__()
        if T < 1 or not 0 < beta_start <= beta_end < 1:
            raise ValueError(
                f"schedule: needs T >= 1 and 0 < beta_start <= beta_end < 1, got {T}, "
                f"{beta_start}, {beta_end}"
            )
        self.T = T
        beta = torch.cat(
            [torch.zeros(1).double(), torch.linspace(beta_start, beta_end, T, dtype=torch.float64)]
        )
        alpha_bar = torch.cumprod(1 - beta, 0)
        beta_tilde = torch.zeros_like(beta)
        beta_tilde[1:] = (1 - alpha_bar[:-1]) / (1 - alpha_bar[1:]) * beta[1:]
        for name, values in {
            "beta": beta,
            "alpha_bar": alpha_bar,
            "beta_tilde": beta_tilde,
        }.items():
            self.register_buffer(name, values.float(), persistent=False)
