"""The places of the galleries, out of the package airportsdata."""

from importlib.metadata import version

import airportsdata

from geoembed.extending import GallerySpec
from geoembed.galleries import GalleryPlaces

__all__ = ["airports", "landing_strips"]


def airports(spec: GallerySpec) -> GalleryPlaces:
    """Return the airports with an IATA code.

    Parameters
    ----------
    spec : GallerySpec
        What was registered.

    Returns
    -------
    GalleryPlaces
        In the order of the codes.

    Examples
    --------
    >>> from geoembed.extending.registry import gallery_spec
    >>> len(airports(gallery_spec("airports"))) > 7000
    True
    """
    return _places(spec, "IATA")


def landing_strips(spec: GallerySpec) -> GalleryPlaces:
    """Return everything with an ICAO code.

    Parameters
    ----------
    spec : GallerySpec
        What was registered.

    Returns
    -------
    GalleryPlaces
        In the order of the codes; fields that share a place are one, with a count.
    """
    return _places(spec, "ICAO")


def _places(spec: GallerySpec, codes: str) -> GalleryPlaces:
    table = airportsdata.load(codes)
    lonlat = [(table[code]["lon"], table[code]["lat"]) for code in sorted(table)]
    # The package's release is the version of the places: a newer one gets a cache of its own.
    return GalleryPlaces.of(
        lonlat, name=spec.name, source=spec.source, version=version("airportsdata")
    )
