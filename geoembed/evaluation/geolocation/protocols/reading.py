"""Protocol files of geolocation benchmarks: what may stand in them, checked key by key."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from geoembed.errors import OptionError
from geoembed.evaluation.geolocation.metrics import check_thresholds
from geoembed.evaluation.tomls import check_keys, load_named, parse_toml, shipped_names

__all__ = [
    "CROPS",
    "GeolocationProtocol",
    "PublishedResult",
    "list_geolocation_protocols",
    "load_geolocation_protocol",
    "read_geolocation_protocol",
]

_PACKAGE: Final = "geoembed.evaluation.geolocation.protocols"
CROPS: Final = ("none", "five", "ten-crop")
_KEYS: Final[Mapping[str, type]] = {
    **dict.fromkeys(("name", "title", "summary", "source", "gallery", "tta"), str),
    **dict.fromkeys(("thresholds_km", "differences", "published"), list),
}
_ROW: Final[Mapping[str, type]] = {"system": str, "within": list, "how": str}


@dataclass(frozen=True)
class PublishedResult:
    """A row of a published table.

    Parameters
    ----------
    system : str
        What it is called.
    within : tuple of float
        Percent within each threshold of the protocol.
    how : str
        How it works, or how it was evaluated.
    secondary : bool
        Whether the numbers come from elsewhere than the paper, or a later paper that quotes it.
    """

    system: str
    within: tuple[float, ...]
    how: str
    secondary: bool = False


@dataclass(frozen=True)
class GeolocationProtocol:
    """A frozen set-up: gallery, crops and thresholds of a benchmark; the pictures are yours.

    Parameters
    ----------
    name, title : str
        What it is called on the command line, and in tables.
    summary, source : str
        What it is, and where it comes from.
    gallery : str
        Registered name of the gallery.
    tta : {"none", "five", "ten-crop"}
        Views of every picture.
    thresholds_km : tuple of float
        Of the shares.
    differences : tuple of str
        In what it cannot be what was published.
    published : tuple of PublishedResult
        Rows to compare with.
    """

    name: str
    title: str
    summary: str
    source: str
    gallery: str
    tta: str
    thresholds_km: tuple[float, ...]
    differences: tuple[str, ...] = ()
    published: tuple[PublishedResult, ...] = field(default=())


def list_geolocation_protocols() -> list[str]:
    """Return the names of the protocols for geolocation that come with geoembed.

    Returns
    -------
    list of str
        Sorted.

    Examples
    --------
    >>> list_geolocation_protocols()
    ['gws15k', 'im2gps3k', 'yfcc26k']
    """
    return shipped_names(_PACKAGE)


def load_geolocation_protocol(name: "str | Path | GeolocationProtocol") -> GeolocationProtocol:
    """Load a protocol by its name, or from a file of one's own.

    Parameters
    ----------
    name : str, Path or GeolocationProtocol
        A name from `list_geolocation_protocols`; or a file that ends in ``.toml``.

    Returns
    -------
    GeolocationProtocol
        Checked.

    Raises
    ------
    UnknownNameError
        If there is no such name; the message gives close matches.
    OptionError
        If the file cannot be read, or what stands in it does not fit.

    Examples
    --------
    >>> protocol = load_geolocation_protocol("im2gps3k")
    >>> protocol.gallery, protocol.tta, protocol.published[-2].within[0]
    ('geoclip.100k', 'ten-crop', 14.11)
    """
    if isinstance(name, GeolocationProtocol):
        return name
    return load_named(name, _PACKAGE, "geolocation protocol", read_geolocation_protocol)


def read_geolocation_protocol(text: str, where: str) -> GeolocationProtocol:
    """Read the text of a protocol file; `where` is what messages call it.

    Raises OptionError if it is no TOML, a key is missing, unknown or of another type, or a value
    does not fit.
    """
    given = parse_toml(text, where)
    check_keys(where, given, _KEYS)
    if given["tta"] not in CROPS:
        raise OptionError(f"{where}: tta = {given['tta']!r} is not one of: {', '.join(CROPS)}.")
    try:
        thresholds = check_thresholds(given["thresholds_km"])
    except OptionError as error:
        raise OptionError(f"{where}: {error}") from error
    if not all(isinstance(text, str) for text in given["differences"]):
        raise OptionError(f"{where}: differences = {given['differences']!r} must be texts.")
    rows = [
        _read_row(f"{where}, published[{at}]", row, len(thresholds))
        for at, row in enumerate(given["published"])
    ]
    texts = {key: given[key] for key, kind in _KEYS.items() if kind is str}
    return GeolocationProtocol(
        **texts,
        thresholds_km=thresholds,
        differences=tuple(given["differences"]),
        published=tuple(rows),
    )


def _read_row(where: str, row: Any, thresholds: int) -> PublishedResult:
    row = dict(row) if isinstance(row, Mapping) else {}
    secondary = row.pop("secondary", False)
    check_keys(where, row, _ROW)
    shares = row["within"]
    numbers = all(isinstance(v, int | float) and 0 <= v <= 100 for v in shares)
    if len(shares) != thresholds or not numbers:
        raise OptionError(
            f"{where}: within = {shares!r} must be percent, one for each of the {thresholds} "
            "thresholds."
        )
    if not isinstance(secondary, bool):
        raise OptionError(f"{where}: secondary = {secondary!r} must be true or false.")
    return PublishedResult(row["system"], tuple(map(float, shares)), row["how"], secondary)
