"""``geoembed train``: recipes, plans, runs and matrices from the command line."""

import json
import tomllib
from pathlib import Path

import pytest

from geoembed.cli import builtin
from geoembed.cli.main import main
from geoembed.training.config import list_recipes, load_settings
from geoembed.training.matrix_report import MatrixResult

TINY_RUN = tomllib.loads(Path(__file__).with_name("tiny_run.toml").read_text("utf-8"))
TINY = [
    f"{section}.{field}={json.dumps(value)}"
    for section, fields in TINY_RUN.items()
    for field, value in fields.items()
]
SET = [word for each in TINY for word in ("--set", each)]


@pytest.fixture(autouse=True)
def registered(monkeypatch, tmp_path):
    if all(name != "train" for _, _, name in builtin.COMMANDS):
        own = ("geoembed.cli.train", "train", "train")
        monkeypatch.setattr(builtin, "COMMANDS", (*builtin.COMMANDS, own))
    monkeypatch.chdir(tmp_path)


def run(capsys, *arguments):
    code = main(["train", *map(str, arguments)])
    told = capsys.readouterr()
    return code, told.out, told.err


def test_lists_recipes_and_matrices(capsys):
    code, out, err = run(capsys, "--list")
    assert (code, err) == (0, "")
    names = [line.split()[0] for line in out.splitlines()[1:]]
    assert names == [*list_recipes(), "matrix-bluemarble"]
    code, out, _ = run(capsys, "--list", "--json")
    assert [each["name"] for each in json.loads(out)] == names


def test_shows_settings_that_can_be_read_again(capsys):
    code, out, _ = run(capsys, "add-scale", "--show", "--set", "loop.batch=8")
    assert code == 0
    assert load_settings(tomllib.loads(out)) == load_settings("add-scale", ["loop.batch=8"])


@pytest.mark.filterwarnings("default:The run goes on to another end")
def test_trains_says_how_good_it_is_and_goes_on(capsys, tmp_path):
    code, out, err = run(capsys, "bluemarble", *SET, "-o", "one")
    assert code == 0
    assert "step 2, epoch" in err
    lines = out.splitlines()
    assert lines[0] == f"2 steps. The run is in {tmp_path / 'one'}."
    assert lines[3].split()[:5] == ["step", "1", "km", "25", "km"]
    assert lines[4].split()[:2] == ["last", "2"]
    assert lines[-1] == f"Use it:  geoembed export {tmp_path / 'one'} -o MODEL"

    code, _, err = run(capsys, "bluemarble", *SET, "-o", "one")
    assert code == 1
    assert "holds a run already. Go on with it (--resume" in err

    # Its own settings are in the folder; longer is fine and said, another batch is another run.
    code, out, err = run(capsys, "--resume", "-o", "one", "--set", "loop.steps=3", "--json")
    assert code == 0
    assert "warning: The run goes on to another end" in err
    told = json.loads(out)
    assert (told["step"], told["ended"]) == (3, "steps")
    assert told["best"]["scores"]["median_km"] > 0.0

    code, _, err = run(capsys, "--resume", "-o", "one", "--set", "loop.batch=8")
    assert code == 1
    assert "loop.batch: 16 -> 8" in err


def test_quiet_prints_nothing_and_the_folder_has_a_default(capsys, tmp_path):
    assert run(capsys, "bluemarble", *SET, "-q") == (0, "", "")
    assert (tmp_path / "runs" / "bluemarble" / "metrics.csv").is_file()


def test_dry_run_prints_the_plan_and_writes_nothing(capsys, tmp_path):
    code, out, err = run(capsys, "bluemarble", *SET, "--dry-run", "--processes", 2)
    assert (code, err) == (0, "")
    assert "steps    2 of 16 pictures, 8 of them on each of 2 processes" in out
    assert "parameters: location encoder " in out
    code, out, _ = run(capsys, "bluemarble", *SET, "--dry-run", "--json")
    assert json.loads(out)["steps"] == 2
    assert list(tmp_path.iterdir()) == []


def test_dry_run_of_a_matrix_counts_its_runs(capsys, tmp_path):
    code, out, _ = run(capsys, "--matrix", "matrix-bluemarble", *SET, "--dry-run")
    assert code == 0
    assert out.splitlines()[0].endswith("variants with 3 seeds each:")
    assert "plate carree" in out
    assert "location.projection" in out
    assert "All runs, if each takes as long: about " in out.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []


def test_problems_are_told_all_at_once(capsys):
    code, _, err = run(capsys, "bluemarble", "--set", "loop.bath=3", "--set", "loop.epochs=many")
    assert code == 1
    assert "2 problems in bluemarble" in err
    assert "Close matches: 'batch'" in err
    assert "loop.epochs = 'many' must be a number" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Give RECIPE|FILE, see --list"),
        (["--resume"], "or --resume and -o FOLDER"),
        (["bluemarble", "--matrix", "matrix-bluemarble"], "Give one of"),
        (["bluemarble", "--processes", "2"], "--processes belongs to --dry-run"),
        (["--matrix", "matrix-bluemarble", "--show"], "are about one run, not a matrix"),
    ],
)
def test_usage_errors(capsys, arguments, message):
    code, _, err = run(capsys, *arguments)
    assert code == 2
    assert message in err


def test_nothing_to_resume_is_told(capsys):
    code, _, err = run(capsys, "--resume", "-o", "none")
    assert code == 1
    assert "none holds no run to resume" in err


@pytest.fixture
def matrix_file(tmp_path):
    text = 'name = "m"\nbase = "bluemarble"\nseeds = [0]\n[variants]\nq = ["objective.queue=8"]'
    (tmp_path / "m.toml").write_text(text)
    return tmp_path / "m.toml"


def test_matrix_tells_results_and_where_the_tables_are(capsys, matrix_file, monkeypatch):
    def run_matrix(matrix, folder, *, progress, tell):
        tell(f"{matrix.variants[1].settings.loop.batch} in {folder}")
        return [MatrixResult(variant="base", seed=0)]

    monkeypatch.setattr("geoembed.training.matrix_running.run_matrix", run_matrix)
    code, out, err = run(capsys, "--matrix", matrix_file, "-o", "out", "--set", "loop.batch=8")
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        "8 in out",
        "Tables and picture are in out: results.md, results.csv, matrix.png.",
    ]


def test_matrix_with_failed_runs_ends_with_an_error(capsys, matrix_file, monkeypatch):
    def run_matrix(matrix, folder, *, progress, tell):
        return [
            MatrixResult(variant="base", seed=0),
            MatrixResult(variant="q", seed=0, failed="The loss is nan."),
        ]

    monkeypatch.setattr("geoembed.training.matrix_running.run_matrix", run_matrix)
    code, _, err = run(capsys, "--matrix", matrix_file, "-o", "out")
    assert code == 1
    assert "1 of 2 failed, such as q, seed 0: The loss is nan. Start it again" in err
