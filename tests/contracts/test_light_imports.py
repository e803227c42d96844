"""Importing, asking for help and listing load no heavy package, with a plugin installed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from geoembed.testing import fake_distribution
from geoembed.testing.plugins import HEAVY

PLUGINS = Path(__file__).parents[2] / "plugins"

CASES = {
    "import geoembed": "import geoembed",
    "dir(geoembed)": "import geoembed; dir(geoembed); geoembed.__version__",
    "errors": "import geoembed; geoembed.GeoembedError",
    "hookimpl": "from geoembed.extending import LocationEncoderSpec, hookimpl",
    "registry": "from geoembed.extending.registry import plugin_report; plugin_report()",
    "list_encoders": "import geoembed; assert 'template.xyz' in geoembed.list_encoders()",
    "version": "main(['--version'])",
    "help": "main(['--help'])",
    "encoders": "main(['encoders'])",
    "encoders json": "main(['encoders', '--json'])",
    "heads": "main(['heads'])",
    "heads json": "main(['heads', '--json'])",
    "plugins": "main(['plugins'])",
    "plugins json": "main(['plugins', '--json'])",
    "weights list": "main(['weights', 'list'])",
    "command help": "[main([name, '--help']) for name in commands]",
    "usage error": "main(['no-such-command'])",
}
BEFORE = """
def main(arguments):
    from geoembed.cli.main import main
    return main(arguments)
"""
COMMANDS = """
from geoembed.cli.app import build
commands = list(build().commands)
assert 'antipode' in commands
"""
AFTER = f"""
import sys
heavy = sorted(set({HEAVY!r}) & set(sys.modules))
print('loaded:', *heavy)
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A folder in which the bundled plugins count as installed."""
    folder = tmp_path_factory.mktemp("site")
    points = "[geoembed]\ntemplate = geoembed_template\n"
    fake_distribution(folder, "geoembed-template", {}, entry_points=points)
    return folder


@pytest.mark.parametrize("case", CASES)
def test_is_light(site, case):
    code = BEFORE + (COMMANDS if "commands" in CASES[case] else "") + CASES[case] + AFTER
    path = os.pathsep.join([str(site), str(PLUGINS / "geoembed-template")])
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "loaded:"
