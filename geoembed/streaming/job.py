"""`embed_file`: from a table file to a table file with the embedding of every row."""

import time
from contextlib import closing
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geoembed.encoders import load_encoder
from geoembed.streaming.request import Request, as_path
from geoembed.streaming.run import Run
from geoembed.streaming.sources import Source, open_source

if TYPE_CHECKING:
    from geoembed.encoders.base import LocationEncoder

__all__ = ["EmbedReport", "embed_file"]


@dataclass(frozen=True)
class EmbedReport:
    """What `embed_file` did.

    Parameters
    ----------
    target : Path
        The file that was written.
    encoder : str
        Name of the encoder.
    rows : int
        Rows in it.
    dropped : int
        Rows of the source that are not in it, having no place.
    resumed : int
        Rows of the source that an earlier run had done.
    dimension : int
        Length of a vector.
    seconds : float
        Time spent on reading, encoding and writing.
    """

    target: Path
    encoder: str
    rows: int
    dropped: int
    resumed: int
    dimension: int
    seconds: float

    @property
    def rows_per_second(self) -> float:
        """Rows of the source done a second, in this run."""
        return (self.rows + self.dropped - self.resumed) / max(self.seconds, 1e-9)


def embed_file(
    source: "str | PathLike[str]",
    target: "str | PathLike[str]",
    *,
    encoder: "str | LocationEncoder" = "geoclip.v1",
    layout: str | None = None,
    prefix: str | None = None,
    overwrite: bool = False,
    force: bool = False,
    resume: bool = False,
    lon: str | None = None,
    lat: str | None = None,
    crs: Any = None,
    layer: str | None = None,
    geometry: str = "point",
    samples: int = 32,
    on_invalid: str = "raise",
    batch_rows: int | None = None,
    progress: bool | None = None,
    **options: Any,
) -> EmbedReport:
    """Embed the places in a table file and write a table file, in bounded memory.

    The target appears under its name when it is whole. Until then it grows in the folder
    ``NAME.part`` beside it. A run that was stopped leaves that folder, and ``resume=True`` goes
    on from there.

    Parameters
    ----------
    source : str or path
        GeoPackage, GeoJSON, FlatGeobuf, shapefile (also zipped), GeoParquet; or Parquet or CSV
        with coordinate columns. The suffix says which. ``~`` is the home folder.
    target : str or path
        ``.parquet`` or ``.geoparquet``: GeoParquet 1.1 with all columns of the source, and for
        sources without geometries points in OGC:CRS84. ``.csv``: the same as text, with columns
        ``lon`` and ``lat`` (degrees, WGS 84, the place encoded) instead of a geometry, or
        well-known text with ``geometry="sample"``. ``.npy``: only the vectors, an array of shape
        (rows, dimension). If it is a symbolic link, what that points to is written.
    encoder : str or LocationEncoder
        Registered name, local path, or a loaded encoder.
    layout : {"vector", "columns"}, optional
        One column of whole vectors (an Arrow fixed-size list; the default for Parquet), or one
        column a value (the only way for CSV).
    prefix : str, optional
        As in `geoembed.embed`: name of the vector column, or start of the columns' names.
    overwrite : bool
        Replace columns of the source that have the name of a new one; else they are an error.
    force : bool
        Replace the target if it exists, and throw an unfinished run away.
    resume : bool
        Go on with an unfinished run, if there is one.
    lon, lat : str, optional
        Names of the coordinate columns, where they are not the usual ones, or are to be read
        instead of geometries.
    crs : any
        CRS of coordinates that do not carry one; see `geoembed.read_places`.
    layer : str, optional
        Layer of a GeoPackage that has several.
    geometry, samples
        What stands for a geometry that is not a point, as in `geoembed.LocationFeaturizer`.
    on_invalid : {"raise", "nan", "drop"}
        What becomes of rows without a place: an error that names them, vectors of NaN (empty
        cells in CSV), or rows left out. Rows are counted from 0 through the whole file.
    batch_rows : int, optional
        Rows at a time; by default as many as make 64 MB of vectors. Equal places are computed
        once within a batch. A batch becomes a row group.
    progress : bool or None
        Show a progress bar; None shows one on a terminal when the work is long.
    **options
        Of the encoder: ``backend``, ``layers``, ``normalize``, ``precision``, ``dtype``,
        ``device``, ``seam``, ``block_size``; see `geoembed.LocationEncoder`.

    Returns
    -------
    EmbedReport
        Rows written and dropped, dimension, seconds.

    Raises
    ------
    TableError
        If the source is missing, empty, damaged or of no known kind; if a column or layer is
        missing, or a column of a new name exists and `overwrite` is false; if the target exists
        and `force` is false, is the source, or cannot be written (rows done until then are
        kept); if an unfinished run lies there and neither `resume` nor `force` is given, or was
        asked for something else than this one.
    CoordinateError
        If places cannot be read, have no CRS, or are invalid with ``on_invalid="raise"``.
    OptionError
        If an option is not one of those offered.

    Notes
    -----
    A Parquet file carries under the metadata key ``geoembed`` which encoder, options, weights
    (SHA-256) and version made it.

    From CSV to CSV every cell stays as it is spelled. From CSV to Parquet a column becomes int64
    or float64 only if no digit of any cell is lost or added by it: ``01234``, ``+49``, ``1.10``,
    ``2.50``, ``.5``, ``1e5``, or more digits than the type keeps, make their column stay text.
    Whole numbers may stand among decimals (``13`` becomes 13.0), exponents only where Python
    writes them (``1e-07``). Coordinates become numbers however they are spelled. A column of
    ``true`` and ``false`` (also ``True``, ``TRUE``) becomes bool; in columns of these types empty
    cells, ``NA``, ``N/A``, ``NaN``, ``nan``, ``null``, ``NULL`` and ``None`` are missing values.

    While it is made, a Parquet file takes its size twice on the disk: the finished batches, and
    in the end the file that is put together from them. GDAL's reader of GeoJSON keeps about 50
    bytes a row in memory by itself; all else is independent of the number of rows.

    Examples
    --------
    >>> import geopandas as gpd, geoembed as ge
    >>> towns = gpd.GeoDataFrame(
    ...     {"name": ["Berlin"]}, geometry=gpd.points_from_xy([13.4], [52.5]), crs=4326
    ... )
    >>> towns.to_file("towns.gpkg")
    >>> report = ge.embed_file("towns.gpkg", "towns.parquet")
    >>> report.rows, report.dimension
    (1, 512)
    >>> gpd.read_parquet("towns.parquet").columns.tolist()
    ['name', 'geometry', 'embedding']
    """
    request = Request(
        source=as_path(source, "source"),
        target=as_path(target, "target"),
        layout=layout,
        prefix=prefix,
        overwrite=overwrite,
        force=force,
        resume=resume,
        lon=lon,
        lat=lat,
        crs=crs,
        layer=layer,
        geometry=geometry,
        samples=samples,
        on_invalid=on_invalid,
        batch_rows=batch_rows,
    )
    request.check()
    loaded = load_encoder(encoder, **options)
    started = time.perf_counter()
    with closing(_open(request)) as opened:
        run = Run(request, loaded, opened)
        run.go(progress)
    return EmbedReport(
        target=request.target,
        encoder=loaded.name,
        rows=run.rows,
        dropped=run.rows_read - run.rows,
        resumed=run.resumed,
        dimension=loaded.dimension,
        seconds=time.perf_counter() - started,
    )


def _open(request: Request) -> Source:
    return open_source(
        request.source,
        layer=request.layer,
        lon=request.lon,
        lat=request.lat,
        crs=request.crs,
        places_only=request.kind == "npy",
        typed=request.kind == "parquet",
    )
