"""GeoLocalizer: from photographs, texts and vectors to places."""

import pickle
from dataclasses import replace

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely
from PIL import Image
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

import geoembed as ge
from geoembed.errors import (
    CoordinateError,
    MissingWeightsError,
    OptionError,
    TableError,
    UnknownNameError,
)
from geoembed.geodesy import distance_km
from geoembed.geolocation import UnreadablePictureWarning
from geoembed.geolocation.calibration import Calibration
from geoembed.images import load_image_encoder
from geoembed.testing import tiny_clip_spec, write_tiny_clip

COLUMNS = [
    *("query", "rank", "score", "lon", "lat", "place", "place_km"),
    *("radius_50_km", "radius_90_km", "calibrated", "no_signal", "error", "geometry"),
]


@pytest.fixture(scope="module")
def gallery(tmp_path_factory):
    """About 3,700 places on land."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GEOEMBED_CACHE", str(tmp_path_factory.mktemp("galleries")))
        return ge.Gallery.grid(200, device="cpu")


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return write_tiny_clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def localizer(gallery, clip):
    """One whose tower is small and knows nothing: places are arbitrary, and always the same."""
    made = ge.GeoLocalizer(gallery, image_encoder=tiny_clip_spec(), weights=clip, device="cpu")
    return made.fit()


@pytest.fixture
def photos(tmp_path):
    rng = np.random.default_rng(0)
    paths = []
    for number in range(3):
        path = tmp_path / f"photo{number}.png"
        noise = rng.integers(0, 255, (6, 8, 3), dtype=np.uint8)
        Image.fromarray(noise).resize((320, 240), Image.Resampling.BICUBIC).save(path)
        paths.append(path)
    return paths


def near(gallery, rows, seed=0, noise=0.02):
    """Vectors near those of places."""
    vectors = np.array(gallery.embeddings[rows], dtype=np.float64)
    return vectors + np.random.default_rng(seed).normal(0, noise, vectors.shape)


# -- what is found --------------------------------------------------------------------------------


def test_vectors_of_places_are_found(localizer, gallery):
    rows = [5, 500, 3000]
    found = localizer.predict_vectors(near(gallery, rows))
    np.testing.assert_array_equal(found, gallery.lonlat[rows])


def test_answers_are_a_table_of_ranked_places(localizer, gallery):
    found = localizer.localize(vectors=near(gallery, [5, 500]), top_k=4, distinct_km=0)
    assert isinstance(found, gpd.GeoDataFrame)
    assert list(found.columns) == COLUMNS
    assert found.crs == "EPSG:4326"
    assert found["query"].tolist() == ["0"] * 4 + ["1"] * 4
    assert found["rank"].tolist() == [1, 2, 3, 4] * 2
    np.testing.assert_array_equal(found.geometry.x, found["lon"])
    for number, row in enumerate([5, 500]):
        vector = near(gallery, [5, 500])[number]
        scores = gallery.embeddings @ (vector / np.linalg.norm(vector)).astype(np.float32)
        best = np.argsort(-scores)[:4]
        mine = found[found["query"] == str(number)]
        assert best[0] == row
        np.testing.assert_array_equal(mine[["lon", "lat"]], gallery.lonlat[best])
        np.testing.assert_allclose(mine["score"], scores[best], rtol=1e-6)
    assert (found["place"].str.len() > 3).all()
    assert (found["error"] == "").all()


def test_candidates_keep_their_distance(localizer, gallery):
    found = localizer.localize(vectors=near(gallery, [7, 900]), top_k=6, distinct_km=700)
    for _, mine in found.groupby("query"):
        assert len(mine) == 6
        for _, one in mine.iterrows():
            others = mine[mine["rank"] != one["rank"]]
            away = distance_km(one["lon"], one["lat"], others["lon"], others["lat"])
            assert away.min() >= 700


def test_answers_never_leave_within(localizer, gallery):
    chukotka = shapely.box(170, 62, 195, 72)  # across the antimeridian
    peru = ge.data.load_countries().query("name == 'Peru'")
    for within, west, east in ((chukotka, 170, 195), (peru.to_crs("EPSG:5387"), -82, -68)):
        for refine in (False, True):
            found = localizer.localize(
                vectors=near(gallery, [10]), within=within, refine=refine, distinct_km=10
            )
            assert len(found) >= 1
            lon = found["lon"] % 360 if west > 0 else found["lon"]
            assert lon.between(west, east).all()
    with pytest.raises(CoordinateError, match="None of the 3,.* places .* lies in within="):
        localizer.localize(vectors=near(gallery, [10]), within=shapely.box(-30, -1, -29, 1))


def test_fewer_answers_where_no_more_are_far_enough_apart(localizer, gallery):
    within = shapely.box(0, 44, 10, 50)
    found = localizer.localize(vectors=near(gallery, [10]), within=within, distinct_km=800, top_k=9)
    assert 1 <= len(found) < 9


def test_refining_finds_a_place_between_those_of_the_gallery(localizer):
    truth = np.array([[-72.545, -13.163], [147.33, -42.88]])
    query = ge.encode(*truth.T, normalize=True, device="cpu")
    plain = localizer.localize(vectors=query, top_k=1)
    # A gallery of 200 km is too coarse to start from: the search is given the neighbourhood.
    starts = ge.Gallery.from_lonlat(truth + 0.2, name="near", device="cpu")
    fine = clone(localizer).set_params(gallery=starts).fit()
    refined = fine.localize(vectors=query, top_k=1, refine=True)
    away = distance_km(refined["lon"], refined["lat"], *truth.T)
    assert away.max() < 0.1
    assert (refined["score"].to_numpy() > plain["score"].to_numpy()).all()


def test_more_text_means_more_rows(localizer):
    found = localizer.localize(text=["a fjord in winter", "a desert road"], top_k=2)
    assert found["query"].tolist() == ["a fjord in winter"] * 2 + ["a desert road"] * 2
    one = localizer.localize(text="a desert road", top_k=2)
    pd.testing.assert_series_equal(
        one["score"], found["score"].iloc[2:].reset_index(drop=True), rtol=1e-5
    )


# -- photographs ----------------------------------------------------------------------------------


def test_photographs_are_encoded_and_found(localizer, gallery, photos):
    encoded = localizer.encode(photos)
    found = localizer.localize(photos, top_k=1)
    assert found["query"].tolist() == [str(path) for path in photos]
    expected = gallery.lonlat[np.argmax(encoded.vectors @ gallery.embeddings.T, axis=1)]
    np.testing.assert_array_equal(found[["lon", "lat"]], expected)
    np.testing.assert_array_equal(localizer.predict(photos), expected)
    pd.testing.assert_frame_equal(localizer.localize(encoded, top_k=1), found)


def test_one_bad_picture_becomes_a_row_with_its_error(localizer, photos, tmp_path):
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(photos[0].read_bytes()[:500])
    found = localizer.localize([photos[0], broken, tmp_path / "none.jpg", photos[1]], top_k=2)
    assert found["query"].nunique() == 4
    bad = found[found["error"] != ""]
    assert bad["query"].tolist() == [str(broken), str(tmp_path / "none.jpg")]
    assert bad["rank"].isna().all()
    assert bad[["score", "lon", "lat", "radius_50_km", "place_km"]].isna().all(axis=None)
    assert bad["place"].isna().all()
    assert bad.geometry.isna().all()
    assert found[found["error"] == ""].groupby("query").size().tolist() == [2, 2]
    with pytest.warns(UnreadablePictureWarning, match="1 of 2 queries have no vector: .*broken"):
        predicted = localizer.predict([photos[0], broken])
    assert np.isnan(predicted).all(axis=1).tolist() == [False, True]


def test_only_bad_pictures_are_only_errors(localizer, tmp_path):
    (tmp_path / "a.jpg").write_text("no picture")
    found = localizer.localize([tmp_path / "a.jpg"])
    assert len(found) == 1
    assert found["error"].iloc[0] != ""


def test_ten_crop_is_the_mean_of_ten_scores(localizer, gallery, photos):
    from geoembed.images.sources import read_pictures
    from geoembed.images.views import make_views

    (picture,) = read_pictures(photos[0])
    encoder = localizer.image_encoder_
    views = make_views(picture.image, encoder.preprocessing, "ten-crop")
    features = encoder.encode_pixels(views).astype(np.float64)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    expected = (features @ gallery.embeddings.T.astype(np.float64)).mean(axis=0)
    found = localizer.localize(photos[0], tta="ten-crop", top_k=1)
    assert found["score"].iloc[0] == pytest.approx(expected.max(), rel=1e-5)
    np.testing.assert_array_equal(
        found[["lon", "lat"]].to_numpy()[0], gallery.lonlat[expected.argmax()]
    )


def test_photographs_of_one_place_are_one_query(localizer, gallery, photos):
    vectors = localizer.encode(photos).vectors
    found = localizer.localize(photos, groups=["a", "b", "a"], top_k=1)
    assert found["query"].tolist() == ["a", "b"]
    scores = (vectors[[0, 2]] @ gallery.embeddings.T).mean(axis=0)
    assert found["score"].iloc[0] == pytest.approx(scores.max(), rel=1e-5)


@pytest.mark.shared
def test_every_photograph_of_the_world_goes_through(localizer, shared_data):
    folder = shared_data / "photos_world"
    index = pd.read_csv(folder / "index.csv").drop_duplicates("file")  # one file stands twice
    found = localizer.localize(folder / "images", top_k=1, radii=False)
    assert len(found) == len(index) == 108
    assert (found["error"] == "").all()
    odd = localizer.localize(folder / "exif_originals", top_k=1, radii=False)
    assert len(odd) == 8
    assert (odd["error"] == "").all()


# -- how sure -------------------------------------------------------------------------------------


def test_radii_belong_to_first_answers_and_say_whether_they_are_calibrated(localizer, gallery):
    found = localizer.localize(vectors=near(gallery, [5, 500]), top_k=3, distinct_km=0)
    first = found["rank"] == 1
    assert (found.loc[first, "radius_50_km"] <= found.loc[first, "radius_90_km"]).all()
    assert found.loc[~first, ["radius_50_km", "radius_90_km"]].isna().all(axis=None)
    assert not found["calibrated"].any()
    assert found["no_signal"].isna().all()
    plain = localizer.localize(vectors=near(gallery, [5, 500]), radii=False)
    assert plain["radius_50_km"].isna().all()


def test_calibrated_radii_hold_as_many_as_they_say(gallery, clip, tmp_path):
    rng = np.random.default_rng(1)
    rows = rng.integers(0, len(gallery), 600)
    queries = near(gallery, rows, seed=2, noise=0.35)
    truth = gallery.lonlat[rows]
    localizer = ge.GeoLocalizer(
        gallery, image_encoder=tiny_clip_spec(), weights=clip, device="cpu"
    ).fit()
    learned = localizer.calibrate(vectors=queries[:400], truth=truth[:400])
    assert learned.calibrated
    found = localizer.localize(vectors=queries[400:], top_k=1)
    assert found["calibrated"].all()
    away = distance_km(found["lon"], found["lat"], *truth[400:].T)
    for share in (50, 90):
        held = np.mean(away <= found[f"radius_{share}_km"])
        # 200 held out, 267 learned from: both vary by some percent. That the guarantee holds is
        # shown on more pairs in test_geolocation_radius.py.
        assert held == pytest.approx(share / 100, abs=0.12)
    learned.save(tmp_path / "radius.json")
    again = clone(localizer).set_params(calibration=tmp_path / "radius.json").fit()
    pd.testing.assert_frame_equal(again.localize(vectors=queries[400:], top_k=1), found)
    with pytest.raises(OptionError, match="calibration=3 is no Calibration and no file"):
        clone(localizer).set_params(calibration=3).fit().localize(vectors=queries[:1])
    assert isinstance(localizer.calibration_, Calibration)
    # Refined answers are others than those that were learned from; so are another gallery's.
    assert not localizer.localize(vectors=queries[:1], top_k=1, refine=True)["calibrated"].any()
    other = ge.GeoLocalizer(
        ge.Gallery.from_lonlat(gallery.lonlat[:50], device="cpu"),
        calibration=tmp_path / "radius.json",
        device="cpu",
    ).fit()
    with pytest.raises(OptionError, match="learned with another gallery than 'places'"):
        other.localize(vectors=queries[:1])


def test_noise_carries_no_signal_and_places_do(gallery, clip):
    rng = np.random.default_rng(1)
    rows = rng.integers(0, len(gallery), 300)
    localizer = ge.GeoLocalizer(
        gallery, image_encoder=tiny_clip_spec(), weights=clip, device="cpu"
    ).fit()
    localizer.calibrate(vectors=near(gallery, rows, seed=2, noise=0.15), truth=gallery.lonlat[rows])
    places = localizer.localize(vectors=near(gallery, [3, 30, 300], seed=5), top_k=1)
    assert not places["no_signal"].any()
    mean = gallery.embeddings.mean(axis=0)
    assert localizer.localize(vectors=mean, top_k=1)["no_signal"].all()


def test_regions_hold_the_shares(localizer, gallery):
    found = localizer.regions(vectors=near(gallery, [5, 500]))
    assert found["query"].tolist() == ["0", "0", "1", "1"]
    assert found["share"].tolist() == [0.5, 0.9] * 2
    assert (found["mass"] >= found["share"] - 1e-9).all()
    assert (found["area_km2"] > 0).all()
    assert found.geometry.is_valid.all()
    assert not found["calibrated"].any()
    place = shapely.Point(gallery.lonlat[5])
    assert found.geometry.iloc[1].intersects(place)
    with (
        pytest.warns(UnreadablePictureWarning, match="1 of 1 queries"),
        pytest.raises(OptionError, match="No query has a vector"),
    ):
        localizer.regions(vectors=np.full(512, np.nan))


# -- scores of other places -----------------------------------------------------------------------


def test_a_users_own_places_are_scored(localizer):
    towns = ge.data.load_cities().head(4).set_index("name")
    vectors = ge.encode(towns["lon"], towns["lat"], normalize=True, device="cpu")
    scored = localizer.similarity(vectors=vectors[2], gdf=towns)
    assert scored["score"].idxmax() == towns.index[2]
    assert scored["score"].max() == pytest.approx(1.0, abs=1e-5)
    assert "score" not in towns
    several = localizer.similarity(text=["a beach", "a temple"], gdf=towns.to_crs("EPSG:3857"))
    assert several.crs == "EPSG:3857"
    assert list(several.columns[-2:]) == ["score_a beach", "score_a temple"]
    with pytest.raises(TableError, match="has a column 'score' already"):
        localizer.similarity(vectors=vectors[0], gdf=scored)
    with pytest.raises(TableError, match="gdf= is list, not a GeoDataFrame"):
        localizer.similarity(vectors=vectors[0], gdf=[1])


def test_a_text_on_the_map(localizer):
    axes = localizer.similarity_map(text="a desert road", step=10)
    assert axes.get_title(loc="left") == "a desert road"
    assert axes.images or axes.collections
    with pytest.raises(OptionError, match="A map shows one query, and 2 were given"):
        localizer.similarity_map(vectors=np.ones((2, 512)))
    with pytest.raises(OptionError, match="0 cannot be mapped: the vector is zero"):
        localizer.similarity_map(vectors=np.zeros(512))
    with pytest.raises(OptionError, match=r"step=0\.0001 makes 5,184,000,000,000 cells, more than"):
        localizer.similarity_map(vectors=np.ones(512), step=0.0001)


def test_score_is_the_share_of_near_answers(localizer, gallery, photos, tmp_path):
    answers = localizer.predict(photos)
    truth = answers + np.array([[0.0, 0.0], [0.2, 0.0], [3.0, 3.0]])
    assert localizer.score(photos, truth, threshold_km=25) == pytest.approx(2 / 3)
    with pytest.warns(UnreadablePictureWarning, match="1 of 4 queries have no vector"):
        assert localizer.score([*photos, tmp_path / "none.jpg"], [*truth, [0, 0]]) == 0.5
    with pytest.raises(CoordinateError, match="truth has 1 places and there are 3 pictures"):
        localizer.score(photos, truth[:1])


# -- an estimator ---------------------------------------------------------------------------------


def test_it_is_an_estimator(localizer, gallery):
    assert clone(localizer).get_params()["gallery"] is not None
    with pytest.raises(NotFittedError, match="This GeoLocalizer instance is not fitted yet"):
        ge.GeoLocalizer().localize(vectors=np.ones(512))
    again = pickle.loads(pickle.dumps(localizer))
    query = near(gallery, [9])
    pd.testing.assert_frame_equal(again.localize(vectors=query), localizer.localize(vectors=query))


def test_neighbours_may_be_close(localizer, gallery):
    vectors = [*near(gallery, [9]), [np.nan] * 512]
    with pytest.warns(UnreadablePictureWarning, match="1 of 2 queries have no vector: 1: "):
        scores, rows = localizer.kneighbors(n_neighbors=3, vectors=vectors)
    assert rows[0, 0] == 9
    assert (np.diff(scores[0]) <= 0).all()
    assert rows[1].tolist() == [-1] * 3
    assert np.isnan(scores[1]).all()
    with pytest.raises(OptionError, match="n_neighbors=9,999 is more than the gallery's 3,"):
        localizer.kneighbors(n_neighbors=9_999, vectors=near(gallery, [9]))


def test_wrong_questions(localizer, gallery, photos):
    with pytest.raises(OptionError, match="Give one of images=, text=, vectors=: nothing"):
        localizer.localize()
    with pytest.raises(OptionError, match="top_k=0 is no whole number"):
        localizer.localize(photos, top_k=0)
    with pytest.raises(OptionError, match=r"top_k=9,999 is more than the gallery's 3,\d+ places"):
        localizer.localize(photos, top_k=9_999)
    with pytest.raises(OptionError, match="distinct_km=-1 does not fit"):
        localizer.localize(photos, distinct_km=-1)
    with pytest.raises(OptionError, match="tta= and column= are for pictures"):
        localizer.localize(text="a", tta="five")
    with pytest.raises(OptionError, match="tokens"):
        localizer.localize(text="mountain " * 100)
    with pytest.raises(UnknownNameError, match="There is no gallery named 'geoclip.200k'"):
        ge.GeoLocalizer("geoclip.200k").fit()
    with pytest.raises(UnknownNameError, match="There is no index named 'fast'"):
        clone(localizer).set_params(index="fast").fit().localize(vectors=near(gallery, [1]))


def test_an_image_encoder_of_another_space_is_refused(localizer, clip, photos):
    other = load_image_encoder(replace(tiny_clip_spec(), location_encoder="xyz"), weights=clip)
    with pytest.raises(OptionError, match="goes with xyz, and the gallery .* with 'geoclip.v1'"):
        clone(localizer).set_params(image_encoder=other).fit().localize(photos)


def test_without_clip_the_message_says_how_to_get_it(gallery, photos, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    monkeypatch.setenv("HOME", str(tmp_path))
    localizer = ge.GeoLocalizer(gallery, device="cpu").fit()
    with pytest.raises(MissingWeightsError, match=r"1\.7 GB"):
        localizer.localize(photos)
    # What needs no tower works.
    assert len(localizer.localize(vectors=gallery.embeddings[:1], top_k=1)) == 1
