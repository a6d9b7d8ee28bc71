"""Perceptual distance of two images: the second factor of Eq. (9).

A perceptual distance is a callable (ddpm, reconstruction, image) -> (B, 1, H, W) >= 0, both images (B, 1, H, W) in
[0, 1]. Its `name` says in every result which one made it.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

import lpips
import torch
from monai.networks.nets.diffusion_model_unet import DiffusionModelUNet, get_timestep_embedding
from torch import Tensor, nn
from torch.nn.functional import interpolate, normalize

from autoddpm.diffusion.ddpm import DDPM
from autoddpm.diffusion.unshuffle import Unshuffled

SQUEEZENET_FILE = "squeezenet1_1-b8a52dc0.pth"


class Perceptual(Protocol):
    @property
    def name(self) -> str: ...
    def __call__(self, ddpm: DDPM, reconstruction: Tensor, image: Tensor) -> Tensor: ...


class NoPerceptual:
    """The constant 1: Eq. (9) without its second factor."""

    name = "none"

    def __call__(self, ddpm: DDPM, reconstruction: Tensor, image: Tensor) -> Tensor:
        return torch.ones_like(image)


class DenoiserFeatures:
    """Difference between the DDPM's own unit-normalised encoder features of the two images; needs no download.

    As LPIPS, with the trained denoiser's encoder for a backbone: features of the clean images at time `t`, normalised
    to length 1 over channels, squared differences summed over channels and enlarged to the image. Only the deepest
    level is used: the finer ones see texture and hide lesions (measured on phantoms, experiments/perceptual). Needs a
    MONAI `DiffusionModelUNet` (its `time_embed`, `conv_in` and `down_blocks`).
    """

    name = "denoiser"

    def __init__(self, t: int = 50) -> None:
        if t < 1:
            raise ValueError(f"perceptual.t={t}: must be a noise level, at least 1")
        self.t = t

    def __call__(self, ddpm: DDPM, reconstruction: Tensor, image: Tensor) -> Tensor:
        if self.t > ddpm.schedule.T:
            raise ValueError(f"perceptual.t={self.t}: the model was trained on noise levels up to {ddpm.schedule.T}")
        with _float32(image):
            a, b = (normalize(self.features(ddpm, x), dim=1) for x in (reconstruction, image))
            return interpolate((a - b).square().sum(1, keepdim=True), image.shape[-2:], mode="bilinear")

    def features(self, ddpm: DDPM, image: Tensor) -> Tensor:
        """Output of the deepest encoder level, (B, C, h, w)."""
        unet, x = ddpm.denoiser, ddpm.encode(image)
        if isinstance(unet, Unshuffled):
            x, unet = unet.unshuffle(x), unet.network
        if not isinstance(unet, DiffusionModelUNet):
            raise ValueError(
                f"perceptual=denoiser needs MONAI's DiffusionModelUNet, this model's network is {type(unet).__name__}: "
                "choose perceptual=lpips, lpips_random or none"
            )
        times = torch.full((len(image),), self.t - 1, device=image.device)
        embedding = unet.time_embed(get_timestep_embedding(times, unet.block_out_channels[0]))
        h = unet.conv_in(x)
        for block in unet.down_blocks:
            h, _ = block(hidden_states=h, temb=embedding, context=None)
        return h


class LPIPS:
    """Learned perceptual image patch similarity (Zhang et al., 2018), SqueezeNet, spatial: the paper's choice.

    weights: a `squeezenet1_1-b8a52dc0.pth` of torchvision. Default: where torchvision keeps it. It is never downloaded
    from here. The grey image is repeated to three channels and mapped once from [0, 1] to [-1, 1].
    """

    def __init__(self, weights: str | Path | None = None) -> None:
        path = Path(weights) if weights else squeezenet_file()
        if not path.is_file():
            raise FileNotFoundError(
                f"perceptual=lpips: no SqueezeNet weights at {path}. Either put torchvision's {SQUEEZENET_FILE} there "
                f"(or name it: perceptual.weights=FILE), or choose another distance: perceptual=denoiser (features of "
                "the DDPM itself) or perceptual=lpips_random (a random backbone)."
            )
        self.name, self.weights = "lpips", str(path)
        self.network = _load(path)

    def __call__(self, ddpm: DDPM, reconstruction: Tensor, image: Tensor) -> Tensor:
        return _distance(self.network, reconstruction, image)


class RandomLPIPS:
    """LPIPS with a random SqueezeNet, drawn from `seed`, under the learned heads. Called random wherever it is used."""

    def __init__(self, seed: int = 0) -> None:
        self.name, self.seed = f"lpips_random (seed {seed})", seed
        self.network = _frozen(_squeezenet(seed))

    def __call__(self, ddpm: DDPM, reconstruction: Tensor, image: Tensor) -> Tensor:
        return _distance(self.network, reconstruction, image)


def squeezenet_file() -> Path:
    """Where torchvision keeps its SqueezeNet weights."""
    return Path(torch.hub.get_dir()) / "checkpoints" / SQUEEZENET_FILE


def lpips_where_weights_are(weights: str | None = None) -> Callable[[Tensor, Tensor], Tensor] | None:
    """(reconstruction, image) -> LPIPS map, for the metric `healthy/lpips`; None where the weights are absent.

    weights: as in `LPIPS`; a file that is named must be there.
    """
    if weights is None and not squeezenet_file().is_file():
        return None
    network = LPIPS(weights).network
    return lambda reconstruction, image: _distance(network, reconstruction, image)


def _load(path: Path) -> nn.Module:
    network = _squeezenet(0)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ValueError(f"{path}: cannot be read as weights ({error}); download torchvision's file again") from error
    expected = {}
    for name, values in network.net.state_dict().items():
        layer = name.split(".", 1)[1]  # slice3.5.squeeze.weight -> features.5.squeeze.weight
        if not isinstance(state, dict) or f"features.{layer}" not in state:
            raise ValueError(f"{path}: has no features.{layer}: not the weights of torchvision's SqueezeNet 1.1")
        if state[f"features.{layer}"].shape != values.shape:
            raise ValueError(f"{path}: features.{layer} has another shape than in SqueezeNet 1.1")
        expected[name] = state[f"features.{layer}"]
    network.net.load_state_dict(expected)
    return _frozen(network)


def _squeezenet(seed: int) -> lpips.LPIPS:
    """LPIPS with the learned heads over a backbone drawn from `seed`; the global random stream is left alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return lpips.LPIPS(net="squeeze", pnet_rand=True, spatial=True, verbose=False)


def _frozen(network: nn.Module) -> nn.Module:
    return network.eval().requires_grad_(False)


def _distance(network: nn.Module, reconstruction: Tensor, image: Tensor) -> Tensor:
    network.to(image.device)
    if min(image.shape[-2:]) < 32:
        raise ValueError(f"LPIPS needs images of at least 32x32 pixels, got {tuple(image.shape[-2:])}")
    channels: Sequence[int] = (-1, 3, -1, -1)
    with _float32(image):
        return network(reconstruction.expand(*channels), image.expand(*channels), normalize=True)


def _float32(image: Tensor) -> AbstractContextManager[None]:
    """A distance is a difference of features that are nearly equal: bf16 would leave little of it."""
    return torch.autocast(image.device.type, enabled=False)
