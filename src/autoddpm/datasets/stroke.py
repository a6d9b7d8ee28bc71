"""Old strokes in healthy slices: outlines of real strokes, from cavities to barely visible ones.

Everything is drawn at the slice's own resolution and is a function of a key, the same on every
machine.
"""

from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from autoddpm.datasets.implanted import template_planes
from autoddpm.datasets.phantom.anatomy import step
from autoddpm.random import Draw, Stage, normal, slice_keys, uniform

Array = NDArray[np.floating]
Mask = NDArray[np.bool_]

APPEARANCES = ("cavity", "mixed", "gliosis", "faint")
SHARES = (0.25, 0.25, 0.35, 0.15)
NUMBERS = 24  # uniforms for one stroke
NEAREST = 24  # outlines of about the wanted area among which one is drawn
TRIES = 40
#: A stroke may lie this deep in the brain's outline, and this far outside the ventricles, in mm.
DEEP, FREE = -2.0, 1.0


@dataclass(frozen=True)
class Stroke:
    """A slice with a stroke in it.

    image: (233, 197) in [0, 1].
    lesion: (233, 197) bool.
    outline: the subject whose stroke had this outline.
    appearance: one of `APPEARANCES`.
    """

    image: Array
    lesion: Mask
    outline: str
    appearance: str


class Draws:
    """Random numbers of one stroke, a function of its key."""

    def __init__(self, key: str, attempt: int) -> None:
        self._keys, self._attempt, self._fields = slice_keys(0, [key]), attempt, 0
        self._u = iter(
            uniform(self._keys, NUMBERS, Stage.VALIDATION, Draw.STROKE, attempt)[0].tolist()
        )

    def u(self, low: float = 0.0, high: float = 1.0) -> float:
        """The next number, between two values."""
        return low + (high - low) * next(self._u)

    def field(self, shape: tuple[int, int], width: float) -> Array:
        """A new smooth field of unit variance.

        width: standard deviation of its Gaussian, in pixels.
        """
        self._fields += 1
        count = shape[0] * shape[1]
        white = normal(
            self._keys, count, Stage.VALIDATION, Draw.STROKE_FIELD, self._attempt, self._fields
        )
        smooth = ndimage.gaussian_filter(white.double().view(shape).numpy(), width, mode="wrap")
        return smooth / np.sqrt(np.square(smooth).mean())


@lru_cache(maxsize=1)
def outlines() -> tuple[Array, list[str]]:
    """Outlines of real strokes, and their subjects.

    An outline is a signed distance in pixels, positive inside; (100, 233, 197).
    """
    with (
        (files("autoddpm.datasets.published") / "stroke_outlines.npz").open("rb") as file,
        np.load(file) as stored,
    ):
        columns = int(stored["shape"][1])
        inside = np.unpackbits(stored["outlines"], axis=-1, count=columns).astype(bool)
        return np.stack([_distance(one) for one in inside]), stored["subjects"].tolist()


def implant_stroke(image: NDArray, key: str, area: float) -> Stroke:
    """A slice with a stroke in it.

    image: windowed, on the template's grid, (233, 197) in [0, 1].
    key: of all that is drawn.
    area: of the stroke, about, in pixels.
    Raises ValueError if no place was found for it.
    """
    image = image.astype(np.float64)
    for attempt in range(TRIES):
        draws = Draws(key, attempt)
        name, distance = _placed(draws, area)
        lesion = distance > 0
        if lesion.sum() >= 0.8 * area:
            appearance = APPEARANCES[int(np.searchsorted(np.cumsum(SHARES), draws.u()))]
            return Stroke(_drawn(image, distance, appearance, draws), lesion, name, appearance)
    raise ValueError(f"{key}: no place was found for a stroke of {area:.0f} pixels")


def contrast(image: NDArray, lesion: Mask) -> float:
    """Mean intensity of a lesion over that of the slice's white matter, less 1.

    At 0 it cannot be seen, at -1 it is black.
    """
    around = ~ndimage.binary_dilation(lesion, iterations=3)
    return float(image[lesion].mean() / white_matter(image, around) - 1)


def white_matter(image: NDArray, among: Mask) -> float:
    """The upper quartile of what lies well inside the brain and beside the ventricles."""
    hull, ventricle, _ = template_planes()
    return float(np.percentile(image[(hull < -8) & (ventricle > 3) & among], 75))


def _placed(draws: Draws, area: float) -> tuple[str, Array]:
    """A stroke's shape, as a signed distance in pixels, and the subject of its outline.

    The outline is turned, stretched, bent and scaled to `area`. A small stroke lies somewhere
    inside the outline that it has its shape from.
    """
    distances, names = outlines()
    areas = (distances > 0).sum((1, 2))
    near = np.argsort(np.abs(np.log(areas / area)), kind="stable")[:NEAREST]
    number = int(near[int(draws.u() * len(near))])
    mirrored = draws.u() < 0.5
    shape = distances[number][:, ::-1] if mirrored else distances[number]
    scale = np.sqrt(area / areas[number])
    target, distance = _moved(draws, shape, scale)
    radius = np.sqrt(area / np.pi)
    distance = distance + min(1.0, radius / 8) * draws.field(shape.shape, 2.5)
    allowed = _allowed(target)
    order = np.sort(np.where(allowed > 0, distance, -np.inf), axis=None)[::-1]
    level = order[min(int(area), order.size - 1)]
    if not np.isfinite(level) or level < -0.5 * radius:  # the outline does not fit in its place
        return names[number], np.full_like(distance, -1.0)
    return names[number], np.minimum(distance - level, allowed)


def _moved(draws: Draws, shape: Array, scale: float) -> tuple[Array, Array]:
    """An outline after a random affine map and a bend: its centre, and the signed distance.

    shape: signed distance of the outline.
    scale: its new size over its old one.
    """
    pixels = np.argwhere(shape > 0)
    own = pixels.mean(0)
    target = own + (pixels[int(draws.u() * len(pixels))] - own) * np.clip(1.2 - scale, 0, 1)
    target = target + np.array([draws.u(-6, 6), draws.u(-6, 6)])
    angle, stretch = np.radians(draws.u(-25, 25)), np.exp(draws.u(-0.2, 0.2))
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    turn = rotation @ np.diag([stretch, 1 / stretch])
    grid = np.stack(np.meshgrid(*(np.arange(n, dtype=float) for n in shape.shape), indexing="ij"))
    bend = 1.5 * np.stack([draws.field(shape.shape, 9), draws.field(shape.shape, 9)])
    offset = np.einsum("ij,jyx->iyx", turn, grid - target[:, None, None])
    points = offset / scale + own[:, None, None] + bend
    return target, scale * ndimage.map_coordinates(shape, points, order=1, mode="nearest")


def _allowed(target: Array) -> Array:
    """Signed distance, positive in the pixels that a stroke around `target` may have.

    They lie in its own hemisphere.
    """
    hull, ventricle, side = template_planes()
    pixel = tuple(np.clip(np.round(target).astype(int), 0, np.array(side.shape) - 1))
    hemisphere = np.sign(side[pixel]) or 1.0
    return np.minimum.reduce([DEEP - hull, ventricle - FREE, hemisphere * side - 1])


def _drawn(image: Array, distance: Array, appearance: str, draws: Draws) -> Array:
    """The image with a stroke in the pixels of positive `distance`."""
    hull, ventricle, _ = template_planes()
    radius = float(np.sqrt((distance > 0).sum() / np.pi))
    pull, width, healed, depth = draws.u(), draws.u(0.5, 2.5), draws.u(), draws.u(0.2, 0.6)
    darkness, kept = draws.u(), draws.u(0.2, 0.6)
    if appearance != "faint":
        reach = max(4.0, 0.6 * radius)
        image = _drawn_in(image, distance, pull * min(5.0, 0.25 * radius), reach, hull)
    low = ndimage.gaussian_filter(image, 0.8)
    white = white_matter(low, np.ones(low.shape, bool))
    fluid = min(float(np.percentile(low[ventricle < -1], 20)), 0.4 * white)
    own = ndimage.gaussian_filter(image, 3.0)

    soft = min(width, 0.3 * radius) * np.exp(0.4 * draws.field(image.shape, 10))
    matte = step(distance, soft) * np.clip((2 - hull) / 3, 0, 1)  # a soft edge ends at the skull
    if healed < 0.5:  # half of the edges are partly healed: a rim between stroke and tissue
        matte = matte * np.clip(0.4 + 0.6 * distance / (6 * healed + 0.1), 0, 1)
    gliosis = ((1 - kept) * white + kept * own) * (0.5 + 0.28 * darkness)
    cavity = np.full_like(image, fluid + 0.2 * darkness * (white - fluid))
    core = step(distance - depth * distance.max(), 1.5)
    inner = {
        "cavity": cavity,
        "mixed": (1 - core) * gliosis + core * cavity,
        "gliosis": gliosis,
        "faint": own * (0.76 + 0.14 * darkness),
    }[appearance]
    grain = 0.05 * draws.field(image.shape, 2.0) + 0.08 * draws.field(image.shape, 6.0)
    inner = np.minimum(low, inner * (1 + grain * (0.5 if appearance == "cavity" else 1.0)))
    return _blended(image, low, inner, matte, draws)


def _blended(image: Array, low: Array, inner: Array, matte: Array, draws: Draws) -> Array:
    """The stroke's inner over the image's lower frequencies, with the noise of its surroundings.

    low: the image without its high frequencies.
    inner: the stroke's intensities.
    matte: share of `inner` in each pixel.
    """
    hull, ventricle, _ = template_planes()
    high = image - low
    tissue = high[(hull < -8) & (ventricle > 3)]
    noise = float(np.median(np.abs(tissue - np.median(tissue)))) / 0.6745
    noise_like = draws.field(image.shape, 0.6)
    noise_like = noise_like - ndimage.gaussian_filter(noise_like, 0.8)
    noise_like = noise * noise_like / noise_like.std()
    drawn = (
        low + matte * (inner - low) + (1 - matte) * high + np.sqrt(matte * (2 - matte)) * noise_like
    )
    return np.where(matte > 1e-3, np.clip(drawn, 0, 1), image)


def _drawn_in(image: Array, distance: Array, pull: float, reach: float, hull: Array) -> Array:
    """The image with the surroundings of an old stroke moved towards it, as it has shrunk.

    distance: signed, positive in the stroke.
    pull: how far, at most, in pixels.
    reach: distance in pixels at which the movement has faded to 1 / e.
    hull: distance to the brain's outline. The skull stays.
    """
    smooth = ndimage.gaussian_filter(distance, 2.0)
    down, right = np.gradient(smooth)
    length = np.maximum(np.hypot(down, right), 1e-6)
    amount = pull * np.exp(-np.maximum(-smooth, 0) / reach) * np.clip((-hull - 1) / 10, 0, 1)
    amount = ndimage.gaussian_filter(amount * np.minimum(1, length), 2.0)
    rows, columns = np.meshgrid(*(np.arange(n, dtype=float) for n in image.shape), indexing="ij")
    points = np.stack([rows - amount * down / length, columns - amount * right / length])
    return ndimage.map_coordinates(image, points, order=1, mode="nearest")


def _distance(inside: Mask) -> Array:
    """Signed distance to the edge, in pixels, positive inside, without steps."""
    distance = ndimage.distance_transform_edt(inside) - ndimage.distance_transform_edt(~inside)
    return ndimage.gaussian_filter(distance, 1.0)
