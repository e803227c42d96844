"""``geoembed compare``: which encoder serves a table, and is it better than plain coordinates."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from geoembed.cli.output import print_json, table
from geoembed.cli.runs import TABLE_FLAGS, notes_told, terminable
from geoembed.errors import MissingExtraError, OptionError

if TYPE_CHECKING:
    from geoembed.evaluation.comparison import Comparison

__all__ = ["compare"]

FLAGS = {
    **TABLE_FLAGS,
    "on_invalid": "--on-invalid drop",
    "block_km": "--block-km KM",
    "n_splits": "--folds N",
    "on_absent": "--on-absent wrong",
    "head": "--head NAME",
    "model": "--model NAME",
    "force": "--force",
    "baselines": "--baselines knn,gp,mean",
    "scheduler": "--scheduler ADDRESS",
    "workers": "--workers N",
}


def compare(
    source: Path = typer.Argument(
        metavar="TABLE",
        help="GeoPackage, GeoJSON, FlatGeobuf, shapefile, GeoParquet; Parquet or CSV with "
        "coordinate columns; or a folder of (Geo)Parquet files, or a pattern in quotes.",
    ),
    targets: list[str] = typer.Option(
        ...,
        "--target",
        "-t",
        metavar="COLUMN",
        help="What to predict: one column of numbers or labels; or several, the option given once "
        "for each: numbers, or shares that sum to 1.",
    ),
    folder: Path = typer.Option(
        ..., "--output", "-o", metavar="FOLDER", help="Folder for tables, chart and map."
    ),
    encoders: str | None = typer.Option(
        None,
        "--encoders",
        metavar="A,B,C:LAYERS",
        help="Names or paths, see 'geoembed encoders'; by default geoclip.v1 and one of every "
        "family that learned nothing.",
    ),
    layers: str | None = typer.Option(
        None,
        "--layers",
        metavar="A,B",
        help="Layers of encoders that do not say which; by default final,best.",
    ),
    baselines: str | None = typer.Option(
        None,
        "--baselines",
        metavar="A,B",
        help="Models on coordinates alone: knn, gp, mean, or none; by default all, but gp only for "
        "numbers and up to 1,000 rows to learn from.",
    ),
    head: str | None = typer.Option(
        None, "--head", metavar="NAME", help="See 'geoembed heads'; by default what suits TARGET."
    ),
    model: str | None = typer.Option(
        None,
        "--model",
        help="ridge, logistic, kernel, knn, mlp, gbm or gp; by default the head's own.",
    ),
    folds: int | None = typer.Option(
        None, "--folds", min=2, help="Folds of both splits; by default 5."
    ),
    block_km: float | None = typer.Option(
        None,
        "--block-km",
        metavar="KM",
        help="Side of the blocks that are held out whole; by default 500, or less for a small "
        "region.",
    ),
    buffer_km: float = typer.Option(
        0.0, "--buffer-km", metavar="KM", help="Keep test and training places this far apart."
    ),
    seeds: int = typer.Option(1, "--seeds", min=1, help="Divide the rows anew this often."),
    seed: int = typer.Option(0, "--seed", min=0, help="Of the first division, and of models."),
    protocol: str | None = typer.Option(
        None,
        "--protocol",
        metavar="NAME|FILE",
        help="A frozen set-up: range-v1, climplicit-linear, spatial-v1, or a TOML file.",
    ),
    on_absent: str = typer.Option(
        "raise",
        "--on-absent",
        help="Labels that a fold tests and has not learned: raise, or wrong (they count as that).",
    ),
    geometry: str = typer.Option(
        "point",
        "--geometry",
        help="What stands for lines and polygons: representative_point or centroid.",
    ),
    on_invalid: str = typer.Option(
        "raise", "--on-invalid", help="Rows without a place or a target: raise or drop."
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
    cache: Path | None = typer.Option(
        None, "--cache", metavar="FOLDER", help="Keep vectors here for other comparisons."
    ),
    engine: str | None = typer.Option(
        None, "--engine", metavar="dask", help="Compute the vectors on several workers."
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
    force: bool = typer.Option(
        False,
        "--force/--resume",
        help="Start anew, or go on with what FOLDER holds (the default).",
    ),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
    quiet: bool = typer.Option(False, "--quiet", "-q", help="Print nothing but errors."),
) -> None:
    """Compare location encoders on your own table.

    Every encoder meets the same folds, at random and in space, and the same model. Beside them
    stand models that know no more than the coordinates. FOLDER gets comparison.csv, .md, .json
    and .png, and errors.png, a map. Finished folds are kept there: a run that was stopped goes
    on, and further encoders are added to those that are done.

    With --engine dask the vectors are computed on workers, and the models fitted here.

    Example:
        geoembed compare soils.gpkg --target ph -o ph-encoders
        geoembed compare plots.csv -t habitat --encoders geoclip.v1:scales,xyz --block-km 200 -o out
        geoembed compare stations.csv -t temperature --protocol range-v1 --seeds 20 -o range
        geoembed compare "places/country=*/*.parquet" -t forest -o cover
    """
    from geoembed.cli.fit_table import read_training_table
    from geoembed.evaluation.compare import DEFAULT_ENCODERS, compare_encoders

    with terminable(), notes_told(FLAGS):
        workers = _workers(engine, scheduler, workers)
        rows, lost = read_training_table(
            source,
            targets,
            [],
            geometry=geometry,
            on_invalid=on_invalid,
            lon=lon,
            lat=lat,
            crs=crs,
            layer=layer,
        )
        found = compare_encoders(
            rows,
            targets[0] if len(targets) == 1 else targets,
            encoders=DEFAULT_ENCODERS if encoders is None else _names(encoders),
            layers=None if layers is None else _names(layers),
            baselines=None if baselines is None else _names(baselines, none=True),
            head=head,
            model=model,
            n_splits=5 if folds is None else folds,
            block_km=block_km,
            buffer_km=buffer_km,
            seeds=seeds,
            random_state=seed,
            protocol=protocol,
            on_absent=on_absent,
            geometry=geometry,
            folder=folder,
            cache=cache,
            scheduler=scheduler,
            workers=workers,
            force=force,
            progress=False if quiet or as_json else None,
        )
        if lost:
            found.notes.append(f"{lost:,} rows without a place or a target are left out.")
        missing = _save(found, folder)
    if as_json:
        print_json(found.to_dict())
    elif not quiet:
        _print(found, folder, missing)


def _workers(engine: str | None, scheduler: str | None, workers: int | None) -> int | None:
    """Return how many workers to start; refuse what only --engine dask can do."""
    if engine is None:
        if scheduler is not None or workers is not None:
            raise OptionError("--scheduler and --workers are for --engine dask.")
        return None
    if engine != "dask":
        raise OptionError(f"--engine {engine} is not one of: dask.")
    if scheduler is not None or workers is not None:
        return workers
    from geoembed.scaling.joining import usual_workers

    return usual_workers()


def _names(text: str, *, none: bool = False) -> list[str]:
    """Names between commas; nothing for the word none."""
    if none and text.strip().lower() == "none":
        return []
    return [name.strip() for name in text.split(",") if name.strip()]


def _save(found: "Comparison", folder: Path) -> str:
    """Write the files; return what is to be said of pictures that cannot be drawn."""
    try:
        found.save(folder)
    except MissingExtraError as error:
        return f"No pictures: {error}"
    return ""


def _print(found: "Comparison", folder: Path, missing: str) -> None:
    shown = found.wide()
    lines: list[Any] = shown.to_numpy().tolist()
    print(table(list(shown.columns), lines))
    print()
    for name, how in found.splits.items():
        print(f"{name}: {how}.")
    for note in [*found.notes, *([missing] if missing else [])]:
        print(note)
    if (found.table["folds"] > 1).any():
        print("* best of its split, = not told from it by these folds.")
    print()
    print(found.conclusion)
    print(f"Tables, chart and map are in {folder}.")
