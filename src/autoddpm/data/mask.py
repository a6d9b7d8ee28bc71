"""What the values of a mask's file mean, and whether they can be those of a lesion."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

#: Values this near to 0 or to the maximum, over the maximum, are these.
NEAR = 1e-3
#: Interpolation by splines undershoots 0 by no more than this, over the maximum.
UNDERSHOOT = 0.2
#: A mask whose values lie in between in a larger share of the picture is an image.
MOST_BETWEEN = 0.2
#: Whole numbers up to this are labels, not grey values.
LARGEST_LABEL = 20
#: Grey values, over the maximum, of which an even area is no softened edge.
LEVELS = (0.1, 0.9)
#: A lesion covers no larger share than this of the picture's border, or of its head.
MOST_COVERED = 0.5
#: The head is brighter than this share of the image's 98th percentile.
HEAD = 0.1
REMEDY = "save 0 for healthy and one other value, such as 1 or 255, for lesion"


class Mask(NamedTuple):
    """A mask as it was read.

    pixels: bool, as the file's.
    remark: what is doubtful, a sentence without the file's name. Empty if nothing is.
    """

    pixels: NDArray[np.bool_]
    remark: str = ""


def mask_of(values: NDArray, above_0: bool = False) -> Mask:
    """The pixels of at least half of the maximum, in two or three dimensions.

    values: real numbers. Two values, 0 and another, are as they are. Those in between, as JPEG and
        smooth resampling leave them, make a remark.
    above_0: every pixel above 0 is meant, as in the published authors' slices, whose masks were
        made smaller.

    Raises ValueError, without the file's name, if no lesion has such values: NaN, negative, no 0,
    several labels, those of an image, or of a border that is lesion, as in an inverted mask.
    """
    top = float(values.max())
    if not np.isfinite(values).all() or values.min() < -max(UNDERSHOOT * top, 0):
        raise ValueError(f"holds NaN, infinite or negative values; {REMEDY}")
    if top == 0:
        return Mask(np.zeros(values.shape, bool))
    if values.min() > NEAR * top:
        raise ValueError(f"holds no 0, its values are {_few(values)}; {REMEDY}")
    between = ((values > NEAR * top) & (values < (1 - NEAR) * top)) | (values < -NEAR * top)
    if above_0:
        between[:] = False
    if between.any():
        _refuse_what_is_no_edge(values, between, top)
    pixels = values > 0 if above_0 else values >= top / 2
    _refuse_inverted(pixels)
    count, above = int(between.sum()), int((values > NEAR * top).sum())
    remark = (
        f"{count / above:.0%} of its pixels above 0 ({count} of {above}) are below its maximum, "
        "as JPEG or smooth resampling leaves them; those of half of it or more are taken for lesion"
    )
    return Mask(pixels, remark if count else "")


def covering(pixels: NDArray[np.bool_], image: NDArray) -> str:
    """A remark if a lesion covers more than half of the head in its image; else empty."""
    head = image > HEAD * np.percentile(image, 98)
    share = float((pixels & head).sum() / max(1, int(head.sum())))
    if share <= MOST_COVERED:
        return ""
    return f"it covers {share:.0%} of the head: is it inverted, or the mask of the brain?"


def _refuse_what_is_no_edge(values: NDArray, between: NDArray[np.bool_], top: float) -> None:
    """Refuse values in between that are labels, or an image."""
    share = np.count_nonzero(between) / between.size
    if share > MOST_BETWEEN:
        raise ValueError(
            f"{share:.0%} of its pixels have values between 0 and its maximum: it looks like an "
            f"image; {REMEDY}"
        )
    if top <= LARGEST_LABEL and (values == np.round(values)).all():
        raise ValueError(f"holds several labels, its values are {_few(values)}; {REMEDY}")
    grey = between & (values > LEVELS[0] * top) & (values < LEVELS[1] * top)
    inside = np.where(grey, values, 0)[_box(between)]
    even = (inside > 0) & (ndimage.maximum_filter(inside, 3) == ndimage.minimum_filter(inside, 3))
    if even.any():
        raise ValueError(
            f"holds areas of {inside[even].flat[0]:g}, between 0 and its maximum {top:g}, such as "
            f"several labels; {REMEDY}"
        )


def _box(between: NDArray[np.bool_]) -> tuple[slice, ...]:
    """The box around some pixels."""
    return ndimage.find_objects(between.astype(np.uint8))[0]


def _refuse_inverted(pixels: NDArray[np.bool_]) -> None:
    inner = tuple(slice(1, -1) for _ in pixels.shape)
    border = pixels.size - pixels[inner].size
    covered = np.count_nonzero(pixels) - np.count_nonzero(pixels[inner])
    if covered > MOST_COVERED * border:
        raise ValueError(
            f"covers {covered / border:.0%} of the image's border: it is inverted, or no lesion; "
            f"{REMEDY}"
        )


def _few(values: NDArray, shown: int = 5) -> str:
    """The first different values, in words."""
    different = np.unique(values)
    more = ", ..." if len(different) > shown else ""
    return ", ".join(f"{value:g}" for value in different[:shown]) + more
