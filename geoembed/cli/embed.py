"""``geoembed embed``: a table of places in, the table with embeddings out."""

import os
from typing import Any

import typer

from geoembed.cli.runs import TABLE_FLAGS, notes_told, terminable
from geoembed.errors import OptionError

__all__ = ["embed"]

FLAGS = {
    **TABLE_FLAGS,
    "prefix": "--prefix NAME",
    "backend": "--backend onnx",
    "precision": "--precision float32",
    "scheduler": "--scheduler ADDRESS",
    "workers": "--workers N",
}


def embed(
    sources: list[str] = typer.Argument(
        metavar="IN...",
        help="GeoPackage, GeoJSON, FlatGeobuf, shapefile, GeoParquet; or Parquet or CSV with "
        "coordinate columns. With --engine dask any number of Parquet files, folders of them and "
        "patterns, also addresses such as s3://bucket/folder.",
    ),
    target: str = typer.Option(
        ...,
        "--output",
        "-o",
        metavar="OUT",
        help="File to write: .parquet, .csv or .npy; with --engine dask a folder.",
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
    precision: str | None = typer.Option(
        None,
        "--precision",
        help="Computed in: float32 (the default), float64, bfloat16, float16; with --backend onnx "
        "also int8. An .onnx file computes in its own.",
    ),
    backend: str = typer.Option(
        "auto",
        "--backend",
        metavar="auto|torch|onnx",
        help="onnx computes on the CPU without torch; auto does so for .onnx files.",
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
    engine: str | None = typer.Option(
        None, "--engine", metavar="dask", help="Do it in parts, on several workers."
    ),
    scheduler: str | None = typer.Option(
        None, "--scheduler", metavar="ADDRESS", help="Of a dask cluster, such as tcp://host:8786."
    ),
    workers: int | None = typer.Option(
        None,
        "--workers",
        min=0,
        metavar="N",
        help="Workers to start here, instead of a cluster; one a core by default. 0: none.",
    ),
    quiet: bool = typer.Option(False, "--quiet", "-q", help="Print nothing but errors."),
) -> None:
    """Embed every place of a table or a folder.

    Works in batches, so memory does not grow with the file. OUT appears when it is whole; until
    then it grows in the folder OUT.part, from where a stopped run goes on with --resume.

    With --engine dask every row group becomes a file in the folder OUT. The same command goes on
    with a run that was stopped.

    Example:
        geoembed embed places.gpkg -o places.parquet
        geoembed embed places.csv -o vectors.npy --lon-column x --lat-column y
        geoembed embed regions.gpkg -o regions.parquet --geometry sample --layers scales
        geoembed embed places/ -o embedded/ --engine dask --workers 4
        geoembed embed places/ -o embedded/ --engine dask --scheduler tcp://10.0.0.5:8786
    """
    asked: dict[str, Any] = {
        "encoder": encoder,
        "layout": layout,
        "prefix": prefix,
        "overwrite": overwrite,
        "force": force,
        "lon": lon,
        "lat": lat,
        "crs": crs,
        "geometry": geometry,
        "samples": samples,
        "on_invalid": on_invalid,
        "batch_rows": batch_rows,
        "progress": False if quiet else None,
        "layers": layers,
        "normalize": normalize,
        "dtype": dtype,
        "device": device,
        "seam": seam,
        "backend": backend,
        # Left to the encoder: a file says itself what it computes in.
        **({} if precision is None else {"precision": precision}),
    }
    if engine is not None:
        _embed_folder(engine, sources, target, layer, scheduler, workers, asked)
        return
    _check_single(sources, scheduler, workers)
    from geoembed.streaming import embed_file

    with terminable(), notes_told(FLAGS):
        report = embed_file(sources[0], target, layer=layer, resume=resume, **asked)
    if quiet:
        return
    lost = f" ({report.dropped:,} dropped)" if report.dropped else ""
    before = f" ({report.resumed:,} done before)" if report.resumed else ""
    print(
        f"{report.rows:,} rows{lost}{before} of {report.dimension} values, "
        f"{report.rows_per_second:,.0f} rows/s, in {report.target}"
    )


def _check_single(sources: list[str], scheduler: str | None, workers: int | None) -> None:
    """Refuse what only --engine dask can do."""
    several = len(sources) > 1 or os.path.isdir(sources[0]) or "://" in sources[0]
    if several:
        what = f"{len(sources):,} sources" if len(sources) > 1 else sources[0]
        raise OptionError(
            f"{what}: only one file at a time becomes a file. For folders, addresses and several "
            "Parquet files pass --engine dask, and a folder as --output."
        )
    if scheduler is not None or workers is not None:
        raise OptionError("--scheduler and --workers are for --engine dask.")


def _embed_folder(
    engine: str,
    sources: list[str],
    target: str,
    layer: str | None,
    scheduler: str | None,
    workers: int | None,
    asked: dict[str, Any],
) -> None:
    if engine != "dask":
        raise OptionError(f"--engine {engine} is not one of: dask.")
    if layer is not None:
        raise OptionError(f"--layer {layer}: Parquet files have no layers.")
    from geoembed.scaling import embed_folder

    with terminable(), notes_told(FLAGS):
        report = embed_folder(sources, target, scheduler=scheduler, workers=workers, **asked)
    if asked["progress"] is False:
        return
    lost = f" ({report.dropped:,} dropped)" if report.dropped else ""
    if not report.made:
        parts = f"{report.parts:,} part{'' if report.parts == 1 else 's'}"
        print(
            f"nothing was left to do: {report.rows:,} rows{lost} of {report.dimension} values in "
            f"{parts} were there, in {report.target}"
        )
        return
    before = f" ({report.resumed:,} done before)" if report.resumed else ""
    torn = f", {len(report.redone):,} torn parts made again" if report.redone else ""
    print(
        f"{report.rows:,} rows{lost}{before} of {report.dimension} values in "
        f"{report.parts:,} parts{torn}, {report.rows_per_second:,.0f} rows/s, in {report.target}"
    )
