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
# # Compare geolocalizers on your own pictures
#
# You have pictures, and a table that says where each was taken. Which way to geolocate serves
# them best: voting neighbours, cells, nested cells, or pictures and places in one space? The
# plugin `geoembed-systems` trains them on the same features and asks them about the same held-out
# pictures. This tutorial goes from a folder and a CSV to a table with intervals, a map of what one
# picture says, and radii that hold what they promise. It needs no network.

# %%
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from geoembed_systems import KNNDensity, PlaNet
from geoembed_systems.benchmark.manifests import manifest_data
from geoembed_systems.benchmark.report import BenchmarkReport
from geoembed_systems.benchmark.running import run_benchmark
from PIL import Image

from geoembed import plot
from geoembed.geodesy import distance_km
from geoembed.training import load_settings, split_rows
from geoembed.training.bluemarble import BlueMarble, crop

# Networks so small are computed as fast on one core: more would wait for each other.
torch.set_num_threads(1)

# %% [markdown]
# ## Your pictures
#
# Crops of NASA's Blue Marble stand in for them: 356 km wide, 48 pixels a side, anywhere on land.
# They are written to a folder as files, and a CSV says where each was taken. From here on the
# tutorial knows nothing but these two. Put your own in their place.

# %%
recipe = load_settings("bluemarble").data
crops = BlueMarble(recipe.crops, recipe.crop_size)
split = split_rows(crops.lonlat, recipe)
rng = np.random.default_rng(0)
chosen = {"train": np.sort(rng.choice(split.train, 3000, replace=False)), "test": split.validation}

folder = Path("pictures")
folder.mkdir(exist_ok=True)
for part, rows in chosen.items():
    files = [f"{row:05}.png" for row in rows]
    for file, row in zip(files, rows, strict=True):
        Image.fromarray(np.asarray(crops.picture(row))).save(folder / file)
    table = pd.DataFrame(crops.lonlat[rows], columns=["lon", "lat"]).assign(file=files)
    table.to_csv(f"{part}.csv", index=False)
print(len(list(folder.iterdir())), "pictures")
table.head(3)

# %% [markdown]
# ## Hold out whole regions
#
# A picture of a street in the test, another of the same street in the training: whoever finds the
# second has found the first, and you learn nothing about streets that you have no picture of. So
# the test pictures here lie in blocks of 10 degrees from which nothing is learned, with a margin.
# These are the blocks that the image encoder below has not seen either. Did anything slip through?
# The distance from each test picture to the nearest training picture says so.

# %%
train_places, test_places = (crops.lonlat[rows] for rows in chosen.values())
fig, ax = plt.subplots(figsize=(9, 4.2), layout="constrained")
plot.world_axes(ax, extent=(-180, -60, 180, 84), borders=False)
ax.scatter(*train_places.T, s=2, color="#0072b2", label=f"train: {len(train_places):,}")
ax.scatter(*test_places.T, s=2, color="#d55e00", label=f"test: {len(test_places):,}")
ax.legend(loc="lower left", markerscale=4)
ax.set_title("Pictures to learn from and pictures to be asked about", loc="left", weight="bold")
fig.savefig("split.png", dpi=150)

# %% [markdown]
# With one CSV of your own, leave `test=` out below: blocks are then held out for you, and
# `held_out`, `block_km` and `buffer_km` say how many, how large and how far apart.
#
# ## Features, once
#
# The tower of an image encoder turns every picture into a vector. It stays frozen: whatever the
# systems differ in, it is not that. `bluemarble.v1` ships with geoembed; for photographs take
# `geoclip.v1`, whose tower is CLIP's, once its weights are on your machine. Features are kept in a
# folder, and a second call reads them from there. A picture that cannot be read is kept with its
# error, and counts as missed in the test.

# %%
data = manifest_data(
    "train.csv",
    images="pictures",
    test="test.csv",
    image_encoder="bluemarble.v1",
    folder="features",
    name="my pictures",
    progress=False,
)
print(data.train.pooled.shape, data.test.pooled.shape)
print(data.describe()["test_within_1_km"])

# %% [markdown]
# ## Four systems
#
# - `knn`: the most similar training pictures vote; nothing is trained.
# - `planet`: one classifier over adaptive cells.
# - `isns`: three nested partitions that must agree. Labels of scenes would give it an expert for
#   each; there are none here, so clusters of the features stand in for them.
# - `geoclip`: pictures and places in one space. It answers from a grid of all land, not only from
#   where training pictures were taken.
#
# Each runs in a process of its own. The mean of the training places and a random one of them stand
# beside them: what does not beat those has not looked at the pictures.

# %%
options = {
    "geoclip": {"recipe": "bluemarble", "gallery": "land", "smooth_km": 400.0, "epochs": 10},
}
record = run_benchmark(
    data,
    folder="benchmark",
    systems=["knn", "planet", "isns", "geoclip"],
    options=options,
    threads=1,
    progress=False,
)
print(*(f"{run['system']}: {run.get('failed', 'done')}" for run in record["runs"]), sep="\n")

# %% [markdown]
# A run that fails says why and does not stop the others. Called again, the same line runs only what
# is missing: stop it when you like, add systems, seeds, or `fractions=(0.1, 1.0)`, which shows what
# more pictures would bring.
#
# ## The table
#
# The share of the pictures that are put within a distance of where they were taken, and the
# median error. `low` and `high` are 95 % intervals.

# %%
report = BenchmarkReport.from_folder("benchmark")
report.save("report")
scores = report.table()
scores[["title", "within_200", "within_750", "within_2500", "median_km", "fit_s", "parameters"]]

# %% [markdown]
# Nobody puts crops as wide as these within 25 km, so look at 750 km and beyond, and at intervals
# before names. What can be told from these numbers, and what cannot, the report says in words:

# %%
print(*report.conclusion, sep="\n\n")

# %%
fig, ax = plt.subplots(figsize=(11, 3.9), layout="constrained")
ax.imshow(plt.imread("report/systems.png"))
_ = ax.axis("off")

# %% [markdown]
# The curves tell more than thresholds: how many of the pictures lie within *every* distance. Where
# two cross, one is better at streets and the other at continents.

# %%
errors = {report.titles[name]: km[0] for name, km in report.errors().items()}
ax = plot.cumulative_error_curve(errors, thresholds_km=(200, 750, 2500), title="How far off")
ax.set_xlim(30, 20_000)
ax.figure.savefig("curves.png", dpi=150)

# %% [markdown]
# ## What one picture says
#
# Two of them again, fitted in this process on the features that are there already. An answer is
# only the best of many places; a map shows them all. Above, the votes of similar pictures; below,
# a classifier's cells. Both have seen the same crop, and the star is where it was cut out.

# %%
voting = KNNDensity().fit(data.train, data.train_lonlat)
cells = PlaNet(progress=False).fit(data.train, data.train_lonlat)
answers = voting.predict(data.test)
away = distance_km(*data.test_lonlat.T, *answers.T)
half = rng.permutation(len(data.test))
learn, check = half[:500], half[500:]
one = check[np.argsort(away[check])[len(check) // 4]]
fig, axes = plt.subplots(2, 1, figsize=(9, 8.6), layout="constrained")
for ax, system in zip(axes, (voting, cells), strict=True):
    system.probability_map(data.test.take([one]), ax=ax, title=system.title)
    ax.plot(*data.test_lonlat[one], "*", ms=15, mfc="#0072b2", mec="white", zorder=9)
inset = axes[0].inset_axes([0.015, 0.05, 0.17, 0.34])
inset.imshow(crop(*data.test_lonlat[one], 96))
inset.set(xticks=[], yticks=[])
fig.savefig("density.png", dpi=130)

# %% [markdown]
# ## How sure is it?
#
# Nobody has checked the densities of a fresh system, so its radii are marked as not calibrated.
# Half of the test pictures calibrate, the other half check: half of the truths should lie within
# `radius_50_km`, and nine in ten within `radius_90_km`.

# %%
rough = voting.localize(data.test.take(check), top_k=1)
voting.calibrate(data.test.take(learn), data.test_lonlat[learn])
sure = voting.localize(data.test.take(check), top_k=1)
for name, found in (("fresh", rough), ("calibrated", sure)):
    held = [np.mean(away[check] <= found[f"radius_{share}_km"]) for share in (50, 90)]
    print(f"{name}: {held[0]:.0%} within radius_50_km, {held[1]:.0%} within radius_90_km")

# %% [markdown]
# A radius tells pictures that say something from those that do not. Here are three with small ones,
# in different parts of the world, with credible regions: the smallest parts of the Earth that hold
# half and nine tenths of the density. The stars are the truth.

# %%
surest: list[int] = []
for row in check[np.argsort(sure["radius_50_km"].to_numpy())]:
    if len(surest) < 3 and all(
        distance_km(*answers[row], *answers[other]) > 4_000 for other in surest
    ):
        surest.append(row)
asked = data.test.take(surest)
regions = voting.regions(asked)
pictures = {data.test.names[row]: crop(*data.test_lonlat[row], 96) for row in surest}
ax = plot.answers_map(
    voting.localize(asked, top_k=2, distinct_km=500),
    regions=regions,
    pictures=pictures,
    extent=(-180, -60, 180, 84),
    title="Three that it is sure of",
    score="share of the votes at the place",
)
for row in surest:
    ax.plot(*data.test_lonlat[row], "*", ms=14, mfc="#d55e00", mec="white", zorder=9)
ax.figure.savefig("regions.png", dpi=150)
regions[["query", "share", "area_km2", "calibrated"]]

# %% [markdown]
# ## Keep it
#
# A fitted system is two files, and no code is run when they are read. Its features must come from
# the same encoder: others are refused.

# %%
voting.save("system")
again = KNNDensity.load("system")
print(sorted(path.name for path in Path("system").iterdir()))
print("same answers:", np.array_equal(again.predict(data.test), answers))

# %% [markdown]
# ## In the shell
#
# All seven, over three seeds, on your pictures, with a page of results at the end:
#
# ```console
# $ geoembed benchmark geolocation --manifest train.csv --images pictures --test test.csv \
#     --image-encoder bluemarble.v1 --seeds 0,1,2 -o benchmark
# ```
#
# Before you believe a difference: is it larger than its interval? Does it stand over several seeds?
# Are the held-out pictures like those that you will ask about? What each system is for, and whose
# idea it was, stands on [its page](../docs/systems/index.md).
