"""Work in several processes, which end together."""

import os
import signal
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import chain
from multiprocessing import active_children, get_context, parent_process
from threading import Thread
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_processes(
    work: Callable[[Item], Result],
    items: Sequence[Item],
    processes: int,
    threads: int | None = None,
    method: str = "spawn",
) -> Iterator[Result]:
    """Results of `work` for each item, in their order, in this process if `processes` is 1.

    After an error each process finishes the item that it is at; after Ctrl-C it does not.

    threads: of PyTorch in each process. None: as PyTorch has it.
    method: of starting the processes, as `multiprocessing` calls it.

    Raises what `work` raises, and ChildProcessError if a process was killed.
    """
    if processes <= 1:
        return map(work, items)
    pool = ProcessPoolExecutor(processes, get_context(method), _begin, (threads,))
    return chain.from_iterable(_groups(pool, work, items, ahead=len(items), most=1))


def beside(
    work: Callable[[Item], Result],
    items: Sequence[Item],
    processes: int,
    threads: int | None = None,
    most: int = 16,
) -> Iterator[list[Result]]:
    """Results of `work`, in their order, made in other processes while this one uses them.

    Those that are ready are given together: a list of at least one, and at most `most`. Only a few
    more are made before they are asked for.

    processes: beside this one. 0: each result is made here when it is asked for.

    Arguments, end and errors as `in_processes`.
    """
    if not processes:
        return ([work(item)] for item in items)
    pool = ProcessPoolExecutor(processes, get_context("spawn"), _begin, (threads,))
    return _groups(pool, work, items, ahead=processes + most, most=most)


def _groups(
    pool: ProcessPoolExecutor,
    work: Callable[[Item], Result],
    items: Sequence[Item],
    ahead: int,
    most: int,
) -> Iterator[list[Result]]:
    # The processes inherit this: Ctrl-C is for the parent.
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:  # now, not at the first result: a fork beside the threads of a progress bar may hang
        begun = deque(pool.submit(work, item) for item in items[:ahead])
        return _results(pool, work, begun, deque(items[ahead:]), most)
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])


def _results(
    pool: ProcessPoolExecutor,
    work: Callable[[Item], Result],
    begun: "deque[Future[Result]]",
    waiting: "deque[Item]",
    most: int,
) -> Iterator[list[Result]]:
    with pool:
        try:
            while begun:
                ready = [begun.popleft().result()]
                while begun and len(ready) < most and _is_ready(begun[0]):
                    ready.append(begun.popleft().result())
                for _ in range(min(len(ready), len(waiting))):
                    begun.append(pool.submit(work, waiting.popleft()))
                yield ready
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


def _is_ready(future: "Future[Result]") -> bool:
    return future.done() and future.exception() is None


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
