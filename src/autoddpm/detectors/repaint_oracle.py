"""The upper bound of stitching and re-sampling: AutoDDPM's second stage with the true lesion."""

from collections.abc import Collection

from torch import Tensor

from autoddpm.detectors.anomaly_map import AnomalyMap, dilated
from autoddpm.detectors.autoddpm import AutoDDPM
from autoddpm.detectors.detector import Slices, WithLesion
from autoddpm.detectors.perceptual import Perceptual
from autoddpm.diffusion.ddpm import DDPM
from autoddpm.diffusion.sampler import Sampler


class RepaintOracle(AutoDDPM):
    """Stitch and re-sample inside the true lesion: what a perfect mask would give.

    It is no method: it is given the lesion that others are to find (`sees_lesion`), and its label
    says "upper bound". Re-sampling is that of RePaint (Lugmayr et al., 2022). A slice without a
    lesion stays as it is, and its map is 0. Outside the mask the map is 0 too, so that its Dice
    says little: what counts is the reconstruction.

    model, sampler, perceptual, map, seed, t, t_resample, resample_steps: as `AutoDDPM`. The map is
        not multiplied with the initial one.
    dilation: side of the square that the lesion is dilated with, odd. 1 leaves it as it is.
    """

    sees_lesion = True
    only_of_map: Collection[str] = ("map",)

    def __init__(
        self,
        model: DDPM,
        sampler: Sampler,
        perceptual: Perceptual,
        map: AnomalyMap,
        seed: int = 0,
        t: int = 200,
        t_resample: int = 50,
        resample_steps: int = 5,
        dilation: int = 1,
    ) -> None:
        super().__init__(
            model,
            sampler,
            perceptual,
            map,
            seed,
            t,
            t_resample,
            resample_steps,
            dilation,
            mask_threshold=0.0,  # not used
            use_uncertainty=False,
        )

    @property
    def label(self) -> str:
        name = "RePaint" if self.resample_steps else "Stitching"
        return f"{name} with the true lesion (upper bound)"

    def where(self, batch: Slices, initial_map: Tensor) -> Tensor:
        """The true lesion, dilated.

        Raises ValueError if the batch does not show it.
        """
        if not isinstance(batch, WithLesion):
            raise ValueError(
                "detector=repaint_oracle: needs the true lesion, which these slices do not show"
            )
        return dilated(batch.lesion.float(), self.dilation) > 0
