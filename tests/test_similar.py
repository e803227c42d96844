"""Similar places: cosines, distances, names, and tables of every kind."""

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
from shapely import Point, box

import geoembed as ge
from geoembed import similar
from geoembed.errors import CoordinateError, OptionError, TableError, UnknownNameError
from geoembed.similar import find_cities, similar_places
from geoembed.streaming import embed_file, read_frames


@pytest.fixture(autouse=True)
def few_cities(monkeypatch):
    """Encode a few hundred cities instead of all, in every test."""
    cities = ge.data.load_cities()
    few = cities[(cities.index < 300) | cities["name"].isin(["London", "Quito", "Misato, Saitama"])]
    monkeypatch.setattr(similar, "load_cities", few.copy)


@pytest.fixture(scope="module")
def towns():
    cities = ge.data.load_cities().iloc[::40][["name", "iso_a2", "geometry"]]
    return cities.set_index("name", drop=False).rename_axis(None)


@pytest.fixture(scope="module")
def truth(towns):
    """Cosine with Nairobi and distance to it, by the definition."""
    (nairobi,) = find_cities("Nairobi").itertuples()
    vectors = ge.encode(lon=towns.geometry.x, lat=towns.geometry.y, encoder="geoclip.v1")
    one = ge.encode(lon=[nairobi.lon], lat=[nairobi.lat])[0]
    cosine = vectors @ one / np.linalg.norm(vectors, axis=1) / np.linalg.norm(one)
    km = ge.geodesy.distance_km(nairobi.lon, nairobi.lat, towns.geometry.x, towns.geometry.y)
    frame = towns.assign(score=cosine, distance_km=np.asarray(km))
    return frame.sort_values("score", ascending=False)


def same(found, expected):
    assert found.index.tolist() == expected.index.tolist()
    np.testing.assert_allclose(found["score"], expected["score"], atol=1e-5)
    np.testing.assert_allclose(found["distance_km"], expected["distance_km"], rtol=1e-9)


def test_the_most_similar_first(towns, truth):
    found = similar_places("Nairobi", among=towns, top=7)
    same(found, truth.head(7))
    assert isinstance(found, gpd.GeoDataFrame)
    assert found.crs == towns.crs
    assert found.columns.tolist() == [*towns.columns, "score", "distance_km"]
    assert found.attrs["place"] == {
        "name": "Nairobi",
        "iso_a2": "KE",
        "population": int(find_cities("Nairobi")["population"].iloc[0]),
        "lon": 36.81667,
        "lat": -1.28333,
    }


def test_near_ones_left_out(towns, truth):
    found = similar_places("Nairobi", among=towns, top=5, min_km=3000)
    same(found, truth[truth["distance_km"] >= 3000].head(5))


def test_fewer_than_asked_for(towns, truth):
    same(similar_places("Nairobi", among=towns, top=10_000), truth)
    assert (
        len(similar_places("Nairobi", among=towns, min_km=19_900))
        == (truth["distance_km"] >= 19_900).sum()
    )


def test_by_coordinates(towns):
    by_name = similar_places("Nairobi", among=towns)
    place = find_cities("Nairobi").iloc[0]
    found = similar_places(lon=place["lon"] - 360, lat=place["lat"], among=towns)
    same(found, by_name)
    assert found.attrs["place"]["name"] is None
    assert found.attrs["place"]["lon"] == pytest.approx(place["lon"])


def test_cities_of_the_world_without_the_place_itself():
    found = similar_places("Nairobi", top=3)
    assert "Nairobi" not in found["name"].tolist()
    assert found["distance_km"].min() > 0.001
    assert (found["score"].diff().dropna() <= 0).all()


def test_vectors_that_are_there_are_used(towns, truth):
    marked = ge.embed(towns, layout="vector")
    # Were rows encoded anew, turning the vectors round would not matter.
    marked["embedding"] = -marked["embedding"]
    found = similar_places("Nairobi", among=marked, top=3)
    np.testing.assert_allclose(found["score"], -truth["score"].iloc[::-1][:3], atol=1e-5)
    columns = ge.embed(towns, layout="columns")
    columns[columns.columns[-512:]] *= -1
    found = similar_places("Nairobi", among=columns, top=3)
    np.testing.assert_allclose(found["score"], -truth["score"].iloc[::-1][:3], atol=1e-5)
    named = ge.embed(towns, layout="vector", prefix="v", layers="scales")
    found = similar_places("Nairobi", among=named, column="v", layers="scales", top=3)
    expected = similar_places("Nairobi", among=towns, layers="scales", top=3)
    same(found, expected)


def test_vectors_of_another_encoder_are_refused(towns):
    other = ge.embed(towns, layout="vector", layers="scales")
    with pytest.raises(
        TableError, match=r"'embedding' does not hold vectors of .*\[1536\] instead"
    ):
        similar_places("Nairobi", among=other)


@pytest.mark.parametrize("batch_rows", [100, 1000])
def test_a_stream_of_frames(towns, truth, tmp_path, batch_rows):
    towns.reset_index(drop=True).to_parquet(tmp_path / "t.parquet")
    embed_file(tmp_path / "t.parquet", tmp_path / "o.parquet")
    for name in ("t.parquet", "o.parquet"):
        frames = read_frames(tmp_path / name, batch_rows=batch_rows)
        found = similar_places("Nairobi", among=frames, top=12)
        assert found["name"].tolist() == truth["name"].head(12).tolist()
        np.testing.assert_allclose(found["score"], truth["score"].head(12), atol=1e-5)


def test_nothing_to_choose_from(towns, tmp_path):
    towns.head(0).to_parquet(tmp_path / "t.parquet")
    for among in ([], read_frames(tmp_path / "t.parquet")):
        found = similar_places("Nairobi", among=among)
        assert isinstance(found, gpd.GeoDataFrame)
        assert found.columns.tolist() == ["geometry", "score", "distance_km"]
        assert (len(found), found.attrs["place"]["name"]) == (0, "Nairobi")


def test_rows_without_a_place_are_left_out():
    frame = gpd.GeoDataFrame(geometry=[None, Point(), Point(10, 10), Point(11, 11)], crs=4326)
    assert sorted(similar_places("Nairobi", among=frame).index) == [2, 3]
    empty = similar_places("Nairobi", among=frame.head(2))
    assert (len(empty), empty.columns.tolist()) == (0, ["geometry", "score", "distance_km"])


def test_plain_frames_and_polygons():
    plain = pd.DataFrame({"lat": [1.0, 50.0], "lon": [10.0, 20.0]})
    assert len(similar_places("Nairobi", among=plain)) == 2
    shapes = gpd.GeoDataFrame(geometry=[box(0, 0, 1, 1), box(20, 20, 24, 24)], crs=4326)
    for choice in ("centroid", "sample"):
        assert len(similar_places("Nairobi", among=shapes, geometry=choice)) == 2
    with pytest.raises(CoordinateError, match="are no single points"):
        similar_places("Nairobi", among=shapes)


def test_equal_scores_keep_their_order():
    frame = gpd.GeoDataFrame({"n": range(6)}, geometry=[Point(5, 5)] * 6, crs=4326)
    assert similar_places("Nairobi", among=frame, top=4)["n"].tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("name", "first"),
    [
        ("paris", ("Paris", "FR")),
        ("SAO  PAULO", ("São Paulo", "BR")),
        ("são paulo, brazil", ("São Paulo", "BR")),
        ("London", ("London", "GB")),
        ("London, CA", ("London", "CA")),
        ("london,can", ("London", "CA")),
        ("London, Canada", ("London", "CA")),
        ("London, UK", ("London", "GB")),
        ("London, U.K.", ("London", "GB")),
        ("New York City, usa", ("New York City", "US")),
        ("New York City, United States", ("New York City", "US")),
        ("Misato, Saitama", ("Misato, Saitama", "JP")),
    ],
)
def test_cities_by_name(name, first):
    found = find_cities(name)
    assert (found["name"].iloc[0], found["iso_a2"].iloc[0]) == first
    assert found["population"].is_monotonic_decreasing


@pytest.mark.parametrize("name", ["Pariss", "Paris, GB", "Paris, Atlantis", ""])
def test_unknown_cities(name):
    with pytest.raises(UnknownNameError, match="There is no city named") as caught:
        find_cities(name)
    assert str(caught.value).endswith(" Any place can be given by lon= and lat= (--lon, --lat).")
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    "place",
    [{}, {"lon": 1.0}, {"place": "Paris", "lon": 1.0, "lat": 2.0}, {"place": "Paris", "lat": 2.0}],
)
def test_which_place_is_meant(place):
    with pytest.raises(OptionError, match="Say which place is meant"):
        similar_places(**place)


def test_what_does_not_fit(towns):
    for top in (0, 1.5, True, None, "5"):
        with pytest.raises(OptionError, match=f"top={top!r} is not a positive number"):
            similar_places("Paris", top=top)
    for name in (None, 5):
        with pytest.raises(OptionError, match=f"name of a city is text, not {name!r}"):
            find_cities(name)
    with pytest.raises(CoordinateError, match="latitude outside"):
        similar_places(lon=0.0, lat=91.0)
    with pytest.raises(TableError, match="already has a column 'score'"):
        similar_places("Paris", among=towns.assign(score=1))
