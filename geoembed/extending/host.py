"""Load plugins one at a time, keep their failures apart, know who registered what.

Plugins are called one at a time, so that every spec carries its owner and a
plugin that fails takes nothing but itself away. A distribution is one plugin,
however many entry points it has: it is loaded whole or not at all.
"""

import sys
import time
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pluggy

from geoembed.errors import PluginError
from geoembed.extending import hookspecs
from geoembed.extending.gallery_specs import GallerySpec, IndexSpec
from geoembed.extending.image_specs import ImageEncoderSpec
from geoembed.extending.report import GeoembedPluginWarning, PluginInfo, Status
from geoembed.extending.sources import Part, PluginSource, canonical
from geoembed.extending.specs import HeadSpec, LocationEncoderSpec
from geoembed.extending.trays import Spec, Tray

__all__ = ["Plugin", "PluginHost"]

AnySpec = TypeVar("AnySpec", bound=Spec)

# A hook that registers specs is one line here and its declaration in hookspecs.
SPEC_HOOKS: dict[str, tuple[str, type[Spec]]] = {
    "register_location_encoders": ("location encoder", LocationEncoderSpec),
    "register_image_encoders": ("image encoder", ImageEncoderSpec),
    "register_galleries": ("gallery", GallerySpec),
    "register_indexes": ("index", IndexSpec),
    "register_heads": ("head", HeadSpec),
}


@dataclass(eq=False)
class Plugin:
    """A plugin as the host holds it; `info` is the frozen view for others."""

    source: PluginSource
    modules: list[object] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    hooks: set[str] = field(default_factory=set)
    registered: dict[str, tuple[str, ...]] = field(default_factory=dict)
    status: Status = "loaded"
    error: str = ""
    seconds: float = 0.0

    @property
    def info(self) -> PluginInfo:
        """What is known about the plugin now."""
        return PluginInfo(
            name=self.source.name,
            version=self.source.version,
            source=self.source.origin,
            modules=tuple(self.labels),
            hooks=tuple(sorted(self.hooks)),
            registered=dict(self.registered),
            status=self.status,
            error=self.error,
            seconds=self.seconds,
        )


class PluginHost:
    """Plugins, what they registered, and how to call one of them.

    Parameters
    ----------
    sources : iterable of PluginSource
        In the order in which they are loaded; of two that want a name the first has it.
    selected : frozenset of str, optional
        Canonical names of the distributions that may be loaded; built-ins always are.
    strict : bool
        Raise `PluginError` where a plugin fails, instead of leaving it out with a warning.
    trace : bool
        Write every hook call to stderr.
    """

    def __init__(
        self,
        sources: Iterable[PluginSource],
        *,
        selected: frozenset[str] | None = None,
        strict: bool = False,
        trace: bool = False,
    ) -> None:
        self._strict = strict
        self._untold: list[str] = []
        self._specs: dict[str, dict[str, Spec]] = {kind: {} for kind, _ in SPEC_HOOKS.values()}
        self._pluggy = pluggy.PluginManager(hookspecs.PROJECT)
        self._pluggy.add_hookspecs(hookspecs)
        if trace:
            self._pluggy.trace.root.setwriter(sys.stderr.write)
            self._pluggy.enable_tracing()
        self.plugins: list[Plugin] = []
        for source in sources:
            self._add(source, selected)
        if selected is not None:
            self._look_for(selected)

    def specs(self, spec_type: type[AnySpec]) -> dict[str, AnySpec]:
        """Return a copy of the registered specs of one type, by name."""
        found = (spec for specs in self._specs.values() for spec in specs.items())
        return {name: spec for name, spec in found if isinstance(spec, spec_type)}

    def loaded(self) -> list[Plugin]:
        """List the plugins that have not failed, in the order of loading."""
        return [plugin for plugin in self.plugins if plugin.status == "loaded"]

    def hook_names(self) -> list[str]:
        """List the hooks that plugins can implement."""
        callers = vars(self._pluggy.hook)
        return sorted(n for n, caller in callers.items() if n[0] != "_" and caller.has_spec())

    def call(self, plugin: Plugin, hook: str, **arguments: Any) -> None:
        """Call one hook of one plugin alone."""
        mine = {id(module) for module in plugin.modules}
        others = [module for module in self._pluggy.get_plugins() if id(module) not in mine]
        self._pluggy.subset_hook_caller(hook, others)(**arguments)

    def extend(self, plugin: Plugin, part: Part) -> None:
        """Load a further module into a plugin that is there, once: the built-in commands."""
        module = part.load()
        if not self._pluggy.is_registered(module):
            self._register(plugin, part.label, module)
            plugin.labels.append(part.label)

    @contextmanager
    def isolated(self, plugin: Plugin) -> Iterator[None]:
        """Leave `plugin` out, wholly, if the body fails; later plugins are not touched."""
        start = time.perf_counter()
        try:
            yield
        # SystemExit: a script that calls sys.exit() when imported must not end the program.
        except (Exception, SystemExit) as error:
            self._withdraw(plugin, error)
        finally:
            plugin.seconds += time.perf_counter() - start

    def tell(self) -> None:
        """Warn once for each failure that nobody has been told about."""
        untold, self._untold = self._untold, []
        for message in untold:
            warnings.warn(message, GeoembedPluginWarning, stacklevel=3)

    def _add(self, source: PluginSource, selected: frozenset[str] | None) -> None:
        plugin = Plugin(source, labels=[part.label for part in source.parts])
        self.plugins.append(plugin)
        outside = selected is not None and canonical(source.name) not in selected
        if outside and source.origin != "built-in":
            plugin.status = "not selected"
            return
        with self.isolated(plugin):
            if source.problem:
                raise PluginError(source.problem)
            for part in source.parts:
                self._register(plugin, part.label, part.load())
            trays = [self._fill_tray(plugin, hook) for hook in SPEC_HOOKS]
            for tray in trays:
                self._specs[tray.kind].update(tray.specs)
                if tray.specs:
                    plugin.registered[tray.kind] = tuple(tray.specs)

    def _register(self, plugin: Plugin, label: str, module: object) -> None:
        # pluggy keeps plugins in sets: an object without a hash would break every later call.
        hash(module)
        if self._pluggy.is_registered(module):
            raise PluginError(
                f"it registers twice: {label} is already loaded by {self._by(module)}"
            )
        try:
            name = self._pluggy.register(module, name=f"{plugin.source.name}:{label}")
            if name is not None:
                plugin.modules.append(module)
            self._pluggy.check_pending()
        except pluggy.PluginValidationError as error:
            known = ", ".join(self.hook_names())
            raise PluginError(f"{error}. The hooks of this geoembed: {known}") from error
        callers = self._pluggy.get_hookcallers(module)
        if not callers:
            raise PluginError(f"{label} has no function marked with @hookimpl")
        plugin.hooks.update(caller.name for caller in callers)

    def _by(self, module: object) -> str:
        return next(p.source.owner for p in self.plugins if any(m is module for m in p.modules))

    def _fill_tray(self, plugin: Plugin, hook: str) -> Tray:
        kind, spec_type = SPEC_HOOKS[hook]
        tray = Tray(kind, spec_type, plugin.source.owner, self._specs[kind])
        self.call(plugin, hook, register=tray)
        tray.close()
        return tray

    def _withdraw(self, plugin: Plugin, error: BaseException) -> None:
        """Take back everything of a plugin that failed, then raise or remember what to tell."""
        if plugin.source.origin == "built-in":
            raise error
        for module in plugin.modules:
            self._pluggy.unregister(module)
        for kind, names in plugin.registered.items():
            for name in names:
                self._specs.get(kind, {}).pop(name, None)
        owner = plugin.source.owner
        plugin.modules, plugin.hooks, plugin.registered = [], set(), {}
        plugin.status, plugin.error = "failed", _cause(error)
        if self._strict:
            error_type = type(error) if isinstance(error, PluginError) else PluginError
            raise error_type(f"The plugin {owner} failed: {plugin.error}") from error
        self._untold.append(
            f"The plugin {owner} was left out: {plugin.error}. Everything else works. "
            f"Update it, or remove it with: pip uninstall {plugin.source.name}"
        )

    def _look_for(self, selected: frozenset[str]) -> None:
        """Say which names of the selection belong to no plugin: a typing error, most likely."""
        there = {canonical(plugin.source.name) for plugin in self.plugins}
        missing = sorted(selected - there)
        if not missing:
            return
        message = (
            f"GEOEMBED_LOAD_PLUGINS names {', '.join(map(repr, missing))}, but no installed "
            f"distribution of that name is a plugin. Plugins here: {', '.join(sorted(there))}."
        )
        if self._strict:
            raise PluginError(message)
        self._untold.append(message)


def _cause(error: BaseException) -> str:
    """Describe an exception in one line, whatever it is."""
    try:
        text = " ".join(str(error).split())
    # A plugin's own exception class may fail to show itself.
    except Exception:
        text = "(its message cannot be shown)"
    if isinstance(error, PluginError):
        return text.rstrip(".")
    return f"{type(error).__name__}: {text}".rstrip(": .")
