"""``geoembed embed``: a table of places in, the table with embeddings out."""

from pathlib import Path

import typer

from geoembed.cli.runs import TABLE_FLAGS, notes_told, terminable

__all__ = ["embed"]

FLAGS = {**TABLE_FLAGS, "prefix": "--prefix NAME"}


def embed(
    source: Path = typer.Argument(
        metavar="IN",
        help="GeoPackage, GeoJSON, FlatGeobuf, shapefile, GeoParquet; or Parquet or CSV with "
        "coordinate columns.",
    ),
    target: Path = typer.Option(
        ..., "--output", "-o", metavar="OUT", help="File to write: .parquet, .csv or .npy."
    ),
    encoder: str = typer.Option(
        "geoclip.v1", "--encoder", metavar="NAME|PATH", help="See 'geoembed encoders'."
    ),
    layers: str = typer.Option(
        "final", "--layers", help="Which layers make up a vector: final, scales, hidden ..."
    ),
    layout: str | None = typer.Option(
        None,
        "--layout",
        metavar="vector|columns",
        help="One column of vectors (the default for Parquet), or one column a value.",
    ),
    normalize: bool = typer.Option(False, "--normalize", help="Scale every vector to length 1."),
    dtype: str = typer.Option(
        "float32", "--dtype", help="Of the values: float32, float16 or float64."
    ),
    precision: str = typer.Option(
        "float32", "--precision", help="Computed in: float32, float64, bfloat16, float16."
    ),
    device: str = typer.Option("auto", "--device", help="auto, cpu, cuda, cuda:1, mps."),
    seam: str = typer.Option(
        "as-trained", "--seam", help="as-trained, or blend: continuous across the antimeridian."
    ),
    geometry: str = typer.Option(
        "point",
        "--geometry",
        help="What stands for lines and polygons: representative_point, centroid or sample.",
    ),
    samples: int = typer.Option(
        32, "--samples", min=1, help="Points a geometry with --geometry sample."
    ),
    on_invalid: str = typer.Option(
        "raise", "--on-invalid", help="Rows without a place: raise, nan (kept) or drop."
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
    prefix: str | None = typer.Option(
        None, "--prefix", help="Name of the vector column, or start of the columns' names."
    ),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace columns of those names."),
    force: bool = typer.Option(
        False, "--force", help="Replace OUT if it exists; throw an unfinished run away."
    ),
    resume: bool = typer.Option(False, "--resume", help="Go on with an unfinished run."),
    batch_rows: int | None = typer.Option(
        None, "--batch-rows", min=1, help="Rows at a time; by default 64 MB of vectors."
    ),
    quiet: bool = typer.Option(False, "--quiet", "-q", help="Print nothing but errors."),
) -> None:
    """Embed every place of a table file.

    Works in batches, so memory does not grow with the file. OUT appears when it is whole; until
    then it grows in the folder OUT.part, from where a stopped run goes on with --resume.

    Example:
        geoembed embed places.gpkg -o places.parquet
        geoembed embed places.csv -o vectors.npy --lon-column x --lat-column y
        geoembed embed regions.gpkg -o regions.parquet --geometry sample --layers scales
    """
    from geoembed.streaming import embed_file

    with terminable(), notes_told(FLAGS):
        report = embed_file(
            source,
            target,
            encoder=encoder,
            layout=layout,
            prefix=prefix,
            overwrite=overwrite,
            force=force,
            resume=resume,
            lon=lon,
            lat=lat,
            crs=crs,
            layer=layer,
            geometry=geometry,
            samples=samples,
            on_invalid=on_invalid,
            batch_rows=batch_rows,
            progress=False if quiet else None,
            layers=layers,
            normalize=normalize,
            dtype=dtype,
            precision=precision,
            device=device,
            seam=seam,
        )
    if quiet:
        return
    lost = f" ({report.dropped:,} dropped)" if report.dropped else ""
    before = f" ({report.resumed:,} done before)" if report.resumed else ""
    print(
        f"{report.rows:,} rows{lost}{before} of {report.dimension} values, "
        f"{report.rows_per_second:,.0f} rows/s, in {report.target}"
    )
