"""Single numbers given as options: whole ones, counts, and any at all."""

import numbers
from typing import TypeGuard

from geoembed.errors import OptionError

__all__ = ["check_count", "is_number", "is_whole"]


def is_whole(value: object) -> TypeGuard[int]:
    """Tell whole numbers, of Python or numpy, from anything else, True and False included.

    Parameters
    ----------
    value : object
        Anything.

    Returns
    -------
    bool
        True for a whole number.

    Examples
    --------
    >>> is_whole(3), is_whole(True), is_whole(3.0)
    (True, False, False)
    """
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def is_number(value: object) -> TypeGuard[float]:
    """Tell real numbers, of Python or numpy, from anything else, True and False included.

    Parameters
    ----------
    value : object
        Anything.

    Returns
    -------
    bool
        True for a number; also for those that are not finite.

    Examples
    --------
    >>> is_number(3), is_number(0.5), is_number("3"), is_number(False)
    (True, True, False, False)
    """
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def check_count(option: str, value: object, least: int = 1) -> int:
    """Return a count as an int, or raise OptionError if it is none.

    Parameters
    ----------
    option : str
        What it is called where it was given.
    value : object
        A whole number, of Python or numpy.
    least : int
        The smallest that fits.

    Returns
    -------
    int
        The same.

    Raises
    ------
    OptionError
        If it is no whole number or below `least`.

    Examples
    --------
    >>> check_count("samples", 3)
    3
    >>> check_count("samples", 0)
    Traceback (most recent call last):
    geoembed.errors.OptionError: samples=0 is no whole number of at least 1.
    """
    if not is_whole(value) or value < least:
        raise OptionError(f"{option}={value!r} is no whole number of at least {least}.")
    return int(value)
