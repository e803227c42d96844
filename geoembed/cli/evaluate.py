"""``geoembed evaluate``: how well a benchmark's pictures are put on the map."""

import warnings
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from geoembed.cli.output import print_json, table
from geoembed.cli.runs import TABLE_FLAGS, notes_told, terminable

if TYPE_CHECKING:
    from geoembed.evaluation.geolocation import GeolocationReport, Manifest

__all__ = ["evaluate"]

FLAGS = {
    **TABLE_FLAGS,
    "images": "--images FOLDER",
    "features": "--features FILE",
    "file": "--file-column NAME",
    "id_column": "--id-column NAME",
    "on_invalid": "--on-invalid drop",
    "weights": "--weights PATH",
    "allow_download": "--allow-download",
    "tta": "--tta none",
    "thresholds_km": "--thresholds 1,25,200",
}


def evaluate(
    manifest: Path = typer.Argument(
        metavar="MANIFEST",
        help="Table with a column of pictures (IMG_FILE) and where they were taken (LAT, LON, or "
        "points): CSV, Parquet, GeoParquet, GeoPackage, GeoJSON; a folder of (Geo)Parquet files, "
        "or a pattern in quotes.",
    ),
    images: Path | None = typer.Option(
        None, "--images", "-i", metavar="FOLDER", help="Folder of the pictures."
    ),
    features: Path | None = typer.Option(
        None,
        "--features",
        metavar="FILE",
        help="Vectors in place of pictures: .npy in the order of MANIFEST, .npz or .parquet with "
        "names; final vectors, or features of the tower (768 values for GeoCLIP).",
    ),
    protocol: str | None = typer.Option(
        None,
        "--protocol",
        metavar="NAME|FILE",
        help="A frozen set-up with published rows: im2gps3k, yfcc26k, gws15k, or a TOML file.",
    ),
    output: Path | None = typer.Option(
        None,
        "--output",
        "-o",
        metavar="FOLDER",
        help="Folder for record, tables, curve and map; a run that was stopped goes on from there.",
    ),
    gallery: str | None = typer.Option(
        None,
        "--gallery",
        metavar="NAME|FOLDER",
        help="Where the answers come from; that of the protocol, or geoclip.100k.",
    ),
    encoder: str = typer.Option(
        "geoclip.v1", "--encoder", metavar="NAME", help="What encodes pictures."
    ),
    weights: Path | None = typer.Option(
        None, "--weights", metavar="PATH", help="File or folder with the weights of its tower."
    ),
    allow_download: bool = typer.Option(
        False, "--allow-download", help="Fetch those weights if they are not on this machine."
    ),
    tta: str | None = typer.Option(
        None,
        "--tta",
        help="Views of every picture: none, five or ten-crop; by default none, or what the "
        "protocol says. With --features: what they are of.",
    ),
    thresholds: str | None = typer.Option(
        None, "--thresholds", metavar="KM,KM", help="By default 1,25,200,750,2500."
    ),
    file: str | None = typer.Option(
        None, "--file-column", metavar="NAME", help="Column of the pictures."
    ),
    lon: str | None = typer.Option(
        None, "--lon-column", "--lon", metavar="NAME", help="Column of the longitude."
    ),
    lat: str | None = typer.Option(
        None, "--lat-column", "--lat", metavar="NAME", help="Column of the latitude."
    ),
    layer: str | None = typer.Option(None, "--layer", help="Layer of a file that has several."),
    id_column: str | None = typer.Option(
        None, "--id-column", metavar="NAME", help="Column or array of names in --features."
    ),
    on_invalid: str = typer.Option(
        "raise", "--on-invalid", help="Rows without a place or a picture: raise or drop."
    ),
    leak_m: float = typer.Option(
        10.0, "--leak-m", metavar="M", help="So near to the gallery a query counts as leaked."
    ),
    resamples: int = typer.Option(2000, "--resamples", min=1, help="Of the bootstrap."),
    seed: int = typer.Option(0, "--seed", min=0, help="Of the bootstrap."),
    device: str = typer.Option("auto", "--device", help="auto, cpu, cuda, cuda:1 or mps."),
    precision: str = typer.Option(
        "float32", "--precision", help="Of the tower: float32, bfloat16 or float16."
    ),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
    quiet: bool = typer.Option(False, "--quiet", "-q", help="Print nothing but errors."),
) -> None:
    """Evaluate geolocation on a benchmark.

    Prints the share of pictures within 1, 25, 200, 750 and 2500 km, with bootstrap intervals, and
    says first whether queries lie in the gallery, which would give their answers away. FOLDER
    gets evaluation.json (the record: gallery, crops, versions, digests), evaluation.md,
    pictures.csv, errors.png and error_map.png. The pictures are yours to bring.

    Example:
        geoembed evaluate im2gps3k_places365.csv --images im2gps3ktest --protocol im2gps3k -o out
        geoembed evaluate photos.csv --features vectors.npy --gallery geoclip.100k
    """
    if (images is None) == (features is None):
        raise typer.BadParameter("Give one of --images FOLDER and --features FILE.")
    with terminable(), notes_told(FLAGS):
        from geoembed.evaluation.geolocation import (
            evaluate_manifest,
            load_geolocation_protocol,
        )
        from geoembed.geolocation import GeoLocalizer
        from geoembed.images import load_image_encoder

        # What may be mistyped comes before the gallery, which may take a minute.
        rules = None if protocol is None else load_geolocation_protocol(protocol)
        limits = _numbers(thresholds)
        pictures = _pictures(manifest, file, lon, lat, layer, on_invalid)
        chosen = gallery or ("geoclip.100k" if rules is None else rules.gallery)
        progress = False if quiet or as_json else None
        loaded: Any = encoder
        if images is not None:
            pictures.find_files(images)
            loaded = load_image_encoder(
                encoder,
                weights=weights,
                allow_download=allow_download,
                device=device,
                precision=precision,
            )
        localizer = GeoLocalizer(
            chosen, image_encoder=loaded, device=device, progress=progress
        ).fit()
        with warnings.catch_warnings():
            # It is printed among the notes.
            warnings.filterwarnings("ignore", message=".*in EXIF.*", category=UserWarning)
            report = evaluate_manifest(
                pictures,
                localizer,
                images=images,
                features=features,
                protocol=rules,
                output=output,
                thresholds_km=limits,
                tta=tta,
                id_column=id_column,
                leak_m=leak_m,
                resamples=resamples,
                seed=seed,
                progress=progress,
            )
    if as_json:
        print_json(report.to_dict())
    elif not quiet:
        _print(report, output)


def _pictures(
    source: Path,
    file: str | None,
    lon: str | None,
    lat: str | None,
    layer: str | None,
    on_invalid: str,
) -> "Manifest":
    """Read the manifest: one file, or many that are one table."""
    from geoembed.evaluation.geolocation import read_manifest
    from geoembed.scaling.listing import is_several
    from geoembed.scaling.loading import load_table, table_name

    if not is_several(source):
        return read_manifest(
            source, file=file, lon=lon, lat=lat, layer=layer, on_invalid=on_invalid
        )
    table = load_table(source, lon=lon, lat=lat, layer=layer)
    if lon is not None:
        # Columns that were named are checked as such, and no points that were made of them.
        table = table.drop(columns=table.geometry.name)
    found = read_manifest(table, file=file, lon=lon, lat=lat, on_invalid=on_invalid)
    return replace(found, name=table_name(source))


def _numbers(text: str | None) -> tuple[float, ...] | None:
    from geoembed.evaluation.geolocation.metrics import check_thresholds

    if text is None:
        return None
    parts: list[Any] = [part.strip() for part in text.split(",")]
    return check_thresholds(parts)


def _print(report: "GeolocationReport", folder: Path | None) -> None:
    from geoembed.evaluation.geolocation.tables import CAUTION, beside_published, leak_sentence

    if report.leaks is not None:
        print(leak_sentence(report.leaks))
        print()
    shown = beside_published(report)
    header = [str(name).replace("within ", "") for name in shown.columns]
    rows = [
        [row[0], *(f"{value:.2f}" for value in row[1:-1]), row[-1]]
        for row in shown.itertuples(index=False, name=None)
    ]
    print("Percent of the pictures within")
    print(table(header, rows))
    if report.to_dict()["published"]:
        print(CAUTION)
    print()
    scores = [
        [
            row["score"].replace("_", " "),
            f"{row['value']:,.2f}",
            row["unit"],
            f"{row['low']:,.2f} to {row['high']:,.2f}",
        ]
        for row in report.scores.to_dict("records")
    ]
    print(table(["score", "value", "unit", "interval"], scores))
    print()
    print(f"{report.evaluated:,} of {len(report.rows):,} pictures evaluated.")
    for note in report.notes:
        print(f"{note}.")
    if folder is not None:
        print(f"Record, tables, curve and map are in {folder}.")
