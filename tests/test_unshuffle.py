"""The half-resolution network: nothing lost on the way, and every pixel back in its place."""

import torch
from tiny import images
from torch import Tensor, nn

from autoddpm.diffusion.unshuffle import Unshuffled


class Keep(nn.Module):
    def forward(self, x: Tensor, timesteps: Tensor) -> Tensor:
        self.shape = x.shape
        return x


class OnlyFirstChannel(nn.Module):
    def forward(self, x: Tensor, timesteps: Tensor) -> Tensor:
        return torch.cat([x[:, :1], torch.zeros_like(x[:, 1:])], dim=1)


def test_a_network_that_changes_nothing_returns_every_pixel_in_its_place():
    inner, x = Keep(), images(2)
    for factor in (1, 2, 4):
        assert torch.equal(Unshuffled(inner, factor)(x, torch.zeros(2).long()), x)
        assert inner.shape == (2, factor**2, 16 // factor, 16 // factor)


def test_a_channel_is_every_second_pixel():
    x = images(1)
    kept = Unshuffled(OnlyFirstChannel())(x, torch.zeros(1).long())
    assert torch.equal(kept[..., ::2, ::2], x[..., ::2, ::2])
    assert kept.count_nonzero() == x[..., ::2, ::2].count_nonzero()
