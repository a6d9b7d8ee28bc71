"""The bridge to SimpleITK, on one thread: sums in another order are other numbers."""

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autoddpm.preparation.volume import INSTALL


@lru_cache(maxsize=1)
def simple_itk() -> Any:
    """The module. Raises ValueError that says how to install it."""
    try:
        import SimpleITK
    except ImportError as error:
        raise ValueError(f"N4 and registration need SimpleITK: {INSTALL}") from error
    SimpleITK.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    return SimpleITK


def to_itk(data: NDArray, spacing: NDArray) -> Any:
    """An image of (X, Y, Z) voxels; spacing: millimetres per voxel, (3,)."""
    voxels = np.ascontiguousarray(data.transpose(2, 1, 0), dtype=np.float32)
    image = simple_itk().GetImageFromArray(voxels)
    image.SetSpacing(spacing.tolist())
    return image


def from_itk(image: Any) -> NDArray[np.float32]:
    """The voxels of an image, (X, Y, Z)."""
    return np.ascontiguousarray(simple_itk().GetArrayFromImage(image).transpose(2, 1, 0))
