import json
import os
import signal
import subprocess
import sys
import time
from xml.etree import ElementTree

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import rasterio
import shapely

import geoembed as ge
from geoembed.errors import CoordinateError, OptionError, TableError
from geoembed.heads import LocationClassifier, LocationRegressor
from geoembed.heads.files import rasters
from geoembed.heads.files.rasters import predict_raster

ALPS = (5.9, 45.8, 10.5, 47.8)


@pytest.fixture(scope="module")
def cities():
    table = ge.data.load_cities().head(1500)
    table["north"] = table["lat"].abs()
    table["climate"] = np.where(table["lat"].abs() < 23.4, "tropical", "temperate")
    return table


@pytest.fixture(scope="module")
def numbers(cities):
    return LocationRegressor("xyz").fit(cities, "north")


@pytest.fixture(scope="module")
def labels(cities):
    return LocationClassifier("xyz").fit(cities, "climate")


@pytest.mark.parametrize("file_format", ["cog", "gtiff"])
def test_cells_hold_what_the_head_predicts_at_their_centres(numbers, tmp_path, file_format):
    path = tmp_path / "north.tif"
    report = predict_raster(
        numbers, path, bounds=ALPS, resolution=0.1, file_format=file_format, progress=False
    )
    with rasterio.open(path) as raster:
        assert raster.crs.to_epsg() == 4326
        assert raster.descriptions == report.bands
        assert report.bands == (
            "predicted_north",
            "predicted_north_lower",
            "predicted_north_upper",
        )
        assert np.isnan(raster.nodata)
        rows, columns = np.divmod(np.arange(raster.width * raster.height), raster.width)
        lon, lat = raster.xy(rows, columns)
        got = raster.read()
    expected = numbers.predict_columns(pd.DataFrame({"lon": lon, "lat": lat})).to_numpy().T
    np.testing.assert_allclose(got.reshape(3, -1), expected, rtol=1e-5)
    assert report.predicted == got[0].size == report.width * report.height
    assert sorted(p.name for p in tmp_path.iterdir()) == ["north.tif"]


def test_a_cog_is_one_and_has_overviews(numbers, tmp_path):
    predict_raster(numbers, tmp_path / "a.tif", bounds=(0, 40, 30, 60), resolution=0.03)
    with rasterio.open(tmp_path / "a.tif") as raster:
        assert raster.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert raster.overviews(1)
        assert raster.block_shapes[0] == (512, 512)


def test_classes_keep_their_names(labels, tmp_path):
    path = tmp_path / "climate.tif"
    report = predict_raster(labels, path, bounds=(0, -40, 10, 60), resolution=1.0)
    assert report.bands == ("predicted_climate", "predicted_climate_probability")
    with rasterio.open(path) as raster:
        names = json.loads(raster.tags(1)["CLASSES"])
        codes, probability = raster.read()
    assert names == ["temperate", "tropical"]
    expected = labels.predict(np.array([[5.5, 59.5], [5.5, 0.5]]))
    assert [names[int(codes[0, 5])], names[int(codes[59, 5])]] == expected.tolist()
    assert ((probability >= 0.5) & (probability <= 1)).all()
    tree = ElementTree.parse(tmp_path / "climate.tif.aux.xml")
    assert [node.text for node in tree.iter("Category")] == names


def test_only_cells_inside_the_polygons_are_predicted(numbers, tmp_path):
    triangle = shapely.Polygon([(0, 0), (10, 0), (0, 10)])
    for name, within in (
        ("plain", triangle),
        ("projected", gpd.GeoSeries([triangle], crs=4326).to_crs(3857)),
    ):
        path = tmp_path / f"{name}.tif"
        report = predict_raster(numbers, path, within=within, resolution=0.5)
        with rasterio.open(path) as raster:
            known = np.isfinite(raster.read(1))
        assert known.shape == (20, 20)
        # Cells whose centre is inside: below the falling diagonal, which itself is outside.
        assert known.sum() == report.predicted
        assert known.sum() == pytest.approx(200, abs=10)
        assert known[19, 0]
        assert not known[0, 19]


def test_bands_can_be_chosen(numbers, tmp_path):
    predict_raster(
        numbers, tmp_path / "a.tif", bounds=ALPS, resolution=1, bands=["predicted_north_upper"]
    )
    with rasterio.open(tmp_path / "a.tif") as raster:
        assert raster.descriptions == ("predicted_north_upper",)


def test_a_projected_map_over_the_antimeridian(numbers, tmp_path):
    # The Fiji map grid crosses 180 degrees.
    path = tmp_path / "fiji.tif"
    predict_raster(
        numbers, path, within=shapely.box(177, -19, 182, -16), crs=3460, resolution=20_000
    )
    with rasterio.open(path) as raster:
        assert raster.crs.to_epsg() == 3460
        values = raster.read(1)
        middle = raster.xy(raster.height // 2, raster.width // 2)
    place = ge.read_places([middle], crs=3460)
    assert values[raster.height // 2, raster.width // 2] == pytest.approx(
        numbers.predict(place.lonlat)[0], rel=1e-5
    )


def test_extra_columns_come_from_rasters(cities, tmp_path):
    altitude = tmp_path / "altitude.tif"
    rows = np.arange(180, dtype=np.float32)[:, None] * np.ones((1, 360), dtype=np.float32)
    # Nothing is known of the south.
    rows[90:] = -9999
    with rasterio.open(
        altitude,
        "w",
        driver="GTiff",
        width=360,
        height=180,
        count=1,
        dtype="float32",
        nodata=-9999,
        crs="EPSG:4326",
        transform=rasterio.Affine(1, 0, -180, 0, -1, 90),
    ) as raster:
        raster.write(rows, 1)
    table = cities[cities["lat"] > 1].assign(altitude=lambda t: np.floor(90 - t["lat"]))
    head = LocationRegressor("xyz", extra_columns="altitude", coverage=None).fit(table, "altitude")
    path = tmp_path / "out.tif"
    predict_raster(
        head, path, bounds=(0, -10, 10, 10), resolution=1, extra_rasters={"altitude": altitude}
    )
    with rasterio.open(path) as raster:
        got = raster.read(1)
    np.testing.assert_allclose(got[:10], rows[80:90, :10], atol=0.5)
    assert np.isnan(got[10:]).all()
    with pytest.raises(OptionError, match="extra columns 'altitude': say where"):
        predict_raster(head, tmp_path / "b.tif", bounds=ALPS, resolution=1)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"resolution": -1}, OptionError, "is not a positive number"),
        ({"bands": ["predicted_south"]}, OptionError, "no band named 'predicted_south'"),
        ({"file_format": "jpeg"}, OptionError, "is not one of: cog, gtiff"),
        ({"extra_rasters": {"soil": "s.tif"}}, OptionError, "'soil', which the head does not take"),
        ({"output": "map.png"}, OptionError, "does not end in .tif"),
        ({"output": "no/such/map.tif"}, TableError, "There is no folder"),
        ({"within": shapely.Point(1, 1)}, CoordinateError, "holds no polygon"),
        ({"output": "there.tif"}, TableError, "exists. Replace it with force=True"),
    ],
)
def test_what_does_not_fit_is_refused_and_nothing_is_written(
    numbers, tmp_path, monkeypatch, options, error, message
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.tif").write_bytes(b"kept")
    given = {"output": "map.tif", "bounds": ALPS, "resolution": 0.5} | options
    with pytest.raises(error, match=message):
        predict_raster(numbers, given.pop("output"), **given)
    assert [p.name for p in tmp_path.iterdir()] == ["there.tif"]
    assert (tmp_path / "there.tif").read_bytes() == b"kept"


def test_an_unfinished_map_is_gone_on_with(numbers, tmp_path, monkeypatch):
    monkeypatch.setattr(rasters, "_STRIP_CELLS", 500)
    path = tmp_path / "a.tif"
    options = {"bounds": ALPS, "resolution": 0.05, "progress": False}
    predict = rasters._predict_strip
    strips = []

    def failing(*arguments):
        strips.append(arguments[-2])
        if len(strips) == 4:
            raise RuntimeError("the power went")
        return predict(*arguments)

    monkeypatch.setattr(rasters, "_predict_strip", failing)
    with pytest.raises(RuntimeError, match="the power went"):
        predict_raster(numbers, path, **options)
    assert not path.exists()
    with pytest.raises(TableError, match="Go on with resume=True"):
        predict_raster(numbers, path, **options)
    with pytest.raises(TableError, match="raster step was"):
        predict_raster(numbers, path, **options | {"resolution": 0.1}, resume=True)
    done = len(strips) - 1
    report = predict_raster(numbers, path, **options, resume=True)
    assert report.resumed == strips[3]
    assert len(strips) == len(set(strips)) + 1, "a finished strip was predicted again"
    assert done == 3
    whole = tmp_path / "b.tif"
    monkeypatch.undo()
    again = predict_raster(numbers, whole, **options)
    assert again.predicted == report.predicted
    with rasterio.open(path) as one, rasterio.open(whole) as other:
        np.testing.assert_array_equal(one.read(), other.read())


KILLED = """
import sys
import geoembed as ge
from geoembed.heads.files import rasters
rasters._STRIP_CELLS = 2000
cities = ge.data.load_cities().head(300)
cities["north"] = cities["lat"].abs()
head = ge.LocationRegressor("harmonics.l20").fit(cities, "north")
print("ready", flush=True)
ge.predict_raster(head, sys.argv[1], bounds=(-180, -90, 180, 90), resolution=0.5,
                  resume="resume" in sys.argv, progress=False)
"""


@pytest.mark.slow
def test_a_killed_run_loses_no_finished_strip(tmp_path):
    path = tmp_path / "a.tif"
    command = [sys.executable, "-c", KILLED, str(path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ)
    assert process.stdout.readline() == "ready\n"
    parts = tmp_path / "a.tif.part" / "parts"
    deadline = time.monotonic() + 60
    while len(list(parts.glob("*.npy"))) < 5:
        assert process.poll() is None, "it was done too soon to be killed"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert not path.exists()
    before = {p.name: p.stat().st_mtime_ns for p in parts.glob("0*.npy")}
    subprocess.run([*command, "resume"], check=True, capture_output=True)
    with rasterio.open(path) as raster:
        assert np.isfinite(raster.read()).all()
    assert len(before) >= 5
    assert [p.name for p in tmp_path.iterdir()] == ["a.tif"]


@pytest.mark.slow
def test_memory_does_not_grow_with_the_map(numbers, tmp_path):
    def peak(resolution):
        code = (
            "import resource, sys, geoembed as ge\n"
            "c = ge.data.load_cities().head(300); c['north'] = c['lat'].abs()\n"
            "head = ge.LocationRegressor('xyz').fit(c, 'north')\n"
            f"ge.predict_raster(head, sys.argv[1], bounds=(-180, -90, 180, 90), "
            f"resolution={resolution}, progress=False)\n"
            "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
        )
        name = tmp_path / f"{resolution}.tif"
        done = subprocess.run(
            [sys.executable, "-c", code, str(name)], check=True, capture_output=True, text=True
        )
        return int(done.stdout) / 1024

    small, large = peak(0.5), peak(0.1)
    # 26 million values more; the overviews of GDAL may use its block cache, 5 % of the memory.
    assert large < small + 300, f"{small:.0f} MB and {large:.0f} MB"
