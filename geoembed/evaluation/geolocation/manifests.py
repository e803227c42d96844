"""Manifests of benchmarks: which picture was taken where."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from geoembed.columns import find_coordinate_columns, name_rows
from geoembed.coordinates import read_places
from geoembed.data import is_land
from geoembed.errors import CoordinateError, OptionError, TableError
from geoembed.evaluation.geolocation.words import counted, first_of
from geoembed.streaming import read_frames
from geoembed.weights.tensors import digest_file

__all__ = ["FILE_COLUMNS", "Manifest", "read_manifest"]

FILE_COLUMNS: Final = (
    *("img_file", "img_id", "image", "image_file", "image_path", "img_path"),
    *("file", "file_name", "filename", "path", "photo", "picture", "id"),
)
"""Names under which the column of pictures is found, in any case; the first that is there."""

_SUFFIXES: Final = ("", ".jpg", ".jpeg", ".JPG", ".JPEG", ".png", ".PNG", ".webp")
# Swapped columns whose numbers all fit are told by the share of the truths that are on land.
_ENOUGH: Final = 20
_MOSTLY_SEA, _MOSTLY_LAND = 0.5, 0.9


@dataclass(frozen=True, eq=False)
class Manifest:
    """Pictures and where they were taken.

    Parameters
    ----------
    files : tuple of str
        What each picture is called, as it stands in the manifest.
    lonlat : ndarray of float64, shape (n, 2)
        Longitude and latitude, degrees, WGS 84.
    name : str
        What the manifest is called.
    sha256 : str
        Digest of the file, or of what stands in the table.
    notes : tuple of str
        What the reader should know: rows left out, pictures listed twice.
    """

    files: tuple[str, ...]
    lonlat: NDArray[np.float64]
    name: str = "manifest"
    sha256: str = ""
    notes: tuple[str, ...] = field(default=())

    def __len__(self) -> int:
        return len(self.files)

    def find_files(self, root: "str | PathLike[str]") -> list[Path | None]:
        """Look for the pictures in a folder.

        Parameters
        ----------
        root : str or path
            Names of the manifest are looked up below it; one without a suffix also with the
            usual ones (``.jpg``, ``.jpeg``, ``.png``, ``.webp``).

        Returns
        -------
        list of (Path or None)
            One a row; None where there is no such file.

        Raises
        ------
        OptionError
            If there is no such folder.
        """
        folder = Path(root).expanduser()
        if not folder.is_dir():
            raise OptionError(f"images={str(root)!r} is no folder: give the one with the pictures.")
        return [_find(folder, name) for name in self.files]


def read_manifest(
    source: "str | PathLike[str] | pd.DataFrame | Manifest",
    *,
    file: str | None = None,
    lon: str | None = None,
    lat: str | None = None,
    layer: str | None = None,
    on_invalid: str = "raise",
) -> Manifest:
    """Read a manifest: a table with a column of pictures, and where each was taken.

    Parameters
    ----------
    source : str, path, DataFrame or Manifest
        CSV, Parquet, GeoParquet, GeoPackage, GeoJSON, FlatGeobuf or shapefile; or a table.
        Places are points with a CRS, or columns of longitude and latitude in degrees, WGS 84.
    file, lon, lat : str, optional
        Names of the columns, where they are not the usual ones: ``IMG_FILE`` or another of
        `FILE_COLUMNS`; ``LON`` and ``LAT`` or another of `geoembed.coordinates.COORDINATE_COLUMNS`;
        in any case.
    layer : str, optional
        Layer of a GeoPackage that has several.
    on_invalid : {"raise", "drop"}
        What becomes of rows without a place or a picture's name: an error that names them, or
        they are left out, counted in `Manifest.notes`.

    Returns
    -------
    Manifest
        Names and places of the pictures, in the order of the table.

    Raises
    ------
    TableError
        If the file cannot be read, it has no rows, or the column of pictures is not there.
    CoordinateError
        If a latitude is outside [-90, 90] or a longitude outside [-180, 360], if places are
        missing, or if longitude and latitude look swapped.
    OptionError
        If `on_invalid` is not one of those offered.

    Notes
    -----
    Latitudes beyond 90 give swapped columns away. Where all numbers fit, the land does: 20
    places or more of which fewer than half lie on land, and over nine tenths would if the
    columns changed places.

    Examples
    --------
    >>> table = pd.DataFrame({"IMG_FILE": ["a.jpg"], "LAT": [48.86], "LON": [2.35]})
    >>> manifest = read_manifest(table)
    >>> manifest.files, manifest.lonlat.tolist()
    (('a.jpg',), [[2.35, 48.86]])
    """
    if on_invalid not in ("raise", "drop"):
        raise OptionError(f"on_invalid={on_invalid!r} is not one of: raise, drop.")
    if isinstance(source, Manifest):
        return source
    if isinstance(source, pd.DataFrame):
        name, frame = "the manifest", source
    else:
        path = Path(source).expanduser()
        name, frame = path.name, _read(path, lon, lat, layer)
    if not len(frame):
        raise TableError(f"{name} has no rows.")
    files = frame[_file_column(frame, file, name)]
    _check_longitudes(frame, lon, lat, name)
    whole = isinstance(source, pd.DataFrame)
    # Frames from files carry their points already.
    columns: dict[str, Any] = {"lon": lon, "lat": lat} if whole and (lon or lat) else {}
    places = read_places(frame, on_invalid="nan", **columns)
    usable = places.valid & files.notna().to_numpy()
    if on_invalid == "raise" and not usable.all():
        raise CoordinateError(
            f"{(~usable).sum():,} of {len(frame):,} rows of {name} have no place or no picture: "
            f"{name_rows(frame.index, ~usable)}. Correct them, or pass on_invalid='drop' to leave "
            "them out."
        )
    if not usable.any():
        raise TableError(f"None of the {len(frame):,} rows of {name} has a place and a picture.")
    lonlat = places.lonlat[usable]
    _check_land(lonlat, name)
    names = tuple(str(one).strip() for one in files[usable])
    sha256 = _digest(names, lonlat) if whole else digest_file(path)
    return Manifest(names, lonlat, name, sha256, _notes(names, int((~usable).sum())))


def _read(path: Path, lon: str | None, lat: str | None, layer: str | None) -> pd.DataFrame:
    parts = list(read_frames(path, lon=lon, lat=lat, layer=layer))
    return pd.concat(parts) if parts else pd.DataFrame()


def _file_column(frame: pd.DataFrame, file: str | None, name: str) -> Any:
    known = {str(column).strip().casefold(): column for column in reversed(frame.columns)}
    wanted = FILE_COLUMNS if file is None else (file.strip().casefold(),)
    for candidate in wanted:
        if candidate in known:
            return known[candidate]
    asked = "no column of pictures" if file is None else f"no column {file!r}"
    listed = ", ".join(repr(str(column)) for column in frame.columns)
    raise TableError(f"{name} has {asked}: it has {listed}. Name the column with file=.")


def _check_longitudes(frame: pd.DataFrame, lon: str | None, lat: str | None, name: str) -> None:
    """Refuse longitudes of several turns, which stand for another number in a manifest."""
    found = (lon, lat) if lon is not None else find_coordinate_columns(frame.columns)
    if not found or found[0] not in frame.columns:
        return
    values = pd.to_numeric(frame[found[0]], errors="coerce").to_numpy(np.float64, na_value=np.nan)
    beyond = (values < -180.0) | (values > 360.0)
    if beyond.any():
        rows = name_rows(frame.index, beyond, lambda at: f"{values[at]:.10g}")
        raise CoordinateError(
            f"{beyond.sum():,} of {len(values):,} rows of {name} have a longitude outside "
            f"[-180, 360] in column {found[0]!r}: {rows}. Correct them first."
        )


def _check_land(lonlat: NDArray[np.float64], name: str) -> None:
    if len(lonlat) < _ENOUGH or (np.abs(lonlat[:, 0]) > 90.0).any():
        return
    given = is_land(lonlat[:, 0], lonlat[:, 1])
    swapped = is_land(lonlat[:, 1], lonlat[:, 0])
    if given.mean() < _MOSTLY_SEA and swapped.mean() > _MOSTLY_LAND:
        rows = name_rows(
            pd.RangeIndex(len(lonlat)),
            ~given,
            lambda at: f"lon {lonlat[at, 0]:.6g}, lat {lonlat[at, 1]:.6g}",
        )
        raise CoordinateError(
            f"Longitude and latitude of {name} look swapped: {given.mean():.0%} of the "
            f"{len(lonlat):,} places are on land, and {swapped.mean():.0%} would be if the two "
            f"changed places. At sea: {rows}. Name the columns with lon= and lat=."
        )


def _notes(names: Sequence[str], left_out: int) -> tuple[str, ...]:
    notes = []
    if left_out:
        rows = counted(left_out, "row")
        notes.append(f"left out of the manifest: {rows} without a place or a picture")
    twice = pd.Index(names)[pd.Index(names).duplicated()].unique()
    if len(twice):
        names_of = first_of(twice.tolist())
        notes.append(
            f"more than once in the manifest: {counted(len(twice), 'picture')}, {names_of}"
        )
    return tuple(notes)


def _digest(names: Sequence[str], lonlat: NDArray[np.float64]) -> str:
    digest = hashlib.sha256("\0".join(names).encode())
    digest.update(np.ascontiguousarray(lonlat).tobytes())
    return digest.hexdigest()


def _find(folder: Path, name: str) -> Path | None:
    for suffix in _SUFFIXES:
        path = folder / (name + suffix)
        if path.is_file():
            return path
    return None
