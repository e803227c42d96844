"""Splits by regions that are held out whole: countries, states, landscapes."""

from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from geoembed.columns import name_rows
from geoembed.coordinates import Places
from geoembed.errors import OptionError, TableError, TargetError
from geoembed.splits.folds import (
    SpatialSplitter,
    check_n_splits,
    deal,
    is_number,
    read_rows,
)
from geoembed.targets import label_regions

__all__ = ["LeaveRegionOut"]

Ids = NDArray[np.int64]

_SHOWN = 5


class LeaveRegionOut(SpatialSplitter):
    """Test each region in turn, or whole regions in `n_splits` folds.

    Parameters
    ----------
    regions : str, GeoDataFrame or None
        Where the region of each place comes from: a column of X, polygons that contain the
        places (`geoembed.targets.label_regions`), or, with None, ``groups=`` of `split`.
    column : str, optional
        Column of the polygons with the name of the region; their index if not given.
    nearest_km : float, optional
        A place in no polygon belongs to the nearest one within this many kilometres; without
        it, it is an error.
    n_splits : int, optional
        Number of folds, into which shuffled regions are dealt, each to the one with the fewest
        places so far. A fold a region if not given.
    min_places : int
        A region with fewer places is an error, for hardly any score means something on one
        place; with `n_splits` it is not looked at.
    buffer_km : float
        Leave out of training what is this near (geodesic, km) to a test place.
    crs : optional
        CRS of coordinates that do not carry one.
    geometry : {"point", "representative_point", "centroid"}
        What stands for a geometry that is not a point.
    random_state : int, RandomState or None
        Seed of the shuffle; without `n_splits` nothing is shuffled.

    Notes
    -----
    Without `n_splits` folds come in the order of the sorted names.

    Examples
    --------
    >>> from geoembed.data import load_cities, load_countries
    >>> cities = load_cities().head(1000)
    >>> LeaveRegionOut("iso_a2", n_splits=5).get_n_splits(cities)
    5
    >>> splitter = LeaveRegionOut(load_countries(), column="continent", nearest_km=50)
    >>> sorted(set(splitter.region_labels(cities)))[:3]
    ['Africa', 'Asia', 'Europe']
    """

    # What scikit-learn's metadata routing reads: groups= is passed on without being asked for.
    __metadata_request__split = {"groups": True}  # noqa: RUF012 - as scikit-learn spells it

    def __init__(
        self,
        regions: Any = None,
        *,
        column: str | None = None,
        nearest_km: float | None = None,
        n_splits: int | None = None,
        min_places: int = 2,
        buffer_km: float = 0.0,
        crs: Any = None,
        geometry: str = "point",
        random_state: Any = 0,
    ) -> None:
        self.regions = regions
        self.column = column
        self.nearest_km = nearest_km
        self.n_splits = n_splits
        self.min_places = min_places
        self.buffer_km = buffer_km
        self.crs = crs
        self.geometry = geometry
        self.random_state = random_state

    def get_n_splits(self, X: Any = None, y: Any = None, groups: ArrayLike | None = None) -> int:
        """Return the number of folds: `n_splits`, or the number of regions.

        Parameters
        ----------
        X : GeoDataFrame, GeoSeries, DataFrame, geometries or array of shape (n, 2)
            Places, as for `split`; not needed where `n_splits` is given.
        y : ignored
            There for scikit-learn's sake.
        groups : array_like, shape (n,), optional
            As for `split`.

        Returns
        -------
        int
            Number of folds.

        Raises
        ------
        OptionError
            If the number depends on the places and X is not given.
        """
        if self.n_splits is not None:
            return check_n_splits(self.n_splits)
        if X is None:
            raise OptionError("The number of regions depends on the places: pass them as X.")
        return int(self._assign(X, groups)[1].max()) + 1

    def region_labels(self, X: Any, groups: ArrayLike | None = None) -> NDArray[Any]:
        """Say which region each place belongs to.

        Parameters
        ----------
        X : GeoDataFrame, GeoSeries, DataFrame, geometries or array of shape (n, 2)
            Places, as for `split`.
        groups : array_like, shape (n,), optional
            As for `split`.

        Returns
        -------
        ndarray of object, shape (n,)
            Labels.

        Raises
        ------
        TargetError
            If a place has none.
        """
        return self._label(X, read_rows(X, self.crs, self.geometry), groups)

    def _assign(self, X: Any, groups: Any) -> tuple[Places, Ids]:
        places = read_rows(X, self.crs, self.geometry)
        codes, names = pd.factorize(self._label(X, places, groups), sort=True)
        codes = codes.astype(np.int64)
        sizes = np.bincount(codes)
        if len(names) < 2:
            raise TargetError(
                f"All {len(places):,} places are in the region {names[0]!r}: there is none to "
                "learn from while it is held out. Take smaller regions, or SpatialBlockKFold."
            )
        if self.n_splits is None:
            self._check_sizes(names, sizes)
            return places, codes
        n_splits = check_n_splits(self.n_splits)
        if len(names) < n_splits:
            raise OptionError(
                f"n_splits={n_splits} needs {n_splits} regions at least, and the "
                f"{len(places):,} places are in {len(names)}. Choose fewer folds."
            )
        return places, deal(sizes, n_splits, self.random_state)[codes]

    def _label(self, X: Any, places: Places, groups: Any) -> NDArray[Any]:
        """Read the label of every row from wherever it is to come from."""
        self._check_source(groups)
        if self.regions is None:
            return _complete(groups, "groups=", places)
        if isinstance(self.regions, str):
            return _complete(_column(X, self.regions), f"Column {self.regions!r}", places)
        polygons, column = self.regions, self.column
        if column is None:
            polygons, column = self.regions.assign(region=self.regions.index), "region"
        labels = label_regions(places, polygons, column, nearest_km=self.nearest_km)
        return _complete(labels, "regions=", places)

    def _check_source(self, groups: Any) -> None:
        if self.regions is None and groups is None:
            raise OptionError(
                "LeaveRegionOut() needs a label a place: name a column of X or give polygons with "
                "regions=, or pass labels as groups=."
            )
        if self.regions is not None and groups is not None:
            raise OptionError(
                "Regions are given twice: leave out regions= of LeaveRegionOut, or groups=."
            )
        if not isinstance(self.regions, str | gpd.GeoDataFrame | None):
            raise OptionError(
                f"regions={self.regions!r} must be the name of a column of X, a GeoDataFrame of "
                "polygons, or None for groups=."
            )
        for name in ("column", "nearest_km"):
            value = getattr(self, name)
            if value is not None and not isinstance(self.regions, gpd.GeoDataFrame):
                raise OptionError(f"{name}={value!r} is about polygons, and regions= holds none.")
        if not is_number(self.min_places) or self.min_places < 1:
            raise OptionError(f"min_places={self.min_places!r} must be a number, 1 or more.")

    def _check_sizes(self, names: Any, sizes: NDArray[Any]) -> None:
        few = np.flatnonzero(sizes < self.min_places)
        if len(few):
            listed = ", ".join(f"{names[at]!r} ({sizes[at]})" for at in few[:_SHOWN])
            more = f" and {len(few) - _SHOWN:,} more" if len(few) > _SHOWN else ""
            raise TargetError(
                f"{len(few):,} of {len(names):,} regions have fewer than min_places="
                f"{self.min_places} places: {listed}{more}. Pass n_splits= to hold several regions "
                "out together, join or drop these, or pass min_places=1 to test them alone."
            )


def _column(X: Any, name: str) -> Any:
    if not isinstance(X, pd.DataFrame):
        raise TableError(
            f"regions={name!r} names a column, and X is no table but {type(X).__name__}. Pass the "
            "labels as groups=, or the table as X."
        )
    if name not in X.columns:
        listed = ", ".join(map(repr, X.columns[:20]))
        raise TableError(f"regions={name!r} is no column of X. It has: {listed}.")
    return X[name]


def _complete(labels: Any, what: str, places: Places) -> NDArray[Any]:
    """Labels as objects, one a row, none missing."""
    array = np.asarray(pd.Series(labels, dtype=object).to_numpy())
    if len(array) != len(places):
        raise TargetError(
            f"{what} holds {len(array):,} labels for {len(places):,} places: one a place is needed."
        )
    missing = np.asarray(pd.isna(array))
    if missing.any():
        raise TargetError(
            f"{what} gives no region to {missing.sum():,} of {len(array):,} places: "
            f"{name_rows(places.index, missing)}. Drop them, or give them a label."
        )
    return array
