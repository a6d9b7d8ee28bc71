"""The grid that volumes are registered to and slices are cut on: ICBM 2009a symmetric at 1 mm."""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from autoddpm.preparation.volume import Volume

SHAPE = (197, 233, 189)
SLICE_Z = 95  # axial index of the published slices


class Template(NamedTuple):
    """The skull-stripped T1-weighted template.

    data: `SHAPE`, float32 in [0, 1].
    brain: `SHAPE`, bool.
    affine: (4, 4) from voxels to millimetres.
    """

    data: NDArray[np.float32]
    brain: NDArray[np.bool_]
    affine: NDArray[np.float64]


@lru_cache(maxsize=1)
def template() -> Template:
    """Load the template that nilearn ships."""
    # Imported here: it takes seconds, and most users of this package never need it.
    from nilearn.datasets import load_mni152_template

    image = load_mni152_template(resolution=1)
    data = np.asarray(image.dataobj, dtype=np.float32)
    return Template(data, data > 0, image.affine)


def is_on_template_grid(volume: Volume) -> bool:
    """Whether a volume lies on the template's grid already, voxel by voxel."""
    return volume.data.shape == SHAPE and np.allclose(volume.affine, template().affine, atol=0.01)
