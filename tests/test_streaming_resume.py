"""Runs that stop half-way: nothing under the final name, and the rest can be done later."""

import json
import os
import signal
import subprocess
import sys
import time

import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from geoembed.cli.main import main
from geoembed.encoders.base import LocationEncoder
from geoembed.errors import TableError
from geoembed.extending import LocationEncoderSpec
from geoembed.streaming import embed_file, run, workspace
from geoembed.streaming.workspace import Workspace, _boot_id

ROWS, BATCH = 100, 8
TARGETS = ("o.parquet", "o.csv", "o.npy")


class Waves(LocationEncoder):
    """A cheap encoder that can be told to be stopped at a point."""

    def __init__(self, stop_at=None, error=None, **options):
        spec = LocationEncoderSpec(name="waves", factory="m:a", dimension=16, summary="Sines")
        super().__init__(spec, **options)
        self.stop_at, self.error = stop_at, error

    def _encode_block(self, lonlat):
        if self.stop_at is not None and (lonlat[:, 0] >= self.stop_at).any():
            raise self.error
        return np.sin(lonlat @ np.arange(1.0, 33.0).reshape(2, 16))


@pytest.fixture
def source(tmp_path):
    frame = gpd.GeoDataFrame(
        {"n": range(ROWS)}, geometry=gpd.points_from_xy(np.arange(ROWS), np.zeros(ROWS)), crs=4326
    )
    frame.to_parquet(tmp_path / "t.parquet")
    return tmp_path / "t.parquet"


def stop(source, target, error=None, at=50, **options):
    """Run until the row `at`, which leaves 48 finished rows."""
    error = KeyboardInterrupt("stopped") if error is None else error
    with pytest.raises(type(error), match=str(error)) as caught:
        embed_file(source, target, encoder=Waves(at, error), batch_rows=BATCH, **options)
    return caught.value


def go_on(source, target, **options):
    usual = {"encoder": Waves(), "resume": True, "batch_rows": BATCH}
    return embed_file(source, target, **(usual | options))


def same(one, other):
    if one.suffix == ".parquet":
        left, right = pq.read_table(one), pq.read_table(other)
        assert left.equals(right)
        assert left.schema.metadata[b"geo"] == right.schema.metadata[b"geo"]
    else:
        assert one.read_bytes() == other.read_bytes()


@pytest.mark.parametrize("target", TARGETS)
def test_interrupted_and_gone_on_with(source, tmp_path, target):
    target = tmp_path / target
    notes = stop(source, target).__notes__
    assert notes == [
        f"48 rows are done and kept in {target}.part. Go on with resume=True (--resume), or start "
        "again with force=True (--force), as a changed source requires."
    ]
    assert not target.exists()
    report = go_on(source, target)
    assert (report.rows, report.resumed, report.dropped) == (ROWS, 48, 0)
    assert sorted(path.name for path in tmp_path.iterdir()) == [target.name, "t.parquet"]
    whole = tmp_path / f"whole{target.suffix}"
    go_on(source, whole)
    same(target, whole)


@pytest.mark.parametrize("target", TARGETS)
def test_interrupted_again_and_again_in_batches_of_any_size(source, tmp_path, target):
    target = tmp_path / target
    stop(source, target, at=20)
    stop(source, target, at=21, resume=True, error=RuntimeError("out of memory"))
    stop(source, target, at=70, resume=True)
    assert go_on(source, target, batch_rows=7).resumed == 64
    whole = tmp_path / f"whole{target.suffix}"
    go_on(source, whole)
    same(target, whole)


def test_interrupted_while_rows_are_dropped(source, tmp_path):
    frame = gpd.read_parquet(source)
    frame.loc[[3, 40, 60], "geometry"] = None
    frame.to_parquet(source)
    target = tmp_path / "o.parquet"
    stop(source, target, on_invalid="drop")
    report = go_on(source, target, on_invalid="drop")
    assert (report.rows, report.dropped, report.resumed) == (97, 3, 48)
    assert 40 not in gpd.read_parquet(target)["n"].tolist()


def test_stopped_by_a_row_without_a_place_and_gone_on_with_without_it(source, tmp_path):
    frame = gpd.read_parquet(source)
    frame.loc[60, "geometry"] = None
    frame.to_parquet(source)
    target = tmp_path / "o.parquet"
    with pytest.raises(ValueError, match=r"rows 56 to 63 .*\(row 60\)"):
        embed_file(source, target, encoder=Waves(), batch_rows=BATCH)
    report = go_on(source, target, on_invalid="drop")
    assert (report.rows, report.dropped, report.resumed) == (99, 1, 56)


def test_stopped_while_it_is_put_together(source, tmp_path, monkeypatch):
    target = tmp_path / "o.parquet"
    monkeypatch.setattr(pq.ParquetWriter, "write_table", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError, match="division by zero"):
        go_on(source, target)
    monkeypatch.undo()
    assert go_on(source, target).resumed == ROWS
    assert pq.read_metadata(target).num_rows == ROWS


def test_nothing_done_leaves_nothing(source, tmp_path):
    interrupt = stop(source, tmp_path / "o.npy", at=0)
    assert interrupt.__notes__ == ["No batch was finished yet: nothing is kept."]
    assert [path.name for path in tmp_path.iterdir()] == ["t.parquet"]


def test_resume_without_anything_to_resume_starts(source, tmp_path):
    assert go_on(source, tmp_path / "o.npy").resumed == 0


def test_an_unfinished_run_is_not_thrown_away_unasked(source, tmp_path):
    stop(source, tmp_path / "o.npy")
    with pytest.raises(TableError, match="An unfinished run lies in .* 48 rows are done"):
        go_on(source, tmp_path / "o.npy", resume=False)
    assert go_on(source, tmp_path / "o.npy", resume=False, force=True).resumed == 0
    assert np.load(tmp_path / "o.npy").shape == (ROWS, 16)


@pytest.mark.parametrize(
    ("options", "difference"),
    [
        ({"on_invalid": "raise"}, "on_invalid was 'nan' and is 'raise'"),
        ({"geometry": "centroid"}, "geometry was 'point' and is 'centroid'"),
        ({"prefix": "e"}, "prefix was None and is 'e'"),
        ({"encoder": Waves(normalize=True)}, "encoder normalize was False and is True"),
        ({"encoder": Waves(dtype="float64")}, "encoder dtype was 'float32' and is 'float64'"),
        ({"layout": "columns"}, "layout was 'vector' and is 'columns'"),
    ],
)
def test_another_run_is_not_mixed_in(source, tmp_path, options, difference):
    stop(source, tmp_path / "o.parquet", on_invalid="nan")
    message = f"cannot be gone on with, it was asked for something else: {difference}. Ask"
    with pytest.raises(TableError, match=message):
        go_on(source, tmp_path / "o.parquet", **({"on_invalid": "nan"} | options))
    assert go_on(source, tmp_path / "o.parquet", on_invalid="nan").resumed == 48


def test_a_changed_source_is_not_mixed_in(source, tmp_path):
    stop(source, tmp_path / "o.npy")
    before = source.stat()
    os.utime(source, ns=(before.st_atime_ns, before.st_mtime_ns + 1_000_000_000))
    with pytest.raises(TableError, match=r"source t\.parquet modified_ns was \d+ and is \d+"):
        go_on(source, tmp_path / "o.npy")
    os.utime(source, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert go_on(source, tmp_path / "o.npy").resumed == 48


def test_a_damaged_workspace(source, tmp_path):
    for target, lost in (("o.npy", "data"), ("o.parquet", "parts/000002.arrow")):
        stop(source, tmp_path / target)
        (tmp_path / f"{target}.part" / lost).unlink()
        with pytest.raises(TableError, match=f"{lost}, a file of an unfinished run, is missing"):
            go_on(source, tmp_path / target)
        (tmp_path / f"{target}.part" / "manifest.json").write_text("{")
        with pytest.raises(TableError, match="manifest .* is damaged: .* force=True"):
            go_on(source, tmp_path / target)
        assert go_on(source, tmp_path / target, resume=False, force=True).resumed == 0


def test_two_runs_at_a_time_are_refused(source, tmp_path):
    pytest.importorskip("fcntl", reason="this system has no such locks")
    other = Workspace(tmp_path / "o.npy", {})
    other.open(resume=False, force=False)
    with pytest.raises(TableError, match="Another run is writing .*o.npy right now"):
        go_on(source, tmp_path / "o.npy")
    other.discard()
    assert go_on(source, tmp_path / "o.npy").rows == ROWS


def test_a_new_start_forgets_the_old_manifest(source, tmp_path, monkeypatch):
    """A run killed before its first checkpoint must not be taken for the run before it."""
    stop(source, tmp_path / "o.parquet")
    manifest = tmp_path / "o.parquet.part" / "manifest.json"
    seen = []
    monkeypatch.setattr(run.Run, "_work", lambda *_: seen.append(manifest.exists()) or 1 / 0)
    with pytest.raises(ZeroDivisionError, match="division by zero"):
        go_on(source, tmp_path / "o.parquet", resume=False, force=True)
    assert seen == [False]


def test_a_folder_without_a_finished_batch_is_mentioned(source, tmp_path):
    part = tmp_path / "o.parquet.part"
    (part / "parts").mkdir(parents=True)
    (part / "parts" / "000000.arrow").touch()
    with pytest.warns(UserWarning, match="no batch was finished in .*o.parquet.part. Starting"):
        assert go_on(source, tmp_path / "o.parquet").resumed == 0


def _die(run, workspace):
    """Let go of everything, as the system does for a killed process; put nothing in order."""
    run._sink.close()
    workspace.release()


def kill(source, target, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(run.Run, "_keep", _die)
        stop(source, target)


@pytest.mark.skipif(_boot_id() is None, reason="needs Linux")
@pytest.mark.parametrize("target", TARGETS)
def test_killed_before_the_first_checkpoint(source, tmp_path, monkeypatch, target):
    target = tmp_path / target
    kill(source, target, monkeypatch)
    assert not (tmp_path / f"{target.name}.part" / "manifest.json").exists()
    with pytest.raises(TableError, match="An unfinished run lies in .* 48 rows are done"):
        go_on(source, target, resume=False)
    # Killed again before anything more is done.
    monkeypatch.setattr(run.Run, "_do", lambda *_: 1 / 0)
    monkeypatch.setattr(run.Run, "_keep", _die)
    with pytest.raises(ZeroDivisionError, match="division by zero"):
        go_on(source, target)
    monkeypatch.undo()
    assert go_on(source, target).resumed == 48
    whole = tmp_path / f"whole{target.suffix}"
    go_on(source, whole)
    same(target, whole)


@pytest.mark.parametrize("target", TARGETS)
def test_after_a_crash_of_the_system_only_the_checkpoint_counts(
    source, tmp_path, monkeypatch, target
):
    target = tmp_path / target
    stop(source, target, at=20)
    latest = tmp_path / f"{target.name}.part" / "latest.json"
    monkeypatch.setattr(workspace, "_boot_id", lambda: "before the crash")
    with monkeypatch.context() as patched:
        patched.setattr(run.Run, "_keep", _die)
        stop(source, target, resume=True)
    assert json.loads(latest.read_text())["progress"]["rows_read"] == 48
    monkeypatch.setattr(workspace, "_boot_id", lambda: "after the crash")
    report = go_on(source, target)
    assert (report.rows, report.resumed) == (ROWS, 16)
    whole = tmp_path / f"whole{target.suffix}"
    go_on(source, whole)
    same(target, whole)


def test_a_note_of_more_than_is_left_does_not_survive(source, tmp_path, monkeypatch):
    """Two machines at one disk: the second cuts back what the first has noted."""
    target = tmp_path / "o.parquet"
    monkeypatch.setattr(workspace, "_boot_id", lambda: "one")
    stop(source, target, at=20)
    with monkeypatch.context() as patched:
        patched.setattr(run.Run, "_keep", _die)
        stop(source, target, resume=True)
        patched.setattr(workspace, "_boot_id", lambda: "two")
        stop(source, target, at=16, resume=True)
    assert go_on(source, target).resumed == 16


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"boot": "one", "progress": {}}'])
def test_a_torn_note_is_none(source, tmp_path, monkeypatch, text):
    monkeypatch.setattr(workspace, "_boot_id", lambda: "one")
    stop(source, tmp_path / "o.npy")
    (tmp_path / "o.npy.part" / "latest.json").write_text(text)
    assert go_on(source, tmp_path / "o.npy").resumed == 48


# A process of its own, with an encoder that takes its time.
CODE = """
import sys, time
sys.path.insert(0, {folder!r})
from test_streaming_resume import Waves
from geoembed.streaming import embed_file, run

class Slow(Waves):
    def _encode_block(self, lonlat):
        time.sleep(0.1)
        return super()._encode_block(lonlat)

run.CHECKPOINT_SECONDS = 0.0
embed_file({source!r}, {target!r}, encoder=Slow(), batch_rows=8)
"""


@pytest.mark.parametrize("target", TARGETS)
def test_killed(source, tmp_path, target):
    target = tmp_path / target
    code = CODE.format(folder=os.path.dirname(__file__), source=str(source), target=str(target))
    process = subprocess.Popen([sys.executable, "-c", code])
    manifest = tmp_path / f"{target.name}.part" / "manifest.json"
    for _ in range(600):
        if manifest.exists() and json.loads(manifest.read_text())["progress"]["rows_read"] >= 24:
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not target.exists()
    report = go_on(source, target)
    assert report.resumed >= 24
    assert report.rows == ROWS
    whole = tmp_path / f"whole{target.suffix}"
    go_on(source, whole)
    same(target, whole)


def test_interrupted_on_the_command_line(source, tmp_path, capsys, monkeypatch):
    target = tmp_path / "o.csv"
    command = ["embed", str(source), "-o", str(target), "--batch-rows", "8"]
    append = run.Run._do
    monkeypatch.setattr(
        run.Run,
        "_do",
        lambda self, table: append(self, table) if self.rows_read < 40 else _interrupt(),
    )
    assert main(command) == 130
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("geoembed: 40 rows are done and kept in ")
    assert lines[1:] == ["geoembed: interrupted"]
    monkeypatch.undo()
    assert main(command) == 1
    assert "An unfinished run lies in" in capsys.readouterr().err
    assert main([*command, "--resume"]) == 0
    assert "100 rows (40 done before) of 512 values" in capsys.readouterr().out
    assert pd.read_csv(target)["n"].tolist() == list(range(ROWS))


def _interrupt():
    raise KeyboardInterrupt


def _terminate():
    signal.raise_signal(signal.SIGTERM)


def test_terminated_on_the_command_line(source, tmp_path, capsys, monkeypatch):
    """As batch systems do; the signal comes again while the run puts itself in order."""
    target = tmp_path / "o.csv"
    command = ["embed", str(source), "-o", str(target), "--batch-rows", "8"]
    append, keep = run.Run._do, run.Run._keep
    monkeypatch.setattr(
        run.Run,
        "_do",
        lambda self, table: append(self, table) if self.rows_read < 40 else _terminate(),
    )
    monkeypatch.setattr(run.Run, "_keep", lambda *args: _terminate() or keep(*args))
    before = signal.getsignal(signal.SIGTERM)
    assert main(command) == 143
    assert signal.getsignal(signal.SIGTERM) is before
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("geoembed: 40 rows are done and kept in ")
    assert lines[1:] == ["geoembed: terminated"]
    monkeypatch.undo()
    assert main([*command, "--resume"]) == 0
    assert "100 rows (40 done before) of 512 values" in capsys.readouterr().out
