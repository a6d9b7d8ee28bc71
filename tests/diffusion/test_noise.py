"""Kinds of noise: fields from identities."""

import numpy as np
import opensimplex
import pytest
import torch
from tiny import one_thread as one_thread

from autoddpm.diffusion.noise import NoiseOf
from autoddpm.diffusion.noise.gaussian import Gaussian
from autoddpm.diffusion.noise.simplex import Simplex
from autoddpm.random import Draw, Stage, normal, random_words, slice_keys

KINDS = [Gaussian(), Simplex(octaves=2)]
WHAT = (Stage.RECONSTRUCTION, Draw.FORWARD)


def correlation(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(np.corrcoef(a.flatten(), b.flatten())[0, 1])


@pytest.mark.parametrize("size", [(5, 7), (1, 1)])
def test_gaussian_noise_is_the_normals_row_by_row(size):
    keys = slice_keys(0, ["a", "b"])
    noise = Gaussian()(keys, (1, *size), Stage.RESAMPLING, Draw.RENOISE, 3, 2)
    assert noise.shape == (2, 1, *size)
    rows = normal(keys, size[0] * size[1], Stage.RESAMPLING, Draw.RENOISE, 3, 2)
    for y in range(size[0]):
        for x in range(size[1]):
            assert torch.equal(noise[:, 0, y, x], rows[:, y * size[1] + x])


@pytest.mark.parametrize("t", [1, 200])
def test_simplex_noise_sums_octaves_of_opensimplex_per_pixel(t):
    keys = slice_keys(0, ["a", "b"])
    fields = Simplex(octaves=3, persistence=0.8, frequency=64)(keys, (1, 9, 12), *WHAT, t)
    assert fields.shape == (2, 1, 9, 12)
    words = random_words(keys, 2, *WHAT, t).tolist()
    for i, (first, second) in enumerate(words):
        generator = opensimplex.OpenSimplex(first * 2**31 ^ second)
        for y, x in ((0, 0), (8, 11), (3, 7), (7, 3)):
            expected = 0.0
            for octave in range(3):
                wave_length = 64 / 2**octave
                expected += 0.8**octave * generator.noise3(
                    x / wave_length, y / wave_length, t / wave_length
                )
            assert float(fields[i, 0, y, x]) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("noise", KINDS, ids=lambda noise: type(noise).__name__)
def test_an_identity_gives_the_same_field_alone_and_in_a_batch(noise):
    together = noise(slice_keys(0, ["a", "b", "c"]), (1, 8, 8), *WHAT, 4, 1)
    assert torch.equal(together[1:2], noise(slice_keys(0, ["b"]), (1, 8, 8), *WHAT, 4, 1))
    assert not torch.equal(together[0], together[1])
    assert together.dtype == torch.float32


@pytest.mark.parametrize("noise", KINDS, ids=lambda noise: type(noise).__name__)
def test_every_part_of_the_identity_changes_the_field(noise):
    keys = slice_keys(0, ["a"])
    variants = [
        noise(keys, (1, 8, 8), *WHAT, 4, 1),
        noise(keys, (1, 8, 8), Stage.RESAMPLING, Draw.FORWARD, 4, 1),
        noise(keys, (1, 8, 8), Stage.RECONSTRUCTION, Draw.CONTEXT, 4, 1),
        noise(keys, (1, 8, 8), *WHAT, 5, 1),
        noise(keys, (1, 8, 8), *WHAT, 4, 2),
        noise(slice_keys(1, ["a"]), (1, 8, 8), *WHAT, 4, 1),
    ]
    for i, one in enumerate(variants):
        for other in variants[:i]:
            assert not torch.isclose(one, other).all()


@pytest.mark.parametrize("noise", KINDS, ids=lambda noise: type(noise).__name__)
def test_a_tensor_of_times_equals_ints_slice_by_slice(noise):
    together = noise(slice_keys(0, ["a", "b"]), (1, 6, 6), *WHAT, torch.tensor([3, 800]))
    assert torch.equal(together[:1], noise(slice_keys(0, ["a"]), (1, 6, 6), *WHAT, 3))
    assert torch.equal(together[1:], noise(slice_keys(0, ["b"]), (1, 6, 6), *WHAT, 800))


def test_another_chain_of_a_batch_has_noise_of_its_own():
    noise_of = NoiseOf.batch(Gaussian(), 9, ["a"], torch.zeros(5, 1, 3, 4), Stage.RECONSTRUCTION)
    assert torch.equal(noise_of.again(0)(Draw.FORWARD, 6), noise_of(Draw.FORWARD, 6))
    assert torch.equal(noise_of.again(2)(Draw.FORWARD, 6), noise_of(Draw.FORWARD, 6, 2))
