"""Before the registration: the bias field is corrected, the brain is found."""

from functools import lru_cache
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autoddpm.preparation.itk import from_itk, simple_itk, to_itk
from autoddpm.preparation.volume import INSTALL, Volume

NEEDS_DEEPBET = (
    f"the brain mask needs deepbet: {INSTALL}; or preparation.steps.brain_mask=nonzero for volumes "
    "without skull"
)


def n4(volume: Volume) -> NDArray[np.float32]:
    """The data without its bias field, by N4 (Tustison et al., 2010) on every fourth voxel."""
    sitk = simple_itk()
    image = to_itk(volume.data, volume.spacing)
    head = sitk.OtsuThreshold(image, 0, 1, 200)
    corrector = sitk.N4BiasFieldCorrectionImageFilter()
    corrector.SetMaximumNumberOfIterations([50, 50, 30])
    corrector.Execute(sitk.Shrink(image, [4] * 3), sitk.Shrink(head, [4] * 3))
    field = sitk.Exp(corrector.GetLogBiasFieldAsImage(image))
    return from_itk(sitk.Cast(image / field, sitk.sitkFloat32))


def brain_mask(volume: Volume, how: str) -> NDArray[np.bool_]:
    """The voxels of the brain, as `volume.data`.

    how: "deepbet" (Fisch et al., 2023), or "nonzero" for volumes without skull.
    Raises ValueError that names the volume if it holds none.
    """
    if how == "nonzero":
        mask = volume.data > 0
    else:
        probability = _deepbet().run_model(volume.data.copy())
        mask = np.asarray(_deepbet().postprocess(probability > 0.5), dtype=bool)
    if not mask.any():
        raise ValueError(f"{volume.name}: no brain was found in it; look at it, or leave it out")
    return mask


def require_brain_extraction() -> None:
    """Raises ValueError, which says how to install it, if deepbet is not here."""
    if find_spec("deepbet") is None:
        raise ValueError(NEEDS_DEEPBET)


@lru_cache(maxsize=1)
def _deepbet() -> Any:
    try:
        from deepbet import BrainExtraction  # imports a second or two; its weights come with it
    except ImportError as error:
        raise ValueError(NEEDS_DEEPBET) from error
    return BrainExtraction(no_gpu=True)
