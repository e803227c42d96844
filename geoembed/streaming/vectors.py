"""Vectors as Arrow columns, and what is written down about who made them."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from geoembed import __version__

if TYPE_CHECKING:
    from geoembed.encoders.base import LocationEncoder

__all__ = ["BATCH_BYTES", "provenance", "usual_rows", "vector_columns", "vector_fields"]

# Of vectors, or of the source's columns, in a batch.
BATCH_BYTES: Final = 64 << 20
_FEWEST_ROWS, _MOST_ROWS = 1024, 65_536


def vector_fields(names: Sequence[str], layout: str, dimension: int, dtype: str) -> list[pa.Field]:
    """Describe the columns of an embedding.

    Parameters
    ----------
    names : sequence of str
        Of the columns; one with ``layout="vector"``.
    layout : {"vector", "columns"}
        One column of fixed-size lists, or one column a value.
    dimension : int
        Length of a vector.
    dtype : str
        Of a value.

    Returns
    -------
    list of pyarrow.Field
        None of them nullable: rows without a place have vectors of NaN.

    Examples
    --------
    >>> vector_fields(["embedding"], "vector", 2, "float32")[0].type
    FixedSizeListType(fixed_size_list<element: float not null>[2])
    """
    value = pa.from_numpy_dtype(dtype)
    kind = value
    if layout == "vector":
        kind = pa.list_(pa.field("element", value, nullable=False), dimension)
    return [pa.field(name, kind, nullable=False) for name in names]


def vector_columns(
    vectors: NDArray[np.floating[Any]], fields: Sequence[pa.Field], layout: str
) -> list[pa.Array]:
    """Make the columns that `vector_fields` describes of vectors (n, d) in C order."""
    if layout == "columns":
        return [pa.array(column) for column in vectors.T]
    return [pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), type=fields[0].type)]


def usual_rows(encoder: "LocationEncoder", batch_bytes: int = BATCH_BYTES) -> int:
    """Return how many rows a batch has where nobody says: as many as make that many bytes."""
    width = encoder.dimension * np.dtype(encoder.dtype).itemsize
    return min(max(batch_bytes // width, _FEWEST_ROWS), _MOST_ROWS)


def provenance(
    encoder: "LocationEncoder", *, layout: str, names: Sequence[str], geometry: str, samples: int
) -> dict[str, Any]:
    """Return what is written beside vectors about who made them, under the key ``geoembed``.

    Parameters
    ----------
    encoder : LocationEncoder
        What made them.
    layout : {"vector", "columns"}
        How they are written.
    names : sequence of str
        Columns of the embedding.
    geometry, samples
        What stood for a geometry.

    Returns
    -------
    dict
        Fit for JSON.
    """
    return {
        "version": __version__,
        "encoder": encoder.name,
        "weights_sha256": encoder.weights_sha256,
        "options": encoder.options(),
        "dimension": encoder.dimension,
        "layout": layout,
        "columns": [names[0], names[-1]],
        "geometry": geometry,
        "samples": samples if geometry == "sample" else None,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
