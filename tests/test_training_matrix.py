"""Matrices of runs: how they are read, what is run again and what is kept, what the report says."""

import json
import tomllib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ttest_rel

from geoembed.errors import OptionError, TableError, TrainingError, UnknownNameError, WeightsError
from geoembed.training import matrix_running
from geoembed.training.locking import locked_folder
from geoembed.training.loop import RunResult
from geoembed.training.matrix import load_matrix, slug
from geoembed.training.matrix_report import MatrixResult, compare_runs, tabulate_runs, write_report
from geoembed.training.matrix_running import run_matrix
from geoembed.training.settings_text import differences
from geoembed.training.stopping import RunStopped

TINY_RUN = tomllib.loads(Path(__file__).with_name("tiny_run.toml").read_text("utf-8"))
TINY = [
    f"{section}.{field}={json.dumps(value)}"
    for section, fields in TINY_RUN.items()
    for field, value in fields.items()
]


def table_of(**changes):
    return {
        "name": "trial",
        "base": "bluemarble",
        "seeds": [0, 1],
        "set": TINY,
        "variants": {"with a queue": ["objective.queue=8"]},
        **changes,
    }


def test_variants_are_the_base_with_what_they_change():
    matrix = load_matrix(table_of(galleries={"coarse land": ["validation.gallery=land"]}))
    base, queue, land = matrix.variants
    assert (base.name, base.changed, base.gallery) == ("base", (), False)
    assert queue.changed == ("objective.queue: 0 -> 8",)
    assert land.gallery
    assert land.changed == ('validation.gallery: "train" -> "land"',)
    assert base.settings.loop.steps == 2


def test_runs_differ_in_seed_and_name_only():
    base = load_matrix(table_of()).variants[0]
    assert differences(base.run_settings(0), base.run_settings(3)) == [
        'name: "trial-base-0" -> "trial-base-3"',
        "seed: 0 -> 3",
    ]


def test_variant_may_be_a_recipe_and_overrides_hold_for_all():
    matrix = load_matrix(
        table_of(base="geoclip-mp16", set=[], variants={"sphere": "ablation-sphere"}),
        ["loop.batch=64"],
    )
    assert matrix.variants[1].changed == ('location.projection: "equal-earth" -> "sphere"',)
    assert {variant.settings.loop.batch for variant in matrix.variants} == {64}


def test_files_are_found_beside_the_matrix(tmp_path):
    (tmp_path / "own.toml").write_text('base = "bluemarble"\nseed = 4')
    text = 'name = "m"\nbase = "own.toml"\nseeds = [0]\n[variants]\nx = ["loop.batch=8"]'
    (tmp_path / "m.toml").write_text(text)
    assert load_matrix(str(tmp_path / "m.toml")).variants[0].settings.seed == 4


def test_variant_that_changes_nothing_is_left_out_and_named():
    matrix = load_matrix(table_of(variants={"no queue": ["objective.queue=0"]}))
    assert [variant.name for variant in matrix.variants] == ["base"]
    assert matrix.same == ("no queue",)


def test_fewer_places_are_passed_more_often():
    variants = {"a quarter": ["data.fraction=0.25"]}
    matrix = load_matrix(table_of(variants=variants, equal_samples=True), ["loop.epochs=3"])
    assert matrix.variants[1].settings.loop.epochs == 12.0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seeds": []}, r"seeds = \[\] must be whole numbers"),
        ({"seeds": [0, 0]}, r"seeds = \[0, 0\] must be whole numbers of at least 0, each once"),
        ({"seeds": [True]}, "must be whole numbers"),
        ({"seed": 3}, "no key named 'seed'"),
        ({"variants": {"x": 3}}, "x = 3 must be a list of settings"),
        ({"variants": {"x": ["loop.bath=3"]}}, "no field of .loop. named 'bath'"),
        ({"galleries": {"x": ["loop.batch=8"]}}, "'x' changes loop.batch.*takes training"),
        (
            {"variants": {"a b": ["loop.batch=8"], "a-b": ["loop.batch=4"]}},
            "'a-b' and 'a b' give the folder 'a-b'",
        ),
        ({"variants": {"%": ["loop.batch=8"]}}, "'%' give the folder ''"),
    ],
)
def test_wrong_matrix_is_refused(changes, message):
    with pytest.raises((OptionError, UnknownNameError), match=message):
        load_matrix(table_of(**changes))


def test_two_processes_do_not_run_one_matrix_at_once(tmp_path):
    """Else each would put the run that the other is at down as failed."""
    with (
        locked_folder(tmp_path, "training a matrix"),
        pytest.raises(TableError, match=f"Another run is training a matrix in {tmp_path} right"),
    ):
        run_matrix(load_matrix(table_of()), tmp_path, progress=False)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_a_matrix_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(TrainingError, match="folder .*file/m cannot be made: Not a directory"):
        run_matrix(load_matrix(table_of()), tmp_path / "file" / "m", progress=False)


def test_matrix_that_is_not_there_is_named():
    with pytest.raises(UnknownNameError, match="no matrix named 'matrix-bluemarbel'.*bluemarble"):
        load_matrix("matrix-bluemarbel")


def test_shipped_matrix_holds_the_ablations():
    matrix = load_matrix("matrix-bluemarble")
    changed = " ".join(line for variant in matrix.variants for line in variant.changed)
    for field in (
        "location.projection",
        "location.encoding",
        "location.sigmas",
        "objective.queue",
        "objective.batch_noise_m",
        "data.fraction: 1.0 -> 0.05",
        "views.count",
        "objective.symmetric",
        "objective.mask_km",
        "objective.smooth_km",
        "objective.learn_temperature",
        "validation.spacing_km",
    ):
        assert field in changed
    assert matrix.seeds == (0, 1, 2)
    assert sum(variant.gallery for variant in matrix.variants) >= 3
    # Scores must not come from a checkpoint that was chosen by them.
    assert {variant.settings.validation.every for variant in matrix.variants} == {0.0}


def results_of(seeds, **variants):
    return [
        MatrixResult(variant=name, seed=seed, metrics={"median_km": float(km)})
        for name, values in variants.items()
        for seed, km in zip(range(seeds), values, strict=True)
    ]


def test_differences_are_paired_and_their_interval_is_that_of_a_t_test():
    rng = np.random.default_rng(0)
    base = rng.normal(900, 50, 5)
    other = base + rng.normal(20, 5, 5)
    table = compare_runs(
        results_of(5, base=base, other=other), ["base", "other"], "median_km"
    ).set_index("variant")
    expected = ttest_rel(other, base).confidence_interval(0.95)
    row = table.loc["other"]
    assert row["difference"] == pytest.approx((other - base).mean())
    assert [row["low"], row["high"]] == pytest.approx([expected.low, expected.high])
    assert row["median_km_sd"] == pytest.approx(other.std(ddof=1))
    assert row["verdict"] == "worse"


@pytest.mark.parametrize(
    ("metric", "values", "verdict"),
    [
        ("median_km", [800, 801, 802], "better"),
        ("median_km", [1000, 1001, 1002], "worse"),
        ("median_km", [800, 1001, 900], "no clear difference"),
        ("within_25", [1000, 1001, 1002], "better"),
        ("within_25", [800, 801, 802], "worse"),
    ],
)
def test_verdict_knows_which_way_is_better(metric, values, verdict):
    results = [
        MatrixResult(variant=name, seed=seed, metrics={metric: float(value)})
        for name, each in (("base", [900, 901.5, 902]), ("other", values))
        for seed, value in enumerate(each)
    ]
    assert compare_runs(results, ["base", "other"], metric)["verdict"].tolist() == ["", verdict]


def test_seeds_that_only_one_has_are_left_out_of_the_difference():
    results = [
        *results_of(3, base=[900, 910, 920]),
        MatrixResult(variant="other", seed=1, metrics={"median_km": 950.0}),
        MatrixResult(variant="other", seed=7, metrics={"median_km": 1.0}),
        MatrixResult(variant="other", seed=2, failed="loss is nan"),
    ]
    row = compare_runs(results, ["base", "other"], "median_km").iloc[1]
    assert (row["difference"], row["verdict"], row["seeds"]) == (40.0, "one seed", 2)


def test_metric_that_no_run_has_is_refused():
    with pytest.raises(OptionError, match="No run has the metric 'loss'; there are median_km"):
        compare_runs(results_of(1, base=[900]), ["base"], "loss")


def test_report_says_what_helps_what_does_not_and_what_failed(tmp_path):
    matrix = load_matrix(
        table_of(
            summary="Trials",
            variants={
                "queue": ["objective.queue=8"],
                "mask": ["objective.mask_km=5"],
                "plate": ["location.projection=plate-carree"],
                "same": ["objective.queue=0"],
            },
            galleries={"land": ["validation.gallery=land"]},
        )
    )
    results = results_of(2, base=[900, 910], queue=[950, 960.5], mask=[890, 930], land=[700, 710.2])
    results.append(MatrixResult(variant="plate", seed=0, failed="The loss is\nnan."))
    write_report(matrix, results, tmp_path)
    told = (tmp_path / "results.md").read_text()
    assert "# Trials" in told
    assert "| queue | 2 | 955 ± 7.42 | +50.2 (+47.1 to +53.4) | worse |" in told
    assert "- Worse than the base: queue.\n" in told
    assert "- No clear difference to the base: mask.\n" in told
    assert "- plate, seed 0: The loss is nan." in told
    assert "Left out, as the base is so already: same." in told
    # A gallery is no way to train better.
    assert "Better than the base" not in told
    assert "## The base's runs in other galleries" in told
    assert (tmp_path / "matrix.png").read_bytes().startswith(b"\x89PNG")
    read = pd.read_csv(tmp_path / "results.csv")
    assert read["median_km"].tolist()[:2] == [900.0, 910.0]
    facts = json.loads((tmp_path / "results.json").read_text())
    assert facts["table"][1]["verdict"] == "worse"
    assert len(facts["results"]) == len(results) == len(tabulate_runs(results))


@pytest.fixture
def fake_train(monkeypatch):
    """Count runs, without training."""
    calls = []

    def train(settings, folder, *, resume, data, progress):
        assert resume
        calls.append(settings.name)
        if settings.name in train.broken:
            raise train.broken[settings.name]
        score = 900.0 + 10 * settings.seed + settings.objective.queue
        return RunResult(
            folder=folder, step=2, best=None, metrics={"median_km": score}, ended="steps"
        )

    train.broken, train.calls = {}, calls
    monkeypatch.setattr(matrix_running, "train", train)
    return train


def test_finished_runs_are_kept(fake_train, tmp_path):
    matrix = load_matrix(table_of())
    lines = []
    first = run_matrix(matrix, tmp_path, tell=lines.append)
    assert fake_train.calls == [
        "trial-base-0",
        "trial-with-a-queue-0",
        "trial-base-1",
        "trial-with-a-queue-1",
    ]
    assert lines[1].startswith("with a queue, seed 0: median_km 908, 2 steps in ")
    again = run_matrix(matrix, tmp_path)
    assert len(fake_train.calls) == 4
    assert again == first


def test_interrupted_matrix_goes_on_where_it_was(fake_train, tmp_path):
    matrix = load_matrix(table_of())
    fake_train.broken = {"trial-base-1": RunStopped(15, 3)}
    with pytest.raises(RunStopped, match="Stopped by SIGTERM"):
        run_matrix(matrix, tmp_path)
    assert (tmp_path / "results.md").exists()
    fake_train.broken = {}
    del fake_train.calls[:]
    assert len(run_matrix(matrix, tmp_path)) == 4
    assert fake_train.calls == ["trial-base-1", "trial-with-a-queue-1"]


def test_failed_run_keeps_no_other_from_running_and_is_tried_again(fake_train, tmp_path):
    matrix = load_matrix(table_of(galleries={"land": ["validation.gallery=land"]}, seeds=[0]))
    fake_train.broken = {"trial-base-0": TrainingError("The loss is nan.")}
    base, queue, land = run_matrix(matrix, tmp_path)
    assert (base.failed, queue.failed) == ("The loss is nan.", "")
    assert "it has no weights" in land.failed
    # There is nothing to compare with.
    assert not (tmp_path / "results.md").exists()
    del fake_train.calls[:]
    run_matrix(matrix, tmp_path)
    assert fake_train.calls == ["trial-base-0"]


def test_weights_that_are_missing_fail_one_run_not_the_matrix(fake_train, tmp_path):
    fake_train.broken = {"trial-with-a-queue-0": WeightsError("The tower is not here.")}
    results = run_matrix(load_matrix(table_of()), tmp_path)
    assert [result.failed for result in results] == ["", "The tower is not here.", "", ""]


def test_results_of_other_settings_are_refused_before_anything_runs(fake_train, tmp_path):
    run_matrix(load_matrix(table_of()), tmp_path)
    del fake_train.calls[:]
    with pytest.raises(OptionError, match="other settings:\n  loop.steps: 2 -> 3\n") as caught:
        run_matrix(load_matrix(table_of(), ["loop.steps=3"]), tmp_path)
    assert str(tmp_path / "runs" / "base-0") in str(caught.value)
    assert fake_train.calls == []


def test_workers_may_change_between_starts(fake_train, tmp_path):
    run_matrix(load_matrix(table_of()), tmp_path)
    run_matrix(load_matrix(table_of(), ["loop.workers=1"]), tmp_path)
    assert len(fake_train.calls) == 4


def test_several_processes_are_refused(monkeypatch, tmp_path):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(TrainingError, match="start it without torchrun"):
        run_matrix(load_matrix(table_of()), tmp_path)


def test_matrix_without_held_out_places_is_refused(tmp_path):
    with pytest.raises(OptionError, match="there is nothing to compare"):
        run_matrix(load_matrix(table_of(), ["data.validation=0"]), tmp_path)


def test_slug_is_fit_for_folders():
    assert slug("Two capsules, sigma 1 & 4") == "two-capsules-sigma-1-4"


def test_runs_are_trained_and_looked_up_in_another_gallery(tmp_path):
    matrix = load_matrix(
        table_of(
            seeds=[3],
            variants={},
            galleries={"again": ["validation.gallery_size=1000"], "four": FOUR_PLACES},
        )
    )
    base, again, four = run_matrix(matrix, tmp_path, progress=False)
    # All training places are in either gallery: the same weights give the same answers.
    assert again.metrics == base.metrics
    assert four.metrics["median_km"] != base.metrics["median_km"]
    assert (tmp_path / "runs" / "base-3" / "metrics.csv").exists()


FOUR_PLACES = ["validation.gallery=train", "validation.gallery_size=4"]
