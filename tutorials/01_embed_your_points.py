# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     name: python3
# ---

# %% [markdown]
# # Embed your points
#
# A table of real cities becomes a table of embeddings; we look at what the vectors know, use
# them in a scikit-learn pipeline that is tested on regions it has never seen, draw two maps,
# and save a file. Everything here runs without a network.

# %%
from textwrap import fill

import geopandas as gpd
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from scipy.spatial import KDTree
from shapely.geometry import Point
from sklearn.linear_model import RidgeClassifier
from sklearn.model_selection import GroupKFold, KFold, cross_val_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import geoembed as ge

# %% [markdown]
# ## A table in, a table out
#
# `load_cities` comes with geoembed (GeoNames, CC BY 4.0). Any GeoDataFrame of points will do,
# in any coordinate reference system.

# %%
cities = ge.data.load_cities().query("population > 100_000")
cities = cities[["name", "iso_a2", "population", "geometry"]].reset_index(drop=True)
cities.head()

# %% [markdown]
# `embed` adds one column a value and keeps everything else: index, order, CRS, other columns.

# %%
table = ge.embed(cities)
table.iloc[:3, :8]

# %% [markdown]
# Plain arrays work as well. Rows are places, in the order of the input; the vectors are
# float32 and not normalised.

# %%
vectors = ge.encode(lon=[-74.006, 139.69], lat=[40.7128, 35.68])
vectors.shape, vectors.dtype

# %% [markdown]
# ## What do the vectors know?
#
# Places that look alike have similar vectors. Which cities far away, more than 1,000 km, are
# most similar to these three? The encoder sees longitude and latitude only; what it knows
# about the places it learned from photos taken around them.

# %%
for name in ("Marrakesh", "Ulan Bator", "Honolulu"):
    alike = ge.similar_places(name, among=table, min_km=1000, top=5)
    print(f"\nlike {name}:")
    print(alike[["name", "iso_a2", "score", "distance_km"]].round(2).to_string(index=False))

# %% [markdown]
# ## Any coordinate reference system, and clear refusals
#
# Swiss surveyors give metres in EPSG:2056. The frame says so, and that is enough:

# %%
peaks = gpd.GeoDataFrame(
    {"name": ["Matterhorn", "Säntis"]},
    geometry=gpd.points_from_xy([2617100, 2744200], [1091700, 1234900]),
    crs="EPSG:2056",
)
ge.read_places(peaks).lonlat.round(4)

# %% [markdown]
# What cannot be read as places is refused in words, and nothing is lost:

# %%
for label, frame in {
    "no CRS": gpd.GeoDataFrame(geometry=[Point(2617100, 1091700)]),
    "swapped columns": pd.DataFrame({"lon": [40.7, 35.7], "lat": [-74.0, 139.7]}, index=["a", "b"]),
    "a row without a place": pd.DataFrame({"lon": [13.4, None], "lat": [52.5, 48.9]}),
}.items():
    try:
        ge.embed(frame)
    except ge.CoordinateError as error:
        print(f"{label}:\n{fill(str(error), 88)}\n")

# %% [markdown]
# With `on_invalid="nan"` such rows become rows of NaN, with `"drop"` they are left out.
#
# ## Polygons
#
# An encoder takes points, so a polygon needs a choice: a point inside it, its centroid on the
# sphere, or the mean embedding of points spread over it. For a country as long as Chile these
# are not the same thing.

# %%
countries = ge.data.load_countries().set_index("name")
some = countries.loc[["Chile", "Kenya", "Fiji", "Switzerland"]]
inner, centroid, sample = (
    ge.LocationFeaturizer(geometry=choice, seam="blend").fit_transform(some)
    for choice in ("representative_point", "centroid", "sample")
)


def cosine(a, b):
    """Cosine similarity, row by row."""
    return (a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


pd.DataFrame(
    {
        "inner point ~ centroid": cosine(inner, centroid),
        "centroid ~ mean of samples": cosine(centroid, sample),
    },
    index=some.index,
).round(2)

# %% [markdown]
# ## A model, tested honestly
#
# Can a linear model tell from the embedding whether a city lies by the sea? We make the
# labels from the coastline that comes with geoembed: within 20 km or not.

# %%
outlines = ge.data.load_outlines().set_index("kind")
shore = outlines.loc[["coastline"]].segmentize(0.05).get_coordinates().to_numpy()
places = ge.read_places(cities).lonlat
chord, _ = KDTree(ge.geodesy.to_unit_vectors(shore)).query(ge.geodesy.to_unit_vectors(places))
by_the_sea = 2 * np.arcsin(chord / 2) * ge.geodesy.EARTH_RADIUS_KM < 20
print(f"{by_the_sea.sum():,} of {len(cities):,} cities lie within 20 km of the sea")

# %% [markdown]
# **The split decides what a score means.** Cities come in clusters. In a random split nearly
# every test city has a training city next door, and copying its label looks like knowledge.
# Blocks of 5 degrees that are held out whole ask the real question: what about a region I
# have no labels for?
#
# The featurizer learns nothing from the data, so features may be computed before the split
# without leaking. `layers="scales"` keeps the three scales of the network apart: better
# features for a model, at no cost.

# %%
blocks = np.floor(places / 5) @ [1000, 1]
features = table.filter(like="geoclip.v1_").to_numpy()
candidates = {
    "5 nearest cities (coordinates only)": (
        ge.geodesy.to_unit_vectors(places),
        KNeighborsClassifier(5),
    ),
    'embedding, layers="final"': (features, make_pipeline(StandardScaler(), RidgeClassifier(300))),
    'embedding, layers="scales"': (
        ge.LocationFeaturizer(layers="scales").fit_transform(cities),
        make_pipeline(StandardScaler(), RidgeClassifier(1000)),
    ),
}
splits = {
    "random split": list(KFold(5, shuffle=True, random_state=0).split(places)),
    "held-out blocks": list(GroupKFold(5).split(places, groups=blocks)),
}


def score(X, model, folds):
    """Mean share of right answers over the two classes, cross-validated."""
    return cross_val_score(model, X, by_the_sea, cv=folds, scoring="balanced_accuracy").mean()


pd.DataFrame(
    {
        split: {name: score(X, model, folds) for name, (X, model) in candidates.items()}
        for split, folds in splits.items()
    }
).round(3)

# %% [markdown]
# Chance is 0.5. Coordinates lose half of what they seemed to know as soon as neighbours are
# held out; the embedding keeps most of it, because places by the sea look alike everywhere.
#
# For new places the same thing is one pipeline, from a GeoDataFrame to labels. It pickles,
# clones and searches like any other scikit-learn estimator.

# %%
model = make_pipeline(
    ge.LocationFeaturizer(layers="scales"), StandardScaler(), RidgeClassifier(1000)
).fit(cities, by_the_sea)
asked = gpd.GeoDataFrame(
    {"name": ["Valparaíso", "Santiago", "Bergen", "Bern", "Mombasa", "Nairobi"]},
    geometry=gpd.points_from_xy(
        [-71.63, -70.65, 5.32, 7.45, 39.67, 36.82], [-33.04, -33.45, 60.39, 46.95, -4.05, -1.29]
    ),
    crs="EPSG:4326",
)
asked.assign(by_the_sea=model.predict(asked))[["name", "by_the_sea"]]

# %% [markdown]
# ## Maps
#
# `land_grid` lays places over the land of the world. The first three principal components of
# their embeddings, as red, green and blue: similar colours are similar vectors.

# %%
grid = ge.data.land_grid(1.0)
land = ge.encode(*grid)
ax = ge.plot.embedding_map(*grid, land, title="The world as geoclip.v1 sees it")
ax.figure.savefig("world.png", dpi=150)

# %% [markdown]
# And similarity to one place:

# %%
title = "Places like Marrakesh"
ax = ge.plot.similarity_map(*grid, land, to=(-8.0, 31.63), name="Marrakesh", title=title)
ax.figure.savefig("like_marrakesh.png", dpi=150)

# %% [markdown]
# ## How fine do the vectors see?
#
# `resolution_profile` walks away from a place in all directions and reports the similarity.
# Where the mean is near 1, the vector cannot tell places apart.

# %%
encoder = ge.load_encoder("geoclip.v1")
walks = {"Paris": (2.35, 48.86), "Marrakesh": (-8.0, 31.63), "Gobi": (104.0, 43.0)}
fig, ax = plt.subplots(figsize=(7, 3.5), layout="constrained")
for name, place in walks.items():
    seen = encoder.resolution_profile(*place)
    ax.plot(seen["distance_km"], seen["mean"], marker="o", markersize=3, label=name)
ax.set(xscale="log", xlabel="distance, km", ylabel="mean cosine similarity")
ax.xaxis.set_major_formatter("{x:g}")
ax.grid(alpha=0.3)
ax.legend()
fig.savefig("resolution.png", dpi=150)

# %% [markdown]
# ## Save
#
# One vector column instead of 512 makes a tidy GeoParquet file that geopandas, DuckDB and
# QGIS open.

# %%
vectors = ge.embed(cities, layout="vector")
vectors.to_parquet("cities.parquet")
again = gpd.read_parquet("cities.parquet")
again.head(3)

# %% [markdown]
# For files that do not fit into memory there is the command line, or `geoembed.embed_file`:
# it reads, embeds and writes in batches, and continues where an interrupted run stopped.
#
# ```console
# $ geoembed embed cities.gpkg -o cities.parquet
# ```
#
# Next: [write a plugin](02_write_a_plugin.py), [gotchas](../docs/gotchas.md), [which layers
# for what](../docs/gotchas.md#which-layers-for-what).
