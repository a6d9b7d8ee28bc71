"""Work on batches that may not fit into memory."""

import logging
from collections.abc import Callable, Iterator
from typing import Any

from autoddpm.allowance import is_out_of_memory
from autoddpm.data.sample import Batch
from autoddpm.machine.memory import give_back_memory

log = logging.getLogger(__name__)


class InParts:
    """Work on as many slices at once as memory allows.

    If a batch does not fit, it is halved, with a warning, and so is every later one of the same
    pass. The result of a batch is the same in parts.

    work: from a batch to its result.
    join: from the results of the parts to that of the batch.

    Raises ValueError if a single slice does not fit.
    """

    def __init__(self, work: Callable[[Batch], Any], join: Callable[[list[Any]], Any]) -> None:
        self.work, self.join = work, join
        self.most: int | None = None

    def __call__(self, batch: Batch) -> Any:
        parts, done = list(self._parts(batch)), []
        while parts:
            result = self._tried(parts[0])
            if result is not None:
                done.append(result)
                del parts[0]
                continue
            give_back_memory()
            count = len(parts[0].id)
            self.most = count // 2
            log.warning(
                "out of memory with %d slices at once: in this pass from here on %d",
                count,
                self.most,
            )
            parts = [smaller for part in parts for smaller in self._parts(part)]
        return done[0] if len(done) == 1 else self.join(done)

    def _tried(self, batch: Batch) -> Any | None:
        """The result, or None if it ran out of memory.

        None is returned so that no traceback holds tensors.
        """
        try:
            return self.work(batch)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            if len(batch.id) == 1:
                shape = " x ".join(map(str, batch.image.shape[2:]))
                raise ValueError(
                    f"{batch.id[0]}: a single slice of {shape} does not fit into the memory of "
                    f"{batch.image.device} ({str(error).splitlines()[0]}): free some of it, or use "
                    "trainer.precision=bf16-mixed, a smaller network or another device"
                ) from error
        return None

    def _parts(self, batch: Batch) -> Iterator[Batch]:
        size = self.most or len(batch.id)
        for start in range(0, len(batch.id), size):
            part = slice(start, start + size)
            yield Batch(batch.image[part], batch.lesion[part], batch.id[part], batch.epoch[part])
