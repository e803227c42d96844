"""What modules of tests share: a cache, this plugin alone, a lattice of places."""

import sys
from pathlib import Path

import geoembed_usearch
import numpy as np
import pytest

from geoembed.testing import isolated_plugins

# Tests are imported by their files (importmode=importlib), which finds no module beside them.
sys.path.insert(0, str(Path(__file__).parent))

from usearch_vectors import ask_fewer


@pytest.fixture(autouse=True)
def only_this_plugin(request, tmp_path_factory, monkeypatch):
    monkeypatch.setenv("GEOEMBED_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
    ask_fewer(monkeypatch, 128 if "grid" in request.fixturenames else 40)
    with isolated_plugins(geoembed_usearch):
        yield


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GEOEMBED_CACHE", str(tmp_path / "cache"))
    (tmp_path / "cache").mkdir()
    return tmp_path / "cache"


@pytest.fixture(scope="session")
def grid():
    """A dense lattice on the sphere in random Fourier features: many rows as good as the best."""
    random = np.random.default_rng(0)
    step = np.arange(6000)
    z = 1 - 2 * (step + 0.5) / len(step)
    around = step * np.pi * (3 - np.sqrt(5))
    xyz = np.stack([np.sqrt(1 - z**2) * np.cos(around), np.sqrt(1 - z**2) * np.sin(around), z], 1)
    phase = xyz @ random.normal(scale=4.0, size=(3, 16))
    vectors = np.concatenate([np.cos(phase), np.sin(phase)], axis=1).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
