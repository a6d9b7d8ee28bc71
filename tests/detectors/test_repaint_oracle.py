"""The upper bound: AutoDDPM's second stage with the true lesion. And that no other one sees it."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from conftest import choices, compose_config
from hydra.utils import get_class
from tiny import Conv, Difference, Recording, Slices, SlicesWithLesion, images, short_ddpm
from tiny import one_thread as one_thread

from autoddpm.detectors.anoddpm import AnoDDPM
from autoddpm.detectors.anomaly_map import residual
from autoddpm.detectors.autoddpm import AutoDDPM
from autoddpm.detectors.detector import WithLesion, detect, seen_by
from autoddpm.detectors.repaint_oracle import RepaintOracle
from autoddpm.diffusion.sampler import Ancestral
from autoddpm.evaluation.record import provenance_of

LESION = torch.zeros(3, 1, 16, 16, dtype=torch.bool)
LESION[0, :, 4:8, 5:9] = LESION[1, :, 2:4] = True
BATCH = SlicesWithLesion(images(3), ["a", "b", "healthy"], LESION)


def oracle(denoiser: torch.nn.Module | None = None, **settings: int) -> RepaintOracle:
    settings = {"t": 8, "t_resample": 4, "resample_steps": 2} | settings
    ddpm = short_ddpm(denoiser or Conv())
    return RepaintOracle(ddpm, Ancestral(), Difference(), residual, **settings)


def test_it_leaves_all_outside_the_lesion_as_it_is():
    found = detect(oracle(), BATCH)
    assert torch.equal(found.stages["mask"], LESION)
    assert torch.equal(found.reconstruction[~LESION], BATCH.image[~LESION])
    assert (found.reconstruction[LESION] != BATCH.image[LESION]).float().mean() > 0.9
    assert found.anomaly_map[~LESION].max() == 0


def test_it_is_autoddpm_with_the_lesion_for_its_mask():
    settings: dict[str, Any] = {"t": 8, "t_resample": 4, "resample_steps": 2, "dilation": 1}
    other = AutoDDPM(
        short_ddpm(Conv()), Ancestral(), Difference(), residual, **settings, use_uncertainty=False
    )
    other.mask = lambda initial_map, image: LESION  # type: ignore[method-assign]
    expected, found = detect(other, BATCH), detect(oracle(), BATCH)
    assert torch.equal(found.reconstruction, expected.reconstruction)
    assert torch.equal(found.anomaly_map, expected.anomaly_map)


def test_the_lesion_can_be_dilated():
    mask = detect(oracle(dilation=3), BATCH).stages["mask"]
    assert mask[0].sum() == 6 * 6
    assert not mask[2].any()


def test_the_calls_it_states_are_the_calls_it_makes():
    network = Recording(Conv())
    found = detect(oracle(network), BATCH)
    assert found.calls.tolist() == [8 + 2 * 4, 8 + 2 * 4, 8]  # a healthy slice has no second stage
    assert network.slices == found.calls.sum()
    assert oracle().most_calls == 8 + 2 * 4


def test_its_label_says_that_it_is_an_upper_bound():
    assert oracle().label == "RePaint with the true lesion (upper bound)"
    assert oracle(resample_steps=0).label == "Stitching with the true lesion (upper bound)"


def provenance(detector: Any) -> dict[str, Any]:
    trained = SimpleNamespace(weights_hash="0", step=1, model=SimpleNamespace(record=dict))
    data = SimpleNamespace(hash=lambda role: role, size=16)
    given: Any = (trained, data, SimpleNamespace(precision="32-true"), {})
    return provenance_of(detector, *given)


def test_its_row_says_that_it_saw_the_lesion():
    anoddpm = AnoDDPM(short_ddpm(Conv()), Ancestral(), Difference(), residual, t=8)
    assert provenance(oracle())["sees_lesion"] is True
    assert "sees_lesion" not in provenance(anoddpm)


def test_it_is_the_only_detector_that_is_given_the_lesion():
    kinds = {
        get_class(compose_config("evaluate", f"detector={name}").detector._target_)
        for name in choices("detector")
    }
    assert [kind for kind in kinds if kind.sees_lesion] == [RepaintOracle]


def test_any_other_detector_is_given_images_and_ids_alone():
    anoddpm = AnoDDPM(short_ddpm(Conv()), Ancestral(), Difference(), residual, t=8)
    assert seen_by(oracle(), BATCH) is BATCH
    seen = seen_by(anoddpm, BATCH)
    assert not isinstance(seen, WithLesion)
    assert not hasattr(seen, "lesion")
    assert seen.image is BATCH.image
    assert seen.id == BATCH.id


def test_slices_without_a_known_lesion_are_refused():
    with pytest.raises(ValueError, match=r"repaint_oracle: needs the true lesion"):
        detect(oracle(), Slices(BATCH.image, BATCH.id))


def test_a_time_outside_the_schedule_is_refused_by_its_key():
    with pytest.raises(ValueError, match=r"detector\.t_resample=13.*T=12"):
        oracle(t_resample=13)
