"""A run from its first step to its folder: what it learns, writes and says, and why it ends."""

import csv
import json
import math
import resource
import signal
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from geoembed import load_encoder
from geoembed.errors import OptionError, PictureError, TrainingError
from geoembed.training.checkpoint import find_checkpoint, list_checkpoints, read_checkpoint
from geoembed.training.config import load_settings
from geoembed.training.export import export_run
from geoembed.training.keeping import Keeper
from geoembed.training.logs import read_metrics
from geoembed.training.loop import train
from geoembed.training.model import GeolocationModel, build_model
from geoembed.training.run_folder import RunFolder
from geoembed.training.settings import TrainingSettings
from geoembed.training.splitting import split_rows
from geoembed.training.step import TrainingStep
from geoembed.training.validation import SCORES, validate


class Memory:
    """Features of places that a small network can learn, in memory."""

    views, dimension, digest = 2, 6, "the same"

    def __init__(self, count=400):
        rng = np.random.default_rng(5)
        self.lonlat = np.stack([rng.uniform(-180, 180, count), rng.uniform(-60, 70, count)], 1)
        self.names = [f"picture {row}" for row in range(count)]
        self.valid = np.ones(count, dtype=bool)
        lon, lat = np.radians(self.lonlat).T
        parts = [np.cos(lon), np.sin(lon), np.sin(lat), np.cos(2 * lon), np.sin(2 * lon), lat]
        self._features = np.stack(parts, 1).astype(np.float32)
        self.noise = rng.normal(scale=0.02, size=(count, 2, 6)).astype(np.float32)

    def __len__(self):
        return len(self.lonlat)

    def features(self, rows, views):
        return self._features[rows][:, None] + self.noise[rows[:, None], views]


def settings_of(loop=None, validation=None, **sections):
    return TrainingSettings.model_validate(
        {
            "name": "small",
            "data": {"kind": "features", "path": "unused", "validation": 0.2, "max_bad": 0.1},
            "location": {"sigmas": [1.0, 4.0], "frequencies": 16, "hidden": [32], "output": 16},
            "image": {"head": [32]},
            "objective": {"queue": 64},
            "optimiser": {"lr": 3e-3, "schedule": "constant"},
            "loop": {"batch": 32, "steps": 6, "device": "cpu", **(loop or {})},
            "validation": validation or {},
            **sections,
        }
    )


@pytest.fixture(autouse=True)
def no_curves(monkeypatch, request):
    """Drawing takes longer than all steps."""
    if "curves" not in request.keywords and "curves" not in request.node.name:
        monkeypatch.setattr(Keeper, "draw", lambda self: None)


def run(settings, folder, data=None, **options):
    data = Memory() if data is None else data
    return train(settings, folder, data=data, **{"progress": False, **options})


def test_it_learns_where_pictures_were_taken(tmp_path):
    settings = settings_of({"steps": 150}, {"every": 5.0})
    result = run(settings, tmp_path / "run")
    rows = read_metrics(RunFolder(tmp_path / "run"))
    losses = [row["loss"] for row in rows if "loss" in row]
    assert losses[-1] < 0.6 * math.log(32 + 64)  # which is chance
    chance = run(settings_of({"steps": 0, "epochs": 0.0}), tmp_path / "chance").metrics
    assert result.best["value"] < 0.5 * chance["median_km"]
    assert result.best["scores"]["within_2500"] > 3 * chance["within_2500"]
    assert result.metrics["loss"] < chance["loss"]


def test_what_a_run_leaves_in_its_folder_with_curves(tmp_path):
    settings = settings_of({"steps": 25, "log_every": 5}, {"every": 1.0})
    result = run(settings, tmp_path / "run", progress=None)
    folder = RunFolder(tmp_path / "run")
    names = {path.name for path in folder.path.iterdir()}
    assert names == {
        ".lock", "bad_pictures.csv", "best.json", "checkpoints", "config.toml", "curves.png",
        "data.json", "environment.json", "metrics.csv", "metrics.jsonl", "speed.csv", "tensorboard",
    }  # fmt: skip
    assert load_settings(folder.config) == settings
    environment = json.loads(folder.environment.read_text())["sessions"][0]
    assert environment["versions"]["torch"] == torch.__version__
    assert environment["device"] == "cpu"
    assert environment["threads"] == torch.get_num_threads()
    data = json.loads(folder.data.read_text())
    split = split_rows(Memory().lonlat, settings.data)
    assert data["digest"] == "the same"
    assert data["split"] == split.sizes()
    assert json.loads(folder.best.read_text()) == result.best
    with Image.open(folder.curves) as curves:
        assert curves.size == (960, 1200)
        assert len(np.unique(np.asarray(curves.convert("L")))) > 50
    with folder.speed_csv.open() as file:
        speed = list(csv.DictReader(file))
    assert [int(row["step"]) for row in speed] == [5, 10, 15, 20, 25]
    assert all(0.0 <= float(row["wait_share"]) <= 1.0 for row in speed)
    assert all(float(row["pictures_per_s"]) > 0.0 for row in speed)
    rows = read_metrics(folder)
    assert [row["step"] for row in rows if "loss" in row] == [5, 10, 15, 20, 25]
    assert [row["step"] for row in rows if "val_loss" in row] == [10, 20, 25]


def test_what_is_left_out_is_said_and_written_down(tmp_path, capsys):
    data = Memory()
    data.notes = ("left out of the manifest: 3 rows without a place or a picture",)
    data.missing, data.reasons = ["lost.jpg"], ["There is no such file."]
    data.valid[:2] = False
    run(settings_of(), tmp_path / "run", data, progress=None)
    said = capsys.readouterr().err.splitlines()
    assert said[0] == f"small: {data.notes[0]}"
    listed = (tmp_path / "run" / "bad_pictures.csv").read_text().splitlines()[1:]
    assert listed[0] == "lost.jpg,,There is no such file."
    there = tmp_path / "run" / "bad_pictures.csv"
    noun = "picture" if len(listed) == 1 else "pictures"
    assert said[-1] == f"small: {len(listed)} {noun} could not be used, listed in {there}"
    told = json.loads((tmp_path / "run" / "data.json").read_text())
    assert (told["notes"], told["missing"]) == (list(data.notes), 1)


def test_steps_after_the_last_line_have_a_line_of_their_own(tmp_path):
    run(settings_of({"steps": 7, "log_every": 5}), tmp_path / "run")
    rows = read_metrics(RunFolder(tmp_path / "run"))
    assert [row["step"] for row in rows if "loss" in row] == [5, 7]


def test_the_loss_of_a_line_is_the_mean_since_the_last(tmp_path):
    fine = run(settings_of({"steps": 6, "log_every": 1}), tmp_path / "fine")
    coarse = run(settings_of({"steps": 6, "log_every": 3}), tmp_path / "coarse")
    one = [row["loss"] for row in read_metrics(RunFolder(fine.folder)) if "loss" in row]
    three = [row["loss"] for row in read_metrics(RunFolder(coarse.folder)) if "loss" in row]
    assert three == pytest.approx([np.mean(one[:3]), np.mean(one[3:])], rel=1e-12)


def test_equal_runs_are_equal_and_seeds_differ(tmp_path):
    results = [
        run(settings_of().model_copy(update={"seed": seed}), tmp_path / name)
        for name, seed in (("a", 0), ("b", 0), ("c", 1))
    ]
    texts = [RunFolder(result.folder).metrics_jsonl.read_text() for result in results]
    assert texts[0] == texts[1]
    assert texts[0] != texts[2]


def test_the_callers_random_generators_are_left_alone(tmp_path):
    state = torch.get_rng_state()
    run(settings_of(), tmp_path / "run")
    assert torch.equal(torch.get_rng_state(), state)


def test_the_best_checkpoint_stays_and_is_the_one_that_is_found(tmp_path, monkeypatch):
    scores = iter([9.0, 5.0, 7.0, 6.0, 8.0])

    def judged(self, model):
        return dict.fromkeys(SCORES, 1.0) | {"median_km": next(scores)}

    monkeypatch.setattr("geoembed.training.validation.Validator.__call__", judged)
    settings = settings_of({"epochs": 5.0, "steps": 0, "keep_last": 1}, {"every": 1.0})
    result = run(settings, tmp_path / "run")
    assert result.best["step"] == 20  # an epoch has 10 steps
    assert list(list_checkpoints(tmp_path / "run" / "checkpoints")) == [20, 50]
    assert find_checkpoint(tmp_path / "run", "best").name == "step-00000020.pt"
    assert find_checkpoint(tmp_path / "run", "last").name == "step-00000050.pt"
    assert result.metrics["median_km"] == 8.0
    assert result.ended == "steps"


def test_it_stops_when_nothing_gets_better(tmp_path, monkeypatch):

    values = [9.0, 5.0, 7.0, 5.0, 8.0, 1.0]
    asked = []

    def judged(self, model):
        asked.append(1)
        return dict.fromkeys(SCORES, 1.0) | {"median_km": values[len(asked) - 1]}

    monkeypatch.setattr("geoembed.training.validation.Validator.__call__", judged)
    settings = settings_of({"epochs": 50.0, "steps": 0, "patience": 3}, {"every": 1.0})
    result = run(settings, tmp_path / "run")
    assert (result.step, result.ended, len(asked)) == (50, "patience", 5)
    assert result.best["step"] == 20
    # It is over; a resume does not train on, unless there is more patience.
    assert run(settings, tmp_path / "run", resume=True).step == 50
    more = settings_of({"epochs": 6.0, "steps": 0, "patience": 9}, {"every": 1.0})
    again = run(more, tmp_path / "run", resume=True)
    assert (again.step, again.best["value"]) == (60, 1.0)


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_the_mean_of_the_weights_is_validated_and_exported(tmp_path, ema):
    settings = settings_of({"steps": 12}, optimiser={"lr": 1e-2, "ema": ema})
    result = run(settings, tmp_path / "run")
    state = read_checkpoint(find_checkpoint(tmp_path / "run", "last"))
    weights = state["training"]["model"]
    assert (state["ema"] is None) == (ema == 0.0)
    if ema:
        name = "image_encoder.mlp.0.weight"
        assert not torch.equal(weights[name], state["ema"][name])
        weights = state["ema"]
    model = build_model(settings, feature_dimension=6, backbone=False)
    model.load_state_dict(weights)
    data = Memory()
    split = split_rows(data.lonlat, settings.data)
    assert validate(model, data, split, settings) == result.metrics
    export_run(tmp_path / "run", tmp_path / "model")
    places = data.lonlat[:50]
    with torch.no_grad():
        expected = model.encode_places(places).numpy()
    found = load_encoder(tmp_path / "model", device="cpu").encode(places[:, 0], places[:, 1])
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_a_checkpoint_says_what_its_weights_are_of(tmp_path):
    settings = settings_of()
    run(settings, tmp_path / "run")
    state = read_checkpoint(find_checkpoint(tmp_path / "run", "last"))
    assert TrainingSettings.model_validate_json(state["settings"]) == settings
    model = build_model(settings, feature_dimension=6, backbone=False)
    assert state["location"] == model.architecture.to_dict()
    assert state["image"] == model.image_side().config()
    assert state["progress"]["step"] == 6


# -- what goes wrong -------------------------------------------------------------------------------


class Poisoned(Memory):
    """One picture whose features are no numbers."""

    def features(self, rows, views):
        found = super().features(rows, views)
        found[rows == self.row] = np.nan
        return found


def test_a_loss_that_is_no_number_stops_with_its_batch(tmp_path):
    data = Poisoned()
    settings = settings_of({"steps": 20, "save_every": 1})
    data.row = split_rows(data.lonlat, settings.data).train[7]
    message = r"The loss of step \d is nan; no weight has moved"
    with pytest.raises(TrainingError, match=message) as stopped:
        run(settings, tmp_path / "run", data)
    told = json.loads((tmp_path / "run" / "bad_batch.json").read_text())
    assert data.row in told["ids"]
    assert len(told["ids"]) == 32
    at = told["ids"].index(data.row)
    assert told["names"][at] == f"picture {data.row}"
    assert told["lonlat"][at] == data.lonlat[data.row].tolist()
    assert "The loss of step" in told["error"]
    # The checkpoint before it is good, where there is one.
    saved = find_checkpoint(tmp_path / "run", "last") if told["step"] else None
    expected = f"The last checkpoint is {saved}." if saved else "There is no checkpoint yet."
    assert str(stopped.value).endswith(f"if they are right. {expected}")
    last = read_checkpoint(find_checkpoint(tmp_path / "run", "last"))
    assert last["progress"]["step"] == told["step"]
    assert all(torch.isfinite(w).all() for w in last["training"]["model"].values())


def test_a_loss_that_explodes_stops(tmp_path):
    message = r"larger than loop.max_loss = 0.5; .* There is no checkpoint yet\.$"
    with pytest.raises(TrainingError, match=message):
        run(settings_of({"max_loss": 0.5}), tmp_path / "run")
    assert json.loads((tmp_path / "run" / "bad_batch.json").read_text())["step"] == 0


@pytest.mark.parametrize(
    ("save_every", "saved"), [(0, "There is no checkpoint yet"), (5, "step-00000045.pt")]
)
def test_float16_gradients_that_are_never_finite_stop_it(tmp_path, monkeypatch, save_every, saved):
    encode = GeolocationModel.encode_views

    def spoilt(self, views):
        vectors = encode(self, views)
        if vectors.requires_grad:
            vectors.register_hook(lambda gradient: gradient * math.inf)
        return vectors

    monkeypatch.setattr(GeolocationModel, "encode_views", spoilt)
    loop = {"precision": "float16", "steps": 60, "batch": 4, "save_every": save_every}
    message = "The float16 gradients of the last 50 steps, up to step 49, .*'bfloat16' or 'float32'"
    with pytest.raises(TrainingError, match=f"{message}.*{saved}"):
        run(settings_of(loop), tmp_path / "run")


def test_only_steps_in_a_row_count_as_never_finite(tmp_path, monkeypatch):
    call = TrainingStep.__call__

    def skipping(self, batch, step, lr):
        return replace(call(self, batch, step, lr), skipped=step != 49)

    monkeypatch.setattr(TrainingStep, "__call__", skipping)
    settings = settings_of({"steps": 99, "batch": 4, "save_every": 30})
    assert run(settings, tmp_path / "run").step == 99
    # The count goes through a checkpoint.
    more = settings_of({"steps": 120, "batch": 4, "save_every": 30})
    with pytest.raises(TrainingError, match="last 50 steps, up to step 99"):
        run(more, tmp_path / "run", resume=True)


def test_a_full_disk_keeps_the_last_good_checkpoint(tmp_path, monkeypatch):
    """The system refuses larger files from step 6 on; with room again, the run goes on."""
    settings = settings_of({"steps": 12, "save_every": 3})
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    call = TrainingStep.__call__

    def fill_the_disk(self, batch, step, lr):
        if step == 4:
            resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
        return call(self, batch, step, lr)

    with monkeypatch.context() as patched:
        patched.setattr(TrainingStep, "__call__", fill_the_disk)
        try:
            with pytest.raises(TrainingError, match=r"step 6 cannot be written.*00000003.pt is"):
                run(settings, tmp_path / "run")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(list_checkpoints(tmp_path / "run" / "checkpoints")) == [3]
    assert run(settings, tmp_path / "run", resume=True).step == 12
    assert run(settings, tmp_path / "whole").step == 12
    same = [(tmp_path / name / "metrics.csv").read_bytes() for name in ("run", "whole")]
    assert same[0] == same[1]


def test_two_runs_in_one_folder_are_refused(tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.prepare(resume=False)
    with folder.locked(), pytest.raises(TrainingError, match="Another process is training in"):
        run(settings_of(), tmp_path / "run", resume=True)


def test_a_batch_larger_than_the_data_is_told(tmp_path):
    with pytest.raises(OptionError, match="A batch of 32 needs as many training rows"):
        run(settings_of(), tmp_path / "run", Memory(30))


def test_features_of_another_tower_are_refused(tmp_path):
    data = Memory()
    data.tower = "other.v1"
    with pytest.raises(OptionError, match="those of 'other.v1', and image.backbone = 'geoclip.v1'"):
        run(settings_of(), tmp_path / "run", data)


def test_data_that_are_not_there_are_told_and_leave_no_run(tmp_path):
    settings = settings_of().model_copy(
        update={"data": settings_of().data.model_copy(update={"path": str(tmp_path / "none")})}
    )
    with pytest.raises(OptionError, match=r"data.path = .*none'"):
        train(settings, tmp_path / "run", progress=False)
    # Nothing has begun, so that the next attempt needs no other folder.
    assert run(settings, tmp_path / "run").step == 6


# -- pictures --------------------------------------------------------------------------------------


class Pictures:
    """One colour a place, in memory; some cannot be read."""

    digest = "colours"

    def __init__(self, count=80, bad=()):
        rng = np.random.default_rng(4)
        self.lonlat = np.stack([rng.uniform(-180, 180, count), rng.uniform(-60, 70, count)], 1)
        self.names = [f"{row}.jpg" for row in range(count)]
        self.missing, self.reasons = ["lost.jpg"], ["There is no such file."]
        self._colours = rng.integers(0, 255, (count, 3), dtype=np.uint8)
        self.bad = set(bad)

    def __len__(self):
        return len(self.lonlat)

    def picture(self, row):
        if row in self.bad:
            raise PictureError(f"{row}.jpg is torn.")
        return Image.new("RGB", (12, 12), tuple(self._colours[row].tolist()))


def picture_settings(max_bad):
    return settings_of(
        {"batch": 16, "steps": 5},
        data={"kind": "bluemarble", "validation": 0.2, "max_bad": max_bad},
        image={"tower": "convnet", "size": 8, "widths": [4, 4], "head": [8]},
    )


def test_unreadable_pictures_are_listed_and_the_run_goes_on(tmp_path):
    settings = picture_settings(0.1)
    split = split_rows(Pictures().lonlat, settings.data)
    bad = [int(split.train[0]), int(split.train[5]), int(split.validation[1])]
    result = run(settings, tmp_path / "run", Pictures(bad=bad))
    assert result.step == 5
    with RunFolder(result.folder).bad_pictures.open() as file:
        listed = {row["name"]: row["reason"] for row in csv.DictReader(file)}
    expected = {f"{row}.jpg": f"{row}.jpg is torn." for row in bad}
    assert listed == {"lost.jpg": "There is no such file.", **expected}


def test_too_many_unreadable_pictures_stop_the_run(tmp_path):
    with pytest.raises(TrainingError, match="more than data.max_bad = 0.01 allows"):
        run(picture_settings(0.01), tmp_path / "run", Pictures(bad=range(0, 80, 4)))


# -- what is shown ---------------------------------------------------------------------------------


def test_what_is_said(tmp_path, capsys):
    settings = settings_of({"steps": 10}, {"every": 1.0})
    run(settings, tmp_path / "run", progress=True)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "small: step 10, epoch 1.00: held-out pictures within 25 km" in shown.err
    assert "(best)" in shown.err
    assert "10.0/10.0" in shown.err  # the bar
    assert "waiting for data" in shown.err
    assert "pictures/s" in shown.err
    run(settings, tmp_path / "quiet", progress=False)
    assert capsys.readouterr().err == ""


def test_a_stop_is_said(tmp_path, capsys, monkeypatch):
    call = TrainingStep.__call__

    def and_stop(self, batch, step, lr):
        if step == 2:
            signal.raise_signal(signal.SIGTERM)
        return call(self, batch, step, lr)

    monkeypatch.setattr(TrainingStep, "__call__", and_stop)
    with pytest.raises(SystemExit, match="Stopped by SIGTERM after step 3"):
        run(settings_of(), tmp_path / "run", progress=None)
    assert "Stopped by SIGTERM after step 3; go on with --resume" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_a_second_ctrl_c_does_not_wait(tmp_path, monkeypatch):
    def never_ends(self, batch, step, lr):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        raise AssertionError("it waited")

    monkeypatch.setattr(TrainingStep, "__call__", never_ends)
    with pytest.raises(KeyboardInterrupt):
        run(settings_of(), tmp_path / "run")


def test_deterministic_mode_is_for_the_run_alone(tmp_path, monkeypatch):
    seen = []
    call = TrainingStep.__call__

    def look(self, batch, step, lr):
        seen.append(torch.are_deterministic_algorithms_enabled())
        return call(self, batch, step, lr)

    monkeypatch.setattr(TrainingStep, "__call__", look)
    run(settings_of({"steps": 2, "deterministic": True}), tmp_path / "run")
    assert seen == [True, True]
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("options", [{}, {"accumulate": 4}, {"compile": False}])
def test_precisions_and_parts_run(tmp_path, precision, options):
    result = run(settings_of({"precision": precision, "steps": 3, **options}), tmp_path / "run")
    assert result.step == 3
    assert math.isfinite(result.metrics["loss"])
