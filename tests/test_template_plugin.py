"""The template plugin, installed by pip into a folder of its own and used from there."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

TEMPLATE = Path(__file__).parents[1] / "plugins" / "geoembed-template"


def run(*command, path=None):
    environment = {**os.environ, "GEOEMBED_STRICT_PLUGINS": "1"}
    if path is not None:
        environment["PYTHONPATH"] = str(path)
    done = subprocess.run(
        [sys.executable, *command], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("template")
    # Without network: the build backend is that of the test environment.
    offline = ["--no-index", "--no-build-isolation", "--no-deps", "--no-cache-dir", "--quiet"]
    target = ["--target", str(folder), "--disable-pip-version-check", "--root-user-action=ignore"]
    run("-m", "pip", "install", *offline, *target, str(TEMPLATE))
    return folder


def test_plugins_lists_it(site):
    rows = json.loads(run("-m", "geoembed", "plugins", "--json", path=site))
    (row,) = [row for row in rows if row["name"] == "geoembed-template"]
    row.pop("seconds")
    assert row == {
        "name": "geoembed-template",
        "version": "0.1.0",
        "source": "entry point",
        "modules": ["geoembed_template"],
        "hooks": ["register_commands", "register_location_encoders"],
        "registered": {"location encoder": ["template.xyz"], "command": ["antipode"]},
        "status": "loaded",
        "error": "",
    }


def test_its_command_runs(site):
    out = run("-m", "geoembed", "antipode", "--lon", "139.69", "--lat", "35.68", path=site)
    assert out == "-40.310000 -35.680000\n"


def test_its_encoder_encodes(site):
    code = (
        "import geoembed as ge; "
        "print(ge.encode(lon=[90, 0], lat=[0, 90], encoder='template.xyz').round(6).tolist())"
    )
    assert run("-c", code, path=site) == "[[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]\n"


def test_its_own_tests_pass(site):
    out = run("-m", "pytest", "-q", "-p", "no:cacheprovider", str(TEMPLATE), path=site)
    assert "4 passed" in out
