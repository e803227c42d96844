"""Labels of the polygons that points lie in, or near."""

from difflib import get_close_matches
from typing import Any

import numpy as np
import pandas as pd
import shapely
from numpy.typing import NDArray
from pandas.api.types import is_bool_dtype, is_integer_dtype

from geoembed.columns import name_rows
from geoembed.coordinates import read_places
from geoembed.errors import CoordinateError, OptionError, TargetError
from geoembed.targets.laying import areas_m2
from geoembed.targets.nearest import nearest_parts
from geoembed.targets.polygons import Polygons, read_polygons

__all__ = ["label_regions"]

Floats = NDArray[np.float64]
Rows = NDArray[np.intp]
Geometries = NDArray[np.object_]

_OVERLAP = ("raise", "first", "smallest")
# Points looked up at once; bounds the pairs of points and polygons in memory.
_BLOCK = 100_000


def label_regions(
    points: Any,
    polygons: Any,
    column: str | list[str],
    *,
    nearest_km: float | None = None,
    overlap: str = "raise",
    repair: bool = False,
    crs: Any = None,
    polygons_crs: Any = None,
    on_invalid: str = "raise",
) -> pd.Series | pd.DataFrame:
    """Label points with a column of the polygons that they lie in.

    Parameters
    ----------
    points : any input of `geoembed.read_places`
        Points, in any CRS.
    polygons : GeoDataFrame
        Polygons and MultiPolygons in any CRS, with the columns of labels.
    column : str or list of str
        Column of labels; a list gives a DataFrame.
    nearest_km : float, optional
        Points in no polygon get the label of the nearest one within this many
        kilometres, measured along the geodesic. Missing without it.
    overlap : {"raise", "first", "smallest"}
        Which polygon counts where a point lies inside several whose labels differ: an
        error, the first row, or the one with the smallest area (the first of equals).
    repair : bool
        Make polygons that cross themselves valid, instead of refusing them.
    crs : any
        CRS of points that do not carry one; lon/lat on WGS 84 without it.
    polygons_crs : any
        CRS of polygons that do not carry one.
    on_invalid : {"raise", "nan"}
        What becomes of rows of `points` without a place: an error, or a missing label.

    Returns
    -------
    Series or DataFrame
        With the index of the points and the name of `column`. Missing where no polygon is;
        whole numbers and booleans with missing values among them become nullable.

    Raises
    ------
    TargetError
        If `polygons` has no rows or `column` is not there; if rows of `polygons` have no polygon,
        no CRS, or cross themselves; with ``overlap="raise"`` if points lie in several. Messages
        name the rows.
    CoordinateError
        If the points cannot be read.
    OptionError
        If `overlap` or `nearest_km` is not one of those offered.

    Notes
    -----
    A point on a boundary belongs to the polygon. On the boundary of several, and inside none, it
    belongs to the first row; inside one and on the boundary of another, to the one it is inside.
    Polygons may cross the antimeridian by a jump of longitude (179 to -179) or be cut there;
    edges are straight in lon/lat.

    Examples
    --------
    >>> import geoembed as ge
    >>> countries = ge.data.load_countries()
    >>> list(label_regions([[36.8, -1.3], [-30.0, 0.0]], countries, "name"))
    ['Kenya', nan]
    >>> label_regions([[-9.6, 38.7]], countries, ["continent", "name"], nearest_km=50)
      continent      name
    0    Europe  Portugal
    """
    if overlap not in _OVERLAP:
        raise OptionError(f"overlap={overlap!r} is not one of: {', '.join(_OVERLAP)}.")
    if nearest_km is not None and not 0.0 < nearest_km < np.inf:
        raise OptionError(f"nearest_km={nearest_km!r} must be kilometres above 0, or None.")
    columns = [column] if isinstance(column, str) else list(column)
    _check_columns(polygons, columns)
    try:
        regions = read_polygons(polygons, crs=polygons_crs, repair=repair)
    except CoordinateError as error:
        raise TargetError(str(error).replace("crs=", "polygons_crs=")) from error
    if not len(regions):
        raise TargetError("polygons= has no rows: there is nothing to label places with.")
    places = read_places(points, crs=crs, on_invalid=on_invalid)
    labels = polygons[columns].reset_index(drop=True)
    kinds = labels.groupby(columns, dropna=False, sort=False).ngroup().to_numpy()
    parts, owner = regions.parts(np.arange(len(regions)))
    rows = np.full(len(places), -1, dtype=np.intp)
    usable = np.flatnonzero(places.valid)
    size: Floats | None = None
    if overlap == "smallest":
        size = np.bincount(owner, areas_m2(parts), len(regions)).astype(np.float64)
    finder = _Finder(parts, owner)
    for start in range(0, len(usable), _BLOCK):
        some = usable[start : start + _BLOCK]
        found = finder.pairs(places.lonlat[some])
        if overlap == "raise":
            _refuse_overlaps(found, kinds, places.index[some], regions)
        rows[some] = _decide(found, size, len(some))
    if nearest_km is not None and len(parts):
        left = usable[rows[usable] < 0]
        nearest = nearest_parts(places.lonlat[left], parts, owner, nearest_km)
        rows[left] = nearest
    frame = _take(labels, rows)
    frame.index = places.index
    return frame[column] if isinstance(column, str) else frame


def _check_columns(polygons: Any, columns: list[str]) -> None:
    if not isinstance(polygons, pd.DataFrame):
        raise TargetError(
            f"polygons must be a GeoDataFrame with a column of labels, got an object of type "
            f"{type(polygons).__name__}."
        )
    known = [str(name) for name in polygons.columns]
    for name in columns:
        if known.count(name) != 1:
            found = "no column" if name not in known else f"{known.count(name)} columns"
            close = get_close_matches(name, known, n=3)
            listed = ", ".join(map(repr, close or known[:10]))
            hint = f"{'Close matches' if close else 'Columns'}: {listed}."
            raise TargetError(f"The polygons have {found} named {name!r}. {hint}")


class _Finder:
    """Search for the polygons at points."""

    def __init__(self, parts: Geometries, owner: Rows) -> None:
        west, _, east, _ = shapely.bounds(parts).T
        copies = [(parts, owner)]
        # Parts beyond 180 degrees are also where they come back on the other side.
        for beyond, turn in ((east > 180.0, -360.0), (west < -180.0, 360.0)):
            if beyond.any():
                moved = shapely.transform(parts[beyond], lambda xy, t=turn: xy + np.array([t, 0.0]))
                copies.append((moved, owner[beyond]))
        self.parts = np.concatenate([part for part, _ in copies])
        self.owner = np.concatenate([own for _, own in copies])
        shapely.prepare(self.parts)
        self.tree = shapely.STRtree(self.parts)

    def pairs(self, lonlat: Floats) -> pd.DataFrame:
        """Points and the polygons they touch: ``point``, ``row``, and whether it is ``within``."""
        seam = np.flatnonzero(np.abs(lonlat[:, 0]) == 180.0)
        point = np.concatenate([np.arange(len(lonlat)), seam])
        lon = np.concatenate([lonlat[:, 0], -lonlat[seam, 0]])
        lat = np.concatenate([lonlat[:, 1], lonlat[seam, 1]])
        at, part = self.tree.query(shapely.points(lon, lat))
        order = np.argsort(part, kind="stable")
        at, part = at[order], part[order]
        touches, within = np.zeros((2, len(at)), dtype=np.bool_)
        candidates, first = np.unique(part, return_index=True)
        for one, start, end in zip(candidates, first, np.append(first, len(at))[1:], strict=True):
            polygon, x, y = self.parts[one], lon[at[start:end]], lat[at[start:end]]
            touches[start:end] = shapely.intersects_xy(polygon, x, y)
            within[start:end] = shapely.contains_xy(polygon, x, y)
        at, part, within = point[at[touches]], part[touches], within[touches]
        found = pd.DataFrame({"point": at, "row": self.owner[part], "within": within})
        # Parts of one polygon may touch: within the polygon if within any of them.
        found = found.sort_values(["point", "row", "within"]).drop_duplicates(
            ["point", "row"], keep="last"
        )
        # Inside one and on the rim of another: the one it is inside.
        settled = found["point"][found["within"]]
        return found[found["within"] | ~found["point"].isin(settled)]


def _refuse_overlaps(found: pd.DataFrame, kinds: Rows, index: pd.Index, regions: Polygons) -> None:
    within = found[found["within"]]
    kind = pd.Series(kinds[within["row"].to_numpy()], index=within.index)
    several = kind.groupby(within["point"]).transform("nunique") > 1
    if several.any():
        first = within["point"][several].iloc[0]
        rows = np.zeros(len(regions), dtype=np.bool_)
        rows[within["row"][within["point"] == first]] = True
        points = np.zeros(len(index), dtype=np.bool_)
        points[within["point"][several].unique()] = True
        raise TargetError(
            f"{points.sum():,} of {len(index):,} points lie in several polygons with different "
            f"labels: {name_rows(index, points)}. The first lies in "
            f"{name_rows(regions.index, rows)} of the polygons. Mend them, or choose: "
            "overlap='first' or overlap='smallest'."
        )


def _decide(found: pd.DataFrame, size: Floats | None, count: int) -> Rows:
    """Row of the polygon of each point, -1 for none."""
    rows = np.full(count, -1, dtype=np.intp)
    rank = found["row"].to_numpy()
    within = found["within"].to_numpy()
    point = found["point"].to_numpy()
    # On boundaries sizes do not count.
    extent = np.where(within, size[rank], 0.0) if size is not None else np.zeros(len(rank))
    order = np.lexsort([rank, extent, point])
    chosen, first = np.unique(point[order], return_index=True)
    rows[chosen] = rank[order][first]
    return rows


def _take(labels: pd.DataFrame, rows: Rows) -> pd.DataFrame:
    """Labels of the given rows, missing for -1, in types that can be missing."""
    if (rows < 0).any():
        for name in labels.columns:
            if is_bool_dtype(labels[name].dtype) and labels[name].dtype == np.bool_:
                labels[name] = labels[name].astype("boolean")
            elif is_integer_dtype(labels[name].dtype):
                labels[name] = labels[name].convert_dtypes()
    return pd.DataFrame(labels).reindex(rows)
