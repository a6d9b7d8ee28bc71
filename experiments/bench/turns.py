"""Timing of variants that are compared: in turns, each side in a process of its own."""

import multiprocessing
import statistics
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

import torch

from autoddpm.runs.provenance import peak_memory_mb

PEAK = ""  # asks a process for its memory
Variants = Mapping[str, Callable[[], float | None]]


class Side:
    """Variants in a process of their own, so that its peak memory is theirs and its allocator is as
    they set it.

    make: a function of a module, gives the variants by name; a variant may return the seconds it is
        to count for.
    here: in this process instead, for tests.
    """

    def __init__(self, make: Callable[..., Variants], *arguments: Any, here: bool = False) -> None:
        self._here: Variants | None = make(*arguments) if here else None
        if self._here is not None:
            self.names = list(self._here)
            return
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, make, arguments), daemon=True)
        self._process.start()
        theirs.close()
        self.names = self._answer()

    def seconds(self, name: str) -> float:
        """Run a variant once."""
        if self._here is not None:
            return _timed(self._here[name])
        self._pipe.send(name)
        return self._answer()

    def peak_mb(self) -> float:
        """Most memory that the process has held."""
        return self.seconds(PEAK) if self._here is None else _peak_mb()

    def close(self) -> None:
        """End the process."""
        if self._here is None:
            self._pipe.close()
            self._process.join()

    def _answer(self) -> Any:
        try:
            return self._pipe.recv()
        except EOFError:
            raise RuntimeError("a measured process ended; its own message stands above") from None


def _serve(pipe: Connection, make: Callable[..., Variants], arguments: tuple[Any, ...]) -> None:
    variants = make(*arguments)
    pipe.send(list(variants))
    with suppress(EOFError):
        while True:
            name = pipe.recv()
            pipe.send(_peak_mb() if name == PEAK else _timed(variants[name]))


def _timed(variant: Callable[[], float | None]) -> float:
    start = time.perf_counter()
    own = variant()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start if own is None else own


def in_turns(variants: Mapping[str, tuple[Side, str]], repeats: int) -> dict[str, float]:
    """Median seconds of each variant, (side, its name there): run one after the other `repeats`
    times, after a round that does not count."""
    times: dict[str, list[float]] = {name: [] for name in variants}
    for repeat in range(repeats + 1):
        for name, (side, variant) in variants.items():
            seconds = side.seconds(variant)
            if repeat:
                times[name].append(seconds)
    return {name: statistics.median(values) for name, values in times.items()}


def _peak_mb() -> float:
    return peak_memory_mb(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
