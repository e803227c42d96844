"""The folder of a saved head: whether it may be written, whether it is whole, its hash."""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from geoembed.errors import SavedHeadError
from geoembed.heads.saving.description import DESCRIPTION, STATE

__all__ = ["check_folder", "check_state", "sha256"]

_BLOCK: Final = 1 << 20


def check_folder(folder: str | Path, *, overwrite: bool) -> Path:
    """Refuse a folder that a head cannot be saved to.

    Parameters
    ----------
    folder : str or path
        To be written.
    overwrite : bool
        Replace a saved head that is there.

    Returns
    -------
    Path
        With ``~`` expanded; what it points to, if it is a symbolic link.

    Raises
    ------
    SavedHeadError
        If its parent is no folder, or something is there that may not be replaced.

    Examples
    --------
    >>> check_folder("new_model", overwrite=False).name
    'new_model'
    """
    path = Path(folder).expanduser()
    target = Path(os.path.realpath(path)) if path.is_symlink() else path.absolute()
    if not target.parent.is_dir():
        raise SavedHeadError(f"There is no folder {target.parent} to write {target.name} to.")
    if not target.exists():
        return target
    if not target.is_dir():
        raise SavedHeadError(f"{path} is a file. Give the name of a folder that is not there yet.")
    held = {entry.name for entry in target.iterdir()}
    strangers = sorted(held - {DESCRIPTION, STATE})
    if strangers or (held and DESCRIPTION not in held):
        # It would be lost.
        raise SavedHeadError(
            f"{path} holds other things than a saved head: "
            f"{', '.join(map(repr, (strangers or sorted(held))[:3]))}. Choose another folder."
        )
    if held and not overwrite:
        raise SavedHeadError(f"{path} exists already. Pass overwrite=True to replace it.")
    return target


def check_state(folder: Path, facts: Mapping[str, Any]) -> None:
    """Raise SavedHeadError unless the state in a folder is the file that its description means."""
    path = folder / STATE
    if not path.is_file():
        raise SavedHeadError(f"{folder} is not whole: there is no {STATE} in it. Copy it again.")
    size, expected = path.stat().st_size, facts.get("bytes")
    if size != expected:
        raise SavedHeadError(
            f"{path} is damaged: it has {size:,} bytes, and {DESCRIPTION} says {expected}. Copy or "
            "save it again."
        )
    if sha256(path) != facts.get("sha256"):
        raise SavedHeadError(
            f"{path} is not the file that was saved: its SHA-256 is not the one in {DESCRIPTION}. "
            "Do not use it; copy or save it again."
        )


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()
