"""pDDPM: each patch of a scan is noised and estimated in one call, with the others for context."""

from collections.abc import Collection

import torch

from autoddpm.detectors.anoddpm import refuse_non_finite
from autoddpm.detectors.anomaly_map import AnomalyMap
from autoddpm.detectors.detector import Reconstruction, Slices
from autoddpm.detectors.one_call import OneCall, check_family
from autoddpm.detectors.perceptual import Perceptual
from autoddpm.diffusion.pddpm import PDDPM
from autoddpm.random import Draw, Stage, slice_keys


class PDDPMDetector(OneCall):
    """Estimate a slice patch by patch and map its difference from the input.

    Behrendt et al., arXiv 2303.03758. A model whose patch is the whole slice makes it the one-step
    cDDPM without its encoder.

    model: a PDDPM.
    perceptual: the distance for maps that take one.
    map: how the slice and its estimate are compared; theirs is `residual`.
    seed: of the noise, with each slice's id. All patches have their parts of the same noise.
    t: noise level, 1..T.
    """

    only_of_map: Collection[str] = ("map", "perceptual")

    def __init__(
        self,
        model: PDDPM,
        perceptual: Perceptual,
        map: AnomalyMap,
        seed: int = 0,
        t: int = 500,
    ) -> None:
        check_family("pddpm", model, PDDPM, "model=pddpm or model=cddpm_without_encoder")
        if not isinstance(t, int) or not 1 <= t <= model.schedule.T:
            raise ValueError(
                f"detector.t={t}: must be a noise level from 1 to T={model.schedule.T} of this "
                "model's schedule"
            )
        super().__init__(model, perceptual, map)
        self.seed, self.t = seed, t

    @property
    def label(self) -> str:
        name = "pDDPM" if self.model.patch < 1 else "cDDPM without encoder"
        return f"{name} (t={self.t})"

    @property
    def most_calls(self) -> int:
        """Network calls per slice: one per patch."""
        return int(self.model.calls)

    @torch.no_grad()
    def reconstruct(self, batch: Slices, first: Reconstruction | None = None) -> Reconstruction:
        image, model = batch.image, self.model
        keys = slice_keys(self.seed, batch.id, image.device)
        eps = model.noise(keys, image.shape[1:], Stage.RECONSTRUCTION, Draw.FORWARD, self.t)
        made = model.reconstruct(image, self.t, eps)
        refuse_non_finite(made, batch)
        return Reconstruction(made.clamp(0, 1), torch.full((len(image),), self.most_calls))
