"""Chronic strokes for phantom heads: irregular, darker than tissue, of a chosen size in the slice
that is shown."""

import numpy as np

from autoddpm.datasets.phantom.anatomy import Array, Axes, Cut, SmoothField, step

#: Pixels of a lesion at 128 x 128 that are drawn for each size group, clear of the groups' borders
# (71 and 570).
SIZES = ((14, 60), (85, 480), (680, 1350))
MM2 = (233 / 128) ** 2


class Lesion:
    """One lesion of a head. `cut` is the head's slice that the size refers to. The lesion goes on
    above and below it.

    The subject's number (the last of `key`) modulo 3 is the size group; within it the area is
    log-uniform.
    """

    def __init__(self, key: tuple[int, ...], cut: Cut, axes: Axes) -> None:
        rng = np.random.default_rng([*key, 2])
        area = MM2 * np.exp(rng.uniform(*np.log(SIZES[key[-1] % 3])))
        self.radius = np.sqrt(area / np.pi)
        self.hemisphere = rng.choice([-1, 1])
        self.turn = (
            np.linalg.qr(rng.standard_normal((3, 3)))[0] * np.exp(rng.normal(0, 0.3, 3))[:, None]
        )
        self.edge = min(rng.uniform(0.8, 2.0), 0.2 * self.radius)
        self.severity = rng.uniform(0.65, 0.95)
        self.value = rng.uniform(0.22, 0.38)
        self.rough = SmoothField(rng, float(np.clip(0.7 * self.radius, 5, 16)))
        self.texture = SmoothField(rng, 4)

        allowed = self._allowed(cut) > 0.9
        deep = allowed & (cut.hull < -min(4 + 0.3 * self.radius, 14))
        x, y, z = rng.choice(np.argwhere(deep))
        self.centre = np.array([axes[0][x], axes[1][y], axes[2][z]])
        values = np.sort(self._extent(axes)[allowed])
        self.level = values[min(int(area), len(values)) - 1]

    def _allowed(self, cut: Cut) -> Array:
        """1 in the tissue of the lesion's hemisphere, 0 in the ventricles, outside the brain and
        beyond the midline."""
        return (
            step(-cut.hull - 2, 1)
            * step(cut.ventricle - 1.5, 0.7)
            * step(self.hemisphere * cut.side - 2, 1)
        )

    def _extent(self, axes: Axes) -> Array:
        """A function that grows from the centre outwards, in radii, unevenly."""
        offset = np.stack(
            np.meshgrid(*(a - c for a, c in zip(axes, self.centre, strict=True)), indexing="ij")
        )
        distance = np.sqrt(np.sum(np.einsum("ij,jxyz->ixyz", self.turn, offset) ** 2, axis=0))
        return distance / self.radius + 0.4 * self.rough(axes)

    def strength(self, cut: Cut, axes: Axes) -> Array:
        """(X, Y, Z) in [0, 1]: how much of the tissue is replaced. A voxel is lesion from one half
        on."""
        return step((self.level - self._extent(axes)) * self.radius, self.edge) * self._allowed(cut)

    def apply(self, cut: Cut, strength: Array, axes: Axes) -> Array:
        """The cut's image with the lesion in it, nowhere brighter than without."""
        inside = self.value + 0.04 * self.texture(axes)
        return np.minimum(cut.image, cut.image + self.severity * strength * (inside - cut.image))
