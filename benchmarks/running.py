"""One suite in a process of its own: started, watched, and ended with all that it started."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from document import BenchFileError, SuiteRun
from figures import Figure
from suites import SUITES

__all__ = ["Stopped", "alone", "facts", "run_suite", "stoppable"]

_SCRIPT = Path(__file__).with_name("suites.py")
# Seconds between two looks at a suite; what it measures must not notice.
_LOOK = 0.5
# A suite that takes so many times what it is expected to take hangs, and at least so many minutes.
_TIMES, _LEAST = 10, 10


class Stopped(BaseException):
    """The run was asked to stop, by Ctrl-C or a signal."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.status = 128 + number


def facts() -> dict[str, Any]:
    """Return the facts of this machine, found in a process of its own: torch stays out of this."""
    command = [sys.executable, str(_SCRIPT), "--about"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchFileError(f"geoembed cannot be measured here: {_last(done.stderr)}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@contextmanager
def alone(output: Path) -> Iterator[None]:
    """Hold a folder of results, made if need be: of two runs in one, each overwrites the other's.

    Raises
    ------
    BenchFileError
        If another run measures into it. One that was killed does not, and its suite ends with it.
    """
    # Not before it is known that geoembed can be measured here.
    from geoembed.errors import TableError
    from geoembed.training.locking import locked_folder

    output.mkdir(parents=True, exist_ok=True)
    with ExitStack() as held:
        try:
            held.enter_context(locked_folder(output, "measuring"))
        except TableError as error:
            raise BenchFileError(f"{error} Or name another folder with --output.") from None
        yield


def run_suite(name: str, size: str, output: Path, told: Callable[[SuiteRun], None]) -> SuiteRun:
    """Measure a suite in a process of its own, and return how it ended.

    Parameters
    ----------
    name, size : str
        Which suite, at which size.
    output : Path
        Folder that takes what the suite prints, as ``logs/NAME.log``.
    told : callable
        Called with what there is whenever figures came, and at the end.

    Raises
    ------
    Stopped
        If this process is asked to stop. Whatever is raised, the suite's processes are ended.
    """
    log = output / "logs" / f"{name.replace(' ', '-')}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    run = SuiteRun("running", size, busy=round(busy_cores(), 1))
    limit = 60 * max(_LEAST, _TIMES * SUITES[name].minutes)
    with tempfile.TemporaryDirectory() as scratch, log.open("w") as said:
        found = Path(scratch, "figures.jsonl")
        found.touch()
        told(run)
        started = time.monotonic()
        process = subprocess.Popen(
            [sys.executable, str(_SCRIPT), name, size, str(found), str(os.getpid())],
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=subprocess.STDOUT,
            # What it leaves behind when it dies, workers and the like, is ended with its group;
            # its temporary files go with ours.
            start_new_session=True,
            env={**os.environ, "TMPDIR": scratch},
        )
        try:
            while process.poll() is None:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(_LOOK)
                if time.monotonic() - started > limit:
                    run.error = f"stopped after {limit / 60:,.0f} minutes (see {log})"
                    break
                figures, _ = _read(found)
                if len(figures) > len(run.figures):
                    run.figures, run.seconds = figures, round(time.monotonic() - started, 1)
                    told(run)
        finally:
            # Where none is alive, systems say that there is no such group, or that it is not ours.
            with suppress(OSError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        run.figures, error = _read(found)
        run.seconds = round(time.monotonic() - started, 1)
    if process.returncode and not run.error:
        run.error = _why(process.returncode, error, log)
    run.status = "failed" if run.error else "done"
    told(run)
    return run


def _read(path: Path) -> tuple[list[Figure], str]:
    """Return the figures that are there and the error, if any; the last line may not be whole."""
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n")[:-1]]
    errors = [line["error"] for line in lines if "error" in line]
    return [Figure.from_dict(line) for line in lines if "name" in line], "; ".join(errors)


def _why(code: int, error: str, log: Path) -> str:
    """Say why a suite failed: the signal, its error, or the last that it printed."""
    if code < 0:
        what = f"ended by {signal.Signals(-code).name}"
        if code == -signal.SIGKILL:
            what += " (the system does that when memory runs out)"
        return f"{what} (see {log})"
    error = error or _last(log.read_text(encoding="utf-8", errors="replace"))
    return f"{error} (see {log})"


def _last(said: str) -> str:
    """Return the last line that was printed, where an exception tells itself."""
    lines = [line for line in said.splitlines() if line.strip()]
    return lines[-1].strip() if lines else "it said nothing"


@contextmanager
def stoppable() -> Iterator[None]:
    """Turn Ctrl-C and requests to stop into `Stopped`, so that processes are ended."""

    def stop(number: int, _: object) -> None:
        raise Stopped(number)

    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, stop) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def busy_cores(seconds: float = 0.5) -> float:
    """Return how many cores are at work just now: nothing of ours is.

    The load that the system tells is a mean over a minute, in which the suite before ran.

    Parameters
    ----------
    seconds : float
        How long to look; where there is no ``/proc/stat``, the load is returned.
    """
    before = _worked()
    if before is None:
        return os.getloadavg()[0]
    started = time.monotonic()
    time.sleep(seconds)
    after = _worked()
    assert after is not None
    return (after - before) / os.sysconf("SC_CLK_TCK") / (time.monotonic() - started)


def _worked() -> int | None:
    """Ticks that all cores together have worked since the system started."""
    try:
        first = Path("/proc/stat").read_text(encoding="ascii").splitlines()[0]
        user, nice, system, _, _, *rest = map(int, first.split()[1:9])
    except (OSError, ValueError, IndexError):
        return None
    return user + nice + system + sum(rest)
