"""Specs refuse what would only fail later, and say what to write instead."""

import pickle
from dataclasses import FrozenInstanceError, replace

import pytest

from geoembed.errors import PluginError
from geoembed.extending.builtin import GEOCLIP_V1, GEOCLIP_V1_WEIGHTS
from geoembed.extending.heads import HEADS
from geoembed.extending.specs import LocationEncoderSpec, WeightsFile


@pytest.mark.parametrize("name", ["xyz", "geoclip.v1", "satclip.l40", "a-b.c_d.2024"])
def test_good_names(name):
    assert replace(GEOCLIP_V1, name=name).name == name


@pytest.mark.parametrize("name", ["", "Geo.v1", "1geo", "geo.", ".v1", "geo v1", "geo/v1", None, 7])
def test_bad_names(name):
    with pytest.raises(PluginError, match=r"does not fit: use 'family' or 'family\.tag'"):
        replace(GEOCLIP_V1, name=name)


@pytest.mark.parametrize("factory", ["", "module", "module:", ":a", "m:a.b", len, "m a:b"])
def test_bad_factories(factory):
    with pytest.raises(PluginError, match=r"give a string 'package\.module:attribute'"):
        replace(GEOCLIP_V1, factory=factory)


@pytest.mark.parametrize("dimension", [0, -3, 2.0, "3", True])
def test_bad_dimensions(dimension):
    with pytest.raises(PluginError, match="it must be a positive whole number"):
        replace(GEOCLIP_V1, dimension=dimension)


@pytest.mark.parametrize("sha256", ["", "abc", "A" * 64, "0" * 63, None, 7])
def test_bad_hashes(sha256):
    with pytest.raises(PluginError, match="give 64 hexadecimal digits"):
        WeightsFile(role="r", path="p", size=1, sha256=sha256)


@pytest.mark.parametrize("path", ["", "/etc/passwd", "../up", "a/../../b", "a\\b", "C:/x"])
def test_weights_paths_stay_inside_their_distribution(path):
    with pytest.raises(PluginError, match="must be a path inside its distribution"):
        WeightsFile(role="r", path=path, size=1, sha256="0" * 64)


@pytest.mark.parametrize(
    ("spec", "changes", "message"),
    [
        (GEOCLIP_V1, {"summary": None}, "LocationEncoderSpec.summary must be text, got None"),
        (GEOCLIP_V1, {"weights": "geoclip.v1"}, "give a WeightsSpec or None"),
        (GEOCLIP_V1, {"tolerance": object()}, "give a number, not negative"),
        (GEOCLIP_V1, {"tolerance": -1.0}, "give a number, not negative"),
        (GEOCLIP_V1, {"details": 3}, "map texts to texts"),
        (GEOCLIP_V1, {"details": {"a": 1}}, "map texts to texts"),
        (HEADS[0], {"task": "geolocation"}, "'geolocation' and 'pictures' go together"),
        (HEADS[0], {"input_kind": "pictures"}, "'geolocation' and 'pictures' go together"),
        (HEADS[0], {"input_kind": "sounds"}, "use one of 'places', 'pictures'"),
        (GEOCLIP_V1_WEIGHTS, {"files": ()}, r"need a tuple of files, got \(\)"),
        (GEOCLIP_V1_WEIGHTS, {"files": ["x"]}, "need a tuple of files"),
        (GEOCLIP_V1_WEIGHTS, {"files": ("x",)}, "other things than WeightsFile"),
        (GEOCLIP_V1_WEIGHTS, {"files": GEOCLIP_V1_WEIGHTS.files[:1] * 2}, "two files of one role"),
        (GEOCLIP_V1_WEIGHTS, {"distribution": ""}, "name no distribution"),
        (GEOCLIP_V1_WEIGHTS, {"distribution": None}, "WeightsSpec.distribution must be text"),
        (GEOCLIP_V1_WEIGHTS, {"licence": 1}, "WeightsSpec.licence must be text"),
        (GEOCLIP_V1_WEIGHTS.files[0], {"role": "../../up"}, "has the role '../../up'"),
        (GEOCLIP_V1_WEIGHTS.files[0], {"size": "big"}, "declares the size 'big'"),
        (GEOCLIP_V1_WEIGHTS.files[0], {"path": None}, "WeightsFile.path must be text"),
    ],
)
def test_what_would_break_a_listing_is_refused_at_once(spec, changes, message):
    with pytest.raises(PluginError, match=message):
        replace(spec, **changes)


def test_specs_are_frozen_hashable_and_pickle():
    with pytest.raises(FrozenInstanceError, match="cannot assign to field 'name'"):
        GEOCLIP_V1.name = "other"
    assert pickle.loads(pickle.dumps(GEOCLIP_V1)) == GEOCLIP_V1
    assert len({GEOCLIP_V1, replace(GEOCLIP_V1)}) == 1


def test_the_owner_is_no_part_of_what_a_spec_says():
    assert replace(GEOCLIP_V1, owner="x 1") == GEOCLIP_V1


def test_weights_file_by_role():
    assert GEOCLIP_V1_WEIGHTS.file("gallery").size == 2_024_065
    with pytest.raises(PluginError, match="have no file with the role 'galery'"):
        GEOCLIP_V1_WEIGHTS.file("galery")


def test_weights_size_is_the_sum():
    assert GEOCLIP_V1_WEIGHTS.size == 43_769_772


def test_minimal_spec_has_no_provenance():
    spec = LocationEncoderSpec(name="xyz", factory="m:a", dimension=3, summary="s")
    assert (spec.licence, spec.paper, spec.weights, dict(spec.details)) == ("", "", None, {})
