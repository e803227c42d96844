"""The report of a benchmark: made-up runs whose scores, intervals and winners are known."""

import itertools
import json
import runpy
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from geoembed_systems.benchmark.blue_marble import SCENES_TOLD
from geoembed_systems.benchmark.comparing import SCORES, compare, mark_best, score_runs
from geoembed_systems.benchmark.drawing import draw_errors, draw_systems
from geoembed_systems.benchmark.fractions import draw_fractions
from geoembed_systems.benchmark.intervals import draw_scores, interval_of, score_names, seed_means
from geoembed_systems.benchmark.leaking import leaks_told
from geoembed_systems.benchmark.making import changed_options, how_made, other_machine, shares_told
from geoembed_systems.benchmark.presets import find_preset, options_for
from geoembed_systems.benchmark.printing import text_tables
from geoembed_systems.benchmark.published import published_rows
from geoembed_systems.benchmark.reading import FARTHEST_KM, Results, Run, blocks_of, read_results
from geoembed_systems.benchmark.report import BenchmarkReport
from geoembed_systems.benchmark.styles import spread_labels
from geoembed_systems.benchmark.tables import FEWER, sections
from geoembed_systems.benchmark.tabulating import run_table
from matplotlib.text import Text
from PIL import Image
from pyproj import Geod

from geoembed.errors import OptionError, TableError, UnknownNameError
from geoembed.evaluation.geolocation import bootstrap_intervals, summarise
from geoembed.splits.blocks import choose_blocks

TITLES = {
    "knn": "[L]kNN",
    "planet": "PlaNet",
    "cplanet": "CPlaNet",
    "isns": "ISNs",
    "translocator": "TransLocator",
    "geodecoder": "GeoDecoder",
    "geoclip": "GeoCLIP",
    "mean-point": "Mean of the training places",
    "chance": "A random training place",
}
GEOD = Geod(ellps="WGS84")
MEDIAN = SCORES.index("median_km")


def made(km, *, system="planet", seed=0, fraction=1.0, **more):
    title = TITLES.get(system, system)
    return Run(system=system, title=title, seed=seed, fraction=fraction, km=km, **more)


def report_of(runs, **options):
    m = max(len(run.km) for run in runs)
    return BenchmarkReport(
        Results({"name": "toy", "title": "Toy"}, {"cores": 2}, np.zeros((m, 2)), tuple(runs)),
        **{"resamples": 300, **options},
    )


def whole_benchmark(m=120, seeds=(0, 1, 2), fractions=(0.05, 0.2, 1.0)):
    """All systems; the factor of each is known, GeoCLIP's is the least."""
    factors = dict(zip(TITLES, (1.2, 1.6, 1.5, 1.4, 1.3, 1.1, 0.6, 4.0, 5.0), strict=True))
    hard = np.random.default_rng(0).lognormal(7.0, 0.8, m)
    runs = []
    for (system, factor), fraction, seed in itertools.product(factors.items(), fractions, seeds):
        noise = np.random.default_rng([seed, round(100 * fraction), len(system)]).lognormal(
            0, 0.1, m
        )
        grown = factor * (1.0 if system in ("mean-point", "chance") else fraction**-0.1)
        km = np.minimum(hard * noise * grown, 19_000.0)
        more = {"fit_s": 3.0 + seed, "predict_s": 0.6, "parameters": 1200, "peak_mb": 800.0 + seed}
        more |= {"train_rows": round(4000 * fraction), "cells": None if system == "knn" else 50}
        runs.append(made(km, system=system, seed=seed, fraction=fraction, **more))
    return runs


def write_folder(folder, *, change=None):
    """Write the files of one run of PlaNet and one that failed; errors are 100, 200 and 1000 km."""
    truth = np.array([[0.0, 0.0], [100.0, 40.0], [-70.0, -30.0]])
    lon, lat, _ = GEOD.fwd(*truth.T, [90.0, 10.0, 200.0], [100e3, 200e3, 1000e3])
    predicted = np.stack([lon, lat], axis=1)
    run = {"system": "planet", "title": "PlaNet", "seed": 0, "fraction": 1.0, "train_rows": 9}
    failed = {**run, "seed": 1, "failed": "TrainingError: the loss\nis not finite"}
    scores = {"median_km": 200.0}
    good = {**run, "fit_s": 2.5, "parameters": 10, "scores": scores, "predictions": "p.npy"}
    record = {"format": 1, "data": {"name": "three"}, "machine": {}, "test_lonlat": "t.npy"}
    record["runs"] = [good, failed]
    if change:
        change(record, predicted)
    np.save(folder / "t.npy", truth)
    np.save(folder / "p.npy", predicted)
    (folder / "results.json").write_text(json.dumps(record))
    return folder


def test_errors_are_measured_again_from_the_predictions(tmp_path):
    found = read_results(write_folder(tmp_path))
    good, failed = found.runs
    np.testing.assert_allclose(good.km, [100.0, 200.0, 1000.0], rtol=1e-9)
    assert (good.fit_s, good.parameters, good.cells, good.missing) == (2.5, 10, None, 0)
    assert np.isnan(good.predict_s)
    assert failed.failed == "TrainingError: the loss is not finite"


def test_a_missing_prediction_is_charged_the_farthest_there_is(tmp_path):
    def lose(record, predicted):
        predicted[1] = np.nan
        record["runs"][0]["scores"]["median_km"] = 1000.0

    report = BenchmarkReport.from_folder(write_folder(tmp_path, change=lose), resamples=50)
    assert sorted(report.results.runs[0].km.round()) == [100.0, 1000.0, FARTHEST_KM]
    assert report.table()["missing"].tolist() == [1]
    assert report.table()["within_2500"].item() == pytest.approx(200.0 / 3.0)
    assert "Predictions are missing of PlaNet (1)" in " ".join(report.conclusion)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r, p: r.update(format=2), "has the format 2, and this version reads 1"),
        (lambda r, p: r.update(runs=[]), "holds no runs"),
        (lambda r, p: r["runs"][0].pop("seed"), "has a run that cannot be read"),
        (lambda r, p: r["runs"][0].update(predictions="none.npy"), "none.npy cannot be read"),
        (lambda r, p: r["runs"][0].update(predictions="t.npy"), "is 200.0 km, and its predictions"),
        (lambda r, p: p.__setitem__(0, [0.0, 95.0]), "The predictions of planet, seed 0, 100 %"),
    ],
)
def test_folders_that_are_not_whole_are_refused(tmp_path, change, message):
    with pytest.raises(TableError, match=message):
        read_results(write_folder(tmp_path, change=change))


def test_a_folder_without_a_benchmark_is_refused(tmp_path):
    with pytest.raises(TableError, match=r"There is no .*results.json: give the folder of"):
        read_results(tmp_path)
    (tmp_path / "results.json").write_text("[]")
    with pytest.raises(TableError, match="holds no record of a benchmark"):
        read_results(tmp_path)


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


def test_published_rows_are_those_of_the_papers():
    rows = published_rows().set_index(["data", "system"])
    shares = [name for name in SCORES if name.startswith("within_")]
    im2gps = rows.loc["Im2GPS3k"]
    assert list(im2gps.index) == list(TITLES)[:7]
    assert im2gps.loc["knn", shares].tolist() == [7.2, 19.4, 26.9, 38.9, 55.9]
    assert im2gps.loc["geoclip", shares].tolist() == [14.11, 34.47, 50.65, 69.67, 83.82]
    assert rows.loc["GWS15k"].loc["geodecoder", shares].tolist() == [0.7, 1.5, 8.7, 26.9, 50.5]
    assert sorted(rows.loc["GWS15k"].index) == ["geoclip", "geodecoder", "isns", "translocator"]


def test_the_table_is_ranked_with_baselines_last():
    report = report_of(whole_benchmark())
    table = report.table()
    assert table["system"].tolist() == [
        *("geoclip", "geodecoder", "knn", "translocator", "isns", "cplanet", "planet"),
        *("mean-point", "chance"),
    ]
    assert table["seeds"].eq(3).all()
    assert (table["median_km_low"] < table["median_km"]).all()
    assert (table["median_km_seed_low"] <= table["median_km"]).all()
    first = table.iloc[0]
    own = [run for run in report.good if run.system == "geoclip" and run.fraction == 1.0]
    assert first["median_km"] == pytest.approx(np.mean([np.median(run.km) for run in own]))
    assert (first["fit_s"], first["peak_mb"], first["query_ms"]) == (4.0, 802.0, 5.0)
    assert (first["train_rows"], first["test_rows"]) == (4000, 120)


def test_geoclip_that_wins_is_said_to_win():
    told = " ".join(report_of(whole_benchmark()).conclusion)
    assert "GeoCLIP has the smallest median error on Toy" in told
    assert "That is told from GeoDecoder" in told
    assert "does not win" not in told
    assert "Every system has a smaller median error than the mean of the training places" in told
    assert "at 5 % GeoCLIP" in told


def test_geoclip_that_loses_is_said_to_lose_and_by_how_much():
    km = np.random.default_rng(8).uniform(100.0, 900.0, 80)
    runs = [
        made(km + 50.0 * (name == "geoclip"), system=name, seed=seed)
        for name in ("planet", "geoclip")
        for seed in range(2)
    ]
    told = " ".join(report_of(runs).conclusion)
    assert "PlaNet has the smallest median error" in told
    assert "GeoCLIP does not win on this data" in told
    assert "50.0 km more (50.0 to 50.0)" in told


def test_systems_that_cannot_be_told_apart_are_said_to_be_so():
    rng = np.random.default_rng(9)
    km = rng.uniform(100.0, 900.0, 80)
    runs = [made(rng.permutation(km), system=name) for name in ("planet", "geoclip")]
    report = report_of([*runs, made(0.9 * km, system="chance")])
    told = " ".join(report.conclusion)
    assert "cannot tell from" in told or "Not told from" in told
    assert "There is one seed" in told
    assert "not told to be better than a random training place" in told


def test_what_is_compared_with_may_be_chosen():
    report = report_of(whole_benchmark(fractions=(1.0,)))
    assert report.reference() == "geoclip"
    found = report.differences("planet")
    assert set(found["system"]) == set(TITLES) - {"planet"}
    assert found.loc[found["system"] == "geoclip", "verdict"].iloc[MEDIAN] == "better"
    with pytest.raises(UnknownNameError, match=r"no system in this benchmark named 'plonet'"):
        report.differences("plonet")
    without = report_of([run for run in report.results.runs if run.system != "geoclip"])
    assert without.reference() == "geodecoder"


def test_fractions_stand_side_by_side():
    report = report_of(whole_benchmark())
    assert report.fractions == (0.05, 0.2, 1.0)
    table = report.fraction_table()
    assert len(table) == 27
    own = table[table["system"] == "planet"]
    assert own["fraction"].tolist() == [0.05, 0.2, 1.0]
    assert own["median_km"].is_monotonic_decreasing
    assert own["train_rows"].tolist() == [200, 800, 4000]
    assert own["median_km"].tolist() == [
        report.table(f).set_index("system").loc["planet", "median_km"] for f in report.fractions
    ]
    with pytest.raises(OptionError, match=r"fraction=0.3 is none of those that ran: 0.05, 0.2, 1"):
        report.table(0.3)


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


@pytest.mark.parametrize(
    ("told", "blocks"),
    [
        ("blocks of 10 degrees held out, training crops within 360 km", "blocks of 10 degrees"),
        ("20% held out in blocks of 500 km, training pictures within 0 km", "blocks of 500 km"),
        ("a manifest of its own", "None"),
        (None, "None"),
    ],
)
def test_blocks_are_those_that_the_data_say_were_held_out(told, blocks):
    assert str(blocks_of({"split": told})) == blocks


def test_files_hold_what_the_report_says(tmp_path):
    runs = [*whole_benchmark(), made(np.empty(0), seed=3, failed="TrainingError: too hot")]
    report = report_of(runs)
    report.save(tmp_path / "new" / "folder")
    folder = tmp_path / "new" / "folder"
    assert sorted(path.name for path in folder.iterdir()) == [
        *("differences.csv", "errors.png", "fractions.csv", "fractions.png", "results.csv"),
        *("results.md", "runs.csv", "systems.png"),
    ]
    table = pd.read_csv(folder / "results.csv")
    np.testing.assert_allclose(table["median_km"], report.table()["median_km"])
    assert len(pd.read_csv(folder / "runs.csv")) == 82
    page = (folder / "results.md").read_text()
    assert "- PlaNet, seed 3, 100 %: TrainingError: too hot" in page
    assert "1 of 82 runs failed" in page
    assert "| GeoCLIP | Im2GPS3k, published | 14.11 | 34.47 | 50.65 | 69.67 | 83.82 |" in page
    assert "| GeoCLIP | **Toy** |" in page
    for line in page.splitlines():
        if line.startswith("|"):
            assert line.endswith("|")
    for name in ("systems", "errors", "fractions"):
        with Image.open(folder / f"{name}.png") as picture:
            pixels = np.asarray(picture.convert("L"))
        assert pixels.shape[1] > 1200
        assert 0.01 < (pixels < 250).mean() < 0.6
    everything = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert everything["reference"] == "geoclip"
    assert [row["system"] for row in everything["table"]] == report.table()["system"].tolist()


def test_a_benchmark_whose_runs_all_failed_still_says_so(tmp_path):
    report = report_of([made(np.empty(0), failed="MemoryError")])
    with pytest.raises(OptionError, match=r"No run has succeeded.*MemoryError"):
        report.table()
    report.save(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["results.md", "runs.csv"]
    assert report.to_dict()["table"] == []
    assert "1 of 1 runs failed" in (tmp_path / "results.md").read_text()


def test_one_system_alone_makes_a_report(tmp_path):
    report = report_of([made(np.random.default_rng(0).uniform(0, 900, 30))])
    report.save(tmp_path)
    assert len(report.differences()) == 0
    assert report.marks() == {}


@pytest.mark.parametrize("draw", [draw_systems, draw_errors, draw_fractions])
def test_no_words_of_a_picture_lie_over_each_other_or_outside(draw):
    figure = draw(report_of(whole_benchmark()))
    figure.canvas.draw()
    width, height = figure.bbox.width, figure.bbox.height
    boxes = []
    for text in figure.findobj(Text):
        if text.get_visible() and text.get_text().strip():
            # Of ticks out of range, matplotlib keeps the names without drawing them.
            box = Text.get_window_extent(text)
            if box.width and box.height and not box.x1 < 0 and not box.y1 < 0:
                boxes.append((text.get_text(), box))
    plt.close(figure)
    assert len(boxes) > 20
    for name, box in boxes:
        assert box.x0 > -1, name
        assert box.y0 > -1, name
        assert box.x1 < width + 1, name
        assert box.y1 < height + 1, name
    for (a, one), (b, other) in itertools.combinations(boxes, 2):
        over_x = min(one.x1, other.x1) - max(one.x0, other.x0)
        over_y = min(one.y1, other.y1) - max(one.y0, other.y0)
        # Letters keep apart; a pixel of air above and below them may be shared.
        assert over_x < -1 or over_y < 3, f"{a!r} over {b!r}"


def test_labels_move_apart_and_keep_their_order():
    rng = np.random.default_rng(11)
    for _ in range(50):
        wanted = rng.uniform(0, 10, 8)
        found = np.array(spread_labels(wanted.tolist(), 1.0))
        order = np.argsort(wanted)
        assert (np.diff(found[order]) > 1.0 - 1e-9).all()
        # Those that had room stay where they belong.
        alone = [i for i in range(8) if np.sort(np.abs(wanted - wanted[i]))[1] > 8.0]
        np.testing.assert_allclose(found[alone], wanted[alone])
    assert spread_labels([3.0, 9.0], 1.0) == [3.0, 9.0]


def test_test_pictures_that_are_training_pictures_are_told_first():
    runs = [made(np.full(40, 500.0)), made(np.full(40, 700.0), system="geoclip")]
    leaks = {"test_rows": 40, "test_same_features": 3, "test_same_file": 4, "test_within_1_km": 10}
    report = BenchmarkReport(Results({"name": "toy", **leaks}, {}, np.zeros((40, 2)), tuple(runs)))
    first, second = report.conclusion[:2]
    assert first.startswith("LEAK: 3 of 40 test pictures (7.5 %) have the features and 4 of 40 ")
    assert "(10.0 %) the file of a training picture" in first
    assert second.startswith("10 of 40 test pictures (25.0 %) were taken within 1 km of a training")
    assert report.to_markdown().splitlines()[2] == f"- {first}"
    assert report.to_dict()["cautions"] == [first, second]
    for name in ("test_same_features", "test_same_file", "test_within_1_km"):
        alone = {"test_rows": 40, **dict.fromkeys(leaks, 0), name: 1}
        assert len(leaks_told(alone)) == 1
    assert leaks_told({**dict.fromkeys(leaks, 0), "test_rows": 40}) == []
    assert leaks_told({"test_within_1_km": "3 of 40 test pictures"}) == []


def test_what_data_disclose_stands_word_for_word_where_it_was_made():
    told = ["GeoCLIP's recipe was developed with these blocks in view.", "Another, with a comma."]
    runs = (made(np.full(9, 500.0)),)
    report = BenchmarkReport(
        Results({"name": "toy", "disclosure": told}, {}, np.zeros((9, 2)), runs)
    )
    page = report.to_markdown()
    how = page[page.index("## How it was done") :].splitlines()
    assert [f"- {sentence}" in how for sentence in told] == [True, True]
    assert "disclosure" not in page


def test_options_are_said_to_be_chosen_only_of_systems_that_have_them():
    preset = {name: options_for(find_preset(name), "bluemarble") for name in ("planet", "geoclip")}

    def how(**changed):
        runs = tuple(
            made(np.full(9, 500.0), system=name, options={**options, **changed.get(name, {})})
            for name, options in preset.items()
        )
        results = Results({"name": "bluemarble"}, {}, np.zeros((9, 2)), runs, "by guessing")
        return "\n".join(how_made(BenchmarkReport(results)))

    assert "- Options of the systems were chosen by guessing" in how()
    assert "set for this benchmark" not in how()
    told = how(geoclip={"smooth_km": 1.0})
    assert "- Options of PlaNet were chosen by guessing" in told
    assert "- Options of GeoCLIP were set for this benchmark" in told
    told = how(geoclip={"smooth_km": 1.0}, planet={"t_max": 7})
    assert "by guessing" not in told
    assert "- Options of PlaNet and GeoCLIP were set for this benchmark" in told


def test_changed_options_are_those_that_differ_from_the_preset():
    usual = options_for(find_preset("geoclip"), "bluemarble")
    run = made(np.ones(1), system="geoclip", options={**usual, "gallery": "train"})
    assert changed_options(run, "bluemarble") == {"gallery": "train"}
    assert changed_options(run, "mine") == dict(run.options)  # its preset is of the Blue Marble
    assert changed_options(made(np.ones(1), system="chance"), "bluemarble") == {}


def test_runs_of_other_machines_are_told_and_their_times_do_not_compare():
    here = {"processor": "A", "threads": 2, "numpy": "2.4.6"}
    km = np.full(9, 500.0)

    def report(*machines):
        runs = [made(km, seed=seed, machine=each) for seed, each in enumerate(machines)]
        return BenchmarkReport(Results({"name": "toy"}, here, np.zeros((9, 2)), tuple(runs)))

    same = report(here, here)
    assert "- Machine, threads: 2" in how_made(same)
    assert "times do not compare" not in same.to_markdown()
    other = report(here, {**here, "threads": 1, "numpy": "2.0"})
    assert "- Machine, last start, threads: 2" in how_made(other)
    assert (
        "- Not on that: PlaNet (seed 1, 100 %): threads 1, numpy 2.0, in place of threads "
        "2, numpy 2.4.6"
    ) in how_made(other)
    assert other.conclusion[-1].endswith("that differ: times do not compare.")
    assert "Not all runs took place on the same machine" in other.to_markdown()
    guess = made(km, system="chance", machine={"threads": 9})
    assert other_machine(guess, other.results) == {}
    unknown = how_made(report(here, {}))
    assert any(line.startswith("- Of 1 of 2 runs the machine is not known") for line in unknown)
    machines = run_table(other.results.runs)["machine"]
    assert [json.loads(each)["threads"] for each in machines] == [2, 1]


def test_machines_of_runs_are_read(tmp_path):
    def tell(record, _):
        record["runs"][0]["machine"] = {"threads": 1}

    found = read_results(write_folder(tmp_path, change=tell)).runs
    assert [dict(run.machine) for run in found] == [{"threads": 1}, {}]


def test_what_has_seen_all_pictures_is_told_beside_the_curve():
    runs = whole_benchmark(m=30, seeds=(0,), fractions=(0.1, 1.0))
    marble = {"name": "bluemarble", "image_encoder": "bluemarble.v1"}
    marble["scenes"] = "clusters of the training features (k-means), for want of labels"
    report = BenchmarkReport(Results(marble, {}, np.zeros((30, 2)), tuple(runs)), resamples=50)
    told = (
        "Whatever the share, the frozen tower was trained on all training pictures and the scenes "
        "(k-means) were made of them."
    )
    assert told in sections(report)[FEWER]
    assert told in report.conclusion
    figure = draw_fractions(report)
    assert told in " ".join(text.get_text().replace("\n", " ") for text in figure.findobj(Text))
    plt.close(figure)
    # Another tower has seen other pictures, and labels are nobody's clusters.
    assert "tower" not in shares_told({**marble, "image_encoder": "geoclip.v1"})
    assert shares_told({"name": "mine", "scenes": "labels that came with the pictures"}) == ""


def test_what_scenes_are_told_as_is_what_the_report_looks_for():
    assert "scenes (k-means)" in shares_told({"scenes": SCENES_TOLD})


def test_the_page_says_what_to_type_for_its_runs():
    file = Path(__file__).parents[3] / "tools" / "systems_page.py"
    page = runpy.run_path(str(file))
    usual = options_for(find_preset("geoclip"), "bluemarble")
    runs = (
        made(np.ones(9), system="geoclip", options={**usual, "smooth_km": 5.0}, seed=2),
        made(np.ones(9), system="geoclip", options={**usual, "smooth_km": 5.0}, seed=0),
        made(np.ones(9), system="chance", seed=0),
    )
    report = BenchmarkReport(
        Results({"name": "bluemarble", "crops": 600}, {}, np.zeros((9, 2)), runs)
    )
    assert page["_command"](report) == (
        "$ geoembed benchmark geolocation --systems geoclip --seeds 0,2 --crops 600 "
        "--set 'geoclip.smooth_km=5.0'"
    )
    text = page["page_of"](report, None)
    assert "nothing is known" not in text  # nobody claims that options were chosen
    assert "## How it was done" in text


def test_thresholds_have_one_name_each():
    assert score_names([0.5, 2500]) == ("within_0.5", "within_2500", *SCORES[-3:])
