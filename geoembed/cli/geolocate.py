"""``geoembed geolocate``: photographs and texts to places."""

import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import typer

from geoembed.cli.output import complain, print_json, table
from geoembed.cli.polygons import read_polygons
from geoembed.errors import PictureError

if TYPE_CHECKING:
    import geopandas as gpd

    from geoembed.geolocation import GeoLocalizer
    from geoembed.geolocation.queries import Queries

__all__ = ["geolocate"]

_TABLES: Final = (".geojson", ".gpkg", ".parquet", ".csv")
_MAPS: Final = (".png", ".html")
# Queries whose answers are printed; more are for a file.
_PRINTED: Final = 20
_THUMBNAIL: Final = 480


def geolocate(
    photos: list[str] | None = typer.Argument(
        None, metavar="[PHOTOS]...", help="Files, folders or quoted patterns such as 'trip/*.jpg'."
    ),
    text: list[str] | None = typer.Option(
        None, "--text", help="A text instead, such as 'a fjord in winter'. May be repeated."
    ),
    output: Path | None = typer.Option(
        None,
        "-o",
        "--output",
        metavar="FILE",
        help="Where the answers go: .geojson, .gpkg, .parquet or .csv.",
    ),
    map_file: Path | None = typer.Option(
        None, "--map", metavar="FILE", help="Draw a map: .html (one file, works offline) or .png."
    ),
    gallery: str = typer.Option(
        "geoclip.100k", "--gallery", metavar="NAME|FOLDER", help="See 'geoembed gallery list'."
    ),
    top: int = typer.Option(5, "--top", min=1, help="Candidates a picture or text."),
    within: Path | None = typer.Option(
        None, "--within", metavar="FILE", help="Only places in the polygons of this file."
    ),
    distinct_km: float = typer.Option(
        25.0, "--distinct-km", min=0.0, help="Least distance between two candidates."
    ),
    refine: bool = typer.Option(
        False, "--refine", help="Search beyond the gallery's places, around the best of them."
    ),
    tta: str = typer.Option("none", "--tta", help="Views of a picture: none, five or ten-crop."),
    recursive: bool = typer.Option(False, "--recursive", help="Look into folders of folders."),
    encoder: str = typer.Option(
        "geoclip.v1", "--encoder", metavar="NAME", help="What encodes pictures and texts."
    ),
    weights: Path | None = typer.Option(
        None, "--weights", metavar="PATH", help="File or folder with the weights of its tower."
    ),
    allow_download: bool = typer.Option(
        False, "--allow-download", help="Download those weights if they are not here."
    ),
    device: str = typer.Option("auto", "--device", help="Such as cpu or cuda."),
    precision: str = typer.Option("float32", "--precision", help="float32, bfloat16 or float16."),
    calibration: Path | None = typer.Option(
        None,
        "--calibration",
        metavar="FILE",
        help="What GeoLocalizer.calibrate saved: radii then hold the truth as often as they say.",
    ),
    force: bool = typer.Option(False, "--force", help="Replace files that exist."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Find where photographs or texts belong.

    A score is a cosine similarity, no probability. What a photograph shows can reveal where
    somebody lives: ask before you geolocate people's pictures (docs: responsible use). The
    coordinates in a file's EXIF data are never used.

    Example:
        geoembed geolocate beach.jpg
        geoembed geolocate trip/ -o places.gpkg --map places.html
        geoembed geolocate --text 'a desert road' --within africa.gpkg
    """
    if bool(photos) == bool(text):
        raise typer.BadParameter("Give photographs, or --text, and not both.")
    _check_file(output, _TABLES, "-o", force)
    _check_file(map_file, _MAPS, "--map", force)
    files = _expand(photos or [], recursive)
    from geoembed.geolocation import GeoLocalizer

    polygons = None if within is None else read_polygons(within)
    localizer = GeoLocalizer(
        gallery,
        image_encoder=encoder,
        weights=weights,
        allow_download=allow_download,
        tta=tta,
        device=device,
        precision=precision,
        calibration=calibration,
        progress=False if as_json else None,
    ).fit()
    queries = localizer.ask(files) if files else localizer.ask(text=text)
    found = localizer.localize(
        queries, top_k=top, within=polygons, distinct_km=distinct_km, refine=refine
    )
    if output is not None:
        _write(found, output)
    if map_file is not None and not queries.good.any():
        map_file = None  # Nothing to draw: the report says why.
    if map_file is not None:
        _draw(localizer, queries, found, files, map_file)
    _report(found, output, map_file, as_json)


def _expand(photos: list[str], recursive: bool) -> list[str]:
    """List what folders and patterns hold; a file stands for itself, there or not."""
    from geoembed.images import find_pictures

    files = []
    for photo in photos:
        several = Path(photo).is_dir() or (set(photo) & set("*?[") and not Path(photo).exists())
        files += find_pictures(photo, recursive=recursive) if several else [photo]
    return files


def _check_file(path: Path | None, endings: tuple[str, ...], option: str, force: bool) -> None:
    """Refuse what could not be written, before anything is computed."""
    if path is None:
        return
    if path.suffix.lower() not in endings:
        raise typer.BadParameter(f"{option} {path}: the name must end in {', '.join(endings)}.")
    if path.exists() and not force:
        raise typer.BadParameter(f"{option} {path} exists. Give --force to replace it.")
    if not path.absolute().parent.is_dir():
        raise typer.BadParameter(f"{option} {path}: there is no folder {path.absolute().parent}.")


def _write(found: "gpd.GeoDataFrame", path: Path) -> None:
    """Write under a temporary name, then rename: no half file is ever found."""
    kind = path.suffix.lower()
    part = path.with_name(f".{path.stem}.{os.getpid()}.part{kind}")
    try:
        if kind == ".parquet":
            found.to_parquet(part)
        elif kind == ".csv":
            found.drop(columns="geometry").to_csv(part, index=False)
        elif kind == ".gpkg":
            found.to_file(part, driver="GPKG", layer="answers")
        else:
            found.to_file(part, driver="GeoJSON")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _draw(
    localizer: "GeoLocalizer",
    queries: "Queries",
    found: "gpd.GeoDataFrame",
    files: list[str],
    path: Path,
) -> None:
    from geoembed.geolocation import UnreadablePictureWarning

    with warnings.catch_warnings():
        # The report names them.
        warnings.simplefilter("ignore", UnreadablePictureWarning)
        regions = localizer.regions(queries)
    pictures = _thumbnails(files) if files else None
    if path.suffix.lower() == ".html":
        from geoembed.webmap import write_map

        write_map(path, found, regions=regions, pictures=pictures)
        return
    from geoembed.plot import answers_map

    axes = answers_map(found, regions=regions, pictures=pictures)
    figure = axes.get_figure(root=True)
    assert figure is not None
    figure.savefig(path, dpi=150)


def _thumbnails(files: list[str]) -> dict[str, Any]:
    """Return small copies of the pictures by name, read one after the other."""
    from geoembed.images import read_pictures

    small = {}
    for picture in read_pictures(files):
        if picture.image is not None:
            picture.image.thumbnail((_THUMBNAIL, _THUMBNAIL))
            small[picture.name] = picture.image
    return small


def _report(
    found: "gpd.GeoDataFrame", output: Path | None, map_file: Path | None, as_json: bool
) -> None:
    """Say what was found; raise if nothing could be read at all."""
    bad = found[found["error"] != ""]
    if as_json:
        print_json({"answers": _records(found)})
    else:
        _print(found, everything=output is None)
        for path in (output, map_file):
            if path is not None:
                print(f"written to {path}")
    for _, row in bad.iterrows():
        complain(f"warning: {row['query']}: {row['error']}")
    if len(bad) == len(found):
        raise PictureError(
            "The picture could not be read."
            if len(found) == 1
            else f"None of {len(found):,} pictures could be read."
        )


def _records(found: "gpd.GeoDataFrame") -> list[dict[str, Any]]:
    rows = found.drop(columns="geometry").astype(object)
    records: list[dict[str, Any]] = rows.where(rows.notna(), None).to_dict("records")
    return records


def _print(found: "gpd.GeoDataFrame", *, everything: bool) -> None:
    """Print a table of the answers: all of a few queries, the first of many."""
    good = found[found["error"] == ""]
    many = good["query"].nunique() > _PRINTED or not everything
    shown = (good[good["rank"] == 1] if many else good).head(_PRINTED * (1 if many else 1000))
    if shown.empty:
        return
    header = ["query", "rank", "score", "lon", "lat", "place", "radius 50 %", "radius 90 %"]
    rows = [
        [
            row["query"],
            int(row["rank"]),
            f"{row['score']:.3f}",
            f"{row['lon']:.4f}",
            f"{row['lat']:.4f}",
            row["place"],
            _km(row["radius_50_km"]),
            _km(row["radius_90_km"]),
        ]
        for _, row in shown.iterrows()
    ]
    print(table(header, rows))
    if not shown["calibrated"].any():
        print("Radii are not calibrated: how often they hold the truth is not known.")
    left = int(good["query"].nunique() - shown["query"].nunique())
    if left:
        print(f"and {left:,} more")


def _km(value: float) -> str:
    return "" if value != value else f"{value:,.0f} km"
