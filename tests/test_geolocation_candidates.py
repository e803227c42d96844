"""The best places of a gallery, no two of them close together."""

import numpy as np
import pytest

from geoembed.geodesy import destination, distance_km
from geoembed.geolocation.candidates import distinct_rows, thin


def clusters(rng, centres=6, each=400, spread_km=10.0):
    """Places crowded around some centres, as photographs are; the antimeridian has one too."""
    lon = np.append(rng.uniform(-170, 170, centres - 1), 179.99)
    lat = rng.uniform(-60, 60, centres)
    away = destination(
        np.repeat(lon, each),
        np.repeat(lat, each),
        rng.uniform(0, 360, centres * each),
        rng.uniform(0, spread_km, centres * each),
    )
    return np.column_stack(away)


def brute_force(scores, lonlat, top_k, distinct_km):
    kept = []
    for row in np.argsort(-scores, kind="stable"):
        if all(distance_km(*lonlat[row], *lonlat[other]) >= distinct_km for other in kept):
            kept.append(row)
        if len(kept) == top_k:
            break
    return kept


def searcher(table, calls):
    def search(queries, k):
        calls.append(k)
        order = np.argsort(-(queries @ table.T), axis=1, kind="stable")[:, :k]
        return np.take_along_axis(queries @ table.T, order, axis=1), order

    return search


@pytest.mark.parametrize("distinct_km", [0.0, 5.0, 25.0, 400.0])
def test_candidates_are_those_of_brute_force(distinct_km):
    rng = np.random.default_rng(0)
    lonlat = clusters(rng)
    table = rng.normal(size=(len(lonlat), 8)).astype(np.float32)
    queries = rng.normal(size=(3, 8)).astype(np.float32)
    found = distinct_rows(searcher(table, []), queries, lonlat, 5, distinct_km)
    for query, (scores, rows) in zip(queries, found, strict=True):
        expected = brute_force(table @ query, lonlat, 5, distinct_km)
        assert rows.tolist() == expected
        np.testing.assert_allclose(scores, (table @ query)[expected], rtol=1e-6)
        assert (np.diff(scores) <= 0).all()


def test_a_crowd_of_good_places_makes_the_search_go_deeper_only_for_its_query():
    rng = np.random.default_rng(1)
    lonlat = clusters(rng, centres=3, each=500, spread_km=4.0)
    centre = np.repeat(np.eye(3, dtype=np.float32), 500, axis=0)
    table = centre + 0.01 * rng.normal(size=centre.shape).astype(np.float32)
    calls = []
    queries = np.array([[1.0, 0.5, 0.1]], dtype=np.float32)
    ((_, rows),) = distinct_rows(searcher(table, calls), queries, lonlat, 3, 25.0)
    assert sorted(rows // 500) == [0, 1, 2]
    assert calls == sorted(calls)
    assert len(calls) > 1


def test_fewer_are_returned_where_no_more_lie_far_enough_apart():
    lonlat = np.array([[0.0, 0.0], [0.01, 0.0], [0.02, 0.0]])
    table = np.eye(3, dtype=np.float32)
    queries = np.array([[0.1, 0.3, 0.2]], dtype=np.float32)
    ((scores, rows),) = distinct_rows(searcher(table, []), queries, lonlat, 5, 25.0)
    assert rows.tolist() == [1]
    assert scores.tolist() == pytest.approx([0.3])


def test_distance_is_that_of_the_ellipsoid():
    # 25 km on the ellipsoid along a meridian at the equator are 25.17 km on the sphere.
    lon, lat = destination([0.0, 0.0], [0.0, 0.0], [0.0, 0.0], [24.99, 25.01])
    for position, kept in ((0, [0]), (1, [0, 1])):
        places = np.array([[0.0, 0.0], [lon[position], lat[position]]])
        assert thin(places, 5, 25.0).tolist() == kept


def test_thin_keeps_the_first_of_those_that_are_close():
    places = np.array([[0.0, 0.0], [0.1, 0.0], [1.0, 0.0], [1.1, 0.0]])
    assert thin(places, 5, 25.0).tolist() == [0, 2]
    assert thin(places, 1, 25.0).tolist() == [0]
    assert thin(places, 3, 0.0).tolist() == [0, 1, 2]
    assert thin(places[:0], 3, 25.0).tolist() == []
