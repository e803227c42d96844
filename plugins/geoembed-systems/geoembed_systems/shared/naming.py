"""Arrays of several parts in one mapping: each part under a prefix of its own."""

from collections.abc import Mapping
from typing import Any

__all__ = ["named", "under"]


def named(prefix: str, arrays: Mapping[str, Any]) -> dict[str, Any]:
    """Put a prefix before the names of a part.

    Parameters
    ----------
    prefix : str
        Of the part, with the dot.
    arrays : mapping of str to any
        Its arrays or tensors.

    Returns
    -------
    dict
        For one mapping of all parts.

    Examples
    --------
    >>> named("cells.", {"ids": 1})
    {'cells.ids': 1}
    """
    return {prefix + name: array for name, array in arrays.items()}


def under(prefix: str, arrays: Mapping[str, Any]) -> dict[str, Any]:
    """Take one part out of what `named` put together.

    Parameters
    ----------
    prefix : str
        Of the part, with the dot.
    arrays : mapping of str to any
        Of all parts.

    Returns
    -------
    dict
        Under the part's own names.

    Examples
    --------
    >>> under("cells.", {"cells.ids": 1, "network.bias": 2})
    {'ids': 1}
    """
    return {
        name.removeprefix(prefix): array
        for name, array in arrays.items()
        if name.startswith(prefix)
    }
