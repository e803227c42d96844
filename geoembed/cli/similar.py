"""``geoembed similar``: the most similar places to a given one."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from geoembed.cli.output import print_json, table
from geoembed.errors import OptionError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["similar"]

# Tried in this order for what a row is called.
_LABELS = ("name", "city", "place", "title", "id")
_COUNTRIES = ("iso_a2", "country")


def similar(
    place: str | None = typer.Argument(
        None, metavar="[PLACE]", help="Name of a city, such as 'Paris' or 'London, CA'."
    ),
    lon: float | None = typer.Option(None, "--lon", help="Longitude instead of a name, degrees."),
    lat: float | None = typer.Option(None, "--lat", help="Latitude, degrees."),
    among: Path | None = typer.Option(
        None,
        "--among",
        "--in",
        metavar="FILE",
        help="Choose among the rows of this table file, with or without embeddings, instead of "
        "the cities of the world.",
    ),
    top: int = typer.Option(10, "--top", min=1, help="How many to show."),
    min_km: float = typer.Option(0.0, "--min-km", min=0.0, help="Leave out places nearer."),
    encoder: str | None = typer.Option(
        None,
        "--encoder",
        metavar="NAME|PATH",
        help="See 'geoembed encoders'; by default the one that made FILE, else geoclip.v1.",
    ),
    layers: str | None = typer.Option(
        None,
        "--layers",
        help="Which layers make up a vector; by default those in FILE, else final.",
    ),
    geometry: str = typer.Option(
        "point", "--geometry", help="What stands for lines and polygons in FILE."
    ),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Show the most similar places to a given one.

    The score is the cosine similarity of the embeddings; km is the distance.

    Example:
        geoembed similar Paris --min-km 1000
        geoembed similar --lon -74.006 --lat 40.7128 --top 5
        geoembed similar Quito --among towns.parquet
    """
    _check_place(place, lon, lat)
    from geoembed.similar import similar_places
    from geoembed.streaming import read_frames

    found = similar_places(
        place,
        lon=lon,
        lat=lat,
        among=None if among is None else read_frames(among),
        top=top,
        min_km=min_km,
        geometry=geometry,
        progress=False if as_json else None,
        **_maker(among, encoder, layers),
    )
    rows = _rows(found)
    if as_json:
        print_json({"place": found.attrs["place"], "similar": rows})
        return
    print(_title(place, found.attrs["place"]))
    if not rows:
        far = f" at least {min_km:g} km away" if min_km else ""
        print(f"There is no other place{far} to choose from.")
        return
    for row in rows:
        row["score"] = f"{row['score']:.3f}"
        row["km"] = round(row["km"])
    print(table(list(rows[0]), [list(row.values()) for row in rows]))


def _check_place(place: str | None, lon: float | None, lat: float | None) -> None:
    by_coordinates = lon is not None and lat is not None
    if (place is None) != by_coordinates or (lon is None) != (lat is None):
        raise typer.BadParameter(
            "Say which place is meant: the name of a city, or both --lon and --lat in degrees."
        )


def _maker(path: Path | None, encoder: str | None, layers: str | None) -> dict[str, Any]:
    """The encoder, with its options, that made the vectors in a file."""
    from geoembed.streaming import made_by

    made = None if path is None else made_by(path)
    if path is None or made is None:
        return {"encoder": encoder or "geoclip.v1", "layers": layers or "final"}
    from geoembed.encoders import load_encoder

    options = made["options"] | ({} if layers is None else {"layers": layers})
    loaded = load_encoder(encoder or made["encoder"], **options)
    facts = (loaded.name, loaded.weights_sha256, loaded.options())
    if facts != (made["encoder"], made["weights_sha256"], made["options"]):
        raise OptionError(
            f"The embeddings in {path.name} were made by {made['encoder']}, layers "
            f"{made['options']['layers']}, which is not what {loaded!r} makes. Leave out --encoder "
            "and --layers, or choose among a file without embeddings."
        )
    column = made["columns"][0] if made["layout"] == "vector" else "embedding"
    return {"encoder": loaded, "column": column}


def _title(asked: str | None, taken: dict[str, Any]) -> str:
    """Say which place was taken, and how to get another of its name."""
    from geoembed.similar import find_cities

    if asked is None:
        return f"Most similar to lon {taken['lon']:g}, lat {taken['lat']:g}:"
    # Of several in one country only the most populous can be asked for.
    cities = find_cities(asked)
    typed = dict.fromkeys(
        f"'{n}, {c}'" for n, c in zip(cities["name"], cities["iso_a2"], strict=True)
    )
    others = list(typed)[1:4]
    also = f"; there is also {', '.join(others)}" if others else ""
    people = f"{taken['population']:,} people"
    return f"Most similar to {taken['name']}, {taken['iso_a2']} ({people}{also}):"


def _rows(found: "pd.DataFrame") -> list[dict[str, Any]]:
    """Rank, score, what the row is called, km; in plain types."""
    called = [name for name in _LABELS if name in found.columns][:1]
    called += [name for name in _COUNTRIES if name in found.columns][:1]
    return [
        {
            "rank": rank,
            "score": float(row["score"]),
            **({name: row[name] for name in called} if called else {"row": label}),
            "km": float(row["distance_km"]),
        }
        for rank, (label, row) in enumerate(found.iterrows(), 1)
    ]
