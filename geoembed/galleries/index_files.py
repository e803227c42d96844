"""Files of indexes that lie in a gallery's folder: they are saved with it."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from geoembed.errors import TableError
from geoembed.galleries.store import INDEXES

__all__ = ["staged_indexes"]


@contextmanager
def staged_indexes(source: Path | None, folder: str | Path) -> Iterator[Callable[[Path], None]]:
    """Copy a gallery's indexes beside the folder that it is saved to, to move them in at the end.

    They are copied first, because the gallery may be saved onto itself, and so that a full disk
    is met before anything is replaced. Files that are still being built, whose names begin with a
    dot, stay where they are.

    Parameters
    ----------
    source : Path or None
        The gallery's folder.
    folder : str or Path
        What it is saved to.

    Yields
    ------
    callable
        Takes the folder once it is written, and moves them in.

    Raises
    ------
    TableError
        If they cannot be copied or moved in; nothing is left behind.
    """
    there = None if source is None else source / INDEXES
    if there is None or not there.is_dir() or not any(_whole(there)):
        yield lambda path: None
        return
    target = Path(folder).expanduser().absolute()
    made: Path | None = None
    try:
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            made = Path(tempfile.mkdtemp(prefix=f".{target.name}.{INDEXES}-", dir=target.parent))
            copied = made / INDEXES
            copied.mkdir()
            for file in _whole(there):
                shutil.copyfile(file, copied / file.name)
        except OSError as error:
            raise TableError(
                f"The indexes of the gallery cannot be copied to {target.parent}: "
                f"{error.strerror or error}."
            ) from error

        def move(path: Path) -> None:
            try:
                copied.replace(path / INDEXES)
            except OSError as error:
                raise TableError(
                    f"The gallery is saved to {path}, its indexes cannot be put there: "
                    f"{error.strerror or error}. They are built again when they are asked for."
                ) from error

        yield move
    finally:
        if made is not None:
            shutil.rmtree(made, ignore_errors=True)


def _whole(folder: Path) -> list[Path]:
    return sorted(f for f in folder.iterdir() if f.is_file() and not f.name.startswith("."))
