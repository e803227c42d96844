"""``geoembed similar``: the most similar places to a given one."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from geoembed.cli.output import print_json, table

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
    layers: str = typer.Option("final", "--layers", help="Which layers make up a vector."),
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
    from geoembed.similar import similar_places
    from geoembed.streaming import read_frames

    loaded: Any = {"encoder": encoder or "geoclip.v1", "layers": layers}
    if among is not None:
        loaded = _maker(among, encoder, layers)
    found = similar_places(
        place,
        lon=lon,
        lat=lat,
        among=None if among is None else read_frames(among),
        top=top,
        min_km=min_km,
        geometry=geometry,
        progress=False if as_json else None,
        **loaded,
    )
    rows = _rows(found)
    if as_json:
        print_json({"place": found.attrs["place"], "similar": rows})
        return
    print(_title(place, found.attrs["place"]))
    for row in rows:
        row["score"] = f"{row['score']:.3f}"
        row["km"] = round(row["km"])
    header = list(rows[0]) if rows else ["rank", "score", "km"]
    print(table(header, [list(row.values()) for row in rows]))


def _maker(path: Path, encoder: str | None, layers: str) -> dict[str, Any]:
    """The encoder, with its options, that made the vectors in a file."""
    from geoembed.streaming import made_by

    made = made_by(path)
    if made is None or encoder is not None:
        return {"encoder": encoder or "geoclip.v1", "layers": layers}
    column = made["columns"][0] if made["layout"] == "vector" else "embedding"
    return {"encoder": made["encoder"], "column": column, **made["options"]}


def _title(asked: str | None, taken: dict[str, Any]) -> str:
    """Say which place was taken, and how to get another of its name."""
    from geoembed.similar import find_cities

    if asked is None:
        return f"Most similar to lon {taken['lon']:g}, lat {taken['lat']:g}:"
    others = find_cities(asked).iloc[1:4]
    named = [f"'{n}, {c}'" for n, c in zip(others["name"], others["iso_a2"], strict=True)]
    also = f"; there is also {', '.join(named)}" if named else ""
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
