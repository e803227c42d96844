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
# # Geolocate
#
# Where was this seen? Galleries, answers, a search beyond the gallery, radii that hold what they
# promise, a map of the world for one query, an evaluation. Everything here runs without a
# network and without the weights of CLIP: in place of photographs there are *glimpses*, the
# embeddings of known places with noise on them. What changes with CLIP stands at the end.

# %%
import matplotlib.pyplot as plt
import numpy as np
import shapely

import geoembed as ge
from geoembed.errors import MissingWeightsError
from geoembed.geodesy import distance_km
from geoembed.plot import answers_map
from geoembed.webmap import write_map

rng = np.random.default_rng(0)


def glimpse(lonlat, noise):
    """Vectors that fit their places as a photograph might: the place's own, and noise."""
    lonlat = np.asarray(lonlat)
    vectors = ge.encode(*lonlat.T, normalize=True)
    return vectors + rng.normal(scale=noise / np.sqrt(512), size=vectors.shape)


# %% [markdown]
# ## What to compare with
#
# A gallery is a set of places whose embeddings are computed once and kept. The one that
# GeoCLIP was published with is `geoclip.100k`; here the cities of the world will do, which are
# encoded in some seconds.

# %%
gallery = ge.load_gallery("cities")
print(gallery)
print(gallery.coverage_report())

# %% [markdown]
# No answer is nearer to the truth than the nearest place of the gallery. How near could it come
# to places drawn evenly over the land? A gallery of cities is blind where nobody lives.

# %%
lon = rng.uniform(-180, 180, 20_000)
lat = np.degrees(np.arcsin(rng.uniform(-0.87, 1, 20_000)))
anywhere = np.column_stack([lon, lat])[ge.data.is_land(lon, lat)][:2_000]
ceiling = gallery.coverage_report(anywhere).ceiling
print({f"{km:g} km": f"{share:.0%}" for km, share in ceiling.items()})

# %% [markdown]
# ## Answers
#
# Four glimpses. `localize` gives a table, one row a candidate, best first. No two candidates of
# a query lie within 25 km of each other, so that five of them are five different answers.

# %%
seen = {
    "in the Andes": (-72.3, -13.4),
    "on the Nile": (32.7, 25.6),
    "near Kyoto": (135.6, 35.1),
    "in Iceland": (-21.6, 64.2),
}
queries = glimpse(list(seen.values()), noise=0.7)
localizer = ge.GeoLocalizer(gallery).fit()
asked = localizer.ask(vectors=queries, names=list(seen))
found = localizer.localize(asked, top_k=3)
found[["query", "rank", "score", "place", "place_km", "radius_50_km", "radius_90_km"]].round(3)

# %% [markdown]
# A score is a cosine: it orders places and is no probability. The radii of a fresh localizer are
# those of the model's own density; how often they hold the truth is not known, and the column
# `calibrated` says so.

# %% [markdown]
# ## How far off is it?
#
# Glimpses whose places are known teach the localizer how far off it is. Half of them calibrate,
# the other half check: half of the truths should lie within `radius_50_km`, nine in ten within
# `radius_90_km`.

# %%
cities = ge.data.load_cities().sample(1_200, random_state=1)
taken = cities[["lon", "lat"]].to_numpy() + rng.normal(scale=0.1, size=(1_200, 2))
vectors = glimpse(taken, noise=1.5)
learn, check = slice(600), slice(600, None)

rough = localizer.localize(vectors=vectors[check], top_k=1)
calibration = localizer.calibrate(vectors=vectors[learn], truth=taken[learn])
sure = localizer.localize(vectors=vectors[check], top_k=1)
away = distance_km(*taken[check].T, sure["lon"], sure["lat"])
for name, table in (("as trained", rough), ("calibrated", sure)):
    held = [np.mean(away <= table[f"radius_{share}_km"]) for share in (50, 90)]
    print(f"{name}: {held[0]:.0%} within radius_50_km, {held[1]:.0%} within radius_90_km")
print(calibration.temperature)

# %% [markdown]
# As trained, the radii are too wide for these glimpses; for photographs they may be too narrow.
# The promise of the calibrated ones is one about pictures like those that were calibrated on:
# for photographs of your own you need photographs of your own. `calibration.save("radius.json")`
# keeps what was learned.

# %%
fig, ax = plt.subplots(figsize=(7, 4), layout="constrained")
for radius, colour in ((50, "tab:blue"), (90, "tab:orange")):
    ax.scatter(sure[f"radius_{radius}_km"], away, s=6, color=colour, label=f"radius_{radius}_km")
ax.axline((1, 1), (1e4, 1e4), color="grey", linewidth=1)
ax.set(xscale="log", yscale="log", xlabel="radius, km", ylabel="error, km")
ax.set(xlim=(1, 2e4), ylim=(1, 2e4), title="Truths below the line lie within the radius")
ax.legend()
fig.savefig("radius.png", dpi=120)

# %% [markdown]
# ## On a map
#
# Credible regions are the smallest parts of the land that hold half and nine tenths of the
# density. `answers_map` draws them beside the candidates; `write_map` makes one HTML file with a
# globe to turn, which needs no network.

# %%
found = localizer.localize(asked, top_k=3)
regions = localizer.regions(asked)
ax = answers_map(found, regions=regions, title="Four glimpses")
ax.figure.savefig("answers.png", dpi=120)
write_map("answers.html", found, regions=regions, title="Four glimpses")
found[["query", "rank", "score", "place", "radius_90_km", "calibrated"]].round(3)

# %% [markdown]
# Where else on Earth does it look like that? The scores of all land, for one glimpse:

# %%
ax = localizer.similarity_map(vectors=queries[0], step=1.5, title="Like a place in the Andes")
ax.figure.savefig("andes.png", dpi=120)

# %% [markdown]
# ## Within a region, and beyond the gallery
#
# Somebody tells that the picture is from Patagonia. An even grid over a polygon is a gallery
# too; `within=` keeps answers inside. `refine=True` goes on between the places of the grid.

# %%
patagonia = shapely.box(-74, -52, -66, -42)
grid = ge.Gallery.grid(45, within=patagonia)
print(grid)
inside = anywhere[shapely.contains_xy(patagonia, *anywhere.T)][:8]
local = ge.GeoLocalizer(grid).fit()
for noise in (0.0, 0.5):
    glimpses = glimpse(inside, noise)
    for refine in (False, True):
        best = local.localize(
            vectors=glimpses, top_k=1, within=patagonia, refine=refine, radii=False
        )
        away = distance_km(*inside.T, best["lon"], best["lat"])
        print(f"noise {noise}, refine={refine}: median error {np.median(away):.2f} km")

# %% [markdown]
# ## An evaluation
#
# A manifest says which picture was taken where; precomputed vectors are taken in place of the
# pictures. The report has intervals, a table by continent, the ceiling of the gallery and a
# check whether places of the gallery gave the answers away.

# %%
manifest = cities.assign(file=[f"{name}.jpg" for name in cities["name"]])
manifest["lon"], manifest["lat"] = taken.T
report = ge.evaluate_manifest(manifest.drop(columns="geometry"), gallery, features=vectors)
report.save("evaluation")
report.table()

# %% [markdown]
# ## With CLIP
#
# All of this works on photographs and texts once the weights of CLIP ViT-L/14 (1.7 GB) are on
# your machine: nothing else changes. `localize("photo.jpg")` and `localize(text="a fjord in
# winter")` take the place of `vectors=`; the command line does the same:
#
# ```console
# $ geoembed geolocate photo.jpg --map answers.html --allow-download
# ```
#
# Until then every call that needs the tower says what is missing and how to get it.

# %%
try:
    print(localizer.localize(text="a fjord in winter", top_k=3)[["score", "place"]])
except MissingWeightsError as error:
    print(error)
