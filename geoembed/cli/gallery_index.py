"""``geoembed gallery index``: build an index of a gallery, and measure how much it finds."""

import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from geoembed.cli.output import print_json, table
from geoembed.errors import OptionError, TableError, UnknownNameError

if TYPE_CHECKING:
    from geoembed.galleries import GalleryIndex

__all__ = ["index"]


def index(
    name: str = typer.Argument(
        metavar="NAME|FOLDER", help="Registered name, or a folder that 'gallery build' wrote."
    ),
    kind: str = typer.Option("usearch", "--index", metavar="NAME", help="What to build."),
    settings: list[str] = typer.Option(
        [], "--set", metavar="OPTION=VALUE", help="An option of it; give it once for each."
    ),
    queries: Path | None = typer.Option(
        None, "--queries", metavar="FILE.npy", help="Vectors to be found as well; see below."
    ),
    encoder: str | None = typer.Option(
        None, "--encoder", metavar="NAME|PATH", help="Of a registered gallery."
    ),
    dtype: str = typer.Option("float32", "--dtype", help="Of a registered gallery."),
    device: str = typer.Option("auto", "--device", help="Where rows are compared one by one."),
    force: bool = typer.Option(False, "--force", help="Build it again if it is there."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Build an index, and measure what it finds.

    The index lies with the gallery: in its folder, or in geoembed's cache for a gallery in memory.
    What is found is compared with the exact search, for queries that are no rows of the gallery.
    With --queries (an array of shape (m, d), such as vectors of pictures) for those as well, and
    a new index is tuned to them. A build that ended early goes on where it was.

    Example:
        geoembed gallery index geoclip.100k
        geoembed gallery index kenya10 --index usearch.int8 --set connectivity=32
        geoembed gallery index kenya10 --queries photos.npy --json
    """
    options = dict(map(_setting, settings))
    from geoembed.extending.registry import index_spec
    from geoembed.galleries import load_gallery

    try:
        index_spec(kind)
    except UnknownNameError as error:
        # Otherwise the command's own default would be an unknown name, and nothing said why.
        raise UnknownNameError(
            f"{error} Approximate ones come as plugins: in the source tree, pip install "
            "plugins/geoembed-usearch brings 'usearch' and 'usearch.int8'."
        ) from error
    given = None if queries is None else _vectors(queries)
    gallery = load_gallery(
        name, encoder=encoder, dtype=dtype, device=device, progress=False if as_json else None
    )
    if force:
        options["rebuild"] = True
    if given is not None:
        options["queries"] = given
    try:
        made = gallery.index(kind, progress=False if as_json else None, **options)
    except TypeError as error:
        raise OptionError(f"The index {kind!r} takes no such option: {error}.") from error
    facts = made.facts
    measured = _measured(made, given, facts)
    if as_json:
        print_json({"gallery": gallery.name, "index": kind, **facts, "recall": measured})
        return
    _show(gallery.name, kind, facts, measured)


def _setting(text: str) -> tuple[str, Any]:
    """Read ``OPTION=VALUE``; a number where it is one."""
    option, equals, value = text.partition("=")
    if not equals or not option.isidentifier() or not value:
        raise typer.BadParameter(f"--set {text!r} is no OPTION=VALUE, such as connectivity=32.")
    for kind in (int, float):
        try:
            return option, kind(value)
        except ValueError:
            pass
    return option, value


def _vectors(path: Path) -> Any:
    import numpy as np

    try:
        with path.open("rb") as file:  # which numpy leaves open where it is no archive
            vectors = np.load(file)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise TableError(f"{path} cannot be read as an array: {error}.") from error
    if not isinstance(vectors, np.ndarray) or vectors.ndim != 2 or vectors.dtype.kind not in "fiu":
        raise TableError(f"{path} holds no array of numbers of shape (m, d).")
    return vectors


def _measured(made: "GalleryIndex", given: Any, facts: dict[str, Any]) -> list[dict[str, Any]]:
    """What was measured when it was built, and the user's queries now."""
    known = [one for one in facts.get("recall", []) if one["queries"] != "given"]
    measure = getattr(made, "measure", None)
    return known if given is None or measure is None else [*known, measure(given)]


def _show(name: str, kind: str, facts: dict[str, Any], measured: list[dict[str, Any]]) -> None:
    size = f", {facts['bytes'] / 1e6:,.1f} MB" if "bytes" in facts else ""
    print(f"{name}: index {kind}{size}" + (f" in {facts['path']}" if facts.get("path") else ""))
    hidden = ("recall", "vectors", "path", "bytes", "format", "graph", "parts")
    plain = {k: v for k, v in facts.items() if k not in hidden and not k.endswith("sha256")}
    if plain:
        width = max(map(len, plain))
        print("\n".join(f"{fact:<{width}}  {value}" for fact, value in plain.items()))
    if measured:
        shares = [fact for fact in measured[0] if fact.startswith("recall")]
        header = ["queries", "best cosine", *shares]
        rows = [
            [m["queries"], f"{m['best']:.3f}", *(f"{m[s]:.3f}" for s in shares)] for m in measured
        ]
        print()
        print(table(header, rows))
