"""Locks: one process at a time, which the others can name."""

import logging
import multiprocessing
import os
import re
import threading
import time
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from autoddpm import locks
from autoddpm.locks import alone, in_turn

SPAWN = multiprocessing.get_context("spawn")


def hold(folder: Path, ready: Connection) -> None:
    with alone(folder):
        ready.send(os.getpid())
        time.sleep(60)


def test_a_second_process_is_told_who_is_there_and_since_when(tmp_path: Path) -> None:
    ready, end = SPAWN.Pipe()
    holder = SPAWN.Process(target=hold, args=(tmp_path / "out", end))
    holder.start()
    pid = ready.recv()
    said = (
        rf"out: another process is at work here \(pid {pid} on .*, since \d{{4}}-.*:\d\d\)\. Wait"
    )
    with pytest.raises(ValueError, match=said), alone(tmp_path / "out"):
        pass
    holder.kill()
    holder.join(30)
    with alone(tmp_path / "out"):  # it was released by its end
        assert f"pid {os.getpid()} " in (tmp_path / "out" / ".autoddpm.holder").read_text()
    assert not (tmp_path / "out" / ".autoddpm.holder").exists()


def test_a_lock_beside_a_folder_makes_no_folder(tmp_path: Path) -> None:
    with alone(tmp_path / "report", beside=True):
        assert not (tmp_path / "report").exists()
        with pytest.raises(ValueError, match="at work"), alone(tmp_path / "report", beside=True):
            pass
    with pytest.raises(ZeroDivisionError), alone(tmp_path / "report", beside=True):
        _ = 1 / 0
    with alone(tmp_path / "report", beside=True):
        pass


def test_who_waits_says_for_what_and_says_it_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "SAID_AGAIN_S", 0.05)
    caplog.set_level(logging.INFO, logger=locks.__name__)
    lock, have = tmp_path / "a.lock", threading.Event()

    def wait() -> None:
        with in_turn([lock], "the row A", every_s=0.01):
            have.set()

    waiter = threading.Thread(target=wait, daemon=True)
    with in_turn([lock], "the row A"):
        waiter.start()
        while len(caplog.messages) < 2:
            time.sleep(0.01)
        assert not have.is_set()
    assert have.wait(30)
    said = rf"waiting for the row A, which another process has \(pid {os.getpid()} on .*, since "
    assert re.match(said, caplog.messages[0])
    assert caplog.messages[1] == caplog.messages[0]


def test_the_first_free_lock_is_held(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("a.lock", "b.lock")]
    with in_turn(paths, "one") as first, in_turn(paths, "one") as second:
        assert (first, second) == (0, 1)
