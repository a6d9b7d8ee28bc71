"""Perceptual distances: laws, the networks they read, and weights that are absent, broken or
another's."""

import lpips
import pytest
import torch
from tiny import Conv, images, short_ddpm, unet
from tiny import one_thread as one_thread
from torch import nn
from torch.nn.functional import interpolate
from torchvision.models import squeezenet1_1

from autoddpm.detectors.perceptual import (
    LPIPS,
    SQUEEZENET_FILE,
    DenoiserFeatures,
    NoPerceptual,
    RandomLPIPS,
    lpips_where_weights_are,
    squeezenet_file,
)
from autoddpm.diffusion.ddpm import DDPM

pytestmark = pytest.mark.filterwarnings(
    "ignore::UserWarning:torchvision"
)  # of how lpips builds its backbone
IMAGE, RECONSTRUCTION = images(3, side=32), images(3, side=32, seed=1)


@pytest.fixture(autouse=True)
def no_network(monkeypatch, tmp_path):
    """An empty torch cache, and an end to whoever opens a connection."""

    def refuse(*args, **kwargs):
        raise AssertionError("a connection was opened")

    monkeypatch.setattr("socket.socket.connect", refuse)
    monkeypatch.setattr("socket.getaddrinfo", refuse)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)


@pytest.fixture(scope="module")
def ddpm() -> DDPM:
    return short_ddpm(unet())


@pytest.fixture(scope="module")
def squeezenet() -> dict[str, torch.Tensor]:
    """The state dict of a SqueezeNet 1.1 with random features, as torchvision's file holds it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        return squeezenet1_1(weights=None).state_dict()


@pytest.fixture(scope="module")
def random_lpips() -> RandomLPIPS:
    return RandomLPIPS(3)


def by_hand(state: dict[str, torch.Tensor]) -> nn.Module:
    """lpips' own network with each layer of the state dict put into the slice that holds it."""
    network = lpips.LPIPS(net="squeeze", pnet_rand=True, spatial=True, verbose=False)
    features = squeezenet1_1(weights=None)
    features.load_state_dict(state)
    for part in network.net.children():
        for layer, module in part.named_children():
            module.load_state_dict(features.features[int(layer)].state_dict())
    return network


def test_no_perceptual_distance_is_one():
    distance = NoPerceptual()
    assert distance.name == "none"
    assert torch.equal(distance(short_ddpm(Conv()), RECONSTRUCTION, IMAGE), torch.ones_like(IMAGE))


def features() -> DenoiserFeatures:
    return DenoiserFeatures(t=5)


@pytest.mark.parametrize("kind", [features, RandomLPIPS], ids=lambda kind: kind.__name__)
def test_a_distance_is_symmetric_and_zero_only_for_equal_images(kind, ddpm):
    distance = kind()
    assert torch.equal(distance(ddpm, IMAGE, IMAGE.clone()), torch.zeros_like(IMAGE))
    there, back = distance(ddpm, RECONSTRUCTION, IMAGE), distance(ddpm, IMAGE, RECONSTRUCTION)
    torch.testing.assert_close(there, back)
    assert there.shape == IMAGE.shape
    assert there.min() >= 0
    assert there.mean() > 0.01
    assert not there.requires_grad


@pytest.mark.parametrize("kind", [features, RandomLPIPS], ids=lambda kind: kind.__name__)
def test_a_distance_looks_at_each_slice_alone(kind, ddpm):
    distance = kind()
    together = distance(ddpm, RECONSTRUCTION, IMAGE)
    for i in (2, 0):
        alone = distance(ddpm, RECONSTRUCTION[i : i + 1], IMAGE[i : i + 1])
        torch.testing.assert_close(together[i : i + 1], alone, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", [features, RandomLPIPS], ids=lambda kind: kind.__name__)
def test_a_distance_is_the_same_in_bf16(kind, ddpm):
    a, b = images(2, side=32), images(2, seed=1, side=32)
    distance = kind()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        found = distance(ddpm, a, b)
    with torch.no_grad():
        assert torch.equal(found, distance(ddpm, a, b))


def test_the_features_are_the_deepest_encoder_block_s_at_time_t(ddpm):
    network, seen = ddpm.denoiser, []
    hook = (
        network.down_blocks[-1]
        .attentions[-1]
        .register_forward_hook(lambda _, inputs, output: seen.append(output))
    )
    network(ddpm.encode(IMAGE), torch.tensor([4, 4, 4]))
    hook.remove()
    features = DenoiserFeatures(t=5).features(ddpm, IMAGE)
    assert tuple(features.shape) == (3, 8, 16, 16)
    torch.testing.assert_close(features, seen[0])


def test_the_denoisers_distance_is_two_less_twice_the_cosine(ddpm):
    distance = DenoiserFeatures(t=3)
    a, b = distance.features(ddpm, RECONSTRUCTION), distance.features(ddpm, IMAGE)
    cosine = (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1))
    expected = interpolate((2 - 2 * cosine)[:, None], (32, 32), mode="bilinear")
    torch.testing.assert_close(distance(ddpm, RECONSTRUCTION, IMAGE), expected, atol=1e-5, rtol=0)


def test_a_time_beyond_the_schedule_is_refused(ddpm):
    with pytest.raises(ValueError, match=r"perceptual\.t=5000: .*up to"):
        DenoiserFeatures(t=5000)(ddpm, images(1), images(1))


def test_a_network_without_levels_is_refused_with_the_choices():
    with pytest.raises(ValueError, match=r"Conv.*lpips, lpips_random or none"):
        features()(short_ddpm(Conv()), RECONSTRUCTION, IMAGE)


def test_lpips_without_weights_names_their_place_and_the_choices(tmp_path):
    with pytest.raises(FileNotFoundError) as caught:
        LPIPS()
    for part in (
        str(tmp_path / "torch" / "hub" / "checkpoints" / SQUEEZENET_FILE),
        "denoiser",
        "lpips_random",
    ):
        assert part in str(caught.value)
    assert lpips_where_weights_are() is None
    with pytest.raises(FileNotFoundError, match=r"elsewhere\.pth"):
        LPIPS(tmp_path / "elsewhere.pth")


def test_lpips_takes_the_file_from_torchvisions_cache_or_by_name(tmp_path, squeezenet, ddpm):
    for path in (squeezenet_file(), tmp_path / "mine.pth"):
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(squeezenet, path)
    cached, named = LPIPS(), LPIPS(tmp_path / "mine.pth")
    assert cached.name == named.name == "lpips"
    expected = by_hand(squeezenet)(
        2 * RECONSTRUCTION.repeat(1, 3, 1, 1) - 1, 2 * IMAGE.repeat(1, 3, 1, 1) - 1
    ).detach()
    for distance in (cached, named):
        torch.testing.assert_close(distance(ddpm, RECONSTRUCTION, IMAGE), expected)
    metric = lpips_where_weights_are()
    assert metric is not None
    torch.testing.assert_close(metric(RECONSTRUCTION, IMAGE), expected)


@pytest.mark.parametrize("content", [None, {"conv.weight": torch.zeros(1)}, torch.zeros(3)])
def test_the_weights_of_something_else_are_named(tmp_path, content):
    path = tmp_path / "other.pth"
    path.write_text("not a checkpoint") if content is None else torch.save(content, path)
    with pytest.raises(
        ValueError, match=r"other\.pth" + ("" if content is None else ".*SqueezeNet")
    ):
        LPIPS(path)


def test_weights_of_another_shape_are_named(tmp_path, squeezenet):
    path = tmp_path / "shape.pth"
    torch.save(squeezenet | {"features.3.squeeze.weight": torch.zeros(8, 64, 1, 1)}, path)
    with pytest.raises(ValueError, match=r"shape\.pth.*features\.3\.squeeze\.weight"):
        LPIPS(path)


def test_a_random_backbone_depends_on_its_seed_and_is_so_named(random_lpips, ddpm):
    again, other = RandomLPIPS(3), RandomLPIPS(4)
    assert "random" in random_lpips.name
    assert not random_lpips.network.training
    assert random_lpips.name == again.name != other.name
    expected = random_lpips(ddpm, RECONSTRUCTION, IMAGE)
    assert torch.equal(again(ddpm, RECONSTRUCTION, IMAGE), expected)
    assert not torch.allclose(other(ddpm, RECONSTRUCTION, IMAGE), expected)


def test_loading_a_backbone_leaves_the_global_stream_alone():
    state = torch.get_rng_state()
    RandomLPIPS(0)
    assert torch.equal(state, torch.get_rng_state())


def test_images_too_small_for_the_backbone_are_refused(random_lpips, ddpm):
    with pytest.raises(ValueError, match="32x32"):
        random_lpips(ddpm, images(1, side=31), images(1, side=31))
