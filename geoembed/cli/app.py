"""Build the command tree out of what every plugin registers, one plugin at a time."""

import re
from typing import Any

import typer
from typer.core import TyperGroup
from typer.main import get_group

from geoembed import __version__
from geoembed.cli.output import complain
from geoembed.errors import DuplicateNameError, PluginError
from geoembed.extending.host import Plugin, PluginHost
from geoembed.extending.manager import host
from geoembed.extending.sources import module_part

__all__ = ["build"]

HELP = """Places in, meaningful vectors out: embed tables of places with trained location encoders.

Example:
    geoembed weights pull geoclip.v1
    geoembed embed places.gpkg -o places.parquet
"""

# Plain text everywhere: help starts in a fraction of the time, and pipes get no escape codes.
PLAIN: dict[str, Any] = {
    "rich_markup_mode": None,
    "pretty_exceptions_enable": False,
    "add_completion": False,
}


class Root(TyperGroup):
    """The command ``geoembed`` itself."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command; Ctrl-C ends it with one line and 130, whatever Typer's version does."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            complain("interrupted")
            raise typer.Exit(130) from None


def build() -> TyperGroup:
    """Return the whole command tree: the built-in commands and those of the plugins."""
    settings = {"help_option_names": ["-h", "--help"]}
    app = typer.Typer(
        cls=Root,
        name="geoembed",
        help=HELP,
        context_settings=settings,
        no_args_is_help=True,
        **PLAIN,
    )
    app.callback()(_global_options)
    root = get_group(app)
    plugins = host()
    plugins.extend(plugins.plugins[0], module_part("geoembed.cli.builtin"))
    owners: dict[str, str] = {}
    for plugin in plugins.loaded():
        with plugins.isolated(plugin):
            _merge(root, plugin, plugins, owners)
    plugins.tell()
    _keep_examples(root)
    return root


def _print_version(asked: bool) -> None:
    if asked:
        print(f"geoembed {__version__}")
        raise typer.Exit


def _global_options(
    version: bool = typer.Option(
        False,
        "--version",
        help="Print the version and exit.",
        is_eager=True,
        callback=_print_version,
    ),
    debug: bool = typer.Option(
        False,
        "--debug",
        help="Show the traceback of an error. May stand anywhere on the line; "
        "GEOEMBED_DEBUG=1 does the same.",
    ),
) -> None:
    """Declare the options for the help; `geoembed.cli.main` acts on ``--debug``."""


def _merge(root: TyperGroup, plugin: Plugin, plugins: PluginHost, owners: dict[str, str]) -> None:
    commands = _commands_of(plugin, plugins)
    owner = plugin.source.owner
    for name in commands:
        if name in owners:
            raise DuplicateNameError(
                f"the command 'geoembed {name}' belongs to {owners[name]}, and {owner} wants it "
                "too; choose another name"
            )
    for name, command in commands.items():
        root.add_command(command, name)
        owners[name] = owner
    if commands:
        plugin.registered["command"] = tuple(commands)


def _commands_of(plugin: Plugin, plugins: PluginHost) -> dict[str, Any]:
    cli = typer.Typer(**PLAIN)
    plugins.call(plugin, "register_commands", cli=cli)
    if cli.registered_callback is not None:
        raise PluginError(
            "it sets a callback for the whole command line; a plugin may only add commands"
        )
    # Typer builds commands late: building here charges an impossible signature to its plugin.
    commands = dict(get_group(cli).commands)
    if len(commands) < len(cli.registered_commands) + len(cli.registered_groups):
        raise DuplicateNameError(
            f"two of its commands have one name, or a group is empty; the names: "
            f"{', '.join(commands)}"
        )
    return commands


def _keep_examples(command: Any) -> None:
    r"""Have the help show the paragraph ``Example:`` line by line (a lone \b says so to Typer)."""
    if command.help:
        command.help = re.sub(r"\n\s*\n(Examples?:\n)", "\n\n\b\n\\1", command.help)
    for child in getattr(command, "commands", {}).values():
        _keep_examples(child)
