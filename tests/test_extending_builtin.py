"""The built-in specs against the files they describe."""

import hashlib
from importlib.metadata import distribution

import pytest

from geoembed.extending.builtin import GEOCLIP_V1_WEIGHTS


@pytest.mark.parametrize("file", GEOCLIP_V1_WEIGHTS.files, ids=lambda file: file.role)
def test_declared_files_are_those_of_the_distribution(file):
    shipped = distribution(GEOCLIP_V1_WEIGHTS.distribution)
    content = shipped.locate_file(file.path).read_bytes()
    assert len(content) == file.size
    assert hashlib.sha256(content).hexdigest() == file.sha256


def test_roles():
    roles = [file.role for file in GEOCLIP_V1_WEIGHTS.files]
    assert roles == ["location_encoder", "image_mlp", "logit_scale", "gallery"]
