"""The HTML page without a browser: what is in it, what cannot get into it, what is refused."""

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from importlib.resources import files
from io import BytesIO

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely
from PIL import Image

import geoembed
from geoembed.data import is_land, load_land
from geoembed.errors import CoordinateError, OptionError, PictureError, TableError
from geoembed.webmap import write_map
from geoembed.webmap.outlines import STEP, encode_line, encode_polygon, pack_world

HOSTILE = '</script><!-- %%data%% <img src="http://example.invalid/x.png" onerror=alert(1)>.jpg'


class Elements(HTMLParser):
    """Tags with their attributes and text, as a browser would split the page."""

    def __init__(self, page):
        super().__init__()
        self.found = []
        self.inside = False
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.found.append([tag, dict(attrs), ""])
        self.inside = tag not in {"meta", "link", "input"}

    def handle_endtag(self, tag):
        self.inside = False

    def handle_data(self, data):
        if self.inside:
            self.found[-1][2] += data

    def all(self, tag):
        return [(attributes, text) for name, attributes, text in self.found if name == tag]


def read(path):
    page = path.read_text("utf-8")
    elements = Elements(page)
    (data,) = [t for a, t in elements.all("script") if a.get("type") == "application/json"]
    return page, elements, json.loads(data)


def decode(text, step):
    """The other way round, by the definition of the format."""
    numbers, number, shift = [], 0, 0
    for letter in text:
        value = ord(letter) - 63
        number |= (value & 31) << shift
        shift += 5
        if not value & 32:
            numbers.append(~(number >> 1) if number & 1 else number >> 1)
            number = shift = 0
    return np.cumsum(np.reshape(numbers, (-1, 2)), axis=0) * step


def signed_area(ring):
    """Positive if it runs anticlockwise."""
    lon, lat = (ring - ring[0]).T
    return np.sum(lon * np.roll(lat, -1) - np.roll(lon, -1) * lat) / 2


@pytest.fixture
def found():
    table = pd.DataFrame(
        {
            "query": ["a.jpg", "a.jpg", "b.jpg", "a town by the sea"],
            "rank": pd.array([1, 2, pd.NA, 1], dtype="Int64"),
            "score": [0.3, 0.2, np.nan, 0.1],
            "lon": [2.35, 190.0, np.nan, -60.0],
            "lat": [48.86, -10.5, np.nan, 3.0],
            "place": ["Paris, France", None, None, "Boa Vista, Brazil"],
            "place_km": [1.2, np.nan, np.nan, 88.0],
            "radius_50_km": [250.0, np.nan, np.nan, np.nan],
            "radius_90_km": [1800.0, np.nan, np.nan, np.nan],
            "error": ["", "", "cannot be decoded", ""],
        }
    )
    points = gpd.points_from_xy(table["lon"], table["lat"])
    return gpd.GeoDataFrame(table, geometry=points, crs="EPSG:4326")


@pytest.fixture
def regions():
    boxes = [shapely.box(-5, 40, 10, 55), shapely.box(1, 47, 4, 50)]
    table = {"query": ["a.jpg", "a.jpg"], "share": [0.9, 0.5]}
    return gpd.GeoDataFrame(table, geometry=boxes, crs="EPSG:4326")


# -- the page -------------------------------------------------------------------------------------


def test_the_page_is_one_small_file_that_names_no_address(tmp_path, found, regions):
    path = write_map(tmp_path / "map.html", found, regions=regions)
    page, elements, _ = read(path)
    assert path.stat().st_size < 600_000
    assert [a for tag, a, _ in elements.found if tag != "link" and {"src", "href"} & set(a)] == []
    assert elements.all("link") == [({"rel": "icon", "href": "data:,"}, "")]
    without_licences = re.sub(r"/\*!.*?\*/", "", page, flags=re.DOTALL)
    assert "://" not in without_licences
    assert [p.name for p in tmp_path.iterdir()] == ["map.html"]


def test_the_policy_allows_what_is_in_the_page_and_nothing_else(tmp_path, found):
    _, elements, _ = read(write_map(tmp_path / "map.html", found))
    (policy,) = [
        a["content"]
        for a, _ in elements.all("meta")
        if a.get("http-equiv") == "Content-Security-Policy"
    ]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    ((_, style),) = elements.all("style")
    (script,) = [text for attributes, text in elements.all("script") if "type" not in attributes]

    def digest(text):
        return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()

    assert rules == {
        "default-src": "'none'",
        "img-src": "data:",
        "style-src": f"'sha256-{digest(style)}'",
        "script-src": f"'sha256-{digest(script)}'",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    # Attributes that the policy would refuse.
    attributes = {name for _, found_ones, _ in elements.found for name in found_ones}
    assert not [name for name in attributes if name == "style" or name.startswith("on")]


def test_the_data_are_what_was_given(tmp_path, found, regions):
    _, elements, data = read(write_map(tmp_path / "map.html", found, regions=regions, title="T"))
    assert [text for _, text in elements.all("title")] == ["T"]
    assert [query["name"] for query in data["queries"]] == ["a.jpg", "b.jpg", "a town by the sea"]
    photo, broken, text = data["queries"]
    assert photo["candidates"] == [
        [1, 2.35, 48.86, 0.3, "Paris, France", 1.2, 250.0, 1800.0],
        [2, -170.0, -10.5, 0.2, None, None, None, None],
    ]
    assert (photo["error"], text["error"]) == ("", "")
    assert (broken["error"], broken["candidates"]) == ("cannot be decoded", [])
    assert (photo["quiet"], photo["calibrated"], broken["calibrated"]) == (False, None, None)
    assert [share for share, _ in photo["regions"]] == [0.9, 0.5]
    assert text["regions"] == []
    ((ring,),) = photo["regions"][1][1]
    assert decode(ring, data["step"]).min(axis=0).tolist() == [1.0, 47.0]
    assert decode(ring, data["step"]).max(axis=0).tolist() == [4.0, 50.0]


def test_flags_reach_the_page(tmp_path, found):
    flags = {"calibrated": True, "no_signal": pd.array([True, pd.NA, pd.NA, False], "boolean")}
    _, _, data = read(write_map(tmp_path / "map.html", found.assign(**flags)))
    assert [query["quiet"] for query in data["queries"]] == [True, False, False]
    assert [query["calibrated"] for query in data["queries"]] == [True, True, True]


def test_it_says_where_things_come_from_and_what_numbers_mean(tmp_path, found):
    page, _, _ = read(write_map(tmp_path / "map.html", found))
    for words in (
        "Natural Earth",
        "GeoNames, CC&nbsp;BY&nbsp;4.0",
        "d3-geo",
        "Copyright 2010-2026",
    ):
        assert words in page
    assert f"geoembed {geoembed.__version__}" in page
    assert "is not a probability" in page
    assert "A likely place is not a proven one." in page


def test_no_name_leaves_its_place(tmp_path, found):
    found["query"] = found["query"].replace("a.jpg", HOSTILE)
    found.loc[0, "place"] = HOSTILE
    found.loc[2, "error"] = HOSTILE + "\u2028"
    pictures = {HOSTILE: Image.new("RGB", (10, 10))}
    path = write_map(tmp_path / "map.html", found, pictures=pictures, title=HOSTILE)
    page, elements, data = read(path)
    assert [len(elements.all(tag)) for tag in ("script", "img", "title")] == [2, 0, 1]
    assert data["queries"][0]["name"] == HOSTILE
    assert data["queries"][0]["candidates"][0][4] == HOSTILE
    assert data["queries"][1]["error"] == HOSTILE + "\u2028"
    assert "\u2028" not in page
    assert "<img" not in page
    assert page.count("</script>") == 2


def test_a_name_that_is_no_text_stops_nothing(tmp_path, found):
    found["query"] = pd.Series(["a.jpg", "a.jpg", "b\udcff.jpg", "a town"], dtype=object)
    _, _, data = read(write_map(tmp_path / "map.html", found))
    assert data["queries"][1]["name"] == "b?.jpg"


def test_queries_of_one_name_stay_apart(tmp_path, found):
    found = pd.concat([found, found], ignore_index=True)
    twice = pd.concat([found.iloc[[0, 1]], found.iloc[[0, 1]]], ignore_index=True)
    _, _, data = read(write_map(tmp_path / "map.html", twice))
    assert [len(query["candidates"]) for query in data["queries"]] == [2, 2]
    _, _, data = read(write_map(tmp_path / "map.html", found))
    assert len(data["queries"]) == 6


def test_the_least_table_is_enough(tmp_path, found):
    least = found[["query", "rank", "score", "lon", "lat"]]
    _, _, data = read(write_map(tmp_path / "map.html", pd.DataFrame(least)))
    assert data["queries"][0]["candidates"][0] == [1, 2.35, 48.86, 0.3, None, None, None, None]
    assert data["queries"][1]["error"] == "no place was found"


def test_two_hundred_queries_make_a_small_page(tmp_path):
    rng = np.random.default_rng(0)
    table = pd.DataFrame(
        {
            "query": np.repeat([f"{n}.jpg" for n in range(200)], 5),
            "rank": np.tile(np.arange(1, 6), 200),
            "score": 0.3,
            "lon": rng.uniform(-180, 180, 1000),
            "lat": rng.uniform(-90, 90, 1000),
            "place": "A town of some length, A country",
        }
    )
    path = write_map(tmp_path / "map.html", table)
    assert path.stat().st_size < 800_000
    assert len(read(path)[2]["queries"]) == 200


# -- the world ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("level", "limit", "wrong"), [("coarse", 90_000, 0.02), ("fine", 260_000, 0.003)]
)
def test_the_packed_land_is_the_land(level, limit, wrong):
    packed = pack_world()[level]
    assert len(json.dumps(packed)) < limit
    polygons = [[decode(ring, STEP) for ring in rings] for rings in packed["land"]]
    shapes = shapely.union_all([shapely.make_valid(shapely.Polygon(p[0], p[1:])) for p in polygons])
    rng = np.random.default_rng(1)
    lon, lat = rng.uniform(-180, 180, 20_000), np.degrees(np.arcsin(rng.uniform(-1, 1, 20_000)))
    shapely.prepare(shapes)
    assert np.mean(shapely.contains_xy(shapes, lon, lat) != is_land(lon, lat)) < wrong
    # A ring that turns the wrong way would fill all of the globe but itself.
    for exterior, *holes in polygons:
        assert signed_area(exterior) < 0
        assert all(signed_area(hole) > 0 for hole in holes)
    if level == "fine":
        assert len(polygons) > 0.97 * len(load_land())


def test_names_are_those_of_the_tables():
    world = pack_world()
    assert world["countries"][0][0] in {"Russia", "Antarctica", "Canada", "Brazil"}
    assert len(world["countries"]) > 230
    assert "Reykjavík" in {name for name, _, _ in world["cities"]}
    assert len(world["cities"]) < 4_500


def test_lines_come_back_to_a_step():
    rng = np.random.default_rng(2)
    line = np.stack([rng.uniform(-180, 180, 500), rng.uniform(-90, 90, 500)], axis=1)
    back = decode(encode_line(line, 0.001), 0.001)
    assert back.shape == line.shape
    assert np.abs(back - line).max() < 0.00051
    assert encode_line(np.zeros((4, 2)), 0.001) == ""


def test_what_rounding_leaves_nothing_of_is_left_out():
    tiny, large = shapely.box(0, 0, 1e-4, 1e-4), shapely.box(0, 0, 5, 5)
    assert encode_polygon(tiny, 0.01) == []
    with_hole = shapely.Polygon(large.exterior.coords, [tiny.exterior.coords])
    assert len(encode_polygon(with_hole, 0.01)) == 1
    flat = shapely.Polygon([(0, 0), (5, 0.001), (5, 0)])
    assert encode_polygon(flat, 0.01) == []


# -- regions --------------------------------------------------------------------------------------


def packed_regions(tmp_path, found, shape, crs="EPSG:4326"):
    regions = gpd.GeoDataFrame({"query": ["a.jpg"], "share": [0.9]}, geometry=[shape], crs=crs)
    _, _, data = read(write_map(tmp_path / "map.html", found, regions=regions))
    ((_, polygons),) = data["queries"][0]["regions"]
    return [[decode(ring, data["step"]) for ring in rings] for rings in polygons]


def test_a_wide_region_comes_in_pieces_that_make_it_up(tmp_path, found):
    hole = shapely.box(20, 0, 40, 30)
    world = shapely.box(-180, -90, 180, 90).difference(hole)
    pieces = packed_regions(tmp_path, found, world)
    assert len(pieces) >= 4
    assert all(np.ptp(rings[0][:, 0]) < 91 for rings in pieces)
    together = shapely.union_all([shapely.Polygon(r[0], r[1:]) for r in pieces])
    assert together.symmetric_difference(world).area < 0.5


def test_straight_edges_stay_straight_in_degrees(tmp_path, found):
    ((ring,),) = packed_regions(tmp_path, found, shapely.box(0, 50, 60, 60))
    steps = np.diff(np.vstack([ring, ring[:1]]), axis=0)
    assert np.abs(steps).max() <= 2.001


def test_regions_of_another_crs_are_brought_to_degrees(tmp_path, found):
    metres = gpd.GeoSeries([shapely.box(0, 40, 10, 50)], crs="EPSG:4326").to_crs("EPSG:3857")[0]
    ((ring,),) = packed_regions(tmp_path, found, metres, "EPSG:3857")
    assert ring.max(axis=0).tolist() == [10.0, 50.0]


def test_a_region_that_crosses_itself_is_repaired(tmp_path, found):
    bow = shapely.Polygon([(0, 0), (10, 10), (10, 0), (0, 10)])
    assert len(packed_regions(tmp_path, found, bow)) == 2


# -- pictures -------------------------------------------------------------------------------------


def embedded(tmp_path, found, picture):
    _, _, data = read(write_map(tmp_path / "map.html", found, pictures={"a.jpg": picture}))
    head, _, body = data["queries"][0]["picture"].partition(",")
    assert head == "data:image/jpeg;base64"
    return base64.b64decode(body)


def test_a_picture_becomes_small_and_keeps_nothing_but_its_pixels(tmp_path, found):
    exif = Image.Exif()
    exif[0x010F] = "SecretCamera"
    exif[0x8825] = {1: "N", 2: (48.0, 51.0, 30.0), 3: "E", 4: (2.0, 21.0, 0.0)}
    file = BytesIO()
    Image.new("RGB", (1600, 1200), (10, 200, 30)).save(
        file, "JPEG", exif=exif, comment=b"SecretComment", icc_profile=b"SecretProfile"
    )
    source = Image.open(file)
    assert source.getexif().get_ifd(0x8825)
    content = embedded(tmp_path, found, source)
    small = Image.open(BytesIO(content))
    assert small.size == (480, 360)
    assert dict(small.getexif()) == {}
    assert b"Secret" not in content
    assert b"Exif" not in content
    assert {"exif", "icc_profile", "comment"} & set(small.info) == set()
    assert np.abs(np.subtract(small.getpixel((200, 200)), (10, 200, 30))).max() < 6
    assert source.size == (1600, 1200), "the picture given is not changed"


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "I", "I;16", "F", "YCbCr"])
def test_every_mode_of_picture_can_be_shown(tmp_path, found, mode):
    content = embedded(tmp_path, found, Image.new(mode, (40, 20)))
    assert Image.open(BytesIO(content)).size == (40, 20)


def test_a_turned_picture_stands_upright(tmp_path, found):
    exif = Image.Exif()
    exif[0x0112] = 6
    file = BytesIO()
    Image.new("RGB", (40, 20)).save(file, "JPEG", exif=exif)
    assert Image.open(BytesIO(embedded(tmp_path, found, Image.open(file)))).size == (20, 40)


def test_transparency_is_white(tmp_path, found):
    content = embedded(tmp_path, found, Image.new("RGBA", (20, 20), (0, 0, 0, 0)))
    assert Image.open(BytesIO(content)).getpixel((9, 9)) == (255, 255, 255)


def test_sixteen_bits_are_not_cut_off(tmp_path, found):
    content = embedded(tmp_path, found, Image.new("I;16", (20, 20), 0x7FFF))
    assert abs(Image.open(BytesIO(content)).getpixel((9, 9))[0] - 127) < 3


def test_no_picture_is_no_error(tmp_path, found):
    _, _, data = read(write_map(tmp_path / "map.html", found, pictures={"a.jpg": None}))
    assert "picture" not in data["queries"][0]


# -- what is refused ------------------------------------------------------------------------------


def test_pictures_that_fit_nothing(tmp_path, found):
    path = tmp_path / "map.html"
    with pytest.raises(OptionError, match=r"'c.jpg', which is no query"):
        write_map(path, found, pictures={"c.jpg": Image.new("L", (4, 4))})
    with pytest.raises(OptionError, match=r"pictures\['a.jpg'\] is str"):
        write_map(path, found, pictures={"a.jpg": "a.jpg"})
    file = BytesIO()
    Image.effect_noise((200, 200), 50).save(file, "JPEG")
    cut = Image.open(BytesIO(file.getvalue()[:2000]))
    with pytest.raises(PictureError, match=r"pictures\['a.jpg'\] cannot be decoded"):
        write_map(path, found, pictures={"a.jpg": cut})
    assert list(tmp_path.iterdir()) == []


def test_paths_that_do_not_fit(tmp_path, found):
    with pytest.raises(OptionError, match=r"end it in \.html"):
        write_map(tmp_path / "map.png", found)
    with pytest.raises(OptionError, match="there is no folder"):
        write_map(tmp_path / "no" / "map.html", found)


def test_tables_that_do_not_fit(tmp_path, found):
    path = tmp_path / "map.html"
    with pytest.raises(TableError, match="has no column 'score', 'lat'"):
        write_map(path, found.drop(columns=["score", "lat"]))
    with pytest.raises(TableError, match="has no row"):
        write_map(path, found.iloc[:0])
    found.index = ["w", "x", "y", "z"]
    with pytest.raises(TableError, match=r"1 of 3 candidates have no finite .* row 'x'"):
        write_map(path, found.assign(score=[0.3, np.nan, np.nan, 0.1]))
    with pytest.raises(CoordinateError, match=r"1 do not, the first at row 'z' \(93.0\)"):
        write_map(path, found.assign(lat=[1.0, 2.0, np.nan, 93.0]))
    with pytest.raises(TableError, match="'lon' does not hold numbers"):
        write_map(path, found.assign(lon=["a", "b", "c", "d"]))
    assert list(tmp_path.iterdir()) == []


def test_regions_that_do_not_fit(tmp_path, found, regions):
    path = tmp_path / "map.html"
    with pytest.raises(TableError, match="columns 'query', 'share' and a geometry"):
        write_map(path, found, regions=regions.drop(columns="share"))
    with pytest.raises(OptionError, match=r"'c.jpg', which is no query"):
        write_map(path, found, regions=regions.assign(query="c.jpg"))
    with pytest.raises(TableError, match="'share' lies between 0 and 1"):
        write_map(path, found, regions=regions.assign(share=[90, 50]))
    with pytest.raises(CoordinateError, match="has no CRS"):
        write_map(path, found, regions=regions.set_crs(None, allow_override=True))
    with pytest.raises(TableError, match="holds LineString"):
        write_map(path, found, regions=regions.set_geometry(regions.boundary))
    with pytest.raises(CoordinateError, match="beyond a pole"):
        write_map(path, found, regions=regions.set_geometry(regions.translate(0, 60)))


def test_a_failed_write_leaves_the_page_before(tmp_path, found, monkeypatch):
    path = write_map(tmp_path / "map.html", found)
    before = path.read_bytes()

    def full(self, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        write_map(path, found, title="another")
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["map.html"]


# -- what is shipped ------------------------------------------------------------------------------


def test_the_bundle_is_small_and_carries_its_licences():
    bundle = files("geoembed.webmap").joinpath("static", "d3-geo.min.js").read_text("utf-8")
    assert len(bundle) < 80_000
    for words in ("d3-geo 3.1.2", "d3-array 3.", "GeographicLib", "Mike Bostock", "Charles Karney"):
        assert words in bundle


def test_nothing_of_ours_writes_markup():
    scripts = [
        p for p in files("geoembed.webmap").joinpath("static").iterdir() if p.suffix == ".js"
    ]
    ours = {p.name: p.read_text("utf-8") for p in scripts if p.name != "d3-geo.min.js"}
    assert len(ours) == 5
    for name, text in ours.items():
        for word in (
            "innerHTML",
            "outerHTML",
            "insertAdjacent",
            "document.write",
            "eval(",
            "fetch(",
        ):
            assert word not in text, (name, word)
        assert len(text.splitlines()) <= 400, name
