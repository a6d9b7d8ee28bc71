"""AutoDDPM: mask, stitch and re-sample with one diffusion model (paper, section 3)."""

from collections.abc import Collection, Mapping
from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor

from autoddpm.detectors.anoddpm import AnoDDPM, check_time
from autoddpm.detectors.anomaly_map import (
    AnomalyMap,
    compare,
    dilated,
    head,
    head_product,
    product,
    residual,
)
from autoddpm.detectors.detector import (
    Detector,
    PlainDetector,
    Reconstruction,
    Slices,
    seen_by,
)
from autoddpm.detectors.perceptual import Perceptual, default_distance
from autoddpm.diffusion.ddpm import DDPM
from autoddpm.diffusion.noise import NoiseOf
from autoddpm.diffusion.sampler import Ancestral, Sampler, count_calls, step_noise
from autoddpm.random import Draw, Stage


class OneStage(Detector, Protocol):
    """A detector that may be the first stage of AutoDDPM.

    most_calls: network calls per slice.
    """

    @property
    def most_calls(self) -> int: ...


class AutoDDPM(PlainDetector):
    """Find what may be anomalous (3.1), replace it by healthy tissue (3.2, 3.3), map what changed.

    model: the DDPM that denoises.
    sampler: the times of denoising and the step between two. None: Eq. (2), every time.
    perceptual: the distance of the initial map, and for maps that take one. None:
        `default_distance`.
    map: how the input and the final reconstruction are compared.
    seed: of the noise, with each slice's id.
    t: noise level of the initial reconstruction.
    t_resample: noise level at which stitching and re-sampling start.
    resample_steps: denoising passes at each time, with one re-noising between two. 0 is plain
        stitching (Figure 5).
    dilation: side of the square that the binary mask is dilated with, odd. 1 leaves it as it is.
    mask_threshold: the mask is where the initial map is above it. A number, "percentile" or
        "calibrated". "percentile" is `mask_percentile` of each slice's own map. "calibrated" is to
        be set to a number before the first slice, from maps of healthy slices, see `to_calibrate`.
    mask_percentile: above 0 and below 100.
    use_uncertainty: multiply the final residual with the initial map (5.4).
    mask_region: "image" (the paper's), or "head": the mask is looked for inside the head alone,
        with percentiles of its pixels. A calibrated rate still counts all pixels of a slice. Of the
        head's pixels it is about twice.
    initial: a detector of one stage, whose map gives the mask, and whose reconstruction is stitched
        in. None: the paper's, which noises to `t`, denoises, and maps by Eq. (9).
    """

    only_of_map: Collection[str] = ("map", "use_uncertainty")
    first_stage: type[AnoDDPM] = AnoDDPM

    def __init__(
        self,
        model: DDPM,
        sampler: Sampler | None = None,
        perceptual: Perceptual | None = None,
        map: AnomalyMap = residual,
        seed: int = 0,
        t: int = 200,
        t_resample: int = 50,
        resample_steps: int = 5,
        dilation: int = 3,
        mask_threshold: float | str = "calibrated",
        mask_percentile: float = 95.0,
        use_uncertainty: bool = True,
        mask_region: str = "image",
        initial: OneStage | None = None,
    ) -> None:
        check_time("detector.t", t, model)
        check_time("detector.t_resample", t_resample, model)
        self.model, self.sampler = self.used(model), sampler or Ancestral()
        self.perceptual, self.map = perceptual or default_distance(), map
        self.seed, self.t = seed, t
        self.t_resample, self.resample_steps = t_resample, resample_steps
        self.dilation, self.use_uncertainty = dilation, use_uncertainty
        self.mask_threshold, self.mask_percentile = mask_threshold, mask_percentile
        self.mask_region = mask_region
        self.check()
        initial_map = head_product if mask_region == "head" else product
        self.initial = initial
        self.first: OneStage = initial or self.first_stage(
            self.model, self.sampler, self.perceptual, initial_map, seed, t
        )

    def used(self, model: DDPM) -> DDPM:
        """The model as this detector samples from it."""
        return model

    def check(self) -> None:
        """Refuse settings out of range.

        Raises ValueError, naming the setting.
        """
        named = self.mask_threshold
        if self.resample_steps < 0:
            raise ValueError(
                f"detector.resample_steps={self.resample_steps}: must be 0 (stitching) or more"
            )
        if self.dilation < 1 or self.dilation % 2 == 0:
            raise ValueError(
                f"detector.dilation={self.dilation}: must be an odd number of pixels; 1 means none"
            )
        if isinstance(named, str) and named not in ("calibrated", "percentile"):
            raise ValueError(
                f"detector.mask_threshold={named}: must be a number, 'calibrated' or 'percentile'"
            )
        if not 0 < self.mask_percentile < 100:
            raise ValueError(
                f"detector.mask_percentile={self.mask_percentile}: must be between 0 and 100"
            )
        if self.mask_region not in ("image", "head"):
            raise ValueError(f"detector.mask_region={self.mask_region}: must be image or head")

    @property
    def label(self) -> str:
        without = [] if self.resample_steps else ["re-sampling"]
        without += [] if self.use_uncertainty else ["uncertainty"]
        notes = [f"w/o {' and '.join(without)}"] if without else []
        if self.initial is not None:
            notes.insert(0, f"mask: {self.first.label}")
        return f"AutoDDPM ({', '.join(notes)})" if notes else "AutoDDPM"

    @property
    def begins_with(self) -> Detector:
        """The initial reconstruction. Its map is Eq. (9), or that of `initial`."""
        return self.first

    def to_calibrate(self) -> Mapping[str, Detector]:
        return {"mask_threshold": self.first} if self.mask_threshold == "calibrated" else {}

    @property
    def most_calls(self) -> int:
        """Network calls per slice whose mask is not empty."""
        resampling = count_calls(self.sampler, self.resample_times())
        return self.first.most_calls + self.resample_steps * resampling

    @torch.no_grad()
    def reconstruct(self, batch: Slices, first: Reconstruction | None = None) -> Reconstruction:
        image, seen = batch.image, seen_by(self.first, batch)
        initial = first or self.first.reconstruct(seen)
        initial_map = self.first.anomaly_map(seen, initial)
        mask = self.where(batch, initial_map)
        stitched = torch.where(mask, initial.image, image)
        reconstruction, calls = stitched, initial.calls

        # A slice with an empty mask is done: its result is the input.
        rows = mask.flatten(1).any(1).nonzero()[:, 0]
        if self.resample_steps and len(rows):
            ids = [batch.id[row] for row in rows.tolist()]
            noise = NoiseOf.batch(self.model.noise, self.seed, ids, image, Stage.RESAMPLING)
            x0, x_hat = self.model.encode(image[rows]), self.model.encode(initial.image[rows])
            x = self.resample(x0, x_hat, mask[rows], noise)
            reconstruction = image.clone()
            reconstruction[rows] = torch.where(mask[rows], self.finished(x), image[rows])
            calls = calls.index_fill(0, rows.cpu(), self.most_calls)

        stages = {
            "initial_map": initial_map,
            "initial_reconstruction": initial.image,
            "mask": mask,
            "stitched": stitched,
        }
        return Reconstruction(reconstruction, calls, stages)

    @torch.no_grad()
    def anomaly_map(self, batch: Slices, made: Reconstruction) -> Tensor:
        changed = compare(
            self.map,
            batch.image,
            made.image.clamp(0, 1),
            lambda a, b: self.perceptual(self.model, a, b),
        )
        return changed * made.stages["initial_map"] if self.use_uncertainty else changed  # (3.4)

    def where(self, batch: Slices, initial_map: Tensor) -> Tensor:
        """The pixels to replace, (B, 1, *space) bool: where the initial map is high."""
        return self.mask(initial_map, batch.image)

    def mask(self, initial_map: Tensor, image: Tensor) -> Tensor:
        """Binarise the initial map of an image and dilate the mask: (B, 1, *space) bool.

        The text dilates the map and then binarises it. With one threshold per image both orders
        give the same.

        Raises ValueError if the threshold is still to be calibrated.
        """
        threshold: Tensor | float
        if self.mask_threshold == "percentile":
            counted = initial_map
            if self.mask_region == "head":
                counted = initial_map.masked_fill(~head(image), torch.nan)
            quantile = counted.flatten(1).nanquantile(self.mask_percentile / 100, dim=1)
            # Without a head there is no mask.
            threshold = quantile.nan_to_num(torch.inf).view(-1, *[1] * (image.ndim - 1))
        elif isinstance(self.mask_threshold, str):
            raise ValueError(
                "detector.mask_threshold=calibrated: no calibrated value was set. Evaluate through "
                "`src.evaluate`, which calibrates it on healthy validation slices, or give a "
                "number, or 'percentile'."
            )
        else:
            threshold = self.mask_threshold
        return dilated((initial_map > threshold).float(), self.dilation) > 0

    def resample_times(self) -> list[int]:
        """The times of re-sampling, from `t_resample` down."""
        return self.sampler.times(self.t_resample)

    def finished(self, x: Tensor) -> Tensor:
        """The re-sampled patch as an image, clamped to [0, 1]."""
        return self.model.decode(x)

    def resample(self, x0: Tensor, x_hat: Tensor, mask: Tensor, noise: NoiseOf) -> Tensor:
        """Denoise inside the mask, from `t_resample` down to 0, the input around it (3.2, 3.3).

        x0: the input in the model's range.
        x_hat: the initial reconstruction in the model's range.
        mask: (B, 1, *space) bool.

        The start is the noised full reconstruction, as in the authors' code. The text prints x. The
        context has the noise level that the sample is at, s. The text's Eq. (10) prints
        alpha_bar_t.
        """
        ddpm, sampler = self.model, self.sampler
        x_t = ddpm.q_sample(x_hat, self.t_resample, noise(Draw.FORWARD, self.t_resample))
        for t, s in pairwise(self.resample_times()):
            for repeat in range(self.resample_steps):
                if repeat:
                    x_t = ddpm.q_step(x_t, s, t, noise(Draw.RENOISE, t, repeat))  # (13)
                context = ddpm.q_sample(x0, s, noise(Draw.CONTEXT, t, repeat)) if s else x0  # (10)
                eps = step_noise(sampler, x_t, noise, t, s, repeat)
                healthy = sampler.step(ddpm, x_t, t, s, eps)  # (11)
                x_t = torch.where(mask, healthy, context)  # (12)
        return x_t
