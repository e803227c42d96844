"""The checks of galleries and indexes say what is broken."""

import numpy as np
import pytest

from geoembed.extending import GallerySpec, IndexSpec, hookimpl
from geoembed.galleries import GalleryPlaces
from geoembed.galleries.index import ExactIndex
from geoembed.testing import check_gallery, check_index, isolated_plugins


class Plugin:
    @hookimpl
    def register_galleries(self, register):
        for name in PLACES:
            factory = f"broken_galleries:{name}"
            register(GallerySpec(name=name, factory=factory, summary="", encoder="xyz"))

    @hookimpl
    def register_indexes(self, register):
        for name, made in INDEXES.items():
            factory = f"broken_galleries:{made.__name__}"
            register(IndexSpec(name=name, factory=factory, summary="", exact=name == "lazy"))


def raw(lonlat, spec):
    lonlat = np.asarray(lonlat, dtype=np.float64)
    return GalleryPlaces(lonlat, np.ones(len(lonlat), dtype=np.int64), spec.name)


PLACES = {
    "alist": (lambda spec: [[0, 0]], "gives list, expected GalleryPlaces"),
    "twice": (lambda spec: raw([[0, 0], [0, 0]], spec), "some places are there twice"),
    "swapped": (lambda spec: raw([[48.8, 2.3], [40.7, -100.0]], spec), "out of range"),
    "another": (lambda spec: GalleryPlaces.of([[0, 0]], name="other"), "are called 'other'"),
    "chance": (
        lambda spec: GalleryPlaces.of(np.random.default_rng().uniform(size=(3, 2)), name=spec.name),
        "two calls of the factory give other places",
    ),
}


class Squares(ExactIndex):
    def _search(self, queries, k):
        scores, rows = super()._search(queries, k)
        return scores**2 * np.sign(scores), rows


class Rising(ExactIndex):
    def _search(self, queries, k):
        return tuple(part[:, ::-1] for part in super()._search(queries, k))


class Wide(ExactIndex):
    def _search(self, queries, k):
        scores, rows = super()._search(queries, k)
        return scores.astype(np.float64), rows


class Lazy(ExactIndex):
    """Leaves out the best row of a query that is no row of the gallery."""

    def _search(self, queries, k):
        scores, rows = super()._search(queries, min(k + 1, len(self.embeddings)))
        skip = int(k == 10)
        return scores[:, skip : k + skip], rows[:, skip : k + skip]


class Careless(ExactIndex):
    def search(self, queries, k):
        queries = np.nan_to_num(np.atleast_2d(queries).astype(np.float32))
        if not len(queries):
            return super().search(queries, k)
        return self._search(queries, int(max(1, min(k, len(self.embeddings)))))


class Greedy(ExactIndex):
    def _search(self, queries, k):
        found = super()._search(queries, k)
        self.embeddings *= 1
        self.embeddings[0] = 0
        return found


class Blind(ExactIndex):
    def _among(self, queries, k, rows):
        return self._search(queries, k)


class Old(ExactIndex):
    def search(self, queries, k):
        return super().search(queries, k)


INDEXES = {"blind": Blind, "old": Old,
           "squares": Squares, "rising": Rising, "wide": Wide, "lazy": Lazy,
           "careless": Careless, "greedy": Greedy}  # fmt: skip
BROKEN = {
    "squares": "scores are not the dot products",
    "rising": "scores do not fall",
    "wide": "scores are float64, expected float32",
    "blind": "rows are found that were not asked for",
    "old": "it takes no rows=",
    "lazy": "misses some of the best rows",
    "careless": "is accepted, expected OptionError|raises",
    "greedy": "the gallery's vectors are changed|are found by their own vectors",
}


@pytest.fixture(autouse=True)
def plugin(monkeypatch):
    import sys
    from types import ModuleType

    module = ModuleType("broken_galleries")
    module.__dict__.update({name: made for name, (made, _) in PLACES.items()})
    module.__dict__.update({made.__name__: made for made in INDEXES.values()})
    monkeypatch.setitem(sys.modules, "broken_galleries", module)
    with isolated_plugins(Plugin()):
        yield


@pytest.mark.parametrize("name", PLACES)
def test_a_broken_gallery_is_told(name):
    with pytest.raises(AssertionError, match=PLACES[name][1]):
        check_gallery(name)


@pytest.mark.parametrize("name", INDEXES)
def test_a_broken_index_is_told(name):
    with pytest.raises(AssertionError, match=BROKEN[name]):
        check_index(name)


def test_those_that_come_with_geoembed_pass():
    check_gallery("cities")
    check_index("exact", device="cpu")
