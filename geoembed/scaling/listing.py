"""Find the Parquet files of a large table, and check that they are one table."""

import re
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import takewhile
from os import PathLike, fspath
from pathlib import Path, PurePosixPath
from typing import Any, Final

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.implementations.local import LocalFileSystem

from geoembed.crs import name_crs
from geoembed.errors import MissingExtraError, TableError
from geoembed.streaming.geoparquet import read_geo_columns
from geoembed.streaming.sources import PARQUET_SUFFIXES, TEXT_SUFFIXES, VECTOR_SUFFIXES

__all__ = [
    "SourceFile",
    "finds",
    "is_local",
    "is_several",
    "list_files",
    "locate",
    "open_parquet",
]

_MAGIC: Final = re.compile(r"[*?\[]")
_HIVE: Final = re.compile(r"[^=]+=[^=]*")
# Names of tables that are not Parquet. What ends in .json or .zip is more often something else.
_OTHER_TABLES: Final = tuple({*VECTOR_SUFFIXES, *TEXT_SUFFIXES} - {".json", ".zip"})
# What stores say about a file that changes when it does.
_STAMPS: Final = ("ETag", "etag", "mtime", "LastModified", "last_modified", "updated")
# Footers are read side by side: on object stores the time is in waiting.
_READERS: Final = 16
# Read in pieces of so many bytes, instead of a whole column of a row group at once.
_BUFFER: Final = 1 << 20


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


def locate(place: "str | PathLike[str]") -> tuple[Any, str]:
    """Return the file system and the path in it that an address or a local path stands for.

    Raises
    ------
    MissingExtraError
        If the package that reads such addresses is not installed.
    TableError
        If there is no such kind of address.

    Examples
    --------
    >>> locate("memory://folder/part.parquet")[1]
    '/folder/part.parquet'
    """
    text = fspath(place)
    if "://" not in text:
        text = str(Path(text).expanduser())
    try:
        system, path = fsspec.core.url_to_fs(text)
    except ImportError as error:
        raise MissingExtraError(f"{text} cannot be reached: {error}.") from error
    except ValueError as error:
        raise TableError(f"{text} cannot be reached: {error}.") from error
    return system, str(path)


def is_local(system: Any) -> bool:
    """Tell whether a file system is this machine's, or one mounted on it."""
    return isinstance(system, LocalFileSystem)


def open_parquet(system: Any, path: str) -> pq.ParquetFile:
    """Open a Parquet file for reading; raise TableError if it is none.

    Of a store far away the columns of a row group are fetched together, in few large requests.
    """
    try:
        if is_local(system):
            return pq.ParquetFile(path, buffer_size=_BUFFER, pre_buffer=False)
        return pq.ParquetFile(system.open(path, "rb"), pre_buffer=True)
    except FileNotFoundError as error:
        raise TableError(f"There is no file {path}.") from error
    except (pa.ArrowException, OSError) as error:
        raise TableError(f"{path} is no readable Parquet file: {error}") from error


def is_several(source: "str | PathLike[str]") -> bool:
    """Tell whether a local source stands for any number of files: a folder, or a pattern.

    Examples
    --------
    >>> is_several("places/*.parquet"), is_several("places.parquet"), is_several(".")
    (True, False, True)
    """
    path = Path(source).expanduser()
    return path.is_dir() or (bool(_MAGIC.search(str(path))) and not path.exists())


def list_files(
    sources: "Iterable[str | PathLike[str]]", *, only_parquet: bool = False
) -> list[SourceFile]:
    """Find the Parquet files of a table, in the order of their addresses.

    Parameters
    ----------
    sources : iterable of str or path
        Files, folders (with all folders in them, but those whose names begin with a dot or an
        underscore) and patterns of either with ``*``, ``**`` and ``?``; local, or addresses that
        fsspec knows, such as ``s3://bucket/theme=places/``. What is there under the very name is
        no pattern. Patterns find names that begin with a dot or an underscore only where they
        spell one themselves.
    only_parquet : bool
        Refuse a source with tables of other kinds in it, instead of passing over them.

    Returns
    -------
    list of SourceFile
        Each once.

    Raises
    ------
    TableError
        If there is nothing at one of the addresses, a file cannot be read, or the files are not
        of one table: with different columns or CRS, or not all Parquet where that is asked for.

    Examples
    --------
    >>> import geoembed as ge
    >>> cities = ge.data.load_cities()[["name", "geometry"]].head(7)
    >>> for number in (0, 1):
    ...     cities[number::2].to_parquet(f"cities-{number}.parquet")
    >>> [sum(file.groups) for file in list_files(["*.parquet"])]
    [4, 3]
    """
    found: dict[str, tuple[Any, str, str]] = {}
    for source in sources:
        for system, path, hive in _expand(source, only_parquet):
            found[str(system.unstrip_protocol(path))] = (system, path, hive)
    with ThreadPoolExecutor(_READERS) as pool:
        files = list(pool.map(_inspect, sorted(found), (found[url] for url in sorted(found))))
    if files:
        _check_alike(files)
    return files


def _expand(source: "str | PathLike[str]", only_parquet: bool) -> list[tuple[Any, str, str]]:
    system, path = locate(source)
    root = PurePosixPath(path)
    try:
        if _is_pattern(system, path):
            pattern, root = root, _fixed(root)
            names = _matched(system, pattern)
            paths = [p for p in names if _is_parquet(p)]
        elif system.isdir(path):
            names = [p for p in system.find(path) if _is_shown(p, root)]
            paths = [p for p in names if _is_parquet(p)]
        elif system.exists(path):
            root, names, paths = root.parent, [], [path]
        else:
            raise TableError(f"There is no file or folder {source}.")
    except OSError as error:
        raise TableError(f"{source} cannot be listed: {error}") from error
    if not paths:
        raise TableError(
            f"{source} holds no Parquet file. Names must end in {', '.join(PARQUET_SUFFIXES)}."
        )
    others = sorted(p for p in names if p.lower().endswith(_OTHER_TABLES))
    if only_parquet and others:
        raise TableError(
            f"{source} holds tables of other kinds beside Parquet, such as "
            f"{PurePosixPath(others[0]).name}: which of them is meant is not clear. Give one file, "
            f"or a pattern: {root}/**/*{PurePosixPath(paths[0]).suffix}"
        )
    return [(system, p, _hive(PurePosixPath(p), root)) for p in paths]


def _matched(system: Any, pattern: PurePosixPath) -> list[str]:
    """Return the files that a pattern matches, and those in the folders that it matches."""
    files: set[str] = set()
    folders: set[PurePosixPath] = set()
    for path, info in sorted(system.glob(str(pattern), detail=True).items()):
        if not _is_open(path, pattern):
            continue
        place = PurePosixPath(path)
        if info["type"] != "directory":
            files.add(path)
        elif folders.isdisjoint(place.parents):
            folders.add(place)
            files.update(p for p in system.find(path) if _is_shown(p, place))
    return sorted(files)


def _is_pattern(system: Any, path: str) -> bool:
    """Tell patterns from paths, whose names may hold brackets and question marks too."""
    return bool(_MAGIC.search(path)) and not system.exists(path)


def finds(source: "str | PathLike[str]", system: Any, paths: Sequence[str]) -> bool:
    """Tell whether a source would find one of some Parquet files, were they there.

    Parameters
    ----------
    source : str or path
        A file, folder or pattern, as `list_files` takes them.
    system : fsspec.AbstractFileSystem
        Where the files would be.
    paths : sequence of str
        Their paths there.

    Returns
    -------
    bool

    Examples
    --------
    >>> Path("land").mkdir()
    >>> folder, path = locate("land/embedded/part-000000.parquet")
    >>> finds("land", folder, [path]), finds("land/*.parquet", folder, [path])
    (True, False)
    """
    there, pattern = locate(source)
    if type(there) is not type(system):
        return False
    if _is_pattern(there, pattern):
        found = re.compile(fsspec.utils.glob_translate(pattern))
        spelled = PurePosixPath(pattern)
        return any(
            found.match(str(place)) and _is_open(str(place), spelled) and _is_shown(path, place)
            for path in paths
            for place in (PurePosixPath(path), *PurePosixPath(path).parents)
        )
    if is_local(system):
        # The same folder may be called otherwise: by links, or with "..".
        pattern = Path(pattern).resolve().as_posix()
        paths = [Path(path).resolve().as_posix() for path in paths]
    root, inside = PurePosixPath(pattern), f"{pattern.rstrip('/')}/"
    return any(path.startswith(inside) and _is_shown(path, root) for path in paths)


def _fixed(pattern: PurePosixPath) -> PurePosixPath:
    """Return the folder that a pattern spells out before its first wildcard."""
    parts = pattern.parts
    first = next(at for at, part in enumerate(parts) if _MAGIC.search(part))
    plain = [part for part in parts if not _MAGIC.search(part)]
    return PurePosixPath(*parts[:first] or plain[:1])


def _is_open(path: str, pattern: PurePosixPath) -> bool:
    """Tell whether what a pattern matches is shown, or hidden by a name that it spells itself."""
    root = _fixed(pattern)
    return _is_shown(path, root) or not _is_shown(str(pattern), root)


def _is_parquet(path: str) -> bool:
    return path.lower().endswith(PARQUET_SUFFIXES)


def _below(path: PurePosixPath, root: PurePosixPath) -> tuple[str, ...]:
    """Return the folders and the name of a file below a root."""
    shared = root.parts
    return path.parts[len(shared) :] if path.parts[: len(shared)] == shared else path.parts


def _is_shown(path: str, root: PurePosixPath) -> bool:
    return not any(part.startswith((".", "_")) for part in _below(PurePosixPath(path), root))


def _hive(path: PurePosixPath, root: PurePosixPath) -> str:
    """Return the folders that are values: all below the root, and those it lies in itself."""
    above = list(takewhile(_HIVE.fullmatch, reversed(root.parts)))
    below = filter(_HIVE.fullmatch, _below(path, root)[:-1])
    return "/".join([*reversed(above), *below])


def _inspect(url: str, found: tuple[Any, str, str]) -> SourceFile:
    system, path, hive = found
    info = system.info(path)
    with open_parquet(system, path) as file:
        metadata = file.metadata
        groups = tuple(metadata.row_group(i).num_rows for i in range(metadata.num_row_groups))
        own = {k: v for k, v in (metadata.metadata or {}).items() if k != b"ARROW:schema"}
        schema = file.schema_arrow
    schema = schema.with_metadata({**own, **(schema.metadata or {})})
    stamp = next((str(info[key]) for key in _STAMPS if info.get(key) is not None), "")
    return SourceFile(url, hive, int(info["size"]), stamp, groups, schema)


def _check_alike(files: Sequence[SourceFile]) -> None:
    """Raise TableError unless all files have the columns, types and CRS of the first."""
    first = files[0]
    types = _types(first.schema)
    geometries = _geometries(first)
    for file in files[1:]:
        others = _types(file.schema)
        if others != types:
            raise TableError(
                f"The files are not of one table. {file.url} {_difference(others, types)}, unlike "
                f"{first.url}. Give only files with the same columns, or make them alike first."
            )
        if _geometries(file) != geometries:
            raise TableError(
                f"The files are not of one table. {file.url} has {_told(_geometries(file))}, and "
                f"{first.url} has {_told(geometries)}. Bring them to one CRS first, with to_crs()."
            )
        if file.keys != first.keys:
            raise TableError(
                f"The files are not of one table. Folders give {file.url} the partition columns "
                f"{file.keys}, and {first.url} {first.keys}."
            )


def _types(schema: pa.Schema) -> dict[str, pa.DataType]:
    return {column.name: column.type for column in schema}


def _geometries(file: SourceFile) -> list[tuple[str, str, Any]]:
    columns = read_geo_columns(file.schema, file.url)
    return [(column.name, column.encoding, column.crs) for column in columns]


def _told(geometries: list[tuple[str, str, Any]]) -> str:
    if not geometries:
        return "no geometries"
    name, encoding, crs = geometries[0]
    return f"geometries in {name!r} as {encoding} in {'no CRS' if crs is None else name_crs(crs)}"


def _difference(here: dict[str, pa.DataType], there: dict[str, pa.DataType]) -> str:
    missing = [repr(name) for name in there if name not in here]
    more = [repr(name) for name in here if name not in there]
    if missing or more:
        parts = [f"lacks {', '.join(missing[:5])}"] if missing else []
        parts += [f"has {', '.join(more[:5])} besides"] if more else []
        return " and ".join(parts)
    name = next(name for name in here if here[name] != there[name])
    return f"has {name!r} as {here[name]} and not as {there[name]}"
