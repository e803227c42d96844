"""What the baselines share: pickles that carry the spec, numbers in a tag, a series of scales."""

import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoembed.encoders.base import LocationEncoder
from geoembed.errors import PluginError
from geoembed.extending.specs import LocationEncoderSpec

__all__ = ["BaselineEncoder", "geometric_scales", "number_in_tag"]


class BaselineEncoder(LocationEncoder):
    """A location encoder that is its spec and nothing else.

    It pickles with the spec, so that one of a degree or scale of your own, whose name nobody
    registered, survives the way to another process. Everything is computed in float64 whatever
    ``precision`` says; ``dtype="float64"`` keeps all of it.
    """

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return _remake, (type(self), self.spec, {**self.options(), **self._placement()})


def _remake(
    kind: type[BaselineEncoder], spec: LocationEncoderSpec, options: dict[str, Any]
) -> BaselineEncoder:
    return kind(spec, **options)


def number_in_tag(spec: LocationEncoderSpec, letter: str) -> int:
    """Read the number that the tag of a spec's name carries.

    Parameters
    ----------
    spec : LocationEncoderSpec
        For example ``harmonics.l40``.
    letter : str
        What stands before the number.

    Returns
    -------
    int
        At least 1.

    Raises
    ------
    PluginError
        If the name has no such tag.

    Examples
    --------
    >>> facts = {"factory": "my_package:make", "dimension": 81, "summary": "Degree 8"}
    >>> number_in_tag(LocationEncoderSpec(name="mine.l8", **facts), "l")
    8
    """
    found = re.fullmatch(rf".+\.{letter}([1-9][0-9]*)", spec.name)
    if found is None:
        raise PluginError(
            f"The encoder {spec.name!r} has no number in its tag: call it 'family.{letter}8' or "
            "the like, the number is what it is made with."
        )
    return int(found.group(1))


def geometric_scales(smallest: float, largest: float, count: int) -> NDArray[np.float64]:
    """Return scales evenly spaced in their logarithm.

    Parameters
    ----------
    smallest, largest : float
        The ends, positive, both included.
    count : int
        How many, at least 2.

    Returns
    -------
    array of shape (count,), float64
        ``smallest * (largest / smallest) ** (s / (count - 1))`` for s = 0, 1, ...

    Examples
    --------
    >>> geometric_scales(1.0, 100.0, 3).round(9).tolist()
    [1.0, 10.0, 100.0]
    """
    scales: NDArray[np.float64] = smallest * (largest / smallest) ** np.linspace(0.0, 1.0, count)
    return scales
