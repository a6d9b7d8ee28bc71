"""The training objective of a DDPM: which t it sees, and the weight of each."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

BINS = (0, 50, 100, 200, 300, 500, 1000)  # validation loss is logged for each of these ranges of t


@dataclass(frozen=True)
class Objective:
    """Times of training samples and their weights. By default the paper's: all t alike.

    t_focus: the last noise level of those that detection visits. The paper's never go above 300.
    t_focus_share: share of the samples with t in 1..t_focus. The others have t in 1..T.
    min_snr: gamma of Min-SNR (Hang et al., ICCV 2023). The weight of a sample's loss is
        min(SNR, gamma) / SNR, with SNR = alpha_bar / (1 - alpha_bar) at its t. None: it is 1.
    """

    t_focus: int = 330
    t_focus_share: float = 0.0
    min_snr: float | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.t_focus_share < 1:
            raise ValueError(f"objective.t_focus_share={self.t_focus_share}: must be in [0, 1)")
        if self.min_snr is not None and not self.min_snr > 0:
            raise ValueError(f"objective.min_snr={self.min_snr}: must be above 0, or null")

    def times(self, u: Tensor, T: int) -> Tensor:  # noqa: N803
        """Times in 1..T, (B,), of uniforms in [0, 1), (B,)."""
        share = self.t_focus_share
        if not share:
            return 1 + (u * T).long()
        focused, anywhere = u / share * min(self.t_focus, T), (u - share) / (1 - share) * T
        return 1 + torch.where(u < share, focused, anywhere).long()

    def weights(self, alpha_bar: Tensor) -> Tensor:
        """Weights of the samples' losses, (B,), of alpha_bar at their times, (B,)."""
        snr = alpha_bar / (1 - alpha_bar)
        return torch.ones_like(snr) if self.min_snr is None else snr.clamp(max=self.min_snr) / snr


def bins(T: int) -> Sequence[tuple[int, int]]:  # noqa: N803
    """The ranges (low, high] of t for which validation loss is logged, up to T."""
    edges = [edge for edge in BINS if edge < T] + [T]
    return list(pairwise(edges))
