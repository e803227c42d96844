"""The page of `geoembed.webmap` in a real browser: it works, it is quiet, it stays at home."""

import math
import time
from io import BytesIO

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely
from PIL import Image

from geoembed.webmap import write_map

HOSTILE = '</script><img src=x onerror="window.hit=1">.jpg'


def answers(rows):
    table = pd.DataFrame(rows, columns=["query", "rank", "score", "lon", "lat", "place", "error"])
    table["rank"] = table["rank"].astype("Int64")
    table["radius_50_km"] = np.where(table["rank"].fillna(0) == 1, 300.0, np.nan)
    table["radius_90_km"] = np.where(table["rank"].fillna(0) == 1, 900.0, np.nan)
    points = gpd.points_from_xy(table["lon"], table["lat"])
    return gpd.GeoDataFrame(table, geometry=points, crs="EPSG:4326")


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """A photograph, a text, a picture that could not be read, and a name that would like to run."""
    found = answers(
        [
            ("desk/one.jpg", 1, 0.31, 20.0, 0.0, "Kisangani, Congo", ""),
            ("desk/one.jpg", 2, 0.22, 12.0, 4.0, "Yaoundé, Cameroon", ""),
            ("a harbour at night", 1, 0.18, 179.9, -17.0, "Suva, Fiji", ""),
            ("a harbour at night", 2, 0.12, -172.0, -13.8, "Apia, Samoa", ""),
            ("broken.jpg", None, np.nan, np.nan, np.nan, None, "it ends too early"),
            (HOSTILE, 1, 0.25, -70.0, -33.0, "<b>Santiago</b> & all", ""),
        ]
    )
    regions = gpd.GeoDataFrame(
        {"query": ["desk/one.jpg"] * 2, "share": [0.5, 0.9]},
        geometry=[shapely.box(17, -3, 23, 3), shapely.box(10, -8, 28, 8)],
        crs="EPSG:4326",
    )
    pictures = {"desk/one.jpg": Image.new("RGB", (300, 200), (200, 40, 40))}
    target = tmp_path_factory.mktemp("map") / "map.html"
    return write_map(target, found, regions=regions, pictures=pictures, title="Test <i>map</i>")


def colour_at(page, x, y):
    """Red, green, blue of a pixel of what the reader sees."""
    return Image.open(BytesIO(page.picture())).convert("RGB").getpixel((round(x), round(y)))


def middle(page):
    box = page.run(
        "(() => { const b = document.getElementById('map').getBoundingClientRect();"
        " return [b.x, b.y, b.width, b.height]; })()"
    )
    return box[0] + box[2] / 2, box[1] + box[3] / 2, min(box[2:]) / 2


def pixel(page, lon, lat, lon0, lat0):
    """Where the globe, shown whole around (lon0, lat0), has a place: the textbook's formula."""
    x0, y0, half = middle(page)
    radius = half - 26
    lam, phi, phi0 = math.radians(lon - lon0), math.radians(lat), math.radians(lat0)
    x = math.cos(phi) * math.sin(lam)
    y = math.cos(phi0) * math.sin(phi) - math.sin(phi0) * math.cos(phi) * math.cos(lam)
    return x0 + radius * x, y0 - radius * y


def where(page, name):
    """Middle of the spot on the canvas where pointing tells of a place, in pixels of the page."""
    return page.run(
        "(() => { const map = document.getElementById('map'), box = map.getBoundingClientRect();"
        " let [n, sx, sy] = [0, 0, 0];"
        " for (let x = 2; x < box.width; x += 4) for (let y = 2; y < box.height; y += 4) {"
        "   map.dispatchEvent(new PointerEvent('pointermove',"
        "     {clientX: box.x + x, clientY: box.y + y}));"
        f"   if (document.getElementById('tip').innerText.includes({name!r}) &&"
        "       !document.getElementById('tip').hidden) { n++; sx += x; sy += y; } }"
        " return n ? [box.x + sx / n, box.y + sy / n] : null; })()"
    )


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("width", "height"), [(1440, 900), (900, 700), (390, 844)])
def test_it_opens_without_a_word_and_asks_for_nothing(open_page, path, width, height, scheme):
    page = open_page(path, width=width, height=height, scheme=scheme)
    assert page.text("h1") == "Test <i>map</i>"
    assert page.run("document.querySelectorAll('.query').length") == 4
    page.click("#flat")
    page.click("#globe")
    assert page.complaints() == []
    assert page.requests() == [path.as_uri()]
    # Nothing sticks out at the side, and the map has its room.
    assert page.run("document.documentElement.scrollWidth <= innerWidth")
    assert page.run("document.getElementById('map').clientHeight") > 250


def test_light_and_dark_follow_the_reader(open_page, path):
    corners = {}
    for scheme in ("light", "dark"):
        page = open_page(path, scheme=scheme)
        corners[scheme] = sum(colour_at(page, 4, 4))
    assert corners["dark"] < 150 < 600 < corners["light"]


def test_land_and_sea_are_where_they_are(open_page, path):
    page = open_page(path)
    page.press("0")
    page.rest()
    theme = {"land": (251, 250, 246), "sea": (220, 232, 238)}
    places = {(5.0, 24.0): "land", (45.0, 24.0): "land", (-5.0, -18.0): "sea", (62.0, -5.0): "sea"}
    for (lon, lat), kind in places.items():
        shown = colour_at(page, *pixel(page, lon, lat, 20.0, 0.0))
        assert np.abs(np.subtract(shown, theme[kind])).max() <= 6, (lon, lat, shown)


def test_a_region_colours_its_ground_and_can_be_hidden(open_page, path):
    page = open_page(path)
    page.press("0")
    page.rest()
    at = pixel(page, 11.1, -6.5, 20.0, 0.0)  # at sea, where no name stands; inside 90 %, not 50 %
    before = colour_at(page, *at)
    page.click("[data-key='region 0.9']")
    after = colour_at(page, *at)
    assert after[0] - before[0] > 15
    assert page.run("document.querySelector(\"[data-key='region 0.9']\").ariaPressed") == "false"


def test_arrows_go_through_the_queries(open_page, path):
    page = open_page(path)
    assert page.text("#answers h2") == "desk/one.jpg"
    page.press("ArrowDown")
    assert page.text("#answers h2") == "a harbour at night"
    page.press("ArrowDown")
    assert page.text("#answers .wrong") == "No place: it ends too early"
    page.press("End")
    assert page.run("document.querySelectorAll('[aria-selected=true]').length") == 1
    page.press("ArrowDown")  # there is no further one
    assert page.text("#answers h2") == HOSTILE
    page.press("Home")
    assert page.text("#answers h2") == "desk/one.jpg"
    assert page.run("document.querySelector('#answers .photo').naturalWidth") == 300
    assert page.text("#spoken").startswith("desk/one.jpg: best place Kisangani")


def test_on_the_map_arrows_move_it(open_page, path):
    page = open_page(path)
    page.run("document.getElementById('map').focus()")
    page.press("ArrowRight")
    page.rest()
    x, y, _ = middle(page)
    moved = where(page, "Kisangani")
    assert moved == pytest.approx([x - 60, y], abs=6)
    assert page.text("#answers h2") == "desk/one.jpg"
    page.press("f")
    page.rest()
    assert where(page, "Kisangani") == pytest.approx([x, y], abs=6)


def test_a_stray_place_is_left_aside_until_asked_for(open_page, tmp_path):
    near = [("a.jpg", n, 0.4 - n / 50, 10.0 + 2 * n, 45.0, f"Town {n}", "") for n in range(1, 5)]
    found = answers([*near, ("a.jpg", 5, 0.1, -100.0, 40.0, "Faraway", "")])
    page = open_page(write_map(tmp_path / "map.html", found))
    assert where(page, "Faraway") is None
    assert math.dist(where(page, "Town 4"), where(page, "Town 1")) > 80
    page.click("#fit")
    assert where(page, "Faraway") is not None


def test_one_query_has_no_list(open_page, tmp_path):
    found = answers([("a.jpg", 1, 0.3, 10.0, 10.0, None, "")])
    page = open_page(write_map(tmp_path / "map.html", found))
    assert page.run("document.getElementById('side').offsetWidth") == 0
    assert page.text(".place b") == "Unnamed place"
    assert page.run("document.getElementById('map').clientWidth") > 850


def test_names_stay_text(open_page, path):
    page = open_page(path)
    page.press("End")
    assert page.text("#answers h2") == HOSTILE
    assert page.text(".place b") == "<b>Santiago</b> & all"
    assert page.run("[...document.images].every(image => image.src.startsWith('data:'))")
    assert page.run(
        "window.hit === undefined && !document.querySelector('main i:not(.chip i), h1 i')"
    )


def test_the_policy_lets_nothing_else_run_or_load(open_page, path):
    page = open_page(path)
    assert page.run("fetch('http://127.0.0.1:9/').then(() => 'sent', () => 'refused')") == "refused"
    page.run("document.body.insertAdjacentHTML('beforeend', `<img src=x onerror='window.hit=1'>`)")
    page.run(
        "document.body.append(Object.assign(document.createElement('script'),"
        " {textContent: 'window.hit = 2'}))"
    )
    page.rest()
    assert page.run("window.hit === undefined")
    assert any("Content Security Policy" in text for text in page.complaints())
    # Refused, so nothing went out.
    assert [address for address in page.requests() if address.startswith("http")] == []


def test_pointing_at_a_place_tells_what_it_is(open_page, path):
    page = open_page(path)
    x, y, _ = middle(page)
    page.mouse("mouseMoved", x + 1, y)
    assert page.run("!document.getElementById('tip').hidden")
    tip = page.text("#tip")
    assert "Kisangani, Congo" in tip
    assert "20.0000° E, 0.0000°" in tip
    assert "score 0.310" in tip
    assert "prob" not in page.text("main").lower()
    page.mouse("mouseMoved", x + 200, y + 100)
    assert page.run("document.getElementById('tip').hidden")


@pytest.mark.parametrize("kind", ["globe", "flat"])
def test_the_wheel_zooms_around_the_pointer_and_dragging_moves_the_map(open_page, path, kind):
    page = open_page(path)
    page.click(f"#{kind}")
    page.click("#whole")
    x, y, _ = middle(page)
    x, y = x + 90, y + 60

    def place():
        page.mouse("mouseMoved", x, y)
        return page.run("document.getElementById('readout').textContent")

    def numbers(text):
        east, north = (part.strip() for part in text.split(","))
        return [float(p.split("°")[0]) * (-1 if p[-1] in "WS" else 1) for p in (east, north)]

    before = numbers(place())
    for _ in range(6):
        page.mouse("mouseWheel", x, y, deltaX=0, deltaY=-120)
    page.rest()
    after = numbers(place())
    assert np.abs(np.subtract(after, before)).max() < 0.6
    page.mouse("mousePressed", x, y, button="left", buttons=1)
    for step in range(1, 11):
        page.mouse("mouseMoved", x + 10 * step, y, button="left", buttons=1)
    page.mouse("mouseReleased", x + 100, y, button="left")
    page.rest()
    moved = numbers(place())
    assert moved[0] < after[0] - 2  # what was at the left has come under the pointer
    assert page.complaints() == []


def test_choosing_a_place_of_the_list_marks_it(open_page, path):
    page = open_page(path)
    page.click("[data-index='1']")
    assert page.run("document.querySelector('.place[aria-current=true]').dataset.index") == "1"
    assert page.run("document.getElementById('radius').innerText") == ""
    page.click("[data-index='0']")
    assert "Radius around place 1: 50 % within 300 km, 90 % within 900 km." in page.text("#radius")


def test_places_on_both_sides_of_the_antimeridian_are_seen_together(open_page, path):
    page = open_page(path)
    page.press("ArrowDown")
    page.click("#flat")
    seen = page.run(
        "(() => { const map = document.getElementById('map'), box = map.getBoundingClientRect();"
        " const seen = new Set();"
        " for (let x = 4; x < box.width; x += 8) for (let y = 4; y < box.height; y += 8) {"
        "   map.dispatchEvent(new PointerEvent('pointermove',"
        "     {clientX: box.x + x, clientY: box.y + y}));"
        "   const tip = document.getElementById('tip');"
        "   if (!tip.hidden) tip.querySelectorAll('b').forEach(b => seen.add(b.textContent)); }"
        " return [...seen].sort(); })()"
    )
    assert seen == ["1  Suva, Fiji", "2  Apia, Samoa"]


@pytest.mark.parametrize(
    ("calibrated", "said"),
    [(True, "holds the true place as often as it says"), (False, "own estimate")],
)
def test_what_a_radius_promises_depends_on_its_calibration(open_page, tmp_path, calibrated, said):
    found = answers([("a.jpg", 1, 0.3, 10.0, 10.0, None, "")]).assign(
        calibrated=calibrated, no_signal=True
    )
    page = open_page(write_map(tmp_path / "map.html", found))
    assert said in page.text("#caution")
    assert ("not calibrated" in page.text("#radius")) is not calibrated
    assert page.text("#answers .quiet").startswith("No location signal")


def test_two_fingers_zoom_and_a_finger_chooses(open_page, path):
    page = open_page(path, width=390, height=844)
    page.call("Emulation.setTouchEmulationEnabled", enabled=True, maxTouchPoints=2)

    def touch(kind, *points):
        given = [{"x": x, "y": y, "id": n} for n, (x, y) in enumerate(points)]
        page.call("Input.dispatchTouchEvent", type=kind, touchPoints=given)

    first, second = where(page, "Kisangani"), where(page, "Yaoundé")
    x, y, _ = middle(page)
    touch("touchStart", (x - 60, y), (x + 60, y))
    for step in range(1, 13):
        touch("touchMove", (x - 60 + 2.5 * step, y), (x + 60 - 2.5 * step, y))
    touch("touchEnd")
    page.rest()
    nearer = where(page, "Yaoundé")
    # Half as far apart, half as large; the place in the middle stays there.
    assert np.abs(np.subtract(where(page, "Kisangani"), first)).max() < 8
    ratio = math.dist(nearer, first) / math.dist(second, first)
    assert 0.45 < ratio < 0.55
    touch("touchStart", nearer)
    touch("touchEnd")
    page.rest()
    assert page.run("document.querySelector('.place[aria-current=true]').dataset.index") == "1"
    assert "Yaoundé" in page.text("#tip")
    assert page.run("scrollY") == 0
    assert page.complaints() == []


def test_two_hundred_queries_are_no_burden(open_page, tmp_path):
    rng = np.random.default_rng(4)
    places = np.stack([rng.uniform(-180, 180, 1000), rng.uniform(-60, 75, 1000)], axis=1)
    rows = [
        (f"{n // 5:03}.jpg", n % 5 + 1, 0.4 - 0.05 * (n % 5), *place, f"Town {n}", "")
        for n, place in enumerate(places.tolist())
    ]
    path = write_map(tmp_path / "many.html", answers(rows))
    assert path.stat().st_size < 1_500_000
    began = time.monotonic()
    page = open_page(path)
    assert page.run("document.querySelectorAll('.query').length") == 200
    for _ in range(20):
        page.press("ArrowDown")
    page.rest()
    assert page.text("#answers h2") == "020.jpg"
    # Two seconds on a free machine; a page that hangs takes far longer than this.
    assert time.monotonic() - began < 30
    page.run("document.getElementById('filter').value = 'town 999'")
    page.run("document.getElementById('filter').dispatchEvent(new Event('input'))")
    assert page.run("[...document.querySelectorAll('.query')].filter(e => !e.hidden).length") == 1
    assert page.complaints() == []
