"""Slices side by side with their lesions outlined, to look at a data set."""

from collections.abc import Sequence

import numpy as np
import skimage.util
from numpy.typing import NDArray
from PIL import Image
from skimage.segmentation import mark_boundaries

OUTLINE = (1, 170 / 255, 0)


def outlined(image: NDArray[np.uint8], lesion: NDArray[np.bool_], side: int) -> NDArray[np.uint8]:
    """A slice, (H, W), enlarged to (side, side, 3), its lesion outlined in orange."""
    grey = Image.fromarray(image).resize((side, side), Image.Resampling.BICUBIC)
    mask = Image.fromarray(lesion).resize((side, side), Image.Resampling.NEAREST)
    picture = mark_boundaries(np.asarray(grey), np.asarray(mask), color=OUTLINE, mode="outer")
    return (255 * picture).round().astype(np.uint8)


def montage(tiles: Sequence[NDArray[np.uint8]], columns: int) -> Image.Image:
    """Tiles of one size in rows of so many columns."""
    grid = (-(-len(tiles) // columns), columns)
    return Image.fromarray(
        skimage.util.montage(tiles, fill=(0, 0, 0), grid_shape=grid, channel_axis=-1)
    )
