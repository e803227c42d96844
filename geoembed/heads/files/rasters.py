"""Wall to wall: a fitted head's predictions on every cell of a raster, as a GeoTIFF."""

import json
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import rasterio
from numpy.typing import NDArray
from rasterio.shutil import copy as copy_raster
from rasterio.windows import Window
from sklearn.utils.validation import check_is_fitted

from geoembed import __version__
from geoembed.errors import OptionError, TableError, unknown_name
from geoembed.heads.extras import check_extra_columns
from geoembed.heads.files.category_names import write_category_names
from geoembed.heads.files.grids import Grid, Mask, make_grid, make_mask
from geoembed.progress import progress_bar
from geoembed.streaming.workspace import Workspace
from geoembed.targets import sample_raster

__all__ = ["RasterReport", "predict_raster"]

# Cells predicted at a time, and so lost at most when a run is killed.
_STRIP_CELLS: Final = 65_536
_FORMATS: Final = ("cog", "gtiff")
# The floating-point predictor halves the size; every GDAL in use reads it.
_STORE: Final = {"compress": "deflate", "predictor": 3, "bigtiff": "if_safer"}
_STORE_COG: Final = {"compress": "deflate", "predictor": "yes", "bigtiff": "if_safer"}


@dataclass(frozen=True)
class RasterReport:
    """What `predict_raster` has written.

    Parameters
    ----------
    target : Path
        The file.
    width, height : int
        Columns and rows.
    bands : tuple of str
        Description of every band, in order.
    predicted : int
        Cells with a prediction; the others hold NaN.
    resumed : int
        Rows that an earlier run had done.
    seconds : float
        Time taken by this run.
    """

    target: Path
    width: int
    height: int
    bands: tuple[str, ...]
    predicted: int
    resumed: int
    seconds: float


def predict_raster(
    head: Any,
    output: str | Path,
    *,
    bounds: Sequence[float] | None = None,
    within: Any = None,
    crs: Any = "EPSG:4326",
    resolution: float | Sequence[float],
    bands: Sequence[str] | None = None,
    extra_rasters: Mapping[str, Any] | None = None,
    file_format: str = "cog",
    resume: bool = False,
    force: bool = False,
    progress: bool | None = None,
) -> RasterReport:
    """Predict on every cell of a raster and write a GeoTIFF.

    Works strip by strip: memory does not grow with the map. The file appears when it is whole;
    until then the strips lie in the folder ``OUTPUT.part``, from where a stopped run goes on.

    Parameters
    ----------
    head : LocationHead
        Fitted.
    output : str or Path
        The file to write, ``.tif``.
    bounds : (west, south, east, north), optional
        In units of `crs`; in degrees, a west beyond the east crosses the antimeridian. Without,
        the bounds of `within`.
    within : GeoDataFrame, GeoSeries or geometries, optional
        Polygons; cells whose centre lies outside them get no prediction. Without a CRS of their
        own, longitude and latitude on WGS 84.
    crs : anything pyproj takes
        Of the raster.
    resolution : float or (float, float)
        Width and height of a cell, in units of `crs`; grid lines lie on its multiples.
    bands : sequence of str, optional
        Which of the head's columns become bands, by name; all that are numbers or labels without.
    extra_rasters : mapping of str to raster, optional
        Where the head's extra columns come from: name -> what `geoembed.sample_raster` takes.
    file_format : {"cog", "gtiff"}
        A cloud-optimised GeoTIFF with overviews, or a plain tiled one.
    resume : bool
        Go on with an unfinished run of the same request.
    force : bool
        Replace the file if it exists; throw an unfinished run away.
    progress : bool or None
        Show a progress bar; None shows one on a terminal when the work is long.

    Returns
    -------
    RasterReport
        What was written.

    Raises
    ------
    OptionError
        If bounds, resolution, bands or format do not fit, or extra columns have no raster.
    TableError
        If the file exists and `force` is false, or an unfinished run lies there.
    CoordinateError
        If `within` holds no polygon or has no CRS.

    Notes
    -----
    All bands are float32, NaN where nothing was predicted. A band of labels holds their number,
    from 0 on; the names stand in the tag ``CLASSES`` (JSON) of the band and, for QGIS and GDAL,
    as category names in the file ``OUTPUT.aux.xml`` beside it. The value of a cell is the
    prediction at its centre.

    Examples
    --------
    >>> import geoembed as ge
    >>> cities = ge.data.load_cities().head(200)
    >>> cities["north"] = cities["lat"].abs()
    >>> head = ge.LocationRegressor("xyz").fit(cities, "north")
    >>> report = ge.predict_raster(
    ...     head, "north.tif", bounds=(5.9, 45.8, 10.5, 47.8), resolution=0.1
    ... )
    >>> report.width, report.height, report.bands[0]
    (46, 20, 'predicted_north')
    """
    check_is_fitted(head)
    start = time.perf_counter()
    target = _check_target(Path(output).expanduser(), force)
    if file_format not in _FORMATS:
        raise OptionError(f"file_format={file_format!r} is not one of: {', '.join(_FORMATS)}.")
    grid, mask = make_grid(bounds, within, crs, resolution), make_mask(within)
    extras = _check_extras(head, extra_rasters)
    layers = _Bands(head, extras, bands)
    request = _request(head, grid, mask, layers, extras)
    work = Workspace(target, request)
    done = work.open(resume=resume, force=force)
    if done is None:
        shutil.rmtree(work.folder / "parts", ignore_errors=True)
        (work.folder / "parts").mkdir()
    state = done or {"rows_read": 0, "predicted": 0}
    resumed = int(state["rows_read"])
    with work.released_on_error():
        with progress_bar(
            progress,
            text="predicting",
            unit="cell",
            total=grid.width * grid.height,
            done=resumed * grid.width,
        ) as bar:
            for first, stop in _strips(grid, resumed):
                values = _predict_strip(layers, grid, mask, extras, first, stop)
                _save_strip(work.folder / "parts", first, values)
                state = {
                    "rows_read": stop,
                    "predicted": int(state["predicted"]) + int(np.isfinite(values[0]).sum()),
                }
                work.note(state)
                work.save(state)
                bar.update((stop - first) * grid.width)
        _assemble(work.folder, grid, layers, head, file_format)
        write_category_names(target, layers.numbered_classes())
        work.publish()
    return RasterReport(
        target,
        grid.width,
        grid.height,
        tuple(layers.names),
        int(state["predicted"]),
        resumed,
        time.perf_counter() - start,
    )


class _Bands:
    """Which of a head's columns become bands, and how."""

    def __init__(self, head: Any, extras: Mapping[str, Any], wanted: Sequence[str] | None) -> None:
        self._head = head
        sample = pd.DataFrame({"lon": [0.0], "lat": [0.0]})
        for name in extras:
            sample[name] = _example(head, name)
        columns = head.predict_columns(sample)
        fit = [name for name in columns.columns if _is_band(columns[name])]
        for name in wanted or ():
            if name not in fit:
                raise OptionError(f"bands: {unknown_name('band', name, fit)}")
        self.names = list(wanted) if wanted is not None else fit
        if not self.names:
            raise OptionError(
                "There is no band to write: the head gives neither numbers nor labels."
            )
        self.classes: dict[str, list[str]] = {
            name: [str(label) for label in columns[name].cat.categories]
            for name in self.names
            if isinstance(columns[name].dtype, pd.CategoricalDtype)
        }

    def numbered_classes(self) -> dict[int, list[str]]:
        """Return number of a band, from 1 on -> names of its classes."""
        numbered = enumerate(self.names, 1)
        return {number: self.classes[name] for number, name in numbered if name in self.classes}

    def predict(self, table: pd.DataFrame) -> NDArray[np.float32]:
        """Return the bands (b, m) at the places of a table."""
        columns = self._head.predict_columns(table)
        return np.stack(
            [
                np.asarray(
                    columns[name].cat.codes if name in self.classes else columns[name],
                    dtype=np.float32,
                )
                for name in self.names
            ]
        )


def _is_band(values: pd.Series) -> bool:
    return isinstance(values.dtype, pd.CategoricalDtype) or pd.api.types.is_numeric_dtype(
        values.dtype
    )


def _example(head: Any, name: str) -> Any:
    """A value of an extra column that the head accepts."""
    kinds = {column: kind for kind, _, names in head.extras_.transformers_ for column in names}
    return 0.0 if kinds[name] == "numbers" else ""


def _check_target(target: Path, force: bool) -> Path:
    if target.suffix.lower() not in {".tif", ".tiff"}:
        raise OptionError(f"{target.name} does not end in .tif: a GeoTIFF is what is written.")
    if not target.parent.is_dir():
        raise TableError(f"There is no folder {target.parent} to write {target.name} into.")
    if target.exists() and not force:
        raise TableError(f"{target} exists. Replace it with force=True (--force).")
    return target


def _check_extras(head: Any, rasters: Mapping[str, Any] | None) -> Mapping[str, Any]:
    names = check_extra_columns(head.extra_columns)
    given = dict(rasters or {})
    missing = [name for name in names if name not in given]
    if missing:
        raise OptionError(
            f"The head takes the extra columns {', '.join(map(repr, missing))}: say where they "
            "come from with extra_rasters={name: raster}."
        )
    surplus = sorted(set(given) - set(names))
    if surplus:
        raise OptionError(
            f"extra_rasters names {', '.join(map(repr, surplus))}, which the head does not take."
        )
    return given


def _strips(grid: Grid, first: int) -> Iterator[tuple[int, int]]:
    rows = max(1, _STRIP_CELLS // grid.width)
    for start in range(first, grid.height, rows):
        yield start, min(start + rows, grid.height)


def _predict_strip(
    layers: _Bands,
    grid: Grid,
    mask: Mask | None,
    extras: Mapping[str, Any],
    first: int,
    stop: int,
) -> NDArray[np.float32]:
    """Predict the rows from `first` to `stop`: (b, rows, width), NaN outside."""
    lonlat = grid.centres(first, stop)
    wanted = np.asarray(~np.isnan(lonlat).any(axis=1))
    if mask is not None:
        wanted &= mask.contains(lonlat)
    table = pd.DataFrame({"lon": lonlat[wanted, 0], "lat": lonlat[wanted, 1]})
    for name, raster in extras.items():
        table[name] = sample_raster(table[["lon", "lat"]], raster).to_numpy()
    complete = table.notna().all(axis=1).to_numpy() if extras else np.ones(len(table), np.bool_)
    wanted[np.flatnonzero(wanted)[~complete]] = False
    values = np.full((len(layers.names), len(lonlat)), np.nan, dtype=np.float32)
    if wanted.any():
        values[:, wanted] = layers.predict(table[complete].reset_index(drop=True))
    return values.reshape(len(layers.names), stop - first, grid.width)


def _save_strip(folder: Path, first: int, values: NDArray[np.float32]) -> None:
    draft = folder / "strip.new"
    with draft.open("wb") as file:
        np.save(file, values)
    draft.replace(folder / f"{first:010d}.npy")


def _assemble(folder: Path, grid: Grid, layers: _Bands, head: Any, file_format: str) -> None:
    """Put the strips together, one in memory at a time."""
    plain = folder / "parts" / "whole.tif"
    profile = {
        "driver": "GTiff",
        "dtype": "float32",
        "nodata": np.nan,
        "count": len(layers.names),
        "width": grid.width,
        "height": grid.height,
        "crs": rasterio.CRS.from_wkt(grid.crs.to_wkt()),
        "transform": grid.transform,
        "interleave": "band",
        **_STORE,
    }
    if min(grid.width, grid.height) >= 256:
        profile |= {"tiled": True, "blockxsize": 256, "blockysize": 256}
    with rasterio.open(plain, "w", **profile) as whole:
        for number, name in enumerate(layers.names, 1):
            whole.set_band_description(number, name)
            if name in layers.classes:
                whole.update_tags(number, CLASSES=json.dumps(layers.classes[name]))
        whole.update_tags(GEOEMBED=__version__, HEAD=type(head).__name__, ENCODER=_encoder_of(head))
        for part in sorted((folder / "parts").glob("*.npy")):
            values = np.load(part)
            window = Window(0, int(part.stem), grid.width, values.shape[1])
            whole.write(values, window=window)
    if file_format == "cog":
        # Of labels the most frequent, of numbers the mean would be best; one method serves all
        # bands of a file, and a mean of label numbers would be a lie.
        way = "nearest" if layers.classes else "average"
        copy_raster(plain, folder / "data", driver="COG", overview_resampling=way, **_STORE_COG)
    else:
        plain.replace(folder / "data")


def _encoder_of(head: Any) -> str:
    load = getattr(head.featurizer_, "_load", None)
    if load is None:
        return type(head.featurizer_).__name__
    encoder = load()
    return f"{encoder.name} {encoder.layers} {encoder.weights_sha256}".strip()


def _request(
    head: Any, grid: Grid, mask: Mask | None, layers: _Bands, extras: Mapping[str, Any]
) -> dict[str, Any]:
    """Describe all that decides what is in the file, so that a changed request is noticed."""
    probe = pd.DataFrame({"lon": [-74.0, 12.5, 151.2], "lat": [40.7, 41.9, -33.9]})
    for name in extras:
        probe[name] = _example(head, name)
    return {
        "raster": {
            "crs": grid.crs.to_wkt(),
            "corner": [grid.west, grid.north],
            "step": list(grid.step),
            "size": [grid.width, grid.height],
        },
        "within": None if mask is None else mask.digest(),
        "bands": layers.names,
        "encoder": _encoder_of(head),
        "head": type(head).__name__,
        # A head fitted on other rows gives other numbers at these places.
        "predictions": [[round(float(v), 4) for v in band] for band in layers.predict(probe)],
        "extra_rasters": {name: str(raster) for name, raster in extras.items()},
    }
