"""What commands on tables share: errors in words of the command line, SIGTERM, tables of scores."""

import re
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import typer

from geoembed.cli.output import complain, table
from geoembed.errors import GeoembedError

__all__ = ["TABLE_FLAGS", "notes_told", "score_table", "terminable"]

# What messages call an option in Python, and what it is called here.
TABLE_FLAGS: Mapping[str, str] = {
    "overwrite": "--overwrite",
    "on_invalid": "--on-invalid nan",
    "geometry": "--geometry centroid",
    "crs": "--crs EPSG:4326",
    "lon": "--lon-column NAME",
    "lat": "--lat-column NAME",
    "layer": "--layer NAME",
}


@contextmanager
def notes_told(flags: Mapping[str, str]) -> Iterator[None]:
    """Put errors into words of the command line.

    The notes of an error are printed (what is kept of a run that was stopped, Ctrl-C included),
    and a message that speaks of options in Python says what to type.

    Parameters
    ----------
    flags : mapping of str to str
        Option in Python -> flag, with what it usually takes.
    """
    try:
        yield
    except BaseException as error:
        for note in getattr(error, "__notes__", ()):
            complain(note)
        if isinstance(error, GeoembedError):
            error.args = (_with_flags(str(error), flags),)
        raise


def _with_flags(text: str, flags: Mapping[str, str]) -> str:
    """Add to a message that speaks of options in Python what to type here."""
    # What a message begins with is the option that was typed.
    matches = re.finditer(r"(?<=[ (])(\w+)=(?:'([\w:]+)')?", text)
    named = {m[1]: m[2] for m in matches if not text.startswith(f"{m[1]}=")}
    words = []
    for option, value in named.items():
        flag, _, usual = flags.get(option, "").partition(" ")
        if flag and flag not in text:
            words.append(f"{flag} {value or usual}".rstrip())
    return f"{text}\nOn the command line: {', '.join(words)}." if words else text


@contextmanager
def terminable() -> Iterator[None]:
    """Have SIGTERM, which batch systems send, end the run like Ctrl-C, but with 143."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    told = False

    def stop(*_: Any) -> None:
        nonlocal told
        told = True
        # Once is enough: another must not disturb the saving.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    except KeyboardInterrupt:
        if not told:
            raise
        complain("terminated")
        raise typer.Exit(143) from None
    finally:
        signal.signal(signal.SIGTERM, before if before is not None else signal.SIG_DFL)


def score_table(
    metrics: Sequence[str], scores: Mapping[str, Mapping[str, Mapping[str, float | None]]]
) -> str:
    """Set scores of several splits side by side, metric by metric.

    Examples
    --------
    >>> scores = {"random": {"ridge": {"R2": 0.91234}}, "spatial": {"ridge": {"R2": 0.5}}}
    >>> print(score_table(["R2"], scores))
           random R2  spatial R2
    ridge  0.9123     0.5
    """
    header = ["", *(f"{split} {metric}" for metric in metrics for split in scores)]
    rows = [
        [name, *(_number(scores[split][name][m]) for m in metrics for split in scores)]
        for name in next(iter(scores.values()))
    ]
    return table(header, rows)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
