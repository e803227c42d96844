"""``geoembed gallery list | build | info | index``: places with their embeddings, to search in."""

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec

import typer

from geoembed.cli.gallery_index import index
from geoembed.cli.output import print_json, table
from geoembed.cli.runs import TABLE_FLAGS, notes_told, terminable
from geoembed.errors import MissingExtraError, OptionError

if TYPE_CHECKING:
    from geoembed.galleries import Coverage, GalleryPlaces

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True)

# A gallery has no rows of NaN.
FLAGS = {**TABLE_FLAGS, "force": "--force"}
del FLAGS["on_invalid"]

_WHAT = "Registered name, or a folder that 'gallery build' wrote."

_Options = ParamSpec("_Options")


def _needing_torch(command: Callable[_Options, None]) -> Callable[_Options, None]:
    """Have a command say so where torch is missing: encoders that do without are no help here."""

    @wraps(command)
    def said(*arguments: _Options.args, **options: _Options.kwargs) -> None:
        try:
            command(*arguments, **options)
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] != "torch":
                raise
            raise MissingExtraError(
                "Galleries are searched with torch, also those of an encoder that needs none, and "
                "torch is not installed here. Install it with: pip install torch",
                name="torch",
            ) from error

    return said


@app.callback()
def gallery() -> None:
    """List, build or describe galleries.

    A gallery holds places and their embeddings, to search in.

    Example:
        geoembed gallery list
        geoembed gallery build --grid 25 --within kenya.gpkg -o kenya25
        geoembed gallery info kenya25
    """


@app.command("list")
def list_galleries(
    as_json: bool = typer.Option(False, "--json", help="Print JSON with every fact."),
) -> None:
    """List the registered galleries.

    Example:
        geoembed gallery list
        geoembed gallery list --json
    """
    from geoembed.extending.registry import gallery_specs

    specs = list(gallery_specs().values())
    facts = ("name", "summary", "encoder", "version", "licence", "source", "owner")
    if as_json:
        print_json([{fact: getattr(spec, fact) for fact in facts} for spec in specs])
        return
    rows = [[spec.name, spec.encoder, spec.licence or "-", spec.summary] for spec in specs]
    print(table(["name", "encoder", "licence", "summary"], rows))


@app.command()
@_needing_torch
def build(
    source: str | None = typer.Argument(
        None,
        metavar="[NAME|TABLE]",
        help="Registered gallery; or a table file of places, or a folder of Parquet files.",
    ),
    grid: float | None = typer.Option(
        None, "--grid", metavar="KM", help="An even grid instead, one place a square of that side."
    ),
    h3: int | None = typer.Option(
        None, "--h3", metavar="RESOLUTION", help="The centres of H3's cells instead."
    ),
    within: Path | None = typer.Option(
        None, "--within", metavar="FILE", help="Only places in the polygons of this file."
    ),
    sea: bool = typer.Option(False, "--sea", help="With --grid or --h3: at sea as well."),
    output: Path | None = typer.Option(
        None, "-o", "--output", metavar="FOLDER", help="Where to write it. NAME may do without."
    ),
    encoder: str | None = typer.Option(
        None, "--encoder", metavar="NAME|PATH", help="See 'geoembed encoders'."
    ),
    layers: str = typer.Option("final", "--layers", help="Which layers make up a vector."),
    dtype: str = typer.Option("float32", "--dtype", help="float32, or float16: half the room."),
    precision: str | None = typer.Option(
        None, "--precision", help="Computed in: float32, float64; int8 with --backend onnx."
    ),
    backend: str | None = typer.Option(
        None, "--backend", help="auto, torch or onnx: what the encoder runs in."
    ),
    geometry: str = typer.Option(
        "point", "--geometry", help="What stands for lines and polygons in TABLE."
    ),
    lon: str | None = typer.Option(
        None, "--lon-column", "--lon", metavar="NAME", help="Column of the longitude in TABLE."
    ),
    lat: str | None = typer.Option(
        None, "--lat-column", "--lat", metavar="NAME", help="Column of the latitude in TABLE."
    ),
    crs: str | None = typer.Option(
        None, "--crs", help="CRS of coordinates in TABLE that do not carry one."
    ),
    device: str = typer.Option("auto", "--device", help="Such as cpu or cuda."),
    force: bool = typer.Option(False, "--force", help="Replace a gallery that is there."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Encode places once, to search them often.

    A registered gallery is put into geoembed's cache, where everything finds it; with -o it is
    written into a folder instead, as are tables and grids. Equal places become one.

    Vectors are written as they are computed, so memory does not grow with them. The same command
    goes on with a build that was stopped.

    Example:
        geoembed gallery build geoclip.100k
        geoembed gallery build shops.csv -o shops
        geoembed gallery build --grid 10 --within kenya.gpkg -o kenya10 --dtype float16
        geoembed gallery build --grid 4 -o world4 --dtype float16 --backend onnx --precision int8
    """
    if [source, grid, h3].count(None) != 2:
        raise typer.BadParameter("Give a NAME or TABLE, or --grid KM, or --h3 RESOLUTION: one.")
    from geoembed.extending.registry import gallery_specs
    from geoembed.galleries import Gallery, places_of

    options: dict[str, Any] = {
        "encoder": encoder or "geoclip.v1",
        "layers": layers,
        "dtype": dtype,
        "device": device,
        "precision": precision,
        "backend": backend,
        "progress": False if as_json else None,
    }
    reading = {"geometry": geometry, "lon": lon, "lat": lat, "crs": crs}
    specs = gallery_specs()
    _check_fitting(
        source is None or source in specs,
        reading,
        sea=sea and grid is None and h3 is None,
        force=force and output is None,
    )
    if source in specs and encoder is None:
        options["encoder"] = specs[source].encoder
    if source is not None:
        _check_table(source)
    if output is None:
        if source not in specs or within is not None:
            raise OptionError("Say where the gallery is to be written: -o FOLDER.")
        with terminable(), notes_told(FLAGS):
            made = Gallery.of(places_of(source), **options)
    else:
        _check_output(output, force)
        with terminable(), notes_told(FLAGS):
            places = _places(source, grid, h3, within, sea=sea, reading=reading)
            made = Gallery.build(places, output, force=force, **options)
    size = made.embeddings.nbytes
    if as_json:
        facts = {"name": made.name, "places": len(made), "bytes": size, "digest": made.digest}
        where = {"folder": str(made.folder) if made.folder else None}
        print_json(facts | where | {"resumed": made.resumed})
        return
    told = f" in {made.folder}" if made.folder else ""
    before = f" ({made.resumed:,} done before)" if made.resumed else ""
    print(f"{made.name}: {len(made):,} places{before}, {size / 1e6:,.1f} MB of vectors{told}")


@app.command()
@_needing_torch
def info(
    name: str = typer.Argument(metavar="NAME|FOLDER", help=_WHAT),
    truth: Path | None = typer.Option(
        None, "--truth", metavar="TABLE", help="Places that answers should come near."
    ),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Describe a gallery.

    Shows its size, the spacing of its places, and how many there are by continent. With --truth
    also the ceiling: the share of those places with a place of the gallery within 1, 25, 200, 750
    and 2500 km. No search can do better.

    Example:
        geoembed gallery info geoclip.100k
        geoembed gallery info kenya25 --truth photos.csv --json
    """
    from geoembed.extending.registry import gallery_specs

    facts, places = _registered(name) if name in gallery_specs() else _folder(name)
    from geoembed.cli.gallery_places import read_lonlat
    from geoembed.galleries.coverage import coverage_of

    there = None if truth is None else read_lonlat(truth)
    found = coverage_of(places.lonlat, places.counts, there)
    if as_json:
        print_json({**facts, **_plain(found)})
        return
    width = max(map(len, facts))
    print("\n".join(f"{fact:<{width}}  {value}" for fact, value in facts.items()))
    print()
    print(found)


def _check_fitting(
    no_table: bool, reading: dict[str, str | None], *, sea: bool, force: bool
) -> None:
    """Refuse options that would change nothing."""
    flags = {"geometry": "--geometry", "lon": "--lon-column", "lat": "--lat-column", "crs": "--crs"}
    given = [flags[name] for name, value in reading.items() if value not in (None, "point")]
    if no_table and given:
        raise typer.BadParameter(f"{' and '.join(given)}: for a TABLE only.")
    if sea:
        raise typer.BadParameter("--sea: with --grid or --h3 only.")
    if force:
        raise typer.BadParameter("--force: with -o FOLDER only; the cache keeps what is right.")


app.command("index")(_needing_torch(index))


def _check_output(output: Path, force: bool) -> None:
    """Refuse before anything is read or encoded, in the words of the command line."""
    if output.exists() and not force:
        raise OptionError(f"{output} is there already. Say so if it may be replaced: --force.")


def _places(
    source: str | None,
    grid: float | None,
    h3: int | None,
    within: Path | None,
    *,
    sea: bool,
    reading: dict[str, Any],
) -> "GalleryPlaces":
    from geoembed.cli.gallery_places import table_places
    from geoembed.cli.polygons import read_polygons
    from geoembed.extending.registry import gallery_specs
    from geoembed.galleries import places_of
    from geoembed.galleries.builders import grid_places, h3_places

    polygons = None if within is None else read_polygons(within)
    if grid is not None:
        return grid_places(grid, polygons, land_only=not sea)
    if h3 is not None:
        return h3_places(h3, polygons, land_only=not sea)
    assert source is not None
    known = source in gallery_specs()
    places = places_of(source) if known else table_places(source, **reading)
    return places.take(places.rows_within(polygons))


def _check_table(source: str) -> None:
    """Tell a mistyped name from a missing file."""
    from geoembed.errors import unknown_name
    from geoembed.extending.registry import gallery_specs

    path, specs = Path(source), gallery_specs()
    meant = path.exists() or path.suffix[1:].isalpha() or "/" in source
    if source not in specs and not meant:
        raise unknown_name("gallery", source, specs)


def _registered(name: str) -> tuple[dict[str, Any], "GalleryPlaces"]:
    """Facts and places of a registered gallery; nothing is encoded."""
    from geoembed.extending.registry import gallery_specs
    from geoembed.galleries import places_of

    spec, places = gallery_specs()[name], places_of(name)
    return {
        "name": name,
        "summary": spec.summary,
        "encoder": spec.encoder,
        "licence": spec.licence,
        "source": places.source,
        "version": places.version,
        "digest": places.digest,
    }, places


def _folder(name: str) -> tuple[dict[str, Any], "GalleryPlaces"]:
    from geoembed.galleries import load_gallery

    loaded = load_gallery(name)
    path = loaded.encoder_path
    return {
        "name": loaded.name,
        "encoder": loaded.encoder,
        **({"encoder_path": path} if path else {}),
        "layers": loaded.layers,
        "vectors": f"{loaded.embeddings.nbytes / 1e6:,.1f} MB, {loaded.dtype}",
        "source": loaded.places.source,
        "version": loaded.places.version,
        "digest": loaded.digest,
    }, loaded.places


def _plain(found: "Coverage") -> dict[str, Any]:
    """Turn what was found into plain types; NaN becomes null."""
    continents = found.continents.astype(object).where(found.continents.notna(), None)
    spacing = {f"{at} %": None if km != km else km for at, km in found.spacing_km.items()}
    return {
        "places": found.places,
        "rows": found.rows,
        "spacing_km": spacing,
        "continents": continents.to_dict(orient="index"),
        "ceiling": {f"{km:g} km": share for km, share in found.ceiling.items()},
        "truths": found.truths,
    }
