"""``geoembed plugins``: what is installed, what it registered, what failed and why."""

from collections.abc import Mapping
from dataclasses import asdict

import typer

from geoembed.cli.output import print_json, table
from geoembed.extending.report import PluginInfo

__all__ = ["plugins"]


def plugins(
    as_json: bool = typer.Option(False, "--json", help="Print JSON instead of a table."),
) -> None:
    """List the plugins.

    Shows version, source, status, hooks, what each registered, and why one failed.

    Example:
        geoembed plugins
        geoembed plugins --json
    """
    from geoembed.extending.registry import plugin_report

    report = plugin_report()
    if as_json:
        print_json([asdict(info) for info in report])
        return
    header = ["name", "version", "source", "status", "hooks", "registered"]
    print(table(header, [_row(info) for info in report]))
    for info in report:
        if info.error:
            print(f"\n{info.name} {info.version} failed: {info.error}")


def _row(info: PluginInfo) -> list[object]:
    hooks = ", ".join(info.hooks) or "-"
    return [info.name, info.version, info.source, info.status, hooks, _names(info.registered)]


def _names(registered: Mapping[str, tuple[str, ...]]) -> str:
    parts = (f"{kind} {', '.join(names)}" for kind, names in registered.items())
    return "; ".join(parts) or "-"
