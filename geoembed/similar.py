"""The most similar places to a given one, among cities or the rows of a table."""

import operator
import unicodedata
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import geopandas as gpd
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from geoembed.coordinates import read_places
from geoembed.data.loaders import load_cities, load_countries
from geoembed.encoders import load_encoder
from geoembed.errors import OptionError, TableError, UnknownNameError, unknown_name
from geoembed.featurizer import encode_places
from geoembed.geodesy import distance_km
from geoembed.tables import VECTOR_COLUMN

if TYPE_CHECKING:
    from geoembed.encoders.base import LocationEncoder

__all__ = ["find_cities", "similar_places"]

# A row nearer than a metre is the place itself.
_ITSELF_KM = 1e-3

# What countries are called besides their ISO codes and the names in our table.
_ALIASES = {"uk": "GB", "u.k.": "GB", "great britain": "GB", "u.s.": "US", "u.s.a.": "US",
            "united states": "US"}  # fmt: skip


def similar_places(
    place: str | None = None,
    *,
    lon: float | None = None,
    lat: float | None = None,
    among: "gpd.GeoDataFrame | pd.DataFrame | Iterable[pd.DataFrame] | None" = None,
    top: int = 10,
    min_km: float = 0.0,
    column: str = VECTOR_COLUMN,
    geometry: str = "point",
    encoder: "str | LocationEncoder" = "geoclip.v1",
    progress: bool | None = None,
    **options: Any,
) -> gpd.GeoDataFrame:
    """Find the places whose embeddings are most similar to that of a given place.

    Parameters
    ----------
    place : str, optional
        Name of a city, see `find_cities`; of several the most populous. Or give `lon` and `lat`.
    lon, lat : float, optional
        The place, degrees, WGS 84; longitude any turn, latitude in [-90, 90].
    among : GeoDataFrame, DataFrame or an iterable of them, optional
        Places to choose from; by default `geoembed.data.load_cities`. A stream of frames, such
        as `geoembed.streaming.read_frames`, takes no more memory than one of them.
    top : int
        How many to return, if there are as many.
    min_km : float
        Leave out places nearer than that: geodesic distance, km.
    column : str
        Where `among` keeps vectors of the same encoder: they are used as they are. The columns
        that ``embed(layout="columns")`` makes are found by themselves. Else rows are encoded.
    geometry : {"point", "representative_point", "centroid", "sample"}
        What stands for a geometry that is not a point; see `geoembed.read_places`.
    encoder : str or LocationEncoder
        Registered name, local path, or a loaded encoder.
    progress : bool or None
        Show a progress bar; None shows one on a terminal when the work is long.
    **options
        Of the encoder: ``layers``, ``normalize``, ``precision``, ``dtype``, ``device``,
        ``seam``, ``block_size``; see `geoembed.LocationEncoder`.

    Returns
    -------
    GeoDataFrame or DataFrame
        Rows of `among` with their labels and columns, and ``score`` (cosine similarity, in
        [-1, 1]) and ``distance_km`` (geodesic); the most similar first, equal ones in the order
        of `among`. The place itself (within a metre) and rows without a place are left out.
        ``attrs["place"]`` holds the name, lon and lat of what was asked for. Without any row in
        `among`, or none far enough, there are no rows.

    Raises
    ------
    UnknownNameError
        If there is no city of that name; lists close matches.
    OptionError
        If neither or both of `place` and `lon` with `lat` are given, `place` is no text, or
        `top` is no whole number of at least 1.
    TableError
        If the vectors in `among` are not as long as those of the encoder, or a frame already
        has a column ``score`` or ``distance_km``.
    CoordinateError
        If places cannot be read.

    Examples
    --------
    >>> import geoembed as ge
    >>> from geoembed.similar import similar_places
    >>> far = similar_places("Nairobi", min_km=1000, top=3)
    >>> far.columns.tolist()[-2:], bool(far["distance_km"].min() >= 1000)
    (['score', 'distance_km'], True)
    """
    top = _settle_top(top)
    asked = _settle_place(place, lon, lat)
    loaded = load_encoder(encoder, **options)
    at = (asked["lon"], asked["lat"])
    target = loaded.encode(*at)[0]
    if among is None:
        among = load_cities()
    frames = [among] if isinstance(among, pd.DataFrame) else among
    best: pd.DataFrame | None = None
    for frame in frames:
        _check_columns(frame)
        places = read_places(frame, geometry=geometry, on_invalid="nan")
        vectors = _stored(frame, loaded, column)
        if vectors is None:
            vectors = encode_places(loaded, places, progress=progress)
        away = distance_km(*at, *_one_each(places).T)
        rows, scores = _best_rows(vectors, target, places.valid & _far(away, min_km), top)
        measured = {"score": scores, "distance_km": away[rows]}
        found = frame.iloc[rows]
        # In one piece: assigning them one by one is slow beside hundreds of columns.
        found = pd.concat([found, pd.DataFrame(measured, index=found.index)], axis=1)
        best = found if best is None else pd.concat([best, found])
        best = best.sort_values("score", ascending=False, kind="stable").head(top)
    if best is None:
        none: dict[str, list[float]] = {"score": [], "distance_km": []}
        best = gpd.GeoDataFrame({"geometry": [], **none}, geometry="geometry", crs=4326)
    best.attrs["place"] = asked
    return best


def find_cities(name: str) -> gpd.GeoDataFrame:
    """Find cities by name, whatever the case and the accents.

    Parameters
    ----------
    name : str
        A name as in `geoembed.data.load_cities`, alone or with its country: ``"London, CA"``,
        ``"london, canada"``. Countries go by name or ISO code; UK and US are understood.

    Returns
    -------
    GeoDataFrame
        Rows of `geoembed.data.load_cities` with that name, the most populous first; at least
        one.

    Raises
    ------
    UnknownNameError
        If there is none; lists close matches.
    OptionError
        If `name` is no text.

    Examples
    --------
    >>> find_cities("sao paulo")["name"].tolist()
    ['São Paulo']
    >>> find_cities("London")["iso_a2"].tolist()
    ['GB', 'CA']
    """
    _check_name(name)
    cities = load_cities()
    plain = cities["name"].map(_plain)
    found = cities[plain == _plain(name)]
    town, comma, country = name.rpartition(",")
    if found.empty and comma:
        found = cities[(plain == _plain(town)) & (cities["iso_a2"] == _country_code(country))]
    if found.empty:
        error = unknown_name("city", _plain(name), set(plain))
        raise UnknownNameError(f"{error} Any place can be given by lon= and lat= (--lon, --lat).")
    return found


def _check_name(name: object) -> None:
    if not isinstance(name, str):
        raise OptionError(f"The name of a city is text, not {name!r}.")


def _settle_top(top: object) -> int:
    try:
        number = 0 if isinstance(top, bool) else operator.index(top)  # type: ignore[arg-type]
    except TypeError:
        number = 0
    if number < 1:
        raise OptionError(f"top={top!r} is not a positive number of places.")
    return number


def _settle_place(place: str | None, lon: float | None, lat: float | None) -> dict[str, Any]:
    by_coordinates = lon is not None and lat is not None
    if (place is None) != by_coordinates or (lon is None) != (lat is None):
        raise OptionError(
            "Say which place is meant: the name of a city, or both lon= and lat= in degrees."
        )
    if place is None:
        read = read_places(lon=lon, lat=lat).lonlat[0]
        return {"name": None, "lon": float(read[0]), "lat": float(read[1])}
    city = find_cities(place).iloc[0]
    return {
        "name": city["name"],
        "iso_a2": city["iso_a2"],
        "population": int(city["population"]),
        "lon": float(city["lon"]),
        "lat": float(city["lat"]),
    }


def _plain(name: str) -> str:
    """Fold case, drop accents and doubled blanks."""
    split = unicodedata.normalize("NFKD", name.casefold())
    return " ".join("".join(c for c in split if not unicodedata.combining(c)).split())


def _country_code(country: str) -> str | None:
    if _plain(country) in _ALIASES:
        return _ALIASES[_plain(country)]
    code = country.strip().upper()
    countries = load_countries()
    if len(code) == 2:
        return code
    same = (countries["iso_a3"] == code) | (countries["name"].map(_plain) == _plain(country))
    return str(countries.loc[same, "iso_a2"].iloc[0]) if same.any() else None


def _check_columns(frame: pd.DataFrame) -> None:
    for name in ("score", "distance_km"):
        if name in frame.columns:
            raise TableError(f"The table already has a column {name!r}. Rename or drop it first.")


def _stored(
    frame: pd.DataFrame, encoder: "LocationEncoder", column: str
) -> NDArray[np.floating[Any]] | None:
    """Vectors that the frame brings along; None if there are none."""
    names = encoder.feature_names()
    if set(names) <= set(frame.columns):
        return np.asarray(frame[names])
    if column not in frame.columns or frame.empty:
        return None
    lengths = {np.size(vector) for vector in frame[column]}
    if lengths != {encoder.dimension}:
        raise TableError(
            f"The column {column!r} does not hold vectors of {encoder!r}: their lengths are "
            f"{sorted(lengths)[:3]} instead of {encoder.dimension}. Choose the encoder and layers "
            "that made them, or drop the column to have the rows encoded."
        )
    stacked: NDArray[np.floating[Any]] = np.stack(list(frame[column]))
    return stacked


def _one_each(places: Any) -> NDArray[np.float64]:
    """A point a row to measure distance from: the first of those that are sampled."""
    if places.owner is None:
        return np.asarray(places.lonlat)
    return np.asarray(places.lonlat[np.searchsorted(places.owner, np.arange(len(places)))])


def _far(away: NDArray[np.float64], min_km: float) -> NDArray[np.bool_]:
    return np.asarray((away >= min_km) & (away > _ITSELF_KM))


def _best_rows(
    vectors: NDArray[np.floating[Any]],
    target: NDArray[np.floating[Any]],
    allowed: NDArray[np.bool_],
    top: int,
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Positions and cosines of the best allowed rows, best first."""
    lengths = np.linalg.norm(vectors, axis=1).astype(np.float64) * np.linalg.norm(target)
    with np.errstate(invalid="ignore", divide="ignore"):
        # Row by row: a matrix product may round equal rows differently, and order them at random.
        scores = np.einsum("ij,j->i", vectors, target, dtype=np.float64) / lengths
    scores[~allowed | np.isnan(scores)] = -np.inf
    order = np.argsort(-scores, kind="stable")[:top]
    order = order[scores[order] > -np.inf]
    return order, np.clip(scores[order], -1.0, 1.0)
