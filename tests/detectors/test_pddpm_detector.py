"""pDDPM's detector: one call per patch, and the difference from the input."""

import pytest
import torch
from tiny import Conv, Recording, Slices, images, short_ddpm, short_schedule
from tiny import one_thread as one_thread

from autoddpm.detectors.anomaly_map import residual
from autoddpm.detectors.detector import detect
from autoddpm.detectors.one_step import OneStep
from autoddpm.detectors.pddpm import PDDPMDetector
from autoddpm.detectors.perceptual import NoPerceptual
from autoddpm.diffusion.noise.gaussian import Gaussian
from autoddpm.diffusion.pddpm import PDDPM
from autoddpm.random import Draw, Stage, slice_keys

BATCH = Slices(images(3), ["a", "b", "c"])


def detector(denoiser: torch.nn.Module, patch: float = 0.5, t: int = 7) -> PDDPMDetector:
    model = PDDPM(denoiser, short_schedule(), Gaussian(), patch)
    return PDDPMDetector(model, NoPerceptual(), residual, seed=4, t=t)


def test_it_is_the_model_s_reconstruction_with_the_slice_s_noise():
    one = detector(Conv())
    eps = Gaussian()(slice_keys(4, BATCH.id), (1, 16, 16), Stage.RECONSTRUCTION, Draw.FORWARD, 7)
    expected = one.model.reconstruct(BATCH.image, 7, eps).clamp(0, 1)
    found = detect(one, BATCH)
    torch.testing.assert_close(found.reconstruction, expected)
    torch.testing.assert_close(found.anomaly_map, (expected - BATCH.image).abs())


def test_a_slice_has_the_same_map_alone_and_in_a_batch():
    together = detect(detector(Conv()), BATCH).anomaly_map
    alone = detect(detector(Conv()), Slices(BATCH.image[1:2], ["b"])).anomaly_map
    torch.testing.assert_close(alone[0], together[1])


@pytest.mark.parametrize(("patch", "calls"), [(0.5, 4), (0.625, 4), (1.0, 1)])
def test_the_calls_it_states_are_the_calls_it_makes(patch, calls):
    network = Recording(Conv())
    one = detector(network, patch)
    assert detect(one, BATCH).calls.tolist() == [calls] * 3
    assert network.slices == 3 * calls
    assert one.most_calls == calls


def test_its_label_says_how_large_its_patch_is():
    assert detector(Conv()).label == "pDDPM (t=7)"
    assert detector(Conv(), 1.0).label == "cDDPM without encoder (t=7)"


def test_a_ddpm_and_its_detectors_are_of_another_family():
    with pytest.raises(ValueError, match=r"of model=pddpm or .*; these are of a DDPM"):
        PDDPMDetector(short_ddpm(Conv()), NoPerceptual(), residual)
    with pytest.raises(ValueError, match="these weights are of a PDDPM"):
        OneStep(detector(Conv()).model, NoPerceptual(), residual, times=[3])


@pytest.mark.parametrize("t", [0, 13, 2.5])
def test_a_time_outside_the_schedule_is_refused(t):
    with pytest.raises(ValueError, match=rf"detector\.t={t}: .*from 1 to T=12"):
        detector(Conv(), t=t)
