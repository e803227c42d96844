"""Scores of made-up runs, their intervals and differences, against enumeration and the core."""

import itertools
import json

import matplotlib.pyplot as plt
import numpy as np
import pytest
from benchmark_runs import MEDIAN, made
from geoembed_systems.benchmark.comparing import SCORES, compare, mark_best, score_runs
from geoembed_systems.benchmark.drawing import draw_systems
from geoembed_systems.benchmark.intervals import draw_scores, interval_of, score_names, seed_means
from geoembed_systems.benchmark.printing import text_tables
from geoembed_systems.benchmark.reading import Results
from geoembed_systems.benchmark.report import BenchmarkReport
from matplotlib.text import Text

from geoembed.errors import OptionError
from geoembed.evaluation.geolocation import bootstrap_intervals, summarise
from geoembed.splits.blocks import choose_blocks

# -- scores and intervals --------------------------------------------------------------------------


def test_thresholds_have_one_name_each():
    assert score_names([0.5, 2500]) == ("within_0.5", "within_2500", *SCORES[-3:])


def test_scores_are_those_of_the_core():
    km = np.random.default_rng(1).lognormal(6, 2, (2, 51))
    found = seed_means(km)
    for row, errors in zip(found, km, strict=True):
        np.testing.assert_allclose(row, list(summarise(errors).values()), rtol=1e-12)
    assert len(SCORES) == found.shape[1]


def test_draws_are_those_that_enumeration_gives():
    # All 27 ways to draw 3 of 3 pictures are alike likely; two seeds.
    km = np.array([[10.0, 300.0, 2000.0], [40.0, 20.0, 900.0]])
    ways = list(itertools.product(range(3), repeat=3))
    truth = np.array([seed_means(km[:, list(way)]).mean(axis=0) for way in ways])
    drawn = draw_scores({"a": km}, resamples=27_000)["a"]
    for at in range(len(SCORES)):
        values, counts = np.unique(truth[:, at].round(6), return_counts=True)
        found = np.array([(np.abs(drawn[:, at] - v) < 1e-5).sum() for v in values])
        assert found.sum() == len(drawn)  # nothing that cannot be drawn
        np.testing.assert_allclose(found / 1000.0, counts, atol=0.6)


def test_groups_are_drawn_whole():
    # Two blocks: 0 with two pictures, 1 with one. Four ways, and so four medians.
    km = np.array([[10.0, 30.0, 500.0]])
    drawn = draw_scores({"a": km}, groups=np.array([0, 0, 1]), resamples=4000)["a"]
    values, counts = np.unique(drawn[:, MEDIAN], return_counts=True)
    # 0 twice: 10, 10, 30, 30; each once (two ways): 10, 30, 500; 1 twice: 500, 500.
    assert values.tolist() == [20.0, 30.0, 500.0]
    np.testing.assert_allclose(counts / 1000.0, [1.0, 2.0, 1.0], atol=0.15)


def test_seeds_that_agree_make_nothing_surer():
    km = np.random.default_rng(2).lognormal(6, 1.5, 200)
    three = np.stack([km] * 3)
    drawn = draw_scores({"a": three}, resamples=4000, seed=3)["a"]
    low, high = interval_of(three, drawn)
    theirs = np.array(list(bootstrap_intervals(km, resamples=4000).values()))
    width = theirs[:, 1] - theirs[:, 0]
    np.testing.assert_allclose(low, theirs[:, 0], atol=0.12 * width.max(), rtol=0.06)
    assert (np.abs(low - theirs[:, 0]) <= 0.12 * width + 1e-9).all()
    assert (np.abs(high - theirs[:, 1]) <= 0.12 * width + 1e-9).all()


def test_one_seed_has_the_interval_of_the_core_to_the_bit():
    km = np.random.default_rng(3).lognormal(6, 1.5, (1, 90))
    low, high = interval_of(km, draw_scores({"a": km}, resamples=500)["a"])
    theirs = np.array(list(bootstrap_intervals(km[0], resamples=500).values()))
    np.testing.assert_array_equal(np.stack([low, high], axis=1), theirs)


def test_a_share_of_none_is_not_certain_whatever_the_seeds():
    km = np.full((3, 100), 500.0)
    low, high = interval_of(km, draw_scores({"a": km}, resamples=50)["a"])
    # The exact interval of none in 100 ends at 1 - 0.025 ** (1 / 100).
    assert high[0] == pytest.approx(100.0 * (1.0 - 0.025**0.01))
    assert low[0] == 0.0
    assert (low[4], high[4]) == (pytest.approx(100.0 * 0.025**0.01), 100.0)


def test_no_interval_jumps_where_the_first_picture_of_a_block_comes_near():
    groups = np.arange(320) // 20
    ends = []
    for count in (0, 1, 5):
        km = np.where(np.arange(320) < count, 50.0, 3000.0 + np.arange(320))[None].repeat(3, axis=0)
        drawn = draw_scores({"a": km}, groups=groups, resamples=2000)["a"]
        low, high = interval_of(km, drawn, groups=16)
        ends.append([low[2], high[2]])
        assert np.isfinite([low[-3:], high[-3:]]).all()
    # None of 320 in 16 blocks: draws say nothing, and nothing is claimed.
    assert np.isnan(ends[0]).all()
    # One block of 16 is drawn up to three times: its pictures count so often.
    np.testing.assert_allclose(ends[1], [0.0, 100.0 * 3 / 320], atol=0.02)
    np.testing.assert_allclose(ends[2], [0.0, 100.0 * 15 / 320], atol=0.1)


def test_a_score_without_an_interval_is_shown_without_one(tmp_path):
    rng = np.random.default_rng(12)
    lonlat = np.stack([np.arange(60) // 6 * 10.0 + 5.0, np.full(60, 5.0)], axis=1)
    km = rng.uniform(300.0, 2000.0, 60)
    runs = (made(km), made(1.2 * km, system="isns"), made(3.0 * km, system="chance"))
    report = BenchmarkReport(
        Results({"name": "toy"}, {}, lonlat, runs), blocks=choose_blocks(None, 10.0, None)
    )
    page = report.to_markdown(pictures=False)
    row = next(line for line in page.splitlines() if line.startswith("| PlaNet | 0.0"))
    assert row.split(" | ")[1] == "0.0 (no interval)"
    assert "No interval: every draw says the same" in page
    assert "nan" not in page
    tables = {title: rows for title, _, rows in text_tables(report)}
    title = next(title for title in tables if title.startswith("95 % intervals"))
    assert title.endswith("(no interval: every draw says the same)")
    assert tables[title][0][1] == "no interval"
    assert "to" in tables[title][0][4]
    gaps = report.differences("planet").set_index(["system", "score"]).loc["isns"]
    assert gaps.loc["within_1", ["low", "high"]].isna().all()
    assert gaps.loc["median_km", "low"] > 0.0
    assert (
        json.loads(json.dumps(report.to_dict(), allow_nan=False))["table"][0]["within_1_low"]
        is None
    )
    report.save(tmp_path)
    within_1 = draw_systems(report).axes[0]
    assert within_1.get_xticks().min() >= 0.0  # of percent
    assert "No line: every draw says the same." in " ".join(
        text.get_text().replace("\n", " ") for text in draw_systems(report).findobj(Text)
    )
    plt.close("all")


def test_pictures_of_one_block_tell_nothing_apart():
    km = np.random.default_rng(13).uniform(300.0, 2000.0, 40)
    runs = (made(km), made(3.0 * km, system="geoclip"))
    report = BenchmarkReport(
        Results({"name": "toy"}, {}, np.full((40, 2), 5.0), runs),
        blocks=choose_blocks(None, 10.0, None),
    )
    assert set(report.differences()["verdict"]) == {"cannot be told"}
    told = " ".join(report.conclusion)
    assert "km more (no interval), which these pictures and seeds cannot tell" in told
    assert report.marks() == {}
    assert report.to_markdown().count("nan") == 0


@pytest.mark.parametrize(
    ("errors", "options", "message"),
    [
        ({"a": np.ones((1, 3)), "b": np.ones((1, 4))}, {}, "compared on the same pictures"),
        ({"a": np.ones((1, 0))}, {}, "compared on the same pictures"),
        ({"a": np.ones((1, 3))}, {"resamples": 0}, "resamples=0"),
        ({"a": np.ones((1, 3))}, {"groups": np.zeros(2, int)}, "groups= has 2 entries for 3"),
    ],
)
def test_draws_that_make_no_sense_are_refused(errors, options, message):
    with pytest.raises(OptionError, match=message):
        draw_scores(errors, **options)


def test_blocks_make_intervals_wider_where_neighbours_err_together():
    rng = np.random.default_rng(10)
    blocks = np.repeat(np.arange(12), 20)
    lonlat = np.stack([blocks * 10.0 + rng.uniform(0, 10, 240), rng.uniform(0, 10, 240)], axis=1)
    km = rng.lognormal(6, 1.0, 12)[blocks] * rng.lognormal(0, 0.1, 240)
    results = Results({"name": "toy"}, {}, lonlat, (made(km), made(km * 2.0, system="isns")))
    widths = []
    for blocks in (None, choose_blocks(None, 10.0, None)):
        report = BenchmarkReport(results, blocks=blocks, resamples=300)
        table = report.table()
        widths.append(table["mean_km_high"].iloc[0] - table["mean_km_low"].iloc[0])
    assert widths[1] > 2.0 * widths[0]
    assert report.drawn_from == "12 whole blocks of 10 degrees"
    assert "95 % interval over 12 whole blocks of 10 degrees" in report.to_markdown()


# -- differences -----------------------------------------------------------------------------------


def test_a_difference_that_is_the_same_on_each_picture_is_certain():
    # Pictures differ a thousandfold, and the systems by 5 km on each of them.
    km = np.random.default_rng(4).uniform(10.0, 10_000.0, 80)
    runs = [made(km + 5.0 * (name == "isns"), system=name) for name in ("planet", "isns")]
    found = compare(score_runs(runs, resamples=200), "isns", "planet", 1.0).set_index("score")
    for name in ("median_km", "mean_km"):
        row = found.loc[name]
        np.testing.assert_allclose([row["difference"], row["low"], row["high"]], 5.0, rtol=1e-6)
        assert row["verdict"] == "worse"
    assert found.loc["geoscore", "verdict"] == "worse"
    back = compare(score_runs(runs, resamples=200), "planet", "isns", 1.0).set_index("score")
    assert back.loc["median_km", "verdict"] == "better"


def test_a_seed_that_says_otherwise_forbids_a_verdict():
    km = np.random.default_rng(5).uniform(100.0, 200.0, 60)
    steps = {"planet": (0.0, 0.0, 0.0), "isns": (-30.0, -30.0, 2.0), "knn": (-30.0, -30.0, -20.0)}
    runs = [
        made(km + step, system=name, seed=seed)
        for name, each in steps.items()
        for seed, step in enumerate(each)
    ]
    scores = score_runs(runs, resamples=200)
    verdicts = {
        name: compare(scores, name, "planet", 1.0).set_index("score").loc["median_km"]
        for name in ("isns", "knn")
    }
    assert verdicts["isns"]["high"] < 0.0  # other pictures would not change it, another seed may
    assert verdicts["isns"]["verdict"] == "cannot be told"
    assert verdicts["knn"]["verdict"] == "better"


def test_a_system_that_ran_once_meets_all_seeds_of_the_other():
    km = np.random.default_rng(6).uniform(100.0, 200.0, 60)
    runs = [made(km, system="knn")]
    runs += [made(km + step, seed=seed) for seed, step in enumerate((40.0, 40.0, -1.0))]
    found = compare(score_runs(runs, resamples=100), "knn", "planet", 1.0).set_index("score")
    assert found.loc["median_km", "low"] < found.loc["median_km", "high"] < 0.0
    assert found.loc["median_km", "verdict"] == "cannot be told"


def test_marks_name_the_best_and_those_not_told_from_it():
    rng = np.random.default_rng(7)
    km = rng.uniform(100.0, 1000.0, 100)
    swapped = rng.permutation(km)
    runs = [made(km, system="planet"), made(swapped, system="isns"), made(3 * km, system="knn")]
    runs.append(made(0.1 * km, system="chance"))  # a baseline takes no part
    scores = score_runs(runs, resamples=300)
    marks = mark_best(scores, 1.0)
    assert {s for (s, n) in marks if n == "within_750"} == {"planet", "isns"}
    assert sorted(m for (_, n), m in marks.items() if n == "median_km") == ["*", "="]
    # All are alike within 1 km, so nobody is marked.
    assert not any(n == "within_1" for _, n in marks)
