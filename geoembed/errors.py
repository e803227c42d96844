"""Every error the library raises on purpose.

Each class also derives from the built-in a caller would expect, so that
``except ValueError`` keeps working. Messages say what is wrong, where, what
was found and what to do about it.
"""

from collections.abc import Iterable
from difflib import get_close_matches

__all__ = [
    "CoordinateError",
    "DuplicateNameError",
    "GeoembedError",
    "MissingExtraError",
    "MissingWeightsError",
    "OfflineError",
    "OptionError",
    "PictureError",
    "PluginError",
    "SavedHeadError",
    "TableError",
    "TargetError",
    "TrainingError",
    "UnknownNameError",
    "WeightsError",
    "WorkerError",
    "unknown_name",
]


# A longer list of names helps nobody.
_LISTED = 20


class GeoembedError(Exception):
    """Base class of every error that geoembed raises on purpose."""


class CoordinateError(GeoembedError, ValueError):
    """Coordinates, geometries or a CRS that cannot be read as places."""


class OptionError(GeoembedError, ValueError):
    """A parameter whose value is not one of those offered, or does not fit the others."""


class TableError(GeoembedError, ValueError):
    """A table or file whose columns, rows or format do not fit."""


class TargetError(GeoembedError, ValueError):
    """Values or labels to learn, or a raster or polygons to take them from, that do not fit."""


class PictureError(GeoembedError, ValueError):
    """A picture that cannot be read, or a folder or pattern that holds none."""


class SavedHeadError(GeoembedError, RuntimeError):
    """A folder of a fitted head that cannot be loaded, or is not what its description says."""


class TrainingError(GeoembedError, RuntimeError):
    """A training run that cannot start, go on or be resumed; what it has saved stays."""


class WorkerError(GeoembedError, RuntimeError):
    """A cluster that cannot do the work: not there, or without the right package or memory."""


class UnknownNameError(GeoembedError, KeyError):
    """A name that no registered spec carries. The message lists close matches."""

    def __str__(self) -> str:
        # KeyError shows the repr of its argument, which would quote the sentence.
        return str(self.args[0]) if self.args else ""


class WeightsError(GeoembedError, RuntimeError):
    """Weights that are not what their spec says: wrong hash, wrong keys, unreadable."""


class MissingWeightsError(WeightsError, FileNotFoundError):
    """Weights found in none of the places that were looked in."""


class OfflineError(GeoembedError, RuntimeError):
    """A download was asked for while ``GEOEMBED_OFFLINE`` forbids the network."""


class PluginError(GeoembedError, RuntimeError):
    """A plugin that cannot be loaded, or a spec that breaks the contract."""


class DuplicateNameError(PluginError):
    """A name that two plugins want to register."""


class MissingExtraError(GeoembedError, ImportError):
    """An optional package that is not installed. The message names the extra."""


def unknown_name(kind: str, name: str, known: Iterable[str]) -> UnknownNameError:
    """Build the error for a name that is not registered.

    Parameters
    ----------
    kind : str
        What the name should have been, in field terms: ``"encoder"``.
    name : str
        What was asked for.
    known : iterable of str
        The names that exist.

    Returns
    -------
    UnknownNameError
        With close matches if there are any, else the full list if it is short.

    Examples
    --------
    >>> print(unknown_name("encoder", "geoclip.v2", ["geoclip.v1", "xyz"]))
    There is no encoder named 'geoclip.v2'. Close matches: 'geoclip.v1'.
    """
    names = sorted(known)
    close = get_close_matches(name.lower(), names, n=3, cutoff=0.6)
    if close:
        hint = "Close matches: " + ", ".join(map(repr, close)) + "."
    elif len(names) > _LISTED:
        hint = f"There are {len(names):,} others."
    elif names:
        hint = "Known names: " + ", ".join(map(repr, names)) + "."
    else:
        hint = "None is registered."
    return UnknownNameError(f"There is no {kind} named {name!r}. {hint}")
