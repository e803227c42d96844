"""Settings of a run from recipes, TOML files and command lines, checked at once."""

import json
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from geoembed.errors import OptionError
from geoembed.evaluation.tomls import load_named, parse_toml, shipped_names
from geoembed.training.settings import TrainingSettings
from geoembed.training.settings_problems import combination_problems, name_problems, tell_problems

__all__ = ["MATRIX_PREFIX", "RECIPES_PACKAGE", "list_recipes", "load_settings", "merge_tables"]

RECIPES_PACKAGE: Final = "geoembed.training.configs"
MATRIX_PREFIX: Final = "matrix-"

_BASE: Final = "base"
_TABLE: Final = "the settings"
_OF_DATA: Final = ("licence", "summary", "training_data")
_SAID: Final = " (as the recipe says)"


def list_recipes() -> list[str]:
    """Return the names of the recipes that come with geoembed.

    Returns
    -------
    list of str
        Sorted; `load_settings` takes each.

    Examples
    --------
    >>> "geoclip-mp16" in list_recipes()
    True
    """
    return [name for name in shipped_names(RECIPES_PACKAGE) if not name.startswith(MATRIX_PREFIX)]


def load_settings(
    source: str | Path | Mapping[str, Any], overrides: Sequence[str] = ()
) -> TrainingSettings:
    """Read the settings of a run.

    Parameters
    ----------
    source : str, Path or mapping
        Name of a recipe; path of a TOML file, which ends in ``.toml``; or the table itself. Its
        key ``base`` names another recipe or file, relative to its own folder, whose values hold
        where it gives none; but for ``licence``, ``summary`` and ``training_data``, where it
        names data of its own.
    overrides : sequence of str
        ``"section.field=value"``, the last word on a field. Values are written as in TOML; what
        is no TOML is text. One that names other data adds to ``training_data``, which stands on
        the card, that it is as the recipe says.

    Returns
    -------
    TrainingSettings
        Checked; fields that nobody gave have their defaults.

    Raises
    ------
    OptionError
        If a file cannot be read, bases run in a circle, or fields are unknown, of another type,
        out of range, or do not fit together. All problems are told at once, each with the name
        of the field, what was found and what is allowed.
    UnknownNameError
        If there is no such recipe.

    Notes
    -----
    Paths in the settings, such as ``data.path``, are relative to the folder that one works in.

    Examples
    --------
    >>> settings = load_settings("geoclip-mp16", ["loop.batch=1024", "loop.device=cpu"])
    >>> settings.loop.batch, settings.objective.queue
    (1024, 4096)
    """
    if isinstance(source, Mapping):
        where, table = _TABLE, _with_base(dict(source), Path(), (_TABLE,))
    else:
        where, table = str(source), _read(str(source), Path(), ())
    problems = []
    before = table
    for override in overrides:
        try:
            table = merge_tables(table, _read_override(override))
        except OptionError as error:
            problems.append(str(error))
    table = _with_doubt(before, table)
    problems += name_problems(table)
    try:
        # JSON's rules are strict about types, and take lists for tuples.
        settings = TrainingSettings.model_validate_json(json.dumps(table, default=str), strict=True)
    except ValidationError as error:
        problems += tell_problems(error)
    else:
        problems += combination_problems(settings)
        if not problems:
            return settings
    listed = "".join(f"\n  {problem}" for problem in problems)
    many = "A problem" if len(problems) == 1 else f"{len(problems)} problems"
    raise OptionError(f"{many} in {where}:{listed}")


def merge_tables(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Lay one table over another: tables in them are merged, all else is replaced.

    Parameters
    ----------
    below, above : mapping
        What holds where `above` says nothing, and what holds.

    Returns
    -------
    dict
        A new one.

    Examples
    --------
    >>> merge_tables({"a": 1, "b": {"c": 2, "d": [3]}}, {"b": {"d": [4]}})
    {'a': 1, 'b': {'c': 2, 'd': [4]}}
    """
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        both = isinstance(old, Mapping) and isinstance(value, Mapping)
        merged[key] = merge_tables(old, value) if both else value  # type: ignore[arg-type]
    return merged


def _read(name: str, folder: Path, chain: tuple[str, ...]) -> dict[str, Any]:
    """Read a recipe or file together with its bases."""
    is_file = name.endswith(".toml")
    if name.startswith(MATRIX_PREFIX) and not is_file:
        raise OptionError(
            f"{name!r} is a matrix of runs, not one: geoembed train --matrix {name}, or "
            "load_matrix() of geoembed.training.matrix."
        )
    path = folder / Path(name).expanduser()
    key = str(path.resolve()) if is_file else name
    if key in chain:
        raise OptionError(
            f"{_BASE} runs in a circle: {' -> '.join([*chain, key])}. Take it out of one of them."
        )
    table = load_named(str(path) if is_file else name, RECIPES_PACKAGE, "recipe", parse_toml)
    return _with_base(table, path.parent if is_file else Path(), (*chain, key))


def _with_base(table: dict[str, Any], folder: Path, chain: tuple[str, ...]) -> dict[str, Any]:
    base = table.pop(_BASE, None)
    if base is None:
        return table
    if not isinstance(base, str):
        raise OptionError(
            f"{chain[-1]}: {_BASE} = {base!r} must be the name of a recipe or a file."
        )
    below = _read(base, folder, chain)
    data = table.get("data")
    if isinstance(data, Mapping) and not {"kind", "path"}.isdisjoint(data):
        # What a base says of its own data is not true of others: it would stand on a card.
        below = {name: value for name, value in below.items() if name not in _OF_DATA}
    return merge_tables(below, table)


def _with_doubt(before: dict[str, Any], table: dict[str, Any]) -> dict[str, Any]:
    """Say of training data whose word they are, where a command line names other data."""
    told = table.get("training_data")
    if not told or not isinstance(told, str) or told.endswith(_SAID):
        return table
    if told != before.get("training_data") or _place(before) == _place(table):
        return table
    return {**table, "training_data": told + _SAID}


def _place(table: Mapping[str, Any]) -> tuple[Any, Any]:
    data = table.get("data")
    return (data.get("kind"), data.get("path")) if isinstance(data, Mapping) else (None, None)


def _read_override(text: str) -> dict[str, Any]:
    name, equals, value = text.partition("=")
    keys = [key.strip() for key in name.split(".")]
    if not equals or not all(keys):
        raise OptionError(f"{text!r} is no setting: write section.field=value.")
    read: Any = _read_value(value.strip())
    if not isinstance(read, str) and _takes_text(keys):
        read = value.strip()
    for key in reversed(keys):
        read = {key: read}
    return dict(read)


def _read_value(text: str) -> Any:
    try:
        table = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    return table["value"] if len(table) == 1 else text


def _takes_text(keys: Sequence[str]) -> bool:
    """Tell whether a field holds any text, so that a folder may be called 2024."""
    return any(".".join(keys) == name for name in _text_fields())


def _text_fields() -> Iterator[str]:
    for name, field in TrainingSettings.model_fields.items():
        if field.annotation is str:
            yield name
        for inner, value in getattr(field.annotation, "model_fields", {}).items():
            if value.annotation is str:
                yield f"{name}.{inner}"
