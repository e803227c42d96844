"""The readable half of a saved head, ``head.json``: what it is, made of what, how good."""

import json
import math
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import packages_distributions, version
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import sklearn
from numpy.typing import NDArray

from geoembed import __version__
from geoembed.encoders.base import LocationEncoder
from geoembed.errors import GeoembedError, SavedHeadError
from geoembed.extending.registry import head_specs, resolve_factory

__all__ = ["DESCRIPTION", "STATE", "bounding_box", "describe", "plain", "read_description"]

DESCRIPTION: Final = "head.json"
STATE: Final = "state.skops"

_FORMAT: Final = "geoembed head"
_VERSION: Final = 1
_NEEDED: Final = {
    "class": str,
    "distribution": str,
    "encoders": list,
    "state": dict,
    "versions": dict,
}


def describe(
    head: Any,
    encoders: list[LocationEncoder],
    state: Mapping[str, Any],
    *,
    scores: Any = None,
    provenance: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Describe a fitted head.

    Parameters
    ----------
    head : LocationHead
        Fitted.
    encoders : list of LocationEncoder
        Those in its featurizer, in the order of `geoembed.heads.saving.trust.parts_of`.
    state : mapping
        Facts about the file of the state.
    scores : mapping or DataFrame, optional
        How good it is.
    provenance : mapping, optional
        What it was made from.

    Returns
    -------
    dict
        Fit for JSON.
    """
    kind = type(head)
    spec = _spec_of(kind)
    classes = getattr(head, "classes_", None)
    return {
        "format": _FORMAT,
        "format_version": _VERSION,
        "geoembed": __version__,
        "head": None if spec is None else spec[0],
        "class": f"{kind.__module__}:{kind.__qualname__}",
        "distribution": _distribution(kind.__module__) if spec is None else spec[1],
        "parameters": {name: plain(v) for name, v in head.get_params(deep=False).items()},
        "targets": list(getattr(head, "target_names_", ())),
        "classes": None if classes is None else plain(classes),
        "encoders": [
            {
                "name": encoder.name,
                "owner": encoder.spec.owner,
                "weights_sha256": encoder.weights_sha256,
                "dimension": encoder.dimension,
                "options": encoder.options(),
            }
            for encoder in encoders
        ],
        "rows": getattr(head, "n_rows_", None),
        "bounds": plain(getattr(head, "bounds_", None)),
        "scores": plain(scores),
        "provenance": plain({} if provenance is None else provenance),
        "versions": {
            "python": platform.python_version(),
            "numpy": np.__version__,
            "scikit-learn": sklearn.__version__,
            "skops": version("skops"),
        },
        "state": dict(state),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def read_description(folder: str | Path) -> dict[str, Any]:
    """Read what a saved head says about itself; its model is not loaded.

    Parameters
    ----------
    folder : str or path
        Written by `geoembed.heads.LocationHead.save`.

    Returns
    -------
    dict
        ``head``, ``class``, ``parameters``, ``targets``, ``classes``, ``encoders``, ``rows``,
        ``bounds`` (west, south, east, north in degrees, WGS 84; west is greater than east where
        the antimeridian lies between), ``scores``, ``provenance``, ``versions``, ``state``,
        ``created`` and more.

    Raises
    ------
    SavedHeadError
        If there is no such folder, it holds no saved head, the description is damaged, or was
        written in a later format.
    """
    path = Path(folder).expanduser()
    file = path / DESCRIPTION
    if not path.exists():
        raise SavedHeadError(
            f"There is no folder {path}. Give the one that a head was saved to: by head.save(...), "
            "or by 'geoembed fit -o FOLDER'."
        )
    if not file.is_file():
        what = (
            "is a file, and a saved head is a folder" if path.is_file() else "holds no saved head"
        )
        raise SavedHeadError(
            f"{path} {what}: there is no {DESCRIPTION} in it. Give a folder that head.save() or "
            "'geoembed fit' has written."
        )
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SavedHeadError(f"{file} is damaged: {error}. Save the head again.") from error
    if not isinstance(found, dict) or found.get("format") != _FORMAT:
        raise SavedHeadError(f"{file} describes no head of geoembed.")
    if found.get("format_version") != _VERSION:
        raise SavedHeadError(
            f"{path} is in format {found.get('format_version')!r}, written by geoembed "
            f"{found.get('geoembed')}; this version, {__version__}, reads format {_VERSION}. "
            "Update geoembed, or save the head again with this version."
        )
    for key, kind in _NEEDED.items():
        if not isinstance(found.get(key), kind):
            raise SavedHeadError(f"{file} is damaged: {key!r} is missing. Save the head again.")
    return found


def bounding_box(lonlat: NDArray[np.float64]) -> tuple[float, float, float, float] | None:
    """Return the box around places, the narrower way round the Earth.

    Parameters
    ----------
    lonlat : array of shape (n, 2)
        Degrees, WGS 84, longitude in [-180, 180]; rows of NaN are left out.

    Returns
    -------
    (float, float, float, float) or None
        West, south, east, north; west is greater than east if the box crosses the antimeridian,
        as in GeoJSON (RFC 7946, section 5.2). None without any place.

    Examples
    --------
    >>> bounding_box(np.array([[179.0, -17.0], [-178.0, -19.0]]))
    (179.0, -19.0, -178.0, -17.0)
    """
    places = lonlat[np.isfinite(lonlat).all(axis=1)]
    if not len(places):
        return None
    lon = np.unique(places[:, 0])
    # The gap across the antimeridian stands first: it wins where another is as wide.
    gaps = np.diff(lon, prepend=lon[-1] - 360.0)
    at = int(gaps.argmax())
    west, east = lon[at], lon[at - 1]
    south, north = places[:, 1].min(), places[:, 1].max()
    return float(west), float(south), float(east), float(north)


def plain(value: Any) -> Any:
    """Turn a value into what JSON holds; what it cannot hold becomes its representation.

    Parameters
    ----------
    value : object
        Such as a parameter, an array or a table.

    Returns
    -------
    object
        None, bool, int, float, str, or lists and dicts of these. A number that is not finite
        becomes None, a table a list of rows.

    Examples
    --------
    >>> plain({"r2": np.float64(0.5), "of": np.array(["a", "b"])})
    {'r2': 0.5, 'of': ['a', 'b']}
    """
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, pd.DataFrame):
        value = value.reset_index(drop=isinstance(value.index, pd.RangeIndex)).to_dict("records")
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | pd.Series | pd.Index):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return str(value) if isinstance(value, Path) else repr(value)


def _spec_of(kind: type) -> tuple[str, str] | None:
    """Return the registered name of a head's class, and who registered it."""
    for spec in head_specs().values():
        try:
            if resolve_factory(spec.factory, owner=spec.owner) is kind:
                return spec.name, spec.owner
        except GeoembedError:
            # Some other plugin is broken; this head is not its.
            continue
    return None


def _distribution(module: str) -> str:
    """Return name and version of the distribution that a module is from; else the module."""
    names = packages_distributions().get(module.partition(".")[0], [])
    return f"{names[0]} {version(names[0])}" if names else module
