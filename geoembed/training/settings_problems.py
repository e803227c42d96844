"""What is wrong with settings, in words: the field, what was found, what is allowed."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from pydantic import BaseModel, ValidationError

from geoembed.errors import unknown_name
from geoembed.training.settings import TrainingSettings

__all__ = ["combination_problems", "name_problems", "tell_problems"]

# pydantic's types of errors -> what is allowed.
_KINDS: Final[Mapping[str, str]] = {
    "int_type": "a whole number",
    "float_type": "a number",
    "string_type": "text",
    "bool_type": "true or false",
    "list_type": "a list",
    "tuple_type": "a list",
    "model_type": "a table",
    "model_attributes_type": "a table",
    "finite_number": "a finite number",
    "greater_than": "above {gt:g}",
    "greater_than_equal": "at least {ge:g}",
    "less_than": "below {lt:g}",
    "less_than_equal": "at most {le:g}",
    "literal_error": "one of {expected}",
    "missing": "there",
}


def name_problems(table: Mapping[str, Any]) -> list[str]:
    """Say which keys of a table are no settings.

    Parameters
    ----------
    table : mapping
        Settings as a TOML file has them.

    Returns
    -------
    list of str
        One for each unknown key, with close matches.

    Examples
    --------
    >>> name_problems({"loop": {"batchs": 512}})
    ["There is no field of [loop] named 'batchs'. Close matches: 'batch'."]
    """
    problems = []
    sections = _sections()
    for key, value in table.items():
        if key not in TrainingSettings.model_fields:
            problems.append(_unknown("section or field", key, TrainingSettings.model_fields))
        elif key in sections and isinstance(value, Mapping):
            fields = sections[key].model_fields
            problems += [
                _unknown(f"field of [{key}]", each, fields) for each in value if each not in fields
            ]
    return problems


def tell_problems(error: ValidationError) -> list[str]:
    """Put what pydantic found into words.

    Parameters
    ----------
    error : ValidationError
        Of `TrainingSettings`.

    Returns
    -------
    list of str
        One for each field; unknown keys are left to `name_problems`.

    Examples
    --------
    >>> try:
    ...     TrainingSettings.model_validate({"loop": {"batch": 1}})
    ... except ValidationError as error:
    ...     tell_problems(error)
    ['loop.batch = 1 must be at least 2.']
    """
    problems = []
    for found in error.errors(include_url=False):
        kind, given = found["type"], found["input"]
        if kind == "extra_forbidden":
            continue
        if kind == "value_error":
            # Of our own validators, which name the fields.
            problems.append(f"{found['ctx']['error']}.")
            continue
        context = dict(found.get("ctx", {}))
        allowed = _KINDS.get(kind)
        said = (
            f"must be {allowed.format(**context)}" if allowed else f"does not fit: {found['msg']}"
        )
        got = "" if kind == "missing" else f" = {given!r}"
        problems.append(f"{_name(found['loc'])}{got} {said}.")
    return problems


def combination_problems(settings: TrainingSettings) -> list[str]:
    """Say which settings, each fine by itself, make no run together.

    Parameters
    ----------
    settings : TrainingSettings
        Checked field by field.

    Returns
    -------
    list of str
        Empty if there is nothing to say.

    Examples
    --------
    >>> from geoembed.training.settings import DataSettings, LoopSettings
    >>> data, loop = DataSettings(kind="bluemarble"), LoopSettings(epochs=0)
    >>> combination_problems(TrainingSettings(data=data, loop=loop))
    ['loop.epochs = 0 and loop.steps = 0: there is nothing to do.']
    """
    return list(_combinations(settings))


def _combinations(settings: TrainingSettings) -> Iterator[str]:
    views, location, image = settings.views, settings.location, settings.image
    loop, optimiser, objective = settings.loop, settings.optimiser, settings.objective
    for name, values in (
        ("location.sigmas", location.sigmas),
        ("location.hidden", location.hidden),
        ("image.widths", image.widths if image.tower == "convnet" else [1]),
    ):
        if not values:
            yield f"{name} = [] must hold at least one number."
    if views.pool and views.count > views.pool:
        yield (
            f"views.count = {views.count} and views.pool = {views.pool}: a batch shows different "
            "views of a picture, and the pool holds fewer."
        )
    if not loop.epochs and not loop.steps:
        yield "loop.epochs = 0 and loop.steps = 0: there is nothing to do."
    if not all(0.0 <= beta < 1.0 for beta in optimiser.betas):
        yield f"optimiser.betas = {list(optimiser.betas)} must be at least 0 and below 1."
    if location.train == image.train == "none" and not objective.learn_temperature:
        yield (
            "location.train = 'none', image.train = 'none' and objective.learn_temperature = "
            "false: nothing would be trained."
        )
    if 1.0 / objective.temperature > objective.max_scale:
        yield (
            f"objective.temperature = {objective.temperature:g} starts at the scale "
            f"{1.0 / objective.temperature:g}, above objective.max_scale = "
            f"{objective.max_scale:g}."
        )
    if image.train == "head" and image.tower == "convnet" and not image.init:
        yield "image.train = 'head' and image.tower = 'convnet' needs image.init: its tower."


def _sections() -> dict[str, type[BaseModel]]:
    return {
        name: field.annotation
        for name, field in TrainingSettings.model_fields.items()
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
    }


def _unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """Name close matches, or the sections that have such a field."""
    message = str(unknown_name(kind, name, known))
    if "Close matches" in message:
        return message
    elsewhere = [
        f"{key}.{name}" for key, model in _sections().items() if name in model.model_fields
    ]
    if not elsewhere:
        return message
    return f"There is no {kind} named {name!r}. It stands elsewhere: {', '.join(elsewhere)}."


def _name(where: tuple[int | str, ...]) -> str:
    parts = [f"[{part}]" if isinstance(part, int) else f".{part}" for part in where]
    return "".join(parts).removeprefix(".")
