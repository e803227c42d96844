"""The file that predictions are written to: its kind, whether it may be, where it grows."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from os import PathLike
from pathlib import Path
from typing import Final

from geoembed.errors import OptionError, TableError
from geoembed.heads.files.vector_sink import VECTOR_DRIVERS
from geoembed.scaling.listing import finds, is_several, locate
from geoembed.streaming.request import as_path
from geoembed.streaming.sources import check_path
from geoembed.weights.drafts import draft_room

__all__ = ["check_target", "draft", "kind_of"]

_KINDS: Final = {
    ".parquet": "parquet",
    ".geoparquet": "parquet",
    ".csv": "csv",
    **dict.fromkeys(VECTOR_DRIVERS, "vector"),
}


def kind_of(target: Path) -> str:
    """Return what a file of this name is: ``"parquet"``, ``"csv"`` or ``"vector"``."""
    return _KINDS[target.suffix.lower()]


def check_target(target: "str | PathLike[str]", source: Path, *, force: bool) -> Path:
    """Refuse a file that predictions cannot be written to.

    Parameters
    ----------
    target : str or path
        To be written.
    source : Path
        To be read: a file, a folder, or a pattern.
    force : bool
        Replace what is there.

    Returns
    -------
    Path
        The file; what it points to, if it is a symbolic link.

    Raises
    ------
    OptionError
        If its suffix does not say what to write.
    TableError
        If it cannot be written, is the source or would be read with it, or exists and `force` is
        false.
    """
    path = as_path(target, "target")
    check_path(path)
    if path.suffix.lower() not in _KINDS:
        raise OptionError(
            f"{path.name}: the suffix does not say what to write. Known: {', '.join(_KINDS)}."
        )
    written_to = Path(os.path.realpath(path)) if path.is_symlink() else path
    if not written_to.parent.is_dir():
        raise TableError(f"There is no folder {written_to.parent} to write {path.name} to.")
    if path.is_dir():
        raise TableError(f"{path} is a folder. Give the name of a file.")
    if source.exists() and path.exists() and source.samefile(path):
        raise TableError(f"{path} is the file to read. Give another name to write to.")
    # Also a file of another kind: beside Parquet files it is refused when they are read again.
    if is_several(source) and finds(source, locate(path)[0], [str(written_to)]):
        raise TableError(
            f"{path} lies in what is read, {source}: it would be read with the rest the next time. "
            "Give a name outside of it."
        )
    if path.exists() and not force:
        raise TableError(f"{path} exists already. Pass force=True (--force) to replace it.")
    return written_to


@contextmanager
def draft(target: Path) -> Iterator[Path]:
    """Give a folder beside the target to work in, and remove it in the end."""
    with ExitStack() as stack:
        try:
            folder = stack.enter_context(draft_room(target))
        except OSError as error:
            cause = os.strerror(error.errno) if error.errno else str(error)
            raise TableError(f"{target} cannot be written: {cause}.") from error
        yield folder
