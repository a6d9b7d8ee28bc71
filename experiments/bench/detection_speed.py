"""Detection: the plain baseline, ours exact and strided, and a bare forward pass to measure them
by."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from baseline import PlainAutoDDPM
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import Tensor
from turns import Variants

from autoddpm.detectors.anomaly_map import residual
from autoddpm.detectors.autoddpm import AutoDDPM
from autoddpm.detectors.detector import detect
from autoddpm.detectors.perceptual import NoPerceptual, RandomLPIPS
from autoddpm.diffusion.ddpm import DDPM
from autoddpm.diffusion.noise.gaussian import Gaussian
from autoddpm.diffusion.sampler import Ancestral, Sampler
from autoddpm.diffusion.schedule import LinearSchedule
from autoddpm.machine.acceleration import ALLOWED, LAYOUTS, choose
from autoddpm.machine.memory import keep_freed_memory
from autoddpm.models.trained import build_model

CONF = Path(__file__).resolve().parents[2] / "conf"


@dataclass(frozen=True)
class Chain:
    """A shortened detection of random images with an untrained network: its speed is that of any
    other.

    batch: slices that ours takes at once.  plain_slices: that the baseline goes through.  batches:
    sizes of which the bare forward pass takes the best.
    """

    model: str
    size: int
    t: int
    t_resample: int
    passes: int
    batch: int
    plain_slices: int
    batches: tuple[int, ...]


@dataclass(frozen=True)
class Slices:
    image: Tensor
    id: tuple[str, ...]


def configuration(model: str) -> dict[str, Any]:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return cast(
            dict[str, Any],
            OmegaConf.to_container(compose("train", [f"model={model}"]).model, resolve=True),
        )


def network(model: str) -> DDPM:
    return build_model(configuration(model)).eval().requires_grad_(False)


def images(count: int, size: int) -> Tensor:
    return torch.rand(count, 1, size, size, generator=torch.Generator().manual_seed(0)).to(device())


def device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def exact_float32() -> None:
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False


def plain(chain: Chain) -> Variants:
    """The baseline, and the same forward passes as ours has."""
    exact_float32()
    ddpm = network(chain.model).to(device())
    detector = PlainAutoDDPM(
        ddpm.denoiser, None, chain.t, chain.t_resample, chain.passes, threshold=-1.0
    )
    image = images(chain.plain_slices, chain.size)
    distance = RandomLPIPS()
    return {
        "detect": within("32-true", lambda: detector(image)),
        "distance": within(
            "32-true", lambda: [distance(ddpm, 1 - one[None], one[None]) for one in image]
        ),
        f"forward, {max(chain.batches)}": forward(ddpm, images(max(chain.batches), chain.size)),
    }


def plain_calls(chain: Chain | None = None) -> int:
    """Network calls of a slice by the baseline; as published without a chain."""
    length = (
        {}
        if chain is None
        else {"t": chain.t, "t_resample": chain.t_resample, "passes": chain.passes}
    )
    return PlainAutoDDPM(torch.nn.Linear(1, 1), None, **length).calls


def our_calls(sampler: Sampler, chain: Chain | None = None) -> int:
    """Network calls of a slice with a mask; at the paper's settings without a chain."""
    ddpm = DDPM(torch.nn.Identity(), LinearSchedule(), Gaussian())
    if chain is None:
        return AutoDDPM(ddpm, sampler, NoPerceptual(), residual).most_calls
    return detector(ddpm, chain, sampler).most_calls


def samplers() -> dict[str, Sampler]:
    """What is compared: the paper's, every tenth time, and conf/sampler/fast.yaml."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        fast = instantiate(compose("evaluate", ["sampler=fast"]).sampler)
    return {"exact": Ancestral(), "stride 10": Ancestral(10), "fast": fast}


def ours(chain: Chain, precision: str) -> Variants:
    """What src.evaluate does at "32-true" or "bf16-mixed", as `auto` accelerates it."""
    exact_float32()
    ddpm = network(chain.model)
    chosen = choose(dict.fromkeys(ALLOWED, "auto"), device(), training=False)
    if chosen["keep_memory"][0]:
        keep_freed_memory()
    ddpm.to(device(), memory_format=LAYOUTS[str(chosen["layout"][0])])
    contiguous = network(chain.model).to(device())
    batch = Slices(images(chain.batch, chain.size), tuple(f"bench/{i}" for i in range(chain.batch)))
    distance = RandomLPIPS()
    return {
        **{
            f"detect {name}": detection(detector(ddpm, chain, sampler), batch, precision)
            for name, sampler in samplers().items()
        },
        "distance": within(precision, lambda: distance(ddpm, 1 - batch.image, batch.image)),
        **{
            f"forward, {size}": forward(ddpm, images(size, chain.size), precision)
            for size in chain.batches
        },
        "forward contiguous": forward(
            contiguous, images(max(chain.batches), chain.size), precision
        ),
    }


def detector(ddpm: DDPM, chain: Chain, sampler: Sampler) -> AutoDDPM:
    """Every slice has a mask, so that none leaves the loop: what is measured is the loop."""
    return AutoDDPM(
        ddpm,
        sampler,
        NoPerceptual(),
        residual,
        0,
        chain.t,
        chain.t_resample,
        chain.passes,
        mask_threshold=-1.0,
    )


def detection(detector: AutoDDPM, batch: Slices, precision: str) -> Callable[[], None]:
    return within(precision, lambda: detect(detector, batch))


def forward(ddpm: DDPM, image: Tensor, precision: str = "32-true") -> Callable[[], None]:
    times = torch.full((len(image),), 100, device=image.device)
    return within(precision, lambda: ddpm.denoiser(image, times))


def within(precision: str, work: Callable[[], object]) -> Callable[[], None]:
    def run() -> None:
        with (
            torch.no_grad(),
            torch.autocast(device(), torch.bfloat16, enabled=precision == "bf16-mixed"),
        ):
            work()

    return run
