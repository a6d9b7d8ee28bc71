"""The authors' first code: its times, its re-noising and its unclamped end."""

import pytest
import torch
from tiny import Constant, Difference, Recording, RecordingNoise, Slices, images, short_ddpm
from tiny import one_thread as one_thread
from torch.testing import assert_close

from autoddpm.detectors.anomaly_map import residual
from autoddpm.detectors.authors_code import AuthorsCode, AuthorsCodeAnoDDPM
from autoddpm.detectors.detector import detect
from autoddpm.diffusion.ddpm import DDPM
from autoddpm.diffusion.noise.gaussian import Gaussian
from autoddpm.diffusion.sampler import Ancestral
from autoddpm.diffusion.schedule import LinearSchedule

IDS = ["a", "b"]


def detector(denoiser, noise=None, stride: int = 1, **settings) -> AuthorsCode:
    settings = {"t": 9, "t_resample": 4, "resample_steps": 3, "mask_threshold": -1.0, **settings}
    return AuthorsCode(
        short_ddpm(denoiser, noise), Ancestral(stride), Difference(), residual, **settings
    )


def test_it_starts_one_time_later_and_skips_the_step_from_1_to_0():
    network = Recording(Constant(0.0))
    detection = detect(detector(network), Slices(images(2), IDS))
    visited = [times[0] + 1 for times in network.timesteps]
    assert visited == [*range(9, 0, -1), *(t for t in (5, 4, 3, 2) for _ in range(3))]
    assert detection.calls.tolist() == [9 + 4 * 3] * 2 == [network.slices // 2] * 2


def test_at_the_published_settings_it_makes_451_calls():
    ddpm = DDPM(Constant(0.0), LinearSchedule(), Gaussian())
    found = detect(
        AuthorsCode(ddpm, Ancestral(), Difference(), residual, t=201, mask_threshold=-1.0),
        Slices(images(1, 8), ["a"]),
    )
    assert found.calls.tolist() == [201 + 250]


def test_a_stride_ends_at_time_1_too():
    assert detector(Constant(0.0), stride=2).resample_times() == [5, 3, 1]
    assert detector(Constant(0.0), stride=3).resample_times()[-1] == 1


def test_re_noising_takes_the_beta_of_one_step_before():
    noise, ddpm_times = RecordingNoise(), []
    made = detector(Constant(0.0), noise, resample_steps=2)
    original = made.model.q_step
    made.model.q_step = lambda x, s, t, eps: ddpm_times.append((s, t)) or original(x, s, t, eps)
    detect(made, Slices(images(1), ["a"]))
    assert ddpm_times == [(3, 4), (2, 3), (1, 2), (0, 1)]


def test_the_final_image_is_clamped_for_its_map_only():
    image = images(1)
    made = detector(Constant(0.0), use_uncertainty=False)
    made.resample = lambda x0, x_hat, mask, noise: torch.full_like(x0, 3.0)
    detection = detect(made, Slices(image, ["a"]))
    assert_close(detection.reconstruction, torch.full_like(image, 2.0))  # (3 - -1) / 2
    assert_close(detection.anomaly_map, 1 - image)
    assert detection.stages["initial_reconstruction"].max() <= 1


def test_it_says_which_variant_it_is():
    assert detector(Constant(0.0)).label == "AutoDDPM authors_code"
    assert (
        detector(Constant(0.0), use_uncertainty=False).label
        == "AutoDDPM authors_code (w/o uncertainty)"
    )
    assert AuthorsCode.variant == "authors_code"


def test_a_start_beyond_the_schedule_is_refused():
    with pytest.raises(ValueError, match=r"t_resample \+ 1=13"):
        detector(Constant(0.0), t_resample=12)


@pytest.mark.parametrize("kind", [AuthorsCode, AuthorsCodeAnoDDPM])
def test_it_clips_to_minus_one_also_a_model_of_another_range(kind):
    ddpm = DDPM(Constant(0.0), LinearSchedule(), Gaussian(), (0.0, 1.0))
    made = kind(ddpm, Ancestral(), Difference(), residual)
    assert made.model.clip == getattr(made, "first", made).model.clip == (-1.0, 1.0)
    assert ddpm.clip == (0.0, 1.0)
