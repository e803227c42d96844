"""Make the results page of the seven systems from what a benchmark has written.

Reads the folder of ``geoembed benchmark geolocation``, and writes ``docs/systems/results.md``, its
pictures and ``results.json`` beside it. Every number and every verdict on the page is made from the
runs. What people have to say about them stands in ``docs/systems/remarks.md``, which the page
includes and this script never touches once it is there.

    python tools/systems_page.py runs/systems
    python tools/systems_page.py runs/systems --fractions runs/fractions

With ``--fractions`` the part on fewer training pictures comes from another folder of the same data,
which may have fewer systems and seeds.
"""

import argparse
import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# The plugin need not be installed.
sys.path.insert(0, str(ROOT / "plugins" / "geoembed-systems"))

from geoembed_systems.benchmark.concluding import conclude  # noqa: E402
from geoembed_systems.benchmark.drawing import draw_report  # noqa: E402
from geoembed_systems.benchmark.fractions import draw_fractions  # noqa: E402
from geoembed_systems.benchmark.making import changed_options, other_machine  # noqa: E402
from geoembed_systems.benchmark.report import BenchmarkReport  # noqa: E402
from geoembed_systems.benchmark.styles import save_figure  # noqa: E402
from geoembed_systems.benchmark.tables import FEWER, sections  # noqa: E402

FOLDER = ROOT / "docs" / "systems"
REMARKS = "remarks.md"
# Of the Blue Marble, where the command is not told how many.
CROPS = 10_000
FIRST_REMARKS = """\
- A crop of the Blue Marble is 356 km wide and shows no more than the colours of the land. Where in
  it the middle lies cannot be seen, so hardly any picture is placed within 25 km by any system, and
  the first two columns say nothing about who is better.
- The frozen tower was trained together with a location encoder, as GeoCLIP is, on the training
  crops of the same split. All systems look through it; it may suit GeoCLIP more than the others.
"""
THEIRS = """\
Theirs, the papers', are the ideas: how answers are made, the losses and their weights, and the
published rows. Ours is all else: the features of one frozen tower for all, the data and its split,
what papers leave open (each system's page says it), sizes and options, and every other number here.
No row is a reproduction of a published one."""


def main(arguments: list[str]) -> None:
    """Read the runs, write the page."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("folder", type=Path, help="of a benchmark that has run")
    parser.add_argument("--fractions", type=Path, help="of another one, with shares of the data")
    parser.add_argument("--output", type=Path, default=FOLDER, help="where the page goes")
    asked = parser.parse_args(arguments)

    report = BenchmarkReport.from_folder(asked.folder)
    shares = None if asked.fractions is None else BenchmarkReport.from_folder(asked.fractions)
    if shares is not None and shares.results.data.get("digest") != report.results.data.get(
        "digest"
    ):
        raise SystemExit(f"{asked.fractions} is a benchmark of other data than {asked.folder}.")
    asked.output.mkdir(parents=True, exist_ok=True)
    remarks = asked.output / REMARKS
    if not remarks.exists():
        remarks.write_text(FIRST_REMARKS, encoding="utf-8")
    draw_report(report, asked.output)
    if shares is not None:
        save_figure(draw_fractions(shares), asked.output / "fractions.png")
    page = asked.output / "results.md"
    page.write_text(page_of(report, shares), encoding="utf-8")
    told = json.dumps(report.to_dict(), indent=1, ensure_ascii=False)
    (asked.output / "results.json").write_text(told + "\n", encoding="utf-8")
    print(f"{page}: {len(report.good):,} runs of {len(report.systems):,} systems")
    for line in conclude(report):
        print(f"- {line}")


def page_of(report: BenchmarkReport, shares: BenchmarkReport | None) -> str:
    """Put the page together."""
    parts = sections(report)
    told = conclude(report)
    if shares is not None:
        # What the other folder says of all pictures is said here already, by more runs.
        told += [line for line in conclude(shares) if " % " in line and line.startswith(_SHARES)]
        others = sections(shares)
        parts = _with_shares(parts, others[FEWER])
        if "Failed" in others:
            parts["Failed with fewer pictures"] = others["Failed"]
    lines = [
        "# Results of the seven systems",
        "",
        "% Made by tools/systems_page.py from the record of a run; remarks stand in remarks.md.",
        "",
        _intro(report, shares),
        "",
        "```console",
        _command(report),
        *([] if shares is None else [_command(shares)]),
        "```",
        "",
        THEIRS,
        "",
        "## What the numbers say",
        "",
        *(f"- {line}" for line in told),
        "",
        "## Remarks",
        "",
        f"```{{include}} {REMARKS}",
        "```",
    ]
    for title, own in parts.items():
        lines += ["", f"## {title}", "", *own]
    return "\n".join(lines) + "\n"


_SHARES = ("At ", "The smallest median error with a share")


def _with_shares(parts: dict[str, list[str]], grown: list[str]) -> dict[str, list[str]]:
    """Put the part on fractions in its place, before the published rows."""
    found: dict[str, list[str]] = {}
    for title, lines in parts.items():
        if title.startswith("Beside"):
            found[FEWER] = grown
        if title != FEWER:
            found[title] = lines
    return found


def _intro(report: BenchmarkReport, shares: BenchmarkReport | None) -> str:
    runs = [*report.good, *(() if shares is None else shares.good)]
    seconds = sum(run.fit_s + run.predict_s for run in runs if run.fit_s == run.fit_s)
    peak = max((run.peak_mb for run in runs if run.peak_mb == run.peak_mb), default=float("nan"))
    machine = report.results.machine
    cores = machine.get("cores")
    where = f"{machine.get('processor') or 'a machine'}" + (f", {cores} cores" if cores else "")
    reports = [report, *(() if shares is None else (shares,))]
    if any(other_machine(run, each.results) for each in reports for run in each.good):
        where += " and others"
    table = report.table()
    took = f"{seconds / 60.0:,.0f} minutes" if seconds < 7200 else f"{seconds / 3600.0:,.1f} hours"
    return (
        f"What [the systems](index.md) come to on {report.data_name}: "
        f"{int(table['train_rows'].max()):,} pictures to learn from and "
        f"{int(table['test_rows'].max()):,} others to be asked about. All {len(runs):,} runs took "
        f"{took} of training and answering on {where}, after the features were there, and "
        f"{peak / 1000.0:,.1f} GB at the most."
    )


def _command(report: BenchmarkReport) -> str:
    """Write what to type for these runs."""
    own = [run for run in report.results.runs if run.system not in ("mean-point", "chance")]
    systems = list(dict.fromkeys(run.system for run in own))
    seeds = sorted({run.seed for run in own})
    fractions = sorted({run.fraction for run in own})
    text = "$ geoembed benchmark geolocation"
    if len(systems) < 7:
        text += f" --systems {','.join(systems)}"
    if seeds != [0]:
        text += f" --seeds {','.join(map(str, seeds))}"
    if fractions != [1.0]:
        text += f" --fractions {','.join(f'{100 * each:g}' for each in fractions)}"
    crops = report.results.data.get("crops")
    if isinstance(crops, int) and crops != CROPS:
        text += f" --crops {crops}"
    changed: dict[str, None] = {}
    for run in own:
        for option, value in changed_options(run, str(report.results.data.get("name"))).items():
            # One that the run does not name was not there yet.
            if value is not None:
                changed.setdefault(f" --set '{run.system}.{option}={json.dumps(value)}'")
    return text + "".join(changed)


if __name__ == "__main__":
    main(sys.argv[1:])
