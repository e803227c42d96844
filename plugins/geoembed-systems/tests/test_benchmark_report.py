"""The report of a benchmark: made-up runs whose winners are known; what is told, the files."""

import itertools
import json
import runpy
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from benchmark_runs import MEDIAN, TITLES, made, report_of, whole_benchmark
from geoembed_systems.benchmark.blue_marble import SCENES_TOLD
from geoembed_systems.benchmark.comparing import SCORES
from geoembed_systems.benchmark.drawing import draw_errors, draw_systems
from geoembed_systems.benchmark.fractions import draw_fractions
from geoembed_systems.benchmark.leaking import leaks_told
from geoembed_systems.benchmark.making import changed_options, how_made, other_machine, shares_told
from geoembed_systems.benchmark.presets import find_preset, options_for
from geoembed_systems.benchmark.published import published_rows
from geoembed_systems.benchmark.reading import Results
from geoembed_systems.benchmark.report import BenchmarkReport
from geoembed_systems.benchmark.styles import spread_labels
from geoembed_systems.benchmark.tables import FEWER, sections
from geoembed_systems.benchmark.tabulating import run_table
from matplotlib.text import Text
from PIL import Image

from geoembed.errors import OptionError, UnknownNameError


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
