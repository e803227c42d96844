"""TOML files that come with geoembed or from users: found by name, checked key by key."""

import tomllib
from collections.abc import Callable, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, Final, TypeVar

from geoembed.errors import OptionError, unknown_name

__all__ = ["check_keys", "load_named", "parse_toml", "shipped_names"]

Read = TypeVar("Read")

_ENDING: Final = ".toml"


def shipped_names(package: str) -> list[str]:
    """Return the names of the files of a package, sorted."""
    found = files(package).iterdir()
    return sorted(each.name.removesuffix(_ENDING) for each in found if each.name.endswith(_ENDING))


def load_named(name: object, package: str, kind: str, read: Callable[[str, str], Read]) -> Read:
    """Read a file of one's own, which ends in ``.toml``, or one of a package by its name.

    Parameters
    ----------
    name : str or Path
        Path or name.
    package : str
        That holds the files.
    kind : str
        What they are, in messages.
    read : callable
        (text, what messages call the file) to what is returned.

    Returns
    -------
    object
        What `read` makes of it.

    Raises
    ------
    UnknownNameError
        If there is no such name; the message gives close matches.
    OptionError
        If the file cannot be read, and what `read` raises.
    """
    if str(name).endswith(_ENDING):
        path = Path(str(name)).expanduser()
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise OptionError(f"The {kind} file {path} cannot be read: {error}.") from error
        return read(text, str(path))
    if name not in shipped_names(package):
        raise unknown_name(kind, str(name), shipped_names(package))
    file = f"{name}{_ENDING}"
    return read(files(package).joinpath(file).read_text(encoding="utf-8"), file)


def parse_toml(text: str, where: str) -> dict[str, Any]:
    """Parse TOML, or raise OptionError with what messages call the file."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise OptionError(f"{where} is no TOML: {error}.") from error


def check_keys(where: str, given: Any, allowed: Mapping[str, type]) -> None:
    """Raise OptionError unless a table has exactly these keys, of these types."""
    if not isinstance(given, Mapping):
        raise OptionError(f"{where} must be a table, got {given!r}.")
    for key in allowed:
        if key not in given:
            raise OptionError(f"{where} lacks the key {key!r}. It needs: {', '.join(allowed)}.")
    for key, value in given.items():
        if key not in allowed:
            raise OptionError(f"{where}: {unknown_name('key', key, allowed)}")
        kind = allowed[key]
        fits = isinstance(value, int | float if kind is float else kind)
        if not fits or (isinstance(value, bool) and kind is not bool):
            raise OptionError(f"{where}: {key} = {value!r} is no {kind.__name__}.")
