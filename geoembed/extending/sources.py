"""Find plugins: the entry points of installed distributions, and which of them may be loaded."""

import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from importlib.metadata import Distribution, EntryPoint, distributions

from geoembed import __version__
from geoembed.extending.report import Origin

__all__ = [
    "GROUP",
    "Part",
    "PluginSource",
    "built_in_source",
    "canonical",
    "installed_sources",
    "module_part",
    "selected_names",
]

GROUP = "geoembed"


@dataclass(frozen=True)
class Part:
    """One module (or object) of a plugin, not yet imported."""

    label: str
    load: Callable[[], object]


@dataclass(frozen=True)
class PluginSource:
    """A distribution that ships plugin modules. It is loaded whole or not at all."""

    name: str
    version: str
    origin: Origin
    parts: tuple[Part, ...]
    problem: str = ""

    @property
    def owner(self) -> str:
        """Name and version, as error messages give them."""
        return f"{self.name} {self.version}".strip()


def canonical(name: str) -> str:
    """Return a distribution's name as package installers compare it.

    Examples
    --------
    >>> canonical("Geoembed_Template")
    'geoembed-template'
    """
    return re.sub(r"[-_.]+", "-", name).lower()


def module_part(module: str) -> Part:
    """Describe a module by its dotted name."""
    return Part(module, partial(import_module, module))


def built_in_source() -> PluginSource:
    """Describe what geoembed itself registers, through the same hooks as everybody."""
    # Of one hook the last module comes first: what was trained here stands after the published.
    modules = ("trained", "builtin", "geolocation", "heads")
    parts = tuple(module_part(f"geoembed.extending.{module}") for module in modules)
    return PluginSource("geoembed", __version__, "built-in", parts)


def selected_names() -> frozenset[str] | None:
    """Read ``GEOEMBED_LOAD_PLUGINS``: the distributions that may be loaded, None for all."""
    text = os.environ.get("GEOEMBED_LOAD_PLUGINS")
    if text is None:
        return None
    return frozenset(canonical(name.strip()) for name in text.split(",") if name.strip())


def installed_sources() -> list[PluginSource]:
    """List the distributions with entry points in the group ``geoembed``, sorted by name.

    Nothing of theirs is imported. Of two copies of a distribution the first on ``sys.path``
    counts, as it does for imports.
    """
    found: dict[str, PluginSource] = {}
    for distribution in distributions():
        source = _source(distribution)
        if source is not None:
            found.setdefault(canonical(source.name), source)
    return [found[name] for name in sorted(found)]


def _source(distribution: Distribution) -> PluginSource | None:
    try:
        entries = [entry for entry in distribution.entry_points if entry.group == GROUP]
    # A damaged entry_points.txt of anybody must not stop the host.
    except Exception as error:
        if f"[{GROUP}]" not in (distribution.read_text("entry_points.txt") or ""):
            return None
        problem = f"its entry_points.txt cannot be read ({error})"
        return PluginSource(*_identity(distribution), "entry point", (), problem)
    if not entries:
        return None
    return PluginSource(*_identity(distribution), "entry point", tuple(_parts(entries)))


def _parts(entries: Iterable[EntryPoint]) -> Iterable[Part]:
    return (Part(entry.value, entry.load) for entry in sorted(entries, key=lambda e: e.name))


def _identity(distribution: Distribution) -> tuple[str, str]:
    try:
        metadata = distribution.metadata
    except FileNotFoundError:
        # So says the backport importlib_metadata, which takes over once it is imported.
        return "unknown", ""
    # Without a METADATA file importlib gives an empty message, or None on newer Pythons.
    name = metadata["Name"] if metadata is not None and "Name" in metadata else "unknown"
    version = metadata["Version"] if metadata is not None and "Version" in metadata else ""
    return str(name), str(version)
