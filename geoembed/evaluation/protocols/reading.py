"""Protocol files: what may stand in them, checked key by key."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from geoembed.errors import OptionError
from geoembed.evaluation.tomls import check_keys, load_named, parse_toml, shipped_names

__all__ = ["Protocol", "list_protocols", "load_protocol", "read_protocol"]

_PACKAGE: Final = "geoembed.evaluation.protocols"

# Kind of a split -> its keys, and the type of each.
_SPLITS: Final[Mapping[str, Mapping[str, type]]] = {
    "torch-random-split": {"parts": dict, "seed": int},
    "random-folds": {"folds": int, "seed": int},
    "spatial-blocks": {"folds": int, "block_km": float, "seed": int},
}
# Model -> the task it is for, its keys, and the type of each.
_MODELS: Final[Mapping[str, tuple[tuple[str, ...], Mapping[str, type]]]] = {
    "head": (("regression", "classification", "fractions"), {}),
    "ridge-cv": (("regression",), {"alphas": list, "cv": int}),
    "ridge-classifier-cv": (("classification",), {"alphas": list, "cv": int}),
    "linear-adam": (
        ("regression",),
        {
            "learning_rate": float,
            "batch_rows": int,
            "epochs": int,
            "patience": int,
            "least_improvement": float,
            "initialisations": int,
            "seed": int,
        },
    ),
}
_TASKS: Final[tuple[str, ...]] = ("regression", "classification", "fractions")
_METRICS: Final = {"regression": "R2", "classification": "accuracy", "fractions": "R2"}
_SCALING: Final = {"features": ("none", "min-max"), "target": ("none", "standard")}
_PARTS: Final = ("train", "validation", "test")


@dataclass(frozen=True)
class Protocol:
    """A frozen set-up: how rows are split, scaled, learned from and scored.

    Parameters
    ----------
    name : str
        What it is called.
    summary, source : str
        What it is, and where it comes from.
    splits : tuple of mapping
        Each with ``name``, ``kind`` and the keys of its kind.
    scaling : mapping
        ``features`` (``"none"`` or ``"min-max"``, over the rows learned from) and ``target``
        (``"none"`` or ``"standard"``, over all rows).
    models : mapping
        Task -> ``model``, ``metric`` and the keys of the model.
    """

    name: str
    summary: str
    source: str
    splits: tuple[Mapping[str, Any], ...]
    scaling: Mapping[str, str]
    models: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def model_for(self, task: str) -> Mapping[str, Any]:
        """Return what learns a task.

        Parameters
        ----------
        task : {"regression", "classification", "fractions"}
            What is learned.

        Returns
        -------
        mapping
            ``model`` and its keys.

        Raises
        ------
        OptionError
            If the protocol says nothing of the task.
        """
        if task not in self.models:
            raise OptionError(
                f"The protocol {self.name!r} is for {' and '.join(self.models)}, and the target "
                f"asks for {task}. Choose another protocol, or say what the target is with head=."
            )
        return self.models[task]


def list_protocols() -> list[str]:
    """Return the names of the protocols that come with geoembed.

    Returns
    -------
    list of str
        Sorted.

    Examples
    --------
    >>> list_protocols()
    ['climplicit-linear', 'range-v1', 'spatial-v1']
    """
    return shipped_names(_PACKAGE)


def load_protocol(name: "str | Path | Protocol") -> Protocol:
    """Load a protocol by its name, or from a file of one's own.

    Parameters
    ----------
    name : str, Path or Protocol
        A name from `list_protocols`; or a file that ends in ``.toml``.

    Returns
    -------
    Protocol
        Checked.

    Raises
    ------
    UnknownNameError
        If there is no such name; the message gives close matches.
    OptionError
        If the file cannot be read, or what stands in it does not fit.

    Examples
    --------
    >>> load_protocol("range-v1").model_for("regression")["alphas"]
    [0.1, 1.0, 10.0]
    """
    if isinstance(name, Protocol):
        return name
    return load_named(name, _PACKAGE, "protocol", read_protocol)


def read_protocol(text: str, where: str) -> Protocol:
    """Read the text of a protocol file.

    Parameters
    ----------
    text : str
        TOML.
    where : str
        What messages call the file.

    Returns
    -------
    Protocol
        Checked.

    Raises
    ------
    OptionError
        If it is no TOML, a key is missing, unknown or of another type, or a value does not fit.
    """
    given = parse_toml(text, where)
    allowed = {"name": str, "summary": str, "source": str, "splits": list, "scaling": dict}
    tasks: dict[str, Any] = {task: given[task] for task in _TASKS if task in given}
    check_keys(where, {k: v for k, v in given.items() if k not in tasks}, allowed)
    if not tasks:
        raise OptionError(f"{where} has no table for any of {', '.join(_TASKS)}.")
    _check_scaling(where, given["scaling"])
    splits = [_check_split(f"{where}, splits[{at}]", s) for at, s in enumerate(given["splits"])]
    if not splits:
        raise OptionError(f"{where} has no splits.")
    if len({split["name"] for split in splits}) < len(splits):
        raise OptionError(f"{where}: two splits have one name.")
    models = {task: _check_model(where, task, model) for task, model in tasks.items()}
    scaled = [key for key, value in given["scaling"].items() if value != "none"]
    if scaled and any(model["model"] == "head" for model in models.values()):
        raise OptionError(
            f"{where}: a head scales for itself, so scaling.{scaled[0]} must be 'none'."
        )
    return Protocol(
        given["name"], given["summary"], given["source"], tuple(splits), given["scaling"], models
    )


def _check_scaling(where: str, scaling: Mapping[str, Any]) -> None:
    check_keys(f"{where}, scaling", scaling, dict.fromkeys(_SCALING, str))
    for key, choices in _SCALING.items():
        if scaling[key] not in choices:
            raise OptionError(
                f"{where}: scaling.{key} = {scaling[key]!r} is not one of: {', '.join(choices)}."
            )


def _check_split(where: str, split: Any) -> Mapping[str, Any]:
    kind: Any = split.get("kind") if isinstance(split, Mapping) else None
    if kind not in _SPLITS:
        raise OptionError(f"{where}: kind = {kind!r} is not one of: {', '.join(_SPLITS)}.")
    check_keys(where, split, {"name": str, "kind": str, **_SPLITS[kind]})
    _check_positive(where, split, ("folds", "block_km"))
    if kind == "torch-random-split":
        parts = split["parts"]
        named = {"train", "test"} <= set(parts) <= set(_PARTS)
        numbers = all(isinstance(v, float) and 0.0 < v < 1.0 for v in parts.values())
        if not named or not numbers or abs(sum(parts.values()) - 1.0) > 1e-9:
            raise OptionError(
                f"{where}: parts = {parts!r} must be shares that sum to 1, of train, test and, if "
                "the model watches one, validation."
            )
    return dict(split)


def _check_model(where: str, task: str, given: Any) -> Mapping[str, Any]:
    what = f"{where}, {task}"
    name: Any = given.get("model") if isinstance(given, Mapping) else None
    if name not in _MODELS or task not in _MODELS[name][0]:
        offered = [model for model, (tasks, _) in _MODELS.items() if task in tasks]
        raise OptionError(f"{what}: model = {name!r} is not one of: {', '.join(offered)}.")
    check_keys(what, given, {"model": str, "metric": str, **_MODELS[name][1]})
    if given["metric"] != _METRICS[task]:
        raise OptionError(f"{what}: metric = {given['metric']!r} must be {_METRICS[task]!r}.")
    positive = [
        key for key in _MODELS[name][1] if key not in ("alphas", "seed", "least_improvement")
    ]
    _check_positive(what, given, positive)
    for alpha in given.get("alphas", ()):
        if not isinstance(alpha, int | float) or not alpha > 0:
            raise OptionError(f"{what}: alphas = {given['alphas']!r} must be positive numbers.")
    return dict(given)


def _check_positive(where: str, given: Mapping[str, Any], keys: Any) -> None:
    for key in keys:
        if key in given and not given[key] > 0:
            raise OptionError(f"{where}: {key} = {given[key]!r} must be more than 0.")
