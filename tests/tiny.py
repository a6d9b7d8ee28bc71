"""Tiny denoisers, models and batches for the tests."""

import re
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import pytest
import torch
from monai.networks.nets.diffusion_model_unet import DiffusionModelUNet
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from autoddpm.diffusion.ddpm import DDPM
from autoddpm.diffusion.noise import Noise
from autoddpm.diffusion.noise.gaussian import Gaussian
from autoddpm.diffusion.schedule import LinearSchedule
from autoddpm.random import Draw, Stage

WIDE = (-1.0, 1.0)
T, FIRST, LAST = 12, 0.02, 0.3  # a short schedule whose every step changes a lot


class Slices(NamedTuple):
    image: Tensor
    id: list[str]


class SlicesWithLesion(NamedTuple):
    image: Tensor
    id: list[str]
    lesion: Tensor


class Constant(nn.Module):
    """The same estimate everywhere."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value

    def forward(self, x: Tensor, timesteps: Tensor) -> Tensor:
        return torch.full_like(x, self.value)


class KnowsTheImage(nn.Module):
    """The true noise in x_t, since it knows the clean image x0."""

    def __init__(self, x0: Tensor, schedule: LinearSchedule) -> None:
        super().__init__()
        self.x0, self.alpha_bar = x0, schedule.alpha_bar

    def forward(self, x: Tensor, timesteps: Tensor) -> Tensor:
        alpha_bar = self.alpha_bar[timesteps + 1].view(-1, 1, 1, 1)
        return (x - alpha_bar.sqrt() * self.x0) / (1 - alpha_bar).sqrt()


class Conv(nn.Module):
    """A random 3x3 convolution whose estimate depends on the time."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        weight = torch.randn(1, 1, 3, 3, generator=torch.Generator().manual_seed(seed))
        self.weight = nn.Parameter(0.3 * weight, requires_grad=False)

    def forward(self, x: Tensor, timesteps: Tensor) -> Tensor:
        estimate = nn.functional.conv2d(x, self.weight, padding=1).tanh()
        return estimate * (0.5 + 0.1 * timesteps.view(-1, 1, 1, 1))


class Recording(nn.Module):
    """Passes on to another denoiser and keeps what it was asked."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.timesteps: list[list[int]] = []

    def forward(self, x: Tensor, timesteps: Tensor) -> Tensor:
        assert timesteps.shape == (len(x),)
        assert not timesteps.is_floating_point()
        self.timesteps.append(timesteps.tolist())
        return self.inner(x, timesteps)

    @property
    def slices(self) -> int:
        return sum(len(times) for times in self.timesteps)


class RecordingNoise:
    """Gaussian noise that keeps what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[Stage, str, int, int]] = []

    def __call__(
        self,
        keys: Tensor,
        size: Sequence[int],
        stage: Stage,
        draw: Draw,
        t: Tensor | int = 0,
        repeat: int = 0,
    ) -> Tensor:
        self.asked.append((stage, draw.name, int(t), repeat))
        return Gaussian()(keys, size, stage, draw, t, repeat)


class Waits(TorchDispatchMode):
    """Counts the operations that would wait for a device: those that fetch a number from it, or
    whose size depends on one; not those of the files that match `of_the_host`."""

    NAMES = frozenset(
        ("_local_scalar_dense", "nonzero", "masked_select", "equal", "_unique2", "unique_dim")
    )

    def __init__(self, of_the_host: str = "$^") -> None:
        super().__init__()
        self.host, self.seen = re.compile(of_the_host), Counter[str]()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        indices = args[1] if name.startswith("index") and len(args) > 1 else []
        by_mask = isinstance(indices, (list, tuple)) and any(
            i is not None and i.dtype == torch.bool for i in indices
        )
        if (by_mask or name in self.NAMES) and not any(
            self.host.search(frame.filename) for frame in traceback.extract_stack(limit=12)
        ):
            self.seen[name] += 1
        return func(*args, **(kwargs or {}))


class Difference:
    """Absolute difference in the place of a perceptual distance."""

    name = "difference"

    def __call__(self, ddpm: DDPM, reconstruction: Tensor, image: Tensor) -> Tensor:
        return (reconstruction - image).abs()


class Excess:
    """How much the reconstruction is above the image: tells one from the other."""

    name = "excess"

    def __call__(self, ddpm: DDPM, reconstruction: Tensor, image: Tensor) -> Tensor:
        return (reconstruction - image).clamp(min=0)


def unet(seed: int = 0) -> DiffusionModelUNet:
    """MONAI's network with two channels of features. Its zero-initialised layers are made random as
    well."""
    network = DiffusionModelUNet(
        spatial_dims=2,
        in_channels=1,
        out_channels=1,
        channels=[8, 8],
        attention_levels=[False, True],
        num_res_blocks=1,
        num_head_channels=8,
        norm_num_groups=4,
    )
    generator = torch.Generator().manual_seed(seed)
    for parameter in network.parameters():
        parameter.data = 0.2 * torch.randn(parameter.shape, generator=generator)
    return network.eval().requires_grad_(False)


def short_schedule() -> LinearSchedule:
    return LinearSchedule(T, FIRST, LAST)


def short_ddpm(denoiser: nn.Module, noise: Noise | None = None) -> DDPM:
    """On [-1, 1], as the oracles are written."""
    return DDPM(denoiser, short_schedule(), noise or Gaussian(), WIDE)


def images(count: int, side: int = 16, seed: int = 0) -> Tensor:
    """Random images in [0, 1], (count, 1, side, side)."""
    return torch.rand(count, 1, side, side, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Tiny tensors are slower on many threads. Acts in every file that imports it."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
