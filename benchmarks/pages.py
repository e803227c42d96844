"""The page on performance, made from a run: tables of figures, ceilings and growth, a picture."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from document import BUSY, Run, SuiteRun, write_run
from figures import Figure, as_table, number
from growth import draw_growth, growth_table
from suites import SUITES

__all__ = ["write_pages"]


def write_pages(run: Run, docs: Path) -> list[Path]:
    """Write ``figures/bench*.md``, the run itself and ``_static/bench_growth_*.png``; say which."""
    figures = [figure for _, figure in run.figures()]
    texts = {
        "bench.md": "\n".join([_caption(run), "", *_suites(run)]),
        "bench_ceilings.md": _ceilings(run),
        "bench_growth.md": growth_table(figures) + "\n",
    }
    folder = docs / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    # What a later run, on this machine or another, is compared with.
    suites = {name: replace(suite, error=_why(suite)) for name, suite in run.suites.items()}
    write_run(Run(run.about, suites), folder / "bench.json")
    written = [folder / name for name in [*texts, "bench.json"]]
    return [*written, *draw_growth(figures, docs / "_static")]


def _caption(run: Run) -> str:
    about = run.about
    minutes = sum(suite.seconds for suite in run.suites.values()) / 60
    sizes = sorted({suite.size for suite in run.suites.values()})
    busy = max((suite.busy or 0.0 for suite in run.suites.values()), default=0.0)
    cores = about.get("cores", "?")
    text = (
        f"Measured with `make bench` on {about.get('date')}: geoembed {about.get('geoembed')}, "
        f"torch {about.get('torch')}, python {about.get('python')}, {about.get('processor')} "
        f"({about.get('machine')}, {about.get('capability')}), {cores} cores, "
        f"{about.get('threads')} threads; {' and '.join(sizes)} size, {minutes:,.0f} minutes."
    )
    if busy > BUSY:
        text += (
            f" **The machine had other work to do** (up to {busy:g} cores when suites began): "
            "times, rates and memory are not those of a free machine."
        )
    return text


def _suites(run: Run) -> Iterable[str]:
    for name, suite in run.suites.items():
        says = SUITES[name].says if name in SUITES else ""
        yield f"### {name[:1].upper()}{name[1:]}"
        yield ""
        yield f"{says[:1].upper()}{says[1:]}. It took {number(suite.seconds)} s."
        yield ""
        if suite.status != "done":
            yield f"**Not measured whole**: {_why(suite) or 'it was stopped'}."
            yield ""
        if suite.figures:
            yield as_table(suite.figures)
            yield ""


def _why(suite: SuiteRun) -> str:
    """Why a suite failed, without where its log lies: that is of no use to a reader."""
    return suite.error.partition(" (see ")[0]


def _ceilings(run: Run) -> str:
    """Every share of a ceiling, with what the ceiling is."""
    lines = ["| suite | what | share | quartiles | the ceiling |", "|---|---|---:|---:|---|"]
    for name, figure in run.figures():
        if figure.ceiling is not None:
            lines.append(f"| {name} | {_what(figure)} | {_share(figure)} | {figure.ceiling} |")
    return "\n".join(lines) + "\n"


def _what(figure: Figure) -> str:
    """Leave out of a name what the column says."""
    name = figure.name
    for said in (": share of the ceiling", "share of the ceiling, ", ", share of the ceiling"):
        name = name.replace(said, "")
    return name


def _share(figure: Figure) -> str:
    spread = ""
    if figure.spread is not None:
        spread = " - ".join(f"{each:.2f}" for each in figure.spread)
    return f"{figure.value:.2f} | {spread}"
