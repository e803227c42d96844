"""The featurizer: places to vectors, as a scikit-learn transformer and on GeoDataFrames."""

from typing import Any, Final, Self

import geopandas as gpd
import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, TransformerMixin

from geoembed.coordinates import Places, read_places
from geoembed.encoders import load_encoder
from geoembed.encoders.base import OPTION_DEFAULTS, LocationEncoder
from geoembed.encoders.blocks import encode_blocks, encode_means
from geoembed.errors import OptionError, TableError

__all__ = ["VECTOR_COLUMN", "LocationFeaturizer", "embed", "encode", "encode_places"]

# Name of the column that holds whole vectors, in frames and in files.
VECTOR_COLUMN: Final = "embedding"

_LAYOUTS: Final = ("columns", "vector")


def encode_places(
    encoder: LocationEncoder, places: Places, *, progress: bool | None = None
) -> NDArray[np.floating[Any]]:
    """Encode places: one row a place, NaN where a place is invalid.

    Parameters
    ----------
    encoder : LocationEncoder
        What encodes.
    places : Places
        From `geoembed.read_places`. Places that own several points (``geometry="sample"``) get
        the mean of their points' vectors.
    progress : bool or None
        Show a progress bar; None shows one on a terminal when the work is long.

    Returns
    -------
    array of shape (n, dimension)
        Of the encoder's output type.
    """
    out = np.empty((len(places), encoder.dimension), dtype=encoder.dtype)
    if places.owner is None:
        encode_blocks(encoder, places.lonlat, out, progress=progress)
    else:
        encode_means(encoder, places.lonlat, places.owner, out, progress=progress)
    return out


def encode(
    lon: ArrayLike,
    lat: ArrayLike,
    *,
    encoder: "str | LocationEncoder" = "geoclip.v1",
    progress: bool | None = None,
    **options: Any,
) -> NDArray[np.floating[Any]]:
    """Encode coordinates: plain arrays in, a plain array out.

    Parameters
    ----------
    lon, lat : array of shape (n,) or scalar
        Degrees, WGS 84; longitude of any turn, latitude in [-90, 90].
    encoder : str or LocationEncoder
        Registered name, local path, or a loaded encoder.
    progress : bool or None
        Show a progress bar; None shows one on a terminal when the work is long.
    **options
        Of the encoder: ``layers``, ``normalize``, ``precision``, ``dtype``, ``device``,
        ``seam``, ``block_size``; see `geoembed.LocationEncoder`.

    Returns
    -------
    array of shape (n, d)
        float32 and not normalised unless the options say otherwise.

    Raises
    ------
    CoordinateError
        If a coordinate is missing, not finite or out of range; the message names the rows.

    Examples
    --------
    >>> import geoembed as ge
    >>> ge.encode(lon=[-74.006], lat=[40.7128]).shape
    (1, 512)
    """
    places = read_places(lon=np.atleast_1d(lon), lat=np.atleast_1d(lat))
    return encode_places(load_encoder(encoder, **options), places, progress=progress)


class LocationFeaturizer(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Turn places into embeddings, as a scikit-learn transformer.

    X may be a GeoDataFrame, a GeoSeries, shapely geometries, a DataFrame with lon/lat columns or
    an array of shape (n, 2) in (lon, lat) order, degrees, WGS 84; a frame with a CRS is
    converted. It learns nothing from X and may transform without being fitted. Weights are
    loaded when first used, shared within a process, and never pickled.

    Parameters
    ----------
    encoder : str or LocationEncoder
        Registered name or local path.
    layers : str
        Which layers make up the vector: ``"final"`` (512 values, what papers report),
        ``"scales"`` (1536), ``"hidden"`` (9216), or terms joined by ``+``; see
        `geoembed.encoders.layers.parse_layers`.
    normalize : bool
        Scale every row to unit Euclidean norm.
    precision : {"float32", "float64", "bfloat16", "float16"}
        What the network computes in; coordinates and phases stay exact in all.
    dtype : {"float32", "float16", "float64"}
        Type of the result.
    device : str
        ``"auto"`` (CUDA, else MPS, else the CPU) or a device name.
    seam : {"as-trained", "blend"}
        ``"blend"`` makes the map continuous across the antimeridian and at the poles.
    geometry : {"point", "representative_point", "centroid", "sample"}
        What stands for a geometry that is not a point; ``"point"`` refuses those, ``"sample"``
        gives the mean embedding of `samples` points spread over it.
    samples : int
        Points a geometry with ``geometry="sample"``.
    crs : any
        CRS of X where X does not carry one; see `geoembed.read_places`.
    on_invalid : {"raise", "nan"}
        What becomes of rows that are missing, empty or not finite: an error that names them, or
        rows of NaN. Rows are never dropped here.
    block_size : int, optional
        Rows computed at a time.
    prefix : str, optional
        Start of every feature name; the encoder's name if not given.
    progress : bool, optional
        Show a progress bar; None shows one on a terminal when the work is long.

    Attributes
    ----------
    n_features_in_ : int
        Number of columns that the places were read from.
    feature_names_in_ : array of str
        Names of those columns; only when X has column names.

    Examples
    --------
    >>> import geopandas as gpd
    >>> from geoembed import LocationFeaturizer
    >>> towns = gpd.GeoDataFrame(geometry=gpd.points_from_xy([13.4, 2.35], [52.5, 48.86]), crs=4326)
    >>> LocationFeaturizer(layers="scales").fit_transform(towns).shape
    (2, 1536)
    """

    def __init__(
        self,
        encoder: "str | LocationEncoder" = "geoclip.v1",
        *,
        layers: str = "final",
        normalize: bool = False,
        precision: str = "float32",
        dtype: str = "float32",
        device: str = "auto",
        seam: str = "as-trained",
        geometry: str = "point",
        samples: int = 32,
        crs: Any = None,
        on_invalid: str = "raise",
        block_size: int | None = None,
        prefix: str | None = None,
        progress: bool | None = None,
    ) -> None:
        self.encoder = encoder
        self.layers = layers
        self.normalize = normalize
        self.precision = precision
        self.dtype = dtype
        self.device = device
        self.seam = seam
        self.geometry = geometry
        self.samples = samples
        self.crs = crs
        self.on_invalid = on_invalid
        self.block_size = block_size
        self.prefix = prefix
        self.progress = progress

    def fit(self, X: Any, y: Any = None) -> Self:
        """Check the options and that X can be read as places; learn nothing.

        Parameters
        ----------
        X : GeoDataFrame, GeoSeries, DataFrame, geometries or array of shape (n, 2)
            Places, see the class.
        y : None
            Ignored.

        Returns
        -------
        LocationFeaturizer
            Itself.

        Raises
        ------
        CoordinateError
            If X cannot be read as places.
        OptionError
            If a parameter is not one of those offered.
        """
        self._load()
        self._read(X, reset=True)
        return self

    def transform(self, X: Any) -> NDArray[np.floating[Any]]:
        """Encode places.

        Parameters
        ----------
        X : GeoDataFrame, GeoSeries, DataFrame, geometries or array of shape (n, 2)
            Places, see the class.

        Returns
        -------
        array of shape (n, d)
            One row a row of X, in order; a frame if `set_output` asks for one.

        Raises
        ------
        CoordinateError
            If X cannot be read as places, or holds invalid ones and ``on_invalid="raise"``.
        """
        places = self._read(X, reset=False)
        return encode_places(self._load(), places, progress=self.progress)

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[Any]:
        """Return the names of the embedding's columns.

        Parameters
        ----------
        input_features : ignored
            There for scikit-learn's sake; names do not depend on the input.

        Returns
        -------
        array of str
            ``geoclip.v1_000`` and so on.
        """
        return np.asarray(self._load().feature_names(self.prefix), dtype=object)

    def _load(self) -> LocationEncoder:
        given = {name: getattr(self, name) for name in OPTION_DEFAULTS}
        if isinstance(self.encoder, LocationEncoder):
            # A loaded encoder brings its own options; only one that was set here contradicts it.
            given = {name: v for name, v in given.items() if v != OPTION_DEFAULTS[name]}
        return load_encoder(self.encoder, **given)

    def _read(self, X: Any, *, reset: bool) -> Places:
        """Read X as places; remember which columns they came from if `reset`."""
        places = read_places(
            X,
            crs=self.crs,
            geometry=self.geometry,
            samples=self.samples,
            on_invalid=self.on_invalid,
        )
        if reset:
            self.n_features_in_ = len(places.source) or 2
            if places.source:
                self.feature_names_in_ = np.asarray(places.source, dtype=object)
            elif hasattr(self, "feature_names_in_"):
                del self.feature_names_in_
        return places

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.requires_fit = False
        # The type of the result is `dtype`, whatever the type of the coordinates.
        tags.transformer_tags.preserves_dtype = []
        tags.input_tags.allow_nan = self.on_invalid == "nan"
        return tags


def embed(
    frame: pd.DataFrame | gpd.GeoSeries,
    encoder: "str | LocationEncoder" = "geoclip.v1",
    *,
    layout: str = "columns",
    prefix: str | None = None,
    overwrite: bool = False,
    lon: str | None = None,
    lat: str | None = None,
    crs: Any = None,
    geometry: str = "point",
    samples: int = 32,
    on_invalid: str = "raise",
    progress: bool | None = None,
    **options: Any,
) -> pd.DataFrame:
    """Return a table with the embedding of every row added.

    Parameters
    ----------
    frame : GeoDataFrame, GeoSeries or DataFrame
        Places; a DataFrame needs lon/lat columns. It is not changed.
    encoder : str or LocationEncoder
        Registered name, local path, or a loaded encoder.
    layout : {"columns", "vector"}
        One column a value, or one column whose cells are arrays.
    prefix : str, optional
        Start of the new columns' names (``geoclip.v1_000`` without), or with ``layout="vector"``
        the name of the one column (``embedding`` without).
    overwrite : bool
        Replace columns of those names; else they are an error.
    lon, lat : str, optional
        Names of the coordinate columns of a DataFrame, where they are not the usual ones.
    crs : any
        CRS of coordinates that do not carry one; see `geoembed.read_places`.
    geometry, samples
        What stands for a geometry that is not a point, as in `LocationFeaturizer`.
    on_invalid : {"raise", "nan", "drop"}
        What becomes of rows that are missing, empty or not finite: an error that names them,
        rows of NaN, or rows left out.
    progress : bool or None
        Show a progress bar; None shows one on a terminal when the work is long.
    **options
        Of the encoder: ``layers``, ``normalize``, ``precision``, ``dtype``, ``device``,
        ``seam``, ``block_size``; see `geoembed.LocationEncoder`.

    Returns
    -------
    GeoDataFrame or DataFrame
        Of the kind of `frame` (a GeoDataFrame for a GeoSeries), with its index, order, CRS and
        columns, and the embedding after them.

    Raises
    ------
    CoordinateError
        If the places cannot be read, or some are invalid and ``on_invalid="raise"``.
    TableError
        If a column of a new name exists and `overwrite` is false, or `frame` is not a table.
    OptionError
        If an option is not one of those offered.

    Examples
    --------
    >>> import geoembed as ge, geopandas as gpd
    >>> towns = gpd.GeoDataFrame(
    ...     {"name": ["Berlin"]}, geometry=gpd.points_from_xy([13.4], [52.5]), crs=4326
    ... )
    >>> ge.embed(towns).shape
    (1, 514)
    """
    if layout not in _LAYOUTS:
        raise OptionError(f"layout={layout!r} is not one of: {', '.join(_LAYOUTS)}.")
    if on_invalid not in {"raise", "nan", "drop"}:
        raise OptionError(f"on_invalid={on_invalid!r} is not one of: raise, nan, drop.")
    if isinstance(frame, gpd.GeoSeries):
        frame = frame.to_frame(frame.name or "geometry")
    if not isinstance(frame, pd.DataFrame):
        raise TableError(
            f"embed() takes a GeoDataFrame, a GeoSeries or a DataFrame, got "
            f"{type(frame).__name__}. For arrays use geoembed.encode(lon=..., lat=...)."
        )
    loaded = load_encoder(encoder, **options)
    if layout == "vector":
        names = [VECTOR_COLUMN if prefix is None else prefix]
    else:
        names = loaded.feature_names(prefix)
    kept = _without(frame, names, overwrite)
    places = read_places(
        frame,
        lon=lon,
        lat=lat,
        crs=crs,
        geometry=geometry,
        samples=samples,
        on_invalid="raise" if on_invalid == "raise" else "nan",
    )
    vectors = encode_places(loaded, places, progress=progress)
    if on_invalid == "drop" and not places.valid.all():
        kept, vectors = kept[places.valid], vectors[places.valid]
    return _join(kept, vectors, names, layout)


def _without(frame: pd.DataFrame, names: list[str], overwrite: bool) -> pd.DataFrame:
    there = [name for name in names if name in frame.columns]
    if not there:
        return frame
    if not overwrite:
        more = f" and {len(there) - 3} more" if len(there) > 3 else ""
        raise TableError(
            f"The table already has the column{'s' * (len(there) > 1)} "
            f"{', '.join(map(repr, there[:3]))}{more}. Pass overwrite=True to replace, "
            "or another prefix=."
        )
    if isinstance(frame, gpd.GeoDataFrame) and frame._geometry_column_name in there:
        raise TableError(
            f"The embedding cannot replace the geometry column {there[0]!r}. Pass another prefix=."
        )
    return frame.drop(columns=there)


def _join(
    frame: pd.DataFrame, vectors: NDArray[np.floating[Any]], names: list[str], layout: str
) -> pd.DataFrame:
    """Put vectors beside a frame of the same rows; index, CRS and attributes are the frame's."""
    if layout == "vector":
        cells = np.empty(len(vectors), dtype=object)
        cells[:] = list(vectors)
        added = pd.DataFrame({names[0]: cells}, index=frame.index)
    else:
        added = pd.DataFrame(vectors, index=frame.index, columns=names, copy=False)
    joined = pd.concat([frame, added], axis=1)
    joined.attrs = dict(frame.attrs)
    return joined
