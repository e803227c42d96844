"""Find the Parquet files of a large table: in folders, by patterns, here and far away."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache
from itertools import takewhile
from os import PathLike, fspath
from pathlib import Path, PurePosixPath
from typing import Any, Final

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.implementations.local import LocalFileSystem

from geoembed.errors import MissingExtraError, TableError
from geoembed.scaling.agreement import SourceFile, check_alike
from geoembed.scaling.walking import HIVE, Place, names_of, real_path, walk
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
# Names of tables that are not Parquet. What ends in .json or .zip is more often something else.
_OTHER_TABLES: Final = tuple({*VECTOR_SUFFIXES, *TEXT_SUFFIXES} - {".json", ".zip"})
# What stores say about a file that changes when it does.
_STAMPS: Final = ("ETag", "etag", "mtime", "LastModified", "last_modified", "updated")
# Footers are read side by side: on object stores the time is in waiting.
_READERS: Final = 16
# Read in pieces of so many bytes, instead of a whole column of a row group at once.
_BUFFER: Final = 1 << 20


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
        Files, folders (with all folders in them, on this machine also those that links lead to,
        but none whose names begin with a dot or an underscore) and patterns of either with ``*``,
        ``**`` and ``?``; local, or addresses that fsspec knows, such as
        ``s3://bucket/theme=places/``. What is there under the very name is no pattern.
        Patterns find names that begin with a dot or an underscore only where they spell one
        themselves.
    only_parquet : bool
        Refuse a source with tables of other kinds in it, instead of passing over them.

    Returns
    -------
    list of SourceFile
        Each once, whatever links lead to it; under other partition values it is other rows.

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
    urls = _distinct(found)
    with ThreadPoolExecutor(_READERS) as pool:
        files = list(pool.map(_inspect, urls, (found[url] for url in urls)))
    if files:
        check_alike(files)
    return files


def _distinct(found: Mapping[str, tuple[Any, str, str]]) -> list[str]:
    """Return the addresses in order, of those that are the same rows the first."""
    first: dict[tuple[str, str], str] = {}
    for url in sorted(found):
        system, path, hive = found[url]
        first.setdefault((real_path(path) if is_local(system) else url, hive), url)
    return list(first.values())


def _expand(source: "str | PathLike[str]", only_parquet: bool) -> list[tuple[Any, str, str]]:
    system, path = locate(source)
    root = PurePosixPath(path)
    with _listing(source):
        if _is_pattern(system, path):
            pattern, root = root, _fixed(root)
            names = _matched(system, pattern)
            paths = [p for p in names if _is_parquet(p)]
        elif system.isdir(path):
            names = _held(system, root)
            paths = [p for p in names if _is_parquet(p)]
        elif system.exists(path):
            root, names, paths = root.parent, [], [path]
        else:
            raise TableError(f"There is no file or folder {source}.")
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


@contextmanager
def _listing(source: "str | PathLike[str]") -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise TableError(f"{source} cannot be listed: {error}") from error


def _held(system: Any, folder: PurePosixPath) -> list[str]:
    """Return the files in a folder and in the folders in it."""
    if is_local(system):
        return [place.path for place in walk(str(folder)) if not place.is_folder]
    return [path for path in system.find(str(folder)) if _is_shown(path, folder)]


def _matched(system: Any, pattern: PurePosixPath) -> list[str]:
    """Return the files that a pattern matches, and those in the folders that it matches."""
    files: set[str] = set()
    folders: set[PurePosixPath] = set()
    for path, is_folder in sorted(_globbed(system, pattern)):
        if not _is_open(path, pattern):
            continue
        place = PurePosixPath(path)
        if not is_folder:
            files.add(path)
        elif folders.isdisjoint(place.parents):
            folders.add(place)
            files.update(_held(system, place))
    return sorted(files)


def _globbed(system: Any, pattern: PurePosixPath) -> list[tuple[str, bool]]:
    """Return what a pattern matches, and whether it is a folder."""
    if not is_local(system):
        found = system.glob(str(pattern), detail=True).items()
        return [(path, info["type"] == "directory") for path, info in found]
    matches = _matcher(pattern)
    return [(at.path, at.is_folder) for at in _looked_through(pattern) if matches(at.path)]


def _looked_through(pattern: PurePosixPath) -> Iterator[Place]:
    """Go through all of this machine that may match a pattern.

    Folders in which nothing can match are not opened: they may be many, or another's.
    """
    root = _fixed(pattern)
    spelled = _below(pattern, root)
    return walk(
        str(root),
        hidden=not _is_shown(str(pattern), root),
        sought=lambda folder: _left(spelled, _below(PurePosixPath(folder), root)),
    )


def _left(spelled: tuple[str, ...], names: Iterable[str]) -> frozenset[tuple[str, ...]]:
    """Return what is left of a pattern for what is in a folder, in all ways to come to it."""
    left = {spelled}
    for name in names:
        left = {rest for way in left for rest in _rests(way, name)}
    return frozenset(left - {()})


def _rests(spelled: tuple[str, ...], name: str) -> Iterator[tuple[str, ...]]:
    if not spelled:
        return
    if spelled[0] == "**":
        yield spelled
        yield from _rests(spelled[1:], name)
    elif _matcher(PurePosixPath(spelled[0]))(name):
        yield spelled[1:]


@lru_cache
def _matcher(pattern: PurePosixPath) -> Callable[[str], Any]:
    return re.compile(fsspec.utils.glob_translate(str(pattern))).match


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

    Raises
    ------
    TableError
        If a folder that the source stands for cannot be listed.

    Examples
    --------
    >>> Path("land").mkdir()
    >>> folder, path = locate("land/embedded/part-000000.parquet")
    >>> finds("land", folder, [path]), finds("land/*.parquet", folder, [path])
    (True, False)
    """
    there, where = locate(source)
    if type(there) is not type(system):
        return False
    with _listing(source):
        return _finds(there, where, paths)


def _finds(system: Any, where: str, paths: Sequence[str]) -> bool:
    pattern = PurePosixPath(where)
    if not _is_pattern(system, where):
        if is_local(system):
            # The same folder may be called otherwise: by links, or with "..".
            paths = names_of(paths, where, walk(where))
        inside = f"{where.rstrip('/')}/"
        return any(path.startswith(inside) and _is_shown(path, pattern) for path in paths)
    matches = _matcher(pattern)
    if is_local(system):
        paths = names_of(paths, str(_fixed(pattern)), _read_by(pattern))
    return any(
        matches(str(place)) and _is_open(str(place), pattern) and _is_shown(path, place)
        for path in paths
        for place in (PurePosixPath(path), *PurePosixPath(path).parents)
    )


def _read_by(pattern: PurePosixPath) -> Iterator[Place]:
    """Go through all that a pattern looks through, and all that is in the folders it matches."""
    matches = _matcher(pattern)
    folders: set[PurePosixPath] = set()
    for place in _looked_through(pattern):
        yield place
        path = PurePosixPath(place.path)
        if place.is_folder and matches(place.path) and folders.isdisjoint(path.parents):
            folders.add(path)
            yield from walk(place.path)


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
    above = list(takewhile(HIVE.fullmatch, reversed(root.parts)))
    below = filter(HIVE.fullmatch, _below(path, root)[:-1])
    return "/".join([*reversed(above), *below])


def _inspect(url: str, found: tuple[Any, str, str]) -> SourceFile:
    system, path, hive = found
    with open_parquet(system, path) as file:
        metadata = file.metadata
        groups = tuple(metadata.row_group(i).num_rows for i in range(metadata.num_row_groups))
        own = {k: v for k, v in (metadata.metadata or {}).items() if k != b"ARROW:schema"}
        schema = file.schema_arrow
    schema = schema.with_metadata({**own, **(schema.metadata or {})})
    info = system.info(path)
    stamp = next((str(info[key]) for key in _STAMPS if info.get(key) is not None), "")
    return SourceFile(url, hive, int(info["size"]), stamp, groups, schema)
