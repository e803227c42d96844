"""How galleries are made: of coordinates, tables, grids, cells and cities."""

from abc import abstractmethod
from pathlib import Path
from typing import Any, Final, Self

from numpy.typing import ArrayLike, NDArray

from geoembed.coordinates import read_places
from geoembed.encoders import load_encoder
from geoembed.encoders.base import LocationEncoder
from geoembed.encoders.blocks import encode_rows
from geoembed.errors import OptionError
from geoembed.galleries import builders
from geoembed.galleries.cache import cached_vectors, gallery_facts
from geoembed.galleries.places import GalleryPlaces
from geoembed.galleries.store import publish_folder, read_folder

__all__ = ["Making"]

_DTYPES: Final = ("float32", "float16")
_NAME_CHARACTERS: Final = frozenset(
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_+"
)


class Making:
    """The class methods that make a `geoembed.Gallery`."""

    resumed: int = 0
    """Places that a build which was interrupted had encoded before `build` went on with it."""

    @abstractmethod
    def __init__(
        self,
        places: GalleryPlaces,
        embeddings: NDArray[Any],
        facts: dict[str, Any],
        *,
        folder: Path | None = None,
        device: str = "auto",
    ) -> None:
        """Take places with their vectors; `geoembed.Gallery` says what each is."""

    @classmethod
    def of(
        cls,
        places: GalleryPlaces,
        *,
        encoder: "str | Path | LocationEncoder" = "geoclip.v1",
        layers: str = "final",
        dtype: str = "float32",
        device: str = "auto",
        precision: str | None = None,
        backend: str | None = None,
        progress: bool | None = None,
    ) -> Self:
        """Encode places, or find their vectors in geoembed's cache.

        Parameters
        ----------
        places : GalleryPlaces
            What is encoded.
        encoder : str, Path or LocationEncoder
            Registered name, local path, or a loaded encoder. Its vectors are scaled to length 1.
        layers : str
            Which layers make up a vector; photographs can be compared with ``"final"`` only.
        dtype : {"float32", "float16"}
            In which they are kept; float16 takes half the room, and scores differ by about 1e-4.
        device : str
            ``"auto"`` (CUDA, else MPS, else the CPU) or a device name.
        precision : str, optional
            In which the encoder computes, see `geoembed.LocationEncoder`; with
            ``backend="onnx"`` also ``"int8"``, the quickest on CPUs.
        backend : {"auto", "torch", "onnx"}, optional
            What the encoder runs in, see `geoembed.load_encoder`.
        progress : bool, optional
            Show a progress bar while encoding.

        Returns
        -------
        Gallery
            Ready to be searched.

        Raises
        ------
        OptionError
            If an option is not one of those offered.
        MissingWeightsError
            If the encoder's weights are not on this machine.
        """
        _check_dtype(dtype)
        loaded = _unit_encoder(encoder, layers, device, precision, backend)
        vectors, folder = cached_vectors(places, loaded, dtype, progress)
        facts = gallery_facts(places, loaded, dtype)
        return cls(places, vectors, facts, folder=folder, device=device)

    @classmethod
    def build(
        cls,
        places: GalleryPlaces,
        folder: str | Path,
        *,
        encoder: "str | Path | LocationEncoder" = "geoclip.v1",
        layers: str = "final",
        dtype: str = "float32",
        device: str = "auto",
        precision: str | None = None,
        backend: str | None = None,
        progress: bool | None = None,
        force: bool = False,
    ) -> Self:
        """Encode places straight into a folder: for galleries that are to be kept or passed on.

        Vectors are written as they are computed and take no memory. A build that is killed, or
        meets a full disk, keeps what is done beside `folder`; the same call goes on there, and the
        gallery becomes what it would have been, bit by bit.

        Parameters
        ----------
        places : GalleryPlaces
            What is encoded.
        folder : str or Path
            Made by this; `geoembed.galleries.load_gallery` opens it.
        encoder, layers, dtype, device, precision, backend, progress
            As in `of`.
        force : bool
            Replace a gallery that is there.

        Returns
        -------
        Gallery
            Its vectors memory-mapped.

        Raises
        ------
        OptionError
            If the folder is there and is not to be replaced, or an option is not one of those
            offered.
        TableError
            If it cannot be written, or the disk is full; says what is kept.

        Warns
        -----
        GalleryBuildWarning
            If an unfinished build with other places, encoder or options is left there: this one
            begins anew, and that one is kept for a week.
        """
        _check_dtype(dtype)
        loaded = _unit_encoder(encoder, layers, device, precision, backend)
        resumed = 0

        def fill(out: Any) -> None:
            nonlocal resumed
            resumed = out.done
            encode_rows(loaded, places.lonlat, out, start=resumed, progress=progress)

        path = publish_folder(
            folder,
            gallery_facts(places, loaded, dtype),
            places,
            (len(places), loaded.dimension),
            dtype,
            fill,
            force=force,
            resume=True,
        )
        facts, arrays = read_folder(path)
        made = cls(places, arrays["embeddings"], facts, folder=path, device=device)
        made.resumed = resumed
        return made

    @classmethod
    def from_lonlat(cls, lonlat: ArrayLike, *, name: str = "places", **options: Any) -> Self:
        """Make a gallery of coordinates.

        Parameters
        ----------
        lonlat : array_like of shape (n, 2)
            Longitude (any turn) and latitude, degrees, WGS 84; equal rows become one place.
        name : str
            What it is called.
        **options
            Those of `of`.

        Returns
        -------
        Gallery
            Encoded.

        Raises
        ------
        CoordinateError
            If coordinates are missing or out of range.
        """
        lonlat = read_places(lonlat).lonlat
        return cls.of(GalleryPlaces.of(lonlat, name=_check_name(name)), **options)

    @classmethod
    def from_frame(
        cls, frame: Any, *, name: str = "places", geometry: str = "point", **options: Any
    ) -> Self:
        """Make a gallery of a table of places, in any CRS.

        Parameters
        ----------
        frame : GeoDataFrame, GeoSeries, DataFrame or geometries
            Anything that `geoembed.read_places` reads; equal places become one.
        name : str
            What it is called.
        geometry : str
            What stands for a geometry that is not a point, as in `geoembed.read_places`.
        **options
            Those of `of`.

        Returns
        -------
        Gallery
            Encoded.

        Raises
        ------
        CoordinateError
            If it cannot be read as places, or some are missing.
        """
        places = read_places(frame, geometry=geometry)
        if places.owner is not None:
            raise OptionError(
                "geometry='sample' makes many points of one row: choose 'representative_point' or "
                "'centroid' for a gallery."
            )
        return cls.of(GalleryPlaces.of(places.lonlat, name=_check_name(name)), **options)

    @classmethod
    def grid(
        cls, spacing_km: float, *, within: Any = None, land_only: bool = True, **options: Any
    ) -> Self:
        """Make a gallery of an even grid over the land, or over polygons.

        Parameters
        ----------
        spacing_km, within, land_only
            As in `geoembed.galleries.builders.grid_places`.
        **options
            Those of `of`.

        Returns
        -------
        Gallery
            Encoded.
        """
        return cls.of(builders.grid_places(spacing_km, within, land_only=land_only), **options)

    @classmethod
    def h3(
        cls, resolution: int, *, within: Any = None, land_only: bool = True, **options: Any
    ) -> Self:
        """Make a gallery of the centres of H3's cells.

        Parameters
        ----------
        resolution, within, land_only
            As in `geoembed.galleries.builders.h3_places`.
        **options
            Those of `of`.

        Returns
        -------
        Gallery
            Encoded.
        """
        return cls.of(builders.h3_places(resolution, within, land_only=land_only), **options)

    @classmethod
    def cities(cls, min_population: int = 0, **options: Any) -> Self:
        """Make a gallery of the cities that ship with geoembed.

        Parameters
        ----------
        min_population : int
            Only cities with so many people.
        **options
            Those of `of`.

        Returns
        -------
        Gallery
            Encoded.
        """
        name = "cities" if not min_population else f"cities.{min_population}"
        return cls.of(builders.cities_from(min_population, name), **options)


def _check_name(name: str) -> str:
    # It becomes the name of a folder in the cache.
    if not isinstance(name, str) or not name or not set(name) <= _NAME_CHARACTERS:
        raise OptionError(f"name={name!r} does not fit: use letters, digits, '.', '-', '_', '+'.")
    return name


def _check_dtype(dtype: str) -> None:
    if dtype not in _DTYPES:
        raise OptionError(f"dtype={dtype!r} is not one of: {', '.join(_DTYPES)}.")


def _unit_encoder(
    encoder: "str | Path | LocationEncoder",
    layers: str,
    device: str,
    precision: str | None,
    backend: str | None,
) -> LocationEncoder:
    chosen = {"precision": precision, "backend": backend}
    given = {option: value for option, value in chosen.items() if value is not None}
    if not isinstance(encoder, LocationEncoder):
        return load_encoder(encoder, layers=layers, normalize=True, device=device, **given)
    if given:
        raise OptionError(
            f"The encoder {encoder!r} is loaded already and takes no {' or '.join(given)}: load "
            "it with that, or give its name."
        )
    if not encoder.normalize:
        raise OptionError(
            f"The encoder {encoder!r} gives vectors of any length: load it with normalize=True."
        )
    return encoder
