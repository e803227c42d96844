"""The one progress bar: on a terminal when the work is long, off in pipes."""

import sys
from typing import Any, Final

from tqdm import tqdm

__all__ = ["progress_bar"]

# Work shorter than this needs no progress bar.
_QUIET_SECONDS: Final = 2.0


def progress_bar(
    progress: bool | None, *, text: str, unit: str, total: int | None, done: int = 0
) -> "tqdm[Any]":
    """Make a progress bar.

    Parameters
    ----------
    progress : bool or None
        Show it, or not; None shows it on a terminal when the work takes some seconds.
    text : str
        What is being done; stands before the bar.
    unit : str
        What is counted, in the singular.
    total : int or None
        How many there are, if that is known.
    done : int
        How many are done already.

    Returns
    -------
    tqdm.tqdm
        To be used in a ``with`` block, its ``update`` told of every step.

    Examples
    --------
    >>> with progress_bar(False, text="embedding", unit="place", total=10) as bar:
    ...     bar.disable
    True
    """
    return tqdm(
        total=total,
        initial=done,
        unit=unit,
        unit_scale=True,
        desc=text,
        # A closed stderr has nobody to show it to. tqdm's None means: only on a terminal.
        disable=sys.stderr is None or (None if progress is None else not progress),
        delay=_QUIET_SECONDS if progress is None else 0.0,
        leave=progress is True,
    )
