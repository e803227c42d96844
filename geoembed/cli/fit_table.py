"""The table behind ``geoembed fit``: read, checked row by row, and what its targets are."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from geoembed.columns import name_rows
from geoembed.coordinates import read_places
from geoembed.errors import OptionError, TableError, TargetError
from geoembed.heads.kinds import are_shares, guess_kind, may_be_codes
from geoembed.heads.reading import read_labels, read_numbers, read_target
from geoembed.heads.shares import read_shares
from geoembed.scaling.loading import load_table

__all__ = ["check_targets", "guess_head", "read_training_table", "site_geometry"]


def read_training_table(
    source: Path,
    targets: Sequence[str],
    extras: Sequence[str],
    *,
    geometry: str = "point",
    on_invalid: str = "raise",
    **options: Any,
) -> tuple[gpd.GeoDataFrame, int]:
    """Read the columns that a head learns from, and see to rows that it cannot learn from.

    Parameters
    ----------
    source : Path
        Any table that `geoembed.scaling.loading.load_table` reads: a file, or a folder of Parquet
        files or a pattern of them.
    targets, extras : sequence of str
        Columns to learn, and to learn from beside the place.
    geometry : {"point", "representative_point", "centroid", "sample"}
        What stands for a geometry that is not a point.
    on_invalid : {"raise", "drop"}
        What becomes of rows without a place, a target or an extra column.
    **options
        Of `load_table`: ``lon``, ``lat``, ``crs``, ``layer``.

    Returns
    -------
    (GeoDataFrame, int)
        Targets, extra columns and geometry, labelled by the row in the table; and how many rows
        were left out.

    Raises
    ------
    TableError
        If the table or a column is not there, files of a folder are not of one table, or no row
        is left.
    CoordinateError
        If places cannot be read, or some are missing.
    TargetError
        If targets are missing; the message names the first rows.
    OptionError
        If an option is not one of those offered, or a column is named twice.
    """
    if on_invalid not in ("raise", "drop"):
        raise OptionError(f"on_invalid={on_invalid!r} is not one of: raise, drop.")
    wanted = [*targets, *extras]
    twice = sorted({name for name in wanted if wanted.count(name) > 1})
    if twice:
        raise OptionError(
            f"The column {twice[0]!r} is named twice: a target is learned once, and cannot be an "
            "extra column at the same time."
        )
    table = load_table(source, wanted, **options)
    rows = len(table)
    if not rows:
        raise TableError(f"{source} has no rows.")
    usable = _usable(table, targets, extras, geometry, on_invalid)
    if not usable.all():
        table = table[usable]
    if not len(table):
        raise TableError(f"None of the {rows:,} rows of {source} has a place and a target.")
    return table, rows - len(table)


def site_geometry(geometry: str) -> str:
    """Return what stands for a geometry where one point is needed, as in splits."""
    return "representative_point" if geometry == "sample" else geometry


def guess_head(table: pd.DataFrame, targets: Sequence[str]) -> tuple[str, str]:
    """Choose the head that learns targets of this kind.

    Parameters
    ----------
    table : DataFrame
        With the targets.
    targets : sequence of str
        Their columns.

    Returns
    -------
    (str, str)
        Registered name of a head, and why.

    Raises
    ------
    TargetError
        If some are numbers and some are labels, or a column holds neither.

    Examples
    --------
    >>> guess_head(pd.DataFrame({"soil": ["clay", "sand"]}), ["soil"])
    ('classify', 'it holds labels')
    >>> guess_head(pd.DataFrame({"wood": [0.5, 1.0], "rest": [0.5, 0.0]}), ["wood", "rest"])
    ('landcover', 'their rows sum to 1')
    """
    kinds = {name: guess_kind(table[name], f"target {name!r}") for name in targets}
    if len(set(kinds.values())) > 1:
        said = ", ".join(f"{name!r} holds {kind}" for name, kind in kinds.items())
        raise TargetError(f"One head learns targets of one kind: {said}. Fit one head for each.")
    if "labels" in kinds.values():
        if len(targets) == 1:
            return "classify", "it holds labels"
        return "region", "they hold labels of several levels, coarse to fine"
    if len(targets) == 1:
        values = table[targets[0]]
        # By type, unlike comparisons: in a file 60.0 is a measurement, and codes are integers.
        codes = pd.api.types.is_integer_dtype(values.dtype) and may_be_codes(values)
        hint = "; if these are codes of classes: --head classify" if codes else ""
        return "regress", f"it holds numbers{hint}"
    numbers = table[list(targets)].to_numpy(dtype=np.float64)
    if are_shares(numbers):
        return "landcover", "their rows sum to 1"
    hint = "; their rows sum to 100: divided by 100 they are shares, for landcover"
    return "regress", "they hold numbers" + (hint if are_shares(numbers, whole=100.0) else "")


def check_targets(table: pd.DataFrame, targets: Sequence[str], task: str, folds: int) -> None:
    """Refuse targets that nothing can be learned from, before anything is computed.

    Parameters
    ----------
    table : DataFrame
        With the targets.
    targets : sequence of str
        Their columns.
    task : {"regression", "classification", "fractions"}
        What is learned.
    folds : int
        Of the validation.

    Raises
    ------
    TargetError
        If there are fewer rows than folds, a value is not of the kind learned, there is a single
        class or value, nearly every row has a label of its own, or shares do not sum to 1.
    """
    if len(table) < folds:
        raise TargetError(
            f"The table has {len(table):,} row{'s' * (len(table) > 1)}, fewer than the {folds} "
            "folds of the validation. Get more places."
        )
    if task == "fractions":
        read_shares(read_target(table, list(targets)))
        return
    for name in targets:
        target = read_target(table, name)
        if task == "regression":
            numbers = read_numbers(target)
            if (numbers == numbers[0]).all():
                raise TargetError(
                    f"All {len(numbers):,} rows of target {name!r} hold {numbers[0, 0]:g}: there "
                    "is nothing to learn."
                )
            continue
        classes = table[name].nunique()
        if classes > max(2, len(table) / 2):
            shown = ", ".join(map(repr, table[name].head(3).tolist()))
            raise TargetError(
                f"Target {name!r} holds {classes:,} different labels in {len(table):,} rows, such "
                f"as {shown}: too few rows a label to learn from. Check the column; numbers among "
                "text must be cleaned first."
            )
        # Of several levels the coarse ones may well be one region.
        read_labels(target, minimum=2 if name == targets[-1] else 1)


def _usable(
    table: gpd.GeoDataFrame,
    targets: Sequence[str],
    extras: Sequence[str],
    geometry: str,
    on_invalid: str,
) -> NDArray[np.bool_]:
    """Return which rows have all there is to learn from, or say which have not."""
    usable = np.ones(len(table), dtype=np.bool_)
    for name, what in [*((n, "target") for n in targets), *((n, "extra column") for n in extras)]:
        missing = _missing(table[name])
        if missing.any() and on_invalid == "raise":
            raise TargetError(
                f"{missing.sum():,} of {len(missing):,} rows of the {what} {name!r} are missing "
                f"or not finite: {name_rows(table.index, missing)}. Fill them, or leave those "
                "rows out with on_invalid='drop'."
            )
        usable &= ~missing
    reading = "raise" if on_invalid == "raise" else "nan"
    places = read_places(table, geometry=site_geometry(geometry), on_invalid=reading)
    return np.asarray(usable & places.valid)


def _missing(values: "pd.Series[Any]") -> NDArray[np.bool_]:
    if pd.api.types.is_float_dtype(values.dtype):
        numbers = values.to_numpy(dtype=np.float64, na_value=np.nan)
        return np.asarray(~np.isfinite(numbers))
    return np.asarray(values.isna(), dtype=np.bool_)
