"""Run the command line: exit codes, one-line errors, quiet pipes.

0 is success, 1 a failure with its reason on stderr, 2 a usage error, 130 an
interruption, 143 a run that was told to end. A traceback is shown only with ``--debug``.
"""

import os
import sys
import traceback
import warnings
from collections.abc import Sequence
from typing import TextIO

from geoembed.cli.app import build
from geoembed.cli.output import complain
from geoembed.errors import GeoembedError
from geoembed.extending.manager import is_set

__all__ = ["main", "run"]

HINT = "(run it with --debug to see where)"


def run() -> None:
    """Run ``geoembed`` with the arguments of the process and exit: the console entry point."""
    sys.exit(main(sys.argv[1:]))


def main(arguments: Sequence[str]) -> int:
    """Run ``geoembed`` with `arguments` and return its exit code.

    Parameters
    ----------
    arguments : sequence of str
        What follows ``geoembed`` on the command line.

    Returns
    -------
    int
        0, 1, 2, 130 or 143.

    Examples
    --------
    >>> main(["--version"])  # doctest: +ELLIPSIS
    geoembed ...
    0
    """
    rest, debug = _take_debug(arguments)
    with warnings.catch_warnings():
        if not debug:
            warnings.showwarning = _one_line_warning
        try:
            build().main(args=rest, prog_name="geoembed")
            code = 0
        except SystemExit as stop:
            code = _exit_code(stop)
        except KeyboardInterrupt:
            complain("interrupted")
            code = 130
        except Exception as error:
            if debug:
                traceback.print_exception(error)
            complain(f"error: {reason(error)}")
            code = 1
    return code if _flush() else 1


def reason(error: Exception) -> str:
    """Put an exception into words: geoembed's own as they are, others in one line."""
    if isinstance(error, GeoembedError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        where = f": {error.filename}" if error.filename is not None else ""
        return f"{error.strerror}{where} {HINT}"
    text = " ".join(str(error).split())
    name = type(error).__name__
    return f"{name}: {text} {HINT}" if text else f"{name} {HINT}"


def _take_debug(arguments: Sequence[str]) -> tuple[list[str], bool]:
    """Split off ``--debug``, which may stand anywhere before ``--``."""
    rest = list(arguments)
    end = rest.index("--") if "--" in rest else len(rest)
    options = [argument for argument in rest[:end] if argument != "--debug"]
    asked = len(options) < end or is_set("GEOEMBED_DEBUG")
    return options + rest[end:], asked


def _exit_code(stop: SystemExit) -> int:
    if stop.code is None or isinstance(stop.code, int):
        return stop.code or 0
    complain(f"error: {stop.code}")
    return 1


def _one_line_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    complain(f"warning: {message}")


def _flush() -> bool:
    """Flush stdout; False if its reader has gone, which Python would report at exit."""
    # None where the process was started without one (`>&-`): print does nothing then.
    stdout: TextIO | None = sys.stdout
    if stdout is None:
        return True
    try:
        stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stdout.fileno())
        return False
    return True
