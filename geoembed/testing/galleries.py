"""The contracts of a gallery and of an index that searches one, as checks."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from geoembed import galleries
from geoembed.encoders import load_encoder
from geoembed.errors import CoordinateError, OptionError
from geoembed.extending.gallery_specs import GallerySpec, IndexSpec
from geoembed.extending.registry import gallery_spec, index_spec, resolve_factory
from geoembed.testing.promises import promise, refused

if TYPE_CHECKING:
    from geoembed.galleries import GalleryIndex, GalleryPlaces

__all__ = ["check_gallery", "check_index"]

# The vectors that an index is tried on.
_ROWS, _WIDTH = 600, 24
# What an approximate index must find of rows that are asked for by their own vectors.
_LEAST_FOUND = 0.95


def check_gallery(name: str) -> None:
    """Check that a registered gallery keeps the contract that everything else relies on.

    Its places are made, and some of them are encoded; no vectors are written into the cache.

    Parameters
    ----------
    name : str
        A registered name.

    Raises
    ------
    AssertionError
        At the first broken promise; the message says which.

    Examples
    --------
    >>> check_gallery("cities")
    """
    spec = gallery_spec(name)
    promise(spec.owner != "", f"the spec of {name!r} has no owner")
    places = _places(spec)
    _sound(places)
    promise(places.name == name, f"the places are called {places.name!r} instead of {name!r}")
    promise(places.digest == _places(spec).digest, "two calls of the factory give other places")
    encoder = load_encoder(spec.encoder, normalize=True)
    vectors = encoder.encode(*places.lonlat[:: max(1, len(places) // 20)].T)
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=1)
    promise(bool(np.allclose(lengths, 1.0, atol=1e-5)), "vectors are not of length 1")


def check_index(name: str, **options: Any) -> None:
    """Check that a registered index keeps the contract that everything else relies on.

    Parameters
    ----------
    name : str
        A registered name.
    **options
        Passed to its factory.

    Raises
    ------
    AssertionError
        At the first broken promise; the message says which.

    Examples
    --------
    >>> check_index("exact")
    """
    spec = index_spec(name)
    promise(spec.owner != "", f"the spec of {name!r} has no owner")
    for dtype in (np.float32, np.float16):
        vectors = _vectors().astype(dtype)
        kept = vectors.copy()
        index = resolve_factory(spec.factory, owner=spec.owner)(vectors, **options)
        kind = type(index).__name__
        promise(
            isinstance(index, galleries.GalleryIndex),
            f"the factory gives {kind}, not a GalleryIndex",
        )
        for check in (_shapes, _scores, _steady, _finds, _refuses, _among):
            check(index, vectors, spec)
        promise(np.array_equal(vectors, kept), "the gallery's vectors are changed")


def _places(spec: GallerySpec) -> "GalleryPlaces":
    places = resolve_factory(spec.factory, owner=spec.owner)(spec)
    got = type(places).__name__
    promise(
        isinstance(places, galleries.GalleryPlaces),
        f"the factory gives {got}, expected GalleryPlaces",
    )
    made: GalleryPlaces = places
    return made


def _sound(places: "GalleryPlaces") -> None:
    lonlat, counts = places.lonlat, places.counts
    promise(lonlat.dtype == np.float64, f"lonlat is {lonlat.dtype}, expected float64")
    shaped = lonlat.ndim == 2 and lonlat.shape[1:] == (2,) and len(lonlat) > 0
    promise(shaped, f"lonlat has the shape {lonlat.shape}, expected (n, 2) with n above 0")
    try:
        again = galleries.GalleryPlaces.of(lonlat, counts, name=places.name)
    except (CoordinateError, OptionError) as error:
        raise AssertionError(str(error)) from error
    promise(len(again) == len(places), "some places are there twice; make them by GalleryPlaces.of")


def _vectors(rows: int = _ROWS, seed: int = 0) -> NDArray[np.float32]:
    vectors = np.random.default_rng(seed).normal(size=(rows, _WIDTH)).astype(np.float32)
    unit: NDArray[np.float32] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit


def _shapes(index: "GalleryIndex", vectors: NDArray[Any], spec: IndexSpec) -> None:
    for queries in (0, 1, 7):
        for k in (1, 5, len(vectors)):
            scores, rows = index.search(_vectors(queries, 1), k)
            for what, got, kind in (("scores", scores, np.float32), ("rows", rows, np.int64)):
                promise(got.shape == (queries, k), f"{what}: {got.shape} for {queries} x {k}")
                promise(got.dtype == kind, f"{what} are {got.dtype}, expected {kind.__name__}")


def _scores(index: "GalleryIndex", vectors: NDArray[Any], spec: IndexSpec) -> None:
    queries = _vectors(7, 1)
    scores, rows = index.search(queries, 20)
    inside = bool(((rows >= 0) & (rows < len(vectors))).all())
    promise(inside, "rows lie outside of the gallery")
    promise(all(len(set(row)) == 20 for row in rows.tolist()), "a row is found twice")
    promise(bool((np.diff(scores, axis=1) <= 0).all()), "scores do not fall")
    expected = np.einsum("md,mkd->mk", queries, vectors[rows].astype(np.float32))
    worst = float(np.abs(scores - expected).max())
    # Half precision of an index may show; a score that is another quantity must not.
    promise(worst <= 5e-3, f"scores are not the dot products: off by {worst:.1e}")


def _steady(index: "GalleryIndex", vectors: NDArray[Any], spec: IndexSpec) -> None:
    queries = _vectors(5, 2)
    kept = queries.copy()
    first, second = index.search(queries, 3), index.search(queries, 3)
    promise(np.array_equal(first[1], second[1]), "two calls find other rows")
    promise(np.array_equal(queries, kept), "the queries are changed")


def _finds(index: "GalleryIndex", vectors: NDArray[Any], spec: IndexSpec) -> None:
    wanted = np.arange(len(vectors))
    queries = vectors.astype(np.float32)
    _, rows = index.search(queries, 1)
    share = float(np.mean(rows[:, 0] == wanted))
    promise(share >= _LEAST_FOUND, f"only {share:.0%} of rows are found by their own vectors")
    if spec.exact:
        products = _vectors(7, 1) @ queries.T
        best = np.sort(products, axis=1)[:, ::-1][:, :10]
        same = np.allclose(index.search(_vectors(7, 1), 10)[0], best, atol=1e-5)
        promise(same, "it is called exact, and misses some of the best rows")


def _among(index: "GalleryIndex", vectors: NDArray[Any], spec: IndexSpec) -> None:
    queries = vectors.astype(np.float32)
    for rows in (np.arange(100, 400), np.arange(0, len(vectors), 7), np.array([5])):
        k = min(3, len(rows))
        try:
            scores, found = index.search(queries[:50], k, rows=rows)
        except TypeError as error:
            raise AssertionError(f"it takes no rows=: {error}") from error
        promise(bool(np.isin(found, rows).all()), "rows are found that were not asked for")
        best = -np.sort(-(queries[:50] @ queries[rows].T), axis=1)[:, :k]
        share = float(np.mean(scores >= best[:, -1:] - 5e-3))
        promise(share >= _LEAST_FOUND, f"among some rows only {share:.0%} of the best are found")
    for wrong in ([], [3, 1], [1, 1], [-1], [len(vectors)], [[1]], [0.5]):
        refused(
            lambda wrong=wrong: index.search(queries[:1], 1, rows=wrong),  # type: ignore[misc]
            OptionError,
            f"rows={wrong}",
        )
    refused(lambda: index.search(queries[:1], 3, rows=[1, 2]), OptionError, "k above the rows")


def _refuses(index: "GalleryIndex", vectors: NDArray[Any], spec: IndexSpec) -> None:
    query = _vectors(1, 3)
    for k in (0, -1, len(vectors) + 1, 1.5, True):
        refused(lambda k=k: index.search(query, k), OptionError, f"k={k}")  # type: ignore[misc]
    refused(lambda: index.search(query[:, :-1], 1), OptionError, "a query that is too short")
    refused(lambda: index.search(query[0], 1), OptionError, "a query without rows")
    refused(lambda: index.search(query * np.nan, 1), OptionError, "a query of NaN")
    refused(lambda: index.search(query * np.inf, 1), OptionError, "a query of infinities")
