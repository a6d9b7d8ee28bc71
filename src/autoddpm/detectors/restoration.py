"""Restoration: one call from a scan to the healthy scan, and what changed."""

from typing import cast

from autoddpm.autoencoder.restoration import Restoration
from autoddpm.detectors.anomaly_map import AnomalyMap
from autoddpm.detectors.one_call import OneCall, check_family
from autoddpm.detectors.perceptual import Perceptual
from autoddpm.models.model import Trained
from autoddpm.models.trained import load_checkpoint


class RestorationDetector(OneCall):
    """Restore the untouched slice in one call and map what changed.

    model: a restoration network.
    perceptual: the distance for maps that take one.
    map: how the input and the restored slice are compared.
    weights: of the model, to tell two apart if it is a part of another detector.
    """

    label = "Restoration"
    trained: Trained | None = None  # of a part of another detector, to be checked against its data

    def __init__(
        self, model: Restoration, perceptual: Perceptual, map: AnomalyMap, weights: str = ""
    ) -> None:
        check_family("restoration", model, Restoration, "model=restoration, as ixi-restoration")
        super().__init__(model, perceptual, map)
        self.weights = weights

    @classmethod
    def of_weights(
        cls, weights: str, perceptual: Perceptual, map: AnomalyMap
    ) -> "RestorationDetector":
        """The detector with weights of its own, as a part of another one.

        weights: a checkpoint, a weights file or the name of released weights.

        Raises ValueError, FileNotFoundError, naming `detector.initial.weights`.
        """
        try:
            trained = load_checkpoint(weights)
            made = cls(cast(Restoration, trained.model), perceptual, map, trained.weights_hash)
        except (ValueError, FileNotFoundError) as error:
            said = str(error).removeprefix(f"checkpoint={weights}: ")
            kind = FileNotFoundError if isinstance(error, FileNotFoundError) else ValueError
            raise kind(f"detector.initial.weights={weights}: {said}") from error
        made.trained = trained
        return made
