"""AnoDDPM: noise to t, denoise, compare."""

import numpy as np
import pytest
import reference
import torch
from tiny import (
    FIRST,
    LAST,
    Constant,
    Conv,
    Difference,
    Excess,
    KnowsTheImage,
    Recording,
    RecordingNoise,
    Slices,
    T,
    images,
    short_ddpm,
    short_schedule,
)
from tiny import one_thread as one_thread

from autoddpm.detectors.anoddpm import AnoDDPM
from autoddpm.detectors.anomaly_map import perceptual, product, residual
from autoddpm.detectors.detector import detect
from autoddpm.detectors.perceptual import NoPerceptual
from autoddpm.diffusion.ddpm import DDPM
from autoddpm.diffusion.noise.gaussian import Gaussian
from autoddpm.diffusion.sampler import DDIM, Ancestral
from autoddpm.random import Draw, Stage, slice_keys

BATCH = Slices(images(3), ["a", "b", "c"])


def test_the_reconstruction_and_its_map_are_those_of_section_3_1():
    detection = detect(
        AnoDDPM(short_ddpm(Conv()), Ancestral(3), Difference(), product, seed=4, t=10), BATCH
    )
    for i, slice_id in enumerate(BATCH.id):
        keys = slice_keys(4, [slice_id])
        x = reference.reconstruct(
            lambda x_t, index: Conv()(
                torch.from_numpy(x_t).float()[None, None], torch.tensor([index])
            )[0, 0].numpy(),
            2 * BATCH.image[i, 0].double().numpy() - 1,
            10,
            3,
            reference.betas(T, FIRST, LAST),
            lambda draw, t, repeat, keys=keys: (
                Gaussian()(keys, (1, 16, 16), Stage.RECONSTRUCTION, Draw[draw], t, repeat)[0, 0]
                .double()
                .numpy()
            ),
        )
        expected = np.clip((x + 1) / 2, 0, 1)
        difference = np.abs(expected - BATCH.image[i, 0].numpy())
        np.testing.assert_allclose(detection.reconstruction[i, 0], expected, atol=1e-4)
        np.testing.assert_allclose(
            detection.anomaly_map[i, 0], reference.norm95(difference) * difference, atol=2e-4
        )


def test_a_network_that_knows_the_healthy_image_finds_a_lesion():
    healthy = 0.2 + 0.6 * images(1)
    image = healthy.clone()
    image[..., 4:8, 5:9] = 0
    ddpm = short_ddpm(KnowsTheImage(2 * healthy - 1, short_schedule()))
    detection = detect(
        AnoDDPM(ddpm, Ancestral(), NoPerceptual(), residual, t=T), Slices(image, ["a"])
    )
    torch.testing.assert_close(detection.reconstruction, healthy, atol=1e-5, rtol=0)
    torch.testing.assert_close(detection.anomaly_map, (healthy - image).abs(), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("sampler", "t", "calls"), [(Ancestral(1), 7, 7), (Ancestral(4), 10, 3), (DDIM(5), 10, 2)]
)
def test_the_calls_it_states_are_the_calls_it_makes(sampler, t, calls):
    denoiser = Recording(Conv())
    detection = detect(AnoDDPM(short_ddpm(denoiser), sampler, NoPerceptual(), residual, t=t), BATCH)
    assert detection.calls.tolist() == [calls] * 3
    assert len(denoiser.timesteps) == calls
    assert denoiser.slices == 3 * calls


def test_the_distance_takes_the_reconstruction_before_the_image():
    detection = detect(AnoDDPM(short_ddpm(Conv()), Ancestral(), Excess(), perceptual, t=9), BATCH)
    assert torch.equal(detection.anomaly_map, (detection.reconstruction - BATCH.image).clamp(min=0))


def test_the_reconstruction_is_clamped_and_the_input_left_alone():
    before, x0 = BATCH.image.clone(), 2 * images(1, seed=2) - 1
    ddpm = DDPM(KnowsTheImage(x0, short_schedule()), short_schedule(), Gaussian(), (0.0, 1.0))
    detection = detect(AnoDDPM(ddpm, Ancestral(), NoPerceptual(), residual, t=T), BATCH)
    torch.testing.assert_close(detection.reconstruction[:1], x0.clamp(min=0), atol=1e-5, rtol=0)
    assert detection.reconstruction.min() == 0
    assert torch.equal(BATCH.image, before)
    assert detection.anomaly_map.dtype == torch.float32
    assert not detection.stages


def test_only_the_seed_changes_the_reconstruction():
    def reconstruction(seed: int) -> torch.Tensor:
        return detect(
            AnoDDPM(short_ddpm(Conv()), Ancestral(), NoPerceptual(), residual, seed, t=9), BATCH
        ).reconstruction

    torch.manual_seed(0)
    one = reconstruction(1)
    torch.manual_seed(99)
    assert torch.equal(one, reconstruction(1))
    assert not torch.allclose(one, reconstruction(2))


def test_it_draws_from_its_own_stage_and_every_noise_once():
    noise = RecordingNoise()
    detect(AnoDDPM(short_ddpm(Conv(), noise), Ancestral(), NoPerceptual(), residual, t=3), BATCH)
    drawn = [("FORWARD", 3), ("ANCESTRAL", 3), ("ANCESTRAL", 2)]  # the last step has none
    assert noise.asked == [(Stage.RECONSTRUCTION, draw, t, 0) for draw, t in drawn]


@pytest.mark.parametrize("t", [0, -1, T + 1])
def test_a_time_outside_the_schedule_is_refused_by_its_key(t):
    with pytest.raises(ValueError, match=rf"detector\.t={t}.*T={T}"):
        AnoDDPM(short_ddpm(Conv()), Ancestral(), NoPerceptual(), residual, t=t)


def test_a_network_that_gives_nan_ends_with_the_slices_names():
    with pytest.raises(ValueError, match=r"a, b, c.*NaN"):
        detect(
            AnoDDPM(short_ddpm(Constant(float("nan"))), Ancestral(), NoPerceptual(), product, t=3),
            BATCH,
        )
    image = BATCH.image.clone()
    image[1, 0, 3, 3] = float("nan")
    with pytest.raises(ValueError, match=r"^b: .*NaN"):
        detect(
            AnoDDPM(short_ddpm(Conv()), Ancestral(), NoPerceptual(), product, t=3),
            Slices(image, BATCH.id),
        )


def test_its_label_names_its_time():
    parts = short_ddpm(Conv()), Ancestral(), NoPerceptual(), residual
    assert AnoDDPM(*parts, t=9).label == "AnoDDPM (t=9)"
