"""A scheduler and workers of dask in processes of our own, which end when this one does."""

import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from tempfile import gettempdir
from typing import Any, Final

from geoembed.errors import WorkerError
from geoembed.weights.drafts import draft_room

__all__ = ["own_processes", "watched"]

_HOST: Final = "127.0.0.1"
# Busy machines start processes slowly.
_START_SECONDS: float = 60.0
# Between two looks of a process of our own whether the one that started it is still there.
_ORPHAN_SECONDS: Final = 1.0
_PARENT: Final = "GEOEMBED_STARTED_BY"


@contextmanager
def own_processes(count: int, memory: int) -> Iterator[str]:
    """Start a scheduler and workers, and kill them on the way out.

    They are started afresh, not copies of this process: scripts need no guard around what they
    do, and a worker that dies takes nothing with it. Each is a session of its own: Ctrl-C in a
    terminal, which goes to all processes of the command there, reaches the one that can say what
    is done, and not those that it must still talk to.

    Parameters
    ----------
    count : int
        Of workers, each with one thread.
    memory : int
        What each may take, in bytes.

    Yields
    ------
    str
        Address of the scheduler.

    Raises
    ------
    WorkerError
        If the scheduler does not start, or there is no room for what workers put aside.
    """
    started: list[subprocess.Popen[bytes]] = []
    with _scratch() as folder:
        try:
            file, log = folder / "scheduler.json", folder / "scheduler.log"
            options = {"host": _HOST, "port": 0, "dashboard": False, "dashboard_address": None}
            options |= {"kind": "Scheduler", "scheduler_file": str(file)}
            with log.open("wb") as errors:
                started.append(_start([], options, folder, errors))
            address = _wait_for(file, started[0], log)
            options = {"kind": "Nanny", "host": _HOST, "nthreads": 1, "memory_limit": memory}
            options |= {"silence_logs": logging.CRITICAL}
            for _ in range(count):
                # One by one: those that are there are ended when the next does not start.
                started.append(_start([address], options, folder))  # noqa: PERF401
            yield address
        finally:
            # Without a word before: a scheduler that is gone or busy would have to be waited for,
            # and nobody needs what workers hold when the work is over.
            for process in reversed(started):
                with suppress(OSError):
                    os.killpg(process.pid, signal.SIGKILL)
            for process in started:
                process.wait()


@contextmanager
def _scratch() -> Iterator[Path]:
    """Give a folder for what workers put aside, who get no time to tidy up; it goes afterwards."""
    import dask

    usual = Path(dask.config.get("temporary-directory", None) or gettempdir())
    with ExitStack() as stack:
        try:
            usual.mkdir(parents=True, exist_ok=True)
            folder = stack.enter_context(draft_room(usual.absolute() / "geoembed-dask"))
        except OSError as error:
            raise WorkerError(
                f"Workers cannot put anything aside in {usual}: {error.strerror or error}. Name "
                "another folder with DASK_TEMPORARY_DIRECTORY."
            ) from error
        yield folder


def watched(*where: str, kind: str, **options: Any) -> Any:
    """Make what a process of our own is, which closes when the one that started it is gone.

    A run that is killed cannot end them itself, and they would keep their memory for good.

    Parameters
    ----------
    where : str
        Address of the scheduler, for a worker.
    kind : str
        Class of ``distributed``: ``"Scheduler"`` or ``"Nanny"``.
    options : any
        Of that class.

    Returns
    -------
    distributed.Scheduler or distributed.Nanny
    """
    import distributed
    from tornado.ioloop import PeriodicCallback

    server = getattr(distributed, kind)(*where, **options)
    parent = int(os.environ[_PARENT])

    async def look() -> None:
        if os.getppid() != parent:
            await server.close(reason="the process that started it is gone")

    looking = PeriodicCallback(look, 1000 * _ORPHAN_SECONDS)
    server.periodic_callbacks["geoembed-parent"] = looking
    looking.start()
    return server


def _start(
    words: Sequence[str], options: dict[str, Any], folder: Path, errors: Any = None
) -> "subprocess.Popen[bytes]":
    # Dask calls anything that can be imported by this name.
    spec = json.dumps({"cls": f"{__name__}.{watched.__name__}", "opts": options})
    return subprocess.Popen(
        [sys.executable, "-m", "distributed.cli.dask_spec", *words, "--spec", spec],
        stdin=subprocess.DEVNULL,
        stderr=errors,
        env={**os.environ, _PARENT: str(os.getpid()), "DASK_TEMPORARY_DIRECTORY": str(folder)},
        start_new_session=True,
    )


def _wait_for(file: Path, process: "subprocess.Popen[bytes]", log: Path) -> str:
    """Wait for the file in which a scheduler says where it is, and return that."""
    end = time.monotonic() + _START_SECONDS
    while process.poll() is None and time.monotonic() < end:
        # It may be there and not be written yet.
        with suppress(OSError, ValueError):
            return str(json.loads(file.read_text())["address"])
        time.sleep(0.05)
    told = log.read_text(errors="replace").strip().splitlines() or ["it gave no reason"]
    raise WorkerError(f"The scheduler of dask does not start on this machine: {told[-1]}")
