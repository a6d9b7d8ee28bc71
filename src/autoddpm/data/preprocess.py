"""From an image as it is on disk to the square, or cube, that the network sees.

The order is the paper's as far as it is known: window, pad, resize (see `preprocess`). Space is
(H, W) for a slice and (D, H, W) for a volume.
"""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

#: Part of every store's hash: raise it with any change of what this file computes.
VERSION = 1


class EmptyError(ValueError):
    """There is nothing above 0 to divide an image by."""


class Preprocessed(NamedTuple):
    """One channel and its lesion, as the network is given them.

    image: (size, size) or (size, size, size) float32 in [0, 1].
    lesion: of the same shape, bool.
    lesion_pixels_full: lesion pixels before the resize.
    """

    image: NDArray[np.float32]
    lesion: NDArray[np.bool_]
    lesion_pixels_full: int


def is_windowed(image: NDArray) -> bool:
    """Whether an image has been clipped at its maximum before.

    At least 0.5 % of its pixels are at the maximum, and no other value above 0.9 of it is as
    frequent: a histogram that was not clipped runs out.
    """
    counts = np.unique(image[image > 0.9 * image.max()], return_counts=True)[1]
    return bool(counts[-1] >= 0.005 * image.size and counts[-1] > counts[:-1].max(initial=0))


def window_scale(image: NDArray) -> float:
    """The intensity that `window98` makes 1: the 98th percentile.

    image: the whole slice or volume before any padding, any scale, not constant.

    Of an image that is windowed already it is the maximum instead, so that windowing twice is
    windowing once. The released 8-bit slices of IXI, clipped before they were registered, have
    their 98th percentile at 248 to 255.

    Raises ValueError if there is nothing above 0 to divide by,
    or values below 0 are no mere interpolation ripple.
    """
    was_windowed = image.max() > 0 and is_windowed(image)
    scale = float(image.max()) if was_windowed else float(np.percentile(image, 98))
    if scale <= 0:
        raise EmptyError(
            "98 % of its pixels are not above 0; leave the slice out or crop its empty border"
        )
    if image.min() < -0.2 * scale:
        raise ValueError(
            "its values reach far below 0; save intensities that are not centred on their mean"
        )
    return scale


def window98(image: NDArray) -> NDArray[np.float32]:
    """Divide by `window_scale`, the image's own 98th percentile, and clip: float32 in [0, 1].

    Raises ValueError as `window_scale` does.
    """
    return np.clip(image / window_scale(image), 0, 1).astype(np.float32)


def pad_to_square(image: NDArray, value: float | bool) -> NDArray:
    """Centre an image in a square, or cube, of its longest side, filled with `value`.

    An odd pixel goes to the end of an axis: to the bottom, or to the right.
    """
    side = max(image.shape)
    before = [(side - n) // 2 for n in image.shape]
    widths = [(b, side - n - b) for b, n in zip(before, image.shape, strict=True)]
    return np.pad(image, widths, constant_values=value)


def resize_image(image: NDArray, size: int) -> NDArray[np.float32]:
    """Resize an image in [0, 1] to `size` pixels a side.

    The filter is the antialiased bilinear one of `torch.nn.functional`. In three dimensions it is
    applied within each slice, and then across slices.
    """
    x = torch.from_numpy(np.ascontiguousarray(image, dtype=np.float32))
    x = _resize_last_two(x, size)
    if x.ndim == 3:
        x = _resize_last_two(x.movedim(0, -1), size).movedim(-1, 0)
    return x.clamp(0, 1).contiguous().numpy()


def resize_lesion(lesion: NDArray[np.bool_], size: int) -> NDArray[np.bool_]:
    """Resize a mask as an image is resized. A pixel is lesion if at least half of it was."""
    return (
        resize_image(lesion, size) >= 0.5 - 1e-6
    )  # a sum of float32 weights may round an exact half down


def preprocess(
    image: NDArray, lesion: NDArray[np.bool_] | None, size: int, window: bool = True
) -> Preprocessed:
    """Window, pad to square with the image's minimum (a lesion with 0), and resize one channel.

    image: (H, W) or (D, H, W), any scale.
    lesion: of the same shape, None if it is healthy.
    size: pixels a side of the result.
    window: False for an image that is in [0, 1] as it is to be.
    Raises ValueError as `window_scale` does.
    """
    windowed = window98(image) if window else np.clip(image, 0, 1).astype(np.float32)
    square = pad_to_square(windowed, windowed.min())
    lesion = np.zeros(image.shape, dtype=bool) if lesion is None else lesion
    return Preprocessed(
        resize_image(square, size),
        resize_lesion(pad_to_square(lesion, False), size),
        int(np.count_nonzero(lesion)),
    )


def _resize_last_two(x: Tensor, size: int) -> Tensor:
    """Resize (..., H, W) to (..., size, size)."""
    planes = x.reshape(1, -1, *x.shape[-2:])
    resized = functional.interpolate(planes, (size, size), mode="bilinear", antialias=True)
    return resized.view(*x.shape[:-2], size, size)
