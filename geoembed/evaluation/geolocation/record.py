"""The record of an evaluation: what was compared with what, by which rules and versions."""

import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

from geoembed import __version__
from geoembed.evaluation.geolocation.metrics import GEOSCORE_KM
from geoembed.evaluation.geolocation.protocols import GeolocationProtocol

__all__ = ["build_record", "describe_encoder", "describe_gallery", "deviations"]

FORMAT: Final = "geoembed geolocation evaluation 1"
DISTANCE: Final = "geodesic on the WGS 84 ellipsoid, km (pyproj Geod.inv)"
UNKNOWN: Final = "not known"
_PACKAGES: Final = ("torch", "open_clip_torch", "numpy", "pyproj")


def build_record(**facts: Any) -> dict[str, Any]:
    """Put the record together: the facts, and what every evaluation has in common.

    Parameters
    ----------
    **facts
        ``protocol``, ``manifest``, ``pictures``, ``gallery`` and so on, fit for JSON.

    Returns
    -------
    dict
        With ``format``, ``created`` (UTC), ``distance``, ``geoscore`` and ``versions``.

    Examples
    --------
    >>> sorted(build_record(seed=0))
    ['created', 'distance', 'format', 'geoscore', 'seed', 'versions']
    """
    return {
        "format": FORMAT,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        **facts,
        "distance": DISTANCE,
        "geoscore": f"mean of 5000 exp(-km / {GEOSCORE_KM:g})",
        "versions": _versions(),
    }


def describe_gallery(gallery: Any) -> dict[str, Any]:
    """Say which gallery it is: name, digest, number of places, and what encoded them."""
    facts = ("name", "digest", "encoder", "weights_sha256", "layers", "dtype")
    found = {fact: _plain(getattr(gallery, fact, None)) for fact in facts}
    return {**found, "places": len(gallery.lonlat)}


def describe_encoder(encoder: Any) -> dict[str, Any]:
    """Say which image encoder it is: name, digest of its weights, what it computes in."""
    facts = ("name", "weights_sha256", "precision")
    return {fact: _plain(getattr(encoder, fact, None)) for fact in facts}


def deviations(
    protocol: GeolocationProtocol,
    *,
    gallery: str,
    tta: str,
    thresholds_km: Sequence[float],
    pictures: int,
    lost: int,
) -> list[str]:
    """Say in what an evaluation is not what its protocol asks for.

    Parameters
    ----------
    protocol : GeolocationProtocol
        What is asked for.
    gallery, tta : str
        What was used.
    thresholds_km : sequence of float
        What was used.
    pictures, lost : int
        How many there are, and how many could not be evaluated.

    Returns
    -------
    list of str
        Empty where all is as asked for.

    Examples
    --------
    >>> from geoembed.evaluation.geolocation import load_geolocation_protocol
    >>> protocol = load_geolocation_protocol("im2gps3k")
    >>> deviations(
    ...     protocol,
    ...     gallery="cities",
    ...     tta="ten-crop",
    ...     thresholds_km=protocol.thresholds_km,
    ...     pictures=2997,
    ...     lost=3,
    ... )
    ["the gallery is 'cities' instead of 'geoclip.100k'", '3 of 2,997 pictures are not evaluated']
    """
    found = []
    if gallery != protocol.gallery:
        found.append(f"the gallery is {gallery!r} instead of {protocol.gallery!r}")
    if tta == UNKNOWN:
        found.append(f"which crops the features are of is not known, {protocol.tta!r} is asked for")
    elif tta != protocol.tta:
        found.append(f"crops are {tta!r} instead of {protocol.tta!r}")
    if tuple(thresholds_km) != protocol.thresholds_km:
        found.append("the thresholds are others")
    if lost:
        found.append(f"{lost:,} of {pictures:,} pictures are not evaluated")
    return found


def _versions() -> dict[str, str]:
    found: Mapping[str, str] = {name: _version(name) for name in _PACKAGES}
    return {"geoembed": __version__, "python": platform.python_version(), **found}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _plain(value: Any) -> Any:
    return value if value is None or isinstance(value, str | int | float | bool) else str(value)
