"""A table in, the table with its embedding out: `embed` for frames."""

from collections.abc import Hashable, Iterable
from functools import partial
from typing import Any, Final

import geopandas as gpd
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from geoembed.coordinates import read_places
from geoembed.encoders import load_encoder
from geoembed.encoders.base import LocationEncoder
from geoembed.encoders.sharing import options_for_workers, shared_encoder
from geoembed.errors import OptionError, TableError
from geoembed.featurizer import encode_places
from geoembed.partitions import is_lazy, map_frames

__all__ = ["VECTOR_COLUMN", "columns_to_replace", "embed"]

# Name of the column that holds whole vectors, in frames and in files.
VECTOR_COLUMN: Final = "embedding"

_LAYOUTS: Final = ("columns", "vector")


def embed(
    frame: pd.DataFrame | gpd.GeoSeries,
    encoder: "str | LocationEncoder" = "geoclip.v1",
    *,
    layout: str = "columns",
    prefix: str | None = None,
    overwrite: bool = False,
    lon: str | None = None,
    lat: str | None = None,
    crs: Any = None,
    geometry: str = "point",
    samples: int = 32,
    on_invalid: str = "raise",
    progress: bool | None = None,
    **options: Any,
) -> pd.DataFrame:
    """Return a table with the embedding of every row added.

    Parameters
    ----------
    frame : GeoDataFrame, GeoSeries or DataFrame
        Places; a DataFrame needs lon/lat columns. It is not changed. A frame of dask or
        dask-geopandas is embedded lazily, partition by partition, where it is computed.
    encoder : str or LocationEncoder
        Registered name, local path, or a loaded encoder.
    layout : {"columns", "vector"}
        One column a value, or one column whose cells are arrays.
    prefix : str, optional
        Start of the new columns' names (``geoclip.v1_000`` without), or with ``layout="vector"``
        the name of the one column (``embedding`` without).
    overwrite : bool
        Replace columns of those names; else they are an error.
    lon, lat : str, optional
        Names of the coordinate columns of a DataFrame, where they are not the usual ones.
    crs : any
        CRS of coordinates that do not carry one; see `geoembed.read_places`.
    geometry, samples
        What stands for a geometry that is not a point, as in `LocationFeaturizer`.
    on_invalid : {"raise", "nan", "drop"}
        What becomes of rows that are missing, empty or not finite: an error that names them,
        rows of NaN, or rows left out.
    progress : bool or None
        Show a progress bar; None shows one on a terminal when the work is long.
    **options
        Of the encoder: ``backend``, ``layers``, ``normalize``, ``precision``, ``dtype``,
        ``device``, ``seam``, ``block_size``; see `geoembed.LocationEncoder`.

    Returns
    -------
    GeoDataFrame or DataFrame
        Of the kind of `frame` (a GeoDataFrame for a GeoSeries), with its index, order, CRS and
        columns, and the embedding after them; of a frame of dask also with its divisions and
        spatial partitions.

    Raises
    ------
    CoordinateError
        If the places cannot be read, or some are invalid and ``on_invalid="raise"``; invalid
        rows of a frame of dask show when it is computed.
    TableError
        If a column of a new name exists and `overwrite` is false, or `frame` is not a table.
    OptionError
        If an option is not one of those offered.
    WorkerError
        If `frame` is one of dask and its cluster cannot do the work: geoembed is missing on a
        worker or is another version, or a partition is too large for one.

    Examples
    --------
    >>> import geoembed as ge, geopandas as gpd
    >>> towns = gpd.GeoDataFrame(
    ...     {"name": ["Berlin"]}, geometry=gpd.points_from_xy([13.4], [52.5]), crs=4326
    ... )
    >>> ge.embed(towns).shape
    (1, 514)
    """
    if layout not in _LAYOUTS:
        raise OptionError(f"layout={layout!r} is not one of: {', '.join(_LAYOUTS)}.")
    if on_invalid not in {"raise", "nan", "drop"}:
        raise OptionError(f"on_invalid={on_invalid!r} is not one of: raise, nan, drop.")
    reading = {"lon": lon, "lat": lat, "crs": crs, "geometry": geometry, "samples": samples}
    if is_lazy(frame):
        # Of all that can be refused, only rows are left for later.
        loaded = load_encoder(encoder, **options)
        work = partial(
            _embed_part,
            encoder=encoder,
            options=options_for_workers(encoder, options, loaded),
            layout=layout,
            prefix=prefix,
            overwrite=overwrite,
            on_invalid=on_invalid,
            reading=reading,
        )
        empty = _embed(frame._meta, loaded, layout, prefix, overwrite, on_invalid, False, reading)
        width = loaded.dimension * np.dtype(loaded.dtype).itemsize
        lazily: pd.DataFrame = map_frames(
            frame, work, meta=empty, bytes_a_row=width, name="geoembed-embed"
        )
        return lazily
    loaded = load_encoder(encoder, **options)
    return _embed(frame, loaded, layout, prefix, overwrite, on_invalid, progress, reading)


def _embed_part(
    part: Any, *, encoder: Any, options: dict[str, Any], reading: dict[str, Any], **how: Any
) -> pd.DataFrame:
    loaded = shared_encoder(encoder, **options)
    return _embed(part, loaded, progress=False, reading=reading, **how)


def _embed(
    frame: Any,
    encoder: LocationEncoder,
    layout: str,
    prefix: str | None,
    overwrite: bool,
    on_invalid: str,
    progress: bool | None,
    reading: dict[str, Any],
) -> pd.DataFrame:
    if isinstance(frame, gpd.GeoSeries):
        frame = frame.to_frame("geometry" if frame.name is None else frame.name)
    if not isinstance(frame, pd.DataFrame):
        raise TableError(
            f"embed() takes a GeoDataFrame, a GeoSeries or a DataFrame, got "
            f"{type(frame).__name__}. For arrays use geoembed.encode(lon=..., lat=...)."
        )
    if layout == "vector":
        names = [VECTOR_COLUMN if prefix is None else prefix]
    else:
        names = encoder.feature_names(prefix)
    kept = _without(frame, names, overwrite)
    places = read_places(frame, on_invalid="raise" if on_invalid == "raise" else "nan", **reading)
    vectors = encode_places(encoder, places, progress=progress)
    if on_invalid == "drop" and not places.valid.all():
        kept, vectors = kept[places.valid], vectors[places.valid]
    return _join(kept, vectors, names, layout)


def columns_to_replace(
    taken: Iterable[Hashable],
    names: Iterable[str],
    *,
    overwrite: bool,
    otherwise: str = "another prefix=",
) -> list[str]:
    """Return the new columns' names that a table has already; raise TableError unless told to.

    Parameters
    ----------
    taken : iterable of hashable
        Columns of the table.
    names : iterable of str
        Columns to add.
    overwrite : bool
        Whether they may be replaced.
    otherwise : str
        What else helps, for the message.

    Returns
    -------
    list of str
        Those of `names` that are taken, in order.

    Raises
    ------
    TableError
        If there are any and `overwrite` is false; the message names the first three.

    Examples
    --------
    >>> columns_to_replace(["name", "embedding"], ["embedding"], overwrite=True)
    ['embedding']
    """
    columns = set(taken)
    there = [name for name in names if name in columns]
    if there and not overwrite:
        more = f" and {len(there) - 3} more" if len(there) > 3 else ""
        raise TableError(
            f"The table already has the column{'s' * (len(there) > 1)} "
            f"{', '.join(map(repr, there[:3]))}{more}. Pass overwrite=True to replace, "
            f"or {otherwise}."
        )
    return there


def _without(frame: pd.DataFrame, names: list[str], overwrite: bool) -> pd.DataFrame:
    there = columns_to_replace(frame.columns, names, overwrite=overwrite)
    if not there:
        return frame
    if isinstance(frame, gpd.GeoDataFrame) and frame._geometry_column_name in there:
        raise TableError(
            f"The embedding cannot replace the geometry column {there[0]!r}. Pass another prefix=."
        )
    return frame.drop(columns=there)


def _join(
    frame: pd.DataFrame, vectors: NDArray[np.floating[Any]], names: list[str], layout: str
) -> pd.DataFrame:
    """Put vectors beside a frame of the same rows; index, CRS and attributes are the frame's."""
    if layout == "vector":
        cells = np.empty(len(vectors), dtype=object)
        cells[:] = list(vectors)
        added = pd.DataFrame({names[0]: cells}, index=frame.index)
    else:
        added = pd.DataFrame(vectors, index=frame.index, columns=names, copy=False)
    joined = pd.concat([frame, added], axis=1)
    joined.attrs = dict(frame.attrs)
    return joined
