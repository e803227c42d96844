"""Scores of geolocation against literal distances and tables worked out by hand."""

import numpy as np
import pytest

from geoembed.errors import CoordinateError, OptionError
from geoembed.evaluation.geolocation.intervals import bootstrap_intervals
from geoembed.evaluation.geolocation.leakage import find_leaks
from geoembed.evaluation.geolocation.metrics import (
    check_thresholds,
    continent_table,
    errors_km,
    geoscore,
    share_within,
    summarise,
)
from geoembed.galleries.coverage import nearest_km
from geoembed.geodesy import destination

# Geodesics on WGS 84, km, literal: a degree of the equator is a / 180 * pi; the meridian's quarter
# is 10,001.965729 km; between antipodes on the equator the geodesic runs over a pole.
GEODESICS = [
    ((0.0, 0.0), (1.0, 0.0), 111.319490793),
    ((0.0, 0.0), (0.0, 90.0), 10_001.965729312),
    ((0.0, 0.0), (180.0, 0.0), 20_003.931458625),
    ((-0.1276, 51.5072), (2.3522, 48.8566), 343.897),
    ((179.5, 0.0), (-179.5, 0.0), 111.319490793),
]


@pytest.mark.parametrize(("start", "end", "km"), GEODESICS)
def test_errors_are_geodesics(start: tuple, end: tuple, km: float) -> None:
    assert errors_km([start], [end])[0] == pytest.approx(km, abs=5e-4)


def test_errors_keep_rows_without_a_prediction() -> None:
    km = errors_km([[0, 0], [1, 1]], [[np.nan, np.nan], [1, 1]])
    assert np.isnan(km[0])
    assert km[1] == 0.0


def test_errors_refuse_what_does_not_fit() -> None:
    with pytest.raises(CoordinateError, match="truth has 2 places and predicted has 1"):
        errors_km([[0, 0], [1, 1]], [[0, 0]])
    with pytest.raises(CoordinateError, match="1 missing"):
        errors_km([[np.nan, 0]], [[0, 0]])
    with pytest.raises(CoordinateError, match="latitude outside"):
        errors_km([[0, 95]], [[0, 0]])
    with pytest.raises(CoordinateError, match="latitude outside"):
        errors_km([[0, 0]], [[0, 95]])


def test_geoscore_at_literal_distances() -> None:
    # 5000 / e, 5000 / e^2, and the far side of the Earth.
    points = geoscore([0.0, 1492.7, 2985.4, 20_003.93])
    assert points == pytest.approx([5000.0, 1839.3972, 676.6764, 0.00757], rel=1e-3)


def test_shares_by_hand() -> None:
    # 8 errors: 3 within 1 km (one exactly 1), 4 within 25, 5 within 200, 6 within 750, 7 in 2500.
    km = [0.0, 0.3, 1.0, 25.0, 199.9, 750.0, 2499.0, 2500.1]
    assert share_within(km).tolist() == [37.5, 50.0, 62.5, 75.0, 87.5]
    assert np.isnan(share_within([])).all()
    # A picture without a prediction is within nothing.
    assert share_within([0.5, np.nan], [1, 25]).tolist() == [50.0, 50.0]


def test_summary_by_hand() -> None:
    found = summarise([0.5, 2.0, 100.0, 4000.0])
    assert found["within 1 km"] == 25.0
    assert found["within 25 km"] == 50.0
    assert found["within 200 km"] == 75.0
    assert found["within 2500 km"] == 75.0
    assert found["median_km"] == 51.0
    assert found["mean_km"] == 1025.625
    points = [5000 * np.exp(-km / 1492.7) for km in (0.5, 2.0, 100.0, 4000.0)]
    assert found["geoscore"] == pytest.approx(sum(points) / 4)
    assert np.isnan(summarise([])["geoscore"])


def test_continents_by_hand() -> None:
    truth = [
        [36.82, -1.29],  # Nairobi
        [31.24, 30.04],  # Cairo
        [2.35, 48.86],  # Paris
        [-58.38, -34.60],  # Buenos Aires
        [151.2, -33.9],  # Sydney
        [-30.0, 0.0],  # the Atlantic
    ]
    table = continent_table(truth, [0.5, 30.0, 10.0, 800.0, 5000.0, 100.0], [1, 25, 750])
    assert table["continent"].tolist() == [
        "Africa",
        "Europe",
        "Oceania",
        "South America",
        "at sea",
    ]
    assert table["n"].tolist() == [2, 1, 1, 1, 1]
    assert table["within 1 km"].tolist() == [50.0, 0.0, 0.0, 0.0, 0.0]
    assert table["within 25 km"].tolist() == [50.0, 100.0, 0.0, 0.0, 0.0]
    assert table["within 750 km"].tolist() == [100.0, 100.0, 0.0, 0.0, 100.0]
    assert table["median_km"].tolist() == [15.25, 10.0, 5000.0, 800.0, 100.0]


@pytest.mark.parametrize("wrong", [[], [0, 1], [25, 1], [1, 1], ["a"], [1, np.inf], None, 5])
def test_thresholds_that_do_not_fit(wrong: object) -> None:
    with pytest.raises(OptionError, match="thresholds_km=.* does not fit"):
        check_thresholds(wrong)  # type: ignore[arg-type]


def test_intervals_cover_a_known_share() -> None:
    # 30 % of the errors are within 1 km by construction; a 90 % interval holds 30 in 90 % of
    # 400 tables, whose own standard deviation is 1.5 %.
    rng = np.random.default_rng(7)
    held = 0
    for table in range(400):
        km = np.where(rng.random(250) < 0.3, 0.5, 80.0)
        low, high = bootstrap_intervals(km, [1], resamples=300, level=0.9, seed=table)[
            "within 1 km"
        ]
        held += low <= 30.0 <= high
    assert 0.85 <= held / 400 <= 0.95


def test_intervals_of_median_mean_and_points_cover() -> None:
    rng = np.random.default_rng(8)
    many = rng.lognormal(5.0, 1.5, 400_000)
    truth = {"median_km": np.exp(5.0), "mean_km": np.exp(5.0 + 1.125)}
    truth["geoscore"] = float(geoscore(many).mean())
    held = dict.fromkeys(truth, 0)
    for table in range(200):
        km = rng.lognormal(5.0, 1.5, 301)
        found = bootstrap_intervals(km, [25], resamples=300, level=0.9, seed=table)
        for name, value in truth.items():
            held[name] += found[name][0] <= value <= found[name][1]
    # The mean of so skewed errors is known to be covered less often.
    assert 0.84 <= held["median_km"] / 200 <= 0.96
    assert 0.84 <= held["geoscore"] / 200 <= 0.96
    assert 0.75 <= held["mean_km"] / 200 <= 0.95


def test_intervals_hold_the_scores_and_repeat() -> None:
    rng = np.random.default_rng(3)
    for n in (1, 2, 3, 50, 51):
        km = rng.lognormal(4.0, 2.0, n)
        found = bootstrap_intervals(km, resamples=500, seed=4)
        assert found == bootstrap_intervals(km[::-1], resamples=500, seed=4)
        for name, value in summarise(km).items():
            low, high = found[name]
            assert low - 1e-9 <= value <= high + 1e-9, (n, name)
    assert found != bootstrap_intervals(km, resamples=500, seed=5)


def test_none_and_all_within_are_not_certain() -> None:
    # Clopper and Pearson, 0 of 20 at 95 %: high = 1 - 0.025 ** (1 / 20) = 16.843 %.
    found = bootstrap_intervals([30.0] * 20, [1, 25, 200], resamples=50)
    assert found["within 1 km"] == pytest.approx((0.0, 16.8433), abs=1e-4)
    assert found["within 200 km"] == pytest.approx((83.1567, 100.0), abs=1e-4)
    assert all(np.isnan(end) for end in bootstrap_intervals([])["within 1 km"])


def test_draws_in_blocks_fill_every_row(monkeypatch: pytest.MonkeyPatch) -> None:
    km = np.random.default_rng(1).lognormal(4.0, 2.0, 400)
    whole = bootstrap_intervals(km, resamples=1000)
    monkeypatch.setattr("geoembed.evaluation.geolocation.intervals._DRAWN", 400 * 90)
    for name, ends in bootstrap_intervals(km, resamples=1000).items():
        assert ends == pytest.approx(whole[name], rel=0.1, abs=1.0), name


def test_resampling_that_does_not_fit() -> None:
    with pytest.raises(OptionError, match="resamples=0 is no whole number"):
        bootstrap_intervals([1.0], resamples=0)
    with pytest.raises(OptionError, match="level=1 is not a share"):
        bootstrap_intervals([1.0], level=1)


@pytest.mark.parametrize(
    ("lon", "lat"), [(0.0, 0.0), (13.4, 52.5), (180.0, -17.0), (20.0, 89.9999), (-70.0, -89.99)]
)
def test_leaks_at_9_and_11_metres(lon: float, lat: float) -> None:
    bearings = np.arange(0.0, 360.0, 30.0)
    for metres, leaked in ((9.0, 12), (9.99, 12), (10.01, 0), (11.0, 0)):
        places = np.column_stack(destination(lon, lat, bearings, metres / 1000))
        leaks = find_leaks(places, [[lon, lat], [lon + 40, lat / 2 + 1]])
        assert len(leaks) == leaked, metres
        assert leaks.metres == pytest.approx([metres] * leaked, abs=1e-5)
        assert leaks.gallery_rows.tolist() == [0] * leaked


def test_leaks_name_the_nearest_place() -> None:
    gallery = np.array([[10.0, 50.0], [10.0001, 50.0], [10.0, 50.0], [-120.0, 30.0]])
    leaks = find_leaks([[10.00004, 50.0], [0.0, 0.0], [-120.0, 30.0]], gallery)
    assert leaks.rows.tolist() == [0, 2]
    assert leaks.gallery_rows.tolist() == [0, 3]
    assert leaks.exact == 1
    assert leaks.share == pytest.approx(200 / 3)
    assert find_leaks([[10.0, 50.0]], gallery, within_m=0).gallery_rows.tolist() == [0]


def test_leaks_agree_with_all_distances() -> None:
    rng = np.random.default_rng(5)
    gallery = np.column_stack([rng.uniform(7.0, 7.02, 3000), rng.uniform(46.0, 46.02, 3000)])
    queries = np.column_stack([rng.uniform(7.0, 7.02, 500), rng.uniform(46.0, 46.02, 500)])
    metres = 1000 * errors_km(np.repeat(queries, 3000, 0), np.tile(gallery, (500, 1)))
    nearest = metres.reshape(500, 3000).min(axis=1)
    leaks = find_leaks(queries, gallery)
    assert leaks.rows.tolist() == np.flatnonzero(nearest <= 10.0).tolist()
    assert 20 < len(leaks) < 480
    assert leaks.metres == pytest.approx(nearest[leaks.rows])


def test_nearest_places_agree_with_all_distances() -> None:
    rng = np.random.default_rng(6)
    gallery = np.column_stack([rng.uniform(-180, 180, 700), rng.uniform(-90, 90, 700)])
    queries = np.column_stack([rng.uniform(-180, 180, 300), rng.uniform(-90, 90, 300)])
    km = errors_km(np.repeat(queries, 700, 0), np.tile(gallery, (300, 1))).reshape(300, 700)
    assert nearest_km(queries, gallery) == pytest.approx(km.min(axis=1), abs=1e-9)
    assert nearest_km([[0, 0]], [[0, 1]]).round(6).tolist() == [110.574389]


def test_leaks_refuse_other_distances() -> None:
    with pytest.raises(OptionError, match="within_m=-1 is not a distance"):
        find_leaks([[0, 0]], [[0, 0]], within_m=-1)
    assert len(find_leaks(np.empty((0, 2)), [[0, 0]])) == 0
