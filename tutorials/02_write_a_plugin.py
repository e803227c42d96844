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
# # Write a plugin
#
# We bring an encoder of our own: first as a class in this script, compared with the trained
# one; then as a package that geoembed finds by itself. Nothing in geoembed has to change for
# it.

# %%
import os
import subprocess
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.linear_model import RidgeClassifier
from sklearn.model_selection import GroupKFold, KFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import geoembed as ge
from geoembed.extending import LocationEncoderSpec, hookimpl
from geoembed.testing import check_location_encoder, fake_distribution, isolated_plugins

# %% [markdown]
# ## The encoder
#
# An old idea that has learned nothing: scatter anchors evenly over the globe and describe a
# place by how near each of them is. 256 anchors lie about 1,400 km apart; a Gaussian of the
# great-circle distance turns each into one value. It is smooth, and it is continuous where
# flat maps are torn.
#
# One method is all there is to write. The coordinates that it gets are checked already:
# float64, degrees, WGS 84, (lon, lat). Blocks, equal places, output types, normalisation,
# pickling and the resolution profile come from the base class.


# %%
TURN = 222.49223594996217  # 360 degrees over the golden ratio: no two anchors line up


class AnchorEncoder(ge.LocationEncoder):
    """Nearness of a place to each of 256 anchors: exp(-(distance / 1500 km)^2)."""

    def _encode_block(self, lonlat: np.ndarray) -> np.ndarray:
        places = ge.geodesy.to_unit_vectors(lonlat)
        anchors = ge.geodesy.to_unit_vectors(self.anchors())
        km = ge.geodesy.EARTH_RADIUS_KM * np.arccos(np.clip(places @ anchors.T, -1.0, 1.0))
        return np.exp(-((km / 1500.0) ** 2))

    def anchors(self) -> np.ndarray:
        """Return evenly spread (lon, lat): a Fibonacci lattice on the sphere."""
        number = np.arange(self.spec.dimension)
        lat = np.degrees(np.arcsin(1.0 - (2.0 * number + 1.0) / self.spec.dimension))
        return np.column_stack([ge.geodesy.wrap_longitude(number * TURN), lat])


# %% [markdown]
# ## The spec
#
# A plugin registers a *spec*: a frozen description with the name, the dimension and where the
# code is, as text. Listings read only that, so a machine with fifty plugins still starts at
# once. The hook may be a method, as here, or a function of a module.

# %%
SPEC = LocationEncoderSpec(
    name="anchors.n256",
    factory=f"{__name__}:AnchorEncoder",
    dimension=256,
    summary="Nearness to 256 anchors on a Fibonacci lattice: a baseline that has learned nothing",
    licence="MIT",
)


class AnchorPlugin:
    """What geoembed asks for encoders."""

    @hookimpl
    def register_location_encoders(self, register):
        """Add the encoder."""
        register(SPEC)


# %% [markdown]
# `isolated_plugins` puts a host with the built-in plugins and ours in place of the installed
# ones, while the block lasts: for tests, and for trying things. `check_location_encoder` then
# goes through the whole contract: shapes, types, order, turns of longitude, bad input,
# options, pickling.

# %%
with isolated_plugins(AnchorPlugin()):
    print(ge.list_encoders())
    check_location_encoder("anchors.n256")
    vector = ge.encode(lon=[-74.006], lat=[40.7128], encoder="anchors.n256")
    anchors = ge.load_encoder("anchors.n256")

vector.shape, anchors

# %% [markdown]
# An encoder that is loaded keeps working after the block, and goes wherever a name goes.
#
# ## Look at it
#
# Similarity to La Paz, with our encoder and with the trained one. Ours knows what is near;
# the trained one also what looks alike: the whole Andes, and the Himalaya on the other side
# of the Earth.

# %%
lon, lat = ge.data.land_grid(1.5)
fig, axes = plt.subplots(1, 2, figsize=(13, 3.6), layout="constrained")
for ax, encoder in zip(axes, (anchors, "geoclip.v1"), strict=True):
    land = ge.encode(lon, lat, encoder=encoder)
    title = encoder if isinstance(encoder, str) else encoder.name
    ge.plot.similarity_map(lon, lat, land, to=(-68.15, -16.5), name="La Paz", ax=ax, title=title)
fig.savefig("like_la_paz.png", dpi=150)

# %% [markdown]
# How fast does similarity fall? And is the same place the same on both sides of the
# antimeridian?

# %%
geoclip = ge.load_encoder("geoclip.v1")
fig, (left, right) = plt.subplots(1, 2, figsize=(10, 3.4), layout="constrained")
parallels = np.linspace(-85, 85, 69)
for encoder in (anchors, geoclip):
    seen = encoder.resolution_profile(-68.15, -16.5)
    left.plot(seen["distance_km"], seen["mean"], marker="o", markersize=3, label=encoder.name)
    east, west = (encoder.encode(np.full(len(parallels), e), parallels) for e in (180.0, -180.0))
    cosine = (east * west).sum(1) / np.linalg.norm(east, axis=1) / np.linalg.norm(west, axis=1)
    right.plot(parallels, cosine, label=encoder.name)
left.set(xscale="log", xlabel="distance from La Paz, km", ylabel="mean cosine similarity")
left.xaxis.set_major_formatter("{x:g}")
right.set(xlabel="latitude", ylabel="cosine", title="longitude +180 against -180", ylim=(0, 1.05))
for ax in (left, right):
    ax.grid(alpha=0.3)
left.legend()
fig.savefig("profiles.png", dpi=150)

# %% [markdown]
# The trained encoder is torn at the antimeridian; `seam="blend"` mends it, see the
# [gotchas](../docs/gotchas.md).
#
# ## Compare them on a task
#
# Which country is a city in? The same linear model on both, on a random split and with
# 5-degree blocks held out whole.

# %%
cities = ge.data.load_cities().query("population > 100_000")
often = cities["iso_a2"].value_counts().loc[lambda count: count >= 60].index
cities = cities[cities["iso_a2"].isin(often)].reset_index(drop=True)
blocks = np.floor(ge.read_places(cities).lonlat / 5) @ [1000, 1]
splits = {
    "random split": list(KFold(5, shuffle=True, random_state=0).split(cities)),
    "held-out blocks": list(GroupKFold(5).split(cities, groups=blocks)),
}
scores = {}
for encoder in (anchors, geoclip):
    features = ge.LocationFeaturizer(encoder).fit_transform(cities)
    probe = make_pipeline(StandardScaler(), RidgeClassifier(10))
    scores[encoder.name] = {
        split: cross_val_score(probe, features, cities["iso_a2"], cv=folds).mean()
        for split, folds in splits.items()
    }
print(f"{len(cities):,} cities in {len(often)} countries")
pd.DataFrame(scores).T.round(3)

# %% [markdown]
# A baseline that has learned nothing is worth having: what a trained encoder is better by is
# what it has learned.
#
# ## Make it a package
#
# A plugin that others can install is a package with two things more: a module that holds the
# hook and imports nothing heavy (every `geoembed --help` imports it), and an *entry point*
# that names this module.

# %%
HOOKS = '''
from geoembed.extending import LocationEncoderSpec, hookimpl


@hookimpl
def register_location_encoders(register):
    """Tell geoembed what the encoder is called and where its code is."""
    register(
        LocationEncoderSpec(
            name="anchors.n256",
            factory="geoembed_anchors_code:AnchorEncoder",
            dimension=256,
            summary="Nearness to 256 anchors: a baseline that has learned nothing",
            licence="MIT",
        )
    )
'''
CODE = '''
import numpy as np

from geoembed import LocationEncoder
from geoembed.geodesy import EARTH_RADIUS_KM, to_unit_vectors, wrap_longitude


class AnchorEncoder(LocationEncoder):
    """Nearness of a place to each of 256 anchors."""

    def _encode_block(self, lonlat):
        number = np.arange(self.spec.dimension)
        lat = np.degrees(np.arcsin(1 - (2 * number + 1) / self.spec.dimension))
        lon = wrap_longitude(number * 222.49223594996217)
        anchors = to_unit_vectors(np.column_stack([lon, lat]))
        cosine = np.clip(to_unit_vectors(lonlat) @ anchors.T, -1, 1)
        return np.exp(-((EARTH_RADIUS_KM * np.arccos(cosine) / 1500) ** 2))
'''
ENTRY_POINTS = """
[geoembed]
anchors = geoembed_anchors
"""

# %% [markdown]
# In the package's `pyproject.toml` the entry point is one table:
#
# ```toml
# [project]
# name = "geoembed-anchors"
# version = "0.1"
# dependencies = ["geoembed"]
#
# [project.entry-points.geoembed]
# anchors = "geoembed_anchors"
# ```
#
# `pip install .` would do the rest. So that this script leaves your environment as it is,
# `fake_distribution` lays out what pip would, in a folder of its own:

# %%
site = Path("site").absolute()
fake_distribution(
    site,
    "geoembed-anchors",
    {"geoembed_anchors": HOOKS, "geoembed_anchors_code": CODE},
    version="0.1",
    entry_points=ENTRY_POINTS,
)


def geoembed(*arguments):
    """Run the command line as a user would who has the plugin installed."""
    command = [sys.executable, "-m", "geoembed", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(site)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    print("$ geoembed", *arguments)
    print(done.stdout + done.stderr)


geoembed("encoders")
geoembed("plugins")

# %% [markdown]
# Now `encoder="anchors.n256"` works in Python and `--encoder anchors.n256` in the shell, for
# everybody who installs the package.
#
# ## When it breaks
#
# A plugin works, or it is left out with one warning; it never takes the host down. Here
# somebody's release forgot a package that it needs:

# %%
fake_distribution(site, "geoembed-broken", {"geoembed_broken": "import a_package_nobody_has"})
geoembed("plugins")

# %% [markdown]
# ## Where to go from here
#
# - `plugins/geoembed-template` in the source tree is the smallest real package, with tests:
#   copy it.
# - [Write a plugin](../docs/plugins.md) has every hook with its signature, commands, and what
#   happens on errors.
# - Trained weights of your own are declared in the spec, with source, size, SHA-256, licence
#   and paper: users can then see and fetch them with `geoembed weights`, see
#   [weights](../docs/weights.md).
