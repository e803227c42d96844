"""The results of a benchmark, read again: errors measured anew, folders that are not whole."""

import numpy as np
import pytest
from benchmark_runs import write_folder
from geoembed_systems.benchmark.reading import FARTHEST_KM, blocks_of, read_results
from geoembed_systems.benchmark.report import BenchmarkReport

from geoembed.errors import TableError


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


def test_machines_of_runs_are_read(tmp_path):
    def tell(record, _):
        record["runs"][0]["machine"] = {"threads": 1}

    found = read_results(write_folder(tmp_path, change=tell)).runs
    assert [dict(run.machine) for run in found] == [{"threads": 1}, {}]
