"""Walk folders of this machine through links, as readers of Parquet do, but not in circles."""

import os
import re
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple

__all__ = ["HIVE", "Place", "names_of", "real_path", "walk"]

# The name of a folder that gives what is in it a value of a partition column.
HIVE: Final = re.compile(r"[^=]+=[^=]*")


class Place(NamedTuple):
    """What is in a folder.

    Parameters
    ----------
    path : str
        As it was come to, links as they are called.
    is_folder : bool
        Whether it is one, or a link to one.
    is_link : bool
        Whether it is a link, to whatever, or a junction.
    """

    path: str
    is_folder: bool
    is_link: bool


def real_path(path: str) -> str:
    """Return the path of what is meant, without links and ``..``, with slashes."""
    return Path(os.path.realpath(path)).as_posix()


def walk(
    root: str, *, hidden: bool = False, sought: Callable[[str], Hashable] = lambda folder: True
) -> Iterator[Place]:
    """Go through all that is in a folder, links to folders followed.

    A link to a folder that it lies in itself, or that all of this lies in, is passed over: all
    that it leads to is come to without it. A folder that several links lead to is opened once; or
    for each of the values that folders such as ``year=2024`` on the way give what is in it, unless
    that way goes in a circle.

    Parameters
    ----------
    root : str
        The folder; where there is none, nothing is in it.
    hidden : bool
        Also what begins with a dot or an underscore.
    sought : callable, optional
        Of the path of a folder, what is looked for in it. Where that is false it is not opened;
        where it is something else than at first, it is opened again.

    Yields
    ------
    Place
        In the order of names, folders before what is in them.

    Raises
    ------
    OSError
        If a folder cannot be read.

    Examples
    --------
    >>> Path("years/2024").mkdir(parents=True)
    >>> Path("years/latest").symlink_to("2024")
    >>> Path("years/2024/a.parquet").touch()
    >>> [place.path for place in walk("years") if not place.is_folder]
    ['years/2024/a.parquet']
    """
    been: set[Hashable] = set()

    def inside(
        folder: str, real: str, values: tuple[str, ...], passed: Mapping[str, tuple[str, ...]]
    ) -> Iterator[Place]:
        passed = {**passed, real: values}
        with os.scandir(folder) as found:
            entries = sorted(found, key=lambda entry: entry.name)
        for entry in entries:
            if not hidden and entry.name.startswith((".", "_")):
                continue
            path, target = _below(folder, entry.name), _below(real, entry.name)
            is_link = entry.is_symlink() or _is_junction(entry)
            # Of a link that leads nowhere, or to itself, only this function says so without an
            # error.
            is_folder = os.path.isdir(path) if is_link else entry.is_dir()
            if is_link and is_folder:
                target = real_path(path)
                if any(_below(held, "").startswith(_below(target, "")) for held in (real, start)):
                    continue
            below = (*values, entry.name) if HIVE.fullmatch(entry.name) else values
            # Once more round a circle, values would be given again, and so on without an end.
            if passed.get(target, below) != below:
                continue
            yield Place(path, is_folder, is_link)
            aim = sought(path) if is_folder else None
            if aim and (target, below, aim) not in been:
                been.add((target, below, aim))
                yield from inside(path, target, below, passed)

    if os.path.isdir(root):
        start = real_path(root)
        yield from inside(root, start, (), {})


def names_of(paths: Iterable[str], root: str, places: Iterable[Place]) -> list[str]:
    """Return the paths below a root by which others are come to.

    Parameters
    ----------
    paths : iterable of str
        Of anything, there or not.
    root : str
        The folder.
    places : iterable of Place
        What is in the folder; its links count.

    Returns
    -------
    list of str

    Examples
    --------
    >>> Path("results").mkdir()
    >>> Path("fields").mkdir()
    >>> Path("fields/old").symlink_to("../results")
    >>> names_of(["results/new/a.parquet", "other.parquet"], "fields", walk("fields"))
    ['fields/old/new/a.parquet']
    """
    ways = [root, *(place.path for place in places if place.is_link)]
    # All end in a slash: a link to a file itself leads to it too.
    reals = [_below(real_path(path), "") for path in paths]
    starts = [(way, _below(real_path(way), "")) for way in ways]
    return [
        _below(way, real[len(start) :]).rstrip("/")
        for real in reals
        for way, start in starts
        if real.startswith(start)
    ]


def _is_junction(entry: "os.DirEntry[str]") -> bool:
    """Tell links between folders on Windows, which are no symbolic links; Python 3.12 can."""
    return bool(getattr(entry, "is_junction", bool)())


def _below(folder: str, name: str) -> str:
    return f"{folder.rstrip('/')}/{name}"
