"""Reconstructions that are kept: by all that they depend on, and made once."""

import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tiny import Conv, Difference, Slices, images, short_ddpm

from autoddpm.detectors.anoddpm import AnoDDPM
from autoddpm.detectors.anomaly_map import product, residual
from autoddpm.detectors.authors_code import AuthorsCode, AuthorsCodeAnoDDPM
from autoddpm.detectors.autoddpm import AutoDDPM
from autoddpm.detectors.detector import Detector, Reconstruction
from autoddpm.diffusion.sampler import Ancestral
from autoddpm.evaluation.reconstructions import Reconstructions, Stored, depends_on

GIVEN = {"weights_hash": "0123", "precision": "32-true"}
STRATEGY = SimpleNamespace(barrier=lambda: None, root_device=torch.device("cpu"))
TRAINER: Any = SimpleNamespace(is_global_zero=True, strategy=STRATEGY)


def anoddpm(map: Any = residual, stride: int = 1, **settings: Any) -> Detector:
    return AnoDDPM(short_ddpm(Conv()), Ancestral(stride), Difference(), map, **{"t": 9} | settings)


def autoddpm(map: Any = residual, **settings: Any) -> Detector:
    given = {"t": 9, "t_resample": 4, "mask_threshold": 0.1} | settings
    return AutoDDPM(short_ddpm(Conv()), Ancestral(), Difference(), map, **given)


def same(one: Detector, other: Detector) -> bool:
    return depends_on(one, GIVEN) == depends_on(other, GIVEN)


def test_they_do_not_depend_on_the_map() -> None:
    assert same(anoddpm(), anoddpm(product))
    assert same(autoddpm(), autoddpm(product, use_uncertainty=False))


@pytest.mark.parametrize("changed", [{"t": 8}, {"seed": 1}, {"stride": 2}])
def test_they_depend_on_what_samples_them(changed: dict[str, int]) -> None:
    assert not same(anoddpm(), anoddpm(**changed))


@pytest.mark.parametrize(
    "changed", [{"mask_threshold": 0.2}, {"dilation": 5}, {"resample_steps": 1}]
)
def test_of_autoddpm_they_depend_on_its_mask(changed: dict[str, Any]) -> None:
    assert not same(autoddpm(), autoddpm(**changed))
    first = [one.begins_with for one in (autoddpm(), autoddpm(**changed))]
    assert same(first[0], first[1])
    assert same(first[0], anoddpm(product))


def test_the_authors_first_stage_is_not_shared_with_anoddpm() -> None:
    parts = short_ddpm(Conv()), Ancestral(), Difference(), residual
    first = AuthorsCode(*parts, t=9, t_resample=4, mask_threshold=0.1).begins_with
    assert not same(first, anoddpm(product))
    assert same(first, AuthorsCodeAnoDDPM(*parts, t=9))


def test_a_batch_is_read_as_it_was_written(tmp_path: Path) -> None:
    kept, batch = Reconstructions(tmp_path, {"a": 1}), Slices(images(3), ["c", "a", "b"])
    stages = {"two": torch.rand(3, 2, 16, 16)}
    made = Reconstruction(images(3, seed=1), torch.tensor([3, 1, 2]), stages)
    with kept.claimed(TRAINER):
        kept.write(batch, made, 1.5)
        read = Stored(kept.parts.merged())
    found = read.of(Slices(batch.image[1:], batch.id[1:]))
    assert torch.equal(found.image, made.image[1:])
    assert torch.equal(found.stages["two"], stages["two"][1:])
    assert found.calls.tolist() == [1, 2]
    assert read.seconds(["a", "c"]).tolist() == [0.5, 0.5]
    assert kept.made_by()["device"] == "cpu"


def test_two_runs_at_the_same_time_make_them_once(tmp_path: Path) -> None:
    batch, makers, begun = Slices(images(1), ["a"]), [], threading.Event()

    def run(name: str) -> None:
        kept = Reconstructions(tmp_path, {"a": 1})
        with kept.claimed(TRAINER):
            begun.set()
            if "a" not in kept.parts.done():
                time.sleep(0.5)
                kept.write(batch, Reconstruction(images(1), torch.tensor([1])), 1.0)
                makers.append(name)

    first, second = (threading.Thread(target=run, args=[name]) for name in ("first", "second"))
    first.start()
    begun.wait()
    second.start()
    for thread in (first, second):
        thread.join()
    assert makers == ["first"]
