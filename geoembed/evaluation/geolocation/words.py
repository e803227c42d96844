"""Counts in words, for notes and messages."""

from collections.abc import Sequence

__all__ = ["counted", "first_of"]

_NAMED = 5


def counted(number: int, noun: str) -> str:
    """Say how many there are.

    Examples
    --------
    >>> counted(1, "picture"), counted(2997, "picture")
    ('1 picture', '2,997 pictures')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def first_of(names: Sequence[str]) -> str:
    """Name the first five and count the rest.

    Examples
    --------
    >>> first_of(["a", "b", "c", "d", "e", "f", "g"])
    'a, b, c, d, e and 2 more'
    """
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more:,} more" if more > 0 else "")
