"""What is known about each plugin, and the warning for those that were left out."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

__all__ = ["GeoembedPluginWarning", "Origin", "PluginInfo", "Status"]

Origin = Literal["built-in", "entry point"]
Status = Literal["loaded", "failed", "not selected"]


class GeoembedPluginWarning(UserWarning):
    """A plugin was left out; the message names distribution, version and cause."""


@dataclass(frozen=True, kw_only=True)
class PluginInfo:
    """One plugin as `geoembed.extending.registry.plugin_report` describes it.

    Parameters
    ----------
    name, version : str
        Of the distribution that ships it.
    source : {"built-in", "entry point"}
        How it was found.
    modules : tuple of str
        What its entry points name.
    hooks : tuple of str
        The hooks it implements.
    registered : mapping of str to tuple of str
        Kind (``"location encoder"``, ``"command"``) -> names it added in this process.
        Commands are asked for by the command line only.
    status : {"loaded", "failed", "not selected"}
        ``"not selected"`` if ``GEOEMBED_LOAD_PLUGINS`` leaves it out.
    error : str
        Why it failed; the empty string otherwise.
    seconds : float
        Time to import it and call its hooks.
    """

    name: str
    version: str
    source: Origin
    modules: tuple[str, ...]
    hooks: tuple[str, ...]
    registered: Mapping[str, tuple[str, ...]]
    status: Status
    error: str
    seconds: float
