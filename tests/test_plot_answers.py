"""The map of answers: what is drawn is what was given, where it was given."""

from io import BytesIO

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely
from PIL import Image

from geoembed.errors import CoordinateError, OptionError, PictureError, TableError
from geoembed.geodesy import distance_km
from geoembed.plot.answers import answers_map

plt = pytest.importorskip("matplotlib.pyplot")


@pytest.fixture(autouse=True)
def no_figure_stays_open():
    yield
    plt.close("all")


def table(rows):
    frame = pd.DataFrame(rows, columns=["query", "rank", "score", "lon", "lat", "place", "error"])
    frame["rank"] = frame["rank"].astype("Int64")
    points = gpd.points_from_xy(frame["lon"], frame["lat"])
    return gpd.GeoDataFrame(frame, geometry=points, crs="EPSG:4326")


@pytest.fixture
def one():
    return table(
        [
            ("a.jpg", 1, 0.31, 2.35, 48.86, "Paris, France", ""),
            ("a.jpg", 2, 0.22, 4.83, 45.76, "Lyon, France", ""),
        ]
    )


@pytest.fixture
def three(one):
    more = table(
        [
            ("a fjord", 1, 0.25, 7.1, 62.1, "Ålesund, Norway", ""),
            ("c.jpg", None, np.nan, np.nan, np.nan, None, "the file is empty"),
        ]
    )
    return pd.concat([one, more], ignore_index=True)


@pytest.fixture
def regions():
    boxes = [shapely.box(-5, 40, 10, 55), shapely.box(1, 47, 4, 50)]
    return gpd.GeoDataFrame(
        {"query": ["a.jpg", "a.jpg"], "share": [0.9, 0.5]}, geometry=boxes, crs="EPSG:4326"
    )


def labelled(ax, label):
    artists = [*ax.lines, *ax.collections, *ax.patches, *ax.artists]
    return [artist for artist in artists if artist.get_label() == label]


def words(ax):
    return [text.get_text() for inset in ax.child_axes for text in inset.texts]


def test_ranks_stand_at_their_places(one):
    ax = answers_map(one, title="Where?")
    assert ax.get_title(loc="left") == "Where?"
    for rank, place in (("1", (2.35, 48.86)), ("2", (4.83, 45.76))):
        (dot,) = labelled(ax, rank)
        assert (dot.get_xdata()[0], dot.get_ydata()[0]) == pytest.approx(place)
        (text,) = [t for t in ax.texts if t.get_text() == rank]
        assert text.get_position() == pytest.approx(place)
    assert labelled(ax, "1")[0].get_zorder() > labelled(ax, "2")[0].get_zorder()
    assert "Paris, France" in [t.get_text() for t in ax.texts]
    west, east = ax.get_xlim()
    assert west < 2.35 < 4.83 < east < west + 30


def test_several_queries_are_told_apart_by_letter_and_colour(three):
    ax = answers_map(three)
    colours = {name: labelled(ax, name)[0].get_markerfacecolor() for name in ("A1", "A2", "B1")}
    assert colours["A1"] == colours["A2"] != colours["B1"]
    assert {"A1", "A2", "B1"} <= {t.get_text() for t in ax.texts}
    assert ("C" in words(ax), "the file is empty" in words(ax)) == (True, True)


def test_cards_say_what_was_found(three):
    ax = answers_map(three, pictures={"a.jpg": Image.new("RGB", (300, 200), (9, 90, 200))})
    assert len(ax.child_axes) == 3
    said = words(ax)
    assert {"a.jpg", "a fjord", "c.jpg"} <= set(said)
    assert "1  Paris, France  ·  0.310" in said
    (image,) = [image for inset in ax.child_axes for image in inset.images]
    assert image.get_array()[0, 0].tolist() == [9, 90, 200]
    assert image.get_array().shape == (200, 300, 3)


def test_everything_lies_within_the_figure(three, regions):
    picture = Image.new("RGB", (300, 900))
    many = pd.concat([three, three.assign(query=three["query"] + "2")], ignore_index=True)
    for found, shapes in ((three, regions), (many, None), (three[:2], regions)):
        ax = answers_map(found, regions=shapes, pictures={"a.jpg": picture}, title="T")
        figure = ax.figure
        figure.canvas.draw()
        figure.canvas.draw()
        box = figure.get_tightbbox(figure.canvas.get_renderer())
        width, height = figure.get_size_inches()
        assert box.x0 > -0.05
        assert box.y0 > -0.05
        assert box.x1 < width + 0.05
        assert box.y1 < height + 0.05
        cards = [inset.get_window_extent() for inset in ax.child_axes]
        assert not any(a.overlaps(b) for n, a in enumerate(cards) for b in cards[n + 1 :])
        below = ax.xaxis.get_tightbbox().y0
        assert max(card.y1 for card in cards) <= below + 1


def test_texts_keep_to_their_card(three):
    names = three.assign(place="A town with a name that is much too long for a card, Some Country")
    long = names.assign(query=names["query"] + "_with_a_long_name_that_is_long" * 3)
    long["error"] = np.where(long["rank"].isna(), "many words " * 40, "")
    ax = answers_map(long)
    ax.figure.canvas.draw()
    for inset in ax.child_axes:
        room = inset.get_window_extent()
        for text in inset.texts:
            box = text.get_window_extent()
            assert box.x1 <= room.x1 + 12, text.get_text()
            assert box.y0 >= room.y0 - 2, text.get_text()
    scores = [text for text in words(ax) if text.endswith("0.310")]
    assert len(scores) == 1


def test_more_candidates_than_lines_are_counted(one):
    more = pd.concat([one.iloc[:1]] * 12, ignore_index=True).assign(rank=range(1, 13))
    assert "and 8 more" in words(answers_map(more))


def test_regions_are_filled_and_the_antimeridian_is_no_edge(one):
    fiji = one.assign(lon=[179.0, -178.0], lat=[-17.0, -18.0])
    halves = shapely.MultiPolygon(
        [shapely.box(175, -22, 180, -12), shapely.box(-180, -22, -175, -12)]
    )
    regions = gpd.GeoDataFrame(
        {"query": ["a.jpg"], "share": [0.5]}, geometry=[halves], crs="EPSG:4326"
    )
    ax = answers_map(fiji, regions=regions)
    west, east = ax.get_xlim()
    assert west < 175 < 185 < east < west + 40
    (first,) = {float(labelled(ax, "1")[0].get_xdata()[0])}
    (second,) = {float(labelled(ax, "2")[0].get_xdata()[0])}
    assert (first, second) == pytest.approx((179.0, 182.0))
    fills = labelled(ax, "region")
    assert len(fills) == 2  # one a turn in view
    assert fills[0].get_path().contains_point((177.0, -15.0))
    for lines in labelled(ax, "region edge"):
        for segment in lines.get_segments():
            along = (np.abs(segment[1:, 0]) == 180) & (np.abs(segment[:-1, 0]) == 180)
            assert not along.any()


def test_the_pixels_of_a_region_are_coloured(one, regions):
    def shown(**more):
        ax = answers_map(one, extent=(-10, 35, 20, 60), **more)
        ax.figure.canvas.draw()
        picture = np.asarray(ax.figure.canvas.buffer_rgba())
        x, y = ax.transData.transform((-2.5, 43.0))  # Spain, inside 90 %
        return picture[picture.shape[0] - round(y), round(x), :3].astype(int)

    plain, coloured = shown(), shown(regions=regions)
    assert np.abs(plain - coloured).max() > 12


def test_circles_are_geodesic(one):
    one = one.assign(radius_50_km=[250.0, np.nan], radius_90_km=[1200.0, np.nan])
    ax = answers_map(one)
    rings = labelled(ax, "radius")
    assert len(rings) == 2
    for ring, km in zip(rings, (250.0, 1200.0), strict=True):
        away = distance_km(2.35, 48.86, ring.get_xdata(), ring.get_ydata())
        assert away == pytest.approx(np.full(len(away), km), rel=1e-6)
    assert "circles: radius of 50% and 90% around place 1" in ax.get_xlabel()


def test_a_circle_around_a_pole_is_not_joined_across_the_map(one):
    polar = one.assign(lon=[15.0, 20.0], lat=[80.0, 78.0], radius_90_km=[2500.0, np.nan])
    for ring in labelled(answers_map(polar), "radius"):
        assert np.abs(np.diff(ring.get_xdata())).max() < 180


def test_many_queries_are_dots_in_the_colour_of_their_score(one):
    rng = np.random.default_rng(3)
    rows = [
        (
            f"{n // 3}",
            n % 3 + 1,
            0.5 - 0.01 * n,
            rng.uniform(-170, 170),
            rng.uniform(-50, 70),
            None,
            "",
        )
        for n in range(60)
    ]
    found = pd.concat([table(rows), table([("x", None, np.nan, np.nan, np.nan, None, "no")])])
    ax = answers_map(found)
    (dots,) = labelled(ax, "best")
    assert len(dots.get_offsets()) == 20
    assert sorted(dots.get_array()) == pytest.approx(sorted(0.5 - 0.03 * n for n in range(20)))
    assert len(labelled(ax, "others")[0].get_xdata()) == 40
    assert "Best places of 21 queries; 1 without a place" in ax.get_xlabel()


def test_errors_alone_make_a_map_too(three):
    ax = answers_map(three[three["rank"].isna()])
    assert ax.get_xlim() == (-180, 180)
    assert "the file is empty" in words(ax)


def test_it_draws_where_it_is_told(one):
    _, (left, right) = plt.subplots(1, 2, figsize=(12, 6))
    ax = answers_map(one, ax=right, extent=(-10, 35, 20, 60))
    assert ax is right
    assert ax.get_xlim() == (-10, 20)
    assert not left.lines
    assert tuple(ax.figure.get_size_inches()) == (12, 6)


def test_a_name_with_dollars_is_text(one):
    named = one.assign(query="cost $5 and $x_$.jpg", place="$\\alpha_")
    ax = answers_map(named, title="$_$")
    ax.figure.canvas.draw()
    assert "cost $5 and $x_$.jpg" in words(ax)


def test_what_does_not_fit_is_refused(one, regions):
    with pytest.raises(TableError, match="has no column 'rank'"):
        answers_map(one.drop(columns="rank"))
    with pytest.raises(TableError, match="has no row"):
        answers_map(one[:0])
    with pytest.raises(TableError, match=r"1 of 2 candidates have no finite .* row 1"):
        answers_map(one.assign(lon=[1.0, np.nan]))
    with pytest.raises(CoordinateError, match=r"1 do not, the first at row 0 \(-91.0\)"):
        answers_map(one.assign(lat=[-91.0, 2.0]))
    with pytest.raises(TableError, match="'lon' does not hold numbers"):
        answers_map(one.assign(lon=["a", "b"]))
    with pytest.raises(OptionError, match="'b.jpg', which is no query"):
        answers_map(one, pictures={"b.jpg": Image.new("L", (2, 2))})
    with pytest.raises(OptionError, match=r"pictures\['a.jpg'\] is str"):
        answers_map(one, pictures={"a.jpg": "a.jpg"})
    file = BytesIO()
    Image.effect_noise((200, 200), 50).save(file, "JPEG")
    with pytest.raises(PictureError, match="cannot be decoded"):
        answers_map(one, pictures={"a.jpg": Image.open(BytesIO(file.getvalue()[:2000]))})
    with pytest.raises(OptionError, match="'b.jpg', which is no query"):
        answers_map(one, regions=regions.assign(query="b.jpg"))
    with pytest.raises(CoordinateError, match="has no CRS"):
        answers_map(one, regions=regions.set_crs(None, allow_override=True))
    with pytest.raises(TableError, match="columns 'query', 'share' and a geometry"):
        answers_map(one, regions=regions.drop(columns="share"))
    with pytest.raises(OptionError, match="extent="):
        answers_map(one, extent=(0, 10, 20, 5))
    assert plt.get_fignums() == []
