"""Manifests and features: what is read, what is matched, what is refused."""

from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest

import geoembed as ge
from geoembed.errors import CoordinateError, OptionError, TableError, UnknownNameError
from geoembed.evaluation.geolocation import (
    Manifest,
    list_geolocation_protocols,
    load_geolocation_protocol,
    read_features,
    read_manifest,
)
from geoembed.evaluation.geolocation.features import to_embeddings
from geoembed.extending.registry import image_encoder_spec
from geoembed.weights import load_tensors

CSV = "IMG_FILE,LAT,LON\na/1.jpg,48.86,2.35\n2.jpg,-1.29,36.82\n3.jpg,-34.60,-58.38\n"
LONLAT = [[2.35, 48.86], [36.82, -1.29], [-58.38, -34.60]]


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "manifest.csv"
    path.write_text(text)
    return path


def test_csv(tmp_path: Path) -> None:
    manifest = read_manifest(write(tmp_path, CSV))
    assert manifest.files == ("a/1.jpg", "2.jpg", "3.jpg")
    assert manifest.lonlat.tolist() == LONLAT
    assert manifest.name == "manifest.csv"
    assert len(manifest.sha256) == 64
    assert manifest.notes == ()


def test_columns_of_other_names_and_order(tmp_path: Path) -> None:
    text = "AUTHOR,lng,IMG_ID,latitude\nx,2.35,0012,48.86\ny,36.82,0013,-1.29\n"
    manifest = read_manifest(write(tmp_path, text))
    # Names keep their zeros.
    assert manifest.files == ("0012", "0013")
    assert manifest.lonlat.tolist() == LONLAT[:2]
    named = "breite,laenge,bild\n48.86,2.35,1.jpg\n"
    manifest = read_manifest(write(tmp_path, named), file="bild", lon="laenge", lat="breite")
    assert (manifest.files, manifest.lonlat.tolist()) == (("1.jpg",), LONLAT[:1])
    frame = pd.read_csv(tmp_path / "manifest.csv")
    again = read_manifest(frame, file="bild", lon="laenge", lat="breite")
    assert again.lonlat.tolist() == LONLAT[:1]


@pytest.mark.parametrize("suffix", ["parquet", "gpkg", "geojson"])
def test_files_with_geometries(tmp_path: Path, suffix: str) -> None:
    points = gpd.points_from_xy(*np.transpose(LONLAT))
    frame = gpd.GeoDataFrame({"IMG_FILE": ["1", "2", "3"]}, geometry=points, crs=4326)
    path = tmp_path / f"manifest.{suffix}"
    # Another CRS comes back as lon, lat.
    frame = frame if suffix == "geojson" else frame.to_crs(3857)
    frame.to_parquet(path) if suffix == "parquet" else frame.to_file(path)
    manifest = read_manifest(path)
    assert manifest.files == ("1", "2", "3")
    assert manifest.lonlat == pytest.approx(np.array(LONLAT), abs=1e-9)
    assert read_manifest(frame).lonlat == pytest.approx(np.array(LONLAT), abs=1e-9)


def test_plain_parquet(tmp_path: Path) -> None:
    path = tmp_path / "manifest.parquet"
    write(tmp_path, CSV)
    pd.read_csv(tmp_path / "manifest.csv").to_parquet(path)
    assert read_manifest(path).lonlat.tolist() == LONLAT
    manifest = read_manifest(path)
    assert read_manifest(manifest) is manifest


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (CSV + "4.jpg,95,10\n", "latitude outside .*row 3 .95."),
        ("IMG_FILE,LON,LAT\n1,10,120\n2,20,130\n", "rows 0 .120., 1 .130.. .* look swapped"),
        (CSV + "4.jpg,5,361\n", r"longitude outside \[-180, 360\] in column 'LON': row 3 .361."),
        (CSV + "4.jpg,5,-500.5\n", "longitude outside .*row 3 .-500.5."),
        (CSV + "4.jpg,,3\n5.jpg,3,\n", "2 of 5 rows of manifest.csv have no place .*rows 3, 4"),
        (CSV + "4.jpg,north,3\n", "text where numbers belong: row 3"),
    ],
)
def test_bad_coordinates_name_their_rows(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(CoordinateError, match=message):
        read_manifest(write(tmp_path, text))


def test_swapped_columns_whose_numbers_all_fit() -> None:
    cities = ge.data.load_cities()
    east = cities[(cities["lon"] > 60) & (cities["lon"] < 90) & (cities["lat"] > 15)].head(60)
    table = pd.DataFrame({"file": east["name"], "lat": east["lon"], "lon": east["lat"]})
    with pytest.raises(CoordinateError, match="look swapped: .* of the 60 places are on land"):
        read_manifest(table)
    assert len(read_manifest(table.rename(columns={"lat": "lon", "lon": "lat"}))) == 60
    # Truths at sea are no mistake by themselves.
    sea = pd.DataFrame({"file": range(30), "lon": np.linspace(-40, -20, 30), "lat": -30.0})
    assert len(read_manifest(sea)) == 30


def test_rows_can_be_dropped_and_are_counted(tmp_path: Path) -> None:
    manifest = read_manifest(write(tmp_path, CSV + "4.jpg,,3\n"), on_invalid="drop")
    assert len(manifest) == 3
    assert manifest.notes == ("left out of the manifest: 1 row without a place or a picture",)
    with pytest.raises(OptionError, match="on_invalid='nan' is not one of"):
        read_manifest(write(tmp_path, CSV), on_invalid="nan")
    with pytest.raises(TableError, match="None of the 1 rows"):
        read_manifest(write(tmp_path, "IMG_FILE,LAT,LON\n1.jpg,,\n"), on_invalid="drop")


def test_other_problems_of_manifests(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="has no column of pictures: it has 'LAT', 'LON'"):
        read_manifest(write(tmp_path, "LAT,LON\n1,2\n"))
    with pytest.raises(TableError, match="has no column 'photo'"):
        read_manifest(write(tmp_path, CSV), file="photo")
    with pytest.raises(TableError, match="no rows"):
        read_manifest(write(tmp_path, "IMG_FILE,LAT,LON\n"))
    with pytest.raises(TableError, match="There is no file"):
        read_manifest(tmp_path / "absent.csv")
    twice = read_manifest(write(tmp_path, CSV + "2.jpg,5,5\n"))
    assert twice.notes == ("more than once in the manifest: 1 picture, 2.jpg",)


def test_pictures_are_found_below_the_folder(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    for name in ("a/1.jpg", "2.jpeg"):
        (tmp_path / name).touch()
    manifest = Manifest(("a/1.jpg", "2", "3.jpg"), np.array(LONLAT))
    assert manifest.find_files(tmp_path) == [tmp_path / "a/1.jpg", tmp_path / "2.jpeg", None]
    with pytest.raises(OptionError, match="images='.*absent' is no folder"):
        manifest.find_files(tmp_path / "absent")


# Features.

MANIFEST = Manifest(("a.jpg", "b.jpg", "c.jpg"), np.array(LONLAT), "manifest.csv")
VECTORS = np.arange(1.0, 13.0, dtype=np.float32).reshape(3, 4)


def saved(tmp_path: Path, kind: str) -> Path:
    path = tmp_path / f"features.{kind.split('-')[0]}"
    names = np.array(["c.jpg", "x.jpg", "a.jpg"])
    if kind == "npy":
        np.save(path, VECTORS)
    elif kind == "npz":
        np.savez(path, features=VECTORS)
    elif kind == "npz-names":
        np.savez(path, features=VECTORS, files=names)
    elif kind == "parquet-column":
        pd.DataFrame({"file": names, "lat": 0.5, "embedding": list(VECTORS)}).to_parquet(path)
    else:
        wide = pd.DataFrame(VECTORS, columns=[str(at) for at in range(4)])
        wide.assign(lon=7.0, IMG_FILE=names).to_parquet(path)
    return path


@pytest.mark.parametrize("kind", ["npy", "npz"])
def test_features_in_the_order_of_the_manifest(tmp_path: Path, kind: str) -> None:
    features = read_features(saved(tmp_path, kind), MANIFEST)
    assert features.vectors.tolist() == VECTORS.tolist()
    assert features.errors == ["", "", ""]
    assert len(features.sha256) == 64


@pytest.mark.parametrize("kind", ["npz-names", "parquet-column", "parquet-wide"])
def test_features_matched_by_name(tmp_path: Path, kind: str) -> None:
    features = read_features(saved(tmp_path, kind), MANIFEST)
    assert features.vectors.tolist() == [VECTORS[2].tolist(), [0, 0, 0, 0], VECTORS[0].tolist()]
    assert features.errors == ["", "it has no features", ""]
    assert features.notes[0].startswith("not in the manifest: 1 row of features.")
    named = {"npz-names": "files", "parquet-column": "file", "parquet-wide": "IMG_FILE"}[kind]
    again = read_features(tmp_path / features.name, MANIFEST, id_column=named)
    assert again.vectors.tolist() == features.vectors.tolist()


def test_features_that_are_no_numbers_are_rows_with_an_error() -> None:
    vectors = VECTORS.copy()
    vectors[0, 1], vectors[2] = np.nan, 0.0
    features = read_features(vectors, MANIFEST)
    assert features.errors == ["its features are not finite", "", "its features are zero"]
    assert features.vectors[0].tolist() == [0.0] * 4
    assert np.isnan(vectors[0, 1])


def test_features_that_do_not_fit(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="has 2 rows and no names, and manifest.csv has 3"):
        read_features(VECTORS[:2], MANIFEST)
    with pytest.raises(TableError, match="No name of The table of features .such as 'x'"):
        read_features(pd.DataFrame({"file": ["x"], "0": [1.0]}), MANIFEST)
    with pytest.raises(TableError, match="features of 'a.jpg' more than once"):
        read_features(pd.DataFrame({"file": ["a.jpg"] * 2, "0": [1.0, 2.0]}), MANIFEST)
    with pytest.raises(TableError, match="give numbers of shape"):
        read_features(np.array(["a", "b", "c"]), MANIFEST)
    with pytest.raises(UnknownNameError, match="no column named 'files'"):
        read_features(pd.DataFrame({"file": ["a.jpg"]}), MANIFEST, id_column="files")
    (tmp_path / "broken.npy").write_bytes(b"\x93NUMPY")
    with pytest.raises(TableError, match="broken.npy cannot be read"):
        read_features(tmp_path / "broken.npy", MANIFEST)
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(TableError, match="objects.npy cannot be read"):
        read_features(tmp_path / "objects.npy", MANIFEST)
    with pytest.raises(TableError, match="neither .npy, .npz nor .parquet"):
        read_features(tmp_path / "features.txt", MANIFEST)
    np.savez(tmp_path / "two.npz", left=VECTORS, right=VECTORS)
    with pytest.raises(TableError, match="has 2 arrays of vectors among left, right"):
        read_features(tmp_path / "two.npz", MANIFEST)
    ragged = pd.DataFrame({"file": ["a.jpg", "b.jpg"], "embedding": [[1.0], [1.0, 2.0]]})
    with pytest.raises(TableError, match="vectors of one length"):
        read_features(ragged, MANIFEST)


def test_features_of_the_tower_go_through_the_released_head() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(3, 10, 768)).astype(np.float32)
    spec = image_encoder_spec("geoclip.v1")
    assert spec.weights is not None
    tensors = {k: v.double().numpy() for k, v in load_tensors(spec.weights, "image_mlp").items()}
    hidden = np.maximum(features @ tensors["0.weight"].T + tensors["0.bias"], 0.0)
    final = hidden @ tensors["2.weight"].T + tensors["2.bias"]

    one = to_embeddings(read_features(features[:, 0], MANIFEST), 512, "geoclip.v1")
    assert one == pytest.approx(final[:, 0], abs=1e-5)
    # Ten crops: the mean of the directions, whose products are the mean of the cosines.
    ten = to_embeddings(read_features(features, MANIFEST), 512, "geoclip.v1")
    gallery = rng.normal(size=(5, 512))
    gallery /= np.linalg.norm(gallery, axis=1, keepdims=True)
    directions = final / np.linalg.norm(final, axis=2, keepdims=True)
    assert ten @ gallery.T == pytest.approx((directions @ gallery.T).mean(axis=1), abs=1e-6)
    # Final vectors are left alone.
    assert to_embeddings(read_features(one, MANIFEST), 512, "geoclip.v1").tolist() == one.tolist()


def test_features_of_other_lengths_and_unit_features_are_refused() -> None:
    with pytest.raises(OptionError, match="vectors of 4 values. Give final vectors of 512.* 768"):
        to_embeddings(read_features(VECTORS, MANIFEST), 512, "geoclip.v1")
    unit = np.zeros((3, 768), dtype=np.float32)
    unit[:, 5] = 1.0
    with pytest.raises(OptionError, match="have the length 1: .* without normalising"):
        to_embeddings(read_features(unit, MANIFEST), 512, "geoclip.v1")


# Protocols.


def test_protocols_are_what_was_published() -> None:
    assert list_geolocation_protocols() == ["gws15k", "im2gps3k", "yfcc26k"]
    protocol = load_geolocation_protocol("im2gps3k")
    assert (protocol.gallery, protocol.tta) == ("geoclip.100k", "ten-crop")
    assert protocol.thresholds_km == (1.0, 25.0, 200.0, 750.0, 2500.0)
    rows = {row.system: row for row in protocol.published}
    assert rows["GeoCLIP"].within == (14.11, 34.47, 50.65, 69.67, 83.82)
    assert [row.system for row in protocol.published if row.secondary] == [
        "GeoCLIP, released weights"
    ]
    streets = load_geolocation_protocol("gws15k")
    assert "500K gallery of the paper is not published" in streets.differences[0]
    assert load_geolocation_protocol(streets) is streets
    assert load_geolocation_protocol("yfcc26k").published == ()


GOOD = """
name = "mine"
title = "Mine"
summary = "s"
source = "t"
gallery = "cities"
tta = "none"
thresholds_km = [1, 10]
differences = []
[[published]]
system = "X"
within = [10, 20.5]
how = "y"
"""


def test_a_protocol_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(GOOD)
    protocol = load_geolocation_protocol(path)
    assert (protocol.name, protocol.published[0].within) == ("mine", (10.0, 20.5))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('tta = "none"', 'tta = "nine"', "tta = 'nine' is not one of: none, five, ten-crop"),
        ("[1, 10]", "[10, 1]", "thresholds_km=.* does not fit"),
        ("[10, 20.5]", "[10]", "within = .10. must be percent, one for each of the 2"),
        ("[10, 20.5]", "[10, 101]", "must be percent"),
        ('how = "y"', 'how = "y"\nsecondary = 3', "secondary = 3 must be true or false"),
        ("differences = []", "differences = [3]", "must be texts"),
        ('title = "Mine"', "title = 3", "title = 3 is no str"),
        ('title = "Mine"\n', "", "lacks the key 'title'"),
        ('title = "Mine"', 'title = "Mine"\ncrop = "x"', "no key named 'crop'"),
        ("name = ", "name : ", "is no TOML"),
    ],
)
def test_protocol_files_that_do_not_fit(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = tmp_path / "mine.toml"
    assert old in GOOD
    path.write_text(GOOD.replace(old, new))
    with pytest.raises(OptionError, match=message):
        load_geolocation_protocol(path)


def test_protocols_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="no geolocation protocol named 'im2gps'"):
        load_geolocation_protocol("im2gps")
    with pytest.raises(OptionError, match="absent.toml cannot be read"):
        load_geolocation_protocol(tmp_path / "absent.toml")


def test_imports_nothing_of_a_table_it_is_given() -> None:
    table: Any = pd.DataFrame({"file": ["a"], "lon": [1.0], "lat": [2.0]}, index=["label"])
    before = table.copy()
    read_manifest(table)
    pd.testing.assert_frame_equal(table, before)
