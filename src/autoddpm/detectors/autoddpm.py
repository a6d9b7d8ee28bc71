"""AutoDDPM: mask, stitch and re-sample with one diffusion model (paper, section 3)."""

from collections.abc import Mapping
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn.functional import max_pool2d

from autoddpm.detectors.anoddpm import AnoDDPM, check_time
from autoddpm.detectors.anomaly_map import AnomalyMap, head, head_product, product
from autoddpm.detectors.detector import Detection, Slices
from autoddpm.detectors.perceptual import Perceptual
from autoddpm.diffusion.ddpm import DDPM
from autoddpm.diffusion.noise import NoiseOf
from autoddpm.diffusion.sampler import Sampler, count_calls, step_noise
from autoddpm.random import Draw, Stage


class AutoDDPM:
    """Find what may be anomalous (3.1), replace it by healthy tissue (3.2, 3.3), and map what
    changed.

    t:               noise level of the initial reconstruction.
    t_resample:      noise level at which stitching and re-sampling start.
    resample_steps:  denoising passes at each time, with one re-noising between two; 0 is plain
        stitching (Figure 5).
    dilation:        side of the square that the binary mask is dilated with, odd; 1 leaves it as it
        is.
    use_uncertainty: multiply the final residual with the initial map (5.4).
    mask_threshold:  above it the initial map is a mask. A number; or "percentile":
                     `mask_percentile` of each slice's own map; or "calibrated": to be set to a
                     number before the first slice, from the maps that `initial` gives on healthy
                     slices.
    mask_region:     "image" (the paper's), or "head": the mask is looked for inside the head alone,
        with percentiles of
                     its pixels. A calibrated rate still counts all pixels of a slice: of the head's
                     it is about twice.
    anomaly_map:     how the input and the final reconstruction are compared.
    seed:            of the noise, with each slice's id.
    """

    def __init__(
        self,
        ddpm: DDPM,
        sampler: Sampler,
        perceptual: Perceptual,
        anomaly_map: AnomalyMap,
        seed: int = 0,
        t: int = 200,
        t_resample: int = 50,
        resample_steps: int = 5,
        dilation: int = 3,
        mask_threshold: float | str = "calibrated",
        mask_percentile: float = 95.0,
        use_uncertainty: bool = True,
        mask_region: str = "image",
    ) -> None:
        check_time("detector.t", t, ddpm)
        check_time("detector.t_resample", t_resample, ddpm)
        if resample_steps < 0:
            raise ValueError(
                f"detector.resample_steps={resample_steps}: must be 0 (plain stitching) or more"
            )
        if dilation < 1 or dilation % 2 == 0:
            raise ValueError(
                f"detector.dilation={dilation}: must be an odd number of pixels; 1 means none"
            )
        if isinstance(mask_threshold, str) and mask_threshold not in ("calibrated", "percentile"):
            raise ValueError(
                f"detector.mask_threshold={mask_threshold}: must be a number, 'calibrated' or "
                "'percentile'"
            )
        if not 0 < mask_percentile < 100:
            raise ValueError(
                f"detector.mask_percentile={mask_percentile}: must be between 0 and 100"
            )
        if mask_region not in ("image", "head"):
            raise ValueError(f"detector.mask_region={mask_region}: must be image or head")
        initial_map = head_product if mask_region == "head" else product
        self.initial = AnoDDPM(
            ddpm, sampler, perceptual, initial_map, seed, t
        )  # its map is Eq. (9)
        self.ddpm, self.sampler, self.perceptual, self.anomaly_map = (
            ddpm,
            sampler,
            perceptual,
            anomaly_map,
        )
        self.seed, self.t, self.t_resample, self.resample_steps = (
            seed,
            t,
            t_resample,
            resample_steps,
        )
        self.dilation, self.use_uncertainty = dilation, use_uncertainty
        self.mask_threshold, self.mask_percentile, self.mask_region = (
            mask_threshold,
            mask_percentile,
            mask_region,
        )

    #: What its reconstructions do not depend on.
    only_of_map = ("anomaly_map", "use_uncertainty")

    @property
    def label(self) -> str:
        without = [] if self.resample_steps else ["re-sampling"]
        without += [] if self.use_uncertainty else ["uncertainty"]
        return f"AutoDDPM (w/o {' and '.join(without)})" if without else "AutoDDPM"

    @property
    def most_calls(self) -> int:
        """Network calls of a slice whose mask is not empty."""
        return self.initial.most_calls + self.resample_steps * count_calls(
            self.sampler, self.resample_times()
        )

    @torch.no_grad()
    def __call__(self, batch: Slices) -> Detection:
        image = batch.image
        initial = self.initial(batch)
        mask = self.mask(initial.anomaly_map, image)
        stitched = torch.where(mask, initial.reconstruction, image)
        reconstruction, calls = stitched, initial.calls

        rows = (
            mask.flatten(1).any(1).nonzero()[:, 0]
        )  # a slice with an empty mask is done: its result is the input
        if self.resample_steps and len(rows):
            ids = [batch.id[row] for row in rows.tolist()]
            noise = NoiseOf.batch(self.ddpm.noise, self.seed, ids, image, Stage.RESAMPLING)
            x0, x_hat = (
                self.ddpm.encode(image[rows]),
                self.ddpm.encode(initial.reconstruction[rows]),
            )
            x = self.resample(x0, x_hat, mask[rows], noise)
            reconstruction = image.clone()
            reconstruction[rows] = torch.where(mask[rows], self.finished(x), image[rows])
            calls = calls.index_fill(0, rows.cpu(), self.most_calls)

        stages = {
            "initial_map": initial.anomaly_map,
            "initial_reconstruction": initial.reconstruction,
            "mask": mask,
            "stitched": stitched,
        }
        return Detection(self.remap(image, reconstruction, stages), reconstruction, calls, stages)

    def remap(self, image: Tensor, reconstruction: Tensor, stages: Mapping[str, Tensor]) -> Tensor:
        """The anomaly map of a reconstruction that this detector made before (section 3.4)."""
        anomaly_map = self.anomaly_map(
            image, reconstruction.clamp(0, 1), lambda a, b: self.perceptual(self.ddpm, a, b)
        )
        return anomaly_map * stages["initial_map"] if self.use_uncertainty else anomaly_map

    def mask(self, initial_map: Tensor, image: Tensor) -> Tensor:
        """Binarise the initial map of an image and dilate the mask: (B, 1, H, W) bool.

        The text dilates the map and then binarises it; with one threshold an image both orders are
        the same.
        """
        threshold: Tensor | float
        if self.mask_threshold == "percentile":
            counted = (
                initial_map.masked_fill(~head(image), torch.nan)
                if self.mask_region == "head"
                else initial_map
            )
            quantile = counted.flatten(1).nanquantile(self.mask_percentile / 100, dim=1)
            threshold = quantile.nan_to_num(torch.inf).view(
                -1, 1, 1, 1
            )  # without a head there is no mask
        elif isinstance(self.mask_threshold, str):
            raise ValueError(
                "detector.mask_threshold=calibrated: no calibrated value was set. Evaluate through "
                "`src.evaluate`, "
                "which calibrates it on healthy validation slices, or give a number."
            )
        else:
            threshold = self.mask_threshold
        binary = (initial_map > threshold).float()
        return max_pool2d(binary, self.dilation, stride=1, padding=self.dilation // 2) > 0

    def resample_times(self) -> list[int]:
        """The times of re-sampling, from `t_resample` down."""
        return self.sampler.times(self.t_resample)

    def finished(self, x: Tensor) -> Tensor:
        """The re-sampled patch as an image; clamped to [0, 1]."""
        return self.ddpm.decode(x)

    def resample(self, x0: Tensor, x_hat: Tensor, mask: Tensor, noise: NoiseOf) -> Tensor:
        """Sections 3.2 and 3.3: denoise inside the mask, from `t_resample` down to 0, with the
        input around it.

        x0, x_hat: input and initial reconstruction in the model's range. The start is the noised
        full reconstruction (as the authors' code; the text prints x). The context has the noise
        level that the sample is at: s, where the text's Eq. (10) prints alpha_bar_t.
        """
        ddpm, sampler = self.ddpm, self.sampler
        x_t = ddpm.q_sample(x_hat, self.t_resample, noise(Draw.FORWARD, self.t_resample))
        for t, s in pairwise(self.resample_times()):
            for repeat in range(self.resample_steps):
                if repeat:
                    x_t = ddpm.q_step(x_t, s, t, noise(Draw.RENOISE, t, repeat))  # (13)
                context = ddpm.q_sample(x0, s, noise(Draw.CONTEXT, t, repeat)) if s else x0  # (10)
                healthy = sampler.step(
                    ddpm, x_t, t, s, step_noise(sampler, x_t, noise, t, s, repeat)
                )  # (11)
                x_t = torch.where(mask, healthy, context)  # (12)
        return x_t
