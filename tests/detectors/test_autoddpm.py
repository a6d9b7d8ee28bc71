"""AutoDDPM: mask, stitch, re-sample; its limits, and the whole of section 3 as a literal loop."""

from typing import Any

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
from autoddpm.detectors.autoddpm import AutoDDPM
from autoddpm.detectors.detector import detect
from autoddpm.diffusion.ddpm import DDPM
from autoddpm.diffusion.noise import NoiseOf
from autoddpm.diffusion.noise.gaussian import Gaussian
from autoddpm.diffusion.sampler import DDIM, Ancestral, Sampler
from autoddpm.random import Draw, Stage, slice_keys

BATCH = Slices(images(3), ["a", "b", "c"])
FULL, EMPTY = -1.0, 1e9  # thresholds below and above every map
HEALTHY = 0.2 + 0.6 * images(1, seed=5)


def detector(ddpm: DDPM, sampler: Sampler | None = None, **settings: Any) -> AutoDDPM:
    settings = {"t": 10, "t_resample": 6, "mask_threshold": 0.2} | settings
    return AutoDDPM(ddpm, sampler or Ancestral(), Difference(), residual, **settings)


def mixed_batch() -> Slices:
    """Slices with a lesion, without one, and with a lesion, of one healthy image."""
    image = HEALTHY.repeat(3, 1, 1, 1)
    image[0, :, 4:8, 5:9] = 0
    image[2, :, 10:13, 1:4] = 1
    return Slices(image, ["lesion", "healthy", "bright"])


def knowing() -> Recording:
    return Recording(KnowsTheImage(2 * HEALTHY - 1, short_schedule()))


@pytest.mark.parametrize(
    ("stride", "passes", "t", "t_resample", "threshold"),
    [
        (1, 5, 10, 6, 0.2),
        (1, 1, 4, 12, 0.2),
        (5, 3, 10, 7, 0.2),
        (100, 2, 12, 9, 0.7),
    ],
)
def test_it_is_the_loop_of_section_3(stride, passes, t, t_resample, threshold):
    settings = {
        "t": t,
        "t_resample": t_resample,
        "resample_steps": passes,
        "mask_threshold": threshold,
        "seed": 8,
    }
    detection = detect(
        detector(short_ddpm(Conv()), Ancestral(stride), use_uncertainty=False, **settings), BATCH
    )
    for i, slice_id in enumerate(BATCH.id):
        keys = slice_keys(8, [slice_id])
        first, second = (
            lambda draw, t, repeat, keys=keys, stage=stage: (
                Gaussian()(keys, (1, 16, 16), stage, Draw[draw], t, repeat)[0, 0].double().numpy()
            )
            for stage in (Stage.RECONSTRUCTION, Stage.RESAMPLING)
        )
        expected = reference.auto_ddpm(
            lambda x_t, index: Conv()(
                torch.from_numpy(x_t).float()[None, None], torch.tensor([index])
            )[0, 0].numpy(),
            BATCH.image[i, 0].double().numpy(),
            reference.betas(T, FIRST, LAST),
            t,
            t_resample,
            passes,
            stride,
            threshold,
            3,
            lambda a, b: np.abs(a - b),
            first,
            second,
        )
        assert 0 < expected["mask"].mean() < 1
        found = detection.stages | {
            "reconstruction": detection.reconstruction,
            "anomaly_map": detection.anomaly_map,
        }
        assert found.keys() == expected.keys()
        np.testing.assert_array_equal(found.pop("mask")[i, 0], expected.pop("mask"))
        for name, values in found.items():
            np.testing.assert_allclose(values[i, 0], expected[name], atol=1e-4, err_msg=name)


def test_an_empty_mask_returns_the_exact_input_after_stage_one():
    denoiser = Recording(Conv())
    detection = detect(detector(short_ddpm(denoiser), mask_threshold=EMPTY), BATCH)
    assert torch.equal(detection.reconstruction, BATCH.image)
    assert torch.equal(detection.anomaly_map, torch.zeros_like(BATCH.image))
    assert detection.calls.tolist() == [10] * 3
    assert denoiser.slices == 30


@pytest.mark.parametrize("sampler", [Ancestral(), Ancestral(4), DDIM(4)])
def test_a_full_mask_with_one_pass_is_plain_denoising(sampler):
    ddpm = short_ddpm(Conv())
    detection = detect(
        detector(ddpm, sampler, mask_threshold=FULL, resample_steps=1, seed=2), BATCH
    )
    noise = NoiseOf.batch(Gaussian(), 2, BATCH.id, BATCH.image, Stage.RESAMPLING)
    x = ddpm.q_sample(2 * detection.stages["initial_reconstruction"] - 1, 6, noise(Draw.FORWARD, 6))
    times = sampler.times(6)
    for i in range(len(times) - 1):
        x = sampler.step(ddpm, x, times[i], times[i + 1], noise(Draw.ANCESTRAL, times[i], 0))
    torch.testing.assert_close(
        detection.reconstruction, ((x + 1) / 2).clamp(0, 1), atol=1e-5, rtol=0
    )


def test_outside_the_mask_the_image_is_returned_bit_for_bit():
    image = BATCH.image**2  # small values, which lose digits on the way to [-1, 1] and back
    ddpm = short_ddpm(Conv())
    assert not torch.equal(ddpm.decode(ddpm.encode(image)), image)
    detection = detect(detector(ddpm), Slices(image, BATCH.id))
    mask = detection.stages["mask"]
    assert mask.dtype == torch.bool
    assert 0 < mask.float().mean() < 1
    assert torch.equal(detection.reconstruction[~mask], image[~mask])
    assert not torch.isclose(detection.reconstruction[mask], image[mask]).all()
    assert torch.equal(detection.anomaly_map[~mask], torch.zeros_like(image[~mask]))


def test_without_resampling_the_stitched_image_is_the_result():
    denoiser = Recording(Conv())
    detection = detect(detector(short_ddpm(denoiser), resample_steps=0), BATCH)
    stages = detection.stages
    stitched = torch.where(stages["mask"], stages["initial_reconstruction"], BATCH.image)
    assert torch.equal(detection.reconstruction, stitched)
    assert torch.equal(stages["stitched"], stitched)
    assert detection.calls.tolist() == [10] * 3
    assert denoiser.slices == 30


def test_uncertainty_multiplies_the_final_map_by_the_initial_one():
    with_it, without = (
        detect(detector(short_ddpm(Conv()), use_uncertainty=use), BATCH) for use in (True, False)
    )
    assert torch.equal(with_it.reconstruction, without.reconstruction)
    assert torch.equal(with_it.anomaly_map, without.anomaly_map * without.stages["initial_map"])
    assert torch.equal(without.anomaly_map, (without.reconstruction - BATCH.image).abs())


def test_the_distance_takes_the_reconstruction_before_the_image():
    parts, times = (
        (short_ddpm(Conv()), Ancestral(), Excess(), perceptual),
        {"t": 9, "t_resample": 4},
    )
    one = AutoDDPM(*parts, **times, mask_threshold=0.1, use_uncertainty=False)
    detection = detect(one, BATCH)
    assert torch.equal(detection.anomaly_map, (detection.reconstruction - BATCH.image).clamp(min=0))


def test_the_initial_map_is_equation_9_whatever_the_final_map_is():
    ddpm = short_ddpm(Conv())
    initial = detect(AnoDDPM(ddpm, Ancestral(), Difference(), product, seed=0, t=10), BATCH)
    one = detect(detector(ddpm), BATCH)
    assert torch.equal(one.stages["initial_map"], initial.anomaly_map)
    assert torch.equal(one.stages["initial_reconstruction"], initial.reconstruction)


@pytest.mark.parametrize("sampler", [Ancestral(), Ancestral(4), DDIM(1), DDIM(4), DDIM(1, eta=1.0)])
def test_the_true_noise_heals_the_lesion_and_keeps_the_rest(sampler):
    batch = mixed_batch()
    detection = detect(detector(short_ddpm(knowing()), sampler, mask_threshold=0.05), batch)
    torch.testing.assert_close(
        detection.reconstruction, HEALTHY.expand(3, -1, -1, -1), atol=1e-4, rtol=0
    )
    assert torch.equal(detection.reconstruction[1], batch.image[1])
    lesion = (batch.image - HEALTHY).abs() > 0.05
    assert detection.stages["mask"][lesion].all()
    assert (detection.anomaly_map[lesion] > 0).all()


def test_a_batch_with_an_empty_mask_equals_its_slices_alone():
    batch, denoiser = mixed_batch(), knowing()
    together = detect(detector(short_ddpm(denoiser), mask_threshold=0.05), batch)
    assert together.stages["mask"].flatten(1).any(1).tolist() == [True, False, True]
    assert together.calls.tolist() == [10 + 5 * 6, 10, 10 + 5 * 6]
    assert together.calls.dtype == torch.int64
    assert denoiser.slices == together.calls.sum()
    for i, slice_id in enumerate(batch.id):
        denoiser = knowing()
        alone = detect(
            detector(short_ddpm(denoiser), mask_threshold=0.05),
            Slices(batch.image[i : i + 1], [slice_id]),
        )
        assert denoiser.slices == alone.calls.item() == together.calls[i]
        torch.testing.assert_close(
            alone.reconstruction[0], together.reconstruction[i], atol=1e-5, rtol=0
        )
        torch.testing.assert_close(alone.anomaly_map[0], together.anomaly_map[i], atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("sampler", "second"), [(Ancestral(1), 5 * 6), (Ancestral(4), 5 * 2), (DDIM(5), 5 * 2)]
)
def test_the_calls_it_states_are_the_calls_it_makes(sampler, second):
    denoiser = Recording(Conv())
    detection = detect(detector(short_ddpm(denoiser), sampler), BATCH)
    first = len(sampler.times(10)) - 1
    assert detection.calls.tolist() == [first + second] * 3
    assert denoiser.slices == 3 * (first + second)
    times = [time - 1 for time in sampler.times(6)[:-1]]
    assert [step[0] for step in denoiser.timesteps[first:]] == [
        time for time in times for _ in range(5)
    ]


def test_it_draws_every_noise_once_and_the_two_stages_share_none():
    noise = RecordingNoise()
    detect(
        detector(short_ddpm(Conv(), noise), Ancestral(2), t=4, t_resample=4, resample_steps=3),
        BATCH,
    )
    assert len(set(noise.asked)) == len(noise.asked)
    second = [what[1:] for what in noise.asked if what[0] == Stage.RESAMPLING]
    expected = [("FORWARD", 4, 0)]
    for t in (4, 2):
        for repeat in (0, 1, 2):
            expected += [("RENOISE", t, repeat)] if repeat else []
            expected += (
                [("CONTEXT", t, repeat), ("ANCESTRAL", t, repeat)] if t == 4 else []
            )  # none at time 0
    assert second == expected
    assert {what[0] for what in noise.asked} == {Stage.RECONSTRUCTION, Stage.RESAMPLING}


def test_a_network_s_nan_is_an_error_that_names_the_slices():
    for settings in ({}, {"use_uncertainty": False}, {"mask_threshold": "percentile"}):
        with pytest.raises(ValueError, match=r"a, b, c.*NaN"):
            detect(detector(short_ddpm(Constant(float("nan"))), **settings), BATCH)


def test_results_are_in_range_without_a_graph_and_keep_the_input():
    denoiser, before = Conv(), BATCH.image.clone()
    denoiser.weight.requires_grad_(True)
    detection = detect(detector(short_ddpm(denoiser), mask_threshold=FULL), BATCH)
    assert 0 <= detection.reconstruction.min() < detection.reconstruction.max() <= 1
    assert detection.anomaly_map.min() >= 0
    assert torch.equal(BATCH.image, before)
    assert not any(
        values.requires_grad for values in (detection.anomaly_map, *detection.stages.values())
    )
