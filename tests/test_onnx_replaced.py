"""ONNX files that are replaced, deleted or overwritten under those who use them."""

import gc
import os
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import geoembed as ge
from geoembed.encoders.network import LocationNetwork
from geoembed.encoders.onnx_held import HeldFile
from geoembed.errors import WeightsError
from geoembed.training.onnx_export import export_onnx

PLACE = [[7.5, 46.9]]

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork"),
    # That threads are running, which is what the file is opened again for.
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning"),
]


@pytest.fixture(scope="module")
def room(tmp_path_factory):
    """Files of one name and shape, and other weights or layers."""
    room = tmp_path_factory.mktemp("replaced")
    for name, seed, layers in (
        ("old", 1, "scale0+final"),
        ("twin", 2, "scale0+final"),
        ("new", 2, "final+scale0"),
        ("less", 2, "final"),
    ):
        torch.manual_seed(seed)
        weights = room / f"{name}.safetensors"
        save_file(LocationNetwork((1.0, 16.0), hidden=(8,), output=4).state_dict(), weights)
        encoder = ge.load_encoder(weights, layers=layers, device="cpu")
        export_onnx(encoder, room / f"{name}.onnx", name="mine.v1")
    return room


@pytest.fixture
def file(room, tmp_path):
    return shutil.copy(room / "old.onnx", tmp_path / "file.onnx")


def in_a_child(ask):
    """What a forked process gives for it, or what it raises."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            said = repr(ask())
        except BaseException as error:
            said = f"{type(error).__name__}: {error}"
        os.write(writing, said.encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    return said


def replace(file, other):
    shutil.copy(other, file.with_name("draft"))
    file.with_name("draft").replace(file)


@pytest.mark.parametrize("other", ["new.onnx", "less.onnx", None])
def test_a_child_has_the_vectors_of_its_parent_whatever_the_name_means_by_then(room, file, other):
    encoder = ge.load_encoder(file, layers="scale0")
    expected = encoder.encode(*PLACE[0])
    if other is None:
        file.unlink()
    else:
        replace(file, room / other)
    assert in_a_child(lambda: encoder.encode(*PLACE[0]).tolist()) == repr(expected.tolist())
    # And its own children.
    deeper = in_a_child(lambda: in_a_child(lambda: encoder.encode(*PLACE[0]).tolist()))
    assert deeper == repr(repr(expected.tolist()))
    # Who loads it there loads what is there.
    if other is not None:
        there = in_a_child(lambda: ge.load_encoder(file, layers="final").encode(*PLACE[0]).tolist())
        new = ge.load_encoder(room / other, layers="final").encode(*PLACE[0])
        assert there == repr(new.tolist())


def test_a_file_of_the_cache_may_be_deleted_while_processes_are_at_work(own_cache):
    encoder = ge.load_encoder("bluemarble.v1", backend="onnx", precision="int8")
    expected = encoder.encode(*PLACE[0])
    encoder.path.unlink()
    same = in_a_child(lambda: np.array_equal(encoder.encode(*PLACE[0]), expected))
    assert same == "True"


def test_a_file_that_is_overwritten_is_an_error_for_children(room, file):
    encoder = ge.load_encoder(file)
    expected = encoder.encode(*PLACE[0])
    shutil.copy(room / "new.onnx", file)
    said = in_a_child(lambda: encoder.encode(*PLACE[0]))
    assert said.startswith(f"WeightsError: {file} has been overwritten since this process, or the")
    assert "replace a file that is in use by renaming another" in said
    np.testing.assert_array_equal(encoder.encode(*PLACE[0]), expected)


def test_a_file_that_is_overwritten_with_its_time_and_size_is_an_error_too(room, file):
    encoder = ge.load_encoder(file)
    state = file.stat()
    file.write_bytes((room / "twin.onnx").read_bytes())
    assert file.stat().st_size == state.st_size
    os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert "holds another encoder" in in_a_child(lambda: encoder.encode(*PLACE[0]))


def test_a_child_that_has_closed_all_files_reads_what_is_there_still(room, file, tmp_path):
    encoder = ge.load_encoder(file)
    expected = encoder.encode(*PLACE[0])

    def as_a_daemon():
        """Their numbers become those of other files, which must not be read, nor closed."""
        handle = encoder._opened._held._handle
        os.dup2(os.open(room / "new.onnx", os.O_RDONLY), handle)
        vectors = encoder.encode(*PLACE[0])
        return vectors.tolist(), os.fstat(handle).st_ino == (room / "new.onnx").stat().st_ino

    assert in_a_child(as_a_daemon) == repr((expected.tolist(), True))
    replace(file, room / "new.onnx")
    assert "has been overwritten" in in_a_child(as_a_daemon)


def test_handles_are_closed_with_the_last_who_needs_them(file):
    held = HeldFile(file)
    handle = held._handle
    assert os.fstat(handle).st_size == file.stat().st_size
    assert not os.get_inheritable(handle)
    del held
    gc.collect()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(handle)
    # One whose number is another file's by now is left alone.
    held = HeldFile(file)
    os.dup2(0, held._handle)
    handle = held._handle
    del held
    gc.collect()
    os.close(handle)


def test_what_is_not_there_or_cannot_be_read_is_said(tmp_path):
    with pytest.raises(WeightsError, match="There is no weights file or folder"):
        ge.load_encoder(tmp_path / "none.onnx")
    (tmp_path / "folder.onnx").mkdir()
    with pytest.raises(WeightsError, match="folder.onnx"):
        ge.load_encoder(tmp_path / "folder.onnx")
