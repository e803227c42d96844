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
# # Train on Blue Marble
#
# A location encoder and an image encoder, both from random weights, in half a minute on one
# core: the plan, the training, a test in parts of the world that it has not seen, a run that is
# stopped and goes on, and a folder that stands wherever an encoder's name does. The pictures are
# crops of NASA's Blue Marble, so everything here runs without a network.

# %%
import signal
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import shapely
import torch

import geoembed as ge
from geoembed import plot
from geoembed.evaluation.geolocation import errors_km
from geoembed.geodesy import spherical_mean
from geoembed.images import load_image_encoder
from geoembed.splits import nearest_train_km
from geoembed.training import export_run, load_settings, plan_run, split_rows, train
from geoembed.training.bluemarble import BlueMarble, crop
from geoembed.training.opening import open_data
from geoembed.training.run_model import model_of_run
from geoembed.training.stopping import RunStopped

# Networks so small are computed as fast on one core: more would wait for each other.
torch.set_num_threads(1)

# %% [markdown]
# ## Places and pictures in one space
#
# One network turns a picture into a vector, another turns a place into a vector of the same
# length. They are trained together on one question. Here is a picture, here are some hundred
# places: at which of them was it taken? The answer of the model is the cosine between the
# picture's vector and that of each place, sharpened by a temperature and turned into shares that
# sum to 1. The loss is the cross-entropy with the true place. The wrong places come for free:
# they are those of the other pictures in the batch, and of a queue of earlier batches. This is
# contrastive learning, and nobody had to label anything but where each picture was taken.
#
# What comes out is two tools. Pictures can be located: encode one, and find the places whose
# vectors are nearest to it. And the location encoder, on its own, has learned which places look
# alike: that is what makes its vectors useful as features in a table.
#
# ## The data
#
# `bluemarble` is a recipe that comes with geoembed. It is made for minutes; these overrides make
# it one for half a minute. Unknown fields and values that do not fit would all be named at once.

# %%
small = [
    "data.crops=5000",
    "data.crop_size=32",
    "data.validation=0.15",
    "views.augment=none",
    "objective.queue=256",
    "optimiser.lr=2e-3",
    "loop.batch=128",
    "loop.epochs=10",
    "loop.workers=0",
    "validation.every=2",
    "validation.spacing_km=200",
]
settings = load_settings("bluemarble", small)
data = open_data(settings.data)
split = split_rows(data.lonlat, settings.data)
print(split.sizes())

# %% [markdown]
# 5,000 crops, each 356 km wide and 32 pixels a side, centred at random on land. 15 % of them are
# held out, in whole blocks of 10 degrees. The crops are wide, so one beside a block would show
# ground that lies in it: the recipe's `data.buffer_km` leaves those out of the training. What is
# held out then shares at most a corner with anything that is trained on.
#
# Left, where they lie. Right, what the model gets to see: held-out crops from north to south.

# %%
train_places, held_out = data.lonlat[split.train], data.lonlat[split.validation]
rows = split.validation[np.argsort(-held_out[:, 1])]
shown = rows[np.linspace(0, len(rows) - 1, 12).astype(int)]
land = (-180, -60, 180, 80)


def name_place(lon, lat):
    """Degrees with their quarter of the globe."""
    return f"{abs(lat):.0f}°{'S' if lat < 0 else 'N'} {abs(lon):.0f}°{'W' if lon < 0 else 'E'}"


fig = plt.figure(figsize=(11, 3.9), layout="constrained")
left, right = fig.subfigures(1, 2, width_ratios=(2.3, 1))
ax = plot.world_axes(left.subplots(), extent=land, borders=False)
kinds = {
    "training": (train_places, "#0072b2"),
    "left out": (data.lonlat[split.left_out], "#b8c4cc"),
    "held out": (held_out, "#d55e00"),
}
marks = [ax.scatter(*places.T, s=2, color=colour) for places, colour in kinds.values()]
labels = [f"{kind}: {len(places):,} crops" for kind, (places, _) in kinds.items()]
left.legend(marks, labels, loc="outside lower center", ncols=3, markerscale=4, frameon=False)
ax.set_title("Crops of the Blue Marble", loc="left", weight="bold")
for cell, row in zip(right.subplots(4, 3).ravel(), shown, strict=True):
    cell.imshow(data.picture(row))
    cell.set_title(name_place(*data.lonlat[row]), fontsize=7, pad=2)
    cell.axis("off")
fig.savefig("crops.png", dpi=150)
apart = nearest_train_km(data.lonlat, split.train, split.validation)
print(f"No held-out crop is nearer than {apart.min():.0f} km to a training crop.")

# %% [markdown]
# ## The plan
#
# Before anything starts, a plan says what will be done and what it will cost. It measures a few
# rows on this machine, as busy as it is now. `geoembed train bluemarble --dry-run` prints the
# same.

# %%
print(plan_run(settings, data, split).to_text())

# %% [markdown]
# ## Training
#
# `train` writes a run folder: settings, versions, checkpoints, metrics, curves. The data and the
# split are handed over here, as they are open already; left out, the run opens them itself.

# %%
result = train(settings, "run", data=data, split=split, progress=False)
print(*sorted(path.name for path in Path("run").iterdir() if path.name[0] != "."))
print(f"best: {result.best['value']:,.0f} km median error, after {result.best['step']} steps")

# %% [markdown]
# The curves are drawn as the run goes. The loss of the held-out pictures falls more slowly than
# that of the training pictures, and the gap between the two says how much is learned by heart.
# The last two panels are what counts: every two epochs, all held-out pictures were looked up in
# a grid of all land.

# %%
fig, ax = plt.subplots(figsize=(8, 10), layout="constrained")
ax.imshow(plt.imread("run/curves.png"))
_ = ax.axis("off")

# %% [markdown]
# ## A folder that is an encoder
#
# `export_run` takes the best checkpoint and writes a model folder with a card that tells what it
# was trained on, how, and how well it did. Its path stands wherever an encoder's name does.

# %%
export_run("run", "model")
for path in sorted(Path("model").iterdir()):
    print(f"{path.name:20} {path.stat().st_size / 1e6:6.3f} MB")
card = Path("model/README.md").read_text("utf-8")
print(card[card.index("## Results") : card.index("## Licence")])

# %% [markdown]
# ## Does it find places that it has never seen?
#
# The held-out crops lie in blocks from which it has seen nothing. A fair test needs opponents.
# *The mean point* of all training places looks at no picture: what is not better than that has
# learned nothing. *The nearest by pixels* compares the colours of the pictures, and answers with
# the place of the most similar training picture. *The nearest by vectors* does the same with the
# vectors of the trained image encoder, so that it shares everything with the *trained pair* but the
# location encoder. The pair itself answers from a grid over the land of the map above.


# %%
def unit(vectors):
    """Vectors of length 1, whose products are cosines."""
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


parts = {"train": split.train, "held out": split.validation}
pictures = {part: [data.picture(row) for row in rows] for part, rows in parts.items()}
encoder = load_image_encoder("model")
vectors = {part: unit(encoder.encode_images(crops).vectors) for part, crops in pictures.items()}
pixels = {
    part: np.array([np.asarray(picture.resize((8, 8))).ravel() for picture in crops])
    for part, crops in pictures.items()
}
colours = {part: unit(values - pixels["train"].mean(axis=0)) for part, values in pixels.items()}

gallery = ge.Gallery.grid(100, within=shapely.box(*land), encoder="model")
localizer = ge.GeoLocalizer(gallery, image_encoder="model").fit()
found = localizer.localize(vectors=vectors["held out"], top_k=1, radii=False)
answers = {
    "mean point": np.broadcast_to(spherical_mean(train_places), held_out.shape),
    "nearest by pixels": train_places[(colours["held out"] @ colours["train"].T).argmax(axis=1)],
    "nearest by vectors": train_places[(vectors["held out"] @ vectors["train"].T).argmax(axis=1)],
    "trained pair": found[["lon", "lat"]].to_numpy(),
}
errors = {name: errors_km(held_out, places) for name, places in answers.items()}
scores = {
    name: {
        **{f"within {km} km, %": 100 * np.mean(away <= km) for km in (200, 750, 2500)},
        "median km": np.median(away),
    }
    for name, away in errors.items()
}
pd.DataFrame(scores).T.round(1)

# %%
ax = plot.cumulative_error_curve(
    {name: errors[name] for name in reversed(errors)},
    thresholds_km=(200, 750, 2500),
    title="Held-out crops: how far off",
)
ax.set_xlim(30, 20_000)
ax.figure.savefig("errors.png", dpi=150)

# %% [markdown]
# Half a minute of training is ahead of all three, and far from good: half of the answers are off by
# thousands of kilometres. The comparison of the last two is the telling one, since both look
# through the same eyes: a place that is encoded answers for the land between the training
# pictures too.
#
# Two remarks on honesty. The best checkpoint was chosen on the same held-out crops, which flatters
# it a little. And single runs differ: with another `seed` the median moved by several hundred
# kilometres when this was written. Before believing such a gap between two recipes, train both
# with several seeds: `geoembed train --matrix` does that.
#
# Where is it right?

# %%
ax = plot.distance_error_map(
    *held_out.T,
    errors["trained pair"],
    thresholds_km=(200, 750, 2500, 5000),
    extent=land,
    size=12,
    title="Held-out crops: how far off the answer is",
)
ax.figure.savefig("where.png", dpi=150)

# %% [markdown]
# Errors come in blocks. Farmland or forest of one continent looks like that of another, and where
# the model has seen nothing nearby, all crops of a block are often put on the wrong one.
#
# ## Some answers
#
# Six held-out crops, not chosen by hand: sorted by error, the one in the middle of each sixth.
# Numbers are the three best answers, at least 500 km apart; stars are the truth.

# %%
order = np.argsort(errors["trained pair"])
picked = split.validation[order[((np.arange(6) + 0.5) / 6 * len(order)).astype(int)]]
names = [name_place(*data.lonlat[row]) for row in picked]
queries = localizer.ask([data.picture(row) for row in picked], names=names)
candidates = localizer.localize(queries, top_k=3, distinct_km=500, radii=False)
# The cards show the crops at a resolution that the model does not get.
large = {name: crop(*data.lonlat[row], 128) for name, row in zip(names, picked, strict=True)}
ax = plot.answers_map(candidates, pictures=large, extent=land, title="Where could it be?")
colours = {dot.get_label(): dot.get_markerfacecolor() for dot in ax.lines}
for letter, row in zip("ABCDEF", picked, strict=True):
    ax.plot(*data.lonlat[row], "*", ms=17, mfc=colours[f"{letter}1"], mec="#1d2529", zorder=9)
ax.figure.savefig("answers.png", dpi=150)

# %% [markdown]
# An answer is only the best of many places. The scores of all land show what a picture has told
# the model: here the second of the six. Land that looks alike from above scores high wherever it
# lies, and the answer is the best spot of it.

# %%
ax = localizer.similarity_map(
    data.picture(picked[1]), step=1.0, title=f"What looks like the crop at {names[1]}?"
)
ax.plot(*data.lonlat[picked[1]], "*", ms=17, mfc="#d55e00", mec="white", zorder=9)
ax.figure.savefig("scores.png", dpi=150)

# %% [markdown]
# ## The location encoder by itself
#
# `encoder="model"` works in tables, in heads, in galleries and on the command line.

# %%
cities = ge.data.load_cities().query("population > 5_000_000")[["name", "geometry"]]
ge.embed(cities, encoder="model").iloc[:3, :6]

# %% [markdown]
# What has it learned about the world? The first three principal components of its vectors, as
# colours. Deserts, forests and steppes have their own. All is smooth: the card said above
# that places 100 km apart are hardly told apart, for the recipe's `location.sigmas` have no finer
# waves.

# %%
lon, lat = ge.data.land_grid(1.0, extent=land)
learned = ge.encode(lon, lat, encoder="model")
ax = plot.embedding_map(lon, lat, learned, extent=land, title="What pictures from above taught it")
ax.figure.savefig("world.png", dpi=150)

# %% [markdown]
# ## Stop and go on
#
# A run of days is stopped now and then. Ctrl-C and `kill` let it write a checkpoint first; after
# a crash it goes on from the last one. Either way the result is the same *bit for bit* on a CPU,
# since order, views and noise are drawn by the number of the step and not from a generator that
# runs along. Data that stop their own run show it: the thousandth picture sends the signal that
# `kill` sends.


# %%
class Stopping(BlueMarble):
    """Crops of the Blue Marble, one of which ends the run."""

    asked = 0

    def picture(self, row):
        self.asked += 1
        if self.asked == 1000:
            signal.raise_signal(signal.SIGTERM)
        return super().picture(row)


short = load_settings("bluemarble", [*small, "loop.steps=20", "validation.queries=100"])
train(short, "whole", data=data, split=split, progress=False)
try:
    train(short, "stopped", data=Stopping(5000, 32), split=split, progress=False)
except RunStopped as stop:
    print(stop)
train(short, "stopped", data=data, split=split, progress=False, resume=True)

whole, stopped = (model_of_run(folder, "last").tensors() for folder in ("whole", "stopped"))
print("same weights:", all(torch.equal(whole[name], stopped[name]) for name in whole))
same = Path("whole/metrics.csv").read_bytes() == Path("stopped/metrics.csv").read_bytes()
print("same metrics:", same)

# %% [markdown]
# ## With photographs
#
# For pictures of your own nothing changes but the settings: a table that says which picture was
# taken where, and a folder.
#
# ```toml
# # mine.toml
# base = "geoclip-mp16"        # the published recipe: what is not said here comes from there
# name = "mine"
#
# [data]
# kind = "manifest"
# path = "photos.csv"          # IMG_FILE, LAT, LON
# images = "photos"
# block_km = 100.0             # photographs of one street must not be on both sides
# buffer_km = 25.0
#
# [views]
# flip = false                 # the published recipe mirrors pictures, and what is written on them
# ```
#
# ```console
# $ geoembed train mine.toml --dry-run
# $ geoembed train mine.toml -o run
# $ geoembed export run -o model
# ```
#
# What else would change, and why:
#
# - **The tower.** From scratch it learns what 3,000 crops can teach. Photographs ask for a tower
#   that has seen hundreds of millions: the published recipe keeps CLIP's frozen and trains two
#   layers on top. Run it once over the pictures, `geoembed data features`, and train on what it
#   gave.
# - **Scales.** `sigmas = [1, 16, 256]` reach down to a kilometre or so, which photographs can
#   tell and these crops cannot. Noise on the places goes from kilometres to 150 m.
# - **Views.** Here each crop looked the same every time: augmentation slows learning down, and
#   half a minute leaves no time for it. The price is the gap between the curves of the loss.
#   Longer runs need it, and the recipes have it.
# - **The queue** grows with the data: 4,096 places.
# - **Smoothed targets.** The recipe's `smooth_km` says that a place some hundred kilometres away
#   is not quite wrong. For crops that are as wide that helps a lot; photographs want it smaller,
#   or off.
#
# Next: [train](../docs/train.md), [MP-16: data, cost, cluster](../docs/mp16.md), and
# [tutorial 8](08_fine_tune_a_region.py), which starts from the released encoder and not from
# nothing.
