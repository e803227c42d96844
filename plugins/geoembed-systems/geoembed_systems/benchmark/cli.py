"""``geoembed benchmark geolocation``: seven systems side by side on one data set."""

from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any

import typer

from geoembed.cli.output import print_json, table
from geoembed.cli.runs import notes_told, terminable
from geoembed.errors import MissingExtraError, TrainingError

if TYPE_CHECKING:
    from geoembed_systems.benchmark.data import BenchmarkData
    from geoembed_systems.benchmark.presets import Preset
    from geoembed_systems.benchmark.report import BenchmarkReport

__all__ = ["app"]

FLAGS = {
    "images": "--images FOLDER",
    "features": "--features FILE",
    "test": "--test TABLE",
    "test_images": "--test-images FOLDER",
    "test_features": "--test-features FILE",
    "block_km": "--block-km KM",
    "scenes": "--scenes COLUMN",
    "id_column": "--id-column NAME",
    "lon": "--lon-column NAME",
    "lat": "--lat-column NAME",
    "image_encoder": "--image-encoder NAME",
    "weights": "--weights PATH",
    "allow_download": "--allow-download",
    "folder": "--output FOLDER",
    "resume": "--force",
    "file": "--file-column NAME",
    "on_invalid": "--on-invalid drop",
}

# Options of systems that a benchmark sets itself, or that features leave without effect.
_NOT_ASKED = (
    *("random_state", "progress", "run_folder", "resume"),
    *("image_encoder", "weights", "allow_download", "crops"),
)

app = typer.Typer(no_args_is_help=True)


@app.callback()
def _benchmark() -> None:
    """Compare systems on one data set.

    Each learns from the same features of the same pictures, and is asked with the same others.

    Example:
        geoembed benchmark geolocation --list
        geoembed benchmark geolocation -o runs/systems --seeds 0,1,2
    """


@app.command()
def geolocation(
    systems: str = typer.Option(
        "all", "--systems", metavar="A,B", help="Which, see --list; by default all seven."
    ),
    seeds: str = typer.Option(
        "0", "--seeds", metavar="N,N", help="Run each with these, such as 0,1,2."
    ),
    fractions: str = typer.Option(
        "100",
        "--fractions",
        metavar="PERCENT,PERCENT",
        help="Nested shares of the training pictures, such as 5,10,20,50,100.",
    ),
    manifest: Path | None = typer.Option(
        None,
        "--manifest",
        "-m",
        metavar="TABLE",
        help="Pictures to learn from: a column of files (IMG_FILE) and where they were taken (LAT, "
        "LON, or points). By default crops of the Blue Marble.",
    ),
    images: Path | None = typer.Option(
        None, "--images", "-i", metavar="FOLDER", help="Folder of those pictures."
    ),
    features: Path | None = typer.Option(
        None,
        "--features",
        metavar="FILE",
        help="Features in place of pictures: .npy in the order of TABLE, .npz or .parquet.",
    ),
    test: Path | None = typer.Option(
        None,
        "--test",
        metavar="TABLE",
        help="Pictures to be asked about; by default whole blocks of --manifest are held out.",
    ),
    test_images: Path | None = typer.Option(
        None, "--test-images", metavar="FOLDER", help="Theirs; by default that of --images."
    ),
    test_features: Path | None = typer.Option(
        None, "--test-features", metavar="FILE", help="Features of --test."
    ),
    block_km: float | None = typer.Option(
        None, "--block-km", metavar="KM", help="Side of the blocks held out; by default 500."
    ),
    buffer_km: float | None = typer.Option(
        None, "--buffer-km", metavar="KM", help="Leave out pictures as near to those held out."
    ),
    scenes: str | None = typer.Option(
        None, "--scenes", metavar="COLUMN", help="What pictures show; by default found by k-means."
    ),
    tta: str | None = typer.Option(
        None, "--tta", help="Views of pictures asked about: none (the default), five or ten-crop."
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
    id_column: str | None = typer.Option(
        None, "--id-column", metavar="NAME", help="Column or array of names in --features."
    ),
    on_invalid: str | None = typer.Option(
        None, "--on-invalid", help="Rows without a place or a picture: raise (default) or drop."
    ),
    image_encoder: str | None = typer.Option(
        None,
        "--image-encoder",
        metavar="NAME",
        help="Whose frozen tower looks at pictures; by default geoclip.v1, for the Blue Marble "
        "bluemarble.v1.",
    ),
    weights: Path | None = typer.Option(
        None, "--weights", metavar="PATH", help="File or folder with the weights of its tower."
    ),
    allow_download: bool = typer.Option(
        False, "--allow-download", help="Fetch those weights if they are not on this machine."
    ),
    device: str | None = typer.Option(
        None, "--device", help="Of the tower: auto, cpu, cuda, cuda:1 or mps."
    ),
    crops: int | None = typer.Option(
        None, "--crops", metavar="N", help="Of the Blue Marble; by default 10,000."
    ),
    options: list[str] = typer.Option(
        [],
        "--set",
        metavar="SYSTEM.OPTION=VALUE",
        help="Change an option of a system, or of all that have it; give it once for each.",
    ),
    threads: int = typer.Option(2, "--threads", min=1, help="That a run computes with."),
    folder: Path = typer.Option(
        Path("runs") / "geolocation",
        "--output",
        "-o",
        metavar="FOLDER",
        help="Of runs and report; by default runs/geolocation.",
    ),
    force: bool = typer.Option(
        False, "--force/--resume", help="Run all anew, or what FOLDER lacks (the default)."
    ),
    report_only: bool = typer.Option(
        False, "--report-only", help="Run nothing: make the report of FOLDER anew."
    ),
    listing: bool = typer.Option(False, "--list", help="List the systems and their options."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
    quiet: bool = typer.Option(False, "--quiet", "-q", help="Print nothing but errors."),
) -> None:
    """Compare seven geolocators of pictures.

    Trains [L]kNN, PlaNet, CPlaNet, ISNs, TransLocator, GeoDecoder and GeoCLIP on one data set, and
    prints the share of pictures within 1, 25, 200, 750 and 2500 km, the median error, and what
    each took; intervals, differences to GeoCLIP, and what papers print. FOLDER gets results.md,
    .csv and .json, systems.png, errors.png and fractions.png. A run that was stopped goes on.

    Example:
        geoembed benchmark geolocation -o runs/systems --seeds 0,1,2
        geoembed benchmark geolocation --systems geoclip,planet,isns --fractions 5,10,20,50,100
        geoembed benchmark geolocation -m photos.csv -i photos --set planet.t_max=500 -o mine
        geoembed benchmark geolocation -o runs/systems --report-only
    """
    own = {
        "images": images,
        "features": features,
        "test": test,
        "test_images": test_images,
        "test_features": test_features,
        "block_km": block_km,
        "buffer_km": buffer_km,
        "scenes": scenes,
        "crops": tta,
        "file": file,
        "lon": lon,
        "lat": lat,
        "id_column": id_column,
        "on_invalid": on_invalid,
        "weights": weights,
        "allow_download": allow_download or None,
        "device": device,
    }
    own = {name: value for name, value in own.items() if value is not None}
    with terminable(), notes_told(FLAGS):
        if listing:
            _list(as_json)
            return
        if not report_only:
            _check_flags(manifest, own, crops)
            _run(
                {"systems": systems, "seeds": seeds, "fractions": fractions, "options": options},
                {"manifest": manifest, "image_encoder": image_encoder, "crops": crops, "own": own},
                folder,
                resume=not force,
                threads=threads,
                progress=False if quiet or as_json else None,
            )
        report, missing = _report(folder)
        if as_json:
            print_json(report.to_dict())
        elif not quiet:
            _print(report, folder, missing)
        _tell_failed(report)


def _check_flags(manifest: Path | None, own: dict[str, Any], crops: int | None) -> None:
    if manifest is None:
        for name in own:
            raise typer.BadParameter(f"{_flag(name)} belongs to --manifest TABLE: give both.")
        return
    if crops is not None:
        raise typer.BadParameter("--crops is about the Blue Marble, not about --manifest.")
    if ("images" in own) == ("features" in own):
        raise typer.BadParameter("Give one of --images FOLDER and --features FILE.")
    if "test" not in own and ("test_images" in own or "test_features" in own):
        raise typer.BadParameter("--test-images and --test-features belong to --test TABLE.")
    if "test" in own and "features" in own and "test_features" not in own:
        raise typer.BadParameter("With --features, --test TABLE needs --test-features FILE.")


def _flag(name: str) -> str:
    named = {"crops": "--tta", "file": "--file-column", "lon": "--lon-column"}
    named["lat"] = "--lat-column"
    return named.get(name, f"--{name.replace('_', '-')}")


def _run(
    asked: dict[str, Any],
    given: dict[str, Any],
    folder: Path,
    *,
    resume: bool,
    threads: int,
    progress: bool | None,
) -> None:
    """Run what is asked for. What may be mistyped is read before the data, which take a while."""
    from geoembed_systems.benchmark.asking import (
        read_fractions,
        read_options,
        read_seeds,
        read_systems,
    )
    from geoembed_systems.benchmark.presets import SYSTEMS, find_preset
    from geoembed_systems.benchmark.running import run_benchmark

    names = read_systems(asked["systems"], [preset.name for preset in SYSTEMS])
    seeds, fractions = read_seeds(asked["seeds"]), read_fractions(asked["fractions"])
    known = {name: list(_options_of(find_preset(name))) for name in names}
    options = read_options(asked["options"], known)
    run_benchmark(
        _data(folder / "data", **given, progress=progress),
        folder=folder,
        systems=names,
        seeds=seeds,
        fractions=fractions,
        options=options,
        resume=resume,
        threads=threads,
        progress=progress,
    )


def _data(
    folder: Path,
    *,
    manifest: Path | None,
    image_encoder: str | None,
    crops: int | None,
    own: dict[str, Any],
    progress: bool | None,
) -> "BenchmarkData":
    encoder: dict[str, Any] = {} if image_encoder is None else {"image_encoder": image_encoder}
    if manifest is None:
        from geoembed_systems.benchmark.blue_marble import blue_marble_data

        size: dict[str, Any] = {} if crops is None else {"crops": crops}
        return blue_marble_data(folder, progress=progress, **size, **encoder)
    from geoembed_systems.benchmark.manifests import manifest_data

    return manifest_data(manifest, folder=folder, progress=progress, **own, **encoder)


def _options_of(preset: "Preset") -> dict[str, Any]:
    """Option of a system -> what it is on the default data; those that the benchmark sets itself
    are left out.
    """
    from inspect import signature

    return {
        name: preset.options.get(name, parameter.default)
        for name, parameter in signature(preset.load()).parameters.items()
        if name not in _NOT_ASKED
    }


def _list(as_json: bool) -> None:
    from geoembed_systems import SYSTEMS as SPECS
    from geoembed_systems.benchmark.presets import SYSTEMS

    summaries = {spec.name: spec.summary for spec in SPECS}
    found: list[dict[str, Any]] = [
        {
            "name": preset.name,
            "title": preset.title,
            "summary": summaries.get(preset.name, ""),
            "options": _options_of(preset),
        }
        for preset in SYSTEMS
    ]
    if as_json:
        print_json(found)
        return
    rows = [[each["name"], each["title"], each["summary"]] for each in found]
    print(table(["system", "title", "what it does"], rows))
    print("\nOptions, for --set SYSTEM.OPTION=VALUE, as they are on the Blue Marble:")
    for each in found:
        text = ", ".join(f"{option}={value!r}" for option, value in each["options"].items())
        print(fill(f"{each['name']}: {text}", width=100, subsequent_indent="  "))


def _report(folder: Path) -> "tuple[BenchmarkReport, str]":
    """Make the report and write its files; say what is missing of them."""
    from geoembed_systems.benchmark.report import BenchmarkReport

    report = BenchmarkReport.from_folder(folder)
    try:
        report.save(folder)
    except MissingExtraError as error:
        return report, f"No pictures: {error}"
    return report, ""


def _print(report: "BenchmarkReport", folder: Path, missing: str) -> None:
    from geoembed_systems.benchmark.printing import text_tables

    for sentence in report.cautions:
        print(sentence)
    if report.cautions:
        print()
    for title, header, rows in text_tables(report):
        print(title)
        print(table(header, rows))
        print()
    for sentence in report.conclusion:
        print(sentence)
    if missing:
        print(missing)
    print(f"Tables and pictures are in {folder}: results.md, results.csv, systems.png, errors.png.")


def _tell_failed(report: "BenchmarkReport") -> None:
    failed = report.failed
    if not len(failed):
        return
    first = failed.iloc[0]
    many = f"{len(failed):,} of {len(report.results.runs):,} runs failed, such as"
    raise TrainingError(
        f"{many} {first['title']}, seed {first['seed']}, {100 * first['fraction']:g} %: "
        f"{first['failed']}\nStart it again to try those once more; the others are kept."
    )
