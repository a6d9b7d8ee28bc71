"""Order of slices in batches: an endless stream in training, each slice once in evaluation."""

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache

import numpy as np
import torch.distributed
from numpy.typing import NDArray
from torch.utils.data import Sampler

#: The rows of a batch in the data set, and for each how often the stream had gone through the set.
Rows = tuple[Sequence[int], Sequence[int]]


def training_rows(seed: int, n: int, positions: NDArray[np.int64]) -> Rows:
    """Rows and epochs of the samples at some positions of the endless training stream.

    seed: of the stream.
    n: slices that it goes through.
    positions: in the stream, from 0.
    Sample i of the stream is the (i mod n)-th of a permutation that is a function of (seed, i // n)
    alone.
    """
    epochs, offsets = np.divmod(positions, n)
    rows = [
        int(_permutation(seed, int(epoch), n)[offset])
        for epoch, offset in zip(epochs, offsets, strict=True)
    ]
    return rows, epochs.tolist()


@lru_cache(maxsize=4)
def _permutation(seed: int, epoch: int, n: int) -> NDArray[np.int64]:
    return np.random.default_rng([seed, epoch]).permutation(n)


def rank_and_world() -> tuple[int, int]:
    """This process's rank and the number of processes: (0, 1) without torch.distributed."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1


class TrainingOrder(Sampler[Rows]):
    """One epoch's batches of the training stream, from where training stands.

    Batch j of W processes is samples j*B*W to (j+1)*B*W of the stream. Rank r takes every W-th of
    them from its r-th. Nothing is dropped or padded, and a batch may span epochs. `len` is max(1, n
    // (B*W)) batches.

    batches_done: the number of batches that each process has consumed since training began; read
        when an iterator is made. With it the order needs no state of its own, and resume is exact
        in the middle of an epoch.
    """

    def __init__(self, n: int, batch_size: int, seed: int, batches_done: Callable[[], int]) -> None:
        self.n, self.batch_size, self.seed, self.batches_done = n, batch_size, seed, batches_done

    def __len__(self) -> int:
        return max(1, self.n // (self.batch_size * rank_and_world()[1]))

    def __iter__(self) -> Iterator[Rows]:
        return self._from(self.batches_done())  # read now, and not at the first `next`

    def _from(self, start: int) -> Iterator[Rows]:
        rank, world = rank_and_world()
        for batch in range(start, start + len(self)):
            positions = np.arange(
                batch * self.batch_size * world + rank, (batch + 1) * self.batch_size * world, world
            )
            yield training_rows(self.seed, self.n, positions)


class EvaluationOrder(Sampler[Rows]):
    """Each slice once and in order, epoch 0. Of W processes rank r takes every W-th slice from its
    r-th, unpadded."""

    def __init__(self, rows: Sequence[int], batch_size: int) -> None:
        self.rows, self.batch_size = rows, batch_size

    def __len__(self) -> int:
        return -(-len(self._own()) // self.batch_size)

    def __iter__(self) -> Iterator[Rows]:
        own = self._own()
        for first in range(0, len(own), self.batch_size):
            rows = own[first : first + self.batch_size]
            yield rows, [0] * len(rows)

    def _own(self) -> Sequence[int]:
        rank, world = rank_and_world()
        return self.rows[rank::world]
