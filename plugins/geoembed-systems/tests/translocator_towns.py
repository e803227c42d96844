"""Towns with pictures that tell them, and a TransLocator small enough to learn them in seconds."""

import numpy as np
from geoembed_systems.translocator import TransLocator

# Three regions of three towns, some 300 km apart within each; none on the border of two cells.
REGIONS = ((10.4, 50.7), (-61.0, -31.5), (140.0, 36.0))
TOWNS = np.array([[x + dx, y + dy] for x, y in REGIONS for dx, dy in ((0, 0), (3, 0), (0, 3))])
SCENES = np.array(["indoor", "natural", "urban"], dtype=object)
LIMITS = (160, 90, 60)


def towns(count=360, seed=0):
    """Return the town of each picture, and the place."""
    random = np.random.default_rng(seed)
    town = random.permutation(np.arange(count) % len(TOWNS))
    return town, TOWNS[town] + random.uniform(-0.02, 0.02, (count, 2))


def tell(town, seed=0):
    """Return features of length 12 that tell the town, and others that do not."""
    random = np.random.default_rng(seed)
    noise = random.normal(0.0, 0.25, (len(town), 12))
    return noise + np.eye(12)[town] * 2.0, random.permutation(noise)


def in_one_patch(telling, patches=3, seed=1):
    """Return tokens of which one, anywhere in the picture, tells the town."""
    random = np.random.default_rng(seed)
    tokens = random.normal(0.0, 0.25, (len(telling), patches, telling.shape[1]))
    tokens[np.arange(len(telling)), random.integers(patches, size=len(telling))] += telling
    return tokens


def system(**options):
    usual = {
        "t_max": LIMITS,
        "t_min": 10,
        "width": 32,
        "heads": 2,
        "layers": 2,
        "epochs": 12,
        "batch_size": 32,
        "learning_rate": 3e-3,
        "device": "cpu",
        "progress": False,
    }
    return TransLocator(**usual | options)


def accuracy(fitted, features, lonlat):
    return fitted.score(features, lonlat, threshold_km=25.0)
