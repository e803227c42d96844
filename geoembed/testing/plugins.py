"""Plugins in tests: a host of one's own, light imports, distributions made by hand."""

import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from geoembed.extending.host import PluginHost
from geoembed.extending.manager import using
from geoembed.extending.sources import Part, PluginSource, built_in_source

__all__ = ["HEAVY", "check_light_import", "fake_distribution", "isolated_plugins"]

# What importing geoembed, asking for help or listing names must not load.
HEAVY = ("torch", "pandas", "geopandas", "sklearn", "pyarrow", "pyogrio", "rasterio", "matplotlib")


@contextmanager
def isolated_plugins(*plugins: object, strict: bool = True) -> Iterator[PluginHost]:
    """Replace the plugins of this process by the built-in ones and those given.

    Parameters
    ----------
    *plugins : module or object
        With functions marked by `geoembed.extending.hookimpl`. Each counts as a distribution of
        its own, called ``__name__`` and of version 0.
    strict : bool
        Raise if one of them fails; otherwise it is left out with a warning, as an installed
        plugin is.

    Yields
    ------
    PluginHost
        The host that is in place inside the ``with`` block.

    Raises
    ------
    PluginError
        If `strict` and a plugin fails.

    Examples
    --------
    >>> from geoembed.extending.registry import location_encoder_specs
    >>> with isolated_plugins():
    ...     "template.xyz" in location_encoder_specs()
    False
    """
    sources = [_source(plugin) for plugin in plugins]
    with using(PluginHost([built_in_source(), *sources], strict=strict)) as host:
        host.tell()
        yield host


def check_light_import(module: str) -> None:
    """Check, in a fresh Python, that importing a module loads no heavy package.

    Every ``geoembed --help`` imports every plugin, so a plugin's module should import torch or
    geopandas only inside functions, or in a module that a factory names.

    Parameters
    ----------
    module : str
        Dotted name.

    Raises
    ------
    AssertionError
        If it cannot be imported, or loads one of `HEAVY`; the message names them.

    Examples
    --------
    >>> check_light_import("geoembed.extending")
    """
    code = (
        f"import sys, importlib; importlib.import_module({module!r}); "
        f"print(' '.join(sorted(set({HEAVY!r}) & set(sys.modules))))"
    )
    # The same search path as here, so that a package under test is found without installing it.
    code = f"import sys; sys.path[:] = {sys.path!r}; " + code
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise AssertionError(f"{module} cannot be imported:\n{done.stderr}")
    if done.stdout.strip():
        raise AssertionError(f"importing {module} loads {done.stdout.strip()}")


def fake_distribution(
    folder: Path,
    name: str,
    modules: Mapping[str, str],
    *,
    version: str = "1.0",
    entry_points: str | None = None,
) -> None:
    """Write an installed distribution into a folder: modules and a real ``.dist-info``.

    Put the folder on ``PYTHONPATH`` of a subprocess to see what an installed plugin does there.

    Parameters
    ----------
    folder : Path
        Where to write; several distributions may share it.
    name : str
        Of the distribution.
    modules : mapping of str to str
        Name of a module -> its source text.
    version : str
        Of the distribution.
    entry_points : str, optional
        Text of ``entry_points.txt``; by default every module is an entry point of the group
        ``geoembed``.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as name:
    ...     fake_distribution(Path(name), "geoembed-hello", {"geoembed_hello": "x = 1"})
    ...     sorted(path.name for path in Path(name).iterdir())
    ['geoembed_hello-1.0.dist-info', 'geoembed_hello.py']
    """
    if entry_points is None:
        lines = (f"{module} = {module}" for module in modules)
        entry_points = "\n".join(["[geoembed]", *lines, ""])
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    head = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    (info / "METADATA").write_text(head, encoding="utf-8")
    (info / "entry_points.txt").write_text(entry_points, encoding="utf-8")
    for module, source in modules.items():
        (folder / f"{module}.py").write_text(source, encoding="utf-8")


def _source(plugin: object) -> PluginSource:
    name = getattr(plugin, "__name__", type(plugin).__name__)
    part = Part(name, partial(_itself, plugin))
    return PluginSource(name, "0", "entry point", (part,))


def _itself(plugin: object) -> object:
    return plugin
