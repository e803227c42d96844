import subprocess
import sys

import numpy as np
import pytest
import shapely
from sklearn.decomposition import PCA
from sklearn.metrics.pairwise import cosine_similarity

from geoembed import data, plot
from geoembed.errors import CoordinateError, MissingExtraError, OptionError
from geoembed.plot import components
from geoembed.plot.components import principal_components
from geoembed.plot.rows import check_rows, find_grid, raster

matplotlib = pytest.importorskip("matplotlib")
plt = pytest.importorskip("matplotlib.pyplot")


@pytest.fixture(autouse=True)
def no_figure_stays_open():
    yield
    plt.close("all")


def smooth_features(lon, lat, count=24, seed=0):
    """Random Fourier features of the position on the sphere: neighbours get similar vectors."""
    rng = np.random.default_rng(seed)
    lam, phi = np.radians(lon), np.radians(lat)
    unit = np.stack([np.cos(phi) * np.cos(lam), np.cos(phi) * np.sin(lam), np.sin(phi)], axis=-1)
    return np.cos(unit @ rng.normal(0, 1.5, (3, count)) + rng.uniform(0, 6.28, count))


@pytest.fixture
def scattered():
    rng = np.random.default_rng(1)
    lon, lat = rng.uniform(-170, 170, 60), rng.uniform(-60, 70, 60)
    return lon, lat, smooth_features(lon, lat)


@pytest.fixture
def over_land():
    lon, lat = data.land_grid(4)
    return lon, lat, smooth_features(lon, lat)


def labelled(ax, label):
    return [child for child in ax.get_children() if child.get_label() == label]


def dots(ax):
    (found,) = [c for c in ax.collections if c.get_label() not in {"coastline", "border"}]
    return found


# The empty map


def test_world_axes_show_the_whole_globe_in_equal_degrees():
    ax = plot.world_axes()
    assert ax.get_xlim() == (-180, 180)
    assert ax.get_ylim() == (-90, 90)
    assert ax.get_aspect() == 1
    assert len(labelled(ax, "land")) == len(labelled(ax, "coastline")) == 1


def test_borders_can_be_left_out():
    assert len(labelled(plot.world_axes(), "border")) == 1
    assert len(labelled(plot.world_axes(borders=False), "border")) == 0


def test_degrees_are_labelled_with_their_side_of_the_globe():
    ax = plot.world_axes()
    ax.figure.canvas.draw()
    assert [tick.get_text() for tick in ax.get_xticklabels()] == [
        "180°",
        "120°W",
        "60°W",
        "0°",
        "60°E",
        "120°E",
        "180°",
    ]
    assert [tick.get_text() for tick in ax.get_yticklabels()] == [
        "90°S",
        "60°S",
        "30°S",
        "0°",
        "30°N",
        "60°N",
        "90°N",
    ]


def test_a_map_of_the_pacific_goes_on_over_the_antimeridian():
    ax = plot.world_axes(extent=(120, -60, -60, 60))
    assert ax.get_xlim() == (120, 300)
    ax.figure.canvas.draw()
    labels = [tick.get_text() for tick in ax.get_xticklabels()]
    assert {"150°E", "180°", "150°W", "60°W"} <= set(labels)
    # Asia on one copy of the land, the Americas on the next, one turn further on.
    shifts = [(p.get_transform() - ax.transData).transform((0, 0))[0] for p in labelled(ax, "land")]
    assert shifts == pytest.approx([0, 360])


def test_filled_land_has_no_stripes_and_holes_stay_open():
    (patch,) = labelled(plot.world_axes(), "land")
    lon, lat = (
        values.ravel() for values in np.meshgrid(np.arange(-179, 180, 2.0), [*range(-89, 90, 2)])
    )
    filled = patch.get_path().contains_points(np.column_stack([lon, lat]))
    assert np.mean(filled == data.is_land(lon, lat)) > 0.999
    assert filled[lat == -89].all()
    # Holes run against the land around them, so that filling leaves them out: the Caspian Sea.
    rings = patch.get_path().to_polygons()
    areas = [np.sum(r[:-1, 0] * r[1:, 1] - r[1:, 0] * r[:-1, 1]) / 2 for r in rings]
    assert min(areas) < 0 < max(areas)
    assert abs(sum(areas)) == pytest.approx(shapely.area(data.load_land().geometry.array).sum())


def test_axes_that_are_given_are_used_and_returned():
    _, ax = plt.subplots()
    assert plot.world_axes(ax, extent=(0, 40, 20, 60)) is ax
    assert ax.get_ylim() == (40, 60)
    with pytest.raises(OptionError, match="south below north"):
        plot.world_axes(extent=(0, 60, 20, 40))


# Principal components as colours


def test_principal_components_are_those_of_scikit_learn():
    X = np.random.default_rng(0).normal(size=(300, 12)) * np.arange(1, 13) + 100.0
    scores, explained = principal_components(X, np.ones(300))
    truth = PCA(3).fit(X)
    assert np.abs(scores) == pytest.approx(np.abs(truth.transform(X)), abs=1e-8)
    assert explained == pytest.approx(truth.explained_variance_ratio_, abs=1e-12)


def test_vectors_longer_than_the_table_have_the_same_components():
    X = np.random.default_rng(0).normal(size=(20, 400)) + 5.0
    scores, explained = principal_components(X, np.ones(20))
    truth = PCA(3).fit(X)
    assert np.abs(scores) == pytest.approx(np.abs(truth.transform(X)), abs=1e-8)
    assert explained == pytest.approx(truth.explained_variance_ratio_, abs=1e-12)


def test_places_along_a_line_have_one_component_and_no_noise_in_the_others():
    line = np.outer(np.arange(6.0), [3.0, 4.0, 0.0, 0.0])
    scores, explained = principal_components(line, np.ones(6))
    assert explained == pytest.approx([1, 0, 0], abs=1e-12)
    assert not scores[:, 1:].any()
    assert np.ptp(scores[:, 0]) == pytest.approx(25)


def test_a_row_of_weight_two_counts_like_two_rows():
    X = np.random.default_rng(0).normal(size=(50, 5))
    weights = np.ones(50)
    weights[:10] = 2
    scores, explained = principal_components(X, weights)
    repeated, share = principal_components(np.concatenate([X, X[:10]]), np.ones(60))
    assert scores == pytest.approx(repeated[:50], abs=1e-10)
    assert explained == pytest.approx(share, abs=1e-12)


def test_the_sign_of_a_component_makes_its_largest_loading_positive():
    line = np.outer(np.arange(5.0), [-9.0, 1.0, 2.0])
    scores, _ = principal_components(line, np.ones(5))
    # Against the first column, whose loading is the largest: the scores fall along the rows.
    assert np.all(np.diff(scores[:, 0]) < 0)


def test_many_rows_are_fitted_on_a_sample_that_is_the_same_each_time(monkeypatch):
    monkeypatch.setattr(components, "_FIT_VALUES", 500 * 6)
    X = np.random.default_rng(0).normal(size=(5000, 6)) * [9, 5, 3, 1, 1, 1]
    first, _ = principal_components(X, np.ones(5000))
    second, _ = principal_components(X, np.ones(5000))
    assert np.array_equal(first, second)
    truth = PCA(3).fit_transform(X)
    for column in range(3):
        assert abs(np.corrcoef(first[:, column], truth[:, column])[0, 1]) > 0.98


def test_scattered_places_become_dots_with_their_colours(scattered):
    lon, lat, embedding = scattered
    ax = plot.embedding_map(lon, lat, embedding)
    drawn = dots(ax)
    assert np.asarray(drawn.get_offsets()) == pytest.approx(np.column_stack([lon, lat]))
    colours = drawn.get_facecolors()
    assert colours.shape == (60, 4)
    assert colours[:, :3].min() >= 0.08 - 1e-9
    assert colours[:, :3].max() <= 0.94 + 1e-9
    scores, _ = principal_components(embedding, np.ones(60))
    for channel in range(3):
        assert np.corrcoef(colours[:, channel], scores[:, channel])[0, 1] > 0.9


def test_the_caption_states_variance_and_places(scattered):
    lon, lat, embedding = scattered
    ax = plot.embedding_map(lon, lat, embedding, title="Random features")
    _, explained = principal_components(embedding, np.ones(60))
    shares = ", ".join(f"{share:.0%}" for share in explained)
    assert ax.get_xlabel() == (
        f"Principal components 1, 2, 3 as RGB: {shares} of the variance · 60 places"
    )
    assert ax.get_title(loc="left") == "Random features"


def test_outliers_do_not_decide_the_colours(scattered):
    lon, lat, _ = scattered
    line = np.zeros((60, 3))
    line[:, 0] = np.linspace(0, 1, 60)
    line[0, 0] = 50.0
    ax = plot.embedding_map(lon, lat, line, percentiles=(5, 95))
    red = dots(ax).get_facecolors()[1:, 0]
    assert np.ptp(red) > 0.6


def test_a_grid_over_land_becomes_a_picture_cut_along_the_coast(over_land):
    lon, lat, embedding = over_land
    ax = plot.embedding_map(lon, lat, embedding)
    (image,) = ax.images
    west, east, south, north = image.get_extent()
    assert (west, east, south) == pytest.approx((-180, 180, -90))
    assert image.get_array().shape == (round((north - south) / 4), 90, 4)
    assert image.get_clip_path() is not None
    assert image.origin == "lower"
    # Limits stay those of the map; every row's cell is filled.
    assert ax.get_xlim() == (-180, 180)
    column, line = ((lon - west) // 4).astype(int), ((lat - south) // 4).astype(int)
    assert np.all(image.get_array()[line, column, 3] == 1)


def test_cells_near_the_coast_are_filled_and_the_far_sea_is_not(over_land):
    lon, lat, embedding = over_land
    (image,) = plot.embedding_map(lon, lat, embedding).images
    opaque = image.get_array()[..., 3] == 1
    assert len(lon) < np.count_nonzero(opaque) < 0.8 * opaque.size


def test_a_grid_over_land_and_sea_is_shown_whole():
    lon, lat = (
        v.ravel() for v in np.meshgrid(np.arange(-175, 180, 10.0), np.arange(-85, 90, 10.0))
    )
    (image,) = plot.embedding_map(lon, lat, smooth_features(lon, lat)).images
    assert image.get_extent() == pytest.approx([-180, 180, -90, 90])
    assert np.all(image.get_array()[..., 3] == 1)
    assert not isinstance(image.get_clip_path(), matplotlib.transforms.TransformedPath)


def test_a_picture_over_the_antimeridian_lies_on_both_sides_of_it():
    lon, lat = data.land_grid(1, extent=(160, 50, -140, 72))
    ax = plot.embedding_map(lon, lat, smooth_features(lon, lat), extent=(160, 50, -140, 72))
    west, east, *_ = ax.images[0].get_extent()
    assert west == pytest.approx(160)
    assert east == pytest.approx(220)
    assert ax.get_xlim() == (160, 220)


def test_rows_with_missing_values_are_left_out_and_counted(scattered):
    lon, lat, embedding = scattered
    embedding[3, 5] = np.nan
    lon[7] = np.inf
    lat[9] = np.nan
    ax = plot.embedding_map(lon, lat, embedding)
    assert len(dots(ax).get_offsets()) == 57
    assert ax.get_xlabel().endswith("57 places, 3 left out (no usable values)")


def test_the_map_frames_the_places():
    lon, lat = np.array([5.0, 10.0, 15.0]), np.array([45.0, 50.0, 47.0])
    ax = plot.embedding_map(lon, lat, np.eye(3))
    assert ax.get_xlim() == pytest.approx((4.5, 15.5))
    assert ax.get_ylim() == pytest.approx((44.5, 50.5))
    assert plot.embedding_map(lon * 30 - 200, lat, np.eye(3)).get_xlim() == (-180, 180)


def test_longitudes_of_any_turn_are_the_same_places(scattered):
    lon, lat, embedding = scattered
    plain = dots(plot.embedding_map(lon, lat, embedding)).get_offsets()
    turned = dots(plot.embedding_map(lon + 720, lat, embedding)).get_offsets()
    assert np.asarray(turned) == pytest.approx(np.asarray(plain))


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int64"])
def test_embeddings_of_any_number_type_are_drawn(scattered, dtype):
    lon, lat, embedding = scattered
    ax = plot.embedding_map(lon, lat, (100 * embedding).astype(dtype))
    truth = plot.embedding_map(lon, lat, 100 * embedding)
    assert dots(ax).get_facecolors() == pytest.approx(dots(truth).get_facecolors(), abs=0.1)


def test_what_cannot_be_drawn_is_refused_before_a_figure_exists(scattered):
    lon, lat, embedding = scattered
    cases = [
        ((lon[:-1], lat, embedding), {}, r"lon must have one value a row .* got shape \(59,\)"),
        ((lon, lat[:, None], embedding), {}, r"lat must have one value a row .* \(60, 1\)"),
        ((lon, lat, embedding[0]), {}, r"shape \(n, d\): got float64 of \(24,\)"),
        ((lon, lat, embedding.astype(str)), {}, r"must be numbers of shape \(n, d\)"),
        ((lon[:2], lat[:2], embedding[:2]), {}, "at least 3 rows without missing values: got 2"),
        ((lon, lat, embedding[:, :2]), {}, "embedding has 2 columns"),
        ((lon, lat, np.ones_like(embedding)), {}, "the same vector in every row"),
        ((lon, lat, embedding), {"kind": "hexagons"}, "kind='hexagons' is not one of 'auto'"),
        ((lon, lat, embedding), {"kind": "grid"}, "not the centres of a regular grid"),
        ((lon, lat, embedding), {"percentiles": (98, 2)}, "0 <= low < high <= 100"),
        ((lon, lat, embedding), {"percentiles": 5}, "give two numbers"),
        ((lon, lat, embedding), {"size": 0}, "size=0 is not a positive area"),
        ((lon, lat, embedding), {"extent": (0, 1)}, "four numbers"),
    ]
    for arrays, options, match in cases:
        with pytest.raises(OptionError, match=match):
            plot.embedding_map(*arrays, **options)
    with pytest.raises(CoordinateError, match=r"1 of 60 do not, the first at position 4 \(120"):
        plot.embedding_map(lon, np.where(np.arange(60) == 4, 120.0, lat), embedding)
    with pytest.raises(CoordinateError, match="lon must be numbers"):
        plot.embedding_map(["east"] * 60, lat, embedding)
    assert plt.get_fignums() == []


# Similarity


def test_similarity_is_the_cosine_to_the_nearest_row(scattered):
    lon, lat, embedding = scattered
    place = (lon[11] + 0.001, lat[11])
    ax = plot.similarity_map(lon, lat, embedding, to=place)
    values = np.asarray(dots(ax).get_array())
    assert values == pytest.approx(cosine_similarity(embedding, embedding[[11]])[:, 0])
    assert values[11] == pytest.approx(1.0)
    assert ax.get_xlabel() == "Cosine similarity to the marked place · 60 places"


def test_the_place_is_marked_and_named(scattered):
    lon, lat, embedding = scattered
    ax = plot.similarity_map(lon, lat, embedding, to=(13.4, 52.5), name="Berlin", title="Like it")
    (mark,) = ax.lines
    assert (mark.get_xdata()[0], mark.get_ydata()[0]) == pytest.approx((13.4, 52.5))
    assert [text.get_text() for text in ax.texts] == ["Berlin"]
    assert ax.get_title(loc="left") == "Like it"
    assert ax.get_xlabel().startswith("Cosine similarity to Berlin (nearest row ")
    assert " km away) · 60 places" in ax.get_xlabel()


def test_a_vector_is_compared_without_a_mark(scattered):
    lon, lat, embedding = scattered
    ax = plot.similarity_map(lon, lat, embedding, to=embedding.mean(axis=0), name="the mean")
    assert np.asarray(dots(ax).get_array()) == pytest.approx(
        cosine_similarity(embedding, embedding.mean(axis=0)[None])[:, 0]
    )
    assert len(ax.lines) == len(ax.texts) == 0
    assert ax.get_xlabel().startswith("Cosine similarity to the mean")


def test_the_colour_bar_says_what_and_between_which_values(scattered):
    lon, lat, embedding = scattered
    ax = plot.similarity_map(lon, lat, embedding, (0.0, 0.0), vmin=0.0, vmax=0.5, cmap="magma")
    drawn = dots(ax)
    assert drawn.get_clim() == (0.0, 0.5)
    assert drawn.get_cmap().name == "magma"
    assert drawn.colorbar.ax.get_ylabel() == "cosine similarity"
    assert drawn.colorbar.extend == "both"
    default = dots(plot.similarity_map(lon, lat, embedding, (0.0, 0.0)))
    assert default.get_clim() == pytest.approx(
        np.percentile(np.asarray(default.get_array()), [1, 99.9])
    )


def test_similarity_on_a_grid_is_a_masked_picture(over_land):
    lon, lat, embedding = over_land
    ax = plot.similarity_map(lon, lat, embedding, to=(lon[100], lat[100]))
    (image,) = ax.images
    values = image.get_array()
    assert np.ma.is_masked(values)
    assert values.max() == pytest.approx(1.0)
    column, line = int((lon[100] + 180) // 4), int((lat[100] + 90) // 4)
    assert values[line, column] == pytest.approx(1.0)
    assert image.get_clip_path() is not None


def test_the_mark_is_seen_on_a_map_over_the_antimeridian(scattered):
    lon, lat, embedding = scattered
    extent = (150, -60, -100, 70)
    ax = plot.similarity_map(lon, lat, embedding, to=(-150.0, -17.0), extent=extent)
    assert ax.lines[0].get_xdata()[0] == pytest.approx(210)


def test_rows_of_zeros_have_no_direction_and_are_left_out(scattered):
    lon, lat, embedding = scattered
    embedding[2] = 0
    ax = plot.similarity_map(lon, lat, embedding, to=(0.0, 0.0))
    assert ax.get_xlabel().endswith("59 places, 1 left out (no usable values)")
    with pytest.raises(OptionError, match="at least 3 rows that are not all zeros"):
        plot.similarity_map(lon, lat, np.zeros_like(embedding), to=(0.0, 0.0))


def test_similarity_refuses_what_it_cannot_compare(scattered):
    lon, lat, embedding = scattered
    for target in ([1.0, 2.0, 3.0], "Paris", [np.nan, 3.0], np.zeros(24), 7.0):
        with pytest.raises(
            OptionError, match=r"to must be a place, \(lon, lat\), or a vector of 24"
        ):
            plot.similarity_map(lon, lat, embedding, to=target)
    with pytest.raises(CoordinateError, match="a latitude lies in"):
        plot.similarity_map(lon, lat, embedding, to=(48.9, 102.3))
    with pytest.raises(OptionError, match="cmap='rainbows' is not the name"):
        plot.similarity_map(lon, lat, embedding, (0.0, 0.0), cmap="rainbows")
    with pytest.raises(OptionError, match=r"vmin=0\.9 lies above vmax=0\.1"):
        plot.similarity_map(lon, lat, embedding, (0.0, 0.0), vmin=0.9, vmax=0.1)
    assert plt.get_fignums() == []


# Grids


@pytest.mark.parametrize("step", [0.1, 0.25, 1 / 3, 5])
def test_grids_of_any_step_are_recognised(step):
    lon, lat = (
        v.ravel() for v in np.meshgrid(-20 + step * np.arange(30), 40 + step * np.arange(20))
    )
    some = np.random.default_rng(0).permutation(600)[:200]
    grid = find_grid(lon[some], lat[some], "auto")
    assert grid.shape == (20, 30)
    assert grid.lon_step == pytest.approx(step)
    assert grid.edges == pytest.approx(
        (-20 - step / 2, -20 + 29.5 * step, 40 - step / 2, 40 + 19.5 * step)
    )
    picture = raster(grid, np.arange(200.0), over_land=False)
    assert picture.count() == 200
    assert picture[grid.line[17], grid.column[17]] == 17


def test_scattered_repeated_or_lined_up_places_are_no_grid():
    rng = np.random.default_rng(0)
    assert find_grid(rng.uniform(0, 9, 50), rng.uniform(0, 9, 50), "auto") is None
    assert find_grid(np.array([0.0, 1, 0, 1, 1]), np.array([0.0, 0, 1, 1, 1]), "auto") is None
    assert find_grid(np.array([0.0, 1, 2]), np.zeros(3), "auto") is None
    sparse = rng.integers(0, 3600, 300) / 10, rng.integers(-900, 900, 300) / 10
    assert find_grid(*sparse, "auto") is None
    assert find_grid(np.array([0.0, 1, 0, 1]), np.array([0.0, 0, 1, 1]), "points") is None


def test_rows_are_wrapped_and_kept_in_order():
    rows = check_rows([190.0, 180.0, -180.0, 5.0], [0, 1, 2, 3], np.eye(4))
    assert rows.lon.tolist() == [-170.0, 180.0, -180.0, 5.0]
    assert rows.left_out == 0


# Manners


def test_a_saved_map_is_a_picture_and_not_blank(over_land, tmp_path):
    lon, lat, embedding = over_land
    ax = plot.embedding_map(lon, lat, embedding)
    ax.figure.savefig(tmp_path / "map.png", dpi=60)
    pixels = matplotlib.image.imread(tmp_path / "map.png")
    assert pixels.shape[1] == 600
    assert len(np.unique(pixels.reshape(-1, pixels.shape[-1]), axis=0)) > 500


def test_settings_stay_and_nothing_is_shown(scattered, monkeypatch):
    lon, lat, embedding = scattered
    before = dict(matplotlib.rcParams)
    monkeypatch.setattr(plt, "show", lambda *_, **__: pytest.fail("a map called show"))
    plot.embedding_map(lon, lat, embedding)
    plot.similarity_map(lon, lat, embedding, (0.0, 0.0))
    assert dict(matplotlib.rcParams) == before


def test_importing_plot_does_not_import_matplotlib():
    code = "import sys, geoembed.plot; print([m for m in sys.modules if 'matplotlib' in m])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_without_matplotlib_the_error_names_the_extra(monkeypatch, scattered):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(MissingExtraError, match=r'pip install "geoembed\[plot\]"'):
        plot.embedding_map(*scattered)
