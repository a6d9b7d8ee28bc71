"""Randomness from identity: published vectors, an integer oracle, moments, and what a number
depends on."""

import hashlib
import itertools

import numpy as np
import pytest
import reference
import torch
from scipy import stats
from tiny import one_thread as one_thread
from torch import Tensor

from autoddpm.random import Draw, Stage, normal, philox, random_words, slice_keys, uniform

KNOWN = [  # kat_vectors of Random123, philox4x32 with 10 rounds: counter, key, result
    ("00000000 " * 4, "00000000 " * 2, "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff " * 4, "ffffffff " * 2, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    (
        "243f6a88 85a308d3 13198a2e 03707344",
        "a4093822 299f31d0",
        "d16cfe09 94fdcceb 5001e420 24126ea1",
    ),
]
WHAT = {
    "seed": 1,
    "id": "ixi/IXI002",
    "stage": Stage.RESAMPLING,
    "draw": Draw.CONTEXT,
    "t": 7,
    "repeat": 2,
}


def words_in(text: str) -> list[int]:
    return [int(word, 16) for word in text.split()]


def field(count: int = 10_000, **changes: object) -> np.ndarray:
    what = WHAT | changes
    keys = slice_keys(what["seed"], [what["id"]])
    return normal(keys, count, what["stage"], what["draw"], what["t"], what["repeat"])[0].numpy()


def oracle_words(
    count: int, seed: int, slice_id: str, stage: int, draw: int, t: int, repeat: int
) -> list[int]:
    digest = hashlib.blake2b(f"{seed}/{slice_id}".encode(), digest_size=8).digest()
    key = [int.from_bytes(digest[:4], "little"), int.from_bytes(digest[4:], "little")]
    blocks = [
        reference.philox([i, t, repeat, 16 * stage + draw], key) for i in range((count + 3) // 4)
    ]
    return list(itertools.chain(*blocks))[:count]


@pytest.mark.parametrize(("counter", "key", "result"), KNOWN)
def test_philox_gives_the_published_vectors(counter, key, result):
    def tensors(text: str) -> list[Tensor]:
        return [torch.tensor([word]) for word in words_in(text)]

    assert [int(word) for word in philox(tensors(counter), tensors(key))] == words_in(result)


@pytest.mark.parametrize("count", [1, 4, 9])
def test_random_words_are_philox_of_the_identity_in_integers(count):
    ids = ["ixi/IXI002", "phantom/7", ""]
    words = random_words(slice_keys(3, ids), count, Stage.TRAINING, Draw.AUGMENT, 123, 4)
    assert words.tolist() == [
        oracle_words(count, 3, i, Stage.TRAINING, Draw.AUGMENT, 123, 4) for i in ids
    ]


@pytest.mark.parametrize("count", [1, 2, 7])
def test_normals_are_box_muller_of_the_words_even_in_odd_counts(count):
    keys = slice_keys(0, ["a", "b"])
    words = random_words(keys, count + 1, Stage.VALIDATION, Draw.FORWARD, 5).tolist()
    expected = [reference.box_muller(w, count) for w in words]
    fields = normal(keys, count, Stage.VALIDATION, Draw.FORWARD, 5)
    assert fields.shape == (2, count)
    assert fields.dtype == torch.float32
    np.testing.assert_allclose(fields, expected, atol=1e-6)


def test_uniforms_are_the_words_in_the_open_interval():
    keys = slice_keys(0, ["a"])
    words = random_words(keys, 4000, Stage.TRAINING, Draw.TIME)
    u = uniform(keys, 4000, Stage.TRAINING, Draw.TIME)
    assert torch.equal(u, (words.double() + 0.5) / 2**32)
    assert stats.kstest(u[0].numpy(), "uniform").pvalue > 0.01


def test_the_extreme_words_give_uniforms_inside_zero_and_one(monkeypatch):
    extremes = torch.tensor([[0, 2**32 - 1]])
    monkeypatch.setattr("autoddpm.random.random_words", lambda *args: extremes)
    u = uniform(extremes, 2, Stage.TRAINING, Draw.TIME)
    assert 0 < u[0, 0] < u[0, 1] < 1
    assert torch.isfinite(normal(extremes, 1, Stage.TRAINING, Draw.TIME)).all()


def test_normals_have_the_moments_of_a_standard_normal():
    x = field(100_000)
    assert abs(x.mean()) < 0.01
    assert abs(x.var() - 1) < 0.015
    assert abs(stats.skew(x)) < 0.03
    assert abs(stats.kurtosis(x)) < 0.05
    assert stats.kstest(x, "norm").pvalue > 0.01


def test_a_field_s_pixels_are_uncorrelated_near_and_far():
    x = field(20_000)
    for lag in (1, 2, 3, 4, 5, 141, 10_000):
        assert abs(np.corrcoef(x[:-lag], x[lag:])[0, 1]) < 0.04
        assert abs(np.corrcoef(x[:-lag] ** 2, x[lag:] ** 2)[0, 1]) < 0.04


@pytest.mark.parametrize(
    "change",
    [
        {"id": "ixi/IXI003"},
        {"seed": 2},
        {"stage": Stage.RECONSTRUCTION},
        {"draw": Draw.RENOISE},
        {"t": 8},
        {"repeat": 3},
    ],
    ids=lambda change: next(iter(change)),
)
def test_any_change_of_the_identity_gives_an_unrelated_field(change):
    one, other = field(), field(**change)
    assert not np.isclose(one, other, atol=1e-6).any(where=np.abs(one) > 2)
    assert abs(np.corrcoef(one, other)[0, 1]) < 0.04
    assert abs(np.corrcoef(np.abs(one), np.abs(other))[0, 1]) < 0.04


def test_an_identity_s_field_ignores_the_global_stream():
    torch.manual_seed(1)
    one = field()
    torch.manual_seed(2)
    state = torch.get_rng_state()
    assert np.array_equal(one, field())
    assert torch.equal(state, torch.get_rng_state())


def test_every_stage_draw_time_and_repeat_has_numbers_of_its_own():
    keys = slice_keys(0, ["a"])
    all_of_it = itertools.product(Stage, Draw, (0, 1, 2, 1000), (0, 1, 4))
    firsts = [tuple(random_words(keys, 4, *what)[0].tolist()) for what in all_of_it]
    assert len(set(firsts)) == len(firsts) == len(Stage) * len(Draw) * 12


def test_a_tensor_of_times_equals_ints_slice_by_slice():
    ids, times = ["a", "b", "c"], [1, 999, 4]
    together = normal(slice_keys(0, ids), 11, Stage.TRAINING, Draw.FORWARD, torch.tensor(times))
    alone = [
        normal(slice_keys(0, [i]), 11, Stage.TRAINING, Draw.FORWARD, t)
        for i, t in zip(ids, times, strict=True)
    ]
    assert torch.equal(together, torch.cat(alone))


def test_keys_are_words_of_the_seed_and_the_id_alone():
    keys = slice_keys(5, ["a", "b", "a"])
    assert keys.dtype == torch.int64
    assert torch.equal(keys[0], keys[2])
    assert not torch.equal(keys[0], keys[1])
    assert torch.equal(keys, torch.cat([slice_keys(5, [i]) for i in ("a", "b", "a")]))
    assert ((keys >= 0) & (keys < 2**32)).all()
    assert slice_keys(5, []).shape == (0, 2)


def test_no_stage_and_draw_share_a_counter() -> None:
    assert max(Draw) < 16
    assert len({stage * 16 + draw for stage in Stage for draw in Draw}) == len(Stage) * len(Draw)
