"""What a location network is made of: projection, encoding, scales, widths."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from geoembed.encoders.network import LocationNetwork
from geoembed.encoders.projections import PROJECTIONS, project
from geoembed.errors import OptionError
from geoembed.scalars import check_count

__all__ = ["ENCODINGS", "LocationArchitecture"]

ENCODINGS: Final = ("rff", "none")


@dataclass(frozen=True, kw_only=True)
class LocationArchitecture:
    """Everything that makes a location network but its weights.

    Parameters
    ----------
    projection : {"equal-earth", "plate-carree", "sphere"}
        How a place becomes the numbers that the first step takes, see
        `geoembed.encoders.projections.project`.
    encoding : {"rff", "none"}
        Random Fourier features, or the projected numbers as they are.
    sigmas : tuple of float
        Standard deviation of each scale's frequencies, coarse to fine; one capsule each. With
        ``encoding="none"`` only their number counts.
    frequencies : int
        Rows of a scale's frequency matrix.
    hidden : tuple of int
        Widths of the hidden layers of a capsule.
    output : int
        Length of a vector.

    Raises
    ------
    OptionError
        If a value is not one of those offered.

    Examples
    --------
    >>> published = LocationArchitecture()
    >>> published.project(np.array([[180.0, 0.0]])).round(3).tolist()
    [[1.0, 0.0]]
    >>> published.build().shape.scales
    3
    """

    projection: str = "equal-earth"
    encoding: str = "rff"
    sigmas: tuple[float, ...] = (1.0, 16.0, 256.0)
    frequencies: int = 256
    hidden: tuple[int, ...] = (1024, 1024, 1024)
    output: int = 512

    def __post_init__(self) -> None:
        for name, choices in (("projection", PROJECTIONS), ("encoding", ENCODINGS)):
            if getattr(self, name) not in choices:
                raise OptionError(
                    f"{name}={getattr(self, name)!r} is not one of: {', '.join(choices)}."
                )
        for name, least in (("frequencies", 1), ("output", 1)):
            check_count(name, getattr(self, name), least)
        for name in ("sigmas", "hidden"):
            values = tuple(getattr(self, name))
            object.__setattr__(self, name, values)
            if not values or any(not value > 0 for value in values):
                raise OptionError(f"{name}={values!r}: give one or more numbers above 0.")

    @property
    def axes(self) -> int:
        """How many numbers the projection gives for a place."""
        return 3 if self.projection == "sphere" else 2

    def project(self, lonlat: NDArray[np.float64]) -> NDArray[np.float64]:
        """Project places to what the network takes.

        Parameters
        ----------
        lonlat : array of shape (n, 2), float64
            Degrees, WGS 84.

        Returns
        -------
        array of shape (n, axes), float64
            One unit is about 20,000 km in each projection.
        """
        return project(lonlat, self.projection)

    def build(self) -> LocationNetwork:
        """Return a network with new weights, drawn from torch's generator."""
        return LocationNetwork(
            self.sigmas,
            frequencies=self.frequencies,
            hidden=self.hidden,
            output=self.output,
            axes=self.axes,
            encoding=self.encoding,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON holds them."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "LocationArchitecture":
        """Read what `to_dict` wrote.

        Parameters
        ----------
        values : mapping
            Every field of the class, and no other.

        Returns
        -------
        LocationArchitecture
            With these values.

        Raises
        ------
        OptionError
            If a field is missing, unknown, or has another value than those offered.
        """
        known = {field.name for field in fields(cls)}
        if set(values) != known:
            differ = ", ".join(sorted(known ^ set(values)))
            raise OptionError(f"The description of a location network has or lacks: {differ}.")
        read: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in values.items()
        }
        return cls(**read)
