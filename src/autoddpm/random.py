"""Randomness from identity: every random number is a pure function of what it is for.

A number depends on (seed, slice id) through its *key*, and on (pixel, t, repeat, stage, draw)
through its *counter*, but on no global stream. So a slice gets the same noise alone or in a batch,
in any order, on any device and any number of processes.

The generator is Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3",
SC 2011). Its integers are the same everywhere. Normals agree to rounding.
"""

import hashlib
import math
from collections.abc import Sequence
from enum import IntEnum

import torch
from torch import Tensor

from autoddpm.float64 import WITHOUT, double

_LOW = 0xFFFFFFFF
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)


class Stage(IntEnum):
    """The part of the method that a random number belongs to."""

    RECONSTRUCTION = 0
    RESAMPLING = 1
    TRAINING = 2
    VALIDATION = 3


class Draw(IntEnum):
    """The use of a random number inside its stage."""

    FORWARD = 0  # q_sample of a whole image, Eq. (4)
    ANCESTRAL = 1  # p_sample, Eqs. (2) and (11)
    CONTEXT = 2  # the noised input outside the mask, Eq. (10)
    RENOISE = 3  # one step back, Eq. (13)
    TIME = 4  # t of a training sample
    AUGMENT = 5  # augmentation of a training sample: where it is
    SHIFT = 6  # another scanner, an older patient
    GRAIN = 7  # another scanner's noise
    AGE = 8  # an older patient, of slices that are written down
    STROKE = 9  # place and looks of a stroke
    STROKE_FIELD = 10  # its smooth fields
    STROKE_AREA = 11  # its size
    CORRUPTION = 12  # a synthetic anomaly: place, size, edge, content
    OUTLINE = 13  # its irregular outline
    TEXTURE = 14  # its texture


def slice_keys(seed: int, ids: Sequence[str], device: torch.device | str = "cpu") -> Tensor:
    """The generator's key of each slice: (B, 2) int64 that hold 32-bit words.

    It is a hash of (seed, slice id).
    """
    digests = [
        hashlib.blake2b(f"{seed}/{slice_id}".encode(), digest_size=8).digest() for slice_id in ids
    ]
    words = [[int.from_bytes(d[:4], "little"), int.from_bytes(d[4:], "little")] for d in digests]
    keys = torch.tensor(words, dtype=torch.int64).reshape(-1, 2)
    # From pinned memory a copy does not wait for the device.
    if torch.device(device).type == "cuda":
        return keys.pin_memory().to(device, non_blocking=True)
    return keys.to(device)


def philox(counter: Sequence[Tensor], key: Sequence[Tensor]) -> list[Tensor]:
    """Philox4x32-10: four 32-bit counter words and two key words to four random words.

    All are int64 tensors that hold values in [0, 2^32) and broadcast against each other. Products
    wrap modulo 2^64 in int64, which keeps all 64 bits of them.
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        p0, p1 = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]
        c0, c1, c2, c3 = (
            (p1 >> 32 & _LOW) ^ c1 ^ k0,
            p1 & _LOW,
            (p0 >> 32 & _LOW) ^ c3 ^ k1,
            p0 & _LOW,
        )
        k0, k1 = k0 + _WEYL[0] & _LOW, k1 + _WEYL[1] & _LOW
    return [c0, c1, c2, c3]


def random_words(
    keys: Tensor, count: int, stage: Stage, draw: Draw, t: Tensor | int = 0, repeat: int = 0
) -> Tensor:
    """(B, count) int64 words in [0, 2^32).

    keys: (B, 2) from `slice_keys`.
    t: the time or the epoch, an int or (B,).
    repeat: number of the pass, if there are several at one time.
    """
    block = torch.arange((count + 3) // 4, device=keys.device)[None]  # (1, blocks)
    time = t.reshape(-1, 1) if isinstance(t, Tensor) else torch.full_like(block[:, :1], t)
    constant = [torch.full_like(block[:, :1], value) for value in (repeat, stage * 16 + draw)]
    words = philox((block, time, *constant), (keys[:, :1], keys[:, 1:]))
    words = [word.expand(len(keys), block.shape[1]) for word in words]
    return torch.stack(words, dim=-1).flatten(1)[:, :count]


def uniform(
    keys: Tensor, count: int, stage: Stage, draw: Draw, t: Tensor | int = 0, repeat: int = 0
) -> Tensor:
    """(B, count) float64 in (0, 1), open at both ends. Arguments as `random_words`.

    On a device without float64 they are the same numbers, rounded to float32.
    """
    exact = _uniform(keys, count, stage, draw, t, repeat)
    if keys.device.type not in WITHOUT:
        return exact
    return exact.float().clamp(max=1 - 2.0**-24).to(keys.device)


def normal(
    keys: Tensor, count: int, stage: Stage, draw: Draw, t: Tensor | int = 0, repeat: int = 0
) -> Tensor:
    """(B, count) float32 standard normals, by Box and Muller in float64.

    Arguments as `random_words`.
    """
    half = (count + 1) // 2
    u = _uniform(keys, 2 * half, stage, draw, t, repeat)
    radius, angle = (-2 * u[:, :half].log()).sqrt(), 2 * math.pi * u[:, half:]
    return (
        torch.cat([radius * angle.cos(), radius * angle.sin()], dim=1)[:, :count]
        .float()
        .to(keys.device)
    )


def _uniform(
    keys: Tensor, count: int, stage: Stage, draw: Draw, t: Tensor | int, repeat: int
) -> Tensor:
    return (double(random_words(keys, count, stage, draw, t, repeat)) + 0.5) * 2.0**-32
