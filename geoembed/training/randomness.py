"""Random numbers of a run by counters: nothing depends on what was drawn before.

A draw is named by the run's seed, a word for what it is for, and counters such as the step or
the row. So it is the same in any number of workers and processes, and after a resume.
"""

from hashlib import sha256

import numpy as np

from geoembed.errors import OptionError

__all__ = ["generator"]


def generator(seed: int, purpose: str, *counters: int) -> np.random.Generator:
    """Return the generator that belongs to a seed, a purpose and counters.

    Parameters
    ----------
    seed : int
        Of the run; at least 0, of any size.
    purpose : str
        What the numbers are for, ``"view"``; other words give independent streams.
    *counters : int
        Step, epoch, row, number of the view; at least 0, of any size, of NumPy or of Python.
        Their number counts too: ``(1,)`` and ``(1, 0)`` are different streams.

    Returns
    -------
    numpy.random.Generator
        On Philox, whose key of 128 bits is the head of the SHA-256 of all that was given. About
        15 microseconds.

    Raises
    ------
    OptionError
        If `seed` or a counter is negative.

    Examples
    --------
    >>> generator(0, "view", 17, 2).integers(0, 1000, 3).tolist() == (
    ...     generator(0, "view", 17, 2).integers(0, 1000, 3).tolist()
    ... )
    True
    >>> float(generator(0, "view", 17, 2).random()) == float(generator(0, "view", 17, 3).random())
    False
    """
    numbers = [int(number) for number in (seed, *counters)]
    if min(numbers) < 0:
        raise OptionError(
            f"generator(seed={seed}, {purpose!r}, {', '.join(map(str, counters))}): the seed and "
            "the counters must be at least 0."
        )
    # The word in quotes cannot run into the numbers, nor one number into the next.
    digest = sha256(f"geoembed {purpose!r} {' '.join(map(str, numbers))}".encode()).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "little")))
