"""``geoembed heads``: the registered heads, or what a saved one says about itself."""

from pathlib import Path
from typing import Any

import typer

from geoembed.cli.output import print_json, table
from geoembed.cli.runs import score_table
from geoembed.errors import unknown_name

__all__ = ["heads"]


def heads(
    which: str | None = typer.Argument(
        None, metavar="[NAME|MODEL]", help="A registered name, or the folder of a saved head."
    ),
    as_json: bool = typer.Option(False, "--json", help="Print JSON with every fact."),
) -> None:
    """List the heads, or describe a saved one.

    A head predicts something at places from their embedding. Of a saved one only the description
    is read; nothing in it is loaded or run.

    Example:
        geoembed heads
        geoembed heads region --json
        geoembed heads ph-model
    """
    from geoembed.extending.registry import head_specs

    specs = head_specs()
    if which is not None and which not in specs and _is_path(which):
        _describe(Path(which), as_json)
        return
    if which is not None and which not in specs:
        raise unknown_name("head, and no folder,", which, specs)
    found = [spec for name, spec in specs.items() if which in (None, name)]
    if as_json:
        facts = ("name", "task", "summary", "input_kind", "output_columns", "factory", "owner")
        print_json([{fact: getattr(spec, fact) for fact in facts} for spec in found])
        return
    rows = [[spec.name, spec.task, spec.owner, spec.summary] for spec in found]
    print(table(["name", "task", "from", "summary"], rows))


def _is_path(which: str) -> bool:
    return Path(which).expanduser().exists() or "/" in which


def _describe(folder: Path, as_json: bool) -> None:
    from geoembed.heads.saving.description import read_description

    facts = read_description(folder)
    if as_json:
        print_json(facts)
        return
    rows = [[name, value] for name, value in _facts(facts) if value]
    print("\n".join(f"{name:<12}{value}" for name, value in rows))
    scores = facts["scores"]
    if not isinstance(scores, dict) or not scores:
        return
    if isinstance(scores.get("validation"), dict):
        print("\n" + score_table(scores["validation"]["metrics"], scores["scores"]))
        print("\n" + str(scores.get("verdict")))
    else:
        print("\nscores      " + ", ".join(f"{name} {value}" for name, value in scores.items()))


def _facts(facts: dict[str, Any]) -> list[tuple[str, str]]:
    classes = facts["classes"] or []
    shown = ", ".join(map(str, classes[:5])) + (", ..." if len(classes) > 5 else "")
    encoders = [f"{e['name']}, layers {e['options']['layers']}" for e in facts["encoders"]]
    west, south, east, north = facts["bounds"] or (None,) * 4
    provenance = facts["provenance"]
    versions = facts["versions"]
    return [
        ("head", f"{facts['head'] or facts['class']} ({facts['distribution']})"),
        ("predicts", ", ".join(facts["targets"])),
        ("classes", f"{len(classes)}: {shown}" if classes else ""),
        ("from", "; ".join(encoders)),
        ("and", ", ".join(_listed(facts["parameters"].get("extra_columns")))),
        ("learned on", f"{facts['rows']:,} rows" + _of(provenance.get("table"))),
        ("within", "" if west is None else f"{west:g} to {east:g} lon, {south:g} to {north:g} lat"),
        ("saved", f"{facts['created']}, geoembed {facts['geoembed']}, scikit-learn "
                  f"{versions.get('scikit-learn')}"),
    ]  # fmt: skip


def _of(name: Any) -> str:
    return f" of {name}" if name else ""


def _listed(names: Any) -> list[str]:
    return [names] if isinstance(names, str) else list(names or [])
