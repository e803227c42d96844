"""``geoembed fit``: a table with something to predict in, a validated and saved head out."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from geoembed.cli.output import complain, print_json
from geoembed.cli.runs import TABLE_FLAGS, notes_told, score_table, terminable
from geoembed.errors import OptionError

if TYPE_CHECKING:
    from geoembed.cli.validating import Validation
    from geoembed.encoders.base import LocationEncoder

__all__ = ["fit"]

FLAGS = {
    **TABLE_FLAGS,
    "on_invalid": "--on-invalid drop",
    "overwrite": "--force",
    "block_km": "--block-km KM",
    "n_splits": "--folds N",
    "validation": "--validation spatial",
    "coverage": "--coverage SHARE",
    "precision": "--precision float32",
    "backend": "--backend onnx",
}


def fit(
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
        "for each: numbers, shares that sum to 1, or labels coarse to fine.",
    ),
    folder: Path | None = typer.Option(
        None, "--output", "-o", metavar="MODEL", help="Folder to save to; without, only scores."
    ),
    head: str | None = typer.Option(
        None, "--head", metavar="NAME", help="See 'geoembed heads'; by default what suits TARGET."
    ),
    encoder: str = typer.Option(
        "geoclip.v1", "--encoder", metavar="NAME|PATH", help="See 'geoembed encoders'."
    ),
    layers: str = typer.Option(
        "best", "--layers", help="Which layers make up a vector: best, final, scales, hidden ..."
    ),
    precision: str | None = typer.Option(
        None,
        "--precision",
        help="Vectors are computed in: float32 (the default), float64, bfloat16, float16; with "
        "--backend onnx also int8. An .onnx file computes in its own. MODEL keeps it.",
    ),
    backend: str = typer.Option(
        "auto",
        "--backend",
        metavar="auto|torch|onnx",
        help="onnx computes vectors on the CPU without torch; auto does so for .onnx files. MODEL "
        "keeps it.",
    ),
    model: str | None = typer.Option(
        None,
        "--model",
        help="ridge, logistic, kernel, knn, mlp, gbm or gp; by default the head's own.",
    ),
    extras: list[str] = typer.Option(
        [], "--extra", "-x", metavar="COLUMN", help="Learn from this column too; may be repeated."
    ),
    coverage: float = typer.Option(
        0.9, "--coverage", help="Nominal coverage of intervals and label sets; 0 for none."
    ),
    folds: int = typer.Option(5, "--folds", min=2, help="Folds of both validations."),
    block_km: float = typer.Option(
        500.0, "--block-km", metavar="KM", help="Side of the blocks that are held out whole."
    ),
    validation: str = typer.Option(
        "spatial",
        "--validation",
        help="What a model chooses its penalty or number of neighbours on, among the rows that it "
        "learns from: spatial (blocks held out, for regions without places) or random (for gaps "
        "between them).",
    ),
    geometry: str = typer.Option(
        "point",
        "--geometry",
        help="What stands for lines and polygons: representative_point, centroid or sample.",
    ),
    on_invalid: str = typer.Option(
        "raise", "--on-invalid", help="Rows without a place, target or extra column: raise or drop."
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
    device: str = typer.Option("auto", "--device", help="auto, cpu, cuda, cuda:1, mps."),
    seed: int = typer.Option(0, "--seed", min=0, help="Of folds and calibration rows."),
    force: bool = typer.Option(False, "--force", help="Replace MODEL if it exists."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
    quiet: bool = typer.Option(False, "--quiet", "-q", help="Print nothing but errors."),
) -> None:
    """Learn to predict a column at places.

    Scores are cross-validated twice: in random folds, where test places lie among the training
    places, and in space, where whole blocks of the Earth are held out. Beside the head stand what
    it has to beat: the nearest neighbours' values, and the mean or the most frequent label. Then
    the head learns from all rows and is saved. Nothing is written if anything fails.

    Example:
        geoembed fit soils.gpkg --target ph -o ph-model
        geoembed fit plots.csv --target habitat --head region --block-km 200 -o habitats
        geoembed fit cover.parquet -t forest -t crops -t water -o cover-model
        geoembed fit places/ --target ph -o ph-model
    """
    with terminable(), notes_told(FLAGS):
        found = _run(
            source,
            targets,
            folder,
            head,
            {
                "encoder": encoder,
                "layers": layers,
                "precision": precision,
                "backend": backend,
                "geometry": geometry,
                "device": device,
            },
            {
                "model": model,
                "extra_columns": extras or None,
                "coverage": coverage or None,
                "validation": validation,
            },
            {"folds": folds, "block_km": block_km, "seed": seed},
            {"lon": lon, "lat": lat, "crs": crs, "layer": layer, "on_invalid": on_invalid},
            force=force,
            progress=False if quiet or as_json else None,
            tell=not quiet and not as_json,
        )
    if as_json:
        print_json(found)


def _run(
    source: Path,
    targets: list[str],
    folder: Path | None,
    asked: str | None,
    vectors: dict[str, Any],
    options: dict[str, Any],
    folds: dict[str, Any],
    reading: dict[str, Any],
    *,
    force: bool,
    progress: bool | None,
    tell: bool,
) -> dict[str, Any]:
    from geoembed.cli import fit_table
    from geoembed.cli.validating import ComputedFeaturizer, make_splits, validate
    from geoembed.extending.registry import head_spec
    from geoembed.featurizer import LocationFeaturizer
    from geoembed.heads.saving.folders import check_folder
    from geoembed.scaling.loading import describe_table, table_name

    if folder is not None:
        check_folder(folder, overwrite=force)
    if asked is not None:
        head_spec(asked, takes="places")
    geometry = vectors["geometry"]
    rows, dropped = fit_table.read_training_table(
        source, targets, options["extra_columns"] or [], geometry=geometry, **reading
    )
    name, why = (asked, "") if asked is not None else fit_table.guess_head(rows, targets)
    task = head_spec(name).task
    fit_table.check_targets(rows, targets, task, folds["folds"])
    unfitted = _make(name, task, {**options, "random_state": folds["seed"]})
    made_of = _load_encoder(vectors)
    vectors = {**vectors, "precision": made_of.precision}
    site = fit_table.site_geometry(geometry)
    splits = make_splits(rows, **folds, geometry=site)
    if tell:
        left = f" ({dropped:,} left out)" if dropped else ""
        because = f", as {why}" if why else ""
        print(
            f"table    {len(rows):,} rows of {table_name(source)}{left}\n"
            f"predict  {', '.join(targets)}\n"
            f"head     {name}{because}\n"
            f"from     {made_of.name}, layers {made_of.layers}, {made_of.dimension:,} values"
            f"{_computed(made_of)}"
        )
    computed = ComputedFeaturizer(**vectors, progress=progress).compute(rows)
    unfitted.set_params(featurizer=computed)
    found = validate(
        unfitted,
        name,
        rows,
        targets,
        task,
        splits,
        geometry=site,
        validation=options["validation"],
        seed=folds["seed"],
        progress=progress,
    )
    fitted, told = _fit_all(unfitted, rows, targets)
    found.notes += told
    recipe = LocationFeaturizer(**vectors)
    fitted.featurizer, fitted.featurizer_ = recipe, LocationFeaturizer(**vectors).fit(rows)
    scores = _scores(found, name, rows, folds, options["coverage"])
    if tell:
        _print(found, name, options["coverage"])
    if folder is not None:
        provenance = {
            **describe_table(source),
            "layer": reading["layer"],
            "left_out": dropped,
            "targets": targets,
            "by": "geoembed fit",
        }
        fitted.save(folder, overwrite=force, scores=scores, provenance=provenance)
        if tell:
            print(f"The head, fitted on all {len(rows):,} rows, is in {folder}.")
    saved = None if folder is None else str(folder)
    return {"head": name, "rows": len(rows), "left_out": dropped, "saved": saved, **scores}


def _load_encoder(vectors: dict[str, Any]) -> "LocationEncoder":
    """Load the encoder; where nobody says a precision, it computes in its own."""
    from geoembed.encoders import load_encoder

    options = {name: vectors[name] for name in ("layers", "backend", "device")}
    if vectors["precision"] is not None:
        options["precision"] = vectors["precision"]
    return load_encoder(vectors["encoder"], **options)


def _computed(encoder: "LocationEncoder") -> str:
    """Say how vectors are computed, where that is not as usual."""
    precision = "" if encoder.precision == "float32" else f", in {encoder.precision}"
    return precision + (", by onnxruntime" if encoder.backend == "onnx" else "")


def _make(name: str, task: str, options: dict[str, Any]) -> Any:
    """Make a head; say at once what does not fit, such as an option that it does not take."""
    from geoembed.heads import make_head
    from geoembed.heads.conformal import check_coverage
    from geoembed.heads.landcover import learns_by_softmax
    from geoembed.heads.models.by_name import make_model
    from geoembed.heads.penalties import check_validation

    check_coverage(options["coverage"])
    check_validation(options["validation"])
    by_softmax = task == "fractions" and learns_by_softmax(options["model"])
    if options["model"] is not None and not by_softmax:
        make_model(options["model"], "regression" if task == "fractions" else task, None)

    made = make_head(name)
    known = made.get_params(deep=False)
    if "featurizer" not in known:
        raise OptionError(
            f"The head {name!r} takes no featurizer, so it cannot be fitted from here. Use it in "
            "Python."
        )
    given = {option: value for option, value in options.items() if value is not None}
    if options["coverage"] is None and "coverage" in known:
        given["coverage"] = None
    defaults = {"random_state", "coverage"}
    if options["validation"] == "spatial":
        defaults.add("validation")
    foreign = sorted(set(given) - set(known) - defaults)
    if foreign:
        raise OptionError(
            f"The head {name!r} takes no {' and no '.join(foreign)}; its parameters are "
            f"{', '.join(known)}."
        )
    return made.set_params(**{k: v for k, v in given.items() if k in known})


def _fit_all(head: Any, rows: Any, targets: list[str]) -> tuple[Any, list[str]]:
    """Fit on all rows; return the head, and what it warns of, such as shared places."""
    import warnings

    from sklearn.base import clone

    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        fitted = clone(head).fit(rows, targets[0] if len(targets) == 1 else targets)
    return fitted, list(dict.fromkeys(" ".join(str(w.message).split()) for w in told))


def _scores(
    found: "Validation", name: str, rows: Any, folds: dict[str, Any], coverage: float | None
) -> dict[str, Any]:
    return {
        "validation": {**folds, "rows": len(rows), "metrics": list(found.metrics)},
        "scores": found.scores,
        "by_fold": found.by_fold,
        "coverage": {"nominal": coverage, **found.coverage},
        "verdict": found.verdict(name),
        "notes": found.notes,
    }


def _print(found: "Validation", name: str, coverage: float | None) -> None:
    print()
    print(score_table(found.metrics, found.scores))
    print()
    if coverage is not None and found.coverage["random"] is not None:
        held = ", ".join(f"{found.coverage[split]:.1%} in {split} folds" for split in found.scores)
        print(f"Intervals or label sets made for {coverage:.0%} hold the truth for {held}.")
    print(found.verdict(name))
    for note in found.notes:
        complain(f"note: {note}")
