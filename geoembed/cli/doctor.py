"""``geoembed doctor``: look the installation over."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import typer

from geoembed.cli.output import print_json

if TYPE_CHECKING:
    from geoembed.cli.checkup import Findings

__all__ = ["doctor"]


def doctor(
    as_json: bool = typer.Option(False, "--json", help="Print JSON instead of text."),
) -> None:
    """Check the installation.

    Shows versions, devices, threads, cache, weights and plugins, and ends with a list of what is
    wrong and what to do. Exits with 1 if something is wrong that keeps the trained encoder from
    working. Uses no network.

    Example:
        geoembed doctor
        geoembed doctor --json
    """
    from geoembed.cli.checkup import check_all

    findings = check_all()
    if as_json:
        print_json({**findings.facts, "problems": [asdict(p) for p in findings.problems]})
    else:
        print(_text(findings))
    if any(problem.essential for problem in findings.problems):
        raise typer.Exit(1)


def _text(findings: "Findings") -> str:
    lines: list[str] = []
    for topic, value in findings.facts.items():
        lines += _topic(topic, value)
    lines.append("")
    if not findings.problems:
        lines.append("Nothing is wrong.")
        return "\n".join(lines)
    lines.append("What is wrong, and what to do:")
    for number, problem in enumerate(findings.problems, start=1):
        mark = "" if problem.essential else " (the rest works)"
        lines += [f"  {number}. {problem.what}{mark}", f"     {problem.do}"]
    return "\n".join(lines)


def _topic(topic: str, value: Any) -> list[str]:
    if isinstance(value, dict):
        width = max(map(len, value), default=0)
        return [topic, *(f"  {key.ljust(width)}  {_word(item)}" for key, item in value.items())]
    if isinstance(value, list):
        return [f"{topic}: {', '.join(value)}"]
    return [f"{topic}: {_word(value)}"]


def _word(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "-" if value is None else str(value)
