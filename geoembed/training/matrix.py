"""Matrices of runs: one base, variants of it, several seeds, and other galleries to look up in."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from geoembed.errors import OptionError
from geoembed.evaluation.tomls import check_keys, load_named, parse_toml, shipped_names
from geoembed.training.config import MATRIX_PREFIX, RECIPES_PACKAGE, load_settings
from geoembed.training.settings import TrainingSettings
from geoembed.training.settings_text import differences

__all__ = ["BASE", "Matrix", "Variant", "list_matrices", "load_matrix", "slug"]

BASE: Final = "base"
"""What the runs are called that the others are compared with."""

_NEEDED: Final[Mapping[str, type]] = {"name": str, "base": str, "seeds": list, "variants": dict}
_OPTIONAL: Final[Mapping[str, type]] = {
    "summary": str,
    "set": list,
    "equal_samples": bool,
    "galleries": dict,
}
# What a gallery may change: the rest takes training.
_GALLERY_FIELDS: Final = ("validation.gallery", "validation.gallery_size", "validation.spacing_km")
# What runs differ in whatever they are about.
_NAMES: Final = ("name:", "summary:", "seed:")


@dataclass(frozen=True, kw_only=True)
class Variant:
    """Settings of a matrix, but for the seed.

    Parameters
    ----------
    name : str
        As the tables call it.
    settings : TrainingSettings
        Of its runs.
    changed : tuple of str
        Where it differs from the base.
    gallery : bool
        Whether the runs of the base are looked up in another gallery, and nothing is trained.
    """

    name: str
    settings: TrainingSettings
    changed: tuple[str, ...] = ()
    gallery: bool = False

    def run_settings(self, seed: int) -> TrainingSettings:
        """Return the settings of one run.

        Parameters
        ----------
        seed : int
            Of the run.

        Returns
        -------
        TrainingSettings
            With the seed, and a name that says both.
        """
        name = f"{self.settings.name}-{slug(self.name)}-{seed}"
        return self.settings.model_copy(update={"seed": seed, "name": name})


@dataclass(frozen=True, kw_only=True)
class Matrix:
    """What is to be trained and compared.

    Parameters
    ----------
    name, summary : str
        What it is called, and what it is about.
    seeds : tuple of int
        Every variant is trained with each.
    variants : tuple of Variant
        The base first, then those that are trained, then galleries.
    same : tuple of str
        Names of variants that change nothing about this base, and are left out.
    """

    name: str
    summary: str
    seeds: tuple[int, ...]
    variants: tuple[Variant, ...]
    same: tuple[str, ...] = ()


def list_matrices() -> list[str]:
    """Return the names of the matrices that come with geoembed.

    Returns
    -------
    list of str
        Sorted; `load_matrix` takes each.

    Examples
    --------
    >>> list_matrices()
    ['matrix-bluemarble']
    """
    return [name for name in shipped_names(RECIPES_PACKAGE) if name.startswith(MATRIX_PREFIX)]


def load_matrix(source: str | Path | Mapping[str, Any], overrides: Sequence[str] = ()) -> Matrix:
    """Read a matrix and the settings of everything in it.

    Parameters
    ----------
    source : str, Path or mapping
        Name of a matrix that comes with geoembed, path of a TOML file, or the table itself, with
        the keys ``name``, ``base`` (a recipe or file), ``seeds``, ``variants`` (name -> recipe,
        file, or list of ``"section.field=value"``), and possibly ``summary``, ``set`` (settings
        of all runs), ``equal_samples`` (runs with fewer places pass through them more often) and
        ``galleries`` (name -> list of settings of the gallery).
    overrides : sequence of str
        Further settings of all runs, after ``set``.

    Returns
    -------
    Matrix
        All of it checked.

    Raises
    ------
    OptionError
        If a key is missing or unknown, settings do not fit, a gallery would need training, or
        two names are the same in a path.
    UnknownNameError
        If there is no such matrix or recipe.

    Examples
    --------
    >>> matrix = load_matrix(
    ...     {
    ...         "name": "queues",
    ...         "base": "bluemarble",
    ...         "seeds": [0, 1],
    ...         "variants": {"no queue": ["objective.queue=0"]},
    ...     }
    ... )
    >>> [(variant.name, variant.settings.objective.queue > 0) for variant in matrix.variants]
    [('base', True), ('no queue', False)]
    """
    where = "the matrix"
    if isinstance(source, Mapping):
        table = dict(source)
    else:
        where = str(source)
        table = load_named(where, RECIPES_PACKAGE, "matrix", parse_toml)
    given = {key: kind for key, kind in _OPTIONAL.items() if key in table}
    check_keys(where, table, {**_NEEDED, **given})
    seeds = _check_seeds(where, table["seeds"])
    shared = [*_check_overrides(where, "set", table.get("set", [])), *overrides]
    base = load_settings(_beside(source, table["base"]), shared)
    base = base.model_copy(update={"name": table["name"]})
    found = [Variant(name=BASE, settings=base)]
    for name, value in table["variants"].items():
        settings = _settings_of(where, name, value, source, table["base"], shared)
        if table.get("equal_samples", False):
            settings = _see_as_many(settings, base)
        found.append(_compared(name, settings, base))
    for name, value in table.get("galleries", {}).items():
        own = _check_overrides(where, name, value)
        settings = load_settings(_beside(source, table["base"]), [*shared, *own])
        variant = _compared(name, settings, base, gallery=True)
        _check_gallery(where, variant)
        found.append(variant)
    kept = [variant for variant in found if variant.changed or variant.name == BASE]
    _check_slugs(where, kept)
    return Matrix(
        name=table["name"],
        summary=table.get("summary", ""),
        seeds=seeds,
        variants=tuple(kept),
        same=tuple(variant.name for variant in found if variant not in kept),
    )


def slug(name: str) -> str:
    """Return a name as folders and files have it.

    Parameters
    ----------
    name : str
        Of a variant.

    Returns
    -------
    str
        Lower case, letters and digits, ``-`` for all else.

    Examples
    --------
    >>> slug("5 % of the pictures")
    '5-of-the-pictures'
    """
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def _settings_of(
    where: str, name: str, value: object, source: object, base: str, shared: Sequence[str]
) -> TrainingSettings:
    if isinstance(value, str):
        return load_settings(_beside(source, value), shared)
    own = _check_overrides(where, name, value)
    return load_settings(_beside(source, base), [*shared, *own])


def _compared(
    name: str, settings: TrainingSettings, base: TrainingSettings, *, gallery: bool = False
) -> Variant:
    settings = settings.model_copy(update={"name": base.name})
    changed = [each for each in differences(base, settings) if not each.startswith(_NAMES)]
    return Variant(name=name, settings=settings, changed=tuple(changed), gallery=gallery)


def _see_as_many(settings: TrainingSettings, base: TrainingSettings) -> TrainingSettings:
    """Let a run with fewer places pass through them more often."""
    more = base.data.fraction / settings.data.fraction
    loop = settings.loop.model_copy(update={"epochs": settings.loop.epochs * more})
    every = settings.validation.every * more
    validation = settings.validation.model_copy(update={"every": every})
    return settings.model_copy(update={"loop": loop, "validation": validation})


def _beside(source: object, name: str) -> str:
    """Find a file beside the one that names it."""
    if not name.endswith(".toml") or isinstance(source, Mapping):
        return name
    return str(Path(str(source)).expanduser().parent / Path(name).expanduser())


def _check_seeds(where: str, seeds: Sequence[Any]) -> tuple[int, ...]:
    whole = all(isinstance(s, int) and not isinstance(s, bool) and s >= 0 for s in seeds)
    if not seeds or not whole or len(set(seeds)) < len(seeds):
        raise OptionError(
            f"{where}: seeds = {list(seeds)!r} must be whole numbers of at least 0, each once."
        )
    return tuple(seeds)


def _check_overrides(where: str, name: str, value: object) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise OptionError(
            f"{where}: {name} = {value!r} must be a list of settings, such as "
            '["objective.queue=0"].'
        )
    return value


def _check_gallery(where: str, variant: Variant) -> None:
    other = [each for each in variant.changed if not each.startswith(_GALLERY_FIELDS)]
    if other:
        raise OptionError(
            f"{where}: the gallery {variant.name!r} changes {other[0]}, which takes training: put "
            f"it among the variants. A gallery may change {', '.join(_GALLERY_FIELDS)}."
        )


def _check_slugs(where: str, variants: Sequence[Variant]) -> None:
    seen: dict[str, str] = {}
    for variant in variants:
        short = slug(variant.name)
        if not short or short in seen:
            other = f" and {seen[short]!r}" if short in seen else ""
            raise OptionError(
                f"{where}: {variant.name!r}{other} give the folder {short!r}: choose names that "
                "differ in letters or digits."
            )
        seen[short] = variant.name
