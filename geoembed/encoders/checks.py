"""Checks of options that several rooms share."""

import numpy as np

from geoembed.errors import OptionError

__all__ = ["check_count"]


def check_count(option: str, value: object) -> None:
    """Raise OptionError unless `value` is a whole number of at least 1."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise OptionError(f"{option}={value!r} is not a whole number of at least 1.")
