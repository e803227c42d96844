"""Labels of one level or several, coarse to fine: how they are read, named and joined."""

from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from geoembed.columns import name_rows
from geoembed.coordinates import read_places
from geoembed.errors import OptionError, TargetError
from geoembed.featurizer import LocationFeaturizer
from geoembed.heads.labels.tree import SEPARATOR, Levels, distinct_paths
from geoembed.heads.reading import Target, check_in_memory, read_labels, read_target
from geoembed.targets.regions import label_regions

__all__ = ["join_paths", "name_levels", "read_levels", "read_regions"]


def read_regions(X: Any, y: Any, featurizer: Any, label: Any, nearest_km: float | None) -> Target:
    """Find the labels of places, whatever form they have.

    Parameters
    ----------
    X : places
        What a head was given.
    y : str, list of str, array, Series, DataFrame, or GeoDataFrame of polygons
        As `geoembed.heads.reading.read_target` takes it, or polygons.
    featurizer : transformer
        Of places; a `LocationFeaturizer` says how X is read. A shape that is spread over several
        places has the label of a point inside.
    label : str, list of str or None
        Columns of the polygons that hold their labels.
    nearest_km : float or None
        How far outside a polygon a place may lie.

    Returns
    -------
    Target
        Not yet checked for labels that are missing.

    Raises
    ------
    CoordinateError
        If X cannot be read as places, or some are invalid.
    OptionError
        If y is a GeoDataFrame and `label` is None.
    TableError
        If X is a frame of dask.
    TargetError
        If a place lies in no polygon, or in one without a label.

    Examples
    --------
    >>> read_regions(None, np.array(["wood", "water"]), None, None, None).columns
    1
    """
    if not isinstance(y, gpd.GeoDataFrame):
        return read_target(X, y)
    check_in_memory(X)
    if label is None:
        raise OptionError(
            "y is a GeoDataFrame, which is read as polygons: name the column of their labels, as "
            "in RegionClassifier(label='name'). For labels of the places themselves give the "
            f"columns alone, such as y[{str(y.columns[0])!r}]."
        )
    options: dict[str, Any] = {}
    if isinstance(featurizer, LocationFeaturizer):
        inside = featurizer.geometry == "sample"
        options["geometry"] = "representative_point" if inside else featurizer.geometry
        options["crs"] = featurizer.crs
    labels = label_regions(read_places(X, **options), y, label, nearest_km=nearest_km)
    missing = np.asarray(pd.DataFrame(labels).isna().any(axis=1))
    if missing.any():
        raise TargetError(
            f"{missing.sum():,} of {len(missing):,} places lie in no polygon that has a label: "
            f"{name_rows(labels.index, missing)}. Leave those rows out of X, or say with "
            "nearest_km= how far outside a polygon a place may lie."
        )
    return read_target(X, labels)


def name_levels(target: Target, top_k: int = 1) -> tuple[str, ...]:
    """Return the names of the levels: numbers where there are several without a name.

    Parameters
    ----------
    target : Target
        From `geoembed.heads.reading.read_target`, one column a level.
    top_k : int
        How many labels a level are predicted.

    Returns
    -------
    tuple of str
        Empty for one level without a name.

    Raises
    ------
    TargetError
        If two columns of predictions would have the same name.

    Examples
    --------
    >>> name_levels(Target(np.array([["a", "b"]]), (), pd.RangeIndex(1)))
    ('0', '1')
    """
    names = target.names
    if target.columns > 1 and not names:
        names = tuple(map(str, range(target.columns)))
    ranks = ["", *(f"_{rank}" for rank in range(2, top_k + 1))]
    endings = ["_set", *ranks, *(f"{rank}_probability" for rank in ranks)]
    columns = [f"{name}{ending}" for name in names for ending in endings]
    twice = [column for column in columns if columns.count(column) > 1]
    if twice:
        raise TargetError(
            f"Two columns of predictions would be named 'predicted_{twice[0]}': rename a level."
        )
    return names


def read_levels(target: Target) -> Levels:
    """Return the labels of every level, none missing.

    Parameters
    ----------
    target : Target
        From `geoembed.heads.reading.read_target`, one column a level, coarse to fine.

    Returns
    -------
    tuple of arrays of shape (n,)
        Text, whole numbers or booleans.

    Raises
    ------
    TargetError
        If there are no rows, a label is missing, or values are no labels.

    Examples
    --------
    >>> values = np.array([["Asia", "Nepal"], ["Asia", "Laos"]])
    >>> levels = read_levels(Target(values, ("continent", "country"), pd.RangeIndex(2)))
    >>> [level.tolist() for level in levels]
    [['Asia', 'Asia'], ['Nepal', 'Laos']]
    """
    names = name_levels(target)
    if len(target) == 0:
        raise TargetError("There are no labels: Found array with 0 sample(s).")
    if target.columns == 1:
        return (read_labels(Target(_unbox(target.values), names, target.index), minimum=1),)
    return tuple(
        read_labels(Target(_unbox(column), names[at : at + 1], target.index), minimum=1)
        for at, column in enumerate(target.values.T)
    )


def join_paths(levels: Levels) -> NDArray[Any]:
    """Return the classes of labels of several levels: their paths, as text.

    Parameters
    ----------
    levels : tuple of arrays of shape (n,)
        From `read_levels`.

    Returns
    -------
    array of shape (n,)
        The labels themselves where there is one level, else text.

    Raises
    ------
    TargetError
        If a label holds the `SEPARATOR`, so that paths could not be told apart.

    Examples
    --------
    >>> join_paths((np.array(["Asia", "Asia"]), np.array(["Nepal", "Laos"]))).tolist()
    ['Asia > Nepal', 'Asia > Laos']
    """
    if len(levels) == 1:
        return levels[0]
    for level in levels:
        taken = [label for label in map(str, np.unique(level)) if SEPARATOR in f" {label} "]
        if taken:
            raise TargetError(
                f"Labels of several levels must not hold {SEPARATOR!r}, which stands between the "
                f"labels of a path: found {taken[0]!r}. Write it in another way."
            )
    paths, rows = distinct_paths(levels)
    return np.array([SEPARATOR.join(path) for path in paths], dtype=str)[rows]


def _unbox(values: NDArray[Any]) -> NDArray[Any]:
    """Give whole numbers and booleans in an array of objects their own type."""
    if values.dtype != object:
        return values
    flat = pd.Series(values.reshape(-1)).infer_objects().to_numpy()
    return np.asarray(flat).reshape(values.shape)
