"""The method of a prediction: the detector that the weights ask for, and its thresholds."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import partial
from math import inf
from typing import Any

from autoddpm.autoencoder.restoration import Restoration
from autoddpm.detectors.anoddpm import AnoDDPM
from autoddpm.detectors.anomaly_map import brighter_residual, residual
from autoddpm.detectors.autoddpm import AutoDDPM
from autoddpm.detectors.detector import Detector, checked_detector, parts, trained_parts
from autoddpm.detectors.perceptual import (
    LPIPS,
    DenoiserFeatures,
    NoPerceptual,
    Perceptual,
    RandomLPIPS,
    TrainedLPIPS,
)
from autoddpm.detectors.restoration import RestorationDetector
from autoddpm.diffusion.ddpm import DDPM
from autoddpm.diffusion.sampler import Ancestral
from autoddpm.evaluation.conditions import as_now, of_detector, record_of_parts
from autoddpm.models.compatibility import check_compatible, check_same_images
from autoddpm.models.model import Trained
from autoddpm.models.trained import load_checkpoint
from autoddpm.models.weights_file import known_preparation, known_thresholds, released_names
from autoddpm.preparation.cutting import Steps
from autoddpm.settings import describe

PRECISION = "32-true"
PERCEPTUAL: dict[str, Callable[[], Perceptual]] = {
    "lpips_random": RandomLPIPS,
    "lpips": LPIPS,
    "lpips_vgg": TrainedLPIPS,
    "lpips_alex": partial(TrainedLPIPS, "alex"),
    "denoiser": DenoiserFeatures,
    "none": NoPerceptual,
}
DETECTORS = ("autoddpm", "anoddpm", "restoration")
#: Share of healthy pixels that a map's threshold flags, unless asked: the paper's.
USUAL_RATE = 0.05
#: That of a restoration. Its map is nearly 0 where nothing changed, so 5 % of the pixels are noise.
USUAL_RATE_OF_RESTORATION = 0.002


@dataclass(frozen=True)
class DetectorSettings:
    """Settings of a detector that needs no `conf/`.

    name: of `DETECTORS`. "auto": what the weights are of. A DDPM's are AutoDDPM's, a restoration's
        are its own.
    t: noise level of the first reconstruction.
    stride: every so many times are visited in denoising.
    perceptual: of `PERCEPTUAL`.
    seed: of the noise.
    """

    name: str = "auto"
    t: int = 200
    stride: int = 5
    perceptual: str = "lpips_vgg"
    seed: int = 0

    def make(self, model: Any) -> Detector:
        """The detector.

        Raises ValueError if the weights are of another kind than it needs.
        """
        is_restoration, is_ddpm = isinstance(model, Restoration), isinstance(model, DDPM)
        kind = type(model).__name__
        name = self.name
        if name == "auto":
            if not (is_restoration or is_ddpm):
                raise ValueError(f"the weights are of a {kind}; name the --detector they are for")
            name = "restoration" if is_restoration else "autoddpm"
        if name not in DETECTORS:
            raise ValueError(f"--detector {name}: must be auto, {', '.join(DETECTORS)}")
        if name == "restoration":
            self._refuse_what_a_restoration_has_not()
            return RestorationDetector(model, NoPerceptual(), brighter_residual)
        if not is_ddpm:
            raise ValueError(
                f"--detector {name}: needs weights of a DDPM, as --weights ixi-small; "
                f"these are of a {kind}"
            )
        if self.perceptual not in PERCEPTUAL:
            raise ValueError(
                f"--perceptual {self.perceptual}: must be one of {', '.join(PERCEPTUAL)}"
            )
        sampler, perceptual = Ancestral(self.stride), PERCEPTUAL[self.perceptual]()
        made = AutoDDPM if name == "autoddpm" else AnoDDPM
        return made(model, sampler, perceptual, residual, seed=self.seed, t=self.t)

    def _refuse_what_a_restoration_has_not(self) -> None:
        for one in fields(self):
            if one.name != "name" and (given := getattr(self, one.name)) != one.default:
                raise ValueError(
                    f"--{one.name} {given}: a restoration is one call and has no such "
                    "setting; leave it out, or say --weights ixi-small, which is a DDPM"
                )


@dataclass(frozen=True)
class Threshold:
    """A threshold of an anomaly map, and its origin.

    value: a pixel above it is flagged.
    false_positive_rate: share of the pixels of healthy validation slices that it flags. None if it
        was given.
    data_hash: of these slices.
    seed: of the noise that they were reconstructed with.
    healthy: what is typical of them, see `autoddpm.metrics.typical`. None if nobody says.
    """

    value: float
    false_positive_rate: float | None = None
    data_hash: str = ""
    seed: int | None = None
    healthy: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Method:
    """All that a map depends on, beside the scan.

    trained: the weights.
    detector: with its own mask's threshold set.
    threshold: of the map.
    steps: that scans go through.
    modality: that the weights know.
    note: what is not exact about the steps.
    warnings: of all its maps.
    """

    trained: Trained
    detector: Detector
    threshold: Threshold
    steps: Steps
    modality: str
    note: str = ""
    warnings: Sequence[str] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Pixels a side of what the network sees."""
        return int(self.trained.data["size"])

    @property
    def meaning(self) -> str:
        """What a value of the map says, in a sentence."""
        map_ = record_of_parts(self.detector)["anomaly_map"] or {}
        if str(map_.get("name", "")).startswith("brighter"):
            return (
                "A map value says how much darker the scan is than what the model makes of it: "
                "what is brighter, as a bright lesion, is not flagged."
            )
        return "A map value says how far the scan is from what the model makes of it."

    def record(self) -> dict[str, Any]:
        """All that tells two methods apart, in plain containers."""
        return {
            "weights_hash": self.trained.weights_hash,
            **self.trained.model.record(),
            "detector": describe(self.detector),
            "parts": parts(self.detector),
            "precision": PRECISION,
            "threshold": self.threshold.value,
            "false_positive_rate": self.threshold.false_positive_rate,
            "preparation": self.steps.record(self.modality),
        }


def method_of(
    weights: str | None,
    make_detector: Callable[[Any], Detector],
    false_positive_rate: float | None = None,
    threshold: float | None = None,
) -> Method:
    """The method that weights and settings make together.

    weights: a checkpoint, a weights file, or the name of released weights.
    make_detector: from the model.
    false_positive_rate: of the calibrated threshold that is used. None: what is usual for the
        detector.
    threshold: of the map, instead of a calibrated one.

    Raises ValueError or FileNotFoundError, naming the file and the remedy. The weights may not say
    how their slices were made, may be of volumes or of several modalities, or may hold no threshold
    for these settings.
    """
    if weights is None:
        names = ", ".join(released_names()) or "none here"
        raise ValueError(f"--weights: name a file, or released ones: {names}")
    trained = load_checkpoint(weights)
    stated = _preparation(trained)
    steps = Steps(**stated["steps"], slices=stated["slices"])
    detector = checked_detector(make_detector(trained.model))
    if detector.sees_lesion:
        raise ValueError(f"{detector.label} needs the true lesion: a scan to predict has none")
    for further in trained_parts(detector):
        check_compatible(further, int(trained.data["size"]), [], {})
        check_same_images(further, trained)
    used = []
    for name, part in detector.to_calibrate().items():
        used.append(calibrated(trained, part, USUAL_RATE))
        setattr(detector, name, used[-1].value)
    if threshold is None:
        rate = usual_rate(detector) if false_positive_rate is None else false_positive_rate
        used.append(calibrated(trained, detector, rate))
        found = used[-1]
    else:
        if not 0 <= threshold < inf:
            raise ValueError(f"--threshold {threshold}: must be a number of 0 or more")
        found = Threshold(threshold)
    return Method(
        trained,
        detector,
        found,
        steps,
        str(stated["modality"]),
        str(stated.get("note", "")),
        _other_seed(detector, used),
    )


def usual_rate(detector: Detector) -> float:
    """Share of healthy pixels that the threshold flags, unless another is asked for."""
    is_restoration = isinstance(detector, RestorationDetector)
    return USUAL_RATE_OF_RESTORATION if is_restoration else USUAL_RATE


def calibrated(trained: Trained, detector: Detector, rate: float) -> Threshold:
    """The threshold of a detector's map that is stored with the weights.

    rate: share of the pixels of healthy slices that it flags.

    The seed of a calibration may be another one: a threshold is of a distribution. One of the same
    seed is preferred, and before that one in the weights' file to one beside it.

    Raises ValueError if there is none, or if calibrations on different slices disagree.
    """
    entries = [(entry, as_now(entry["conditions"])) for entry in known_thresholds(trained)]
    wanted = _without_seed(
        {
            "weights_hash": trained.weights_hash,
            "size": trained.data["size"],
            "clip": trained.model.record().get("data_range"),
            "sampler": record_of_parts(detector)["sampler"],
            "precision": PRECISION,
            "postprocess": "none",
            **of_detector(detector),
        }
    )
    fitting = [pair for pair in entries if _fits(pair[1], wanted)]
    seed = getattr(detector, "seed", None)
    of_rate = [pair for pair in fitting if pair[1]["false_positive_rate"] == rate]
    in_file = [pair for pair in of_rate if pair[0] in trained.thresholds] or of_rate
    chosen = [pair for pair in in_file if pair[1].get("seed") == seed] or in_file
    if not chosen:
        raise ValueError(_none_calibrated(trained, detector, rate, [one for _, one in fitting]))
    if len({entry["threshold"] for entry, _ in chosen}) > 1:
        hashes = ", ".join(sorted({one["data_hash"] for _, one in chosen}))
        values = " or ".join(sorted({f"{entry['threshold']:.6g}" for entry, _ in chosen}))
        raise ValueError(
            f"{trained.path}: thresholds of {detector.label} were calibrated on several sets of "
            f"healthy slices ({hashes}). Give one as --threshold ({values}), or keep those of one "
            "set in the checkpoint's .thresholds.json, and export its weights again"
        )
    entry, conditions = chosen[-1]
    return Threshold(
        float(entry["threshold"]),
        rate,
        conditions["data_hash"],
        conditions.get("seed"),
        entry.get("healthy"),
    )


def _preparation(trained: Trained) -> dict[str, Any]:
    """How the weights' slices were made, if scans can be treated in the same way.

    Raises ValueError if not.
    """
    stated, path = known_preparation(trained), trained.path
    if stated is None:
        raise ValueError(
            f"{path}: does not say how its slices were made from scans, so no scan can be made "
            f"like them. Write {path.stem}.preparation.json beside it, as docs/predict.md says, or "
            "train on slices of `python -m src.prepare`"
        )
    model = trained.model
    if model.dimensions != 2 or model.channels != 1:
        raise ValueError(
            f"{path}: is of {model.channels} channels in {model.dimensions} dimensions; a "
            "prediction takes weights of slices of one modality"
        )
    return stated


def _fits(conditions: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    mine = _without_seed(conditions)
    return all(mine.get(key) == value for key, value in wanted.items())


def _without_seed(conditions: Mapping[str, Any]) -> dict[str, Any]:
    detector = {k: v for k, v in conditions["detector"].items() if k != "seed"}
    return {**{k: v for k, v in conditions.items() if k != "seed"}, "detector": detector}


def _none_calibrated(
    trained: Trained, detector: Detector, rate: float, fitting: Sequence[Mapping[str, Any]]
) -> str:
    """The message that no threshold is there, and what is."""
    own = describe(detector)
    begin = f"{trained.path}: holds no threshold of {detector.label} "
    if fitting:
        rates = sorted({one["false_positive_rate"] for one in fitting})
        return f"{begin}at a false-positive rate of {rate:g}; it has {', '.join(map(str, rates))}"
    told = [
        f"t={one['detector'].get('t', '-')} stride={(one['sampler'] or {}).get('stride', '-')} "
        f"perceptual={(one['perceptual'] or {}).get('name', 'none')}"
        for one in (as_now(entry["conditions"]) for entry in known_thresholds(trained))
        if one["precision"] == PRECISION and one["detector"].get("name") == own["name"]
    ]
    there = "; ".join(dict.fromkeys(told)) or "none"
    return (
        f"{begin}with these settings (calibrated in fp32 are: {there}). Choose those, calibrate "
        "with `python -m src.evaluate`, which keeps its thresholds beside the weights, or, for a "
        "detector without a mask of its own, give --threshold"
    )


def _other_seed(detector: Detector, used: Sequence[Threshold]) -> list[str]:
    seed = getattr(detector, "seed", None)
    others = sorted({one.seed for one in used if one.seed is not None and one.seed != seed})
    if seed is None or not others:
        return []
    return [f"thresholds were calibrated with seed {others[0]}, these maps have seed {seed}"]
