"""Read a table file piece by piece as GeoDataFrames, and who made its embeddings."""

import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from os import PathLike
from typing import Any

import geopandas as gpd
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from geoembed.errors import TableError
from geoembed.streaming.geoparquet import CRS84, GEOMETRY_COLUMN, GeoColumn, encode_points
from geoembed.streaming.request import as_path, check_batch_rows
from geoembed.streaming.run import cut
from geoembed.streaming.sources import Source, open_source

__all__ = ["made_by", "read_frames", "to_frame"]

_ROWS = 16_384


def read_frames(
    source: "str | PathLike[str]",
    *,
    lon: str | None = None,
    lat: str | None = None,
    crs: Any = None,
    layer: str | None = None,
    batch_rows: int = _ROWS,
) -> Iterator[gpd.GeoDataFrame]:
    """Read a table file as a stream of GeoDataFrames, in bounded memory.

    Parameters
    ----------
    source : str or path
        Any file that `embed_file` reads, or has written (but ``.npy``).
    lon, lat : str, optional
        Names of the coordinate columns, where they are not the usual ones.
    crs : any
        CRS of coordinates that do not carry one; see `geoembed.read_places`.
    layer : str, optional
        Layer of a GeoPackage that has several.
    batch_rows : int
        Rows of a frame; the last has what is left.

    Yields
    ------
    GeoDataFrame
        The rows in order, labelled from 0 through the whole file. Rows of files with coordinate
        columns get points on WGS 84, none where a coordinate is missing.

    Raises
    ------
    TableError
        If the file is missing, empty, damaged or of no known kind.
    CoordinateError
        If places cannot be read from it.
    OptionError
        If `batch_rows` is not a positive number.

    Examples
    --------
    >>> import geoembed as ge
    >>> from geoembed.streaming import read_frames
    >>> ge.data.load_cities()[["name", "geometry"]].head(250).to_parquet("cities.parquet")
    >>> [len(frame) for frame in read_frames("cities.parquet", batch_rows=100)]
    [100, 100, 50]
    """
    check_batch_rows(batch_rows)
    path = as_path(source, "source")
    with closing(open_source(path, layer=layer, lon=lon, lat=lat, crs=crs)) as opened:
        first = 0
        for table in cut(opened.tables(), batch_rows):
            yield to_frame(opened, table, first, crs)
            first += len(table)


def to_frame(source: Source, table: pa.Table, first: int, crs: Any) -> gpd.GeoDataFrame:
    """Make a GeoDataFrame of some rows of a source, its geometry last.

    Parameters
    ----------
    source : Source
        Settled.
    table : pyarrow.Table
        Some of its rows, with the columns of the places.
    first : int
        Position of the first of them; labels count from there.
    crs : any
        CRS of coordinates that do not carry one.

    Returns
    -------
    GeoDataFrame
        Points on WGS 84 of tables with coordinate columns, in a column that is called otherwise
        if there is one named ``geometry``.

    Raises
    ------
    TableError, CoordinateError
        If the places cannot be read; rows are named.
    """
    index = pd.RangeIndex(first, first + len(table))
    geometries = {geometry.name for geometry in source.geometries}
    rest = table.select([name for name in table.column_names if name not in geometries])
    frame = rest.to_pandas(ignore_metadata=True).set_axis(index)
    column = GeoColumn(GEOMETRY_COLUMN, CRS84)
    if source.lonlat is None:
        column = source.geometries[0]
        geoms = source.read_geometries(table, first)
    else:
        places, _ = source.read_places(table, first, crs=crs, on_invalid="nan")
        _, geoms = encode_points(places.lonlat)
        while column.name in frame:
            column = replace(column, name=f"{column.name}_")
    name = column.name
    frame[name] = gpd.GeoSeries(geoms, index=index, crs=column.crs)
    return gpd.GeoDataFrame(frame, geometry=name)


def made_by(source: "str | PathLike[str]") -> dict[str, Any] | None:
    """Tell which encoder made the embeddings in a file.

    Parameters
    ----------
    source : str or path
        A table file.

    Returns
    -------
    dict or None
        ``encoder``, ``weights_sha256``, ``options``, ``dimension``, ``version`` and more, as
        `embed_file` has written them into a Parquet file; None for all others.

    Raises
    ------
    TableError
        If the file cannot be read.

    Examples
    --------
    >>> import geoembed as ge
    >>> from geoembed.streaming import embed_file, made_by
    >>> ge.data.load_cities()[["name", "geometry"]].head(10).to_parquet("ten.parquet")
    >>> _ = embed_file("ten.parquet", "vectors.parquet", normalize=True)
    >>> made_by("vectors.parquet")["options"]["normalize"]
    True
    """
    path = as_path(source, "source")
    if path.suffix.lower() not in {".parquet", ".geoparquet", ".pq"}:
        return None
    try:
        text = (pq.read_metadata(path).metadata or {}).get(b"geoembed")
        return None if text is None else dict(json.loads(text))
    except (pa.ArrowException, OSError, ValueError) as error:
        raise TableError(f"{path} is no readable Parquet file: {error}") from error
