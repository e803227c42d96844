"""Output folders on stores that show a file while it is being written: whole parts or none."""

import json
import os
import subprocess
import sys

import fsspec
import geopandas as gpd
import numpy as np
import pytest
from fsspec.implementations.dirfs import DirFileSystem
from fsspec.implementations.local import LocalFileSystem

import geoembed as ge
from geoembed.scaling import embed_folder
from geoembed.scaling.storing import put_whole, renames, write_whole

CITIES = ge.data.load_cities()[["name", "geometry"]].head(300).reset_index(drop=True)
EXPECTED = ge.LocationFeaturizer("xyz").fit_transform(CITIES)

# A server far away, as fsspec sees it, that keeps its files on this disk. With STOP_AT=n the
# process is killed when half of the n-th file that it puts has arrived.
SCRIPT = """
import os, signal, sys
import fsspec
from fsspec import AbstractFileSystem
from fsspec.implementations.local import LocalFileSystem

disk = LocalFileSystem()
puts = []


class Remote(AbstractFileSystem):
    protocol = "remote"
    root_marker = "/"
    cachable = False

    def info(self, path, **_):
        return disk.info(path)

    def ls(self, path, detail=True, **_):
        return disk.ls(path, detail=detail)

    def makedirs(self, path, exist_ok=False):
        disk.makedirs(path, exist_ok=exist_ok)

    def _rm(self, path):
        (os.rmdir if os.path.isdir(path) else os.remove)(path)

    def rmdir(self, path):
        os.rmdir(path)

    def _open(self, path, mode="rb", **_):
        return open(path, mode)

    def put_file(self, local, path, **_):
        puts.append(path)
        with open(local, "rb") as file:
            data = file.read()
        with open(path, "wb") as file:
            file.write(data[: len(data) // 2])
            file.flush()
            if len(puts) == int(os.environ.get("STOP_AT", 0)):
                os.kill(os.getpid(), signal.SIGKILL)
            file.write(data[len(data) // 2 :])


class Server(Remote):
    protocol = "server"

    def mv(self, old, new, **_):
        if os.path.exists(new):
            raise OSError("servers do not rename onto files")
        os.rename(old, new)


for kind in (Remote, Server):
    fsspec.register_implementation(kind.protocol, kind, clobber=True)

if __name__ == "__main__":
    from geoembed.scaling import embed_folder

    report = embed_folder(sys.argv[1], sys.argv[2], encoder="xyz", workers=0)
    print(report.parts, report.resumed, len(report.redone), len(puts))
"""


@pytest.fixture
def store(tmp_path):
    """A source of 6 parts, and a way to run the script on it."""
    CITIES.to_parquet(tmp_path / "in.parquet", row_group_size=50)
    (tmp_path / "script.py").write_text(SCRIPT)

    def run(kind, **environment):
        words = [str(tmp_path / "in.parquet"), f"{kind}://{tmp_path}/out"]
        return subprocess.run(
            [sys.executable, str(tmp_path / "script.py"), *words],
            env={**os.environ, **environment}, capture_output=True, text=True, check=False,
        )  # fmt: skip

    return run


@pytest.mark.parametrize(("kind", "torn"), [("remote", 1), ("server", 0)])
def test_a_run_killed_while_a_part_arrives_leaves_no_torn_part_for_good(
    store, tmp_path, kind, torn
):
    out = tmp_path / "out"
    killed = store(kind, STOP_AT="3")
    assert killed.returncode == -9, killed.stderr
    # Where the store can rename, what is under its name is whole at any time.
    names = sorted(path.name for path in out.glob("part-*"))
    assert names == [f"part-{n:06d}.parquet" for n in range(2 + torn)]
    again = store(kind)
    assert again.stdout.split() == ["6", "100", str(torn), "4"], again.stderr
    np.testing.assert_array_equal(np.stack(gpd.read_parquet(out)["embedding"]), EXPECTED)
    assert sorted(p.name for p in (out / "_geoembed").iterdir()) == ["manifest.json"]
    assert json.loads((out / "_geoembed" / "manifest.json").read_text())["finished"]
    # A finished job is looked at, and its manifest is written onto the old one.
    assert store(kind).stdout.split() == ["6", "300", "0", "0"]


@pytest.fixture
def kinds(tmp_path, monkeypatch):
    """Both stores of the script, in this process."""
    (tmp_path / "stores_of_tests.py").write_text(SCRIPT)
    monkeypatch.syspath_prepend(tmp_path)
    import stores_of_tests

    yield stores_of_tests
    del sys.modules["stores_of_tests"]


def test_which_stores_rename(kinds):
    assert renames(kinds.Server())
    assert not renames(kinds.Remote())
    assert not renames(fsspec.filesystem("memory"))
    assert renames(DirFileSystem(path="/", fs=LocalFileSystem()))
    assert not renames(DirFileSystem(path="/", fs=fsspec.filesystem("memory")))


@pytest.mark.parametrize("kind", ["Remote", "Server"])
def test_a_store_that_loses_the_end_of_a_file_is_told(kinds, tmp_path, kind, monkeypatch):
    system = getattr(kinds, kind)()
    short = type(system).put_file

    def lose(self, local, path, **options):
        short(self, local, path, **options)
        os.truncate(path, 10)

    monkeypatch.setattr(type(system), "put_file", lose)
    (tmp_path / "file").write_bytes(bytes(1000))
    with pytest.raises(OSError, match="of 1,000 bytes 10 have arrived"):
        put_whole(system, tmp_path / "file", f"{tmp_path}/to/part", f"{tmp_path}/to/work")
    if kind == "Server":
        assert list((tmp_path / "to").iterdir()) == [tmp_path / "to" / "work"]
        assert not list((tmp_path / "to" / "work").iterdir())


def test_a_small_file_replaces_the_old_one_whole(kinds, tmp_path):
    for system in (kinds.Server(), kinds.Remote(), LocalFileSystem()):
        for text in (b"old", b"new and longer"):
            write_whole(system, text, f"{tmp_path}/manifest.json")
            assert (tmp_path / "manifest.json").read_bytes() == text
    assert not list(tmp_path.glob("*.new"))


def test_file_addresses_are_paths(tmp_path):
    CITIES.to_parquet(tmp_path / "in.parquet", row_group_size=50)
    asked = {"encoder": "xyz", "workers": 0}
    embed_folder(f"file://{tmp_path}/in.parquet", f"file://{tmp_path}/out", **asked)
    np.testing.assert_array_equal(np.stack(gpd.read_parquet(tmp_path / "out").embedding), EXPECTED)
    os.truncate(tmp_path / "out" / "part-000001.parquet", 100)
    again = embed_folder(f"file://{tmp_path}/in.parquet", f"file://{tmp_path}/out", **asked)
    assert again.redone == ("part-000001.parquet",)
