"""Temporary folders: gone afterwards, cleared where a process was killed, left where one works."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest

from geoembed.weights import drafts
from geoembed.weights.drafts import draft_room

WORKING = """
import sys, time
from pathlib import Path
from geoembed.weights.drafts import draft_room
with draft_room(Path(sys.argv[1])) as room:
    (room / "half").write_text("")
    print(room, flush=True)
    time.sleep(600)
"""


@contextmanager
def working(target):
    """Give the folder of another process, which works in it until it is killed at the end."""
    command = [sys.executable, "-c", WORKING, target]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield target.parent / process.stdout.readline().strip()
        finally:
            process.kill()
    assert process.returncode == -signal.SIGKILL


def left_by(target, host, process):
    path = target.with_name(f".{target.name}~{host}~{process}~00000000.draft")
    path.mkdir()
    (path / "half").touch()
    return path


def age(path, hours):
    then = time.time() - 3600 * hours
    os.utime(path, (then, then))


@pytest.fixture
def dead():
    """Number of a process that has ended."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        pass
    return process.pid


def test_what_killed_processes_left_is_cleared_and_what_others_work_in_is_not(tmp_path):
    target = tmp_path / "model [1].onnx"
    with working(target) as killed:
        assert (killed / "half").exists()
    with working(target.with_name("other.onnx")) as other:
        pass
    with working(target) as held:
        for _ in range(2):
            with draft_room(target) as room:
                assert set(tmp_path.iterdir()) == {held, other, room}
                assert list(room.iterdir()) == []
                with draft_room(target) as second:
                    assert second != room
                    assert room.exists()
            assert set(tmp_path.iterdir()) == {held, other}
        assert (held / "half").exists()
    with draft_room(target) as room:
        assert set(tmp_path.iterdir()) == {other, room}


@pytest.mark.parametrize("letter", ["n", "\N{SNOWMAN}"])
def test_any_name_that_a_file_may_have_will_do(tmp_path, monkeypatch, letter):
    monkeypatch.setattr(drafts, "gethostname", lambda: 64 * "h")
    for length in range(100, 256):
        target = tmp_path / f"{letter * (length // len(letter.encode()))}"
        with draft_room(target) as room:
            (room / "half").touch()
            (room / "half").rename(target)
        assert target.exists()


def test_what_was_left_of_a_long_name_is_cleared_for_this_name_alone(tmp_path):
    target = tmp_path / ("n" * 250)
    with working(target) as left, working(target.with_name("n" * 251)) as other:
        pass
    with draft_room(target) as room:
        assert set(tmp_path.iterdir()) == {room, other}
    assert not left.exists()


def test_a_folder_is_gone_whatever_happens_in_it(tmp_path):
    with pytest.raises(FileExistsError, match="half"), draft_room(tmp_path / "a") as room:
        [(room / "half").mkdir() for _ in range(2)]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("locks", [True, False])
def test_another_machine_may_work_for_a_day(tmp_path, dead, monkeypatch, locks):
    if not locks:
        monkeypatch.setattr(drafts, "_lock", lambda room: None)
    target = tmp_path / "a"
    left = left_by(target, "elsewhere", dead)
    age(left, 23)
    with draft_room(target):
        assert left.exists()
    age(left, 25)
    with draft_room(target):
        assert not left.exists()


def test_where_there_are_no_locks_names_say_who_works(tmp_path, dead, monkeypatch):
    monkeypatch.setattr(drafts, "_lock", lambda room: None)
    target = tmp_path / "a"
    mine = left_by(target, socket.gethostname(), os.getpid())
    gone = left_by(target, socket.gethostname(), dead)
    with draft_room(target):
        assert mine.exists()
        assert not gone.exists()
        with draft_room(target) as second:
            assert second.exists()


def test_what_cannot_be_salvaged_stays(tmp_path, dead):
    target = tmp_path / "a"
    left = left_by(target, socket.gethostname(), dead)

    def refuse(found):
        assert found == left
        raise OSError("no")

    with draft_room(target, refuse):
        assert (left / "half").exists()
    saved = []
    with draft_room(target, lambda found: saved.extend(found.iterdir())):
        assert not left.exists()
    assert saved == [left / "half"]


def test_a_folder_that_is_cleared_before_it_is_held_is_made_again(tmp_path, monkeypatch):
    lock, seen = drafts._lock, []

    def slow(room):
        """Let another process be quicker, once at the clearing and once when it has cleared."""
        seen.append(room)
        if len(seen) == 1:
            raise BlockingIOError("held")
        if len(seen) == 2:
            shutil.rmtree(room)
        return lock(room)

    monkeypatch.setattr(drafts, "_lock", slow)
    with draft_room(tmp_path / "a") as room:
        assert room == seen[2]
        assert room.exists()
    assert len(set(seen)) == 3
