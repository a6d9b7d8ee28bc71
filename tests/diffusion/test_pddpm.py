"""pDDPM: patches that cover an image, noise in one of them, and an estimate of each."""

import pytest
import torch
from tiny import Conv, Recording, images, short_schedule
from tiny import one_thread as one_thread
from torch import Tensor, nn

from autoddpm.diffusion.noise.gaussian import Gaussian
from autoddpm.diffusion.pddpm import PDDPM
from autoddpm.models.model import Model
from autoddpm.random import Draw, Stage, slice_keys
from autoddpm.settings import lacking

IDS = ["a", "b", "c"]


def model(denoiser: nn.Module, patch: float = 0.5, dimensions: int = 2) -> PDDPM:
    return PDDPM(denoiser, short_schedule(), Gaussian(), patch, dimensions=dimensions)


def keys(ids: list[str] = IDS) -> Tensor:
    return slice_keys(0, ids)


def eps_of(image: Tensor) -> Tensor:
    return Gaussian()(keys(), image.shape[1:], Stage.RECONSTRUCTION, Draw.FORWARD)


@pytest.mark.parametrize("space", [(16, 16), (15, 17), (9, 10, 11)])
@pytest.mark.parametrize(("patch", "per_side"), [(1.0, 1), (0.5, 2), (0.2, 5), (1 / 3, 3)])
def test_the_patches_cover_every_pixel(patch, per_side, space):
    one = model(Conv(), patch, len(space))
    patches = list(one.grid(space))
    assert len(patches) == one.calls == per_side ** len(space)
    assert all(inside.shape == (1, 1, *space) for inside in patches)
    times = torch.stack(patches).sum(0)
    assert times.min() == 1
    if all(length % per_side == 0 for length in space):
        assert times.max() == 1
    sizes = {int(inside.sum()) for inside in patches}
    assert sizes == {torch.tensor([one.side(length) for length in space]).prod().item()}


def test_patches_of_more_than_a_half_share_the_middle():
    times = torch.stack(list(model(Conv(), 0.625).grid((16, 16)))).sum(0)[0, 0]
    assert times[0, 0] == 1
    assert times[0, 8] == 2
    assert times[8, 8] == 4


@pytest.mark.parametrize("patch", [0.5, 0.625, 1.0])
def test_a_network_that_knows_the_image_reconstructs_it(patch):
    image = images(3)

    class Knows(nn.Module):
        def forward(self, x: Tensor, times: Tensor) -> Tensor:
            return image

    made = model(Knows(), patch).reconstruct(image, 7, eps_of(image))
    torch.testing.assert_close(made, image)


def test_each_call_sees_one_noised_patch_and_the_rest_clean():
    image, seen = images(3), []

    class Sees(nn.Module):
        def forward(self, x: Tensor, times: Tensor) -> Tensor:
            seen.append(x)
            assert times.tolist() == [6, 6, 6]  # the network counts from 0
            return x

    one = model(Sees())
    alpha_bar, eps = one.schedule.alpha_bar[7], eps_of(image)
    noised = alpha_bar.sqrt() * image + (1 - alpha_bar).sqrt() * eps
    made = one.reconstruct(image, 7, eps)
    for x, patch in zip(seen, one.grid((16, 16)), strict=True):
        torch.testing.assert_close(x, torch.where(patch, noised, image))
    torch.testing.assert_close(made, noised)  # the patches' own pixels, pasted


def test_shared_pixels_are_the_mean_of_their_patches():
    image, calls = images(3), iter(range(1, 5))

    class Counts(nn.Module):
        def forward(self, x: Tensor, times: Tensor) -> Tensor:
            return torch.full_like(x, next(calls))

    made = model(Counts(), 0.625).reconstruct(image, 7, eps_of(image))
    assert made[0, 0, 8, 8] == 2.5
    assert made[0, 0, 0, 8] == 1.5
    assert made[0, 0, 15, 0] == 3


def test_the_whole_image_as_its_patch_is_one_plain_call():
    image, network = images(3), Recording(Conv())
    one = model(network, 1.0)
    expected = Conv()(one.noised(image, 7, eps_of(image), torch.tensor(True)), torch.tensor([6]))
    torch.testing.assert_close(one.reconstruct(image, 7, eps_of(image)), expected)
    assert network.timesteps == [[6, 6, 6]]


@pytest.mark.parametrize("patch", [0.5, 1.0])
def test_its_loss_is_the_absolute_error_in_the_patch(patch):
    image, epoch = images(3), torch.tensor([5, 5, 5])

    class Identity(nn.Module):
        def forward(self, x: Tensor, times: Tensor) -> Tensor:
            return x

    one = model(Identity(), patch)
    assert lacking(one, Model) == []
    change = (one.seen(image, keys(), epoch) - image).abs()
    side = round(patch * 16)
    assert (change > 0).flatten(1).sum(1).tolist() == [side * side] * 3
    expected = change.sum((1, 2, 3)) / side**2
    torch.testing.assert_close(one.loss(image, keys(), epoch), expected)


def test_a_training_sample_is_a_function_of_key_and_epoch():
    image, one = images(3), model(Conv())
    together = one.drawn(image, keys(), Stage.TRAINING, torch.tensor([1, 2, 3]))
    alone = one.drawn(image[1:2], keys(["b"]), Stage.TRAINING, 2)
    for one_value, others in zip(alone, together, strict=True):
        torch.testing.assert_close(one_value[0], others[1])
    other = one.drawn(image, keys(), Stage.TRAINING, torch.tensor([2, 3, 4]))
    assert not torch.equal(other[2], together[2])


def test_times_and_places_are_drawn_evenly():
    ids = [str(n) for n in range(1200)]
    image = torch.zeros(1200, 1, 8, 8)
    t, patch, _ = model(Conv()).drawn(image, slice_keys(0, ids), Stage.TRAINING)
    counts = torch.bincount(t, minlength=13)
    assert counts[0] == 0
    assert counts[1:].min() > 60
    assert counts[1:].max() < 145
    corners = torch.stack([one.nonzero()[0] for one in patch[:, 0]])
    assert corners.amin(0).tolist() == [0, 0]
    assert corners.amax(0).tolist() == [4, 4]


@pytest.mark.parametrize("patch", [0, 1.5])
def test_a_patch_that_is_no_part_of_the_image_is_refused(patch):
    with pytest.raises(ValueError, match=rf"model\.patch={patch}: must be above 0 and at most 1"):
        model(Conv(), patch)
