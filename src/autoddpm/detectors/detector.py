"""The interface of every detector: what it takes and what it gives."""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, cast, runtime_checkable

from torch import Tensor, float32

from autoddpm.models.model import Trained
from autoddpm.settings import arguments, describe, is_plain, lacking

#: Names of what is kept beside a detector's stages.
TAKEN = ("id", "image", "lesion", "anomaly_map", "reconstruction", "calls", "seconds")


class Slices(Protocol):
    """The part of a batch that a detector may look at: never the lesion.

    image: (B, C, *space) float32 in [0, 1].
    id: the slices' names, which seed their noise.
    """

    @property
    def image(self) -> Tensor: ...
    @property
    def id(self) -> Sequence[str]: ...


@runtime_checkable
class WithLesion(Slices, Protocol):
    """A batch that shows the true lesion, for detectors that say `sees_lesion` and no others.

    lesion: (B, 1, *space) bool.
    """

    @property
    def lesion(self) -> Tensor: ...


@dataclass(frozen=True)
class Unlabelled:
    """A batch without its lesion: `Slices`, and nothing else."""

    image: Tensor
    id: Sequence[str]


@dataclass(frozen=True)
class Reconstruction:
    """A batch as it would look if it were healthy.

    image: (B, C, *space) float32, in [0, 1] unless a detector says otherwise.
    calls: (B,) int64, network calls per slice.
    stages: what happened on the way, by name, each (B, 1, *space) or (B, C, *space).
    """

    image: Tensor
    calls: Tensor
    stages: Mapping[str, Tensor] = field(default_factory=dict)


class Detector(Protocol):
    """A method: from a batch of slices to a reconstruction, and from both to an anomaly map.

    The result of a slice does not depend on the others in its batch. Each argument of the
    constructor is kept as an attribute of the same name: they are the record of the results.

    label: the name of the row in a table.
    variant: whose code it follows, "paper" for most.
    only_of_map: names of the arguments that `anomaly_map` alone uses. Detectors that differ in
        these alone have the same reconstructions, which are made once. If in doubt, leave it empty.
    sees_lesion: whether it is given the true lesion, see `seen_by`. True makes it an upper bound,
        not a method. Its label and its row's provenance say so.
    begins_with: the detector whose reconstruction of the same batch is the first stage of this
        one, None for most. It is made once for all detectors that begin with it.
    """

    variant: str
    only_of_map: Collection[str]
    sees_lesion: bool

    @property
    def label(self) -> str: ...

    @property
    def begins_with(self) -> "Detector | None": ...

    def reconstruct(self, batch: Slices, first: Reconstruction | None = None) -> Reconstruction:
        """Reconstruct a batch. This step alone costs network calls.

        first: what `begins_with` reconstructed. None: it is made here.
        """

    def anomaly_map(self, batch: Slices, made: Reconstruction) -> Tensor:
        """Map what is anomalous: (B, 1, *space) float32 >= 0. It costs no network call.

        made: what `reconstruct` gave for this batch.
        """

    def to_calibrate(self) -> "Mapping[str, Detector]":
        """Settings that healthy validation slices decide, and the detector whose map decides them.

        The setting becomes the value that a given share of healthy pixels exceeds. For most
        detectors the result is {}.
        """


class PlainDetector:
    """Base of most detectors, which begin with no other one and calibrate nothing."""

    variant = "paper"
    only_of_map: Collection[str] = ()
    sees_lesion = False

    @property
    def begins_with(self) -> Detector | None:
        return None

    def to_calibrate(self) -> Mapping[str, Detector]:
        return {}


def seen_by(detector: Detector, batch: Slices) -> Slices:
    """The part of a batch that a detector is given: without the lesion, unless it says
    `sees_lesion`.

    Evaluation hands every batch through here, so that no detector sees a lesion by accident.
    """
    return batch if detector.sees_lesion else Unlabelled(batch.image, batch.id)


def parts(detector: Detector) -> dict[str, dict[str, object]]:
    """Records of the parts that a detector was made with, such as its sampler, by `describe`.

    The model is none of them: it has a record of its own.
    """
    return {
        name: describe(value)
        for name, value in arguments(detector).items()
        if name != "model" and value is not None and not is_plain(value)
    }


def trained_parts(detector: Detector) -> list[Trained]:
    """The `Trained` of the parts that have weights of their own."""
    found = [getattr(part, "trained", None) for part in arguments(detector).values()]
    return [trained for trained in found if trained is not None]


@dataclass(frozen=True)
class Detection:
    """A reconstruction and its map together.

    anomaly_map: (B, 1, *space) float32 >= 0, higher is more anomalous.
    reconstruction: (B, C, *space) float32.
    calls: (B,) int64, network calls per slice.
    stages: what happened on the way, by name.
    """

    anomaly_map: Tensor
    reconstruction: Tensor
    calls: Tensor
    stages: Mapping[str, Tensor] = field(default_factory=dict)


def checked_detector(thing: object) -> Detector:
    """An object, if it is a detector.

    Raises ValueError that names what it lacks.
    """
    if missing := lacking(thing, Detector):
        raise ValueError(
            f"detector: {type(thing).__name__} has no {', '.join(missing)}; most "
            "detectors inherit from autoddpm.detectors.detector.PlainDetector"
        )
    return cast(Detector, thing)


def checked_reconstruction(made: Reconstruction, batch: Slices) -> Reconstruction:
    """What a detector reconstructed, before any of it is kept.

    Raises ValueError if it is not as `Reconstruction` says, or if the name of a stage is taken.
    """
    _check_images("reconstruction", made.image, batch.image.shape)
    if not isinstance(made.calls, Tensor) or made.calls.shape != (len(batch.image),):
        raise ValueError(
            f"detector: calls must be a tensor ({len(batch.image)},) of int64, the network calls "
            "of each slice"
        )
    if taken := [name for name in made.stages if name in TAKEN]:
        raise ValueError(f"detector: a stage may not be called {taken[0]}; give it another name")
    return made


def checked_map(anomaly_map: Tensor, batch: Slices) -> Tensor:
    """A detector's map, before it is kept.

    Raises ValueError if it is not (B, 1, *space) float32.
    """
    count, _, *space = batch.image.shape
    _check_images("anomaly map", anomaly_map, (count, 1, *space))
    return anomaly_map


def _check_images(what: str, images: Tensor, shape: Sequence[int]) -> None:
    if tuple(images.shape) != tuple(shape) or images.dtype != float32:
        raise ValueError(
            f"detector: its {what} is {tuple(images.shape)} {images.dtype}, must be {tuple(shape)} "
            f"{float32}"
        )


def detect(detector: Detector, batch: Slices) -> Detection:
    """Reconstruct and map a batch: both steps of a detector at once, nothing kept."""
    seen = seen_by(detector, batch)
    made = detector.reconstruct(seen)
    return Detection(detector.anomaly_map(seen, made), made.image, made.calls, made.stages)


def detect_images(
    detector: Detector, images: Tensor, ids: Sequence[str] | None = None
) -> Detection:
    """Reconstruct and map slices that are no part of a data set.

    images: (B, C, *space) float32 in [0, 1], on the model's device.
    ids: names, which seed the noise. None: each image's own content is its name.

    Raises ValueError if `images` are something else, or if there are not as many names.
    """
    if images.dtype != float32 or images.ndim < 4 or not (images >= 0).all() or images.max() > 1:
        raise ValueError(
            f"images: {tuple(images.shape)} {images.dtype}, must be (B, C, *space) {float32} in "
            "[0, 1]"
        )
    if ids is None:
        ids = [hashlib.sha256(one.cpu().numpy().tobytes()).hexdigest() for one in images]
    if len(ids) != len(images):
        raise ValueError(f"ids: {len(ids)} names of {len(images)} images")
    return detect(detector, Unlabelled(images, ids))
