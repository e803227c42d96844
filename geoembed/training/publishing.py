"""Exported files and folders get their name when they are whole, or not at all."""

import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from geoembed.errors import OptionError, TrainingError
from geoembed.weights import drafts

__all__ = ["check_target", "draft_file", "draft_folder"]


def check_target(
    target: str | Path, *, overwrite: bool = False, holds: Collection[str] = ()
) -> Path:
    """Refuse a file or folder that an export cannot be written to.

    Parameters
    ----------
    target : str or path
        To be written; its parent folders are made later.
    overwrite : bool
        Replace what is there.
    holds : collection of str
        For a folder: the files of an export. One that holds others is never replaced.

    Returns
    -------
    Path
        Absolute, with ``~`` expanded; what it points to, if it is a symbolic link.

    Raises
    ------
    OptionError
        If something is there that may not be replaced.

    Examples
    --------
    >>> check_target("new_model", holds=["config.json"]).name
    'new_model'
    """
    path = Path(target).expanduser()
    path = Path(os.path.realpath(path)) if path.is_symlink() else path.absolute()
    if not path.exists():
        return path
    if path.is_dir() != bool(holds):
        kinds = ("file", "folder") if path.is_file() else ("folder", "file")
        raise OptionError(f"{target} is a {kinds[0]}; this export is a {kinds[1]}. Choose a name.")
    if path.is_dir():
        found = {entry.name for entry in path.iterdir()}
        strangers = sorted(found - set(holds))
        if strangers:
            raise OptionError(
                f"{target} holds other things than an exported model: "
                f"{', '.join(map(repr, strangers[:3]))}. Choose another folder."
            )
        if not found:
            return path
    if not overwrite:
        raise OptionError(
            f"{target} is there already. Say so if it may be replaced: overwrite=True."
        )
    return path


@contextmanager
def draft_file(target: Path) -> Iterator[Path]:
    """Give a temporary path beside a file; the file is replaced when the block ends well.

    Parameters
    ----------
    target : Path
        Of `check_target`.

    Yields
    ------
    Path
        To be written, with the ending of `target`.

    Raises
    ------
    TrainingError
        If it cannot be written: the disk is full, the folder is write-protected.

    Examples
    --------
    >>> target = Path("vectors.onnx")
    >>> with draft_file(target) as draft:
    ...     _ = draft.write_bytes(b"whole")
    >>> target.read_bytes()
    b'whole'
    """
    with _told(target), drafts.draft_file(target) as draft:
        yield draft


@contextmanager
def draft_folder(target: Path) -> Iterator[Path]:
    """Give a temporary folder beside a folder; the folder is replaced when the block ends well.

    Parameters
    ----------
    target : Path
        Of `check_target`.

    Yields
    ------
    Path
        An empty folder.

    Raises
    ------
    TrainingError
        If it cannot be written: the disk is full, the parent folder is write-protected.

    Examples
    --------
    >>> target = Path("model")
    >>> with draft_folder(target) as draft:
    ...     _ = (draft / "config.json").write_text("{}")
    >>> [path.name for path in target.iterdir()]
    ['config.json']
    """
    with _told(target), drafts.draft_folder(target) as draft:
        yield draft


@contextmanager
def _told(target: Path) -> Iterator[None]:
    """Make the folder around a target, and errors of the system into ours."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield
    except (OSError, SafetensorError) as error:
        # Of errors of the system safetensors makes one of its own.
        raise _unwritable(target, error) from error


def _unwritable(target: Path, error: Exception) -> TrainingError:
    reason = getattr(error, "strerror", None) or error
    return TrainingError(f"{target} cannot be written: {reason}. What was there is as it was.")
