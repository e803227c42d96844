"""Splits by blocks of the Earth that are held out whole: folds, and one hold-out."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoembed.coordinates import Places
from geoembed.errors import OptionError
from geoembed.splits.blocks import Blocks, choose_blocks
from geoembed.splits.folds import (
    SpatialSplitter,
    check_buffer,
    check_n_splits,
    check_seed,
    deal,
    is_number,
    read_rows,
    train_rows,
)

__all__ = ["BufferedLeaveOneBlockOut", "SpatialBlockKFold", "spatial_holdout"]

Ids = NDArray[np.int64]
Rows = NDArray[np.intp]


class _BlockSplitter(SpatialSplitter):
    """A splitter by blocks: has the parameters that choose them."""

    block_km: float | None
    block_deg: float | None
    h3_resolution: int | None

    def block_ids(self, X: Any) -> Ids:
        """Say which block each place lies in, for a map or to group by.

        Parameters
        ----------
        X : GeoDataFrame, GeoSeries, DataFrame, geometries or array of shape (n, 2)
            Places, as for `split`.

        Returns
        -------
        ndarray of int64, shape (n,)
            Numbers of blocks; they depend on the place and the size alone.
        """
        return self._blocks().ids(read_rows(X, self.crs, self.geometry).lonlat)

    def _blocks(self) -> Blocks:
        return choose_blocks(self.block_km, self.block_deg, self.h3_resolution)

    def _count(self, X: Any, groups: Any, least: int, why: str) -> tuple[Places, Ids, Ids]:
        """Places, the block of each as a number from 0 without gaps, and the blocks' sizes."""
        blocks = self._blocks()
        if groups is not None:
            raise OptionError(
                f"{type(self).__name__} makes its groups of places from blocks: leave groups= "
                "out, or take LeaveRegionOut, which holds out groups of yours."
            )
        places = read_rows(X, self.crs, self.geometry)
        return places, *_count_blocks(places, blocks, least, why)


class SpatialBlockKFold(_BlockSplitter):
    """K folds of whole blocks of the Earth.

    Blocks are shuffled and dealt out, each to the fold with the fewest places so far: the
    largest fold exceeds the smallest by the fullest block at most.

    Parameters
    ----------
    n_splits : int
        Number of folds, 2 or more.
    block_km : float, optional
        Side of blocks of equal area, km; 500 if none of the three sizes is given. They cross
        the antimeridian, and a pole is inside one.
    block_deg : float, optional
        Side of blocks in degrees instead, as published set-ups have them; 180 must be a
        multiple of it.
    h3_resolution : int, optional
        H3 cells instead, of resolution 0 to 15; needs the package `h3`.
    buffer_km : float
        Leave out of training what is this near (geodesic, km) to a test place.
    crs : optional
        CRS of coordinates that do not carry one.
    geometry : {"point", "representative_point", "centroid"}
        What stands for a geometry that is not a point.
    random_state : int, RandomState or None
        Seed of the shuffle. The blocks themselves do not depend on it.

    See Also
    --------
    geoembed.splits.suggest_block_km : A size that fits the target.

    Notes
    -----
    Places on the two sides of a border between blocks may be next door to each other:
    `buffer_km` keeps them apart, and `geoembed.splits.nearest_train_km` says how far apart
    they are. Why blocks: Roberts et al. (2017), "Cross-validation strategies for data with
    temporal, spatial, hierarchical, or phylogenetic structure", Ecography 40.

    Examples
    --------
    >>> from geoembed.data import load_cities
    >>> cities = load_cities().head(1000)
    >>> splitter = SpatialBlockKFold(5, block_km=1000)
    >>> [len(test) for train, test in splitter.split(cities)]
    [214, 193, 194, 191, 208]
    """

    def __init__(
        self,
        n_splits: int = 5,
        *,
        block_km: float | None = None,
        block_deg: float | None = None,
        h3_resolution: int | None = None,
        buffer_km: float = 0.0,
        crs: Any = None,
        geometry: str = "point",
        random_state: Any = 0,
    ) -> None:
        self.n_splits = n_splits
        self.block_km = block_km
        self.block_deg = block_deg
        self.h3_resolution = h3_resolution
        self.buffer_km = buffer_km
        self.crs = crs
        self.geometry = geometry
        self.random_state = random_state

    def get_n_splits(self, X: Any = None, y: Any = None, groups: Any = None) -> int:
        """Return the number of folds.

        Parameters
        ----------
        X, y, groups : ignored
            There for scikit-learn's sake.

        Returns
        -------
        int
            `n_splits`.
        """
        return check_n_splits(self.n_splits)

    def _assign(self, X: Any, groups: Any) -> tuple[Places, Ids]:
        n_splits = check_n_splits(self.n_splits)
        places, block, sizes = self._count(X, groups, n_splits, f"n_splits={n_splits}")
        return places, deal(sizes, n_splits, self.random_state)[block]


class BufferedLeaveOneBlockOut(_BlockSplitter):
    """Test each block of the Earth in turn, and train on nothing near it.

    Parameters
    ----------
    buffer_km : float
        Leave out of training what is this near (geodesic, km) to a test place.
    block_km : float, optional
        Side of blocks of equal area, km; 500 if none of the three sizes is given.
    block_deg : float, optional
        Side of blocks in degrees instead.
    h3_resolution : int, optional
        H3 cells instead, of resolution 0 to 15; needs the package `h3`.
    crs : optional
        CRS of coordinates that do not carry one.
    geometry : {"point", "representative_point", "centroid"}
        What stands for a geometry that is not a point.

    See Also
    --------
    SpatialBlockKFold : Has fewer folds, and a buffer too.

    Notes
    -----
    There is a fold for each block that holds a place, and a block may hold just one. Take
    scores such as R2 over the joined predictions of
    `sklearn.model_selection.cross_val_predict`, not fold by fold.

    Examples
    --------
    >>> from geoembed.splits import nearest_train_km
    >>> places = [[0.0, 0.0], [0.5, 0.0], [9.0, 0.0], [30.0, 0.0]]
    >>> splitter = BufferedLeaveOneBlockOut(buffer_km=1000, block_km=500)
    >>> splitter.get_n_splits(places)
    3
    >>> for train, test in splitter.split(places):
    ...     assert nearest_train_km(places, train, test).min() > 1000
    """

    def __init__(
        self,
        buffer_km: float = 100.0,
        *,
        block_km: float | None = None,
        block_deg: float | None = None,
        h3_resolution: int | None = None,
        crs: Any = None,
        geometry: str = "point",
    ) -> None:
        self.buffer_km = buffer_km
        self.block_km = block_km
        self.block_deg = block_deg
        self.h3_resolution = h3_resolution
        self.crs = crs
        self.geometry = geometry

    def get_n_splits(self, X: Any = None, y: Any = None, groups: Any = None) -> int:
        """Count the blocks that hold a place.

        Parameters
        ----------
        X : GeoDataFrame, GeoSeries, DataFrame, geometries or array of shape (n, 2)
            Places, as for `split`.
        y, groups : ignored
            There for scikit-learn's sake.

        Returns
        -------
        int
            Number of folds.

        Raises
        ------
        OptionError
            If X is not given: the number depends on the places.
        """
        if X is None:
            raise OptionError("The number of blocks depends on the places: pass them as X.")
        return int(self._assign(X, None)[1].max()) + 1

    def _assign(self, X: Any, groups: Any) -> tuple[Places, Ids]:
        places, block, _ = self._count(X, groups, 2, "leaving one out")
        return places, block


def spatial_holdout(
    points: Any,
    test_size: float = 0.2,
    *,
    block_km: float | None = None,
    block_deg: float | None = None,
    h3_resolution: int | None = None,
    buffer_km: float = 0.0,
    crs: Any = None,
    geometry: str = "point",
    random_state: Any = 0,
) -> tuple[Rows, Rows]:
    """Hold out whole blocks of the Earth once.

    Parameters
    ----------
    points : GeoDataFrame, GeoSeries, DataFrame, geometries or array of shape (n, 2)
        Places, as `geoembed.read_places` takes them; arrays are (lon, lat), WGS 84.
    test_size : float
        Share of the places to test on, more than 0 and less than 1. It is met as nearly as
        whole blocks, taken in random order, allow.
    block_km : float, optional
        Side of blocks of equal area, km; 500 if none of the three sizes is given.
    block_deg : float, optional
        Side of blocks in degrees instead.
    h3_resolution : int, optional
        H3 cells instead, of resolution 0 to 15; needs the package `h3`.
    buffer_km : float
        Leave out of training what is this near (geodesic, km) to a test place.
    crs : optional
        CRS of coordinates that do not carry one.
    geometry : {"point", "representative_point", "centroid"}
        What stands for a geometry that is not a point.
    random_state : int, RandomState or None
        Seed of the order of the blocks.

    Returns
    -------
    train, test : ndarray of intp
        Positions of rows, ascending; none of them empty.

    Raises
    ------
    CoordinateError
        If `points` cannot be read as places, or holds invalid ones.
    OptionError
        If a parameter is not one of those offered, all places lie in one block, or the buffer
        leaves nothing to train on.

    Examples
    --------
    >>> from geoembed.data import load_cities
    >>> cities = load_cities().head(1000)
    >>> train, test = spatial_holdout(cities, test_size=0.25, block_km=1000, buffer_km=50)
    >>> len(test)
    250
    """
    if not is_number(test_size) or not 0 < test_size < 1:
        raise OptionError(f"test_size={test_size!r} must be a share: more than 0, less than 1.")
    check_buffer(buffer_km)
    blocks = choose_blocks(block_km, block_deg, h3_resolution)
    places = read_rows(points, crs, geometry)
    block, sizes = _count_blocks(places, blocks, 2, "a hold-out")
    test = _fill(sizes, test_size * len(places), random_state)[block]
    return train_rows(places, test, buffer_km, ""), np.flatnonzero(test)


def _fill(sizes: Ids, wanted: float, random_state: Any) -> NDArray[np.bool_]:
    """Choose groups, in random order, that bring the number of rows nearer to the one wanted."""
    chosen = np.zeros(len(sizes), dtype=np.bool_)
    filled = 0
    for group in check_seed(random_state).permutation(len(sizes)):
        nearer = abs(filled + sizes[group] - wanted) < abs(filled - wanted)
        if nearer and chosen.sum() < len(sizes) - 1:
            chosen[group] = True
            filled += sizes[group]
    if not chosen.any():
        chosen[sizes.argmin()] = True  # every group is more than twice what is wanted
    return chosen


def _count_blocks(places: Places, blocks: Blocks, least: int, why: str) -> tuple[Ids, Ids]:
    """Number the blocks that hold a place from 0, and count their places."""
    _, ids, sizes = np.unique(blocks.ids(places.lonlat), return_inverse=True, return_counts=True)
    if len(sizes) < least:
        raise OptionError(
            f"{why} needs {least} blocks at least, and the {len(places):,} "
            f"place{'s lie' if len(places) > 1 else ' lies'} in {len(sizes)} ({blocks}). "
            + (
                "Choose smaller blocks" + (" or fewer folds." if least > 2 else ".")
                if len(places) >= least
                else "There are too few places to split this way."
            )
        )
    return ids.astype(np.int64), sizes.astype(np.int64)
