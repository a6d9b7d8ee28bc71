"""One process at a time at one place: file locks of the operating system that say who has them.

Such a lock is released when its process ends, even by a crash. Beside it, while it is held, is
NAME.holder, which says who holds it.
"""

import datetime
import logging
import os
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from math import inf
from pathlib import Path

from filelock import FileLock, Timeout

from autoddpm.atomic import write_text

log = logging.getLogger(__name__)
NAME = ".autoddpm.lock"  # of the lock of a folder
SAID_AGAIN_S = 600.0
EVERY_S = 0.5


@contextmanager
def alone(folder: Path, beside: bool = False) -> Iterator[None]:
    """Hold the lock of a folder, which is made if it is not there.

    beside: the lock is beside the folder, which is not made: it will be renamed, or published.

    Raises ValueError, naming the other process, if one works in the folder.
    """
    lock = FileLock(folder.with_name(f".{folder.name}.lock") if beside else folder / NAME)
    Path(lock.lock_file).parent.mkdir(parents=True, exist_ok=True)
    if not _acquired(lock):
        raise ValueError(
            f"{folder}: another process is at work here ({_holder(lock)}). Wait until it has "
            "ended, or stop it; then run the same command again"
        )
    with _signed(lock):
        yield


@contextmanager
def in_turn(paths: Sequence[Path], what: str, every_s: float = EVERY_S) -> Iterator[int]:
    """Hold the first lock that is free, and give its place, waiting while other processes have all.

    That is said at once, and then every ten minutes.

    paths: of the locks' files, whose folders are made if they are not there.
    what: they are for.
    every_s: seconds between two tries.
    """
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
    locks, said = [FileLock(path) for path in paths], -inf
    while (place := next((n for n, lock in enumerate(locks) if _acquired(lock)), None)) is None:
        if time.monotonic() - said >= SAID_AGAIN_S:
            holders = "; ".join(map(_holder, locks))
            log.info("waiting for %s, which another process has (%s)", what, holders)
            said = time.monotonic()
        time.sleep(every_s)
    with _signed(locks[place]):
        yield place


def _acquired(lock: FileLock) -> bool:
    """Whether the lock was free. If so, this process has it now."""
    try:
        lock.acquire(blocking=False)
    except Timeout:
        return False
    return True


def _holder(lock: FileLock) -> str:
    """Which process has a lock, and since when, in words."""
    with suppress(OSError):
        return _note(lock).read_text(encoding="utf-8").strip()
    return f"see {lock.lock_file}"


@contextmanager
def _signed(lock: FileLock) -> Iterator[None]:
    """Say while it lasts who has a lock, and release it."""
    note = _note(lock)
    try:
        now = datetime.datetime.now().astimezone()
        place = f"pid {os.getpid()} on {socket.gethostname()}"
        write_text(note, f"{place}, since {now:%Y-%m-%d %H:%M:%S}\n")
        yield
    finally:
        note.unlink(missing_ok=True)
        lock.release()


def _note(lock: FileLock) -> Path:
    return Path(lock.lock_file).with_suffix(".holder")
