"""DAE: coarse noise in the foreground, pure in the slice and its key, and what removes it."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from autoddpm.autoencoder.dae import DAE, CoarseNoise, rolled
from autoddpm.models.model import Model
from autoddpm.random import Stage, slice_keys
from autoddpm.settings import lacking

IDS = ["a", "b", "c"]


def heads(count: int = 3, side: int = 32, dimensions: int = 2) -> Tensor:
    """Textured discs, or balls, on black."""
    axes = [torch.linspace(-1, 1, side)] * dimensions
    places = torch.stack(torch.meshgrid(*axes, indexing="ij"))
    texture = torch.rand(count, 1, *[side] * dimensions, generator=torch.Generator().manual_seed(1))
    return (places.square().sum(0).sqrt() < 0.8) * (0.4 + 0.5 * texture)


def keys(ids: list[str] = IDS) -> Tensor:
    return slice_keys(0, ids)


def test_noise_is_a_function_of_key_stage_and_epoch():
    image, noise = heads(), CoarseNoise()
    first = noise(image, keys(), Stage.TRAINING, 3).image
    assert torch.equal(first, noise(image, keys(), Stage.TRAINING, 3).image)
    for other in (
        noise(image, keys(), Stage.TRAINING, 4),
        noise(image, keys(), Stage.VALIDATION, 3),
        noise(image, slice_keys(1, IDS), Stage.TRAINING, 3),
    ):
        assert not torch.equal(first, other.image)


def test_a_slice_has_the_same_noise_alone_and_in_a_batch():
    image, epochs = heads(), torch.tensor([0, 4, 7])
    together = CoarseNoise()(image, keys(), Stage.TRAINING, epochs)
    alone = CoarseNoise()(image[1:2], keys(["b"]), Stage.TRAINING, 4)
    torch.testing.assert_close(alone.image[0], together.image[1])


@pytest.mark.parametrize("dimensions", [2, 3])
def test_the_background_stays_empty(dimensions):
    image = heads(dimensions=dimensions)
    found = CoarseNoise()(image, keys(), Stage.TRAINING)
    assert torch.equal(found.share.bool(), image > 0)
    assert torch.equal(found.image[image == 0], image[image == 0])
    assert (found.image[image > 0] != image[image > 0]).float().mean() > 0.99


def test_its_variance_is_that_of_the_enlarged_grid():
    ids = [str(n) for n in range(300)]
    found = CoarseNoise(std=0.3)
    noise = found.noise(torch.ones(300, 1, 64, 64), slice_keys(0, ids), Stage.TRAINING)
    weights = functional.interpolate(torch.eye(16)[:, None], 64, mode="linear", align_corners=True)
    share = weights.square().sum((0, 1)).mean() ** 2  # of the nodes' variance, in two directions
    assert noise.mean().abs() < 0.01
    assert float(noise.var()) == pytest.approx(0.3**2 * float(share), rel=0.03)
    by_place = noise.var(0)  # no pixel is a node more often than another
    assert by_place.std() / by_place.mean() < 0.15


def test_it_is_as_coarse_as_its_grid():
    noise = CoarseNoise(cells=4).noise(torch.ones(3, 1, 64, 64), keys(), Stage.TRAINING)
    steps = (noise[..., 1:] - noise[..., :-1]).abs().flatten(1)
    assert (steps.median(1).values < 0.02).all()
    assert (noise.flatten(1).std(1) > 0.05).all()


def test_each_image_is_rolled_by_its_own_offset():
    field = torch.rand(2, 3, 8, 6)
    found = rolled(field, torch.tensor([[0.51, 0.0], [0.999, 0.34]]))
    assert torch.equal(found[0], field[0].roll([4, 0], [1, 2]))
    assert torch.equal(found[1], field[1].roll([7, 2], [1, 2]))


def test_its_loss_is_the_squared_error_in_the_foreground():
    image = heads()
    dae = DAE(nn.Identity())
    assert lacking(dae, Model) == []
    noise = dae.objective(image, keys(), Stage.TRAINING, 5).image - image
    loss = dae.loss(image, keys(), torch.tensor([5, 5, 5]))
    torch.testing.assert_close(loss, noise.square().mean((1, 2, 3)))


def test_a_network_that_only_fails_outside_has_no_loss():
    image = heads()

    class Bright(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.where(image > 0, image, 1.0)

    losses = DAE(Bright()).validation_losses(image, keys())
    assert not losses["loss"].any()
    assert not losses["error_anomalous"].any()
    assert (losses["error_around"] > 0).all()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"std": 0}, r"objective\.std=0: must be above 0"),
        ({"cells": 1}, r"objective\.cells=1: must be 2 or more"),
    ],
)
def test_a_setting_out_of_range_is_refused_by_name(settings, words):
    with pytest.raises(ValueError, match=words):
        CoarseNoise(**settings)
