"""Weights: looked for, checked, pulled; damaged and hostile files are refused, not run."""

import os
import pickle
import signal
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import geoembed as ge
from geoembed import weights
from geoembed.encoders import geoclip
from geoembed.errors import MissingWeightsError, OfflineError, WeightsError
from geoembed.extending.builtin import GEOCLIP_V1_WEIGHTS as SPEC

ROLES = ("location_encoder", "image_mlp", "logit_scale", "gallery")


@pytest.fixture
def wheel(tmp_path):
    """A wheel with the real files, made from the installed distribution."""
    found = weights.find(SPEC)
    assert found.kind == "distribution"
    path = tmp_path / "geoclip-1.3.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for file in SPEC.files:
            archive.write(found.files[file.role], file.path)
    return path


@pytest.fixture
def nowhere(monkeypatch):
    """Weights whose distribution is not installed, with the real files' hashes."""
    return replace(SPEC, distribution="geoclip-that-is-not-here")


def test_found_in_the_installed_distribution_without_importing_it():
    code = (
        "import sys\n"
        "from geoembed import weights\n"
        "from geoembed.extending.builtin import GEOCLIP_V1_WEIGHTS as spec\n"
        "assert weights.find(spec).kind == 'distribution'\n"
        "assert len(weights.load_tensors(spec, 'location_encoder')) == 27\n"
        "assert 'geoclip' not in sys.modules and 'transformers' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_pulled_from_a_wheel_into_the_cache_as_safetensors(wheel, own_cache):
    said = []
    before = ge.encode([2.35], [48.86])
    found = weights.pull(SPEC, wheel=wheel, say=said.append)
    assert found.kind == "cache"
    assert "43.8 MB, licence MIT" in said[0]
    folder = own_cache / "weights" / "geoclip.v1"
    assert sorted(p.name for p in folder.iterdir()) == [
        "gallery.csv",
        "image_mlp.safetensors",
        "location_encoder.safetensors",
        "logit_scale.safetensors",
    ]
    for role in ROLES[:3]:
        tensors = weights.load_tensors(SPEC, role)
        assert weights.digest_tensors(tensors) == SPEC.file(role).tensors_sha256
    assert float(weights.load_tensors(SPEC, "logit_scale")["logit_scale"]) == pytest.approx(
        3.681, abs=1e-3
    )
    assert weights.checked_path(SPEC, "gallery") == folder / "gallery.csv"
    geoclip._network.cache_clear()
    np.testing.assert_array_equal(ge.encode([2.35], [48.86]), before)
    assert weights.pull(SPEC, say=said.append).kind == "cache"
    assert "already in" in said[-1]


def test_missing_weights_give_both_commands_and_the_size(nowhere):
    assert weights.find(nowhere) is None
    with pytest.raises(MissingWeightsError, match=r"44 MB, MIT") as caught:
        weights.load_tensors(nowhere, "location_encoder")
    assert "geoembed weights pull geoclip.v1" in str(caught.value)
    assert 'pip install "geoembed[geoclip' in str(caught.value)
    assert isinstance(caught.value, FileNotFoundError)


def test_offline_forbids_a_download(nowhere, monkeypatch):
    monkeypatch.setenv("GEOEMBED_OFFLINE", "1")
    with pytest.raises(OfflineError, match=r"weights pull geoclip\.v1 --from FILE\.whl"):
        weights.pull(nowhere)


@pytest.mark.parametrize(
    ("value", "offline"), [("1", True), ("yes", True), ("0", False), ("", False)]
)
def test_what_counts_as_offline(monkeypatch, value, offline):
    monkeypatch.setenv("GEOEMBED_OFFLINE", value)
    assert weights.is_offline() is offline


def test_without_pip_the_error_gives_the_lines_to_type(nowhere, monkeypatch):
    monkeypatch.delenv("GEOEMBED_OFFLINE")
    monkeypatch.setattr("geoembed.weights.pulling.find_spec", lambda name: None)
    with pytest.raises(WeightsError, match=r"no pip") as caught:
        weights.pull(nowhere, say=lambda line: None)
    assert "pip download --no-deps geoclip-that-is-not-here==1.3.0" in str(caught.value)
    assert "--from" in str(caught.value)


def test_a_failing_pip_is_reported_with_its_last_line(nowhere, monkeypatch):
    monkeypatch.delenv("GEOEMBED_OFFLINE")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    with pytest.raises(
        WeightsError, match="pip could not fetch geoclip-that-is-not-here==1.3.0: ERROR"
    ):
        weights.pull(nowhere, say=lambda line: None)


def test_a_tampered_file_of_the_distribution_is_not_opened(tmp_path, monkeypatch):
    bad = tmp_path / "location_encoder_weights.pth"
    bad.write_bytes(b"not the weights")
    good = weights.find(SPEC)
    files = {**good.files, "location_encoder": bad}
    monkeypatch.setattr(
        "geoembed.weights.store.find", lambda spec: weights.FoundWeights("distribution", files)
    )
    with pytest.raises(
        WeightsError, match="is not the one 'geoclip.v1' was published with.*It was not opened"
    ):
        weights.load_tensors(SPEC, "location_encoder")


KILLED = """
import os, signal, sys
from pathlib import Path
import geoembed.weights as weights
from geoembed.extending.registry import weights_specs
write = Path.write_bytes
def killed(path, content):
    write(path, content[:1000])
    os.kill(os.getpid(), signal.SIGKILL)
Path.write_bytes = killed
weights.pull(weights_specs()["geoclip.v1"], wheel=Path(sys.argv[1]))
"""


def test_what_a_killed_pull_left_is_cleared_by_the_next_one(wheel, own_cache):
    killed = subprocess.run([sys.executable, "-c", KILLED, wheel], check=False, capture_output=True)
    assert killed.returncode == -signal.SIGKILL
    (left,) = (own_cache / "weights" / "geoclip.v1").iterdir()
    assert weights.find(SPEC).kind != "cache"
    found = weights.pull(SPEC, wheel=wheel, say=lambda line: None)
    assert sorted(left.parent.iterdir()) == sorted(found.files.values())


def test_a_tampered_wheel_stores_nothing(wheel, own_cache):
    with zipfile.ZipFile(wheel, "w") as archive:
        for file in SPEC.files:
            archive.writestr(file.path, b"other bytes")
    with pytest.raises(WeightsError, match="SHA-256 .* expected 94b80ae3"):
        weights.pull(SPEC, wheel=wheel, say=lambda line: None)
    assert not (own_cache / "weights" / "geoclip.v1").exists()


@pytest.mark.parametrize("content", [b"", b"PK not a zip"])
def test_what_is_no_wheel_is_refused(tmp_path, content):
    path = tmp_path / "x.whl"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match="cannot be used for 'geoclip.v1'"):
        weights.pull(SPEC, wheel=path, say=lambda line: None)
    with pytest.raises(WeightsError, match="cannot be used for 'geoclip.v1'.*No such file"):
        weights.pull(SPEC, wheel=tmp_path / "none.whl", say=lambda line: None)


def test_changed_tensors_in_the_cache_are_found_out(wheel, own_cache):
    weights.pull(SPEC, wheel=wheel, say=lambda line: None)
    path = own_cache / "weights" / "geoclip.v1" / "image_mlp.safetensors"
    tensors = load_file(path)
    tensors["0.bias"][0] += 1e-3
    save_file(tensors, path)
    with pytest.raises(
        WeightsError, match=r"does not hold the tensors.*weights pull geoclip.v1 --force"
    ):
        weights.load_tensors(SPEC, "image_mlp")
    weights.pull(SPEC, wheel=wheel, force=True, say=lambda line: None)
    assert len(weights.load_tensors(SPEC, "image_mlp")) == 4


class Payload:
    """Runs a command when unpickled by a careless reader."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return os.system, (f"touch {self.target}",)


def test_a_pickle_payload_is_refused_and_not_run(tmp_path):
    trace = tmp_path / "was-run"
    for name in ("plain.pth", "zipped.pth"):
        path = tmp_path / name
        if name == "plain.pth":
            path.write_bytes(pickle.dumps(Payload(trace)))
        else:
            torch.save({"weight": Payload(trace)}, path)
        with pytest.raises(WeightsError, match="nothing in it was run"):
            ge.load_encoder(path)
    assert not trace.exists()


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_unreadable_files_are_named(tmp_path, suffix):
    path = tmp_path / f"weights{suffix}"
    for content in (b"", b"\x00" * 100):
        path.write_bytes(content)
        with pytest.raises(WeightsError, match="cannot be read as tensors"):
            weights.read_tensors(path)


def test_a_file_of_other_things_than_tensors(tmp_path):
    path = tmp_path / "list.pth"
    torch.save([1, 2], path)
    with pytest.raises(WeightsError, match="holds list instead of a state dict"):
        weights.read_tensors(path)


def test_the_digest_depends_on_values_names_and_types_not_on_order():
    a, b = torch.arange(3.0), torch.ones(2, 2)
    digest = weights.digest_tensors({"a": a, "b": b})
    assert digest == weights.digest_tensors({"b": b, "a": a})
    assert digest != weights.digest_tensors({"a": a + 1e-6, "b": b})
    assert digest != weights.digest_tensors({"a": a, "c": b})
    assert digest != weights.digest_tensors({"a": a.double(), "b": b})
    assert digest != weights.digest_tensors({"a": a, "b": b.reshape(4)})


def test_the_cache_moves_with_its_variable(monkeypatch, tmp_path):
    monkeypatch.setenv("GEOEMBED_CACHE", str(tmp_path / "there"))
    assert weights.cache_dir() == tmp_path / "there"
    monkeypatch.delenv("GEOEMBED_CACHE")
    assert weights.cache_dir().name == "geoembed"
    assert Path.home() in weights.cache_dir().parents


def test_a_truncated_cached_file_says_how_to_replace_it(wheel, own_cache):
    weights.pull(SPEC, wheel=wheel, say=lambda line: None)
    path = own_cache / "weights" / "geoclip.v1" / "image_mlp.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(WeightsError, match=r"cannot be read.*weights pull geoclip\.v1 --force"):
        weights.load_tensors(SPEC, "image_mlp")


def test_cached_files_have_the_usual_permissions(wheel, own_cache):
    weights.pull(SPEC, wheel=wheel, say=lambda line: None)
    plain = own_cache / "plain"
    plain.touch()
    modes = {path.stat().st_mode for path in (own_cache / "weights" / "geoclip.v1").iterdir()}
    assert modes == {plain.stat().st_mode}


def test_a_cache_that_is_a_file_is_named(wheel, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("GEOEMBED_CACHE", str(tmp_path / "file"))
    with pytest.raises(WeightsError, match="cannot be written.*set GEOEMBED_CACHE"):
        weights.pull(SPEC, wheel=wheel, say=lambda line: None)
