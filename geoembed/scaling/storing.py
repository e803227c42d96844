"""Write files so that nobody ever takes a part of one for the whole, on any kind of store."""

import os
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any

from fsspec import AbstractFileSystem

from geoembed.scaling.listing import is_local

__all__ = ["put_whole", "renames", "write_whole"]


def renames(system: Any) -> bool:
    """Tell whether a store can give a file another name, without copying it.

    Parameters
    ----------
    system : fsspec.AbstractFileSystem
        The store.

    Returns
    -------
    bool
        True for disks, SFTP, FTP, SMB and HDFS, which show a file while it is being written.
        False for object stores: they show it when all of it is there.

    Examples
    --------
    >>> import fsspec
    >>> renames(fsspec.filesystem("file")), renames(fsspec.filesystem("memory"))
    (True, False)
    """
    if type(system).mv is AbstractFileSystem.mv:
        # What all inherit copies, and removes what was copied.
        return False
    # One that stands for a folder of another does as that one.
    inner = getattr(system, "fs", None)
    return renames(inner) if isinstance(inner, AbstractFileSystem) else True


def put_whole(system: Any, file: Path, path: str, work: str) -> None:
    """Bring a local file to a store, and give it its name when all of it is there.

    Parameters
    ----------
    system : fsspec.AbstractFileSystem
        The store.
    file : Path
        What to bring; on this machine it is moved.
    path : str
        What it is to be called in the store; replaced if it is there.
    work : str
        Folder in the store for what is not whole yet.

    Raises
    ------
    OSError
        If it cannot be written, or has another size there.
    """
    if is_local(system):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        os.replace(file, path)
        return
    system.makedirs(path.rpartition("/")[0], exist_ok=True)
    if not renames(system):
        system.put_file(str(file), path)
        _check_size(system, path, file.stat().st_size)
        return
    system.makedirs(work, exist_ok=True)
    draft = f"{work}/{uuid.uuid4().hex}"
    try:
        system.put_file(str(file), draft)
        _check_size(system, draft, file.stat().st_size)
        _rename(system, draft, path)
    except BaseException:
        with suppress(Exception):
            system.rm_file(draft)
        raise


def write_whole(system: Any, data: bytes, path: str) -> None:
    """Write a small file to a store, under another name first where the store has names to give.

    Parameters
    ----------
    system : fsspec.AbstractFileSystem
        The store.
    data : bytes
        What is to be in it.
    path : str
        What it is to be called; replaced if it is there.

    Raises
    ------
    OSError
        If it cannot be written.

    Examples
    --------
    >>> import fsspec
    >>> memory = fsspec.filesystem("memory")
    >>> write_whole(memory, b"all of it", "/folder/manifest.json")
    >>> memory.cat_file("/folder/manifest.json")
    b'all of it'
    """
    if not renames(system):
        system.pipe_file(path, data)
        return
    draft = f"{path}.{uuid.uuid4().hex}.new"
    try:
        system.pipe_file(draft, data)
        _rename(system, draft, path)
    except BaseException:
        with suppress(Exception):
            system.rm_file(draft)
        raise


def _check_size(system: Any, path: str, size: int) -> None:
    """Raise OSError if a store has taken less, or more, than it was given."""
    system.invalidate_cache(path.rpartition("/")[0])
    there = system.size(path)
    if there is not None and int(there) != size:
        raise OSError(f"of {size:,} bytes {int(there):,} have arrived")


def _rename(system: Any, draft: str, path: str) -> None:
    if not is_local(system):
        # SFTP, SMB and HDFS refuse, each in its own words, to rename onto a file that is there.
        system.invalidate_cache(path.rpartition("/")[0])
        if system.exists(path):
            system.rm_file(path)
    system.mv(draft, path)
