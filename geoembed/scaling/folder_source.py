"""A folder of Parquet files, or a pattern of them, as one table that is read front to back."""

import re
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote

import pyarrow as pa

from geoembed.errors import OptionError
from geoembed.scaling.listing import SourceFile, is_several, list_files, locate, open_parquet
from geoembed.streaming.geoparquet import read_geo_columns
from geoembed.streaming.parquet_source import ParquetSource
from geoembed.streaming.sources import Source, check_names, open_source

__all__ = ["FolderSource", "open_table"]

# As Hive, Spark and pyarrow name the folder of rows without a value.
_NO_VALUE: Final = "__HIVE_DEFAULT_PARTITION__"
# As in CSV files: whole numbers that come back as they are spelled. 01 stays text.
_INTEGER: Final = re.compile(r"0|-?[1-9][0-9]{0,17}")
# Facts of one file, which are not those of the others.
_OF_ONE_FILE: Final = ("bbox", "geometry_types")


class FolderSource(Source):
    """Parquet files of one table, read one after the other.

    Columns that the names of folders give (``country=KE``) stand last, as whole numbers where all
    values are such, else as text. Where the files have a column of that name too, theirs is taken,
    which has a type.

    Parameters
    ----------
    path : Path
        The folder or pattern, for messages.
    files : sequence of SourceFile
        From `geoembed.scaling.listing.list_files`, in the order of the rows.
    """

    def __init__(self, path: Path, files: Sequence[SourceFile]) -> None:
        self.path = path
        self._files = list(files)
        schema = _open_to_nulls([file.schema for file in files])
        check_names(Path(files[0].url), schema.names)
        self._given = _given(self._files, schema.names)
        for name, values in self._given.items():
            schema = schema.append(pa.field(name, values.type))
        self.schema = schema
        self.geometries = [
            replace(
                column,
                facts={k: v for k, v in (column.facts or {}).items() if k not in _OF_ONE_FILE},
            )
            for column in read_geo_columns(schema, files[0].url)
        ]
        self.rows = sum(sum(file.groups) for file in files)

    def files(self) -> list[Path]:
        """Return the files that the table is in."""
        return [Path(locate(file.url)[1]) for file in self._files]

    def select(self, columns: list[str]) -> None:
        """Read only these columns."""
        self.schema = pa.schema([self.schema.field(name) for name in columns])

    def tables(self) -> Iterator[pa.Table]:
        """Read the rows, file by file; all tables have the columns of the first file's order."""
        own = [name for name in self.schema.names if name not in self._given]
        for at, file in enumerate(self._files):
            system, path = locate(file.url)
            with closing(ParquetSource(Path(path), open_parquet(system, path))) as source:
                source.select(own)
                for table in source.tables():
                    columns = [
                        pa.repeat(self._given[name][at], len(table))
                        if name in self._given
                        else table.column(name)
                        for name in self.schema.names
                    ]
                    yield pa.table(columns, schema=self.schema)


def open_table(
    path: Path,
    *,
    layer: str | None = None,
    lon: str | None = None,
    lat: str | None = None,
    crs: Any = None,
    typed: bool = True,
) -> Source:
    """Open a table for reading: a file; or a folder of Parquet files, or a pattern of them.

    Parameters
    ----------
    path : Path
        A file as `geoembed.streaming.sources.open_source` takes it. A folder with all folders in
        it, but those and the files whose names begin with a dot or an underscore; or a pattern
        with ``*``, ``**`` and ``?``. Rows are in the order of the files' names.
    layer, lon, lat, crs, typed
        As there.

    Returns
    -------
    Source

    Raises
    ------
    TableError
        If there is nothing to read, a file is damaged, files have different columns or CRS, or
        there are tables of other kinds beside the Parquet files.
    CoordinateError
        If places cannot be read from it, or their CRS is unknown.
    OptionError
        If a layer of Parquet files is asked for.

    Examples
    --------
    >>> import geoembed as ge
    >>> cities = ge.data.load_cities()[["name", "geometry"]].head(9)
    >>> for country in ("FR", "KE"):
    ...     Path(f"places/country={country}").mkdir(parents=True)
    ...     cities.to_parquet(f"places/country={country}/data.parquet")
    >>> table = open_table(Path("places"))
    >>> table.rows, table.schema.names
    (18, ['name', 'geometry', 'country'])
    """
    if not is_several(path):
        return open_source(path, layer=layer, lon=lon, lat=lat, crs=crs, typed=typed)
    if layer is not None:
        raise OptionError(f"layer={layer!r}: Parquet files have no layers.")
    source = FolderSource(path, list_files([path], only_parquet=True))
    source.settle(lon, lat, crs)
    return source


def _open_to_nulls(schemas: Sequence[pa.Schema]) -> pa.Schema:
    """Return the first of several schemas; a column may have gaps if it may in any of them."""
    nullable = {field.name for schema in schemas for field in schema if field.nullable}
    fields = [field.with_nullable(field.name in nullable) for field in schemas[0]]
    return pa.schema(fields, metadata=schemas[0].metadata)


def _given(files: Sequence[SourceFile], taken: Sequence[str]) -> dict[str, pa.Array]:
    """Return the columns that folders give: of each, its value in every file."""
    keys = [key for key in dict.fromkeys(files[0].keys) if key not in taken]
    return {key: _typed([file.values[key] for file in files]) for key in keys}


def _typed(values: Sequence[str]) -> pa.Array:
    texts = [None if value == _NO_VALUE else unquote(value) for value in values]
    if all(text is None or _INTEGER.fullmatch(text) for text in texts) and any(texts):
        return pa.array([None if text is None else int(text) for text in texts], pa.int64())
    return pa.array(texts, pa.string())
