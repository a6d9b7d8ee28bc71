"""VAE and ceVAE: one call of an autoencoder, and its difference or the combi map."""

from collections.abc import Collection

import torch
from torch import Tensor

from autoddpm.autoencoder.vae import VAE
from autoddpm.detectors.anomaly_map import AnomalyMap, smoothed
from autoddpm.detectors.detector import Reconstruction, Slices
from autoddpm.detectors.one_call import OneCall, check_family
from autoddpm.detectors.perceptual import Perceptual


class VAEDetector(OneCall):
    """Map what an autoencoder of healthy slices cannot draw.

    The combi map of Zimmerer et al. (arXiv 1907.02796) is the difference times the size of the
    derivative of the code's divergence by each pixel, smoothed. The width of the filter is ours.

    model: a VAE or a ceVAE.
    perceptual: the distance for maps that take one.
    map: how the input and the reconstruction are compared; theirs is `residual`.
    combi: whether the map is multiplied with the derivative.
    smoothing: standard deviation in pixels of the filter over the derivative.
    """

    only_of_map: Collection[str] = ("map", "perceptual", "smoothing")

    def __init__(
        self,
        model: VAE,
        perceptual: Perceptual,
        map: AnomalyMap,
        combi: bool = False,
        smoothing: float = 2.0,
    ) -> None:
        check_family("vae", model, VAE, "model=vae or model=cevae")
        if not smoothing > 0:
            raise ValueError(f"detector.smoothing={smoothing}: must be above 0")
        super().__init__(model, perceptual, map)
        self.combi, self.smoothing = combi, smoothing

    @property
    def label(self) -> str:
        return f"{self.model.name} (combi)" if self.combi else str(self.model.name)

    @property
    def most_calls(self) -> int:
        """Network calls per slice; a backward pass counts as one."""
        return 2 if self.combi else 1

    def reconstruct(self, batch: Slices, first: Reconstruction | None = None) -> Reconstruction:
        made = super().reconstruct(batch)
        if not self.combi:
            return made
        gradient = self.model.kl_gradient(batch.image)
        return Reconstruction(made.image, made.calls + 1, {"kl_gradient": gradient})

    @torch.no_grad()
    def anomaly_map(self, batch: Slices, made: Reconstruction) -> Tensor:
        found = super().anomaly_map(batch, made)
        if not self.combi:
            return found
        size = made.stages["kl_gradient"].abs().mean(1, keepdim=True)
        return found * smoothed(size, self.smoothing)
