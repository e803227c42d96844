"""The built-in commands, registered through the hook that plugins use.

A command is a function in a module of its own that imports nothing heavy at
its top: ``geoembed --help`` imports them all. Its docstring is its help and
ends in a paragraph ``Example:`` with lines to type.
"""

from importlib import import_module

import typer

from geoembed.extending.hookspecs import hookimpl

__all__ = ["COMMANDS", "GROUPS", "register_commands"]

# Module, its function, the command's name; in the order of the help.
COMMANDS: tuple[tuple[str, str, str], ...] = (
    ("geoembed.cli.embed", "embed", "embed"),
    ("geoembed.cli.similar", "similar", "similar"),
    ("geoembed.cli.fit", "fit", "fit"),
    ("geoembed.cli.predict", "predict", "predict"),
    ("geoembed.cli.compare", "compare", "compare"),
    ("geoembed.cli.geolocate", "geolocate", "geolocate"),
    ("geoembed.cli.evaluate", "evaluate", "evaluate"),
    ("geoembed.cli.train", "train", "train"),
    ("geoembed.cli.export", "export", "export"),
    ("geoembed.cli.encoders", "encoders", "encoders"),
    ("geoembed.cli.heads", "heads", "heads"),
    ("geoembed.cli.plugins", "plugins", "plugins"),
    ("geoembed.cli.doctor", "doctor", "doctor"),
)

# Module, its typer.Typer, the group's name.
GROUPS: tuple[tuple[str, str, str], ...] = (
    ("geoembed.cli.gallery", "app", "gallery"),
    ("geoembed.cli.data", "data", "data"),
    ("geoembed.cli.weights", "app", "weights"),
)


@hookimpl
def register_commands(cli: typer.Typer) -> None:
    """Register every command of the lists above."""
    for module, attribute, name in COMMANDS:
        cli.command(name)(getattr(import_module(module), attribute))
    for module, attribute, name in GROUPS:
        cli.add_typer(getattr(import_module(module), attribute), name=name)
