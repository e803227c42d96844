"""How a report was made: data, machines, options, and who has chosen them."""

import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from geoembed_systems.benchmark.presets import SYSTEMS, options_for
from geoembed_systems.benchmark.reading import BASELINES, Results, Run

if TYPE_CHECKING:
    from geoembed_systems.benchmark.report import BenchmarkReport

__all__ = ["changed_options", "facts_of", "how_made", "listed", "other_machine", "shares_told"]


def how_made(report: "BenchmarkReport") -> list[str]:
    """Say how a benchmark was done.

    Parameters
    ----------
    report : BenchmarkReport
        Of any runs.

    Returns
    -------
    list of str
        Lines of Markdown: facts of the data and what its owner has to disclose, machines, whose
        options were chosen how, seeds, intervals, options and notes of the runs.
    """
    results = report.results
    facts = {name: fact for name, fact in results.data.items() if name != "disclosure"}
    lines = [f"- Data, {fact}" for fact in facts_of(facts)]
    lines += [f"- {sentence}" for sentence in _disclosed(results.data)]
    lines += _machines(report)
    lines += _chosen(report)
    seeds = sorted({run.seed for run in report.good})
    if seeds:
        lines.append(f"- Seeds: {', '.join(map(str, seeds))}")
    lines.append(
        f"- Distances: geodesic on the WGS 84 ellipsoid. Intervals: {100 * report.level:g} %, "
        f"{report.resamples:,} draws"
    )
    shown: dict[str, None] = {}
    for run in report.good:
        options = facts_of({"options": run.options})
        if options:
            shown.setdefault(f"- {run.title}, {options[0]}")
        for note in run.notes:
            shown.setdefault(f"- {run.title}: {note}")
    return lines + list(shown)


def facts_of(facts: Mapping[str, Any]) -> list[str]:
    """List facts of a record, nested ones in one line each.

    Parameters
    ----------
    facts : mapping
        As JSON holds it.

    Returns
    -------
    list of str
        A line a fact; missing ones are left out.

    Examples
    --------
    >>> facts_of({"crops": 10000, "split": {"kind": "blocks", "degrees": 10.0}, "tokens": None})
    ['crops: 10,000', 'split: kind blocks, degrees 10']
    """
    return [f"{key.replace('_', ' ')}: {text}" for key, v in facts.items() if (text := _fact(v))]


def other_machine(run: Run, results: Results) -> dict[str, tuple[Any, Any]]:
    """Say in what the machine of a run differs from the one that stands above the report.

    Parameters
    ----------
    run : Run
        With the machine that its record holds.
    results : Results
        With the machine of the last start.

    Returns
    -------
    dict
        Fact -> that of the run, and that of the last start; empty where they agree, where the run
        holds none, and of baselines, which take no time.

    Examples
    --------
    >>> import numpy as np
    >>> run = Run(system="knn", title="[L]kNN", seed=0, fraction=1.0, machine={"threads": 1})
    >>> other_machine(run, Results({}, {"threads": 2}, np.zeros((1, 2)), (run,)))
    {'threads': (1, 2)}
    """
    if not run.machine or run.system in BASELINES:
        return {}
    now = results.machine
    return {
        name: (run.machine.get(name), now.get(name))
        for name in dict.fromkeys([*run.machine, *now])
        if run.machine.get(name) != now.get(name)
    }


def changed_options(run: Run, data: str) -> dict[str, Any]:
    """Return options of a run that are not those its system has on these data.

    Parameters
    ----------
    run : Run
        Of any system.
    data : str
        Name of the data.

    Returns
    -------
    dict
        Option -> what it was; None for one of the preset that the run does not name. Empty for
        baselines.

    Examples
    --------
    >>> options = {"neighbours": 30}
    >>> changed_options(Run(system="knn", title="", seed=0, fraction=1.0, options=options), "mine")
    {'neighbours': 30}
    """
    presets = {preset.name: preset for preset in SYSTEMS}
    if run.system not in presets:
        return {}
    # As JSON gives them back.
    usual = json.loads(json.dumps(options_for(presets[run.system], data)))
    missing = object()
    return {
        name: run.options.get(name)
        for name in dict.fromkeys([*run.options, *usual])
        if run.options.get(name, missing) != usual.get(name, missing)
    }


def shares_told(data: Mapping[str, Any]) -> str:
    """Say what has seen all training pictures, however few a system has learned from.

    Parameters
    ----------
    data : mapping
        Facts of the data.

    Returns
    -------
    str
        A sentence; empty where nothing is known to.

    Examples
    --------
    >>> shares_told({"scenes": "clusters of the training features"})
    'Whatever the share, the scenes (k-means) were made of all training pictures.'
    """
    seen = []
    if (data.get("name"), data.get("image_encoder")) == ("bluemarble", "bluemarble.v1"):
        seen.append("the frozen tower was trained on all training pictures")
    # In the words of `geoembed_systems.benchmark.blue_marble.SCENES_TOLD`.
    if str(data.get("scenes", "")).startswith("clusters of the training features"):
        made = "were made of " + ("them" if seen else "all training pictures")
        seen.append(f"the scenes (k-means) {made}")
    return f"Whatever the share, {' and '.join(seen)}." if seen else ""


def listed(names: "list[str] | Any") -> str:
    """Put names into a sentence.

    Examples
    --------
    >>> listed(["PlaNet"]), listed(["PlaNet", "ISNs", "CPlaNet"])
    ('PlaNet', 'PlaNet, ISNs and CPlaNet')
    """
    every = list(names)
    return every[0] if len(every) == 1 else f"{', '.join(every[:-1])} and {every[-1]}"


def _disclosed(data: Mapping[str, Any]) -> list[str]:
    told = data.get("disclosure") or []
    return [told] if isinstance(told, str) else [str(sentence) for sentence in told]


def _machines(report: "BenchmarkReport") -> list[str]:
    """Tell the machine, and which runs took place on another."""
    results = report.results
    own = [run for run in report.good if run.system not in BASELINES]
    known = [run for run in own if run.machine]
    differ: dict[str, list[str]] = {}
    for run in known:
        apart = other_machine(run, results)
        if apart:
            theirs, ours = (
                ", ".join(f"{name.replace('_', ' ')} {_fact(pair[at]) or '-'}"
                          for name, pair in apart.items())
                for at in (0, 1)
            )  # fmt: skip
            run_name = f"{run.title} (seed {run.seed}, {100 * run.fraction:g} %)"
            differ.setdefault(f"{theirs}, in place of {ours}", []).append(run_name)
    whose = "Machine" if len(known) == len(own) and not differ else "Machine, last start"
    lines = [f"- {whose}, {fact}" for fact in facts_of(results.machine)]
    lines += [f"- Not on that: {listed(runs)}: {what}" for what, runs in differ.items()]
    unknown = len(own) - len(known)
    if results.machine and unknown:
        lines.append(
            f"- Of {unknown:,} of {len(own):,} runs the machine is not known: those kept "
            "of an earlier start may have run on another"
        )
    return lines


def _chosen(report: "BenchmarkReport") -> list[str]:
    """Say how options were found, of the systems that have those options."""
    results = report.results
    if not results.chosen:
        return []
    own = [run for run in report.good if run.system not in BASELINES]
    name = str(results.data.get("name", ""))
    changed = {run.title for run in own if changed_options(run, name)}
    every = list(dict.fromkeys(run.title for run in own))
    kept = [title for title in every if title not in changed]
    lines = []
    if kept:
        whose = "the systems" if not changed else listed(kept)
        lines.append(f"- Options of {whose} were chosen {results.chosen}")
    if changed:
        lines.append(
            f"- Options of {listed([title for title in every if title in changed])} were set for "
            "this benchmark: nothing is known of how they were chosen"
        )
    return lines


def _fact(value: Any) -> str:
    if isinstance(value, Mapping):
        parts = [
            f"{str(k).replace('_', ' ')} {text}" for k, v in value.items() if (text := _fact(v))
        ]
        return ", ".join(parts)
    if isinstance(value, list | tuple):
        return ", ".join(text for v in value if (text := _fact(v)))
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if value is None:
        return ""
    text = f"{value:,.6g}" if isinstance(value, float) else str(value)
    # Of a digest, what tells it from others.
    return text[:16] if re.fullmatch(r"[0-9a-f]{64}", text) else text
