"""Perceptual distance of two images: the second factor of Eq. (9).

A perceptual distance is a callable (model, reconstruction, image) -> (B, 1, *space) >= 0, both
images (B, C, *space) in [0, 1]. Its `name` says in every result which one made it.
"""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import torch
from monai.networks.nets.diffusion_model_unet import DiffusionModelUNet, get_timestep_embedding
from torch import Tensor
from torch.nn.functional import interpolate, normalize

from autoddpm.detectors.lpips_network import (
    SQUEEZENET_FILE,
    float32,
    lpips_map,
    random_squeezenet,
    squeezenet_file,
    stlpips_file,
    trained_squeezenet,
    trained_stlpips,
)
from autoddpm.diffusion.ddpm import DDPM
from autoddpm.models.model import Model

log = logging.getLogger(__name__)
INSTALL = "pip install 'autoddpm[perceptual]'"
UNTRAINED = (
    "perceptual=denoiser (the DDPM's own features) or perceptual=lpips_random (a random one)"
)


class Perceptual(Protocol):
    @property
    def name(self) -> str: ...
    def __call__(self, model: Model, reconstruction: Tensor, image: Tensor) -> Tensor: ...


class NoPerceptual:
    """The constant 1: Eq. (9) without its second factor."""

    name = "none"

    def __call__(self, model: Model, reconstruction: Tensor, image: Tensor) -> Tensor:
        return torch.ones_like(image[:, :1])


class DenoiserFeatures:
    """Difference between the DDPM's own encoder features of the two images; needs no download.

    It is LPIPS with the trained denoiser's encoder for a backbone. Features of the clean images at
    time `t` are normalised to length 1 over channels. Their squared differences are summed over
    channels and enlarged to the image. Only the deepest level is used: the finer ones see texture
    and hide lesions (measured on phantoms, experiments/perceptual).

    It needs a DDPM with MONAI's `DiffusionModelUNet` (its `time_embed`, `conv_in` and
    `down_blocks`).

    t: noise level that the denoiser is told, at least 1.
    """

    name = "denoiser"

    def __init__(self, t: int = 50) -> None:
        if t < 1:
            raise ValueError(f"perceptual.t={t}: must be a noise level, at least 1")
        self.t = t

    def __call__(self, model: Model, reconstruction: Tensor, image: Tensor) -> Tensor:
        ddpm = self._checked(model)
        with float32(image):
            a, b = (normalize(self.features(ddpm, x), dim=1) for x in (reconstruction, image))
            distance = (a - b).square().sum(1, keepdim=True)
            mode = "bilinear" if image.ndim == 4 else "trilinear"
            return interpolate(distance, image.shape[2:], mode=mode)

    def _checked(self, model: Model) -> DDPM:
        network = getattr(model, "denoiser", model)
        if not isinstance(model, DDPM) or not isinstance(network, DiffusionModelUNet):
            raise ValueError(
                "perceptual=denoiser needs MONAI's DiffusionModelUNet, this model's network is "
                f"{type(network).__name__}: choose perceptual=lpips, lpips_random or none"
            )
        if self.t > model.schedule.T:
            raise ValueError(
                f"perceptual.t={self.t}: the model was trained on noise levels up to "
                f"{model.schedule.T}"
            )
        return model

    def features(self, ddpm: DDPM, image: Tensor) -> Tensor:
        """Output of the deepest encoder level, (B, C, *space)."""
        unet, x = ddpm.denoiser, ddpm.encode(image)
        assert isinstance(unet, DiffusionModelUNet)
        times = torch.full((len(image),), self.t - 1, device=image.device)
        embedding = unet.time_embed(get_timestep_embedding(times, unet.block_out_channels[0]))
        h = unet.conv_in(x)
        for block in unet.down_blocks:
            h, _ = block(hidden_states=h, temb=embedding, context=None)
        return h


class LPIPS:
    """Learned perceptual image patch similarity (Zhang et al., 2018), the paper's choice.

    It is the spatial one, with a SqueezeNet.

    weights: a `squeezenet1_1-b8a52dc0.pth` of torchvision. Default: the file that torchvision
        keeps. It is never downloaded from here.

    Raises FileNotFoundError if there is no such file.
    """

    def __init__(self, weights: str | Path | None = None) -> None:
        path = Path(weights) if weights else squeezenet_file()
        if not path.is_file():
            raise FileNotFoundError(
                f"perceptual=lpips: no SqueezeNet weights at {path}. Either put torchvision's "
                f"{SQUEEZENET_FILE} there (or name it: perceptual.weights=FILE), or choose another "
                f"distance: perceptual=lpips_vgg (trained, {INSTALL}), {UNTRAINED}."
            )
        self.name, self.weights = "lpips", str(path)
        self.network = trained_squeezenet(path)

    def __call__(self, model: Model, reconstruction: Tensor, image: Tensor) -> Tensor:
        return lpips_map(self.network, reconstruction, image)


class TrainedLPIPS:
    """LPIPS with the VGG16 or AlexNet of the package `stlpips-pytorch` (Ghildyal and Liu, 2022).

    It needs no download. These are not the networks of Zhang et al. (2018): convolutions and heads
    are those of shift-tolerant LPIPS. They were trained together from scratch on human judgements
    of similarity, not on ImageNet. Here they are in the graph of LPIPS, without the blurred pooling
    that they were trained with, and for AlexNet without its fine first stride.

    net: "vgg" or "alex". On one CPU core VGG16 takes 0.15 s per slice of 128 x 128, AlexNet
        0.008 s.
    scale: of the images that the network sees, above 0 and at most 1. At 0.5 both take less than a
        third of the time. That it finds as much could not be shown (experiments/perceptual).

    Raises FileNotFoundError if the package is not installed.
    """

    def __init__(self, net: str = "vgg", scale: float = 1.0) -> None:
        key = f"lpips_{net}"
        if net not in ("vgg", "alex"):
            raise ValueError(f"perceptual.net={net}: must be vgg or alex")
        if not 0 < scale <= 1:
            raise ValueError(f"perceptual.scale={scale}: must be above 0 and at most 1")
        path = stlpips_file(net)
        if path is None:
            raise FileNotFoundError(
                f"perceptual={key}: its weights come with a package that is not installed. Either "
                f"{INSTALL}, or choose another distance: {UNTRAINED}."
            )
        self.net, self.scale = net, float(scale)
        self.name = key if scale == 1 else f"{key} (scale {scale:g})"
        self.network = trained_stlpips(path, net)

    def __call__(self, model: Model, reconstruction: Tensor, image: Tensor) -> Tensor:
        return lpips_map(self.network, reconstruction, image, self.scale)


class RandomLPIPS:
    """LPIPS with a random SqueezeNet, drawn from `seed`, under the learned heads.

    Every result that it made calls it random.
    """

    def __init__(self, seed: int = 0) -> None:
        self.name, self.seed = f"lpips_random (seed {seed})", seed
        self.network = random_squeezenet(seed)

    def __call__(self, model: Model, reconstruction: Tensor, image: Tensor) -> Tensor:
        return lpips_map(self.network, reconstruction, image)


def default_distance() -> LPIPS | TrainedLPIPS:
    """The trained distance of this machine: `lpips` if torchvision has its file, else `lpips_vgg`.

    The log says which and why, and the distance has the name and settings of the one that was
    chosen.

    Raises FileNotFoundError, naming both remedies, if there is neither.
    """
    file = squeezenet_file()
    if file.is_file():
        log.info("perceptual=default: lpips, the paper's SqueezeNet, since %s is there", file)
        return LPIPS()
    if stlpips_file("vgg") is None:
        raise FileNotFoundError(
            "perceptual=default: this machine has no trained distance. Either put torchvision's "
            f"{SQUEEZENET_FILE} at {file} (perceptual=lpips, the paper's), or {INSTALL} "
            f"(perceptual=lpips_vgg), or choose {UNTRAINED}."
        )
    log.info("perceptual=default: lpips_vgg, since the paper's SqueezeNet is not there (%s)", file)
    return TrainedLPIPS("vgg")


def lpips_where_weights_are(
    weights: str | None = None,
) -> Callable[[Tensor, Tensor], Tensor] | None:
    """The function (reconstruction, image) -> LPIPS map, for the metric `healthy/lpips`.

    weights: as in `LPIPS`. A file that is named must be there.

    Returns None if no file is named and torchvision has none.
    """
    if weights is None and not squeezenet_file().is_file():
        return None
    network = LPIPS(weights).network
    return lambda reconstruction, image: lpips_map(network, reconstruction, image)
