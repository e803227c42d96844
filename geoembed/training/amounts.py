"""Sizes and times in words."""

__all__ = ["size_text", "time_text"]


def size_text(count: float) -> str:
    """Put a number of bytes into words.

    Parameters
    ----------
    count : float
        Bytes.

    Returns
    -------
    str
        In powers of 1,000.

    Examples
    --------
    >>> size_text(512), size_text(72_192_000_000)
    ('512 B', '72.2 GB')
    """
    for unit in ("B", "kB", "MB"):
        if count < 1000.0:
            return f"{count:.3g} {unit}"
        count /= 1000.0
    return f"{count:,.3g} GB"


def time_text(seconds: float) -> str:
    """Put a time into words.

    Parameters
    ----------
    seconds : float
        How long.

    Returns
    -------
    str
        In seconds, minutes or hours.

    Examples
    --------
    >>> time_text(70), time_text(3600), time_text(20_000)
    ('70 s', '60 min', '5.6 h')
    """
    if seconds < 120.0:
        return f"{seconds:.0f} s"
    minutes = seconds / 60.0
    return f"{minutes:.0f} min" if minutes < 120.0 else f"{minutes / 60.0:,.1f} h"
