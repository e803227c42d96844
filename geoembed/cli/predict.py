"""``geoembed predict``: a saved head and a table in, the table with predictions out."""

from pathlib import Path

import typer

from geoembed.cli.mapping import MAP_FLAGS, write_map
from geoembed.cli.output import complain
from geoembed.cli.runs import TABLE_FLAGS, notes_told, terminable

__all__ = ["predict"]

FLAGS = {**TABLE_FLAGS, **MAP_FLAGS, "trusted": "--trust TYPE", "encoder": "--encoder NAME|PATH"}


def predict(
    folder: Path = typer.Argument(metavar="MODEL", help="Folder that 'geoembed fit' has written."),
    source: Path | None = typer.Argument(
        None,
        metavar="TABLE",
        help="GeoPackage, GeoJSON, FlatGeobuf, shapefile, GeoParquet; Parquet or CSV with "
        "coordinate columns; or a folder of (Geo)Parquet files, or a pattern in quotes.",
    ),
    target: Path = typer.Option(
        ...,
        "--output",
        "-o",
        metavar="OUT",
        help="File to write: .gpkg, .parquet, .csv, .geojson, .geojsonl or .fgb; .tif with "
        "--raster.",
    ),
    on_invalid: str = typer.Option(
        "raise", "--on-invalid", help="Rows without a place: raise, or nan (no predictions)."
    ),
    lon: str | None = typer.Option(
        None, "--lon-column", "--lon", metavar="NAME", help="Column of the longitude."
    ),
    lat: str | None = typer.Option(
        None, "--lat-column", "--lat", metavar="NAME", help="Column of the latitude."
    ),
    crs: str | None = typer.Option(
        None, "--crs", help="CRS of coordinates that do not carry one, such as EPSG:3857."
    ),
    layer: str | None = typer.Option(None, "--layer", help="Layer of a file that has several."),
    trusted: list[str] = typer.Option(
        [], "--trust", metavar="TYPE", help="Load this type from MODEL too; may be repeated."
    ),
    encoder: str | None = typer.Option(
        None, "--encoder", metavar="NAME|PATH", help="Where the encoder of MODEL is found here."
    ),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace columns of those names."),
    force: bool = typer.Option(False, "--force", help="Replace OUT if it exists."),
    raster: bool = typer.Option(
        False, "--raster", help="Predict on every cell of a raster instead of a table."
    ),
    bounds: str | None = typer.Option(
        None,
        "--bounds",
        metavar="WEST,SOUTH,EAST,NORTH",
        help="Of the raster, in units of --crs; without, those of --within.",
    ),
    within: Path | None = typer.Option(
        None, "--within", metavar="FILE", help="Polygons outside which nothing is predicted."
    ),
    resolution: float | None = typer.Option(
        None, "--resolution", metavar="SIZE", help="Of a cell, in units of --crs."
    ),
    extra_rasters: list[str] = typer.Option(
        [],
        "--extra-raster",
        metavar="NAME=FILE",
        help="Raster that an extra column of MODEL is read from; may be repeated.",
    ),
    resume: bool = typer.Option(False, "--resume", help="Go on with an unfinished raster."),
    batch_rows: int = typer.Option(16_384, "--batch-rows", min=1, help="Rows at a time."),
    quiet: bool = typer.Option(False, "--quiet", "-q", help="Print nothing but errors."),
) -> None:
    """Predict at the places of a table, or a map.

    The new columns stand last: predicted_NAME, the ends of its interval, or its probability and
    the set of labels that may be true. Works in batches, so memory does not grow with the file.
    OUT appears when it is whole. 'geoembed heads MODEL' says what a model predicts, and how well.

    With --raster, OUT is a GeoTIFF with a band a column; --crs is then that of the raster.

    Example:
        geoembed predict ph-model fields.gpkg -o fields-ph.gpkg
        geoembed predict habitats places.csv -o places.parquet --on-invalid nan
        geoembed predict ph-model --raster --bounds 5.9,45.8,10.5,47.8 --resolution 0.05 -o ph.tif
    """
    if raster:
        if source is not None:
            raise typer.BadParameter(f"--raster takes no table, and {source} was given.")
        from geoembed.heads.saving.store import load_head

        with terminable(), notes_told(FLAGS):
            write_map(
                load_head(folder, trusted=trusted, encoder=encoder),
                target,
                bounds=bounds,
                within=within,
                crs=crs,
                resolution=resolution,
                extra_rasters=extra_rasters,
                resume=resume,
                force=force,
                quiet=quiet,
            )
        return
    if source is None:
        raise typer.BadParameter(
            f"Say what to predict at: a table of places. What the model is: geoembed heads {folder}"
        )
    from geoembed.heads.files.drafts import check_target
    from geoembed.heads.files.tables import predict_file
    from geoembed.heads.saving.store import load_head

    with terminable(), notes_told(FLAGS):
        # Before the weights are loaded.
        check_target(target, source, force=force)
        head = load_head(folder, trusted=trusted, encoder=encoder)
        report = predict_file(
            head,
            source,
            target,
            overwrite=overwrite,
            force=force,
            lon=lon,
            lat=lat,
            crs=crs,
            layer=layer,
            on_invalid=on_invalid,
            batch_rows=batch_rows,
            progress=False if quiet else None,
        )
    if quiet:
        return
    if report.empty:
        complain(f"note: {report.empty:,} rows have no place, and no predictions.")
    rate = report.rows / max(report.seconds, 1e-9)
    print(f"{report.rows:,} rows, {rate:,.0f} rows/s, in {report.target}:")
    print(f"{', '.join(report.columns)}")
