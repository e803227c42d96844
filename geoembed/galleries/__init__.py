"""Places with their embeddings, encoded once, and how they are searched."""

from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

from geoembed.errors import OptionError, PluginError, TableError
from geoembed.extending import registry
from geoembed.lazy import resolver

if TYPE_CHECKING:
    from geoembed.encoders.base import LocationEncoder
    from geoembed.galleries.cache import GalleryCacheWarning as GalleryCacheWarning
    from geoembed.galleries.coverage import Coverage as Coverage
    from geoembed.galleries.gallery import Gallery as Gallery
    from geoembed.galleries.index import GalleryIndex as GalleryIndex
    from geoembed.galleries.places import GalleryPlaces as GalleryPlaces
    from geoembed.galleries.store import GalleryBuildWarning as GalleryBuildWarning

__all__ = [
    "Coverage",
    "Gallery",
    "GalleryBuildWarning",
    "GalleryCacheWarning",
    "GalleryIndex",
    "GalleryPlaces",
    "list_galleries",
    "load_gallery",
    "places_of",
]

# Resolved when first used: their modules import torch or geopandas.
_HOME = {
    "Coverage": "geoembed.galleries.coverage",
    "Gallery": "geoembed.galleries.gallery",
    "GalleryBuildWarning": "geoembed.galleries.store",
    "GalleryCacheWarning": "geoembed.galleries.cache",
    "GalleryIndex": "geoembed.galleries.index",
    "GalleryPlaces": "geoembed.galleries.places",
}


def list_galleries(pattern: str = "*") -> list[str]:
    """Return the names of the registered galleries.

    Parameters
    ----------
    pattern : str
        Shell-style, for example ``"geoclip*"``.

    Returns
    -------
    list of str
        Sorted.

    Examples
    --------
    >>> list_galleries("geoclip*")
    ['geoclip.100k', 'geoclip.100k+land45']
    """
    return sorted(n for n in registry.gallery_specs() if fnmatchcase(n, pattern.lower()))


def load_gallery(
    name: "str | Path | Gallery",
    *,
    encoder: "str | Path | LocationEncoder | None" = None,
    layers: str = "final",
    dtype: str = "float32",
    precision: str | None = None,
    backend: str | None = None,
    device: str = "auto",
    progress: bool | None = None,
) -> "Gallery":
    """Load a gallery by its registered name, or from a folder that `Gallery.save` wrote.

    A registered gallery is encoded when it is first loaded, half a minute for 100,000 places on
    two cores, and kept in geoembed's cache.

    Parameters
    ----------
    name : str, Path or Gallery
        A name from `list_galleries`, or a folder. A gallery is returned as it is.
    encoder : str, Path or LocationEncoder, optional
        What encodes a registered gallery; the one it was registered with if not given.
    layers, dtype, precision, backend, device, progress
        As in `Gallery.of`.

    Returns
    -------
    Gallery
        Ready to be searched.

    Raises
    ------
    UnknownNameError
        If it is neither a registered name nor a folder that exists; lists close matches.
    TableError
        If a folder is no gallery, or is damaged.
    MissingWeightsError
        If the encoder's weights are not on this machine.

    Examples
    --------
    >>> load_gallery("cities")  # doctest: +ELLIPSIS
    <Gallery cities: 13,... places, geoclip.v1, final, float32>
    """
    from geoembed.galleries.gallery import Gallery

    if isinstance(name, Gallery):
        return name
    if not isinstance(name, str | Path) or not str(name):
        raise OptionError(f"gallery={name!r} is no name and no folder of a gallery.")
    specs = registry.gallery_specs()
    if str(name) not in specs:
        folder = Path(name).expanduser()
        if folder.is_dir():
            return Gallery.load(folder, device=device)
        if isinstance(name, Path) or "/" in str(name):
            raise TableError(f"There is no folder of a gallery {folder}.")
    spec = registry.gallery_spec(str(name))
    return Gallery.of(
        places_of(spec.name),
        encoder=spec.encoder if encoder is None else encoder,
        layers=layers,
        dtype=dtype,
        precision=precision,
        backend=backend,
        device=device,
        progress=progress,
    )


def places_of(name: str) -> "GalleryPlaces":
    """Return the places of a registered gallery, without encoding them.

    Parameters
    ----------
    name : str
        A name from `list_galleries`.

    Returns
    -------
    GalleryPlaces
        Distinct places, with counts.

    Raises
    ------
    UnknownNameError
        If no gallery has that name; lists close matches.
    PluginError
        If its factory returns something else.

    Examples
    --------
    >>> len(places_of("geoclip.100k"))
    94123
    """
    from geoembed.galleries.places import GalleryPlaces

    spec = registry.gallery_spec(name)
    places = registry.resolve_factory(spec.factory, owner=spec.owner)(spec)
    if not isinstance(places, GalleryPlaces):
        raise PluginError(
            f"The factory {spec.factory!r} of the gallery {spec.name!r} returned "
            f"{type(places).__name__} instead of GalleryPlaces."
        )
    return places


__getattr__ = resolver(__name__, _HOME)
