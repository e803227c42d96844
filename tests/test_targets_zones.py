"""class_fractions() and zonal_mean(): analytic areas, brute force, and every kind of raster."""

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import rasterio
import shapely
from pyproj import Geod, Transformer
from rasterio.transform import Affine
from shapely.geometry import MultiPolygon, Point, Polygon, box

import geoembed as ge
from geoembed.errors import CoordinateError, OptionError, TargetError
from geoembed.targets import OutsideRasterWarning, class_fractions, gathering, zonal_mean
from geoembed.targets.areas import Discs
from geoembed.targets.grids import Grid, authalic_sine
from geoembed.targets.laying import areas_m2
from geoembed.targets.raster import read_rasters

WGS84 = Geod(ellps="WGS84")
EQUAL_AREA_WORLD = Affine(25025, 0, -17367530, 0, -25025, 7314540)


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


def discs(lonlat, radius):
    lonlat = np.array(lonlat, dtype=float)
    valid = np.ones(len(lonlat), dtype=bool)
    return Discs(lonlat, np.full(len(lonlat), float(radius)), valid, pd.RangeIndex(len(lonlat)))


def inside_disc(lon, lat, radius, count, seed=0):
    """Places spread evenly over a geodesic disc, by another way than the library's."""
    rng = np.random.default_rng(seed)
    # Rings of equal area, each cut evenly, with a little noise: better than independent draws.
    rings = int(np.sqrt(count / 4))
    distance = radius * np.sqrt(
        (np.repeat(np.arange(rings), 4 * rings) + rng.random(4 * rings**2)) / rings
    )
    azimuth = 360 * (np.tile(np.arange(4 * rings), rings) + rng.random(4 * rings**2)) / (4 * rings)
    there = WGS84.fwd(np.full(len(azimuth), lon), np.full(len(azimuth), lat), azimuth, distance)
    return np.stack(there[:2], axis=1)


# --- areas ---------------------------------------------------------------------------


@pytest.mark.parametrize("radius", [30.0, 1000.0, 9999.0, 10001.0, 250_000.0, 2_000_000.0])
def test_discs_have_the_area_of_geodesic_discs(radius):
    lonlat = [[0, 0], [13, 70], [180, -40], [-179.999, 5], [50, 89.99], [7, 90], [0, -90], [3, 45]]
    parts, owner = discs(lonlat, radius).parts(np.arange(8))
    assert owner.tolist() == list(range(8))
    # A disc on a sphere of the ellipsoid's curvature; on the ellipsoid that holds to 10^-4 or so.
    a, e2 = 6378137.0, 0.0066943799901413165
    curvature = (1 - e2 * np.sin(np.radians([p[1] for p in lonlat])) ** 2) ** 2 / (a**2 * (1 - e2))
    expected = 2 * np.pi / curvature * (1 - np.cos(radius * np.sqrt(curvature)))
    np.testing.assert_allclose(areas_m2(parts), expected, rtol=2e-3 if radius > 1e6 else 2e-4)


def test_corners_of_discs_lie_at_the_radius():
    for radius in (1000.0, 10_000.0, 300_000.0):
        (disc,), _ = discs([[179.99, 62.0]], radius).parts(np.array([0]))
        corners = shapely.get_coordinates(disc)
        _, _, metres = WGS84.inv(
            np.full(len(corners), 179.99), np.full(len(corners), 62.0), *corners.T
        )
        np.testing.assert_allclose(metres, radius, rtol=0.002)


def test_areas_of_boxes_and_countries_against_geodesics():
    boxes = np.array([box(10, 60, 20, 80), box(170, -10, 195, 5), box(-180, -90, 180, -70)])
    dense = [shapely.segmentize(b, 0.01).exterior.coords for b in boxes[:2]]
    exact = [abs(WGS84.polygon_area_perimeter(*np.array(c).T)[0]) for c in dense]
    ours = areas_m2(boxes)
    np.testing.assert_allclose(ours[:2], exact, rtol=1e-6)
    whole = authalic_sine(np.array([-90.0, -70.0]))
    assert ours[2] == pytest.approx(np.diff(whole)[0] * np.pi * 6378137.0**2)


# --- shares of classes against analytic areas -------------------------------------------


@pytest.mark.parametrize(
    ("lon", "lat"), [(10.0, 0.0), (10.0, 70.0), (180.0, 0.0), (-180.0, 70.0), (180.0, -55.0)]
)
@pytest.mark.parametrize("cells_across", [0.5, 2.0, 11.0, 60.0])
def test_segments_of_discs_equal_their_formula(tmp_path, lon, lat, cells_across):
    """East and west of a meridian that cuts the disc at a known distance from its centre."""
    radius = 10_000.0
    step = np.degrees(2 * radius / 6371000) / cells_across
    step = 360 / (2 * round(180 / step))
    width = round(360 / step)
    # Columns turn so that a line between two of them is the meridian `lon`.
    west = lon - 180.0
    height = round(8 * radius / 111000 / step) + 2
    transform = Affine(step, 0, west, 0, -step, lat + height * step / 2)
    values = np.repeat([[1, 2]], width // 2, axis=1).repeat(height, axis=0).astype("uint8")
    path = write(tmp_path / "halves.tif", values, transform, compress="deflate")
    across = 6378137 / np.sqrt(1 - 0.00669438 * np.sin(np.radians(lat)) ** 2)
    for part in (-0.8, -0.3, 0.0, 0.5, 0.9):
        at = lon + np.degrees(part * radius / (across * np.cos(np.radians(lat))))
        got = class_fractions([[at, lat]], path, radius_m=radius)
        expected = (np.arccos(part) - part * np.sqrt(1 - part**2)) / np.pi
        # The meridian bends: at 70 degrees by a thousandth of the radius here.
        assert got.loc[0, 1] == pytest.approx(expected, abs=0.002)
        assert got.loc[0].sum() == pytest.approx(1.0)


def test_boxes_equal_their_formula(tmp_path):
    """Bands of latitude, whose areas in a box are differences of the authalic sine."""
    values = np.repeat(np.arange(18, dtype="uint8")[:, None], 36, axis=1)
    path = write(tmp_path / "bands.tif", values, globe(10))
    boxes = [box(3, 62, 4, 77), box(175, -5, 190, 12), box(-180, -90, 180, 90), box(-9, 85, 9, 90)]
    got = class_fractions(boxes, path)
    for shape, shares in zip(boxes, got.to_numpy(), strict=True):
        _, south, _, north = shape.bounds
        edges = np.clip(np.arange(90, -91, -10.0), south, north)
        q = authalic_sine(edges)
        np.testing.assert_allclose(shares, np.diff(q) / (q[-1] - q[0]), atol=1e-9)


def test_a_disc_over_the_pole_sees_all_longitudes(tmp_path):
    values = np.repeat(np.arange(4, dtype="uint8")[None], 45, axis=1).reshape(1, 4, 45)
    values = np.tile(np.repeat(np.arange(4, dtype="uint8"), 90), (180, 1))
    path = write(tmp_path / "quarters.tif", values, globe(1))
    got = class_fractions([[77, 90], [-120, -90], [45, 89.99]], path, radius_m=[5e4, 1e6, 1e5])
    np.testing.assert_allclose(got[:2], 0.25, atol=1e-6)
    # 1.1 km from the pole towards the middle of the third quarter.
    assert got.loc[2].to_numpy() == pytest.approx([0.2450, 0.2500, 0.2550, 0.2500], abs=0.002)


# --- all kinds of rasters against brute force -------------------------------------------


@pytest.mark.parametrize(
    ("crs", "transform", "shape", "spots"),
    [
        (4326, globe(0.5), (360, 720), [(10, 0), (20, 70), (180, 64), (-179.9, -17), (5, 89.7)]),
        (4326, globe(0.5, 0.0), (360, 720), [(0, 10), (359.9, 50), (180, 0), (30, -90)]),
        (6933, EQUAL_AREA_WORLD, (584, 1388), [(10, 0), (20, 70), (180, 30), (-179.5, -60)]),
        (8857, Affine(30000, 0, -17250000, 0, -30000, 8400000), (560, 1150),
         [(10, 0), (20, 70), (180, 30), (-179.5, -60), (0, 90), (100, -89.8)]),
        (3413, Affine(9000, 0, -3e6, 0, -9000, 3e6), (667, 667), [(0, 90), (170, 75), (180, 80)]),
        (32660, Affine(5000, 0, 1e5, 0, -5000, 3e6), (500, 160),
         [(177, 20), (179.9, 15), (-180, 8)]),
        (3857, Affine(40000, 0, -20037508.34, 0, -40000, 20037508.34), (1002, 1002),
         [(10, 0), (20, 70), (180, 30)]),
        (4326, Affine(0.1, 0.05, 5, 0.02, -0.1, 50), (200, 300), [(17, 42), (25, 40)]),
        (4326, Affine(0.1, 0.05, 170, 0.02, -0.1, 50), (200, 300), [(180, 42), (-175, 40)]),
    ],
)  # fmt: skip
@pytest.mark.parametrize("radius", [8_000.0, 120_000.0])
def test_means_over_discs_equal_brute_force(tmp_path, crs, transform, shape, spots, radius):
    rng = np.random.default_rng(0)
    values = rng.random(shape)
    path = write(
        tmp_path / "noise.tif", values, transform, crs, tiled=True, blockxsize=64, blockysize=64
    )
    got = zonal_mean([[*spot] for spot in spots], path, radius_m=radius, valid_column="valid")
    with rasterio.open(path) as dataset:
        way = Transformer.from_crs(4326, dataset.crs, always_xy=True)
        inverse = ~dataset.transform
    for (lon, lat), (mean, valid) in zip(spots, got.to_numpy(), strict=True):
        there = inside_disc(lon, lat, radius, 40_000)
        if crs == 4326 and transform.c in (0.0, 170.0):
            there[:, 0] %= 360
        x, y = way.transform(*there.T)
        column = np.floor(inverse.a * x + inverse.b * y + inverse.c).astype(int)
        row = np.floor(inverse.d * x + inverse.e * y + inverse.f).astype(int)
        on = (row >= 0) & (row < shape[0]) & (column >= 0) & (column < shape[1])
        assert valid == pytest.approx(on.mean(), abs=0.01)
        if on.mean() > 0.5:
            assert mean == pytest.approx(values[row[on], column[on]].mean(), abs=0.006)


def test_means_over_countries_equal_brute_force(tmp_path):
    """A smooth field on three grids, over shapes with islands, holes and the antimeridian."""
    countries = ge.data.load_countries().set_index("name")
    names = ["Kenya", "Fiji", "Russia", "South Africa", "Antarctica", "Norway", "Lesotho"]
    shapes = countries.loc[names]

    def field(lon, lat):
        return np.sin(np.radians(3 * lat)) + np.cos(np.radians(lat)) * np.cos(np.radians(2 * lon))

    owner, lonlat = ge.geometries.sample_points(list(shapes.geometry), 20_000)
    expected = np.bincount(owner, field(*lonlat.T)) / np.bincount(owner)
    for crs, transform, size in [
        (4326, globe(0.25), (720, 1440)),
        (4326, globe(0.25, 0.0), (720, 1440)),
        (8857, Affine(20000, 0, -17250000, 0, -20000, 8400000), (840, 1725)),
    ]:
        column, row = np.meshgrid(np.arange(size[1]) + 0.5, np.arange(size[0]) + 0.5)
        x = transform.a * column + transform.c
        y = transform.e * row + transform.f
        lon, lat = Transformer.from_crs(crs, 4326, always_xy=True).transform(x, y)
        with np.errstate(invalid="ignore"):
            values = np.where(np.isfinite(lon), field(lon, lat), np.nan)
        path = write(tmp_path / f"{crs}{transform.c}.tif", values, transform, crs)
        got = zonal_mean(shapes, path)
        assert list(got.index) == names
        np.testing.assert_allclose(got, expected, atol=0.004)


def test_the_antimeridian_makes_no_difference(tmp_path):
    rng = np.random.default_rng(0)
    values = rng.integers(0, 5, (180, 360)).astype("uint8")
    one = write(tmp_path / "a.tif", values, globe(1))
    other = write(tmp_path / "b.tif", np.roll(values, 180, axis=1), globe(1, 0.0))
    more = write(tmp_path / "c.tif", np.roll(values, 123, axis=1)[:, :], globe(1, -303.0))
    lonlat = np.concatenate([places(300), [[180, 0], [-180, 0], [179.9, 66], [0, 90]]])
    radius = np.resize([2e4, 1e5, 9e5], len(lonlat))
    first = class_fractions(lonlat, one, radius_m=radius)
    np.testing.assert_allclose(class_fractions(lonlat, other, radius_m=radius), first, atol=1e-9)
    np.testing.assert_allclose(class_fractions(lonlat, more, radius_m=radius), first, atol=1e-9)
    np.testing.assert_allclose(first.loc[300], first.loc[301])
    np.testing.assert_allclose(first.sum(axis=1), 1.0)
    drawn = [
        Polygon([(170, -20), (-170, -20), (-165, 10), (172, 5)]),
        MultiPolygon([box(170, -20, 180, 5), box(-180, -20, -171, 5)]),
        Polygon([(170, -20), (190, -20), (195, 10), (172, 5)]),
    ]
    shares = class_fractions(drawn, one)
    np.testing.assert_allclose(shares, class_fractions(drawn, other), atol=1e-9)
    np.testing.assert_allclose(shares.loc[0], shares.loc[2], atol=1e-9)


def test_columns_that_repeat_others_count_once(tmp_path):
    """A grid whose cells have their centres on whole degrees, both ends of the turn included."""
    values = np.tile(np.arange(361) % 360, (181, 1)).astype("int16")
    path = write(tmp_path / "ends.tif", values, Affine(1, 0, -180.5, 0, -1, 90.5))
    got = class_fractions([[180, 0], [-179.9, 0]], path, radius_m=30_000, valid_column="valid")
    assert got["valid"].tolist() == [1.0, 1.0]
    assert got[0].tolist() == [1.0, 1.0]


# --- mosaics -------------------------------------------------------------------------


def vrt_of(folder, paths, size):
    sources = "".join(
        f"<SimpleSource><SourceFilename relativeToVRT='1'>{path.name}</SourceFilename>"
        f"<SourceBand>1</SourceBand><SrcRect xOff='0' yOff='0' xSize='{size}' ySize='{size}'/>"
        f"<DstRect xOff='{x}' yOff='{y}' xSize='{size}' ySize='{size}'/></SimpleSource>"
        for path, x, y in paths
    )
    vrt = folder / "mosaic.vrt"
    vrt.write_text(
        "<VRTDataset rasterXSize='360' rasterYSize='180'><SRS>EPSG:4326</SRS>"
        "<GeoTransform>-180, 1, 0, 90, 0, -1</GeoTransform>"
        f"<VRTRasterBand dataType='Byte' band='1'>{sources}</VRTRasterBand></VRTDataset>"
    )
    return vrt


def test_tiles_and_mosaics_equal_the_whole(tmp_path):
    rng = np.random.default_rng(0)
    values = rng.integers(0, 5, (180, 360)).astype("uint8")
    whole = write(tmp_path / "whole.tif", values, globe(1))
    tiles = []
    for x in range(0, 360, 60):
        for y in range(0, 180, 60):
            path = tmp_path / f"{x}_{y}.tif"
            write(path, values[y : y + 60, x : x + 60], Affine(1, 0, x - 180, 0, -1, 90 - y))
            tiles.append((path, x, y))
    cog = write(tmp_path / "cog.tif", values, globe(1), driver="COG", blocksize=128)
    lonlat = np.concatenate([places(200), [[180, 3], [0, 90], [-60, 30]]])
    expected = class_fractions(lonlat, whole, radius_m=150_000)
    for source in ([path for path, *_ in tiles], vrt_of(tmp_path, tiles, 60), cog):
        got = class_fractions(lonlat, source, radius_m=150_000)
        np.testing.assert_allclose(got, expected, atol=1e-9)
    with rasterio.open(whole) as dataset:
        pd.testing.assert_frame_equal(class_fractions(lonlat, dataset, radius_m=150_000), expected)


def test_of_overlapping_rasters_the_first_with_a_value_counts(tmp_path):
    fine = np.full((40, 40), 1, "uint8")
    fine[:, 20:] = 255
    first = write(tmp_path / "fine.tif", fine, Affine(0.1, 0, 0, 0, -0.1, 4), nodata=255)
    under = write(tmp_path / "under.tif", np.full((8, 8), 7, "uint8"), Affine(1, 0, -2, 0, -1, 6))
    got = class_fractions([box(0, 0, 4, 4), box(-2, 1, 4, 2)], [first, under], valid_column="ok")
    assert got[1].tolist() == pytest.approx([0.5, 1 / 3])
    assert got[7].tolist() == pytest.approx([0.5, 2 / 3])
    assert got["ok"].tolist() == [1.0, 1.0]


def test_small_portions_give_the_same(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    values = rng.integers(0, 5, (360, 720)).astype("uint8")
    path = write(tmp_path / "v.tif", values, globe(0.5), tiled=True, blockxsize=32, blockysize=32)
    lonlat, shapes = places(60), ge.data.load_countries().iloc[::12]
    once = class_fractions(lonlat, path, radius_m=2e5), class_fractions(shapes, path)
    monkeypatch.setattr(gathering, "_CORNERS", 500)
    monkeypatch.setattr(gathering, "_CELLS", 300)
    monkeypatch.setattr("geoembed.targets.coverage._WINDOW", 1024)
    monkeypatch.setattr("geoembed.targets.raster._TILE", 1024)
    again = class_fractions(lonlat, path, radius_m=2e5), class_fractions(shapes, path)
    for before, after in zip(once, again, strict=True):
        pd.testing.assert_frame_equal(before, after)


# --- values and columns -----------------------------------------------------------------


@pytest.fixture
def stripes(tmp_path):
    """Four classes side by side, 10 degrees each; 255 is no data."""
    values = np.repeat(np.array([[0, 10, 255, 3]], "uint8"), 10, axis=1).repeat(10, axis=0)
    return write(tmp_path / "s.tif", values, Affine(1, 0, 0, 0, -1, 5), nodata=255)


def test_columns_are_the_classes_that_occur(stripes):
    got = class_fractions([box(8, -1, 12, 1), box(9, -1, 15, 1)], stripes)
    assert list(got.columns) == [0, 10]
    assert [type(name) for name in got.columns] == [int, int]
    np.testing.assert_allclose(got, [[0.5, 0.5], [1 / 6, 5 / 6]])


def test_classes_are_named_merged_and_ordered(stripes):
    areas = [box(8, -1, 12, 1), box(32, -1, 34, 1)]
    got = class_fractions(areas, stripes, classes={3: "dry", 10: "wet", 0: "dry", 99: "ice"})
    assert got.to_dict("list") == {"dry": [0.5, 1.0], "wet": [0.5, 0.0], "ice": [0.0, 0.0]}
    assert list(class_fractions(areas, stripes, classes=[10, 3, 0]).columns) == [10, 3, 0]


def test_names_in_the_file_are_used(stripes, tmp_path):
    names = "".join(f"<Category>{name}</Category>" for name in ["sea", "", "", "sand"])
    (tmp_path / "s.tif.aux.xml").write_text(
        f"<PAMDataset><PAMRasterBand band='1'><CategoryNames>{names}</CategoryNames>"
        "</PAMRasterBand></PAMDataset>"
    )
    got = class_fractions([box(8, -1, 12, 1), box(32, -1, 34, 1)], stripes)
    assert list(got.columns) == ["sea", "sand", 10]


def test_values_beyond_the_classes(stripes):
    areas = [box(8, -1, 12, 1), box(32, -1, 34, 1)]
    with pytest.raises(TargetError, match=r"not among classes=: 3, 10 \(66.67% of the area\)"):
        class_fractions(areas, stripes, classes=[0])
    other = class_fractions(areas, stripes, classes=[0], rest="other")
    assert other.to_dict("list") == {0: [0.5, 0.0], "other": [0.5, 1.0]}
    none = class_fractions(areas[:1], stripes, classes=[0, 3, 10], rest="other")
    assert list(none.columns) == [0, 3, 10, "other"]
    out = class_fractions(areas, stripes, classes=[0], rest="nodata", min_valid=0.4)
    np.testing.assert_array_equal(out[0], [1.0, np.nan])
    with pytest.raises(OptionError, match="rest= applies to values that are not among classes="):
        class_fractions(areas, stripes, rest="other")
    with pytest.raises(OptionError, match="rest='wet' is the name of a class"):
        class_fractions(areas, stripes, classes={0: "wet"}, rest="wet")


def test_areas_without_enough_data_are_missing(stripes):
    areas = [box(14, -1, 22, 1), box(19, -1, 29, 1), box(21, -1, 22, 1), box(9, -1, 11, 1)]
    got = class_fractions(areas, stripes, valid_column="valid")
    assert list(got.columns) == [0, 10, "valid"]
    np.testing.assert_allclose(got["valid"], [0.75, 0.1, 0.0, 1.0], atol=1e-9)
    assert got[10].isna().tolist() == [False, True, True, False]
    got = class_fractions(areas, stripes, min_valid=0)
    assert got[10].isna().tolist() == [False, False, True, False]
    assert class_fractions(areas, stripes, min_valid=1)[10].notna().tolist() == [False] * 3 + [True]
    for wrong in (-0.1, 1.5, np.nan):
        with pytest.raises(OptionError, match="must be a share from 0 to 1"):
            class_fractions(areas, stripes, min_valid=wrong)
    with pytest.raises(OptionError, match="valid_column=10 is the name of another column"):
        class_fractions(areas, stripes, valid_column=10)


def test_areas_off_the_raster(stripes):
    frame = gpd.GeoDataFrame(
        geometry=[box(1, 1, 2, 2), box(50, 50, 51, 51), box(-2, 1, 1, 2), box(-1, 1, 2, 2)],
        crs=4326, index=list("abcd"),
    )  # fmt: skip
    with pytest.warns(
        OutsideRasterWarning, match="^2 of 4 areas lie off the raster: rows 'b', 'c'"
    ):
        got = class_fractions(frame, stripes, valid_column="valid")
    assert got[0].isna().tolist() == [False, True, True, False]
    np.testing.assert_allclose(got["valid"], [1, 0, 1 / 3, 2 / 3])
    with pytest.raises(TargetError, match="rows 'b', 'c'"):
        class_fractions(frame, stripes, on_outside="raise")
    with pytest.warns(OutsideRasterWarning, match="^1 of 4"):
        class_fractions(frame, stripes, min_valid=0.1)


def test_means_of_bands_scaled_with_gaps(tmp_path):
    values = np.array([[[2, 4, -1, 8]], [[0, 0, 6, 6]]], "int16")
    path = tmp_path / "m.tif"
    write(path, values, Affine(1, 0, 0, 0, -1, 0.5), nodata=-1)
    with rasterio.open(path, "r+") as dataset:
        dataset.scales, dataset.offsets = (0.5, 1.0), (10.0, 0.0)
        dataset.descriptions = ("heat", None)
    areas = [box(0, 0, 2, 0.25), box(1, 0, 3, 0.5), box(2, 0, 3, 0.1)]
    got = zonal_mean(areas, path, ["heat", 2])
    assert list(got.columns) == ["heat", "band_2"]
    np.testing.assert_allclose(got, [[11.5, 0.0], [12.0, 3.0], [np.nan, 6.0]])
    one = zonal_mean(areas, path)
    assert one.name == "heat"
    np.testing.assert_allclose(one, got["heat"])
    assert zonal_mean(areas, path, valid_column="ok").shape == (3, 2)


def test_palettes_have_no_mean_and_measurements_no_classes(tmp_path):
    path = write(tmp_path / "p.tif", np.zeros((2, 4), "uint8"), globe(90))
    with rasterio.open(path, "r+") as dataset:
        dataset.write_colormap(1, {0: (1, 2, 3, 255)})
    with pytest.raises(TargetError, match="has a colour table: its values are codes of classes"):
        zonal_mean([box(0, 0, 1, 1)], path)
    assert class_fractions([box(0, 0, 1, 1)], path).to_dict("list") == {0: [1.0]}
    noise = np.random.default_rng(0).random((60, 60))
    path = write(tmp_path / "n.tif", noise, Affine(1, 0, 0, 0, -1, 60))
    with pytest.raises(TargetError, match="more than 1,024 different values"):
        class_fractions([box(0, 0, 60, 60)], path)
    got = class_fractions([box(0, 0, 2, 2)], path)
    np.testing.assert_allclose(sorted(got.columns), np.sort(noise[-2:, :2].ravel()))


# --- input ---------------------------------------------------------------------------


def test_points_need_a_radius_and_polygons_must_not_have_one(stripes):
    with pytest.raises(OptionError, match="These are points: give radius_m="):
        class_fractions([[1, 1]], stripes)
    with pytest.raises(
        TargetError, match=r"no polygons: row 0 \(Point\). For points give radius_m="
    ):
        class_fractions([Point(1, 1), box(0, 0, 1, 1)], stripes)
    with pytest.raises(OptionError, match="there are polygons here: leave it out"):
        class_fractions([box(0, 0, 1, 1)], stripes, radius_m=5)
    for radius in (0, -1, np.nan, 6e6, [1, -1]):
        with pytest.raises(OptionError, match="metres above 0 and at most 5,000,000"):
            class_fractions([[1, 1], [2, 2]], stripes, radius_m=radius)
    with pytest.raises(OptionError, match="one for each of the 2 points"):
        class_fractions([[1, 1], [2, 2]], stripes, radius_m=[1, 2, 3])
    with pytest.raises(OptionError, match="must be a single band"):
        class_fractions([[1, 1]], stripes, [1], radius_m=5)


def test_rows_keep_their_index_and_crs(stripes):
    frame = gpd.GeoDataFrame(
        geometry=[box(8, -1, 12, 1), None, box(11, -1, 12, 1)], crs=4326, index=[5, 5, 1]
    )
    with pytest.raises(TargetError, match="1 of 3 areas are missing, empty .*row 5. .*on_invalid"):
        class_fractions(frame, stripes)
    got = class_fractions(frame, stripes, on_invalid="nan", valid_column="valid")
    assert list(got.index) == [5, 5, 1]
    np.testing.assert_allclose(got[0], [0.5, np.nan, 0])
    assert got["valid"].isna().tolist() == [False, True, False]
    mercator = class_fractions(frame.to_crs(3857), stripes, on_invalid="nan")
    np.testing.assert_allclose(mercator[0], [0.5, np.nan, 0])
    points = frame.set_geometry(
        gpd.GeoSeries([Point(10, 0), None, Point(3, 0)], crs=4326, index=frame.index)
    )
    got = zonal_mean(points, stripes, radius_m=1000, on_invalid="nan")
    np.testing.assert_allclose(got, [5.0, np.nan, 0.0])
    assert class_fractions(frame.iloc[:0], stripes).shape == (0, 0)
    assert zonal_mean(np.empty((0, 2)), stripes, radius_m=5).shape == (0,)


def test_polygons_that_cross_themselves(stripes):
    bow = Polygon([(0, 0), (2, 2), (2, 0), (0, 2)])
    with pytest.raises(TargetError, match="1 of 2 areas cross themselves: row 1 .the first: Self"):
        class_fractions([box(1, 1, 2, 2), bow], stripes)
    got = class_fractions([bow], stripes, repair=True)
    assert got.to_dict("list") == {0: [1.0]}
    over = Polygon([(179, -19), (-178, -17), (-178, -19), (179, -17)])
    with pytest.raises(TargetError, match="cross themselves"):
        class_fractions([over], stripes)


def test_frames_without_a_crs_and_latitudes_that_are_none(stripes):
    frame = gpd.GeoDataFrame(geometry=[box(8, -1, 12, 1)])
    with pytest.raises(CoordinateError, match="There is no CRS"):
        class_fractions(frame, stripes)
    assert class_fractions(frame, stripes, crs=4326).shape == (1, 2)
    with pytest.raises(CoordinateError, match="Latitudes outside .-90, 90. in row 0"):
        class_fractions([box(8, 80, 12, 100)], stripes)


def test_a_shape_that_a_projection_tears_is_sampled(tmp_path):
    """Azimuthal maps have no seam to cut along: far shapes are torn around the antipode."""
    crs = "+proj=laea +lat_0=0 +lon_0=0 +datum=WGS84"
    path = write(
        tmp_path / "laea.tif", np.full((260, 260), 3.0), Affine(1e5, 0, -13e6, 0, -1e5, 13e6), crs
    )
    got = zonal_mean([[180, 0], [178, 1], [0, 0]], path, radius_m=1e6, valid_column="valid")
    np.testing.assert_allclose(got["band_1"], 3.0)
    np.testing.assert_allclose(got["valid"], 1.0, atol=0.02)


def test_sizes_of_projected_cells(tmp_path):
    path = write(tmp_path / "e.tif", np.ones((584, 1388)), EQUAL_AREA_WORLD, 6933)
    grid = Grid(read_rasters(path)[0])
    row, column = np.array([0, 292, 583, 100]), np.array([0, 700, 1387, 3])
    np.testing.assert_allclose(grid.cell_areas(row, column), 25025.0**2, rtol=1e-3)
    path = write(tmp_path / "m.tif", np.ones((2, 100)), Affine(1e4, 0, 0, 0, -1e4, 8.4e6), 3857)
    grid = Grid(read_rasters(path)[0])
    lat = grid.to_lonlat(np.array([[50.5, 0.5]]))[0, 1]
    # Mercator stretches by the secant: the ellipsoid's radii times the cosine of latitude.
    flat = 1 - 0.00669438 * np.sin(np.radians(lat)) ** 2
    true = 1e8 * np.cos(np.radians(lat)) ** 2 * (1 - 0.00669438) / flat**2
    np.testing.assert_allclose(grid.cell_areas(np.array([0]), np.array([50])), true, rtol=1e-4)
