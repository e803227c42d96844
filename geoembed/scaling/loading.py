"""A table read into memory: a file, or a folder of Parquet files; only the columns needed."""

import hashlib
from collections.abc import Sequence
from contextlib import closing
from os import PathLike
from pathlib import Path
from typing import Any

import geopandas as gpd
import pyarrow as pa

from geoembed.errors import TableError, unknown_name
from geoembed.scaling.folder_source import open_table
from geoembed.scaling.listing import is_several, list_files, locate
from geoembed.streaming.frames import to_frame
from geoembed.streaming.request import as_path
from geoembed.streaming.sources import Source
from geoembed.streaming.workspace import fingerprint

__all__ = ["describe_table", "load_table", "table_name"]


def load_table(
    source: "str | PathLike[str]",
    columns: Sequence[str] | None = None,
    *,
    lon: str | None = None,
    lat: str | None = None,
    crs: Any = None,
    layer: str | None = None,
) -> gpd.GeoDataFrame:
    """Read a table into memory, without what is not needed of it.

    Parameters
    ----------
    source : str or path
        Any file that `geoembed.embed_file` reads; or a folder of Parquet files or a pattern, see
        `geoembed.scaling.folder_source.open_table`.
    columns : sequence of str, optional
        Those to read beside the places. None reads all whose cells hold one value, but no lists,
        such as the vectors that `geoembed embed` writes.
    lon, lat : str, optional
        Names of the coordinate columns, where they are not the usual ones.
    crs : any
        CRS of coordinates that do not carry one; see `geoembed.read_places`.
    layer : str, optional
        Layer of a GeoPackage that has several.

    Returns
    -------
    GeoDataFrame
        The columns and, last, the geometry; rows in order, labelled from 0 through all files.
        Rows of tables with coordinate columns get points on WGS 84, none where one is missing.

    Raises
    ------
    TableError
        If the table or a column of it is missing, empty or damaged, or files of a folder are not
        of one table.
    CoordinateError
        If places cannot be read from it.

    Examples
    --------
    >>> import geoembed as ge
    >>> ge.data.load_cities().head(5).to_parquet("five.parquet")
    >>> load_table("five.parquet", ["name"]).columns.tolist()
    ['name', 'geometry']
    """
    path = as_path(source, "source")
    with closing(open_table(path, layer=layer, lon=lon, lat=lat, crs=crs)) as opened:
        wanted = _wanted(opened, columns)
        places = list(opened.lonlat or [opened.geometries[0].name])
        opened.select(list(dict.fromkeys([*wanted, *places])))
        tables = list(opened.tables()) or [opened.schema.empty_table()]
        frame = to_frame(opened, pa.concat_tables(tables), 0, crs)
        return frame[[*wanted, frame.active_geometry_name]]


def table_name(source: Path) -> str:
    """Return what a table is called: the name of its file or folder, a pattern from its folder on.

    Examples
    --------
    >>> table_name(Path("data/plots.csv")), table_name(Path("data/places/year=*/*.parquet"))
    ('plots.csv', 'places/year=*/*.parquet')
    """
    if not is_several(source):
        return source.name
    if source.is_dir():
        return source.name or source.resolve().name
    parts = source.parts
    first = next(at for at, part in enumerate(parts) if set(part) & set("*?["))
    return "/".join(parts[max(0, first - 1) :]).lstrip("/")


def describe_table(source: Path) -> dict[str, Any]:
    """Describe a table so that another shows: its name, size, and SHA-256 of its files' ends.

    Parameters
    ----------
    source : Path
        A file, a folder or a pattern.

    Returns
    -------
    dict
        ``table``, ``size`` and ``sha256_of_ends``; of several files also ``files``, and then the
        digest is one of theirs and their partition values.
    """
    name = {"table": table_name(source)}
    if not is_several(source):
        facts = fingerprint(source)
        return {**name, **{k: v for k, v in facts.items() if k != "modified_ns"}}
    digest = hashlib.sha256()
    files = list_files([source], only_parquet=True)
    for file in files:
        ends = fingerprint(Path(locate(file.url)[1]))["sha256_of_ends"]
        digest.update(f"{file.hive} {ends}\n".encode())
    return {
        **name,
        "files": len(files),
        "size": sum(file.size for file in files),
        "sha256_of_ends": digest.hexdigest(),
    }


def _wanted(source: Source, columns: Sequence[str] | None) -> list[str]:
    geometries = {column.name for column in source.geometries}
    offered = [field for field in source.schema if field.name not in geometries]
    if columns is None:
        return [field.name for field in offered if not pa.types.is_nested(field.type)]
    names = [field.name for field in offered]
    for name in columns:
        if name not in names:
            told = f"column in {table_name(source.path)}"
            raise TableError(str(unknown_name(told, name, names)))
    return list(columns)
