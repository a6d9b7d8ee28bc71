"""From a slice as it is on disk to the square image that the network sees.

The order is the paper's as far as it is known: window, pad, resize (see `preprocess`).
"""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

#: Part of every prepared store's hash: raise it with any change of what this file computes.
VERSION = 1


class Prepared(NamedTuple):
    """image: (size, size) float32 in [0, 1].  lesion: (size, size) bool.  lesion_pixels_full:
    before the resize."""

    image: NDArray[np.float32]
    lesion: NDArray[np.bool_]
    lesion_pixels_full: int


def is_windowed(image: NDArray) -> bool:
    """Whether a slice has been clipped at its maximum before: at least 0.5 % of its pixels are
    there, and no other value above 0.9 of it is as frequent, as where a histogram runs out.
    """
    counts = np.unique(image[image > 0.9 * image.max()], return_counts=True)[1]
    return bool(counts[-1] >= 0.005 * image.size and counts[-1] > counts[:-1].max(initial=0))


def window98(image: NDArray) -> NDArray[np.float32]:
    """Divide by the slice's own 98th percentile and clip to [0, 1].

    image: (H, W), the whole slice before any padding, any scale, not constant.  Returns (H, W)
        float32 in [0, 1].
    A slice that is windowed already is divided by its maximum instead, so that windowing twice is
    windowing once: the released 8-bit slices of IXI, clipped before they were registered, have
    their 98th percentile at 248 to 255. Raises ValueError if there is nothing above 0 to divide by,
    or values below 0 are no mere interpolation ripple.
    """
    scale = (
        float(image.max())
        if image.max() > 0 and is_windowed(image)
        else float(np.percentile(image, 98))
    )
    if scale <= 0:
        raise ValueError(
            "98 % of its pixels are not above 0; leave the slice out or crop its empty border"
        )
    if image.min() < -0.2 * scale:
        raise ValueError(
            "its values reach far below 0; save intensities that are not centred on their mean"
        )
    return np.clip(image / scale, 0, 1).astype(np.float32)


def pad_to_square(image: NDArray, value: float | bool) -> NDArray:
    """Centre (H, W) in a square of its longer side, filled with `value`; an odd pixel goes to the
    bottom or right."""
    side = max(image.shape)
    before = [(side - n) // 2 for n in image.shape]
    widths = [(b, side - n - b) for b, n in zip(before, image.shape, strict=True)]
    return np.pad(image, widths, constant_values=value)


def resize_image(image: NDArray, size: int) -> NDArray[np.float32]:
    """Resize (H, W) in [0, 1] to (size, size) with the antialiased bilinear filter of
    `torch.nn.functional`."""
    x = torch.from_numpy(np.ascontiguousarray(image, dtype=np.float32))[None, None]
    return (
        functional.interpolate(x, (size, size), mode="bilinear", antialias=True)[0, 0]
        .clamp(0, 1)
        .numpy()
    )


def resize_lesion(lesion: NDArray[np.bool_], size: int) -> NDArray[np.bool_]:
    """Resize (H, W) bool as an image is resized; a pixel is lesion if at least half of it was."""
    return (
        resize_image(lesion, size) >= 0.5 - 1e-6
    )  # a sum of float32 weights may round an exact half down


def preprocess(
    image: NDArray, lesion: NDArray[np.bool_] | None, size: int, window: bool = True
) -> Prepared:
    """Window, pad to square with the slice's minimum (a lesion with 0), and resize one slice.

    image: (H, W), any scale.  lesion: (H, W) bool, None for a healthy slice.  window: False for an
    image that is in [0, 1] as it is to be.  Raises what `window98` raises.
    """
    windowed = window98(image) if window else np.clip(image, 0, 1).astype(np.float32)
    square = pad_to_square(windowed, windowed.min())
    lesion = np.zeros(image.shape, dtype=bool) if lesion is None else lesion
    return Prepared(
        resize_image(square, size),
        resize_lesion(pad_to_square(lesion, False), size),
        int(np.count_nonzero(lesion)),
    )
