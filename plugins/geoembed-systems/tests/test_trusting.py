"""Uncertainty: probabilities of cells on the core's density, regions, calibration, maps."""

import tracemalloc

import matplotlib
import numpy as np
import pytest
import shapely
from geoembed_systems.cells.adaptive import adaptive_partition
from geoembed_systems.pictures.features import PictureFeatures
from geoembed_systems.shared.base import System
from geoembed_systems.shared.pooling import log_normalised
from geoembed_systems.shared.trusting import CellDensity

from geoembed.errors import CoordinateError, OptionError
from geoembed.geodesy import distance_km, to_unit_vectors
from geoembed.geolocation.queries import UnreadablePictureWarning

matplotlib.use("agg")

TOWNS = np.array([[2.35, 48.86], [-58.4, -34.6], [139.7, 35.7], [28.0, -26.2], [151.2, -33.9]])
LOOKS = np.random.default_rng(99).normal(size=(5, 6)) * 3


class Known(System):
    """Knows how towns look; `scale` makes it too sure, or not sure enough."""

    title = "Known"

    def __init__(self, *, scale=1.0, noise=1.0, crops="none", crop_pooling="mean"):
        self.scale = scale
        self.noise = noise
        self.crops = crops
        self.crop_pooling = crop_pooling
        self.image_encoder, self.weights, self.allow_download = "geoclip.v1", None, False
        self.device, self.progress = "cpu", False

    def _fit(self, features, lonlat, scenes):
        self.partition_ = adaptive_partition(lonlat, t_max=len(lonlat) // 3, t_min=1)
        self.nearest_ = distance_km(*self.partition_.means.T[:, :, None], *TOWNS.T[:, None]).argmin(
            axis=1
        )

    def _log_scores(self, features):
        away = ((features.pooled[:, :1] - LOOKS[self.nearest_]) ** 2).sum(axis=-1)
        return log_normalised((-self.scale * away / (2 * self.noise**2)).astype(np.float32))

    def _state(self):
        return {}, {}

    def _restore(self, tensors, config):
        pass


def make_world(rows=300, seed=0, noise=1.0):
    rng = np.random.default_rng(seed)
    town = rng.integers(len(TOWNS), size=rows)
    features = LOOKS[town] + rng.normal(0, noise, (rows, LOOKS.shape[1]))
    return features.astype(np.float32), TOWNS[town] + rng.normal(0, 0.3, (rows, 2))


@pytest.fixture(scope="module")
def fitted():
    return Known().fit(*make_world())


def make_shares(rows, cells, seed=0):
    p = np.random.default_rng(seed).dirichlet(np.full(cells, 0.2), rows)
    return np.maximum(p, 1e-12) / np.maximum(p, 1e-12).sum(axis=1, keepdims=True)


def test_the_mass_of_a_cell_is_its_probability_on_the_land_nearest_to_its_mean():
    rng = np.random.default_rng(0)
    means = np.column_stack([rng.uniform(-170, 170, 25), rng.uniform(-50, 65, 25)])
    p = make_shares(4, 25)
    density = CellDensity(means)
    earth = density.earth
    mass = earth.probabilities(density.scores(np.log(p)), tau=1.0)
    centres = to_unit_vectors(earth.cells.centres(earth.cell))
    owner = (centres @ to_unit_vectors(means).T).argmax(axis=1)
    # A mean speaks for its own Earth cell, wherever that one's centre lies.
    home = np.searchsorted(earth.cell, earth.cells.locate(means))
    assert len(np.unique(home)) == 25
    owner[home] = np.arange(25)
    found = np.stack([mass[:, owner == cell].sum(axis=1) for cell in range(25)], axis=1)
    assert found == pytest.approx(p, rel=1e-4, abs=1e-9)
    # Within that land the density is even.
    flat = mass / earth.areas_km2
    for cell in range(25):
        assert np.ptp(flat[0, owner == cell]) < 1e-4 * flat[0, owner == cell].max()


def test_cells_of_one_mean_count_together():
    means = np.array([[2.35, 48.86], [-58.4, -34.6], [2.35, 48.86]])
    twice = CellDensity(means)
    once = CellDensity(means[:2])
    with np.errstate(divide="ignore"):
        scores = twice.scores(np.log([[0.2, 0.5, 0.3], [0.0, 1.0, 0.0]]))
    expected = once.scores(np.log([[0.5, 0.5], [1e-40, 1.0]]))
    assert np.isfinite(scores).all()
    assert twice.earth.probabilities(scores, tau=1.0) == pytest.approx(
        once.earth.probabilities(expected, tau=1.0), abs=1e-9
    )


def test_regions_hold_their_share_and_are_the_densest_part(fitted):
    features, _ = make_world(6, seed=1, noise=2.0)
    found = fitted.regions(features, shares=(0.5, 0.9))
    assert list(found.columns) == [
        *("query", "share", "mass", "area_km2", "calibrated", "geometry"),
    ]
    assert found.crs.to_epsg() == 4326
    assert found["query"].tolist() == [str(row) for row in range(6) for _ in range(2)]
    assert (found["mass"] >= found["share"] - 1e-9).all()
    assert not found["calibrated"].any()
    earth = fitted._density.earth
    mass = earth.probabilities(
        fitted._density.scores(np.log(fitted.predict_proba(features))), tau=1
    )
    for row in range(6):
        order = np.argsort(-mass[row] / earth.areas_km2, kind="stable")
        gathered = np.cumsum(mass[row, order])
        for share in (0.5, 0.9):
            # One cell less would not do.
            count = int((gathered < share).sum()) + 1
            told = found[(found["query"] == str(row)) & (found["share"] == share)].iloc[0]
            assert told["mass"] == pytest.approx(gathered[count - 1], abs=2e-3)
            assert told["area_km2"] == pytest.approx(earth.areas_km2[order[:count]].sum(), rel=0.02)


def test_memory_does_not_grow_with_the_number_of_pictures(fitted):
    features, _ = make_world(900, seed=1)
    assert len(fitted._density.earth) > 60_000
    # All of their probabilities of the Earth's cells at once would be 465 MB, and thrice that.
    peaks = []
    for ask in (fitted.localize, lambda x: [1 for _ in fitted._masses(PictureFeatures(x), None)]):
        tracemalloc.start()
        ask(features)
        peaks.append(tracemalloc.get_traced_memory()[1] / 1e6)
        tracemalloc.stop()
    assert max(peaks) < 250


def test_parts_of_pictures_do_not_change_radii_and_regions(fitted, monkeypatch):
    features, _ = make_world(7, seed=1, noise=2.0)
    table, regions = fitted.localize(features), fitted.regions(features)
    monkeypatch.setattr("geoembed_systems.shared.trusting._VALUES_AT_ONCE", 130_000)
    assert len([*fitted._masses(PictureFeatures(features), None)]) == 4
    assert fitted.localize(features).equals(table)
    again = fitted.regions(features)
    assert again["query"].tolist() == regions["query"].tolist()
    assert again["mass"].tolist() == pytest.approx(regions["mass"].tolist(), abs=1e-6)
    # Sums that are rounded otherwise may end a cell earlier or later.
    assert again["area_km2"].tolist() == pytest.approx(regions["area_km2"].tolist(), abs=3000)


def test_blocks_are_small_where_pictures_have_many_tokens(fitted):
    tokens = np.broadcast_to(np.float32(0.0), (90, 100, 2000))
    wide = PictureFeatures(np.zeros((90, 6)), tokens=tokens)
    sizes = [len(rows) for rows, _, _ in fitted._blocks(wide)]
    assert sizes == [39, 39, 12]


def test_a_sure_picture_has_its_place_in_its_region(fitted):
    features = LOOKS[:1].astype(np.float32)
    half = fitted.regions(features, shares=(0.5,)).iloc[0]
    [place] = fitted.predict(features)
    assert half["geometry"].buffer(0.5).contains(shapely.Point(place))


def test_pictures_with_an_error_have_no_region(fitted):
    pooled = make_world(2, seed=1)[0]
    asked = PictureFeatures(pooled, errors=["", "broken"], names=["a", "b"])
    with pytest.warns(UnreadablePictureWarning, match="b: broken"):
        assert set(fitted.regions(asked)["query"]) == {"a"}
    none = PictureFeatures(pooled, errors=["broken", "broken"])
    with pytest.warns(UnreadablePictureWarning), pytest.raises(OptionError, match="No picture has"):
        fitted.regions(none)


def test_calibrated_radii_hold_the_truth_as_often_as_they_say():
    system = Known(noise=2.5).fit(*make_world())
    system.calibrate(*make_world(600, seed=2, noise=2.5))
    asked, truth = make_world(300, seed=3, noise=2.5)
    found = system.localize(asked, top_k=1)
    assert found["calibrated"].all()
    away = distance_km(*found[["lon", "lat"]].to_numpy().T, *truth.T)
    assert 0.02 < (away > 500).mean() < 0.5  # some answers are wrong
    for share in (50, 90):
        inside = (away <= found[f"radius_{share}_km"]).mean()
        assert share / 100 - 0.08 < inside < share / 100 + 0.08
    assert system.regions(asked[:2])["calibrated"].all()


def test_a_system_that_is_too_sure_is_cooled_down():
    features, lonlat = make_world(400, seed=2, noise=2.5)
    right, bold = (Known(noise=2.5, scale=scale).fit(*make_world()) for scale in (1.0, 5.0))
    assert right.calibrate(features, lonlat).temperature.tau == pytest.approx(1.0, abs=0.35)
    assert bold.calibrate(features, lonlat).temperature.tau == pytest.approx(5.0, rel=0.35)


def test_calibration_is_repeated_by_its_seed_and_forgotten_by_fit():
    features, lonlat = make_world(100, seed=2, noise=2.5)
    system = Known(noise=2.5).fit(*make_world())
    first = system.calibrate(features, lonlat, random_state=4)
    assert system.calibrate(features, lonlat, random_state=4) == first
    assert system.calibrate(features, lonlat, random_state=5) != first
    system.fit(*make_world())
    assert not hasattr(system, "calibration_")


def test_calibration_refuses_what_does_not_fit(fitted):
    features, lonlat = make_world(20)
    with pytest.raises(OptionError, match="20 pairs are too few"):
        fitted.calibrate(features, lonlat)
    with pytest.raises(CoordinateError, match="5 places for 20 pictures"):
        fitted.calibrate(features, TOWNS)


def test_pictures_with_an_error_are_left_out_of_calibration():
    features, lonlat = make_world(100, seed=2)
    system = Known().fit(*make_world())
    expected = system.calibrate(features, lonlat)
    errors = [""] * 101
    errors[10] = "broken"
    asked = PictureFeatures(np.insert(features, 10, np.nan, axis=0), errors=errors)
    with pytest.warns(UnreadablePictureWarning, match="1 of 101"):
        assert system.calibrate(asked, np.insert(lonlat, 10, 0.0, axis=0)) == expected


def test_the_map_is_darkest_where_the_picture_is_from(fitted):
    features = LOOKS[1:2].astype(np.float32)
    ax = fitted.probability_map(features, title="Where?")
    [drawn] = ax.images
    values, (west, east, south, north) = drawn.get_array(), drawn.get_extent()
    [(lon, lat)] = fitted.predict(features)
    column = int((lon - west) / (east - west) * values.shape[1])
    row = int((lat - south) / (north - south) * values.shape[0])
    assert values[row, column] == values.max()
    [(lon, lat)] = TOWNS[:1]
    column = int((lon - west) / (east - west) * values.shape[1])
    row = int((lat - south) / (north - south) * values.shape[0])
    assert values[row, column] < values.max() - 3
    assert ax.get_title(loc="left") == "Where?"
    assert "likeliest cell of 50 km" in ax.get_xlabel()
    # The Pacific has no land, and nothing is drawn there.
    assert values.mask[values.shape[0] // 2, values.shape[1] // 12]
    matplotlib.pyplot.close(ax.figure)


def test_a_map_may_cross_the_antimeridian(fitted):
    ax = fitted.probability_map(LOOKS[:1].astype(np.float32), extent=(100, -50, -100, 60))
    assert [float(limit) for limit in ax.get_xlim()] == [100.0, 260.0]
    [drawn] = ax.images
    assert not drawn.get_array().mask.all()
    matplotlib.pyplot.close(ax.figure)


def test_a_map_is_of_one_picture_that_can_be_read(fitted):
    with pytest.raises(OptionError, match="shows one picture, and 2 were given"):
        fitted.probability_map(make_world(2)[0])
    broken = PictureFeatures(np.zeros((1, 6)), errors=["broken"], names=["a.jpg"])
    with pytest.raises(OptionError, match=r"a\.jpg cannot be mapped: broken"):
        fitted.probability_map(broken)
