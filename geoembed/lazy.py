"""Public names of a package, resolved when they are first used."""

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

__all__ = ["resolver"]


def resolver(package: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """Make the ``__getattr__`` of a package whose names come from heavy modules.

    Parameters
    ----------
    package : str
        Its ``__name__``.
    homes : mapping of str to str
        Public name -> module that has it.

    Returns
    -------
    callable
        To be assigned to ``__getattr__``. What it has found stays in the package.

    Examples
    --------
    >>> resolver("geoembed", {"hypot": "math"})("hypot")(3.0, 4.0)
    5.0
    """

    def find(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(import_module(homes[name]), name)
        setattr(sys.modules[package], name, value)
        return value

    return find
