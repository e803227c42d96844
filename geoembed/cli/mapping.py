"""``geoembed predict --raster``: a saved head's predictions wall to wall, as a GeoTIFF."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer

__all__ = ["MAP_FLAGS", "write_map"]

MAP_FLAGS = {
    "bounds": "--bounds WEST,SOUTH,EAST,NORTH",
    "resolution": "--resolution SIZE",
    "within": "--within FILE",
    "extra_rasters": "--extra-raster NAME=FILE",
    "force": "--force",
    "resume": "--resume",
}


def write_map(
    head: Any,
    target: Path,
    *,
    bounds: str | None,
    within: Path | None,
    crs: str | None,
    resolution: float | None,
    extra_rasters: Sequence[str],
    resume: bool,
    force: bool,
    quiet: bool,
) -> None:
    """Write a GeoTIFF, and say what is in it; arguments are as they were typed."""
    from geoembed.heads.files.rasters import predict_raster

    if resolution is None:
        raise typer.BadParameter(
            "Say how large a cell is, in units of --crs (degrees without): --resolution 0.1"
        )
    report = predict_raster(
        head,
        target,
        bounds=None if bounds is None else _numbers(bounds),
        within=None if within is None else _polygons(within),
        crs="EPSG:4326" if crs is None else crs,
        resolution=resolution,
        extra_rasters=dict(map(_named, extra_rasters)),
        resume=resume,
        force=force,
        progress=False if quiet else None,
    )
    if quiet:
        return
    before = f" ({report.resumed:,} rows done before)" if report.resumed else ""
    print(
        f"{report.width:,} x {report.height:,} cells, {report.predicted:,} predicted{before}, "
        f"{report.seconds:,.0f} s, in {report.target}. Bands:"
    )
    print(", ".join(report.bands))


def _numbers(text: str) -> list[float]:
    try:
        return [float(part) for part in text.replace(",", " ").split()]
    except ValueError:
        raise typer.BadParameter(
            f"--bounds {text} are not four numbers: WEST,SOUTH,EAST,NORTH, such as 6,46,8,48"
        ) from None


def _named(text: str) -> tuple[str, str]:
    name, equals, path = text.partition("=")
    if not (name and equals and path):
        raise typer.BadParameter(f"--extra-raster {text} is not NAME=FILE.")
    return name, path


def _polygons(path: Path) -> Any:
    from geoembed.errors import TableError

    if not path.exists():
        raise TableError(f"There is no file {path}.")
    import geopandas as gpd

    read = gpd.read_parquet if path.suffix.lower() in {".parquet", ".geoparquet"} else gpd.read_file
    return read(path)
