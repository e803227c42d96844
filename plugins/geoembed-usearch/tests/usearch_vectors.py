"""Vectors to search, what brute force finds among them, and builds that measure less."""

from functools import partial

import numpy as np
from geoembed_usearch import calibrating
from geoembed_usearch.recall import mixed_queries, noisy_queries


def unit_vectors(rows, width=32, seed=0):
    vectors = np.random.default_rng(seed).normal(size=(rows, width)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def brute(vectors, queries, k, rows=None):
    """Scores of the best by float64 products and sorting."""
    among = np.arange(len(vectors)) if rows is None else rows
    scores = queries.astype(np.float64) @ vectors[among].astype(np.float64).T
    return -np.sort(-scores, axis=1)[:, :k]


def recall(vectors, queries, scores, k, rows=None):
    return float(np.mean(scores >= brute(vectors, queries, k, rows)[:, -1:] - 1e-5))


def ask_fewer(monkeypatch, count):
    """Ask fewer queries than the 256 of each kind that a build measures with: most of its time."""
    for make in (noisy_queries, mixed_queries):
        monkeypatch.setattr(calibrating, make.__name__, partial(make, count=count))
