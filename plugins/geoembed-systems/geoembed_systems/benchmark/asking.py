"""What the command line asks a benchmark for, read and checked before anything is computed."""

import tomllib
from collections.abc import Mapping, Sequence
from typing import Any

from geoembed.errors import OptionError, unknown_name

__all__ = ["read_fractions", "read_options", "read_seeds", "read_systems"]


def read_systems(text: str, known: Sequence[str]) -> tuple[str, ...]:
    """Read names of systems between commas.

    Parameters
    ----------
    text : str
        Names, or ``all``.
    known : sequence of str
        Those that there are.

    Returns
    -------
    tuple of str
        In the order given, each once.

    Raises
    ------
    UnknownNameError
        If a name is none of those.
    OptionError
        If there is none.

    Examples
    --------
    >>> read_systems("isns, planet", ["planet", "isns", "knn"])
    ('isns', 'planet')
    >>> read_systems("all", ["planet", "isns"])
    ('planet', 'isns')
    """
    names = list(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    if not names:
        raise OptionError(f"systems={text!r} names no system: give all, or names between commas.")
    if names == ["all"]:
        return tuple(known)
    for name in names:
        if name not in known:
            raise unknown_name("system", name, known)
    return tuple(names)


def read_seeds(text: str) -> tuple[int, ...]:
    """Read seeds between commas, in any order, each once.

    Examples
    --------
    >>> read_seeds("0,1,2")
    (0, 1, 2)
    """
    try:
        seeds = tuple(dict.fromkeys(int(part) for part in text.split(",")))
    except ValueError:
        seeds = ()
    if not seeds or min(seeds) < 0:
        raise OptionError(f"seeds={text!r} must be whole numbers of 0 or more, such as 0,1,2.")
    return seeds


def read_fractions(text: str) -> tuple[float, ...]:
    """Read percent between commas; return shares, ascending, each once.

    Examples
    --------
    >>> read_fractions("5, 100,20%")
    (0.05, 0.2, 1.0)
    """
    try:
        percent = sorted({float(part.strip().removesuffix("%")) for part in text.split(",")})
    except ValueError:
        percent = []
    if not percent or not all(0.0 < each <= 100.0 for each in percent):
        raise OptionError(
            f"fractions={text!r} must be percent of the training pictures, above 0 and up to 100, "
            "such as 5,10,20,50,100."
        )
    return tuple(each / 100.0 for each in percent)


def read_options(
    given: Sequence[str], known: Mapping[str, Sequence[str]]
) -> dict[str, dict[str, Any]]:
    """Read options of systems.

    Parameters
    ----------
    given : sequence of str
        Each ``system.option=value``; the value as TOML has it, anything else is text. The system
        ``all`` stands for those that have the option.
    known : mapping
        System that will run -> its options.

    Returns
    -------
    dict
        System -> option -> value.

    Raises
    ------
    OptionError
        If one cannot be read, or no system has such an option.
    UnknownNameError
        If there is no such system, or it has no such option.

    Examples
    --------
    >>> known = {"planet": ["t_max", "epochs"], "knn": ["neighbours"]}
    >>> read_options(["planet.t_max=500", "all.epochs=2.5", "knn.neighbours=7"], known)
    {'planet': {'t_max': 500, 'epochs': 2.5}, 'knn': {'neighbours': 7}}
    """
    found: dict[str, dict[str, Any]] = {}
    for each in given:
        name, equals, text = each.partition("=")
        system, dot, option = name.strip().partition(".")
        if not equals or not dot or not option:
            raise OptionError(
                f"--set {each!r} cannot be read: give SYSTEM.OPTION=VALUE, such as "
                "planet.t_max=500."
            )
        if system == "all":
            chosen = [name for name, options in known.items() if option in options]
            if not chosen:
                raise OptionError(f"--set {each!r}: no system that runs has the option {option!r}.")
        elif system not in known:
            raise unknown_name("system among those that run", system, known)
        elif option not in known[system]:
            raise unknown_name(f"option of {system}", option, known[system])
        else:
            chosen = [system]
        for one in chosen:
            found.setdefault(one, {})[option] = _value(text.strip())
    return found


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
