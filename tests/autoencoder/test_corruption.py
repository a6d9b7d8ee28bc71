"""Synthetic anomalies: pure in the slice and its key, inside the head, as large as drawn."""

import math

import pytest
import torch
from torch import Tensor

from autoddpm.autoencoder.corruption import CONTENTS, Corruption, inside, moved
from autoddpm.random import Stage, slice_keys

IDS = [f"slice{n}" for n in range(6)]
ALWAYS = Corruption(untouched=0.0)


def heads(count: int, side: int = 64, dimensions: int = 2) -> Tensor:
    """Textured discs, or balls, of 0.4 to 0.9 on black."""
    axes = [torch.linspace(-1, 1, side)] * dimensions
    places = torch.stack(torch.meshgrid(*axes, indexing="ij"))
    texture = torch.rand(count, 1, *[side] * dimensions, generator=torch.Generator().manual_seed(1))
    return (places.square().sum(0).sqrt() < 0.8) * (0.4 + 0.5 * texture)


@pytest.fixture(scope="module")
def image() -> Tensor:
    return heads(len(IDS))


def keys(ids: list[str] = IDS) -> Tensor:
    return slice_keys(0, ids)


def test_it_is_a_function_of_slice_key_stage_and_epoch(image):
    first = ALWAYS(image, keys(), Stage.TRAINING, 3)
    again = ALWAYS(image, keys(), Stage.TRAINING, 3)
    assert torch.equal(first.image, again.image)
    assert torch.equal(first.share, again.share)
    for other in (
        ALWAYS(image, keys(), Stage.TRAINING, 4),
        ALWAYS(image, keys(), Stage.VALIDATION, 3),
        ALWAYS(image, slice_keys(1, IDS), Stage.TRAINING, 3),
    ):
        assert not torch.equal(first.share, other.share)


def test_a_slice_is_corrupted_alike_alone_and_in_a_batch(image):
    together = ALWAYS(image, keys(), Stage.TRAINING, 0)
    for n, name in enumerate(IDS):
        alone = ALWAYS(image[n : n + 1], keys([name]), Stage.TRAINING, 0)
        torch.testing.assert_close(alone.image[0], together.image[n])
        torch.testing.assert_close(alone.share[0], together.share[n])


def test_epochs_of_a_batch_may_differ_by_slice(image):
    epochs = torch.arange(len(IDS))
    together = ALWAYS(image, keys(), Stage.TRAINING, epochs)
    alone = ALWAYS(image[2:3], keys(IDS[2:3]), Stage.TRAINING, 2)
    torch.testing.assert_close(alone.share[0], together.share[2])


@pytest.mark.parametrize("dimensions", [2, 3])
def test_what_is_not_anomalous_is_left_alone(dimensions):
    image = heads(4, 32, dimensions)
    for epoch in range(5):
        found = ALWAYS(image, keys(IDS[:4]), Stage.TRAINING, epoch)
        untouched = found.share == 0
        assert torch.equal(found.image[untouched], image[untouched])
        assert (found.share.flatten(1).amax(1) > 0.2).all()  # and something is anomalous
        assert found.image.min() >= 0
        assert found.image.max() <= 1


def test_no_anomaly_leaves_the_head(image):
    around = torch.nn.functional.max_pool2d((image > 0).float(), 3, 1, 1) == 0
    for epoch in range(20):
        found = ALWAYS(image, keys(), Stage.TRAINING, epoch)
        assert not found.share[around].any()


def test_a_slice_without_a_head_stays_as_it_is():
    empty = torch.zeros(2, 1, 64, 64)
    found = ALWAYS(empty, keys(IDS[:2]), Stage.TRAINING, 0)
    assert torch.equal(found.image, empty)
    assert not found.share.any()


def test_the_stated_share_stays_untouched():
    image, ids = heads(1, 32).expand(400, 1, 32, 32), [str(n) for n in range(400)]
    found = Corruption(untouched=0.25)(image, slice_keys(0, ids), Stage.TRAINING, 0)
    untouched = (found.share == 0).flatten(1).all(1)
    assert 0.19 < untouched.float().mean() < 0.31
    assert torch.equal(found.image[untouched], image[untouched])


@pytest.mark.parametrize(("side", "unit"), [(128, 1), (256, 2)])
def test_an_area_is_as_drawn_at_any_resolution(side, unit):
    area = 400
    one = Corruption(0.0, regions=1, area=(area, area), edge=(0.3, 0.3), strength=(1, 1))
    ids = [str(n) for n in range(40)]
    found = one(heads(40, side), slice_keys(0, ids), Stage.TRAINING, 0)
    pixels = (found.share > 0.5).flatten(1).sum(1).float() / unit**2
    assert pixels.median() == pytest.approx(area, rel=0.15)


def test_sizes_are_log_uniform_between_their_ends():
    one = Corruption(0.0, regions=1, area=(20, 500), edge=(0.3, 0.3), strength=(1, 1))
    ids = [str(n) for n in range(200)]
    found = one(heads(200, 128), slice_keys(0, ids), Stage.TRAINING, 0)
    areas = (found.share > 0.5).flatten(1).sum(1).float()
    assert areas.median() == pytest.approx(math.sqrt(20 * 500), rel=0.25)
    assert areas.quantile(0.05) < 40
    assert areas.quantile(0.95) > 300


def test_the_strength_bounds_the_share_of_other_content(image):
    faint = Corruption(0.0, strength=(0.3, 0.4))(image, keys(), Stage.TRAINING, 0)
    assert faint.share.max() <= 0.4 + 1e-6


def test_contents_are_dark_and_bright():
    one = Corruption(0.0, regions=1, area=(200, 500), strength=(1, 1))
    ids = [str(n) for n in range(100)]
    image = heads(100)
    found = one(image, slice_keys(0, ids), Stage.TRAINING, 0)
    inner = found.share > 0.9
    change = torch.stack(
        [(a - b)[m].mean() for a, b, m in zip(found.image, image, inner, strict=True)]
    )
    assert 0.3 < (change < -0.02).float().mean() < 0.8
    assert 0.1 < (change > 0.02).float().mean() < 0.6


def test_the_shares_of_all_contents_make_one():
    assert sum(CONTENTS.values()) == pytest.approx(1)


def test_the_head_has_its_holes_and_its_depth_is_below_the_skull(image):
    with_hole = image.clone()
    with_hole[..., 28:36, 28:36] = 0
    head, deep = inside(with_hole)
    assert (head[..., 28:36, 28:36] > 0.9).all()
    assert deep.float().mean() < (head > 0.5).float().mean()
    assert not deep[image == 0].any()


def test_a_foreign_patch_is_the_image_from_elsewhere(image):
    unturned = torch.tensor([[0.5, 0.5, 0.5, 0.5]]).expand(len(image), 4)
    torch.testing.assert_close(moved(image, unturned), image.flip(-1), atol=1e-4, rtol=0)
    aside = moved(image, torch.tensor([[0.5, 0.5, 1.0, 0.5]]).expand(len(image), 4))
    shift = 30 * 64 // 128
    expected = image.flip(-1)[..., :-shift]
    torch.testing.assert_close(aside[..., shift:], expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"untouched": 1.0}, r"objective\.untouched=1.0: must be in \[0, 1\)"),
        ({"regions": 0}, "objective.regions=0: must be a whole number of 1 or more"),
        ({"regions": 2.5}, r"objective\.regions=2\.5: must be a whole number"),
        ({"area": [5]}, r"objective\.area=\[5\]: must be two numbers"),
        ({"area": (0, 5)}, r"objective\.area=\[0,5\]: must be above 0"),
        ({"area": (9, 5)}, r"objective\.area=\[9,5\]: .*the smaller value first"),
        ({"edge": (0, 1)}, r"objective\.edge=\[0,1\]: must be above 0"),
        ({"strength": (0.5, 1.5)}, r"objective\.strength=\[0.5,1.5\]: .*at most 1"),
        ({"strength": (0, 1)}, r"objective\.strength=\[0,1\]: must be above 0"),
    ],
)
def test_a_setting_out_of_range_is_refused_by_name(settings, words):
    with pytest.raises(ValueError, match=words):
        Corruption(**settings)
