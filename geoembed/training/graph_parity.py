"""Whether an exported graph gives the vectors of the encoder that it was made of."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from geoembed.encoders.base import LocationEncoder
from geoembed.errors import TrainingError
from geoembed.geodesy import wrap_longitude

__all__ = ["Parity", "Run", "check_parity", "parity_places"]

# Worst relative error of a row. Two float32 networks that sum in another order differ by 1e-6.
_TOLERANCE: Final = {"float32": 1e-5, "float64": 1e-12}

_Rows = NDArray[np.float64]

# Longitudes and latitudes (n,) to vectors (n, d).
Run = Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[Any]]


@dataclass(frozen=True)
class Parity:
    """How near the vectors of a graph are to those of its encoder.

    Parameters
    ----------
    places : int
        How many were compared.
    worst : float
        Largest length of a difference over the length of the vector.
    cosine : float
        Mean cosine similarity of vectors.
    """

    places: int
    worst: float
    cosine: float


def parity_places(count: int = 2000) -> NDArray[np.float64]:
    """Return the places at which graphs are compared: all latitudes alike, and every edge.

    Parameters
    ----------
    count : int
        How many, at least 16.

    Returns
    -------
    array of shape (count, 2), float64
        Degrees, WGS 84; some longitudes are of another turn.

    Examples
    --------
    >>> parity_places(100)[:2].tolist()
    [[0.0, 90.0], [0.0, -90.0]]
    """
    edges = np.array(
        [(x, y) for x in (0.0, 180.0, -180.0, 540.0, -540.0) for y in (90.0, -90.0, 0.0)]
    )
    random = np.random.default_rng(20260)
    free = random.uniform([-360.0, -90.0], [360.0, 90.0], (count - len(edges), 2))
    return np.concatenate([edges, free])


def check_parity(
    encoder: LocationEncoder,
    run: Run,
    what: str,
    *,
    count: int = 2000,
    tolerance: float | None = None,
    least_cosine: float | None = None,
) -> Parity:
    """Compare a graph with its encoder, in batches of several sizes, one place among them.

    Whole vectors are compared, and every part of them (`LocationEncoder.parts`): a short part that
    is wrong is lost in a long vector, and a file gives any of its parts alone.

    Parameters
    ----------
    encoder : LocationEncoder
        What it was made of.
    run : callable
        The graph: longitudes and latitudes (n,), float64, to vectors (n, d).
    what : str
        What it is called in messages.
    count : int
        Number of places.
    tolerance : float, optional
        Largest relative error of a row, and of a part of it: of the part's length at the place, or
        of its root mean square over all places where that is more, as values that cancel are not
        nearer than their summands. Default: 1e-5, or 1e-12 for float64.
    least_cosine : float, optional
        Smallest mean cosine similarity of vectors and of parts, which then decides alone.

    Returns
    -------
    Parity
        What was found.

    Raises
    ------
    TrainingError
        If vectors differ by more than that, or are of another shape.

    Examples
    --------
    >>> from geoembed.encoders import load_encoder
    >>> encoder = load_encoder("geoclip.v1", device="cpu")
    >>> check_parity(encoder, encoder.encode, "itself", count=20).worst < 1e-5
    True
    """
    lonlat = parity_places(count)
    # Not `encode`, whose `dtype` may round.
    wrapped = np.column_stack([wrap_longitude(lonlat[:, 0]), lonlat[:, 1]])
    expected = encoder.finish(encoder.values(wrapped)).astype(np.float64)
    blocks = np.split(lonlat, [1, 8])
    found = np.concatenate([np.asarray(run(*_columns(block)), np.float64) for block in blocks])
    if found.shape != expected.shape:
        raise TrainingError(f"{what} gives {found.shape}, the encoder {expected.shape}.")
    whole = _Compared.of(found, expected)
    allowed = _TOLERANCE[encoder.precision] if tolerance is None else tolerance
    for part, columns in {"": slice(None), **_parts(encoder)}.items():
        one = _Compared.of(found[:, columns], expected[:, columns], of_part=bool(part))
        of = f" of {part}" if part else ""
        if least_cosine is not None and not one.cosine >= least_cosine:
            raise TrainingError(
                f"{what} is not the encoder: over {count:,} places the mean cosine similarity{of} "
                f"is {one.cosine:.6f}, expected at least {least_cosine}. It was removed."
            )
        if least_cosine is None and not one.worst <= allowed:
            lon, lat = lonlat[one.worst_row]
            raise TrainingError(
                f"{what} is not the encoder: at lon {lon:.3f}, lat {lat:.3f} its vector{of} is off "
                f"by {one.worst:.1e} of its length, allowed is {allowed:.0e}. It was removed."
            )
    return Parity(count, whole.worst, whole.cosine)


class _Compared(NamedTuple):
    """The worst error of a row, which row that is, and the mean cosine similarity."""

    worst: float
    worst_row: int
    cosine: float

    @classmethod
    def of(cls, found: _Rows, expected: _Rows, *, of_part: bool = False) -> Self:
        ours, theirs = np.linalg.norm(found, axis=1), np.linalg.norm(expected, axis=1)
        apart = np.linalg.norm(found - expected, axis=1)
        lengths = np.maximum(theirs, np.sqrt(np.mean(theirs**2))) if of_part else theirs
        # Hidden layers may give nothing at a place, or at all.
        errors = apart / np.where(lengths > 0.0, lengths, 1.0)
        both = ours * theirs
        cosines = (found * expected).sum(axis=1) / np.where(both == 0.0, 1.0, both)
        cosines = np.where((ours == 0.0) & (theirs == 0.0), 1.0, cosines)
        row = int(np.argmax(np.where(np.isnan(errors), np.inf, errors)))
        return cls(float(errors[row]), row, float(cosines.mean()))


def _parts(encoder: LocationEncoder) -> dict[str, slice]:
    """Columns of every part of a vector, by its label; none where it has one part."""
    ends = np.cumsum([width for _, width in encoder.parts])
    if len(ends) < 2:
        return {}
    return {
        label: slice(int(end) - width, int(end))
        for (label, width), end in zip(encoder.parts, ends, strict=True)
    }


def _columns(lonlat: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return np.ascontiguousarray(lonlat[:, 0]), np.ascontiguousarray(lonlat[:, 1])
