"""One-step reconstruction: single calls, averaged."""

import pytest
import torch
from tiny import (
    Conv,
    Difference,
    KnowsTheImage,
    Recording,
    Slices,
    images,
    short_ddpm,
    short_schedule,
)
from tiny import one_thread as one_thread

from autoddpm.autoencoder.restoration import Restoration
from autoddpm.detectors.anomaly_map import product, residual
from autoddpm.detectors.detector import detect
from autoddpm.detectors.one_step import OneStep
from autoddpm.random import Draw, Stage, slice_keys

BATCH = Slices(images(3), ["a", "b", "c"])


def one_step(denoiser: torch.nn.Module, *times: int) -> OneStep:
    return OneStep(short_ddpm(denoiser), Difference(), residual, seed=4, times=times)


def test_one_time_is_the_estimate_of_one_call():
    ddpm = short_ddpm(Conv())
    keys, x0 = slice_keys(4, BATCH.id), ddpm.encode(BATCH.image)
    eps = ddpm.noise(keys, (1, 16, 16), Stage.RECONSTRUCTION, Draw.FORWARD, 7)
    x_t = ddpm.q_sample(x0, 7, eps)
    expected = ddpm.decode(ddpm.predict_x0(x_t, 7, ddpm.predict_eps(x_t, 7)))
    found = detect(one_step(Conv(), 7), BATCH)
    torch.testing.assert_close(found.reconstruction, expected)
    torch.testing.assert_close(found.anomaly_map, (expected - BATCH.image).abs())


def test_several_times_are_averaged():
    alone = [detect(one_step(Conv(), t), BATCH).reconstruction for t in (2, 7, 11)]
    together = detect(one_step(Conv(), 2, 7, 11), BATCH).reconstruction
    torch.testing.assert_close(together, torch.stack(alone).mean(0))


def test_a_network_that_knows_the_image_finds_nothing():
    network = KnowsTheImage(2 * BATCH.image - 1, short_schedule())
    found = detect(one_step(network, 3, 12), BATCH)
    torch.testing.assert_close(found.anomaly_map, torch.zeros(3, 1, 16, 16), atol=1e-5, rtol=0)


def test_the_calls_it_states_are_the_calls_it_makes():
    network = Recording(Conv())
    found = detect(one_step(network, 2, 7, 11), BATCH)
    assert found.calls.tolist() == [3, 3, 3]
    assert network.slices == 9


def test_any_map_compares():
    detector = OneStep(short_ddpm(Conv()), Difference(), product, times=[5])
    assert detector.times == (5,)
    assert detector.label == "One step (t=5)"
    assert detect(detector, BATCH).anomaly_map.max() <= 1


@pytest.mark.parametrize(
    ("times", "words"), [((), "at least one"), ((3, 13), "=13.*T=12"), ((3, 3), "once")]
)
def test_times_that_make_no_sense_are_refused(times, words):
    with pytest.raises(ValueError, match=rf"detector\.times.*{words}"):
        one_step(Conv(), *times)


def test_weights_of_another_family_are_refused():
    with pytest.raises(ValueError, match="these weights are of a Restoration"):
        OneStep(Restoration(torch.nn.Conv2d(1, 1, 1)), Difference(), residual)  # type: ignore[arg-type]
