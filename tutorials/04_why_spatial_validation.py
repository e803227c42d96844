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
# # Why spatial validation
#
# A score says how good a map is at the places that were tested. What about the rest of the map?
# Usually nobody knows. Here we do: the target is altitude, known on all land, so every score of
# a split can be held against the true error of the map. Everything here runs without a network.

# %%
from pathlib import Path

import h5py
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pvlib
import rasterio
from matplotlib.colors import LinearSegmentedColormap, ListedColormap
from matplotlib.lines import Line2D
from sklearn.metrics import r2_score, root_mean_squared_error
from sklearn.model_selection import KFold, cross_val_predict

import geoembed as ge
from geoembed.evaluation import CachedEncoder
from geoembed.splits import nearest_train_km, suggest_block_km

# %% [markdown]
# ## A target that is known everywhere
#
# `pvlib` ships a raster of the world's altitude, five arc minutes a cell, in steps of 28 m from
# -450 m on. We write it as a GeoTIFF that says so; `zonal_mean` then gives metres. The target is
# the mean altitude within 25 km, on a grid of one degree over all land but Antarctica.

# %%
with h5py.File(Path(pvlib.__file__).parent / "data" / "Altitude.h5") as file:
    steps = file["Altitude"][:]
profile = {"driver": "GTiff", "dtype": "uint8", "count": 1, "nodata": 255, "compress": "deflate"}
where = rasterio.Affine(1 / 12, 0, -180, 0, -1 / 12, 90)
size = {"width": steps.shape[1], "height": steps.shape[0]}
with rasterio.open("altitude.tif", "w", crs="EPSG:4326", transform=where, **size, **profile) as new:
    new.write(steps, 1)
    new.scales, new.offsets = [28.0], [-450.0]

lon, lat = ge.data.land_grid(1.0, extent=(-180, -60, 180, 90))
altitude = ge.zonal_mean(np.column_stack([lon, lat]), "altitude.tif", radius_m=25_000)
land = pd.DataFrame({"lon": lon, "lat": lat, "altitude": altitude}).dropna(ignore_index=True)
area = np.cos(np.radians(land["lat"]))
land.describe().loc[["count", "mean", "min", "max"]].round(1)

# %% [markdown]
# ## Places as they come
#
# Field data come in clusters: a campaign here, a country with an archive there. Ours are 50
# campaigns at random places of the land, 30 places each, most of them within 300 km.

# %%
rng = np.random.default_rng(0)
camps = rng.choice(len(land), 50, replace=False, p=area / area.sum()).repeat(30)
away = 150 * np.sqrt(rng.exponential(1, len(camps)))
lon, lat = ge.geodesy.destination(
    *land.loc[camps, ["lon", "lat"]].to_numpy().T, rng.uniform(0, 360, len(camps)), away
)
dry = ge.data.is_land(lon, lat)
places = pd.DataFrame({"lon": lon[dry], "lat": lat[dry]})
places["altitude"] = ge.zonal_mean(places, "altitude.tif", radius_m=25_000)
places = places.dropna(ignore_index=True)
len(places)

# %% [markdown]
# ## Three scores
#
# Two models: ridge regression on the embedding, and the nearest places, which know coordinates and
# nothing else. Both are scored on random folds and on folds of blocks, larger and larger.
# `nearest_train_km` says what that does: how far a tested place is from the nearest one learned
# from. `CachedEncoder` computes the vectors once for all folds.

# %%
everywhere = pd.concat([places, land], ignore_index=True)
scales = CachedEncoder(ge.load_encoder("geoclip.v1", layers="scales"), everywhere)
heads = {
    "embedding": ge.LocationRegressor(scales, coverage=None),
    "neighbours": ge.LocationRegressor("xyz", "knn", coverage=None),
}
splitters = {"random folds": KFold(4, shuffle=True, random_state=0)}
for km in (500, 1000, 2000):
    splitters[f"blocks of {km:,} km"] = ge.SpatialBlockKFold(4, block_km=km)

tested, rows = {}, {}
for split, splitter in splitters.items():
    folds = list(splitter.split(places))
    order = np.concatenate([test for _, test in folds])
    km = np.empty(len(places))
    km[order] = np.concatenate([nearest_train_km(places, *fold) for fold in folds])
    rows[split] = {"km to training": round(np.median(km))}
    tested[split] = {"km": km}
    for name, head in heads.items():
        predicted = cross_val_predict(head, places, places["altitude"], cv=folds)
        tested[split][name] = predicted
        rows[split][f"R2, {name}"] = round(r2_score(places["altitude"], predicted), 2)

# %% [markdown]
# And the truth, the last row: the error of the map on all land, each square kilometre counted
# once.

# %%
at = len(places)
km = nearest_train_km(everywhere, np.arange(at), np.arange(at, len(everywhere)))
rows["all land, the truth"] = {"km to training": round(np.median(km))}
maps = {}
for name, head in heads.items():
    maps[name] = head.fit(places, "altitude").predict(land)
    r2 = r2_score(land["altitude"], maps[name], sample_weight=area)
    rows["all land, the truth"][f"R2, {name}"] = round(r2, 2)
pd.DataFrame(rows).T

# %% [markdown]
# On random folds both models look excellent, and the neighbours better. On the map the neighbours
# are worse than the mean altitude everywhere (R2 below 0), and the embedding is worth less than
# half of its score. **The random split was wrong by far, and picked the wrong model.** It tested
# at 40 km from the nearest training place what the map does at more than 600.
#
# Nor is a split right because it is spatial. Blocks of 500 km still flatter both models: borders
# cut campaigns in two, and test one half from the other. Blocks of 2,000 km take whole mountain
# ranges away, which is harder than the map. The truth lies between the last two splits, and so
# does its distance: that is how to choose a split where the truth is not known.
#
# `suggest_block_km` answers another question: from where on do neighbours tell nothing at all?
# Altitude is alike over half a continent. Such blocks would say what is left of a model then;
# of this map, which has something nearer for most places, they would say too little.

# %%
suggest_block_km(places, "altitude")

# %% [markdown]
# ## Look at the folds
#
# Random folds leave every campaign in all four. Blocks keep it whole, mostly: those that a border
# cuts are tested from next door, which `buffer_km=` would forbid.

# %%
fig, axes = plt.subplots(1, 2, figsize=(10, 4.0), layout="constrained")
for ax, split in zip(axes, ("random folds", "blocks of 1,000 km"), strict=True):
    ge.plot.world_axes(ax, extent=(20, 0, 110, 68), borders=False)
    fold = np.empty(len(places))
    for number, (_, test) in enumerate(splitters[split].split(places)):
        fold[test] = number
    style = {"cmap": ListedColormap(["#0072b2", "#e69f00", "#cc3311", "#117755"]), "zorder": 4}
    ax.scatter(places["lon"], places["lat"], c=fold, s=11, ec="white", lw=0.3, **style)
    ax.set_title(f"Four folds: {split}", loc="left", weight="bold", fontsize=11)
fig.savefig("folds.png", dpi=150)

# %% [markdown]
# ## Look at the errors
#
# `error_map` draws the errors of both splits on one scale, here those of the embedding. Where the
# random folds see a good model everywhere, the blocks find that nothing has told it of the
# mountains of Asia.

# %%
errors = {
    name: np.abs(tested[split]["embedding"] - places["altitude"])
    for name, split in {"random": "random folds", "blocked": "blocks of 1,000 km"}.items()
}
ax = ge.plot.error_map(
    places["lon"],
    places["lat"],
    errors,
    label="absolute error, m",
    size=12,
    title="Error of the embedding where it was tested",
)
ax.figure.savefig("errors.png", dpi=150)

# %% [markdown]
# ## Look at the map
#
# And this is what nobody sees who has no truth: the maps, and the error everywhere.


# %%
def show(ax, values, title, *, label, **style):
    """Draw values of the land's cells, cut along the coast."""
    ge.plot.world_axes(ax, extent=(-180, -60, 180, 85), borders=False)
    picture = np.full((180, 360), np.nan)
    picture[(land["lat"] + 90).astype(int), (land["lon"] + 180).astype(int)] = values
    drawn = ax.imshow(picture, origin="lower", extent=(-180, 180, -90, 90), zorder=2, **style)
    coast = ax.findobj(lambda artist: artist.get_label() == "land")[0]
    drawn.set_clip_path(coast.get_path(), coast.get_transform())
    ax.set(xlim=(-180, 180), ylim=(-60, 85), xticks=[], yticks=[])
    ax.set_title(title, loc="left", fontsize=11, weight="bold")
    bar = ax.figure.colorbar(
        drawn, cax=ax.inset_axes((0.03, 0.16, 0.2, 0.03)), extend="max", orientation="horizontal"
    )
    bar.ax.tick_params(labelsize=7)
    bar.set_label(label, fontsize=7)


heights = LinearSegmentedColormap.from_list(
    "heights", ["#6f9a78", "#d9d4a0", "#b98f63", "#86635a", "#f7f5f3"]
)
terrain = {"cmap": heights, "vmin": 0, "vmax": 5000, "label": "altitude, m"}
wrong = {"cmap": "magma_r", "vmin": 0, "vmax": 2000, "label": "absolute error, m"}
fig, axes = plt.subplots(2, 2, figsize=(13, 5.6), layout="constrained")
show(axes[0, 0], land["altitude"], "The truth, and where the campaigns were", **terrain)
axes[0, 0].plot(places["lon"], places["lat"], ".", ms=1.2, color="#b3003c", zorder=4)
for ax, (name, predicted) in zip(axes.flat[1:], maps.items(), strict=False):
    r2 = r2_score(land["altitude"], predicted, sample_weight=area)
    show(ax, predicted, f"Predicted from the {name}: R² {r2:.2f}", **terrain)
missed = np.abs(maps["embedding"] - land["altitude"])
show(axes[1, 1], missed, "True error of the embedding", **wrong)
fig.savefig("altitude.png", dpi=150)

# %% [markdown]
# The neighbours give every place the altitude of the nearest campaigns. The embedding has an idea
# of mountains, and extends them too far: India takes after the Himalaya, and the Andes, where no
# campaign was, are too low.
#
# ## Error against distance
#
# The lines are the true error of the maps by distance from the nearest training place, the marks
# what each split said, set at its own median distance. Below: at which distances the splits test,
# and at which the map is made.

# %%
colours = {"one altitude for all": "#6b767d", "embedding": "#0072b2", "neighbours": "#d55e00"}
signs = dict(zip(splitters, "osD^", strict=True))
edges = np.array([0, 25, 50, 100, 200, 300, 450, 700, 1000, 1400, 2000])
ring = np.digitize(km, edges)

fig, (ax, below) = plt.subplots(
    2, 1, figsize=(8, 7), sharex=True, height_ratios=(5, 2), layout="constrained"
)
everyone = {"one altitude for all": np.full(len(land), places["altitude"].mean())} | maps
for name, predicted in everyone.items():
    squares = (predicted - land["altitude"]) ** 2 * area
    sums = pd.DataFrame({"squares": squares, "km": km * area, "area": area}).groupby(ring).sum()
    rmse, far = np.sqrt(sums["squares"] / sums["area"]), sums["km"] / sums["area"]
    style = {"color": colours[name], "ls": "-" if name in maps else ":"}
    ax.plot(far, rmse, lw=2.2, label=f"true error, {name}", **style)
    for split, found in tested.items():
        if name in found:
            said = root_mean_squared_error(places["altitude"], found[name])
            style = {"ms": 9, "mfc": colours[name], "mec": "white", "zorder": 5}
            ax.plot(np.median(found["km"]), said, signs[split], **style)
lines = ax.get_legend_handles_labels()[0]
marks = [
    Line2D([], [], marker=sign, ls="none", color="#6b767d", label=f"what {split} said")
    for split, sign in signs.items()
]
ax.legend(handles=[*lines, *marks], fontsize=8, frameon=False, loc="upper left", ncols=2)
ax.set(xscale="log", xlim=(2.5, 4000), ylim=(0, 1700), ylabel="RMSE, m")
ax.set_title("How wrong the map is, and what the splits said", loc="left", weight="bold")

bins = np.geomspace(5, 4000, 40)
below.hist(km, bins, weights=area / area.sum(), color="#c9d0d5", label="all land")
shades = plt.get_cmap("viridis")(np.linspace(0, 0.85, 4))
for (split, found), shade in zip(tested.items(), shades, strict=True):
    share = np.full(len(places), 1 / len(places))
    below.hist(found["km"], bins, weights=share, histtype="step", lw=1.6, color=shade, label=split)
below.legend(fontsize=8, frameon=False, loc="upper left")
below.set(xlabel="distance to the nearest training place, km", ylabel="share of places")
below.xaxis.set_major_formatter("{x:g}")
for axis in (ax, below):
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(alpha=0.25)
fig.savefig("distance.png", dpi=150)

# %% [markdown]
# - Near the training places the neighbours are better, and a random split says so rightly. From
#   less than 100 km on the embedding is, and beyond 400 km the neighbours are worse than one
#   altitude for all. Hardly any land is as near as the places of a random split.
# - The embedding is no miracle either. Where most of the land is, its error is three times that
#   of the random split, and from 1,400 km on it is worse than one altitude for all. The lines
#   fall there because the land farthest from these campaigns happens to be flat.
# - The marks lie near the lines: each split is about right **for the distance at which it
#   tests**. So compare `nearest_train_km` of a split with the distance from where you will
#   predict, and report the random score beside the spatial one.
#
# Fifty other campaigns give other numbers: draw them with another seed, and see.
#
# Next: [region classification](05_region_classification.py);
# [validate in space](../docs/validate_in_space.md).
