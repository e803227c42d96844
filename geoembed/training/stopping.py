"""Ending early and in good order: when the system asks for it, or nothing gets better."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, Final

__all__ = ["RunStopped", "StopRequest", "catch_signals"]

_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
# What a shell reports of a process that a signal ended.
_EXIT: Final = 128
_STDERR: Final = 2
_TOLD: Final = b"\nCtrl-C: ends after this step, with a checkpoint; once more to end at once\n"


class RunStopped(SystemExit):
    """A run that a signal has ended after its checkpoint was written.

    Its `code` is 143 after SIGTERM, 130 after Ctrl-C, which is how the process ends if nobody
    catches it.

    Parameters
    ----------
    number : int
        Of the signal.
    step : int
        Steps that the checkpoint holds.
    """

    def __init__(self, number: int, step: int) -> None:
        super().__init__(_EXIT + number)
        self.signal = signal.Signals(number).name
        self.step = step

    def __str__(self) -> str:
        return f"Stopped by {self.signal} after step {self.step:,}; go on with --resume."


class StopRequest:
    """Whether the process has been asked to end, and by which signal.

    Examples
    --------
    >>> request = StopRequest()
    >>> request.number
    0
    """

    def __init__(self) -> None:
        self.number = 0

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Take a signal; the second Ctrl-C ends at once, for whoever does not want to wait."""
        if self.number == number == signal.SIGINT:
            raise KeyboardInterrupt
        self.number = number
        if number == signal.SIGINT:
            # Not by print: its buffer may be in use where the signal has come in.
            with suppress(OSError):
                os.write(_STDERR, _TOLD)


@contextmanager
def catch_signals() -> Iterator[StopRequest]:
    """Note SIGTERM and Ctrl-C in place of ending by them.

    Yields
    ------
    StopRequest
        Its `number` is 0 until there is a signal. In a thread other than the main one, which
        signals do not reach, it stays 0.

    Examples
    --------
    >>> with catch_signals() as request:
    ...     signal.raise_signal(signal.SIGTERM)
    ...     request.number == signal.SIGTERM
    True
    """
    request = StopRequest()
    before: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        before = {number: signal.signal(number, request) for number in _SIGNALS}
    try:
        yield request
    finally:
        for number, handler in before.items():
            # None: the handler before was not Python's and cannot be put back from here.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
