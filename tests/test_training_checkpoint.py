"""Checkpoints are whole or not there: damage, full disks, what is kept, what a run leaves."""

import json
import random
import resource

import numpy as np
import pytest
import torch

from geoembed.errors import TrainingError
from geoembed.training.checkpoint import (
    CheckpointWarning,
    checkpoint_path,
    find_checkpoint,
    last_whole_checkpoint,
    list_checkpoints,
    prune_checkpoints,
    read_checkpoint,
    sweep_checkpoints,
    write_checkpoint,
)
from geoembed.training.random_states import random_states, restore_random_states, seeded
from geoembed.training.run_folder import RunFolder


def state_of(step, size=50_000):
    return {"step": step, "weights": torch.arange(size) * step, "text": "é", "nested": [{"a": 1.5}]}


def write_some(folder, *steps):
    for step in steps:
        write_checkpoint(folder, step, state_of(step))


def test_what_is_written_is_read(tmp_path):
    path = write_checkpoint(tmp_path / "new", 1234, state_of(3))
    assert path.name == "step-00001234.pt"
    found = read_checkpoint(path)
    assert torch.equal(found.pop("weights"), torch.arange(50_000) * 3)
    assert found == {"step": 3, "text": "é", "nested": [{"a": 1.5}]}
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_steps_beyond_eight_digits_are_found(tmp_path):
    write_some(tmp_path, 99_999_999, 100_000_000, 7)
    assert list(list_checkpoints(tmp_path)) == [7, 99_999_999, 100_000_000]


def test_code_in_a_checkpoint_does_not_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    path = checkpoint_path(tmp_path, 1)
    torch.save({"step": Evil()}, path)
    with pytest.raises(TrainingError, match="step-00000001.pt cannot be read"):
        read_checkpoint(path)
    assert not (tmp_path / "ran").exists()


def damage(path, kind):
    whole = path.read_bytes()
    if kind == "torn":
        path.write_bytes(whole[: len(whole) // 2])
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "flipped":  # one bit in the middle of the weights, which torch reads in good faith
        at = len(whole) // 2
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    else:
        path.write_bytes(b"\0" * len(whole))


@pytest.mark.parametrize("kind", ["torn", "empty", "flipped", "zeros"])
def test_the_one_before_a_damaged_one_is_taken_and_said_so(tmp_path, kind):
    write_some(tmp_path, 4, 8)
    damage(checkpoint_path(tmp_path, 8), kind)
    with pytest.warns(CheckpointWarning, match="00000008.pt cannot be read.*before, step-00000004"):
        path, state = last_whole_checkpoint(tmp_path)
    assert path == checkpoint_path(tmp_path, 4)
    assert state["step"] == 4


def test_if_all_are_damaged_nothing_is_started_anew(tmp_path):
    write_some(tmp_path, 4, 8)
    for step in (4, 8):
        damage(checkpoint_path(tmp_path, step), "torn")
    with pytest.raises(TrainingError, match="No checkpoint in .* is whole. Take the folder away"):
        last_whole_checkpoint(tmp_path)


def test_no_checkpoint_is_none(tmp_path):
    assert last_whole_checkpoint(tmp_path / "nowhere") is None
    with pytest.raises(TrainingError, match="There is no checkpoint .*step-00000001.pt"):
        read_checkpoint(checkpoint_path(tmp_path, 1))


@pytest.fixture
def small_disk():
    """The system refuses files beyond a size, in the middle of a write, as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def limit(size):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))

    yield limit
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("size", [0, 5_000, 200_000])
def test_a_full_disk_leaves_the_last_good_one(tmp_path, small_disk, size):
    write_some(tmp_path, 4)
    small_disk(size)
    with pytest.raises(
        TrainingError, match=r"step 8 cannot be written.*00000004.pt is the last"
    ) as told:
        write_checkpoint(tmp_path, 8, state_of(8))
    # What the system says, not what torch makes of it.
    assert ": File too large; " in str(told.value)
    small_disk(resource.RLIM_INFINITY)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000004.pt"]
    assert last_whole_checkpoint(tmp_path)[1]["step"] == 4


def test_a_full_disk_at_the_first_one(tmp_path, small_disk):
    small_disk(5_000)
    with pytest.raises(TrainingError, match="there is none yet. Make room, then"):
        write_checkpoint(tmp_path, 8, state_of(8))


def test_the_last_and_the_best_stay(tmp_path):
    write_some(tmp_path, 1, 2, 3, 4, 5)
    prune_checkpoints(tmp_path, 2, [2])
    assert list(list_checkpoints(tmp_path)) == [2, 4, 5]
    prune_checkpoints(tmp_path, 1)
    assert list(list_checkpoints(tmp_path)) == [5]


def test_what_a_killed_process_left_is_swept(tmp_path):
    write_some(tmp_path, 1, 2, 3)
    (tmp_path / ".step-00000004.pt.part").write_bytes(b"half")
    (tmp_path / "notes.txt").write_text("mine")
    sweep_checkpoints(tmp_path, 2)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [
        "notes.txt",
        "step-00000001.pt",
        "step-00000002.pt",
        "step-00000003.pt.damaged",
    ]


def test_find_best_last_and_a_step(tmp_path):
    folder = RunFolder(tmp_path)
    write_some(folder.checkpoints, 3, 6, 9)
    assert find_checkpoint(tmp_path, "best").name == "step-00000009.pt"  # nothing was validated
    folder.write_json(folder.best, {"step": 6})
    assert find_checkpoint(tmp_path).name == "step-00000006.pt"
    assert find_checkpoint(tmp_path, "last").name == "step-00000009.pt"
    assert find_checkpoint(tmp_path, 3).name == "step-00000003.pt"
    with pytest.raises(TrainingError, match="no checkpoint 4. There are .* the steps: 3, 6, 9"):
        find_checkpoint(tmp_path, 4)
    with pytest.raises(TrainingError, match="no checkpoint 'newest'"):
        find_checkpoint(tmp_path, "newest")
    with pytest.raises(TrainingError, match="no checkpoint 'last'. .*: none"):
        find_checkpoint(tmp_path / "other", "last")


# -- the folder around them ------------------------------------------------------------------------


def test_small_files_are_whole_or_as_they_were(tmp_path, small_disk):
    folder = RunFolder(tmp_path)
    folder.write_json(folder.data, {"rows": 3})
    small_disk(20)
    with pytest.raises(TrainingError, match="data.json cannot be written: .* as it was"):
        folder.write_json(folder.data, {"rows": "x" * 1000})
    small_disk(resource.RLIM_INFINITY)
    assert json.loads(folder.data.read_text()) == {"rows": 3}
    assert [path.name for path in tmp_path.iterdir()] == ["data.json"]


def test_one_process_at_a_time(tmp_path):
    folder = RunFolder(tmp_path)
    with (
        folder.locked(),
        pytest.raises(TrainingError, match="Another process is training in"),
        RunFolder(tmp_path).locked(),
    ):
        pass
    with folder.locked():
        pass


def test_damaged_json_is_told(tmp_path):
    folder = RunFolder(tmp_path)
    folder.best.write_text("{")
    with pytest.raises(TrainingError, match="best.json cannot be read"):
        folder.best_step(3)
    folder.best.write_text("[1]")
    with pytest.raises(TrainingError, match="best.json holds no JSON object"):
        folder.best_step(3)


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(TrainingError, match="cannot be made: Not a directory"):
        RunFolder(tmp_path / "file" / "run").prepare(resume=False)


# -- random generators -----------------------------------------------------------------------------


def draw():
    legacy = np.random.mtrand
    return random.random(), legacy.random(), legacy.normal(), torch.rand(2).tolist()


def test_random_states_go_through_a_checkpoint(tmp_path):
    np.random.mtrand.normal()  # leaves a second one waiting
    path = write_checkpoint(tmp_path, 1, {"random": random_states()})
    expected = draw()
    restore_random_states(read_checkpoint(path)["random"])
    assert draw() == expected


def test_a_run_seeds_and_leaves_no_trace():
    before = random_states()
    with seeded(2**70 + 3):
        first = draw()
    with seeded(2**70 + 3):
        assert draw() == first
    with seeded(4):
        assert draw() != first
    expected = draw()
    restore_random_states(before)
    assert draw() == expected
