"""Whole evaluations: tables by hand, records, missing pictures, resuming, leaks."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import geoembed as ge
from geoembed import __version__
from geoembed.errors import CoordinateError, OptionError, TableError, UnknownNameError
from geoembed.evaluation.geolocation import (
    GeolocationReport,
    evaluate_geolocation,
    evaluate_manifest,
    load_geolocation_protocol,
)
from geoembed.evaluation.geolocation.encoding import count_gps
from geoembed.galleries import Gallery
from geoembed.geodesy import destination
from geoembed.geolocation import GeoLocalizer
from geoembed.images import load_image_encoder
from geoembed.images.running import ImageEmbeddings
from geoembed.testing import tiny_clip_spec, write_tiny_clip

# A gallery of four places; a picture's vector is its colour.
PLACES = np.array([[2.35, 48.86], [36.82, -1.29], [-58.38, -34.60], [151.2, -33.9]])
COLOURS = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (200, 200, 200)]


class FakeGallery:
    name = "four"
    digest = "d" * 64
    encoder = "colour"
    weights_sha256 = "e" * 64
    layers = "final"
    dtype = "float32"
    lonlat = PLACES

    def __init__(self) -> None:
        vectors = np.array(COLOURS, dtype=np.float32)
        self.embeddings = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


class FakeEncoder:
    name = "colour"
    weights_sha256 = "f" * 64
    precision = "float32"

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.views: list[str] = []
        self.stop_after = 10**9

    def iterate_images(self, source: Any, *, tta: str, **_: Any) -> Iterator[ImageEmbeddings]:
        self.views.append(tta)
        for at in range(0, len(source), 2):
            if len(self.seen) >= self.stop_after:
                raise KeyboardInterrupt
            yield self._encode(source[at : at + 2])

    def _encode(self, paths: list[Path]) -> ImageEmbeddings:
        vectors, errors = [], []
        for path in paths:
            self.seen.append(path.name)
            try:
                colour = np.asarray(Image.open(path).convert("RGB"), dtype=np.float32)[0, 0]
                vectors.append(colour / np.linalg.norm(colour))
                errors.append("")
            except OSError:
                vectors.append(np.full(3, np.nan, np.float32))
                errors.append("it is no picture")
        return ImageEmbeddings([str(path) for path in paths], np.stack(vectors), errors)


class FakeLocalizer:
    image_encoder = "colour"

    def __init__(self) -> None:
        self.gallery_ = FakeGallery()
        self.image_encoder_ = FakeEncoder()

    def predict(self, images: Any) -> Any:
        raise AssertionError("vectors are there to be used")

    def predict_vectors(self, vectors: Any) -> Any:
        assert np.isfinite(vectors).all()
        return PLACES[np.argmax(vectors @ self.gallery_.embeddings.T, axis=1)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six pictures: five can be read, the fourth cannot; the manifest has a seventh."""
    images = tmp_path / "images"
    images.mkdir()
    for at, colour in enumerate([*COLOURS[:3], None, COLOURS[3], COLOURS[0]]):
        if colour is None:
            (images / f"{at}.png").write_bytes(b"not a picture")
        else:
            Image.new("RGB", (4, 4), colour).save(images / f"{at}.png")
    truth = np.array(
        [
            PLACES[0],  # exactly there
            np.squeeze(destination(*PLACES[1], 90.0, 20.0)),  # 20 km away
            np.squeeze(destination(*PLACES[2], 0.0, 100.0)),  # 100 km
            PLACES[3],  # cannot be read
            np.squeeze(destination(*PLACES[3], 180.0, 700.0)),  # 700 km, at sea
            np.squeeze(destination(*PLACES[0], 75.0, 5000.0)),  # 5,000 km
            PLACES[1],  # not there
        ]
    )
    table = pd.DataFrame({"IMG_FILE": [f"{at}.png" for at in range(7)]})
    table[["LON", "LAT"]] = truth
    table.to_csv(tmp_path / "manifest.csv", index=False)
    return tmp_path


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the two pictures of a saved report, which take a second."""
    monkeypatch.setattr(GeolocationReport, "_draw", lambda self, path: None)


def run(folder: Path, localizer: Any = None, **options: Any) -> GeolocationReport:
    localizer = FakeLocalizer() if localizer is None else localizer
    given = {"images": folder / "images", "progress": False, **options}
    return evaluate_manifest(folder / "manifest.csv", localizer, **given)


def test_reproduces_a_table_worked_out_by_hand(folder: Path) -> None:
    report = run(folder)
    # Errors: 0, 20, 100, 700, 5000 km.
    assert report.rows["km"].dropna().tolist() == pytest.approx([0, 20, 100, 700, 5000])
    assert report.scores["score"].tolist() == [
        "within 1 km",
        "within 25 km",
        "within 200 km",
        "within 750 km",
        "within 2500 km",
        "median_km",
        "mean_km",
        "geoscore",
    ]
    # 5000 * (1 + exp(-20/1492.7) + exp(-100/1492.7) + exp(-700/1492.7) + exp(-5000/1492.7)) / 5
    # = 5000 * (1 + 0.986691 + 0.935202 + 0.625666 + 0.035098) / 5
    assert report.scores["value"].tolist() == pytest.approx(
        [20.0, 40.0, 60.0, 80.0, 80.0, 100.0, 1164.0, 3582.66], rel=1e-5
    )
    assert report.continents["continent"].tolist() == [
        "Africa",
        "Asia",
        "Europe",
        "South America",
        "at sea",
    ]
    assert report.continents["n"].tolist() == [1, 1, 1, 1, 1]
    assert report.continents["within 25 km"].tolist() == [100.0, 0.0, 100.0, 0.0, 0.0]
    assert report.evaluated == 5
    assert report.value("median_km") == pytest.approx(100.0)
    assert report.table().equals(report.scores)
    with pytest.raises(UnknownNameError, match="no score named 'within 2 km'"):
        report.value("within 2 km")


def test_pictures_that_are_missing_or_damaged_are_named(folder: Path) -> None:
    report = run(folder)
    assert report.lost.values.tolist() == [
        ["3.png", "it is no picture"],
        ["6.png", "there is no such file"],
    ]
    assert report.record["pictures"] == {"missing": 1, "unreadable": 1, "with_exif_gps": 0}
    assert "not in the folder: 1 picture, 6.png" in report.notes
    # 1 of 7, 2 of 7, and so on.
    assert any("left out of the scores: 2 of 7 pictures" in n for n in report.notes)
    assert any("14.3 % within 1 km, 28.6 % within 25 km" in n for n in report.notes)
    page = report.to_markdown()
    assert "- `6.png`: there is no such file" in page


def test_leaks_are_told_first_and_scores_given_without_them(folder: Path) -> None:
    report = run(folder)
    # The first query is a place of the gallery; so are the two that could not be evaluated.
    assert report.rows.loc[report.rows["leaked"], "file"].tolist() == ["0.png", "3.png", "6.png"]
    lines = report.to_markdown().splitlines()
    assert lines[2].startswith("**Leakage: 3 of 7 queries (42.9 %) lie within 10 m of a place")
    # Without the first: 20, 100, 700, 5000 km.
    without = report.scores["without_leaks"].tolist()
    assert without[:6] == pytest.approx([0.0, 25.0, 50.0, 75.0, 75.0, 400.0])
    clean = run(folder, leak_m=0.0)
    assert len(clean.leaks or ()) == 3


def test_the_ceiling_is_what_the_nearest_places_would_score(folder: Path) -> None:
    report = run(folder)
    # 5,000 km from Paris another place of the gallery may be nearer, but not within 2,500 km.
    assert report.scores["ceiling"].tolist()[:6] == pytest.approx([20, 40, 60, 80, 80, 100])
    page = report.to_markdown()
    assert "| ceiling of its gallery | 20.00 | 40.00 | 60.00 | 80.00 | 80.00 |" in page
    assert (report.scores["ceiling"] >= report.scores["value"] - 1e-9).tolist()[:5] == [True] * 5


@pytest.mark.usefixtures("undrawn")
def test_the_record_says_what_was_done(folder: Path) -> None:
    report = run(folder, seed=7, resamples=50, level=0.9, tta="five", output=folder / "out")
    saved = json.loads((folder / "out" / "evaluation.json").read_text())
    assert saved == json.loads(report.to_json())
    record = saved["record"]
    assert record["format"] == "geoembed geolocation evaluation 1"
    assert record["crops"] == "five"
    assert record["refinement"] == "off"
    assert record["distance"] == "geodesic on the WGS 84 ellipsoid, km (pyproj Geod.inv)"
    assert record["gallery"] == {
        "name": "four",
        "digest": "d" * 64,
        "encoder": "colour",
        "weights_sha256": "e" * 64,
        "layers": "final",
        "dtype": "float32",
        "places": 4,
    }
    assert record["image_encoder"] == {
        "name": "colour",
        "weights_sha256": "f" * 64,
        "precision": "float32",
    }
    assert (record["rows"], record["evaluated"]) == (7, 5)
    assert record["manifest"]["name"] == "manifest.csv"
    assert len(record["manifest"]["sha256"]) == 64
    assert record["bootstrap"]["seed"] == 7
    assert record["bootstrap"]["resamples"] == 50
    assert record["versions"]["geoembed"] == __version__
    assert {"torch", "open_clip_torch", "pyproj", "numpy", "python"} <= set(record["versions"])
    assert record["leakage"] == {"within_m": 10.0, "queries": 3, "exact": 3}
    assert saved["leakage"]["files"] == ["0.png", "3.png", "6.png"]
    assert saved["lost"] == {"3.png": "it is no picture", "6.png": "there is no such file"}


def test_files_of_a_run(folder: Path) -> None:
    pytest.importorskip("matplotlib")
    run(folder, output=folder / "out")
    assert sorted(os.listdir(folder / "out")) == [
        "error_map.png",
        "errors.png",
        "evaluation.json",
        "evaluation.md",
        "pictures.csv",
        "vectors",
    ]
    for name in ("errors.png", "error_map.png"):
        with Image.open(folder / "out" / name) as picture:
            assert picture.width > 600
    rows = pd.read_csv(folder / "out" / "pictures.csv")
    assert rows["file"].tolist() == [f"{at}.png" for at in range(7)]
    assert rows["km"].isna().sum() == 2
    with pytest.raises(TableError, match="cannot be written to"):
        run(folder).save(folder / "manifest.csv")


@pytest.mark.usefixtures("undrawn")
def test_a_stopped_run_goes_on_where_it_was(folder: Path) -> None:
    first = FakeLocalizer()
    first.image_encoder_.stop_after = 4
    with pytest.raises(KeyboardInterrupt) as stopped:
        run(folder, first, output=folder / "out")
    assert stopped.value.__notes__[0].startswith("3 pictures encoded in this run are kept in ")
    assert first.image_encoder_.seen == ["0.png", "1.png", "2.png", "3.png"]
    second = FakeLocalizer()
    report = run(folder, second, output=folder / "out")
    # The one that could not be read is tried again.
    assert second.image_encoder_.seen == ["3.png", "4.png", "5.png"]
    pd.testing.assert_frame_equal(report.rows, run(folder).rows)
    third = FakeLocalizer()
    run(folder, third, output=folder / "out")
    assert third.image_encoder_.seen == ["3.png"]


@pytest.mark.usefixtures("undrawn")
def test_kept_vectors_are_those_of_this_picture_and_this_encoder(folder: Path) -> None:
    run(folder, output=folder / "out")
    changed = FakeLocalizer()
    changed.image_encoder_.weights_sha256 = "0" * 64
    run(folder, changed, output=folder / "out")
    assert len(changed.image_encoder_.seen) == 6
    crops = FakeLocalizer()
    run(folder, crops, output=folder / "out", tta="ten-crop")
    assert (len(crops.image_encoder_.seen), crops.image_encoder_.views) == (6, ["ten-crop"])
    # A changed picture is encoded again; a damaged part is passed over.
    Image.new("RGB", (5, 5), COLOURS[1]).save(folder / "images" / "0.png")
    again = FakeLocalizer()
    report = run(folder, again, output=folder / "out")
    assert again.image_encoder_.seen == ["0.png", "3.png"]
    assert report.rows.loc[0, "predicted_lon"] == pytest.approx(36.82)
    for part in (folder / "out" / "vectors").glob("*/part-*.npz"):
        part.write_bytes(part.read_bytes()[:-40])
    last = FakeLocalizer()
    pd.testing.assert_frame_equal(run(folder, last, output=folder / "out").rows, report.rows)
    assert len(last.image_encoder_.seen) == 6


def test_no_picture_at_all(folder: Path) -> None:
    (folder / "empty").mkdir()
    with pytest.raises(TableError, match="None of the 7 pictures of manifest.csv is in"):
        run(folder, images=folder / "empty")
    for path in (folder / "images").iterdir():
        path.write_bytes(b"x")
    message = r"None of 7 pictures can be evaluated: it is no picture \(6\); there is no such"
    with pytest.raises(TableError, match=message):
        run(folder)


def test_pictures_that_carry_their_place_are_counted_with_a_warning(folder: Path) -> None:
    exif = Image.Exif()
    exif[0x8825] = {1: "N", 2: (10.0, 0.0, 0.0), 3: "E", 4: (20.0, 0.0, 0.0)}
    Image.new("RGB", (4, 4), COLOURS[0]).save(folder / "images" / "0.png", exif=exif)
    with pytest.warns(UserWarning, match="1 picture carries its place in EXIF. It is not used"):
        report = run(folder)
    assert report.record["pictures"]["with_exif_gps"] == 1
    assert any("carries its place" in note for note in report.notes)
    assert report.rows["km"].dropna().tolist() == pytest.approx([0, 20, 100, 700, 5000])


class OnlyPredicts:
    """What a localizer of another library would look like."""

    def predict(self, paths: Any) -> Any:
        return [PLACES[0] if path.name != "3.png" else [np.nan, np.nan] for path in paths]


def test_any_object_with_predict(folder: Path) -> None:
    report = run(folder, OnlyPredicts())
    assert report.evaluated == 5
    assert report.rows.loc[3, "error"] == "no place was predicted"
    assert report.rows.loc[6, "error"] == "there is no such file"
    assert report.leaks is None
    assert report.record["gallery"] is None
    assert report.record["crops"] == report.record["refinement"] == "not known"
    with pytest.raises(OptionError, match="features= needs a localizer with a gallery"):
        run(folder, OnlyPredicts(), images=None, features=np.zeros((7, 3)))


def test_features_in_place_of_pictures(folder: Path) -> None:
    vectors = np.zeros((7, 3), dtype=np.float32)
    vectors[[0, 1, 2, 4, 5]] = FakeGallery().embeddings[[0, 1, 2, 3, 0]] * 3.0
    report = run(folder, images=None, features=vectors)
    pictures = run(folder)
    assert report.rows["km"].equals(pictures.rows["km"])
    assert report.rows["error"].tolist()[3] == "its features are zero"
    assert report.record["features"] == {
        "name": "given in Python",
        "sha256": "",
        "shape": [7, 3],
        "missing": 2,
    }
    views = np.repeat(vectors[:, None], 10, axis=1)
    report = run(folder, images=None, features=views, protocol="im2gps3k")
    assert report.record["crops"] == "ten-crop"
    assert report.record["image_encoder"]["head_sha256"] is None
    with pytest.raises(OptionError, match="vectors of 5 values. Give final vectors of 3"):
        evaluate_manifest(folder / "manifest.csv", _with_known_encoder(), features=np.ones((7, 5)))


def _with_known_encoder() -> FakeLocalizer:
    localizer = FakeLocalizer()
    localizer.image_encoder = "geoclip.v1"
    return localizer


def test_protocols_bring_rules_and_published_rows(folder: Path) -> None:
    localizer = FakeLocalizer()
    report = run(folder, localizer, protocol="im2gps3k")
    assert localizer.image_encoder_.views == ["ten-crop"]
    assert report.record["protocol"] == {
        "name": "im2gps3k",
        "followed": False,
        "as_published": False,
        "deviations": [
            "the gallery is 'four' instead of 'geoclip.100k'",
            "2 of 7 pictures are not evaluated",
        ],
        "differences": [],
    }
    table = report.beside_published()
    assert table["system"].tolist()[0] == "this run"
    assert table.loc[table["system"] == "GeoCLIP", "within 1 km"].tolist() == [14.11]
    assert "secondary source" in table["how"].tolist()[-1]
    page = report.to_markdown()
    assert page.startswith("# Geolocation on Im2GPS3k\n")
    assert "- Not as im2gps3k asks for: the gallery is 'four' instead of 'geoclip.100k'." in page
    # Other thresholds cannot stand beside the published ones.
    other = run(folder, protocol="im2gps3k", thresholds_km=[10, 100], tta="none")
    assert other.beside_published()["system"].tolist() == ["this run", "ceiling of its gallery"]
    assert json.loads(other.to_json())["published"] == []
    assert any("crops are 'none' instead of 'ten-crop'" in note for note in other.notes)
    assert any("the thresholds are others" in note for note in other.notes)


def test_a_protocol_that_is_followed_says_so(folder: Path) -> None:
    localizer = FakeLocalizer()
    localizer.gallery_.name = "geoclip.100k"
    table = pd.read_csv(folder / "manifest.csv").iloc[[0, 1, 2, 4, 5]]
    options = {"images": folder / "images", "progress": False}
    report = evaluate_manifest(table, localizer, protocol="im2gps3k", **options)
    assert report.record["protocol"]["followed"]
    assert report.record["protocol"]["as_published"]
    assert not any("Not as" in note for note in report.notes)
    streets = evaluate_manifest(table, localizer, protocol="gws15k", **options)
    assert not streets.record["protocol"]["followed"]
    localizer.gallery_.name = "geoclip.100k+land45"
    streets = evaluate_manifest(table, localizer, protocol="gws15k", **options)
    assert streets.record["protocol"]["followed"]
    # Its gallery is not published: it cannot be what the paper did.
    assert not streets.record["protocol"]["as_published"]
    assert streets.notes[0].startswith(
        "GWS15k here: the 500K gallery of the paper is not published"
    )


def test_other_rules_are_refused(folder: Path) -> None:
    with pytest.raises(OptionError, match="Give one of images= .a folder. and features="):
        run(folder, images=None)
    with pytest.raises(OptionError, match="Give one of images="):
        run(folder, features=np.zeros((7, 3)))
    with pytest.raises(OptionError, match="tta='nine' is not one of"):
        run(folder, tta="nine")
    with pytest.raises(OptionError, match="thresholds_km=.* does not fit"):
        run(folder, thresholds_km=[5, 1])
    with pytest.raises(OptionError, match="leak_m=-1 is not a distance in metres"):
        run(folder, 3, leak_m=-1)
    with pytest.raises(OptionError, match="resamples=0 is no whole number"):
        run(folder, 3, resamples=0)
    with pytest.raises(OptionError, match="localizer=3 is neither a GeoLocalizer nor a gallery"):
        run(folder, 3)
    with pytest.raises(UnknownNameError, match="no geolocation protocol"):
        run(folder, protocol="im2gps")


# The real parts together.


@pytest.fixture(scope="module")
def localizer(tmp_path_factory: pytest.TempPathFactory) -> GeoLocalizer:
    """A small CLIP of random weights behind the released head, and a gallery of 200 cities."""
    weights = write_tiny_clip(tmp_path_factory.mktemp("clip"))
    encoder = load_image_encoder(tiny_clip_spec(), weights=weights)
    cities = ge.data.load_cities().head(200)
    gallery = Gallery.from_frame(cities, name="cities200")
    return GeoLocalizer(gallery, image_encoder=encoder, progress=False).fit()


@pytest.mark.usefixtures("undrawn")
def test_pictures_through_a_real_localizer(folder: Path, localizer: GeoLocalizer) -> None:
    report = run(folder, localizer, output=folder / "out", tta="five")
    assert report.lost["file"].tolist() == ["3.png", "6.png"]
    paths = [folder / "images" / f"{at}.png" for at in (0, 1, 2, 4, 5)]
    expected = localizer.predict_vectors(localizer.encode(paths, tta="five").vectors)
    found = report.rows.loc[[0, 1, 2, 4, 5], ["predicted_lon", "predicted_lat"]].to_numpy()
    assert found.tolist() == expected.tolist()
    # From what was kept.
    again = run(folder, localizer, output=folder / "out", tta="five")
    pd.testing.assert_frame_equal(again.rows, report.rows)
    assert report.record["index"] == "exact"
    assert report.record["gallery"]["digest"] == localizer.gallery_.digest
    assert report.record["image_encoder"]["weights_sha256"] == (
        localizer.image_encoder_.weights_sha256
    )


def test_location_embeddings_find_their_places(localizer: GeoLocalizer) -> None:
    gallery = localizer.gallery_
    vectors = ge.encode(gallery.lonlat[:, 0], gallery.lonlat[:, 1], normalize=True)
    table = pd.DataFrame({"file": [str(at) for at in range(len(gallery))]})
    table[["lon", "lat"]] = gallery.lonlat
    report = evaluate_manifest(table, gallery, features=vectors, leak_m=5.0)
    assert report.value("within 1 km") == 100.0
    assert report.value("mean_km") == 0.0
    assert len(report.leaks or ()) == len(gallery)
    assert np.isnan(report.scores["without_leaks"]).all()


def test_features_of_a_tower_name_the_head(folder: Path, localizer: GeoLocalizer) -> None:
    tower = np.random.default_rng(0).normal(size=(7, 768))
    by_name = GeoLocalizer(localizer.gallery_).fit()
    report = run(folder, by_name, images=None, features=tower)
    assert report.evaluated == 7
    # The released head, as pinned by the published wheel.
    assert report.record["image_encoder"]["head_sha256"].startswith("5342c391eec96179")


def test_a_localizers_own_crops_are_used(folder: Path, localizer: GeoLocalizer) -> None:
    own = GeoLocalizer(localizer.gallery_, image_encoder=localizer.image_encoder, tta="five").fit()
    assert run(folder, own).record["crops"] == "five"
    assert run(folder, own, tta="none").record["crops"] == "none"


def test_a_localizer_that_is_not_fitted_is_refused(folder: Path) -> None:
    with pytest.raises(OptionError, match="is not fitted yet: call its fit"):
        run(folder, GeoLocalizer("cities"))


@pytest.mark.shared
@pytest.mark.slow
def test_real_photographs_all_go_through(
    shared_data: Path, localizer: GeoLocalizer, tmp_path: Path
) -> None:
    folder = shared_data / "photos_world"
    placed = pd.read_csv(folder / "index.csv")[["lat", "lon"]].notna().all(axis=1)
    report = evaluate_manifest(
        folder / "index.csv",
        localizer,
        images=folder,
        output=tmp_path,
        on_invalid="drop",
        progress=False,
    )
    assert report.evaluated == len(report.rows) == placed.sum() > 90
    # Copies without EXIF; the originals with it are tested where it is read.
    assert report.record["pictures"] == {"missing": 0, "unreadable": 0, "with_exif_gps": 0}
    assert "left out of the manifest: 13 rows without a place or a picture" in report.notes


@pytest.mark.shared
def test_places_that_real_cameras_wrote_are_counted(shared_data: Path) -> None:
    originals = sorted((shared_data / "photos_world" / "exif_originals").iterdir())
    # Three of the eight hold what is no place: broken, out of range, 0, 0.
    with pytest.warns(UserWarning, match="5 pictures carry their place in EXIF"):
        assert count_gps([*originals, None]) == 5


# Scoring alone.


def test_scores_of_places_alone() -> None:
    predicted = np.array([*PLACES[:3], [np.nan, np.nan]])
    report = evaluate_geolocation(
        PLACES,
        predicted,
        files=["a", "b", "c", "d"],
        errors=["", "", "", "too dark"],
        gallery=PLACES[:1],
        protocol=load_geolocation_protocol("im2gps3k"),
    )
    assert report.evaluated == 3
    assert report.lost.values.tolist() == [["d", "too dark"]]
    assert report.leaks is not None
    assert report.leaks.rows.tolist() == [0]
    assert report.value("within 1 km") == 100.0
    # All of three within: the exact interval, 0.025 ** (1 / 3).
    assert report.scores["low"].iloc[0] == pytest.approx(29.2402, abs=1e-3)
    assert repr(report).startswith("<GeolocationReport of 3 pictures: within 1 km: 100.0 %")


def test_intervals_repeat_with_the_seed() -> None:
    rng = np.random.default_rng(2)
    truth = np.column_stack([rng.uniform(-180, 180, 60), rng.uniform(-60, 60, 60)])
    guess = truth + rng.normal(size=truth.shape)
    one, two = (evaluate_geolocation(truth, guess, seed=3).scores for _ in range(2))
    assert one.equals(two)
    assert not one.equals(evaluate_geolocation(truth, guess, seed=4).scores)


def test_scoring_refuses_what_does_not_fit() -> None:
    with pytest.raises(TableError, match="There are no pictures to evaluate"):
        evaluate_geolocation(np.empty((0, 2)), np.empty((0, 2)))
    nowhere = np.full((2, 2), np.nan)
    with pytest.raises(TableError, match="None of 2 pictures can be evaluated: no place"):
        evaluate_geolocation(PLACES[:2], nowhere)
    with pytest.raises(CoordinateError, match="truth has 2 places and predicted has 3"):
        evaluate_geolocation(PLACES[:2], PLACES[:3])
    with pytest.raises(OptionError, match="files= has 1 entries for 2 places"):
        evaluate_geolocation(PLACES[:2], PLACES[:2], files=["a"])
    with pytest.raises(OptionError, match="resamples=0"):
        evaluate_geolocation(PLACES[:2], PLACES[:2], resamples=0)
