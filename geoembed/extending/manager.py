"""The host of this process: built when first asked for, once."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from geoembed.errors import PluginError
from geoembed.extending.host import PluginHost
from geoembed.extending.sources import built_in_source, installed_sources, selected_names

__all__ = ["host", "is_set", "reset", "using"]

_lock = threading.RLock()
_current: PluginHost | None = None
_building = False


def host() -> PluginHost:
    """Return the plugin host of this process; the first call loads the plugins.

    ``GEOEMBED_LOAD_PLUGINS`` (distribution names, separated by commas) limits what is loaded,
    ``GEOEMBED_STRICT_PLUGINS=1`` turns failures into errors, ``GEOEMBED_TRACE_PLUGINS=1`` writes
    every hook call to stderr. They are read here, once.

    Returns
    -------
    PluginHost

    Raises
    ------
    PluginError
        If a plugin fails and plugins are strict; or if a plugin asks for the host while it is
        being loaded.

    Examples
    --------
    >>> [plugin.source.name for plugin in host().loaded()][0]
    'geoembed'
    """
    global _current, _building
    with _lock:
        if _current is not None:
            return _current
        if _building:
            raise PluginError(
                "a plugin asked for registered names while plugins were being loaded; "
                "do that inside a factory or a command"
            )
        _building = True
        try:
            built = PluginHost(
                [built_in_source(), *installed_sources()],
                selected=selected_names(),
                strict=is_set("GEOEMBED_STRICT_PLUGINS"),
                trace=is_set("GEOEMBED_TRACE_PLUGINS"),
            )
        finally:
            _building = False
        _current = built
    # After the host is in place: a warning that a filter turns into an error must not undo it.
    built.tell()
    return built


def reset() -> None:
    """Forget the host, so that the next call loads the plugins anew. For tests."""
    global _current
    with _lock:
        _current = None


@contextmanager
def using(other: PluginHost) -> Iterator[PluginHost]:
    """Put another host in place of the process's own for the length of a ``with`` block."""
    global _current
    with _lock:
        before, _current = _current, other
    try:
        yield other
    finally:
        with _lock:
            _current = before


def is_set(variable: str) -> bool:
    """Tell whether an environment variable is set to anything but an empty or negative word."""
    return os.environ.get(variable, "").strip().lower() not in {"", "0", "false", "no"}
