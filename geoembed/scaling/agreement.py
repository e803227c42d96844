"""What the footers of Parquet files say, and whether several files agree to be one table."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from geoembed.crs import name_crs
from geoembed.errors import TableError
from geoembed.streaming.geoparquet import GeoColumn, read_geo_columns

__all__ = ["SourceFile", "check_alike"]


@dataclass(frozen=True)
class SourceFile:
    """A Parquet file of a table.

    Parameters
    ----------
    url : str
        Where it is.
    hive : str
        Its folders that are values of partition columns: ``"country=KE/year=2024"``.
    size : int
        In bytes.
    stamp : str
        What changes when the file does: an ETag or a time.
    groups : tuple of int
        Rows of every row group.
    schema : pyarrow.Schema
        Of its columns.
    """

    url: str
    hive: str
    size: int
    stamp: str
    groups: tuple[int, ...]
    schema: pa.Schema = field(repr=False, compare=False)

    @property
    def keys(self) -> list[str]:
        """Names of the partition columns that its folders give it."""
        return [part.partition("=")[0] for part in self.hive.split("/") if part]

    @property
    def values(self) -> dict[str, str]:
        """Value of every partition column, as its folder spells it."""
        return dict(part.split("=", 1) for part in self.hive.split("/") if part)

    def facts(self) -> dict[str, Any]:
        """Return what tells whether the file is still the same; fit for JSON."""
        return {
            "url": self.url,
            "size": self.size,
            "stamp": self.stamp,
            "rows": sum(self.groups),
            "row_groups": len(self.groups),
        }


def check_alike(files: Sequence[SourceFile]) -> None:
    """Raise TableError unless all files have the columns, types, geometries and CRS of the first.

    Parameters
    ----------
    files : sequence of SourceFile
        At least one.
    """
    first = files[0]
    types = _types(first.schema)
    geometries = read_geo_columns(first.schema, first.url)
    for file in files[1:]:
        others = _types(file.schema)
        if others != types:
            raise TableError(
                f"The files are not of one table. {file.url} {_difference(others, types)}, unlike "
                f"{first.url}. Give only files with the same columns, or make them alike first."
            )
        unlike = _unlike(read_geo_columns(file.schema, file.url), geometries)
        if unlike:
            here, there, remedy = unlike
            raise TableError(
                f"The files are not of one table. {file.url} has {here}, and {first.url} has "
                f"{there}. {remedy}"
            )
        if file.keys != first.keys:
            raise TableError(
                f"The files are not of one table. Folders give {file.url} the partition columns "
                f"{file.keys}, and {first.url} {first.keys}."
            )


def _types(schema: pa.Schema) -> dict[str, pa.DataType]:
    return {column.name: column.type for column in schema}


def _unlike(here: Sequence[GeoColumn], there: Sequence[GeoColumn]) -> tuple[str, str, str] | None:
    """Return what each of two files has where their geometries differ, and what helps."""
    names = [[column.name for column in columns] for columns in (here, there)]
    if set(names[0]) != set(names[1]):
        told = [_listed(columns) for columns in names]
        return told[0], told[1], "Write the same columns as geometries in all files."
    if names[0][:1] != names[1][:1]:
        primary = [f"{columns[0]!r} as its primary geometry column" for columns in names]
        return primary[0], primary[1], "Choose one for all files, with set_geometry()."
    others = {column.name: column for column in there}
    for column in here:
        other = others[column.name]
        if column.encoding != other.encoding:
            return _told(column), _told(other), "Write all files with one encoding."
        if column.crs != other.crs:
            return _told(column), _told(other), "Bring them to one CRS first, with to_crs()."
    return None


def _listed(names: Sequence[str]) -> str:
    return f"geometries in {', '.join(map(repr, names))}" if names else "no geometries"


def _told(column: GeoColumn) -> str:
    where = "no CRS" if column.crs is None else name_crs(column.crs)
    return f"geometries in {column.name!r} as {column.encoding} in {where}"


def _difference(here: dict[str, pa.DataType], there: dict[str, pa.DataType]) -> str:
    missing = [repr(name) for name in there if name not in here]
    more = [repr(name) for name in here if name not in there]
    if missing or more:
        parts = [f"lacks {', '.join(missing[:5])}"] if missing else []
        parts += [f"has {', '.join(more[:5])} besides"] if more else []
        return " and ".join(parts)
    name = next(name for name in here if here[name] != there[name])
    return f"has {name!r} as {here[name]} and not as {there[name]}"
