"""Vectors computed once: equal to the encoder's own, on every path, from memory and from a file."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import geoembed as ge
from geoembed.coordinates import read_places
from geoembed.encoders.base import LocationEncoder
from geoembed.errors import OptionError
from geoembed.evaluation.cached import CachedEncoder, write_atomically
from geoembed.extending.specs import LocationEncoderSpec
from geoembed.featurizer import LocationFeaturizer, encode_places


class Counting(LocationEncoder):
    """Sine and cosine of the latitude; counts the places that it is asked for."""

    computed = 0

    def _encode_block(self, lonlat: NDArray[np.float64]) -> NDArray[np.float64]:
        self.computed += len(lonlat)
        phi = np.radians(lonlat[:, 1])
        return np.stack([np.sin(phi), np.cos(phi)], axis=1)


def counting(**options: Any) -> Counting:
    spec = LocationEncoderSpec(
        name="counting", factory="tests:Counting", dimension=2, summary="Counts its places"
    )
    return Counting(spec, **options)


@pytest.fixture(scope="module")
def table() -> Any:
    cities = ge.data.load_cities().head(300)
    return cities.iloc[np.r_[0:300, 0:50]]


@pytest.mark.parametrize("folder", [False, True], ids=["memory", "file"])
@pytest.mark.parametrize("options", [{}, {"normalize": True, "dtype": "float64"}])
def test_vectors_are_bit_by_bit_those_of_the_encoder(
    table: Any, tmp_path: Path, folder: bool, options: dict[str, Any]
) -> None:
    encoder = ge.load_encoder("geoclip.v1", layers="scales", **options)
    cached = CachedEncoder(encoder, table, folder=tmp_path if folder else None)
    places = read_places(table)
    np.testing.assert_array_equal(encode_places(cached, places), encode_places(encoder, places))
    assert cached.known(places.lonlat).all()
    assert (cached.path is not None) == folder
    # Some rows, in another order, have the very same vectors.
    some = np.random.default_rng(0).permutation(len(table))[:40]
    whole = encode_places(encoder, places)
    np.testing.assert_array_equal(
        LocationFeaturizer(cached).transform(table.iloc[some]), whole[some]
    )


def test_places_are_computed_once_and_others_when_asked_for() -> None:
    encoder = counting()
    cached = CachedEncoder(encoder, [[0.0, 10.0], [5.0, 20.0], [-0.0, 10.0], [5.0, 20.0]])
    assert encoder.computed == 2
    cached.encode([0.0, 5.0, 360.0], [10.0, 20.0, 10.0])
    assert encoder.computed == 2
    vectors = cached.encode([0.0, 7.0, 5.0], [10.0, 30.0, 20.0])
    assert encoder.computed == 3
    np.testing.assert_array_equal(vectors, counting().encode([0.0, 7.0, 5.0], [10.0, 30.0, 20.0]))
    np.testing.assert_array_equal(cached.known(np.array([[0.0, 10.0], [7.0, 30.0]])), [True, False])


def test_both_sides_of_the_antimeridian_keep_their_own_vector() -> None:
    encoder = ge.load_encoder("lonlat")
    cached = CachedEncoder(encoder, [[180.0, 5.0], [-180.0, 5.0]])
    np.testing.assert_array_equal(cached.encode([-180.0, 180.0], [5.0, 5.0])[:, 0], [-180, 180])


def test_invalid_places_are_left_out_and_no_places_are_none() -> None:
    cached = CachedEncoder(counting(), [[np.nan, 1.0], [2.0, 1.0]])
    np.testing.assert_array_equal(cached.known(np.array([[2.0, 1.0]])), [True])
    assert np.isnan(cached.encode([np.nan], [1.0], on_invalid="nan")).all()
    empty = CachedEncoder(counting(), np.empty((0, 2)))
    assert empty.encode([0.0], [90.0])[0, 0] == 1.0


def test_a_file_is_found_again_by_the_same_request_only(table: Any, tmp_path: Path) -> None:
    first = counting()
    path = CachedEncoder(first, table, folder=tmp_path).path
    again = counting()
    assert CachedEncoder(again, table, folder=tmp_path).path == path
    assert again.computed == 0
    assert CachedEncoder(counting(), table.head(10), folder=tmp_path).path != path
    assert CachedEncoder(counting(normalize=True), table, folder=tmp_path).path != path
    assert not list(tmp_path.glob("*.part"))


@pytest.mark.parametrize("damage", [b"", b"\x93NUMPY", None])
def test_a_damaged_file_is_made_anew(table: Any, tmp_path: Path, damage: bytes | None) -> None:
    path = CachedEncoder(counting(), table, folder=tmp_path).path
    assert path is not None
    if damage is None:
        np.save(path, np.zeros((3, 2)))
    else:
        path.write_bytes(damage)
    cached = CachedEncoder(counting(), table, folder=tmp_path)
    expected = LocationFeaturizer(counting()).transform(table)
    np.testing.assert_array_equal(LocationFeaturizer(cached).transform(table), expected)


def test_a_failed_write_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "kept.txt"
    path.write_text("before", encoding="utf-8")

    def fail(draft: Path) -> None:
        draft.write_text("half", encoding="utf-8")
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        write_atomically(path, fail)
    assert [entry.name for entry in tmp_path.iterdir()] == ["kept.txt"]
    assert path.read_text(encoding="utf-8") == "before"


def test_a_pickle_is_the_recipe_of_the_wrapped_encoder(table: Any) -> None:
    encoder = ge.load_encoder("xyz", normalize=True)
    again = pickle.loads(pickle.dumps(CachedEncoder(encoder, table)))
    assert not isinstance(again, CachedEncoder)
    assert (again.name, again.options()) == (encoder.name, encoder.options())


def test_a_head_that_learned_from_it_is_saved_with_the_wrapped_encoder(
    table: Any, tmp_path: Any
) -> None:
    cached = CachedEncoder(ge.load_encoder("xyz"), table)
    head = ge.LocationRegressor(cached).fit(table, ge.read_places(table).lonlat[:, 1])
    again = ge.load_head(head.save(tmp_path / "head"))
    assert again.featurizer_.encoder == "xyz"
    np.testing.assert_array_equal(again.predict(table), head.predict(table))


def test_says_what_it_wraps(table: Any) -> None:
    encoder = ge.load_encoder("geoclip.v1", layers="hidden.2", seam="blend")
    cached = CachedEncoder(encoder, table.head(3))
    assert cached.options() == encoder.options()
    assert cached.parts == encoder.parts
    assert cached.weights_sha256 == encoder.weights_sha256
    assert cached.feature_names() == encoder.feature_names()
    assert cached.blocks_of() == encoder.blocks_of()
    with pytest.raises(OptionError, match="encoder='xyz' is no LocationEncoder"):
        CachedEncoder("xyz", table)  # type: ignore[arg-type]
