"""Settings as text: the TOML of a run folder, and how two runs differ."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from geoembed.training.settings import TrainingSettings

__all__ = ["differences", "flat_settings", "settings_toml"]


def settings_toml(settings: TrainingSettings) -> str:
    """Write settings as TOML.

    Parameters
    ----------
    settings : TrainingSettings
        Of a run.

    Returns
    -------
    str
        Every field, defaults too; `geoembed.training.config.load_settings` reads it back to the
        same settings.

    Examples
    --------
    >>> from geoembed.training.settings import DataSettings
    >>> text = settings_toml(TrainingSettings(name="x", data=DataSettings(kind="bluemarble")))
    >>> text.splitlines()[0]
    'name = "x"'
    """
    table = settings.model_dump(mode="json")
    lines = [f"{key} = {_value(value)}" for key, value in table.items() if not _is_table(value)]
    for key, value in table.items():
        if _is_table(value):
            lines += ["", f"[{key}]", *(f"{name} = {_value(each)}" for name, each in value.items())]
    return "\n".join(lines) + "\n"


def flat_settings(settings: TrainingSettings) -> dict[str, Any]:
    """Return settings as one table without sections.

    Parameters
    ----------
    settings : TrainingSettings
        Of a run.

    Returns
    -------
    dict
        ``"section.field"`` to the value; tuples as lists.

    Examples
    --------
    >>> from geoembed.training.settings import DataSettings
    >>> flat_settings(TrainingSettings(data=DataSettings(kind="bluemarble")))["loop.batch"]
    512
    """
    return dict(_flat(settings.model_dump(mode="json"), ""))


def differences(first: TrainingSettings, second: TrainingSettings) -> list[str]:
    """Say in which fields two settings differ.

    Parameters
    ----------
    first, second : TrainingSettings
        Of two runs.

    Returns
    -------
    list of str
        ``"section.field: value of the first -> value of the second"``, in order; empty if they
        are the same.

    Examples
    --------
    >>> from geoembed.training.settings import DataSettings
    >>> data = DataSettings(kind="bluemarble")
    >>> differences(TrainingSettings(data=data), TrainingSettings(data=data, seed=1))
    ['seed: 0 -> 1']
    """
    ours, theirs = flat_settings(first), flat_settings(second)
    return [
        f"{name}: {_value(value)} -> {_value(theirs[name])}"
        for name, value in ours.items()
        if value != theirs[name]
    ]


def _flat(table: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in table.items():
        if _is_table(value):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _is_table(value: object) -> bool:
    return isinstance(value, Mapping)


def _value(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, str):
        # JSON's strings are TOML's but for one character.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return repr(value).lower() if isinstance(value, bool) else repr(value)
