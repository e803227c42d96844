"""How graphs and lists are built, and builds that end early."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import geoembed_usearch
import numpy as np
import pytest
from geoembed_usearch.building import insertion_blocks
from geoembed_usearch.graph import Shape
from geoembed_usearch.index import UsearchIndex
from geoembed_usearch.lists import Lists
from geoembed_usearch.recall import noisy_queries
from usearch_vectors import unit_vectors

from geoembed.galleries import GalleryCacheWarning


def test_the_order_of_insertion_holds_every_row_once_and_goes_on_anywhere():
    whole = np.concatenate(list(insertion_blocks(40_007)))
    assert sorted(whole.tolist()) == list(range(40_007))
    for done in (0, 1, 16_383, 16_384, 39_999, 40_007):
        rest = [*insertion_blocks(40_007, done), np.empty(0, np.int64)]
        np.testing.assert_array_equal(np.concatenate(rest), whole[done:])


def test_a_small_graph_finds_every_row_however_many_threads_wait_for_cores(own_cache):
    vectors = unit_vectors(3000, 24)
    index = UsearchIndex(vectors, threads=16, expansion_search=256)
    np.testing.assert_array_equal(index.search(vectors, 1)[1][:, 0], np.arange(3000))


# -- lists -----------------------------------------------------------------------------------------


def test_every_row_is_in_one_list_and_lists_hold_what_is_near(grid):
    table, guides = Lists.build(grid, Shape(), threads=1, progress=False)
    lists = Lists(grid, table)
    assert len(guides) == len(grid) // 64
    everything = lists.candidates(grid[:1], 10_000)[0]
    assert sorted(everything.tolist()) == list(range(len(grid)))
    queries = noisy_queries(grid, 0.9, 50, seed=1)
    found = lists.candidates(queries, 8)
    best = np.argmax(queries @ grid.T, axis=1)
    assert np.mean([b in f for b, f in zip(best, found, strict=True)]) > 0.95


def test_lists_are_the_same_however_many_threads_build_them():
    vectors = unit_vectors(9000, 24)
    tables = [Lists.build(vectors, Shape(), threads=n, progress=False)[0] for n in (1, 8, 8, 8)]
    for table in tables[1:]:
        np.testing.assert_array_equal(table, tables[0])


def test_where_lists_are_enough_only_their_guides_are_in_the_graph(own_cache, grid):
    small = UsearchIndex(grid)
    assert (small.facts["graph_of"], small.facts["expansion_search"]) == ("guides", 0)
    with pytest.warns(GalleryCacheWarning, match="graph_of='guides', not 'places'"):
        whole = UsearchIndex(grid, graph="always")
    assert whole.facts["graph_of"] == "places"
    assert len(whole._finder.graph) == len(grid)
    assert UsearchIndex(grid).path == whole.path


# -- builds that end early -------------------------------------------------------------------------


BUILD = """
import json, sys, threading
import numpy as np
from geoembed_usearch import building, calibrating
from geoembed_usearch.index import UsearchIndex
building._ROWS = 1024
begun, bar, save = [], building.progress_bar, building._Unfinished.save
def watched(*arguments, **options):
    begun.append(options["done"])
    return bar(*arguments, **options)
def stopped(kept, graph):
    save(kept, graph)
    print(len(graph), flush=True)
    threading.Event().wait()
building.progress_bar = watched
if sys.argv[2] == "stop":
    building._Unfinished.save = stopped
vectors = np.load(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
index = UsearchIndex(vectors, graph="always", checkpoint=0.0, threads=1, progress=False)
print(json.dumps({"path": str(index.path), "begun": begun}), flush=True)
"""


@pytest.fixture
def build(own_cache, tmp_path):
    """Start processes that build a graph of some vectors; they are killed at the end."""
    package = str(Path(geoembed_usearch.__file__).parents[1])
    paths = os.pathsep.join([package, *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    started = []

    def start(vectors, mode):
        np.save(tmp_path / "vectors.npy", vectors)
        command = [sys.executable, "-c", BUILD, str(tmp_path / "vectors.npy"), mode]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        started.append(subprocess.Popen(command, env=environment, text=True, **pipes))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_a_killed_build_is_gone_on_with_by_one_of_two_processes_and_taken_by_the_other(
    own_cache, build
):
    vectors = unit_vectors(3000, 24)
    killed = build(vectors, "stop")
    killed.stdin.write("go\n")
    killed.stdin.flush()
    assert killed.stdout.readline() == "ready\n"
    done = int(killed.stdout.readline())
    assert 0 < done < 3000
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    (folder,) = (own_cache / "indexes").iterdir()
    assert list(folder.glob("*.part.json"))
    assert not list(folder.glob("*.usearch"))  # nothing half is ever found
    # As if another one had been killed while it wrote the whole graph.
    (folder / ".usearch.float16-abc.new").write_bytes(b"half")

    both = [build(vectors, "go on") for _ in range(2)]
    for process in both:
        assert process.stdout.readline() == "ready\n"
    for process in both:
        process.stdin.write("go\n")
        process.stdin.flush()
    told = [json.loads(process.stdout.readline()) for process in both]
    assert sorted(one["begun"] for one in told) == [[], [done]]
    assert told[0]["path"] == told[1]["path"]

    index = UsearchIndex(vectors)
    assert str(index.path) == told[0]["path"]
    assert len(index._finder.graph) == 3000
    np.testing.assert_array_equal(index.search(vectors, 1)[1][:, 0], np.arange(3000))
    left = [p.name for p in folder.iterdir() if ".part" in p.name or p.name.endswith(".new")]
    assert left == []


def test_the_part_of_another_build_is_not_taken_up(own_cache, tmp_path, monkeypatch):
    from geoembed_usearch.building import build_graph
    from geoembed_usearch.keeping import Home

    home = Home(tmp_path / "home")
    home.folder.mkdir()
    monkeypatch.setattr("geoembed_usearch.building._ROWS", 512)
    vectors = unit_vectors(2000, 8)
    options = {"threads": 1, "progress": False, "checkpoint": 0.0}
    shape = Shape(connectivity=4, expansion_add=8)
    build_graph(vectors, {"of": "these"}, shape, home, **options)
    assert list(home.folder.glob("*.part.json"))
    for identity, other in (({"of": "others"}, shape), ({"of": "these"}, Shape(connectivity=5))):
        graph = build_graph(vectors[:500], identity, other, home, **options)
        assert len(graph) == 500
    # A torn part begins anew.
    for part in home.folder.glob("*.part.[01]"):
        part.write_bytes(part.read_bytes()[:1000])
    assert len(build_graph(vectors, {"of": "these"}, shape, home, **options)) == 2000


def test_a_full_disk_leaves_the_graph_in_memory_and_nothing_behind(own_cache, monkeypatch):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("geoembed_usearch.keeping.save_graph", full)
    with pytest.warns(GalleryCacheWarning, match="No space left on device"):
        index = UsearchIndex(unit_vectors(500))
    assert index.path is None
    assert [
        p for p in (own_cache / "indexes").rglob("*") if p.is_file() and p.suffix != ".lock"
    ] == []


def test_too_little_room_is_met_before_anything_is_built(own_cache, monkeypatch):
    usage = shutil.disk_usage(own_cache)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.warns(GalleryCacheWarning, match="GB are needed, 0.0 GB are free"):
        index = UsearchIndex(unit_vectors(500))
    assert index.path is None
