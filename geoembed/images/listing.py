"""Where pictures are: paths, patterns, folders, columns and iterables as names and things to read.

Nothing is opened here; that is what `geoembed.images.sources` does.
"""

import glob
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd

from geoembed.errors import PictureError, TableError
from geoembed.images.arrays import is_tensor
from geoembed.images.kinds import PICTURE_SUFFIXES

__all__ = [
    "PICTURE_COLUMNS",
    "Inputs",
    "find_inputs",
    "find_pictures",
    "is_file_object",
    "is_image",
]

# How columns of pictures are called, in any case; IMG_FILE is the manifests' of the benchmarks.
PICTURE_COLUMNS: Final = (
    *("img_file", "image", "picture", "photo", "path", "file", "filename"),
    *("image_path", "picture_path", "photo_path", "file_path", "filepath", "file_name"),
)
_READABLE: Final = (
    "Give a path, a pattern, a folder, bytes, a file object, a PIL image, an array, a tensor, a "
    "column of a table, or any iterable of these."
)


@dataclass(frozen=True, eq=False)
class Inputs:
    """Pictures that are known but not yet read.

    Parameters
    ----------
    entries : iterable of (str, object)
        A name and a path, bytes, file object, PIL image, array or tensor each; in order.
    total : int or None
        How many there are, if that is known.
    """

    entries: Iterable[tuple[str, Any]]
    total: int | None

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        return iter(self.entries)


def find_inputs(source: Any, *, column: str | None = None, recursive: bool = False) -> Inputs:
    """Find out what is to be read.

    Parameters
    ----------
    source : path, bytes, file object, PIL image, array, tensor, table, iterable or Inputs
        As `read_pictures` takes it.
    column : str, optional
        The column of a table.
    recursive : bool, default False
        Whether a folder's folders are looked into.

    Returns
    -------
    Inputs
        Names and what to read.

    Raises
    ------
    PictureError
        If a folder or pattern holds no picture, or `source` is of no kind that can be read.
    TableError
        If the column does not exist, or none can be told.

    Examples
    --------
    >>> find_inputs(["a.jpg", "b.jpg"]).total
    2
    """
    if isinstance(source, Inputs):
        return source
    if isinstance(source, pd.DataFrame):
        source = source[_find_column(source, column)]
    elif column is not None:
        raise TableError(
            f"column={column!r} names a column of a table, and an object of type "
            f"{type(source).__name__} was given."
        )
    if isinstance(source, str | os.PathLike):
        paths = find_pictures(source, recursive=recursive)
        return Inputs([(path, path) for path in paths], len(paths))
    if isinstance(source, pd.Series):
        labelled = zip(source.index, source.array, strict=True)
        entries = [(_name(item, f"row {label}"), item) for label, item in labelled]
        return Inputs(entries, len(entries))
    if isinstance(source, Mapping):
        return Inputs([(str(name), item) for name, item in source.items()], len(source))
    if _is_single(source):
        return Inputs([(_name(source, "picture 0"), source)], 1)
    return _from_iterable(source)


def find_pictures(path: "str | os.PathLike[str]", *, recursive: bool = False) -> list[str]:
    """List the pictures that a path, a pattern or a folder stands for.

    Parameters
    ----------
    path : str or path-like
        A file (which need not exist), a folder, or a pattern with ``*``, ``?``, ``[...]`` or
        ``**``. What exists under this very name is no pattern. ``~`` is the home folder.
    recursive : bool, default False
        Whether a folder's folders are looked into; links to folders are not followed.

    Returns
    -------
    list of str
        Paths, sorted. In folders only files with a picture's suffix count, and no hidden ones;
        a pattern takes every file that it matches.

    Raises
    ------
    PictureError
        If a folder holds no picture or cannot be read, or a pattern matches no file.

    Examples
    --------
    >>> find_pictures("photo.jpg")
    ['photo.jpg']
    """
    given = os.fsdecode(path)
    full = os.path.expanduser(given)
    if os.path.isdir(full):
        return _list_folder(full, recursive)
    if os.path.lexists(full) or not glob.has_magic(full):
        return [given]
    found = sorted(match for match in glob.iglob(full, recursive=True) if not os.path.isdir(match))
    if not found:
        raise PictureError(f"The pattern {given!r} matches no file.")
    return found


def _list_folder(folder: str, recursive: bool) -> list[str]:
    def stop(error: OSError) -> None:
        # A folder that is left out in silence would be pictures lost.
        reason = error.strerror or error
        raise PictureError(f"The folder {error.filename!r} cannot be read: {reason}.") from error

    found, others, folders = [], 0, 0
    for at, inner, files in os.walk(folder, onerror=stop):
        inner[:] = sorted(name for name in inner if not name.startswith("."))
        for name in files:
            if name.startswith(".") or not name.lower().endswith(PICTURE_SUFFIXES):
                others += 1
            else:
                found.append(os.path.join(at, name))
        if not recursive:
            folders = len(inner)
            break
    if not found:
        remedy = f" recursive=True looks into its {folders:,} folders too." if folders else ""
        raise PictureError(
            f"The folder {folder!r} holds no picture. Looked for {', '.join(PICTURE_SUFFIXES[:4])} "
            f"and {len(PICTURE_SUFFIXES) - 4} other suffixes, found {others:,} other files.{remedy}"
        )
    return sorted(found)


def _find_column(frame: pd.DataFrame, column: str | None) -> Any:
    columns = list(frame.columns)
    listed = ", ".join(map(repr, columns[:10])) + (", ..." if len(columns) > 10 else "")
    if column is not None:
        if columns.count(column) != 1:
            found = f"are {columns.count(column)} columns" if column in columns else "is no column"
            raise TableError(f"There {found} named {column!r}. Columns: {listed or 'none'}.")
        return column
    named = [name for name in columns if str(name).lower() in PICTURE_COLUMNS]
    if len(named) != 1:
        found = f"{len(named)} of that kind" if named else "none"
        raise TableError(
            f"Which column holds the pictures? Looked for {', '.join(PICTURE_COLUMNS[:4])} and the "
            f"like, found {found}. Name it with column='...'. Columns: {listed or 'none'}."
        )
    return named[0]


def is_file_object(value: Any) -> bool:
    """Tell something that can be read like a file.

    Parameters
    ----------
    value : object
        Anything.

    Returns
    -------
    bool
        Whether it has a method ``read``.

    Examples
    --------
    >>> is_file_object("photo.jpg")
    False
    """
    return callable(getattr(value, "read", None))


def is_image(value: Any) -> bool:
    """Tell a PIL image, without importing Pillow.

    Parameters
    ----------
    value : object
        Anything.

    Returns
    -------
    bool
        Whether it is one.

    Examples
    --------
    >>> is_image("photo.jpg")
    False
    """
    module = sys.modules.get("PIL.Image")
    return module is not None and isinstance(value, module.Image)


def _is_single(source: Any) -> bool:
    if isinstance(source, np.ndarray):
        return source.dtype.kind not in "OUST" and source.ndim != 4
    if is_tensor(source):
        return bool(source.ndim != 4)
    encoded = isinstance(source, bytes | bytearray | memoryview) or is_file_object(source)
    return encoded or is_image(source)


def _from_iterable(source: Any) -> Inputs:
    try:
        items = iter(source)
    except TypeError:
        raise PictureError(
            f"Pictures cannot be read from an object of type {type(source).__name__}. {_READABLE}"
        ) from None
    total = len(source) if hasattr(source, "__len__") else None
    named = ((_name(item, f"picture {at}"), item) for at, item in enumerate(items))
    return Inputs(named, total)


def _name(item: Any, otherwise: str) -> str:
    """Name a picture by its file, if it has one."""
    if isinstance(item, str | os.PathLike):
        return os.fsdecode(item) or otherwise
    for attribute in ("name", "filename"):
        name = getattr(item, attribute, None)
        if isinstance(name, str | os.PathLike) and os.fspath(name):
            return os.fsdecode(name)
    return otherwise
