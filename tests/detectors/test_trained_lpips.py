"""LPIPS with the weights of the package stlpips-pytorch: laws, an oracle, broken files, and what is
chosen unasked."""

import importlib.util
import logging
import warnings
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import lpips
import pytest
import torch
from tiny import images
from tiny import one_thread as one_thread
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate
from torchvision.models import squeezenet1_1

from autoddpm.detectors.lpips_network import AT_ONCE, squeezenet_file, stlpips_file
from autoddpm.detectors.perceptual import LPIPS, TrainedLPIPS, default_distance
from autoddpm.diffusion.ddpm import DDPM
from autoddpm.settings import describe

NETS = ("vgg", "alex")
IMAGE, RECONSTRUCTION = images(3, side=64), images(3, side=64, seed=1)
UNUSED = DDPM.__new__(DDPM)  # these distances have networks of their own

pytestmark = [
    pytest.mark.filterwarnings(
        "ignore::UserWarning:torchvision"
    ),  # of how lpips builds its backbone
    pytest.mark.usefixtures("one_thread"),
]
needs_package = pytest.mark.skipif(
    stlpips_file("vgg") is None, reason="needs stlpips-pytorch: pip install 'autoddpm[perceptual]'"
)


@needs_package
@pytest.mark.parametrize("net", NETS)
def test_building_it_warns_of_nothing(net: str, recwarn: pytest.WarningsRecorder) -> None:
    warnings.simplefilter("always")
    TrainedLPIPS(net)(UNUSED, IMAGE, RECONSTRUCTION)
    assert [str(one.message) for one in recwarn] == []


@pytest.fixture(autouse=True)
def empty_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)


@pytest.fixture
def no_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)


@pytest.fixture
def alex_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Where an installed package would have the file of its AlexNet; there is none yet."""
    package = SimpleNamespace(submodule_search_locations=[str(tmp_path / "package")])
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: package)
    path = stlpips_file("alex")
    assert path is not None
    path.parent.mkdir(parents=True)
    return path


def alex_state() -> dict[str, Tensor]:
    """Random tensors under the names that the package's file has: layers numbered otherwise, and
    blur filters."""
    numbers = {
        "slice2.3": "slice2.5",
        "slice3.6": "slice3.9",
        "slice4.8": "slice4.11",
        "slice5.10": "slice5.13",
    }
    state = {"net.slice1.1.filt": torch.ones(64, 1, 3, 3)}
    for name, values in lpips.LPIPS(net="alex", pnet_rand=True, verbose=False).state_dict().items():
        for ours, theirs in numbers.items():
            name = name.replace(ours, theirs)
        if not name.startswith("lins."):
            state[name] = values
    return state


def by_hand(net: str) -> nn.Module:
    """lpips' own network, filled convolution by convolution and head by head with the tensors of
    the package's file."""
    path = stlpips_file(net)
    assert path is not None
    state = torch.load(path, map_location="cpu", weights_only=True)
    network = lpips.LPIPS(net=net, pnet_rand=True, spatial=True, verbose=False)
    layers = sorted(
        {
            int(name.split(".")[2])
            for name in state
            if name.startswith("net.") and name.endswith(".bias")
        }
    )
    convolutions = [module for module in network.net.modules() if isinstance(module, nn.Conv2d)]
    for layer, convolution in zip(layers, convolutions, strict=True):
        (key,) = (name.removesuffix(".bias") for name in state if name.endswith(f".{layer}.bias"))
        convolution.load_state_dict(
            {"weight": state[f"{key}.weight"], "bias": state[f"{key}.bias"]}
        )
    for number, head in enumerate(network.lins):
        head.model[1].load_state_dict({"weight": state[f"lin{number}.model.1.weight"]})
    return network.eval()


@needs_package
@pytest.mark.parametrize("net", NETS)
def test_the_distance_is_zero_for_equal_images_and_symmetric(net: str) -> None:
    distance = TrainedLPIPS(net, 0.5)
    assert torch.equal(distance(UNUSED, IMAGE, IMAGE.clone()), torch.zeros_like(IMAGE))
    there, back = distance(UNUSED, RECONSTRUCTION, IMAGE), distance(UNUSED, IMAGE, RECONSTRUCTION)
    torch.testing.assert_close(there, back)
    assert there.shape == IMAGE.shape
    assert there.min() >= 0
    assert there.mean() > 0.01
    assert not there.requires_grad


@needs_package
@pytest.mark.parametrize("net", NETS)
def test_the_distance_is_lpips_with_the_package_s_tensors(net: str) -> None:
    one, other = (2 * x.repeat(1, 3, 1, 1) - 1 for x in (RECONSTRUCTION, IMAGE))
    expected = by_hand(net)(one, other).detach()
    torch.testing.assert_close(TrainedLPIPS(net)(UNUSED, RECONSTRUCTION, IMAGE), expected)


@needs_package
def test_half_the_resolution_is_the_distance_of_halved_images() -> None:
    halves = (2 * avg_pool2d(x, 2).repeat(1, 3, 1, 1) - 1 for x in (RECONSTRUCTION, IMAGE))
    expected = interpolate(by_hand("alex")(*halves).detach(), (64, 64), mode="bilinear")
    torch.testing.assert_close(TrainedLPIPS("alex", 0.5)(UNUSED, RECONSTRUCTION, IMAGE), expected)


@needs_package
@pytest.mark.parametrize("net", NETS)
def test_a_slice_has_the_same_distance_alone_and_in_a_batch(net: str) -> None:
    side = 80
    count = AT_ONCE // side**2 + 2  # more than are computed at once
    a, b = images(count, side=side, seed=2), images(count, side=side, seed=3)
    distance = TrainedLPIPS(net)
    together = distance(UNUSED, a, b)
    for i in (0, count - 1):
        alone = distance(UNUSED, a[i : i + 1], b[i : i + 1])
        torch.testing.assert_close(together[i : i + 1], alone, atol=1e-5, rtol=0)


@needs_package
def test_the_distance_is_the_same_in_bf16() -> None:
    distance = TrainedLPIPS("alex")
    expected = distance(UNUSED, RECONSTRUCTION, IMAGE)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(distance(UNUSED, RECONSTRUCTION, IMAGE), expected)


@needs_package
def test_building_leaves_the_global_stream_alone() -> None:
    state = torch.get_rng_state()
    network = TrainedLPIPS("alex").network
    assert torch.equal(state, torch.get_rng_state())
    assert not network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())


def test_the_record_tells_the_networks_and_the_scales_apart(alex_file: Path) -> None:
    torch.save(alex_state(), alex_file)
    whole, half = TrainedLPIPS("alex"), TrainedLPIPS("alex", 0.5)
    assert (whole.name, half.name) == ("lpips_alex", "lpips_alex (scale 0.5)")
    assert describe(half) == {"name": "TrainedLPIPS", "net": "alex", "scale": 0.5}
    a, b = images(1, side=80)[..., :71], images(1, side=80, seed=1)[..., :71]  # odd
    assert half(UNUSED, a, b).shape == (1, 1, 80, 71)


@pytest.mark.parametrize(
    ("net", "scale", "words"),
    [("alex", 0, "scale"), ("alex", 1.5, "scale"), ("squeeze", 1, "net=squeeze")],
)
def test_a_setting_that_cannot_be_is_refused(net: str, scale: float, words: str) -> None:
    with pytest.raises(ValueError, match=rf"perceptual\.{words}"):
        TrainedLPIPS(net, scale)


def test_images_too_small_at_the_scale_are_refused(alex_file: Path) -> None:
    torch.save(alex_state(), alex_file)
    with pytest.raises(ValueError, match=r"32x32 .*scale 0\.5"):
        TrainedLPIPS("alex", 0.5)(UNUSED, images(1, side=62), images(1, side=62))


def test_without_the_package_the_key_and_the_remedies_are_named(no_package: None) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        TrainedLPIPS("vgg")
    for part in (
        "perceptual=lpips_vgg",
        "pip install 'autoddpm[perceptual]'",
        "perceptual=denoiser",
    ):
        assert part in str(caught.value)


def test_a_file_that_the_package_lacks_or_that_is_cut_is_named(alex_file: Path) -> None:
    for is_there in (False, True):
        if is_there:
            torch.save(alex_state(), alex_file)
            alex_file.write_bytes(alex_file.read_bytes()[:100_000])
        with pytest.raises(ValueError, match=r"alex_shift_tolerant\.pth.*install"):
            TrainedLPIPS("alex")


OTHER_LAYERS: dict[str, Callable[[dict[str, Tensor]], object]] = {
    "no head": lambda state: {
        name: values for name, values in state.items() if name != "lin4.model.1.weight"
    },
    "one layer more": lambda state: state | {"net.slice5.15.weight": torch.zeros(256, 256, 3, 3)},
    "another order": lambda state: dict(reversed(state.items())),
    "numbers": lambda state: dict(enumerate(state.values())),
    "a tensor": lambda state: torch.zeros(3),
}


@pytest.mark.parametrize("kind", OTHER_LAYERS)
def test_a_file_with_other_layers_is_named(kind: str, alex_file: Path) -> None:
    torch.save(OTHER_LAYERS[kind](alex_state()), alex_file)
    with pytest.raises(ValueError, match=r"alex_shift_tolerant\.pth: not the layers"):
        TrainedLPIPS("alex")


def test_a_layer_of_another_shape_is_named(alex_file: Path) -> None:
    torch.save(alex_state() | {"net.slice2.5.weight": torch.zeros(192, 64, 3, 3)}, alex_file)
    with pytest.raises(
        ValueError, match=r"alex_shift_tolerant\.pth: net\.slice2\.5\.weight has another shape"
    ):
        TrainedLPIPS("alex")


def test_the_default_is_the_paper_s_network_if_its_file_is_there(
    caplog: pytest.LogCaptureFixture,
) -> None:
    path = squeezenet_file()
    path.parent.mkdir(parents=True)
    torch.save(squeezenet1_1(weights=None).state_dict(), path)
    with caplog.at_level(logging.INFO):
        distance = default_distance()
    assert isinstance(distance, LPIPS)
    assert distance.name == "lpips"
    assert f"lpips, the paper's SqueezeNet, since {path} is there" in caplog.text


@needs_package
def test_the_default_is_vgg_if_the_paper_s_network_is_absent(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.INFO):
        distance = default_distance()
    assert distance.name == "lpips_vgg"
    assert describe(distance) == describe(TrainedLPIPS("vgg"))
    assert "lpips_vgg, since" in caplog.text
    assert str(squeezenet_file()) in caplog.text


def test_without_either_the_default_names_both_remedies(no_package: None) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        default_distance()
    for part in (
        str(squeezenet_file()),
        "perceptual=lpips",
        "pip install 'autoddpm[perceptual]'",
        "denoiser",
    ):
        assert part in str(caught.value)
