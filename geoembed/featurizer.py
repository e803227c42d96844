"""The featurizer: places to vectors, as plain arrays and as a scikit-learn transformer."""

from functools import partial
from typing import Any, Self

import numpy as np
import sklearn
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, TransformerMixin

from geoembed.coordinates import Places, read_places
from geoembed.encoders import load_encoder
from geoembed.encoders.base import OPTION_DEFAULTS, LocationEncoder
from geoembed.encoders.blocks import encode_blocks, encode_means
from geoembed.encoders.sharing import shared_encoder
from geoembed.errors import OptionError
from geoembed.partitions import is_lazy, map_frames

__all__ = ["LocationFeaturizer", "encode", "encode_places"]


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
    on_invalid: str = "raise",
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
    on_invalid : {"raise", "nan"}
        What becomes of coordinates that are missing or not finite: an error that names them, or
        rows of NaN.
    progress : bool or None
        Show a progress bar; None shows one on a terminal when the work is long.
    **options
        Of the encoder: ``layers``, ``normalize``, ``precision``, ``dtype``, ``device``,
        ``seam``, ``block_size``, ``backend``; see `geoembed.LocationEncoder`.

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
    places = read_places(lon=lon, lat=lat, on_invalid=on_invalid)
    return encode_places(load_encoder(encoder, **options), places, progress=progress)


class LocationFeaturizer(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Turn places into embeddings, as a scikit-learn transformer.

    X may be a GeoDataFrame, a GeoSeries, shapely geometries, a DataFrame with lon/lat columns or
    an array of shape (n, 2) in (lon, lat) order, degrees, WGS 84; a frame with a CRS is
    converted. Of a frame of dask or dask-geopandas it makes an array of dask. It learns nothing
    from X and may transform without being fitted. Weights are
    loaded when first used, shared within a process, and never pickled.

    Parameters
    ----------
    encoder : str or LocationEncoder
        Registered name or local path, an ``.onnx`` file of ``geoembed export`` among them.
    layers : str
        Which layers make up the vector: ``"final"`` (512 values, what papers report),
        ``"scales"`` (1536), ``"hidden"`` (9216), ``"best"`` (the encoder's preset for heads), or
        terms joined by ``+``; see
        `geoembed.encoders.layers.parse_layers`.
    normalize : bool
        Scale every row to unit Euclidean norm.
    precision : {"float32", "float64", "bfloat16", "float16", "int8"}
        What the network computes in; coordinates and phases stay exact in all. ``"int8"`` is
        for ONNX, which has neither half precision.
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
    backend : {"auto", "torch", "onnx"}
        ``"onnx"`` computes in onnxruntime and imports no torch, but for the first use of an
        encoder's name, which exports it into the cache. ``"auto"`` does so for ``.onnx`` files.

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
        backend: str = "auto",
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
        self.backend = backend

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
            One row a row of X, in order; a frame if `set_output` asks for one. For a frame of
            dask an array of dask, a chunk a partition; `geoembed.embed` makes frames.

        Raises
        ------
        CoordinateError
            If X cannot be read as places, or holds invalid ones and ``on_invalid="raise"``;
            invalid rows of a frame of dask show when it is computed.
        OptionError
            If X is a frame of dask and `set_output` asks for another kind of frame.
        WorkerError
            If X is a frame of dask and its cluster cannot do the work.
        """
        if is_lazy(X):
            lazily: NDArray[np.floating[Any]] = self._transform_lazily(X)
            return lazily
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

    def _transform_lazily(self, X: Any) -> Any:
        asked = getattr(self, "_sklearn_output_config", {}).get("transform")
        if (asked or sklearn.get_config()["transform_output"]) != "default":
            # scikit-learn would compute all of it at once to put it into such a frame.
            raise OptionError(
                "set_output() makes no frames of dask. Call geoembed.embed(), which does, or leave "
                "set_output() out for an array of dask."
            )
        self._read(X, reset=False)
        encoder = self._load()
        meta = np.empty((0, encoder.dimension), dtype=encoder.dtype)
        width = encoder.dimension * meta.itemsize
        work = partial(_transform_part, self)
        return map_frames(X, work, meta=meta, bytes_a_row=width, name="geoembed-transform")

    def _load(self, load: Any = load_encoder) -> LocationEncoder:
        given = {name: getattr(self, name) for name in OPTION_DEFAULTS}
        if isinstance(self.encoder, LocationEncoder):
            # A loaded encoder brings its own options; only one that was set here contradicts it.
            given = {name: v for name, v in given.items() if v != OPTION_DEFAULTS[name]}
        loaded: LocationEncoder = load(self.encoder, **given)
        return loaded

    def _read(self, X: Any, *, reset: bool) -> Places:
        """Read X as places; remember which columns they came from if `reset`."""
        if is_lazy(X):
            # Its columns and CRS, without a row.
            X = X._meta
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


def _transform_part(featurizer: LocationFeaturizer, part: Any) -> NDArray[np.floating[Any]]:
    places = featurizer._read(part, reset=False)
    return encode_places(featurizer._load(shared_encoder), places, progress=False)
