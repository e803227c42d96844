"""Where places come from: the published list, grids, H3, cities, tables; duplicates and seams."""

import signal
import subprocess
import sys

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely
from scipy.spatial import cKDTree

from geoembed import weights
from geoembed.data import is_land, load_cities, load_countries
from geoembed.errors import (
    CoordinateError,
    MissingExtraError,
    MissingWeightsError,
    OptionError,
    PluginError,
    TableError,
    UnknownNameError,
)
from geoembed.extending.gallery_specs import GallerySpec
from geoembed.extending.registry import gallery_spec, weights_specs
from geoembed.galleries import Gallery, GalleryPlaces, builders, land, list_galleries, load_gallery
from geoembed.galleries.builders import (
    geoclip_100k,
    geoclip_100k_land45,
    grid_places,
    h3_places,
    land_places,
)
from geoembed.galleries.lattice import SPHERE_KM2, lattice_blocks, lattice_size
from geoembed.geodesy import EARTH_RADIUS_KM, to_unit_vectors
from geoembed.testing.galleries import check_gallery

FIJI = shapely.Polygon([(177, -19), (-178, -19), (-178, -16), (177, -16)])


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GEOEMBED_CACHE", str(tmp_path))


def nearest_km(lonlat):
    vectors = to_unit_vectors(lonlat)
    chord = cKDTree(vectors).query(vectors, k=2)[0][:, 1]
    return 2 * EARTH_RADIUS_KM * np.arcsin(chord / 2)


@pytest.fixture(scope="module")
def published():
    return geoclip_100k(gallery_spec("geoclip.100k"))


@pytest.mark.parametrize("name", ["geoclip.100k", "cities"])
def test_the_contract(name):
    check_gallery(name)


def test_duplicates_are_merged_as_pandas_counts_them(published):
    table = pd.read_csv(weights.checked_path(weights_specs()["geoclip.v1"], "gallery"))
    counted = table.groupby(["LON", "LAT"], sort=False).size()
    assert (len(table), len(published)) == (100_000, 94_123) == (len(table), len(counted))
    np.testing.assert_array_equal(published.lonlat, np.array(counted.index.tolist()))
    np.testing.assert_array_equal(published.counts, counted.to_numpy())
    assert published.counts.max() == 37


def test_the_land_grid_is_added_behind_the_published_places(published):
    both = geoclip_100k_land45(gallery_spec("geoclip.100k+land45"))
    np.testing.assert_array_equal(both.lonlat[: len(published)], published.lonlat)
    np.testing.assert_array_equal(both.lonlat[len(published) :], grid_places(45.0).lonlat)
    assert len(both) == 166_471


def test_what_is_equal_is_one_place_whatever_its_zero():
    places = GalleryPlaces.of([[0.0, -0.0], [1, 2], [-0.0, 0.0], [1, 2]], [1, 2, 3, 4], name="a")
    assert places.lonlat.tolist() == [[0, 0], [1, 2]]
    assert places.counts.tolist() == [4, 6]
    assert not np.signbit(places.lonlat).any()


@pytest.mark.parametrize(
    ("lonlat", "message"),
    [
        (np.empty((0, 2)), "at least one"),
        ([1.0, 2.0], "shape \\(n, 2\\)"),
        ([[1.0, 2.0, 3.0]], "shape \\(n, 2\\)"),
        ([[0, 0], [np.nan, 0]], "1 of 2 places .* the first at position 1"),
        ([[181.0, 0.0]], "out of range"),
        ([[0.0, 91.0]], "out of range"),
    ],
)
def test_places_that_are_none_are_refused(lonlat, message):
    with pytest.raises(CoordinateError, match=message):
        GalleryPlaces.of(lonlat, name="bad")


@pytest.mark.parametrize("counts", [[1], [1, 0], [1.5, 1.0], [[1, 1]]])
def test_counts_that_are_none_are_refused(counts):
    with pytest.raises(OptionError, match="counts= must be 2 whole numbers"):
        GalleryPlaces.of([[0, 0], [1, 1]], counts, name="bad")


@pytest.mark.parametrize("spacing", [2000.0, 500.0, 100.0, 45.0])
def test_the_lattice_is_even_and_has_no_seams(spacing):
    lonlat = np.concatenate(list(lattice_blocks(lattice_size(spacing))))
    apart = nearest_km(lonlat) / spacing
    assert apart.min() > 0.87
    assert apart.max() < 1.001
    # As even at the poles and at the antimeridian as elsewhere.
    for part in (np.abs(lonlat[:, 1]) > 80, np.abs(lonlat[:, 0]) > 175):
        if part.sum() > 20:
            assert np.median(apart[part]) == pytest.approx(np.median(apart), abs=0.03)
    # And no point of the Earth is far from all.
    random = np.random.default_rng(0).normal(size=(50_000, 3))
    random /= np.linalg.norm(random, axis=1, keepdims=True)
    chord = cKDTree(to_unit_vectors(lonlat)).query(random)[0]
    assert (2 * EARTH_RADIUS_KM * np.arcsin(chord / 2)).max() < 0.76 * spacing


def test_every_place_of_the_lattice_stands_for_the_same_area():
    lonlat = np.concatenate(list(lattice_blocks(lattice_size(50.0))))
    assert len(lonlat) == pytest.approx(SPHERE_KM2 / 50**2, abs=1)
    # In every part of a partition into parts of equal area there are equally many.
    bands = np.histogram(np.sin(np.radians(lonlat[:, 1])), bins=np.linspace(-1, 1, 41))[0]
    sectors = np.histogram(lonlat[:, 0], bins=np.linspace(-180, 180, 41))[0]
    for counts in (bands, sectors):
        assert np.ptp(counts) <= 0.01 * counts.mean()


def test_bands_of_the_lattice_are_parts_of_it():
    whole = np.concatenate(list(lattice_blocks(20_000)))
    for south, north in ((-90, 90), (-10, 35.5), (88, 90), (-90, -89.9), (0, 0)):
        part = np.concatenate([np.empty((0, 2)), *lattice_blocks(20_000, south, north)])
        inside = (whole[:, 1] >= south) & (whole[:, 1] <= north)
        np.testing.assert_array_equal(part, whole[inside])


def test_a_grid_lies_on_land_only():
    grid = grid_places(100.0).lonlat
    assert is_land(*grid.T).all()
    whole = grid_places(100.0, land_only=False).lonlat
    assert len(grid) == is_land(*whole.T).sum()
    # Natural Earth's land is 29 % of the Earth, Antarctica's ice included.
    assert len(grid) / len(whole) == pytest.approx(0.29, abs=0.01)


def test_a_grid_within_a_country_is_the_part_of_the_grid_that_lies_there():
    countries = load_countries()
    for name in ("Kenya", "Russia", "Fiji"):
        country = countries[countries["name"] == name]
        grid = grid_places(20.0, country).lonlat
        equal_area = country.to_crs("+proj=cea +R=6371008.8").area.sum() / 1e6
        assert len(grid) == pytest.approx(equal_area / 400, rel=0.25 if name == "Fiji" else 0.02)
    # Fiji lies on both sides of the antimeridian.
    assert (grid[:, 0] > 177).any()
    assert (grid[:, 0] < -178).any()


@pytest.mark.parametrize("make", [lambda w: grid_places(20.0, w, land_only=False),
                                  lambda w: h3_places(5, w, land_only=False)])  # fmt: skip
def test_polygons_may_cross_the_antimeridian_and_hold_a_pole(make):
    over = make(FIJI).lonlat
    assert (np.abs(over[:, 0]) > 176.999).all()
    assert {-1, 1} == set(np.sign(over[:, 0]))
    same = make(shapely.box(7, -19, 12, -16)).lonlat
    assert len(over) == pytest.approx(len(same), rel=0.15)
    pole = gpd.GeoSeries([shapely.Point(0, 0).buffer(500_000)], crs="EPSG:3413")
    around = make(pole).lonlat
    assert around[:, 1].min() > 84
    assert np.histogram(around[:, 0], bins=12, range=(-180, 180))[0].min() > 0


@pytest.mark.parametrize("make", [grid_places, lambda km, w: h3_places(3, w)])
def test_where_no_place_lies_is_an_error(make):
    with pytest.raises(CoordinateError, match="take a finer one, or land_only=False"):
        make(100.0, shapely.box(-30.1, 0, -30, 0.1))


@pytest.mark.parametrize("spacing", [0, -5, 0.05, 5001, float("nan"), "45", None, True])
def test_a_spacing_that_does_not_fit_is_refused(spacing):
    with pytest.raises(OptionError, match="give kilometres between 0.1 and 5000"):
        Gallery.grid(spacing)


def test_cells_of_h3_are_all_those_whose_centre_is_there():
    import h3

    whole = h3_places(2, land_only=False)
    assert len(whole) == h3.get_num_cells(2) == 5882
    np.testing.assert_array_equal(h3_places(2).lonlat, whole.lonlat[is_land(*whole.lonlat.T)])
    everywhere = h3_places(2, shapely.box(-180, -90, 180, 90), land_only=False)
    assert len(everywhere) == 5882
    # An edge of more than half a turn would go the short way, over the antimeridian.
    box = shapely.segmentize(shapely.box(-100, -60, 140, 70), 30.0)
    wide = h3_places(2, box, land_only=False).lonlat
    lon, lat = whole.lonlat.T
    assert len(wide) == ((lon > -100) & (lon < 140) & (lat > -60) & (lat < 70)).sum()


@pytest.mark.parametrize("resolution", [-1, 16, 2.0, True, "5"])
def test_a_resolution_that_does_not_fit_is_refused(resolution):
    with pytest.raises(OptionError, match="is no whole number from 0 to 15"):
        Gallery.h3(resolution)


def test_too_many_cells_for_the_whole_earth_are_refused():
    with pytest.raises(OptionError, match="too many cells for the whole Earth: give within="):
        Gallery.h3(9)


def test_without_h3_the_extra_is_named(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "h3", None)
    with pytest.raises(MissingExtraError, match="geoembed\\[h3\\]"):
        Gallery.h3(2)


def test_cities_by_population():
    cities = load_cities()
    gallery = Gallery.cities(1_000_000, encoder="xyz")
    large = cities[cities["population"] >= 1_000_000]
    np.testing.assert_array_equal(gallery.lonlat, large[["lon", "lat"]].drop_duplicates())
    assert gallery.name == "cities.1000000"
    with pytest.raises(OptionError, match="no city has so many people"):
        Gallery.cities(10**9)


def test_a_table_in_another_crs_becomes_a_gallery():
    frame = load_cities().head(50)
    gallery = Gallery.from_frame(frame.to_crs(3857), name="towns", encoder="xyz")
    np.testing.assert_allclose(gallery.lonlat, frame[["lon", "lat"]], atol=1e-9)
    twice = Gallery.from_frame(pd.concat([frame, frame]), encoder="xyz")
    assert twice.counts.tolist() == [2] * len(twice)
    table = gallery.frame()
    assert table.crs == "EPSG:4326"
    assert list(table.columns) == ["lon", "lat", "count", "geometry"]
    np.testing.assert_array_equal(shapely.get_coordinates(table.geometry), gallery.lonlat)


def test_polygons_need_to_say_what_stands_for_them():
    kenya = load_countries().query("iso_a2 == 'KE'")
    with pytest.raises(CoordinateError, match="no single points"):
        Gallery.from_frame(kenya, encoder="xyz")
    assert len(Gallery.from_frame(kenya, geometry="centroid", encoder="xyz")) == 1
    with pytest.raises(OptionError, match="many points of one row"):
        Gallery.from_frame(kenya, geometry="sample", encoder="xyz")


def test_longitudes_of_any_turn_are_taken_and_missing_ones_refused():
    gallery = Gallery.from_lonlat([[190.0, 5.0], [-170.0, 5.0]], encoder="xyz")
    assert (gallery.lonlat.tolist(), gallery.counts.tolist()) == ([[-170.0, 5.0]], [2])
    with pytest.raises(CoordinateError, match="1 of 2 rows hold no usable place"):
        Gallery.from_lonlat([[0.0, 0.0], [np.nan, 1.0]], encoder="xyz")


@pytest.mark.parametrize("name", ["", "a/b", "a b", 7])
def test_a_name_that_is_no_name_of_a_folder_is_refused(name):
    with pytest.raises(OptionError, match="does not fit: use letters"):
        Gallery.from_lonlat([[0, 0]], name=name, encoder="xyz")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dtype": "float64"}, "dtype='float64' is not one of: float32, float16"),
        ({"layers": "hidden"}, "offers only layers='final'"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_options_that_do_not_fit_are_refused(options, message):
    with pytest.raises((OptionError, TypeError), match=message):
        Gallery.from_lonlat([[0, 0]], encoder="xyz", **options)


def test_an_encoder_whose_vectors_have_any_length_is_refused():
    from geoembed.encoders import load_encoder

    with pytest.raises(OptionError, match="load it with normalize=True"):
        Gallery.from_lonlat([[0, 0]], encoder=load_encoder("xyz"))


def test_galleries_by_name():
    assert list_galleries() == [
        *("bluemarble.land", "cities", "geoclip.100k", "geoclip.100k+land45")
    ]
    gallery = load_gallery("cities", encoder="xyz")
    assert (gallery.name, gallery.encoder, gallery.layers) == ("cities", "xyz", "final")
    assert load_gallery(gallery) is gallery
    with pytest.raises(UnknownNameError, match="no gallery named 'geoclip.10k'.*'geoclip.100k'"):
        load_gallery("geoclip.10k")
    with pytest.raises(TableError, match="There is no folder of a gallery"):
        load_gallery("some/folder")
    with pytest.raises(OptionError, match="is no name and no folder"):
        load_gallery(7)


def test_a_factory_that_gives_other_things_is_named(monkeypatch):
    monkeypatch.setattr(builders, "city_places", lambda spec: [[0, 0]])
    with pytest.raises(PluginError, match="returned list instead of GalleryPlaces"):
        load_gallery("cities")


def test_without_the_weights_the_commands_that_get_them_are_named(monkeypatch):
    monkeypatch.setattr("geoembed.weights.store.find", lambda spec: None)
    with pytest.raises(MissingWeightsError, match="geoembed weights pull geoclip.v1"):
        geoclip_100k(GallerySpec(name="a", factory="a:b", summary=""))


@pytest.mark.parametrize("within", [FIJI, shapely.box(-180, 60, 180, 90), shapely.box(0, 0, 1, 1)])
def test_restrict_holds_and_leaves_nothing_out(published, within):
    gallery = Gallery.from_lonlat(published.lonlat[::20], encoder="xyz")
    lon, lat = gallery.lonlat.T
    west, south, east, north = within.bounds if within is not FIJI else (177, -19, 182, -16)
    inside = (np.mod(lon - west, 360) <= east - west) & (lat >= south) & (lat <= north)
    if not inside.any():
        with pytest.raises(CoordinateError, match="None of the .* places .* lies in within="):
            gallery.restrict(within)
        return
    part = gallery.restrict(within)
    np.testing.assert_array_equal(part.lonlat, gallery.lonlat[inside])
    np.testing.assert_array_equal(part.counts, gallery.counts[inside])
    np.testing.assert_array_equal(part.embeddings, gallery.embeddings[inside])
    assert part.digest != gallery.digest
    _, rows = part.search(gallery.embeddings[:50], 1)
    assert inside[np.flatnonzero(inside)[rows]].all()


def test_restrict_to_everywhere_is_the_gallery_itself():
    gallery = Gallery.cities(5_000_000, encoder="xyz")
    assert gallery.restrict(shapely.box(-180, -90, 180, 90)) is gallery


def test_polygons_in_another_crs_restrict_the_same():
    gallery = Gallery.cities(500_000, encoder="xyz")
    kenya = load_countries().query("iso_a2 == 'KE'")
    plain = gallery.restrict(kenya)
    np.testing.assert_array_equal(gallery.restrict(kenya.to_crs(3857)).lonlat, plain.lonlat)
    assert 0 < len(plain) < 20


def test_an_empty_grid_says_where_it_looked():
    sea = shapely.box(-140, -50, -130, -45)
    with pytest.raises(CoordinateError, match="lies on land within the polygons: take a finer"):
        Gallery.grid(50, within=sea)
    with pytest.raises(CoordinateError, match="900 km lies within the polygons: take a finer one"):
        Gallery.grid(900, within=shapely.box(0.1, 0.1, 0.2, 0.2), land_only=False)


# -- grids over all land, kept in the cache -------------------------------------------------------


def test_a_grid_over_all_land_is_laid_once(monkeypatch, tmp_path):
    monkeypatch.setattr(land, "_FEWEST", 10)
    laid = grid_places(500).lonlat
    everywhere = np.concatenate(list(lattice_blocks(lattice_size(500))))
    np.testing.assert_array_equal(laid, everywhere[is_land(*everywhere.T)])
    (file,) = (tmp_path / "grids").iterdir()
    with monkeypatch.context() as patch:
        patch.setattr(land, "is_land", lambda *a: pytest.fail("looked up again"))
        np.testing.assert_array_equal(grid_places(500).lonlat, laid)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    for damaged in (content, content[:100], b""):
        file.write_bytes(damaged)
        np.testing.assert_array_equal(grid_places(500).lonlat, laid)
        assert len(file.read_bytes()) == len(content)


def test_other_outlines_or_another_spacing_are_another_grid(monkeypatch, tmp_path):
    monkeypatch.setattr(land, "_FEWEST", 10)
    grid_places(500)
    grid_places(600)
    monkeypatch.setattr(land, "_VERSION", 2)
    grid_places(500)
    assert len(list((tmp_path / "grids").iterdir())) == 3


KILLED_LAYING = """
import os, signal
import numpy as np
from geoembed.galleries import land
def torn(stream, lonlat):
    stream.write(b"PK")
    stream.flush()
    os.kill(os.getpid(), signal.SIGKILL)
np.savez = torn
land._FEWEST = 10
land.land_grid_places(500)
"""


def test_what_a_killed_process_left_of_a_grid_is_cleared_by_the_next_one(monkeypatch, tmp_path):
    monkeypatch.setattr(land, "_FEWEST", 10)
    killed = subprocess.run([sys.executable, "-c", KILLED_LAYING], check=False)
    assert killed.returncode == -signal.SIGKILL
    (left,) = (tmp_path / "grids").iterdir()
    assert [path.read_bytes() for path in left.iterdir()] == [b"PK"]
    grid_places(600)
    (file,) = (tmp_path / "grids").iterdir()
    assert file.suffix == ".npz"


def test_a_cache_that_cannot_be_written_costs_only_time(monkeypatch, tmp_path):
    monkeypatch.setattr(land, "_FEWEST", 10)
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("GEOEMBED_CACHE", str(tmp_path / "file"))
    assert len(grid_places(500)) > 500


def test_the_land_of_the_blue_marble_has_no_antarctica():
    spec = GallerySpec(name="bluemarble.land", factory="a:b", summary="", encoder="bluemarble.v1")
    places = land_places(spec)
    assert places.name == "bluemarble.land"
    assert places.lonlat[:, 1].min() > -56
    assert places.lonlat[:, 1].max() < 75
    assert is_land(*places.lonlat.T).all()
    # 149 million km2 of land, less 14 of Antarctica and 2 in the far north.
    assert 12_800 < len(places) < 13_600
