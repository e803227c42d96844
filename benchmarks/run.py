"""`make bench`: measure the library suite by suite, print a table, write JSON.

Every suite runs in a process of its own, one after the other; one that dies is recorded as failed
and the others go on. The JSON grows as figures come: a run that was stopped goes on with
``--resume``. Both sides of a ratio are measured in one process, in turn; figures are medians of
rounds, with their quartiles.

Exit status: 0 if all went well, 1 if something is worse than in ``--compare`` beyond noise, 2 for
arguments or files that are wrong and a folder that another run measures into, 3 if a suite failed.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

from comparing import as_changes, compare_runs, worse
from document import BUSY, BenchFileError, Run, SuiteRun, read_run, write_run
from figures import as_table
from running import Stopped, alone, facts, run_suite, stoppable
from suites import SIZES, SUITES

ROOT = Path(__file__).resolve().parents[1]


def main(arguments: list[str] | None = None) -> int:
    """Measure what is asked for; return the exit status."""
    parser = _parser()
    asked = parser.parse_args(arguments)
    if asked.list:
        for name, suite in SUITES.items():
            print(f"{name:<15} {suite.minutes:>4g} min  {suite.says}")
        return 0
    for name in [*(asked.only or []), *(asked.redo or [])]:
        if name not in SUITES:
            parser.error(f"there is no suite {name!r}: choose from {', '.join(SUITES)}")
    if asked.measured is not None and (asked.only or asked.redo or asked.resume):
        parser.error("--from measures nothing: leave --only, --redo and --resume out")
    try:
        with stoppable():
            # Whatever is wrong with files is said before an hour is spent.
            old = None if asked.compare is None else read_run(asked.compare)
            if asked.measured is not None:
                return _report(read_run(asked.measured), old, asked)
            about = facts()
            with alone(asked.output):
                run = _begin(asked, about)
                kept = _measure(run, asked)
                return _report(run, old, asked, kept)
    except BenchFileError as error:
        print(f"run.py: {error}", file=sys.stderr)
    except OSError as error:
        print(
            f"run.py: results cannot be written ({error}); once they can, the same command with "
            "--resume goes on from what is there.",
            file=sys.stderr,
        )
    except Stopped as stopped:
        print(
            f"\nStopped. What was measured is in {asked.output / 'bench.json'}; the same command "
            "with --resume goes on from there.",
            file=sys.stderr,
        )
        return stopped.status
    return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, default=Path("bench"), help="folder for the results")
    parser.add_argument("--list", action="store_true", help="list the suites and stop")
    parser.add_argument("--only", nargs="+", metavar="SUITE", help="measure these suites alone")
    size = parser.add_mutually_exclusive_group()
    size.add_argument(
        "--quick",
        dest="size",
        action="store_const",
        const="quick",
        help="smaller, under 10 minutes",
    )
    size.add_argument(
        "--size", choices=SIZES, help="which sizes; tiny ones only show that it works"
    )
    parser.set_defaults(size="full")
    parser.add_argument(
        "--resume", action="store_true", help="keep the suites that a stopped run has measured"
    )
    parser.add_argument(
        "--redo",
        nargs="+",
        metavar="SUITE",
        help="resume, and measure these suites again; with --only none but what both name",
    )
    parser.add_argument("--compare", type=Path, metavar="OLD", help="bench.json to compare with")
    parser.add_argument(
        "--from", dest="measured", type=Path, metavar="NEW", help="measure nothing, take this file"
    )
    parser.add_argument(
        "--docs",
        nargs="?",
        type=Path,
        const=ROOT / "docs",
        metavar="FOLDER",
        help="write tables and pictures of the page on performance",
    )
    return parser


def _begin(asked: argparse.Namespace, about: dict[str, Any]) -> Run:
    """Return the run that measuring adds to; keep the results that lie there."""
    path = asked.output / "bench.json"
    if (asked.resume or asked.redo) and path.exists():
        run = read_run(path)
        there = Run(about)
        apart = run.differences(there)
        if run.about.get("geoembed") != about["geoembed"]:
            apart.append(f"geoembed: {run.about.get('geoembed')} and {about['geoembed']}")
        if apart:
            raise BenchFileError(
                f"{path} was measured elsewhere ({'; '.join(apart)}): leave --resume out, or name "
                "another folder with --output."
            )
    else:
        # A run that was stopped before it measured anything is no reason to lose the one before it.
        if path.exists() and not _is_empty(path):
            path.replace(path.with_name("previous.json"))
        run = Run(about)
    write_run(run, path)
    return run


def _is_empty(path: Path) -> bool:
    try:
        return not any(read_run(path).figures())
    except BenchFileError:
        return False


def _measure(run: Run, asked: argparse.Namespace) -> dict[str, SuiteRun]:
    """Measure what the run lacks and what is asked for again, writing as figures come.

    Returns
    -------
    dict
        Suites that failed and did not take the place of what the run has of them.
    """
    path = asked.output / "bench.json"
    again = asked.redo or []
    chosen = list(dict.fromkeys([*asked.only, *again])) if asked.only else list(SUITES)
    lacking = [name for name in chosen if name not in again and not _has(run, name, asked.size)]
    if again and lacking:
        print(f"measured besides, as the run lacks them: {', '.join(lacking)}", flush=True)
    kept = {}
    for name in chosen:
        if name not in again and name not in lacking:
            print(f"{name}: measured already", flush=True)
            continue
        print(f"\nmeasuring {name} ...\n", flush=True)
        had = run.suites.get(name)
        printed = 0

        def told(suite: SuiteRun, name: str = name, had: SuiteRun | None = had) -> None:
            nonlocal printed
            lines = as_table(suite.figures[printed:]).splitlines()
            if len(lines) > 2:
                print("\n".join(lines[2 if printed else 0 :]), flush=True)
            printed = len(suite.figures)
            if had is not None and not _replaces(suite, had):
                return
            run.suites[name] = suite
            # In the order of the list, whichever were measured first.
            run.suites = {each: run.suites[each] for each in SUITES if each in run.suites}
            write_run(run, path)

        suite = run_suite(name, asked.size, asked.output, told)
        if suite.status == "failed":
            print(f"failed: {suite.error}", flush=True)
            if run.suites[name] is not suite:
                kept[name] = suite
    return kept


def _has(run: Run, name: str, size: str) -> bool:
    """Tell whether a suite is measured whole, at a size."""
    had = run.suites.get(name)
    return had is not None and had.status == "done" and had.size == size


def _replaces(suite: SuiteRun, had: SuiteRun) -> bool:
    """Tell whether nothing is lost if a suite takes the place of what there is of it."""
    if suite.status == "done":
        return True
    return had.status != "done" and len(suite.figures) >= len(had.figures)


def _report(
    run: Run, old: Run | None, asked: argparse.Namespace, kept: dict[str, SuiteRun] | None = None
) -> int:
    """Print the tables, write the pages, and return the exit status."""
    figures = [figure for _, figure in run.figures()]
    if asked.measured is None:
        print(f"\nwritten to {asked.output / 'bench.json'}")
    if asked.docs is not None:
        from pages import write_pages

        for path in write_pages(run, asked.docs):
            print(f"written to {path}")
    missed = [figure.name for figure in figures if figure.met is False]
    if missed:
        print(f"targets not met: {'; '.join(missed)}")
    status = 0
    kept = kept or {}
    for name, suite in run.suites.items():
        if name in kept:
            why = f"again: {kept[name].error}; what was measured before is kept"
        elif suite.status != "done":
            why = f"whole: {suite.error or suite.status}"
        else:
            continue
        print(f"{name} was not measured {why}", file=sys.stderr)
        status = 3
    if old is not None and _compare(old, run):
        status = 1
    return status


def _compare(old: Run, new: Run) -> bool:
    """Print what changed; return whether something is worse beyond noise."""
    apart = old.differences(new)
    changes = compare_runs(old, new)
    print(f"\n{as_changes(changes)}\n")
    if apart:
        print(
            "The runs were made on different machines or settings: ratios are compared, seconds, "
            f"rates and memory are not ({'; '.join(apart)})."
        )
    for which, run in (("old", old), ("new", new)):
        busy = [name for name, suite in run.suites.items() if (suite.busy or 0.0) > BUSY]
        if busy:
            print(f"The machine had other work to do in the {which} run: {', '.join(busy)}.")
    found = worse(changes)
    if found:
        print(f"worse beyond noise: {len(found)}")
        for change in found:
            print(f"  {change.suite}: {change.name}")
    else:
        print("nothing is worse beyond noise")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
