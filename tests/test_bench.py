"""`make bench`: suites in processes of their own, results that stay, runs that are compared."""

import copy
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
RUN = ROOT / "benchmarks" / "run.py"


def bench(*arguments, script=RUN, **options):
    command = [sys.executable, str(script), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)


def figure(name, value, unit="x", **more):
    keep = {"target": None, "at_most": True, "spread": None, "better": None, "ceiling": None}
    return {"name": name, "value": value, "unit": unit, "growth": None, **keep, **more}


def document(*figures, size="full", status="done", **about):
    machine = {
        "geoembed": "1",
        "torch": "2",
        "python": "3",
        "machine": "x",
        "processor": "p",
        "cores": 2,
        "threads": 2,
        "capability": "c",
    }
    suite = {
        "status": status,
        "size": size,
        "seconds": 1.0,
        "busy": 0.1,
        "error": "" if status == "done" else "RuntimeError: no",
        "figures": list(figures),
    }
    return {
        "format": "geoembed-bench",
        "version": 3,
        "about": {**machine, **about},
        "suites": {"featurize": suite},
    }


def compared(folder, old, new):
    """Compare two documents; return what came out and each figure's row of the table."""
    for name, content in (("old.json", old), ("new.json", new)):
        folder.joinpath(name).write_text(json.dumps(content))
    done = bench("--from", folder / "new.json", "--compare", folder / "old.json")
    assert not done.stderr, done.stderr
    rows = [line.split(" | ") for line in done.stdout.splitlines() if line.startswith("| feat")]
    return done, {row[1]: row for row in rows}


def child_of(process):
    """Return the one process that a process has started."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    return int(children.read_text().split()[0])


def runs(process):
    """Whether a process, by its number, is there and has not ended."""
    try:
        said = Path(f"/proc/{process}/stat").read_text()
    except FileNotFoundError:
        return False
    return said.rpartition(")")[2].split()[0] != "Z"


def wait_for(what, seconds=60):
    until = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < until, "it took too long"
        time.sleep(0.05)
    return found


def measured(path, suite, least):
    """Whether so many figures of a suite that still runs are in the file."""
    if not path.exists():
        return False
    state = json.loads(path.read_text())["suites"].get(suite)
    return state is not None and state["status"] == "running" and len(state["figures"]) >= least


def test_the_list_names_every_suite_without_measuring():
    done = bench("--list")
    assert done.returncode == 0
    names = [line[:15].strip() for line in done.stdout.splitlines()]
    assert names == [
        "start-up", "featurize", "files", "rasters", "heads", "maps", "geolocate", "gallery",
        "large gallery", "index", "training step", "feeds", "onnx", "scaling",
    ]  # fmt: skip


@pytest.fixture
def stubbed(tmp_path):
    """Give the suites in a folder of their own, where `feeds` waits for a file to go on."""
    folder = tmp_path / "benchmarks"
    shutil.copytree(RUN.parent, folder, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "feeds.py").write_text(
        "import time\nfrom pathlib import Path\nfrom figures import Figure\n"
        "def feeds(**_):\n"
        "    for number in range(3):\n"
        "        yield Figure(f'figure {number}', 1.0, 'x', better='more')\n"
        f"    while not Path({str(tmp_path / 'go on')!r}).exists():\n"
        "        time.sleep(0.02)\n"
        "    yield Figure('last', 1.0, 'x')\n"
    )
    with (folder / "running.py").open("a") as file:
        # The real ones import torch.
        file.write(f"\ndef facts():\n    return {document()['about']}\n")
    return folder / "run.py"


def test_a_suite_that_is_killed_loses_nothing_and_is_measured_again_by_a_resumed_run(
    tmp_path, stubbed
):
    asked = ["--size", "tiny", "--only", "feeds", "start-up", "--output", str(tmp_path)]
    path = tmp_path / "bench.json"
    with subprocess.Popen(
        [sys.executable, str(stubbed), *asked],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        wait_for(lambda: measured(path, "feeds", 3))
        os.kill(child_of(process), signal.SIGKILL)
        said, errors = process.communicate(timeout=60)
    assert process.returncode == 3
    assert "ended by SIGKILL" in said
    assert "feeds was not measured whole: ended by SIGKILL" in errors
    before = json.loads(path.read_text())["suites"]
    assert before["feeds"]["status"] == "failed"
    assert len(before["feeds"]["figures"]) == 3
    assert before["start-up"]["status"] == "done"

    (tmp_path / "go on").touch()
    done = bench(*asked, "--resume", "--compare", path, script=stubbed)
    assert done.returncode == 0, done.stderr
    assert "start-up: measured already" in done.stdout
    after = json.loads(path.read_text())["suites"]
    assert after["start-up"] == before["start-up"]
    assert after["feeds"]["status"] == "done"
    assert len(after["feeds"]["figures"]) == 4
    assert after["feeds"]["error"] == ""


def test_a_run_that_is_stopped_ends_its_suite_and_keeps_what_it_had(tmp_path, stubbed):
    asked = ["--size", "tiny", "--only", "feeds", "--output", str(tmp_path)]
    path = tmp_path / "bench.json"
    with subprocess.Popen(
        [sys.executable, str(stubbed), *asked],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        wait_for(lambda: measured(path, "feeds", 1))
        child = child_of(process)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 128 + signal.SIGINT
    assert "--resume goes on from there" in errors
    assert not Path(f"/proc/{child}").exists()
    kept = json.loads(path.read_text())["suites"]["feeds"]
    assert kept["figures"]
    assert kept["status"] == "running"

    # Begun anew it keeps those; stopped before it had measured anything, it is not kept itself.
    path.rename(tmp_path / "previous.json")
    empty = {**json.loads((tmp_path / "previous.json").read_text()), "suites": {}}
    path.write_text(json.dumps(empty))
    (tmp_path / "go on").touch()
    assert bench(*asked, script=stubbed).returncode == 0
    assert json.loads((tmp_path / "previous.json").read_text())["suites"]["feeds"] == kept


def test_a_suite_that_is_measured_again_keeps_its_figures_until_there_are_new_ones(
    tmp_path, stubbed
):
    asked = ["--size", "tiny", "--only", "feeds", "--output", str(tmp_path)]
    path, going = tmp_path / "bench.json", tmp_path / "go on"
    going.touch()
    assert bench(*asked, script=stubbed).returncode == 0
    path.write_text(path.read_text().replace('"value": 1.0', '"value": 7.0'))
    going.unlink()

    def values():
        suite = json.loads(path.read_text())["suites"]["feeds"]
        return suite["status"], [each["value"] for each in suite["figures"]]

    def again(end):
        """Measure it again; end the suite or the run when figures have come."""
        said = tmp_path / "said.txt"
        with (
            said.open("w") as file,
            subprocess.Popen(
                [sys.executable, str(stubbed), *asked, "--redo", "feeds"],
                stdout=file,
                stderr=subprocess.PIPE,
                text=True,
            ) as process,
        ):
            try:
                wait_for(lambda: "figure 2" in said.read_text())
                assert values() == ("done", [7.0] * 4)
                end(process)
                _, errors = process.communicate(timeout=60)
            finally:
                process.kill()
        assert values() == ("done", [7.0] * 4)
        return process.returncode, errors

    status, errors = again(lambda process: os.kill(child_of(process), signal.SIGKILL))
    assert status == 3
    assert re.fullmatch(
        r"feeds was not measured again: ended by SIGKILL .*feeds\.log\); what was measured before "
        r"is kept\n",
        errors,
    )
    status, errors = again(lambda process: process.send_signal(signal.SIGTERM))
    assert status == 128 + signal.SIGTERM
    assert "--resume goes on from there" in errors

    going.touch()
    done = bench(*asked, "--redo", "feeds", script=stubbed)
    assert done.returncode == 0, done.stderr
    assert values() == ("done", [1.0] * 4)


def test_figures_of_a_suite_that_failed_stay_until_there_are_as_many(tmp_path, stubbed):
    asked = ["--size", "tiny", "--only", "feeds", "--output", str(tmp_path)]
    path = tmp_path / "bench.json"
    (tmp_path / "go on").touch()
    assert bench(*asked, script=stubbed).returncode == 0
    feeds = stubbed.with_name("feeds.py")

    def failing(figures):
        """Measure it again with a suite that fails after so many figures; return the file's."""
        feeds.write_text(
            "from figures import Figure\n"
            "def feeds(**_):\n"
            f"    for number in range({figures}):\n"
            "        yield Figure(f'figure {number}', 2.0, 'x', better='more')\n"
            f"    raise RuntimeError('after {figures}')\n"
        )
        done = bench(*asked, "--resume", script=stubbed)
        assert done.returncode == 3
        assert f"RuntimeError: after {figures} (see" in done.stderr
        return json.loads(path.read_text())["suites"]["feeds"], done.stderr

    document = json.loads(path.read_text())
    document["suites"]["feeds"].update(status="failed", error="RuntimeError: before")
    path.write_text(json.dumps(document))
    kept, said = failing(2)
    assert kept == document["suites"]["feeds"]
    assert "feeds was not measured again" in said
    replaced, said = failing(5)
    assert [each["value"] for each in replaced["figures"]] == [2.0] * 5
    assert "feeds was not measured whole" in said


def test_suites_that_a_run_lacks_are_measured_besides_one_that_is_redone_and_named(
    tmp_path, stubbed
):
    (tmp_path / "go on").touch()
    path = tmp_path / "bench.json"
    asked = ["--size", "tiny", "--output", str(tmp_path), "--only"]
    assert bench(*asked, "feeds", script=stubbed).returncode == 0
    path.write_text(path.read_text().replace('"value": 1.0', '"value": 7.0'))
    done = bench(*asked, "start-up", "--redo", "start-up", script=stubbed)
    assert done.returncode == 0, done.stderr
    assert "measured besides" not in done.stdout
    suites = json.loads(path.read_text())["suites"]
    assert list(suites) == ["start-up", "feeds"]
    assert {each["value"] for each in suites["feeds"]["figures"]} == {7.0}

    del suites["start-up"]
    path.write_text(json.dumps({**json.loads(path.read_text()), "suites": suites}))
    done = bench(*asked, "feeds", "start-up", "--redo", "feeds", script=stubbed)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("measured besides, as the run lacks them: start-up\n")
    assert re.findall("measuring (.*) ...", done.stdout) == ["feeds", "start-up"]
    suites = json.loads(path.read_text())["suites"]
    assert {each["value"] for each in suites["feeds"]["figures"]} == {1.0}


def test_a_second_run_in_one_folder_is_refused_until_the_first_has_ended_or_was_killed(
    tmp_path, stubbed
):
    asked = ["--size", "tiny", "--only", "feeds", "--output", str(tmp_path)]
    path = tmp_path / "bench.json"
    command = [sys.executable, str(stubbed), *asked]
    scratch = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, env=scratch) as first:
        try:
            wait_for(lambda: measured(path, "feeds", 3))
            before = path.read_bytes()
            for more in ([], ["--resume"], ["--redo", "feeds"]):
                second = bench(*asked, *more, script=stubbed, timeout=60)
                assert second.returncode == 2
                assert re.fullmatch(
                    f"run.py: Another run is measuring in {tmp_path} right now: wait for it. Or "
                    r"name another folder with --output\.\n",
                    second.stderr,
                )
                assert path.read_bytes() == before
            assert not (tmp_path / "previous.json").exists()
            child = child_of(first)
            assert runs(child)
        finally:
            first.kill()
    (tmp_path / "go on").touch()
    done = bench(*asked, script=stubbed)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "previous.json").read_bytes() == before


def test_a_suite_and_what_it_started_end_with_a_run_that_is_killed(tmp_path, stubbed):
    feeds = stubbed.with_name("feeds.py")
    feeds.write_text(
        "import subprocess, sys\n"
        f"worker = subprocess.Popen([{sys.executable!r}, '-c', 'import time; time.sleep(300)'])\n"
        f"open({str(tmp_path / 'worker')!r}, 'w').write(f'{{worker.pid}}\\n')\n" + feeds.read_text()
    )
    asked = ["--size", "tiny", "--only", "feeds", "--output", str(tmp_path)]
    scratch = {**os.environ, "TMPDIR": str(tmp_path)}
    command = [sys.executable, str(stubbed), *asked]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, env=scratch) as run:
        try:
            wait_for(lambda: measured(tmp_path / "bench.json", "feeds", 3))
            started = [child_of(run), int((tmp_path / "worker").read_text())]
            assert all(map(runs, started))
        finally:
            run.kill()
    try:
        wait_for(lambda: not any(map(runs, started)), 10)
    finally:
        for process in filter(runs, started):
            os.kill(process, signal.SIGKILL)


def test_systems_may_say_that_a_suite_that_has_ended_is_not_ours(tmp_path, modules, monkeypatch):
    import running

    def refuse(*_):
        raise PermissionError(1, "Operation not permitted")

    script = tmp_path / "suites.py"
    script.write_text("")
    monkeypatch.setattr(running, "_SCRIPT", script)
    monkeypatch.setattr(os, "killpg", refuse)
    told = []
    assert running.run_suite("start-up", "tiny", tmp_path, told.append).status == "done"
    assert told


def test_a_file_that_is_no_result_is_refused_before_anything_is_measured(tmp_path):
    def refused(path, match, *more):
        done = bench("--only", "start-up", "--output", tmp_path / "out", "--compare", path, *more)
        assert done.returncode == 2
        assert re.search(match, done.stderr), done.stderr
        assert "measuring" not in done.stdout
        assert not (tmp_path / "out").exists()

    path = tmp_path / "old.json"
    refused(path, r"old\.json is not there: name the bench\.json of a run, or measure one")
    path.write_text(json.dumps(document())[:-20])
    refused(path, r"is no JSON, or was cut")
    path.write_bytes(b"\x93NUMPY\xff")
    refused(path, r"cannot be read")
    path.write_text('{"type": "FeatureCollection"}')
    refused(path, r"holds JSON, but no results of benchmarks")
    path.write_text('{"about": {}, "figures": []}')
    refused(path, r"written before suites had a process of their own: measure one")
    path.write_text(json.dumps({**document(), "version": 9}))
    refused(path, r"has version 9 of the format, this geoembed reads 3")
    path.write_text(json.dumps({**document(), "suites": {"featurize": {"status": "done"}}}))
    refused(path, r"not as they are written")


def test_a_folder_that_cannot_be_written_is_told(tmp_path):
    path = tmp_path / "taken"
    path.write_text("a file")
    done = bench("--only", "start-up", "--output", path)
    assert done.returncode == 2
    assert re.search(r"results cannot be written \(.*taken", done.stderr)
    assert path.read_text() == "a file"


def test_unknown_suites_and_contradicting_options_are_refused(tmp_path):
    done = bench("--only", "featurise", "--output", tmp_path)
    assert done.returncode == 2
    assert "there is no suite 'featurise': choose from start-up, featurize" in done.stderr
    done = bench("--from", "new.json", "--resume", "--output", tmp_path)
    assert done.returncode == 2
    assert "--from measures nothing" in done.stderr
    assert not list(tmp_path.iterdir())


def test_results_of_another_machine_are_not_resumed(tmp_path):
    path = tmp_path / "bench.json"
    path.write_text(json.dumps(document(figure("rate", 1.0))))
    before = path.read_bytes()
    done = bench("--only", "start-up", "--output", tmp_path, "--resume")
    assert done.returncode == 2
    assert re.search(r"measured elsewhere \(processor: p and .*leave --resume out", done.stderr)
    assert path.read_bytes() == before


def test_only_what_leaves_the_noise_is_worse(tmp_path):
    steady, shaky = (0.99, 1.01), (0.7, 1.3)
    old = document(
        figure("share", 1.0, spread=steady, better="more"),
        figure("shaky", 1.0, spread=shaky, better="more"),
        figure("gained", 1.0, spread=steady, better="less"),
        figure("nearly", 1.0, spread=steady, better="less"),
        figure("once", 100.0, "MB"),
        figure("rate", 100.0, "points/s", spread=(99.0, 101.0)),
        figure("undirected", 1.0, spread=steady),
        figure("bits", 0.0, "difference", target=0.0),
        figure("mean cosine", 0.9998, "", target=0.999, at_most=False),
    )
    new = copy.deepcopy(old)
    values = {
        "share": 0.9, "shaky": 0.9, "gained": 0.8, "nearly": 1.04, "once": 115.0,
        "rate": 80.0, "undirected": 1.5, "bits": 1e-9, "mean cosine": 0.998,
    }  # fmt: skip
    for each in new["suites"]["featurize"]["figures"]:
        each["value"] = values[each["name"]]
    done, rows = compared(tmp_path, old, new)
    assert done.returncode == 1
    verdicts = {name: row[-1].strip(" |") for name, row in rows.items()}
    assert verdicts == {
        "share": "**worse**", "shaky": "", "gained": "better", "nearly": "", "once": "",
        "rate": "**worse**", "undirected": "moved", "bits": "**target missed**",
        "mean cosine": "**target missed**",
    }  # fmt: skip
    assert rows["share"][2:5] == ["1 x", "0.9 x", "0.9"]
    assert "worse beyond noise: 4" in done.stdout
    done, _ = compared(tmp_path, new, old)
    # The other way round: what had got better now is worse, beside what nobody gave a direction.
    assert done.returncode == 1
    assert "worse beyond noise: 1\n  featurize: gained" in done.stdout
    done, rows = compared(tmp_path, old, old)
    assert done.returncode == 0
    assert {row[-1].strip(" |") for row in rows.values()} == {""}
    assert "nothing is worse beyond noise" in done.stdout


def test_a_slowdown_of_30_percent_is_told_as_time_and_as_rate_and_computed_targets_always(tmp_path):
    old = document(
        figure("time", 1.0, "s", spread=(0.96, 1.04)),
        figure("rate", 100.0, "points/s", spread=(96.0, 104.0)),
        figure("shaky time", 1.0, "s", spread=(0.72, 1.28)),
        figure("shaky rate", 100.0, "points/s", spread=(72.0, 128.0)),
        figure("mean cosine", 0.9995, "", target=0.999, at_most=False),
    )
    new = copy.deepcopy(old)
    for each, value in zip(
        new["suites"]["featurize"]["figures"], (1.3, 100 / 1.3, 2.2, 100 / 2.2, 0.9989), strict=True
    ):
        scale = value / each["value"]
        each["value"] = value
        each["spread"] = each["spread"] and tuple(scale * edge for edge in each["spread"])
    _, rows = compared(tmp_path, old, new)
    verdicts = {name: row[-1].strip(" |*") for name, row in rows.items()}
    assert verdicts == {
        "time": "worse", "rate": "worse", "shaky time": "worse", "shaky rate": "worse",
        "mean cosine": "target missed",
    }  # fmt: skip


def test_seconds_are_compared_on_one_machine_only_and_ratios_on_any(tmp_path):
    old = document(figure("share", 1.0, spread=(1, 1), better="more"), figure("time", 1.0, "s"))
    new = document(
        figure("share", 0.5, spread=(0.5, 0.5), better="more"), figure("time", 9.0, "s"), threads=1
    )
    done, rows = compared(tmp_path, old, new)
    assert done.returncode == 1
    assert rows["time"][-1] == "not compared (another machine) |"
    assert rows["share"][-1] == "**worse** |"
    assert (
        "ratios are compared, seconds, rates and memory are not (threads: 2 and 1)" in done.stdout
    )


def test_other_sizes_and_suites_that_failed_are_told_apart(tmp_path):
    old = document(figure("share", 1.0, spread=(1, 1), better="more"))
    new = document(figure("share", 0.5, spread=(0.5, 0.5), better="more"), size="quick")
    done, rows = compared(tmp_path, old, new)
    assert done.returncode == 0
    assert rows["share"][-1] == "not compared (full size and quick size) |"

    tmp_path.joinpath("new.json").write_text(json.dumps(document(status="failed")))
    done = bench("--from", tmp_path / "new.json", "--compare", tmp_path / "old.json")
    assert done.returncode == 3
    assert "gone (its suite failed)" in done.stdout
    assert "featurize was not measured whole: RuntimeError: no" in done.stderr

    failed = document(status="failed")
    failed["suites"]["featurize"]["error"] += " (see bench/logs/featurize.log)"
    tmp_path.joinpath("new.json").write_text(json.dumps(failed))
    bench("--from", tmp_path / "new.json", "--docs", tmp_path)
    page = (tmp_path / "figures" / "bench.md").read_text()
    assert "**Not measured whole**: RuntimeError: no." in page


def test_the_page_shows_ceilings_and_how_cost_grows(tmp_path):
    growing = [
        figure(
            f"encode, {rows:,} points",
            seconds,
            "s",
            growth={"series": "encode", "axis": "rows", "at": rows},
        )
        for rows, seconds in ((1_000, 0.2), (10_000, 2.0), (100_000, 24.0))
    ]
    share = figure(
        "share of the ceiling, 10 points", 0.91, spread=(0.9, 0.92), ceiling="bare products"
    )
    path = tmp_path / "bench.json"
    path.write_text(json.dumps(document(*growing, share)))
    done = bench("--from", path, "--docs", tmp_path / "docs")
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "docs" / "figures"
    growth = folder.joinpath("bench_growth.md").read_text().splitlines()
    assert growth[2:] == [
        "| encode | 1,000 rows | 200 ms | 200 µs | 1 | 1 |",
        "| encode | 10,000 rows | 2 s | 200 µs | 10 | 10 |",
        "| encode | 100,000 rows | 24 s | 240 µs | 100 | 120 |",
    ]
    ceilings = folder.joinpath("bench_ceilings.md").read_text()
    assert "| featurize | 10 points | 0.91 | 0.90 - 0.92 | bare products |" in ceilings
    page = folder.joinpath("bench.md").read_text()
    assert "### Featurize" in page
    assert "| encode, 1,000 points | 0.2 s |" in page
    pictures = [tmp_path / "docs" / "_static" / f"bench_growth_{t}.png" for t in ("light", "dark")]
    assert all(each.stat().st_size > 5_000 for each in pictures)
    before = [each.read_bytes() for each in pictures]
    bench("--from", path, "--docs", tmp_path / "docs")
    assert [each.read_bytes() for each in pictures] == before


BIND = """
import importlib, inspect
from suites import SIZES, SUITES
for name, suite in SUITES.items():
    for part in suite.parts:
        module, _, function = part.function.partition(":")
        signature = inspect.signature(getattr(importlib.import_module(module), function))
        for size in SIZES:
            if getattr(part, size) is not None:
                signature.bind(**getattr(part, size))
    print(name)
"""


def test_every_part_of_every_suite_is_there_and_takes_its_arguments():
    command = [sys.executable, "-c", BIND]
    done = subprocess.run(command, cwd=RUN.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 14


# What takes little; all of them with the variable, as tests/parity does.
FEW = ("start-up", "rasters", "large gallery", "index")


@pytest.mark.slow
def test_every_suite_runs_end_to_end(tmp_path):
    full = bool(os.environ.get("GEOEMBED_TEST_FULL"))
    chosen = [] if full else ["--only", *FEW]
    done = bench("--size", "tiny", "--output", tmp_path, "--docs", tmp_path / "docs", *chosen)
    suites = json.loads(tmp_path.joinpath("bench.json").read_text())["suites"]
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(suites) == (14 if full else len(FEW))
    assert {name: suite["error"] for name, suite in suites.items() if suite["error"]} == {}
    # What an index is compared with has no tiny size; it is tested with its plugin.
    assert {name for name, suite in suites.items() if not suite["figures"]} == {"index"}
    assert (tmp_path / "docs" / "figures" / "bench_growth.md").exists()


@pytest.fixture
def modules(monkeypatch):
    """Those of the benchmarks, which import one another by their bare names."""
    monkeypatch.syspath_prepend(str(RUN.parent))


def test_a_run_of_the_format_before_is_read(tmp_path, modules):
    from document import read_run

    older = document()
    older["version"] = 2
    older["suites"]["featurize"]["load"] = older["suites"]["featurize"].pop("busy")
    path = tmp_path / "old.json"
    path.write_text(json.dumps(older))
    assert read_run(path).suites["featurize"].busy is None


def test_work_of_others_is_seen_and_not_what_ran_before(monkeypatch, modules):
    import running

    ticks = iter([1000, 1000 + os.sysconf("SC_CLK_TCK")])
    monkeypatch.setattr(running, "_worked", lambda: next(ticks))
    assert 0.8 < running.busy_cores(1.0) <= 1.0
    monkeypatch.setattr(running, "_worked", lambda: None)
    assert running.busy_cores() == os.getloadavg()[0]
