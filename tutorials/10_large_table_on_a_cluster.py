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
# # A large table on a cluster
#
# A table of many Parquet files becomes a table of many Parquet files with embeddings, on
# workers. We break it off halfway and go on, read the result as one table, and compute on it
# without ever holding it in memory. Here the table is small and the cluster is two processes on
# this machine; with a billion rows on a hundred machines no line changes but the address.

# %%
import json
import os
import shutil
from pathlib import Path

import dask_geopandas
import geopandas as gpd
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pyarrow.dataset as ds
from distributed import Client, SubprocessCluster
from scipy.spatial import cKDTree

import geoembed as ge
from geoembed.scaling import embed_batches, embed_folder

# %% [markdown]
# ## A table in many files
#
# Large open data sets come as folders of GeoParquet: a folder a value of some column, some
# files in it, some row groups in each. We lay such a table of our own: a grid over the land, by
# climate zone.

# %%
lon, lat = ge.data.land_grid(1.5)
zones = np.select([np.abs(lat) < 23.4, np.abs(lat) < 66.6], ["tropical", "temperate"], "polar")
grid = gpd.GeoDataFrame(
    {"cell": np.arange(len(lon))}, geometry=gpd.points_from_xy(lon, lat), crs="EPSG:4326"
)
for folder in ("land", "embedded"):
    shutil.rmtree(folder, ignore_errors=True)
for zone, rows in grid.groupby(zones):
    Path(f"land/zone={zone}").mkdir(parents=True)
    rows.to_parquet(f"land/zone={zone}/part-0.parquet", index=False, row_group_size=1000)
print(f"{len(grid):,} places in", *sorted(map(str, Path("land").rglob("*.parquet"))), sep="\n  ")

# %% [markdown]
# ## Two workers
#
# `embed_folder` reads a row group and writes a part file, as often as there are row groups.
# `workers=2` starts two processes with one thread each. In the shell the same is
#
# ```console
# $ geoembed embed land -o embedded --engine dask --workers 2
# ```

# %%
report = embed_folder("land", "embedded", workers=2)
print(f"{report.rows:,} rows in {report.parts} parts")

# %% [markdown]
# Folders named after a value are kept. Beside the parts lies a manifest: what was asked for, of
# which files, and what every part holds.

# %%
manifest = json.loads(Path("embedded/_geoembed/manifest.json").read_text())
asked = manifest["request"]
print(f"made by {asked['encoder']['name']} of geoembed {asked['geoembed']}")
pd.DataFrame(manifest["parts"])[["name", "rows", "size"]].head()

# %% [markdown]
# ## When something breaks
#
# Machines die, disks fill up, somebody deletes a file. A part gets its name when it is whole and
# says in its footer which job it belongs to, so what is done is what is there. We lose one part
# and tear another:

# %%
parts = sorted(Path("embedded").rglob("*.parquet"))
parts[1].unlink()
os.truncate(parts[3], parts[3].stat().st_size // 2)
report = embed_folder("land", "embedded", workers=2)
print(f"{report.resumed:,} of {report.rows:,} rows were there; torn: {', '.join(report.redone)}")

# %% [markdown]
# The same call with other options is another job, and is refused before it could mix the two:

# %%
try:
    embed_folder("land", "embedded", layers="scales", workers=2)
except ge.GeoembedError as error:
    print(error)

# %% [markdown]
# ## One table
#
# Any reader of Parquet takes the folder as one table, and finds the zone again as a column.
# pyarrow reads only what is asked for:

# %%
table = ds.dataset("embedded", partitioning="hive")
polar = table.to_table(columns=["cell", "embedding"], filter=ds.field("zone") == "polar")
print(f"{table.count_rows():,} rows, {len(polar):,} of them polar")

# %% [markdown]
# dask-geopandas reads it lazily, and knows from the footers where each part lies, so what lies
# elsewhere is not read at all:

# %%
frame = dask_geopandas.read_parquet("embedded")
africa = frame.cx[-20:55, -35:37]
print(frame.npartitions, "partitions,", africa.npartitions, "of them touch Africa's box")

# %% [markdown]
# ## Computing where the data is
#
# A cluster that runs is a scheduler with an address. This one has two workers on this machine;
# yours may be anywhere.

# %%
cluster = SubprocessCluster(n_workers=2, threads_per_worker=1, dashboard_address=None)
client = Client(cluster)
client.wait_for_workers(2)

# %% [markdown]
# How similar is every place to Marrakesh? The function runs where the partitions are; one number
# a row comes back, of 512.

# %%
marrakesh = ge.encode([-8.0], [31.63])[0]
marrakesh /= np.linalg.norm(marrakesh)


def similarity(part, to):
    """Cosine similarity of every row to one vector."""
    vectors = np.stack(part["embedding"].to_numpy()) if len(part) else np.empty((0, len(to)))
    return pd.Series(vectors @ to / np.linalg.norm(vectors, axis=1), part.index, name="similarity")


alike = frame.map_partitions(similarity, marrakesh, meta=("similarity", "float64"))
alike = pd.DataFrame({"cell": frame["cell"].compute(), "similarity": alike.compute()})
alike = alike.set_index("cell")["similarity"].sort_index()

fig, ax = plt.subplots(figsize=(9, 4.2), layout="constrained")
points = ax.scatter(lon, lat, c=alike, s=7, marker="s", cmap="viridis")
ax.set(xlabel="longitude", ylabel="latitude", title="Places like Marrakesh, computed on workers")
fig.colorbar(points, ax=ax, label="cosine similarity", shrink=0.8)
fig.savefig("like_marrakesh.png", dpi=150)

# %% [markdown]
# ## Frames of dask go in as well
#
# `embed` takes them like any other frame. Nothing is computed yet; index, divisions and CRS are
# known already, and what can be refused without a row is refused here.

# %%
land = dask_geopandas.read_parquet("land", split_row_groups=True)
lazy = ge.embed(land, layers="scales")
print(lazy.crs.to_string(), f"{len(lazy.columns):,} columns, {lazy.npartitions} partitions")

# %% [markdown]
# A head takes them too. It learns here, from cities: is the sea within 50 km? It answers there, for
# every place of the table, partition by partition.

# %%
cities = ge.data.load_cities().query("population > 150_000").reset_index(drop=True)
outlines = ge.data.load_outlines().set_index("kind")
shore = outlines.loc[["coastline"]].segmentize(0.1).get_coordinates().to_numpy()
tree = cKDTree(ge.geodesy.to_unit_vectors(shore))
chord, _ = tree.query(ge.geodesy.to_unit_vectors(cities[["lon", "lat"]].to_numpy()))
labels = np.where(chord * ge.geodesy.EARTH_RADIUS_KM < 50, "coast", "inland")
head = ge.LocationClassifier(ge.LocationFeaturizer(layers="scales")).fit(cities, labels)

predicted = head.predict_frame(land)
answers = predicted[["zone", "predicted", "predicted_probability"]].compute()
pd.crosstab(answers["zone"], answers["predicted"], normalize="index").round(2)

# %%
client.close()
cluster.close()

# %% [markdown]
# ## Other engines
#
# Spark, Ray Data, DuckDB and polars exchange record batches of Arrow. `embed_batches` takes them
# and gives them, one stream for another; the guide has the few lines that each engine needs.

# %%
stream = ds.dataset("land", partitioning="hive").scanner(batch_size=2000).to_reader()
embedded = embed_batches(stream)
print(embedded.schema.names)
print(sum(len(batch) for batch in embedded), "rows went through")

# %% [markdown]
# ## On your own machines
#
# One scheduler, any number of workers, all with the same geoembed (a worker with another version
# is named, with its address), and a folder or bucket that all of them see:
#
# ```console
# $ dask scheduler
# $ dask worker tcp://10.0.0.5:8786 --nworkers 16 --nthreads 1 --memory-limit 3GB
# $ geoembed embed s3://bucket/land -o s3://bucket/embedded --engine dask --scheduler tcp://10.0.0.5:8786
# ```
#
# Next: the guide [scale out](../docs/scale.md), and [files](../docs/files.md) for what one
# machine does alone.
