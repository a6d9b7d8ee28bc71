"""Work in several processes, which end together."""

import os
import signal
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import active_children, get_context, parent_process
from threading import Thread
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def cores() -> int:
    """Number of cores that this process may use."""
    has_affinity = hasattr(os, "sched_getaffinity")
    return len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1


def in_processes(
    work: Callable[[Item], Result],
    items: Sequence[Item],
    processes: int,
    threads: int | None = None,
    method: str = "spawn",
    ahead: int | None = None,
) -> Iterator[Result]:
    """Results of `work` for each item, in their order, in this process if `processes` is 1.

    After an error each process finishes the item that it is at; after Ctrl-C it does not.

    threads: of PyTorch in each process. None: as PyTorch has it.
    method: of starting the processes, as `multiprocessing` calls it.
    ahead: results that may be made before they are asked for; then even one process is another
        one than this. None: all.

    Raises what `work` raises, and ChildProcessError if a process was killed.
    """
    if processes <= 1 and ahead is None:
        return map(work, items)
    pool = ProcessPoolExecutor(processes, get_context(method), _begin, (threads,))
    # The processes inherit this: Ctrl-C is for the parent.
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:  # now, not at the first result: a fork beside the threads of a progress bar may hang
        first = len(items) if ahead is None else max(1, ahead)
        begun = deque(pool.submit(work, item) for item in items[:first])
        return _results(pool, work, begun, deque(items[first:]))
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])


def _results(
    pool: ProcessPoolExecutor,
    work: Callable[[Item], Result],
    begun: "deque[Future[Result]]",
    waiting: "deque[Item]",
) -> Iterator[Result]:
    with pool:
        try:
            while begun:
                result = begun.popleft().result()
                if waiting:
                    begun.append(pool.submit(work, waiting.popleft()))
                yield result
        except BrokenProcessPool as error:
            raise ChildProcessError(
                "a process was killed, most likely for want of memory; run the same command again "
                "with fewer processes"
            ) from error
        except BaseException as error:
            pool.shutdown(wait=False, cancel_futures=True)
            if isinstance(error, KeyboardInterrupt):
                for process in active_children():
                    process.terminate()
            raise


def _begin(threads: int | None) -> None:
    if threads is not None:
        import torch  # late: not all work needs it, and it takes seconds

        torch.set_num_threads(threads)
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A process whose parent was killed would wait for work for ever."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
