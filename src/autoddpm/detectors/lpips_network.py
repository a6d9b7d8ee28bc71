"""Networks of LPIPS (Zhang et al., 2018), random or from a file, and their use on grey images."""

import importlib.util
import re
import warnings
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import lpips
import torch
from torch import Tensor
from torch.nn.functional import interpolate

SQUEEZENET_FILE = "squeezenet1_1-b8a52dc0.pth"
STLPIPS = "stlpips_pytorch"
AT_ONCE = 4 * 128 * 128  # pixels: more take more memory and, on a CPU, more time per slice


def squeezenet_file() -> Path:
    """The path at which torchvision keeps its SqueezeNet weights."""
    return Path(torch.hub.get_dir()) / "checkpoints" / SQUEEZENET_FILE


def stlpips_file(net: str) -> Path | None:
    """The path at which the package `stlpips-pytorch` keeps the weights of a network.

    The package is not imported: it needs others that it does not declare.

    net: "vgg" or "alex".

    Returns None if the package is not installed.
    """
    package = importlib.util.find_spec(STLPIPS)
    if package is None or not package.submodule_search_locations:
        return None
    return (
        Path(package.submodule_search_locations[0])
        / "weights"
        / "vST0.0"
        / f"{net}_shift_tolerant.pth"
    )


def random_squeezenet(seed: int) -> lpips.LPIPS:
    """LPIPS with the learned heads over a SqueezeNet drawn from `seed`.

    The global random stream is left alone.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _frozen(_lpips("squeeze"))


def _lpips(net: str, **more: Any) -> lpips.LPIPS:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="torchvision")  # of how lpips calls it
        return lpips.LPIPS(net=net, pnet_rand=True, spatial=True, verbose=False, **more)


def trained_squeezenet(path: Path) -> lpips.LPIPS:
    """LPIPS with the SqueezeNet of torchvision's file.

    Raises ValueError, naming the file, if it holds another network.
    """
    network, state = random_squeezenet(0), _read(path, "download torchvision's file again")
    expected = {}
    for name, values in network.net.state_dict().items():
        layer = name.split(".", 1)[1]  # slice3.5.squeeze.weight -> features.5.squeeze.weight
        if f"features.{layer}" not in state:
            raise ValueError(
                f"{path}: has no features.{layer}: not the weights of torchvision's SqueezeNet 1.1"
            )
        if state[f"features.{layer}"].shape != values.shape:
            raise ValueError(f"{path}: features.{layer} has another shape than in SqueezeNet 1.1")
        expected[name] = state[f"features.{layer}"]
    network.net.load_state_dict(expected)
    return _frozen(network)


def trained_stlpips(path: Path, net: str) -> lpips.LPIPS:
    """LPIPS's graph of `net` with every convolution, bias and head of a file of `stlpips-pytorch`.

    The file's blur filters are constants of its own graph and are left out.

    Raises ValueError, naming the file, if a tensor is missing, left over, or of another shape.
    """
    with torch.device("meta"):  # a VGG16 with its classifier would be drawn, and thrown away
        network = _lpips(net, pretrained=False)
    state = _read(path, "install stlpips-pytorch again")
    theirs = [name for name in map(str, state) if not name.endswith(".filt")]
    # lins.0 is lin0 again, and so on.
    ours = {
        name: values
        for name, values in network.state_dict().items()
        if not name.startswith("lins.")
    }
    if [_role(name) for name in theirs] != [_role(name) for name in ours]:
        raise ValueError(f"{path}: not the layers of LPIPS with the network {net}")
    for name, other in zip(ours, theirs, strict=True):
        if getattr(state[other], "shape", None) != ours[name].shape:
            raise ValueError(
                f"{path}: {other} has another shape than in LPIPS with the network {net}"
            )
    found = {name: state[other].float() for name, other in zip(ours, theirs, strict=True)}
    network.load_state_dict(found, strict=False, assign=True)
    return _frozen(network)


def lpips_map(
    network: lpips.LPIPS, reconstruction: Tensor, image: Tensor, scale: float = 1.0
) -> Tensor:
    """LPIPS of two batches of images, pixel by pixel, a few slices at a time, in float32.

    Each channel by itself is a grey image: it is repeated to three channels and mapped once to
    [-1, 1]. The distance is the mean over channels.

    reconstruction: (B, C, H, W) in [0, 1].
    image: (B, C, H, W) in [0, 1].
    scale: of the images that the network sees. The map is enlarged to H x W again.

    Returns (B, 1, H, W) >= 0.

    Raises ValueError if the images are volumes, or if the network would see less than 32 x 32
    pixels.
    """
    if image.ndim != 4:
        raise ValueError(
            f"LPIPS compares slices, not images of {image.ndim - 2} dimensions: choose "
            "perceptual=denoiser or none"
        )
    size = tuple(image.shape[-2:])
    height, width = (round(scale * side) for side in size)
    if min(height, width) < 32:
        at = "" if scale == 1 else f" at scale {scale}"
        raise ValueError(f"LPIPS needs images of at least 32x32 pixels, got {(height, width)}{at}")
    layout = torch.channels_last if image.device.type == "cpu" else torch.contiguous_format
    network.to(image.device, memory_format=layout)

    def seen(x: Tensor) -> Tensor:
        smaller = x if scale == 1 else interpolate(x, (height, width), mode="area")
        return smaller.expand(-1, 3, -1, -1).contiguous(memory_format=layout)

    slices = max(1, AT_ONCE // (height * width))
    one, other = (x.flatten(0, 1)[:, None] for x in (reconstruction, image))
    with float32(image):
        pairs = zip(one.split(slices), other.split(slices), strict=True)
        distance = torch.cat([network(seen(a), seen(b), normalize=True) for a, b in pairs])
        distance = distance if scale == 1 else interpolate(distance, size, mode="bilinear")
        return distance.view(image.shape).mean(1, keepdim=True)


def float32(image: Tensor) -> AbstractContextManager[None]:
    """A context in which a distance is computed in float32.

    It is a difference of features that are nearly equal: bf16 would leave little of it.
    """
    return torch.autocast(image.device.type, enabled=False)


def _read(path: Path, remedy: str) -> Mapping[str, Any]:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ValueError(f"{path}: cannot be read as weights ({error}); {remedy}") from error
    return state if isinstance(state, Mapping) else {}


def _role(name: str) -> str:
    """A tensor's name, such as net.slice2.6.bias, without its layer's number.

    The two graphs differ in these numbers.
    """
    return re.sub(r"\.\d+\.", ".", name)


def _frozen(network: lpips.LPIPS) -> lpips.LPIPS:
    return network.eval().requires_grad_(False)
