"""What every location encoder offers: the common options, and the way from lon/lat to vectors."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Final, Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from geoembed.coordinates import read_places
from geoembed.encoders import resolution
from geoembed.encoders.blocks import encode_blocks
from geoembed.encoders.layers import name_features
from geoembed.encoders.seam import SeamBlender
from geoembed.errors import OptionError, PluginError
from geoembed.extending.specs import LocationEncoderSpec
from geoembed.scalars import check_count

__all__ = ["BACKENDS", "OPTION_DEFAULTS", "OUTPUT_DTYPES", "LocationEncoder"]

# The options every encoder takes, with the value each has if it is not given.
OPTION_DEFAULTS: Final[dict[str, Any]] = {
    "layers": "final",
    "normalize": False,
    "precision": "float32",
    "dtype": "float32",
    "device": "auto",
    "seam": "as-trained",
    "block_size": None,
    "backend": "auto",
}

BACKENDS: Final = ("auto", "torch", "onnx")
OUTPUT_DTYPES: Final = ("float32", "float16", "float64")
_SEAMS: Final = ("as-trained", "blend")
_PRECISIONS: Final = ("float32", "float64", "bfloat16", "float16")
_PRECISIONS_ONNX: Final = ("float32", "float64", "int8")


class LocationEncoder(ABC):
    """Coordinates in, vectors out.

    A plugin subclasses it and writes `_encode_block`; blocks, output type, normalisation, the
    seam and the resolution profile come from here.

    Parameters
    ----------
    spec : LocationEncoderSpec
        What it is called and where it comes from.
    layers : str
        Which layers make up the vector; ``"final"`` is what papers report, ``"best"`` the
        preset of the spec for heads. Encoders without choosable layers take only these two,
        which are then one.
    normalize : bool
        Scale every row to unit Euclidean norm.
    precision : {"float32", "float64", "bfloat16", "float16"}
        What the network computes in. Coordinates and phases stay exact in all.
    dtype : {"float32", "float16", "float64"}
        Type of the result.
    device : str
        ``"auto"`` (CUDA, else MPS, else the CPU) or a device name.
    seam : {"as-trained", "blend"}
        ``"blend"`` makes the map continuous across the antimeridian and at the poles, see
        `geoembed.encoders.seam.SeamBlender`; ``"as-trained"`` is exact parity. The two are one
        for a network that was trained on the unit sphere, which is continuous as it is.
    block_size : int or None
        Rows computed at a time; None chooses what fits the cache of the device.
    backend : {"auto", "torch", "onnx"}
        ``"onnx"`` for encoders that run in onnxruntime, whose precisions are float32, float64
        and int8. `geoembed.load_encoder` chooses by it; other encoders need not take it.

    Raises
    ------
    OptionError
        If an option is not one of those offered.

    Examples
    --------
    >>> import numpy as np
    >>> class Latitude(LocationEncoder):
    ...     def _encode_block(self, lonlat):
    ...         return np.sin(np.radians(lonlat[:, 1:]))
    >>> spec = LocationEncoderSpec(
    ...     name="latitude", factory="my_package:Latitude", dimension=1, summary="Sine of latitude"
    ... )
    >>> Latitude(spec).encode(lon=[12.5, 0.0], lat=[30.0, 90.0]).round(6).tolist()
    [[0.5], [1.0]]
    """

    supports_layers: ClassVar[bool] = False
    supports_precision: ClassVar[bool] = False

    def __init__(
        self,
        spec: LocationEncoderSpec,
        *,
        layers: str = "final",
        normalize: bool = False,
        precision: str = "float32",
        dtype: str = "float32",
        device: str = "auto",
        seam: str = "as-trained",
        block_size: int | None = None,
        backend: str = "auto",
    ) -> None:
        _check_choice("backend", backend, BACKENDS)
        _check_precision(precision, backend)
        _check_choice("dtype", dtype, OUTPUT_DTYPES)
        _check_choice("seam", seam, _SEAMS)
        if layers == "best":
            # Resolved at once, so that files and cache keys say what the values are.
            layers = spec.best_layers
        if not self.supports_layers and layers != "final":
            raise OptionError(
                f"layers={layers!r}: the encoder {spec.name!r} offers only layers='final', "
                "and 'best', which is the same."
            )
        if not self.supports_precision and precision not in {"float32", "float64"}:
            raise OptionError(
                f"precision={precision!r}: the encoder {spec.name!r} offers float32 and float64."
            )
        if not isinstance(normalize, bool | np.bool_):
            # The text "no" counts as true for Python.
            raise OptionError(f"normalize={normalize!r} is not True or False.")
        if block_size is not None:
            check_count("block_size", block_size)
        self.spec = spec
        self.layers = layers
        self.normalize = bool(normalize)
        self.precision = precision
        self.dtype = dtype
        self.device = device
        self.seam = seam
        self.block_size = block_size
        self.backend = backend
        self._blender: SeamBlender | None = None

    @property
    def name(self) -> str:
        """Registered name, for example ``"geoclip.v1"``."""
        return self.spec.name

    @property
    def parts(self) -> tuple[tuple[str, int], ...]:
        """Label and width of every part of the vector, in order."""
        return (("final", self.spec.dimension),)

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        return sum(width for _, width in self.parts)

    @property
    def weights_sha256(self) -> str:
        """Digest of the weights in use; the empty string for encoders without any."""
        return ""

    def options(self) -> dict[str, Any]:
        """Return the options that decide the values of a vector, for provenance and cache keys.

        Returns
        -------
        dict
            Name -> value of ``layers``, ``normalize``, ``precision``, ``dtype`` and ``seam``;
            and of ``backend`` where that is onnxruntime.
        """
        return {
            "layers": self.layers,
            "normalize": self.normalize,
            "precision": self.precision,
            "dtype": self.dtype,
            "seam": self.seam,
            **({"backend": self.backend} if self.backend == "onnx" else {}),
        }

    def feature_names(self, prefix: str | None = None) -> list[str]:
        """Return a name for every value of a vector.

        Parameters
        ----------
        prefix : str, optional
            Stands before every name; the encoder's name if not given.

        Returns
        -------
        list of str
            ``geoclip.v1_000`` ... for the final layer; other parts carry their label:
            ``geoclip.v1_scale0_000``.
        """
        return name_features(self.name if prefix is None else prefix, self.parts)

    def encode(
        self,
        lon: ArrayLike,
        lat: ArrayLike,
        *,
        on_invalid: str = "raise",
        progress: bool | None = False,
    ) -> NDArray[np.floating[Any]]:
        """Encode coordinates.

        Parameters
        ----------
        lon, lat : array of shape (n,) or scalar
            Degrees, WGS 84; longitude of any turn, latitude in [-90, 90].
        on_invalid : {"raise", "nan"}
            What becomes of coordinates that are missing or not finite: an error that names them,
            or rows of NaN.
        progress : bool or None
            Show a progress bar; None shows one on a terminal when the work is long.

        Returns
        -------
        array of shape (n, dimension)
            Of the type `dtype`.

        Raises
        ------
        CoordinateError
            If a value is missing, not finite or out of range; the message names the rows.
        """
        places = read_places(lon=lon, lat=lat, on_invalid=on_invalid)
        out = np.empty((len(places), self.dimension), dtype=self.dtype)
        encode_blocks(self, places.lonlat, out, progress=progress)
        return out

    def resolution_profile(
        self,
        lon: float,
        lat: float,
        *,
        distances_km: ArrayLike = resolution.DISTANCES_KM,
        bearings: int = 24,
    ) -> pd.DataFrame:
        """Tell how fast similarity falls with distance from a place.

        Parameters
        ----------
        lon, lat : float
            The place, degrees, WGS 84.
        distances_km : array of shape (k,)
            Geodesic distances to look at, km, not negative.
        bearings : int
            Directions looked into at every distance, evenly spaced.

        Returns
        -------
        DataFrame of k rows
            ``distance_km``, and the mean, smallest and largest cosine similarity over the
            bearings as ``mean``, ``min`` and ``max``. A vector cannot tell apart places at
            distances whose mean is near 1.
        """
        return resolution.profile(self, lon, lat, distances_km, bearings)

    def values(self, lonlat: NDArray[np.float64]) -> NDArray[np.floating[Any]]:
        """Return raw vectors: the seam is done, nothing is normalised or cast.

        Parameters
        ----------
        lonlat : array of shape (n, 2), float64
            Valid places, degrees, WGS 84, longitude in [-180, 180].

        Returns
        -------
        array of shape (n, dimension)
            Of the type that the encoder computes in.
        """
        block = self._encode_block(lonlat)
        who = f"The encoder {self.name!r} ({type(self).__name__})"
        if not isinstance(block, np.ndarray) or block.dtype.kind not in "fiu":
            got = getattr(block, "dtype", type(block).__name__)
            raise PluginError(f"{who} returned {got}, expected an array of real numbers.")
        expected = (len(lonlat), self.dimension)
        if block.shape != expected:
            raise PluginError(
                f"{who} returned an array of shape {block.shape} for {len(lonlat)} places, "
                f"expected {expected}."
            )
        if self.seam == "blend" and self._is_torn:
            if self._blender is None:
                self._blender = SeamBlender(self._encode_block, [w for _, w in self.parts])
            block = self._blender(lonlat, block)
        return block

    def finish(self, values: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
        """Normalise raw vectors if that was asked for; the cast to `dtype` is the writer's.

        Parameters
        ----------
        values : array of shape (n, dimension)
            From `values`.

        Returns
        -------
        array of shape (n, dimension)
            The same array if nothing is to be done. A row of zeros stays one.
        """
        if not self.normalize:
            return values
        norms = np.linalg.norm(values, axis=1, keepdims=True)
        # A zero vector has no direction; it stays zero.
        return values / np.where(norms == 0.0, 1.0, norms)

    def blocks_of(self) -> int:
        """Return how many rows are computed at a time.

        Returns
        -------
        int
            The option `block_size`, or what suits the device.
        """
        return self.block_size or self._default_block_size()

    @abstractmethod
    def _encode_block(self, lonlat: NDArray[np.float64]) -> NDArray[np.floating[Any]]:
        """Return vectors (m, dimension) for valid lon/lat (m, 2), float64, degrees, WGS 84."""

    def _default_block_size(self) -> int:
        return 4096

    @property
    def _is_torn(self) -> bool:
        # Encoders that know themselves to be continuous have nothing to blend.
        return True

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        # By recipe: weights are found again where the object is unpickled.
        return _remake, (self._recipe(), {**self.options(), **self._placement()})

    def _recipe(self) -> str:
        return self.name

    def _bare(self) -> "LocationEncoder":
        # One that only speeds up another stands for that one where heads are saved.
        return self

    def _placement(self) -> dict[str, Any]:
        return {"device": self.device, "block_size": self.block_size}

    def __repr__(self) -> str:
        shown = ", ".join(f"{key}={value!r}" for key, value in self.options().items())
        return f"<{type(self).__name__} {self.name} ({self.dimension} values; {shown})>"

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self  # immutable in practice; copies would double the weights


def _remake(name: str, options: dict[str, Any]) -> LocationEncoder:
    from geoembed.encoders import load_encoder

    return load_encoder(name, **options)


def _check_precision(precision: object, backend: str) -> None:
    if backend == "onnx" and precision in _PRECISIONS and precision not in _PRECISIONS_ONNX:
        raise OptionError(
            f"precision={precision!r}: backend='onnx' offers {', '.join(_PRECISIONS_ONNX)}. Use "
            "one of those, or leave backend out."
        )
    if backend != "onnx" and precision == "int8":
        raise OptionError("precision='int8' is offered by onnxruntime only: pass backend='onnx'.")
    _check_choice("precision", precision, _PRECISIONS_ONNX if backend == "onnx" else _PRECISIONS)


def _check_choice(option: str, value: object, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise OptionError(f"{option}={value!r} is not one of: {', '.join(choices)}.")
