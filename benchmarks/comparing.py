"""Two runs of the benchmarks side by side: what is worse beyond noise."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from document import Run
from figures import Figure, number

__all__ = ["Change", "as_changes", "compare_runs", "worse"]

# Changes that nobody need look at, as shares: of ratios whose two sides took turns, of figures of
# one machine, which does other things between two runs, and of what was measured only once.
RATIO, ABSOLUTE, ONCE = 0.05, 0.10, 0.20
# What the quartiles of two runs are apart by chance, in their half ranges: about one in fifty.
TIMES = 2.5


@dataclass(frozen=True)
class Change:
    """One figure of two runs.

    Parameters
    ----------
    suite, name : str
        Which figure.
    old, new : Figure or None
        None where only one of the runs has it.
    verdict : str
        ``"worse"``, ``"better"``, ``"same"`` (within noise), ``"moved"`` (nobody said which way is
        better), ``"missed"`` (its target, which it met), ``"not compared"``, ``"gone"``, ``"new"``.
    why : str
        What else there is to say.
    noise : float
        Largest change, as a share, that counts as noise.
    """

    suite: str
    name: str
    old: Figure | None
    new: Figure | None
    verdict: str
    why: str = ""
    noise: float = 0.0

    @property
    def ratio(self) -> float:
        """New over old; not a number where one is missing or the old one is 0."""
        if self.old is None or self.new is None or self.old.value == 0:
            return math.nan
        return self.new.value / self.old.value


def compare_runs(old: Run, new: Run) -> list[Change]:
    """Compare every figure of two runs.

    Ratios of two sides measured in one run are compared always; figures in seconds, points a second
    and megabytes only where machine, threads and torch are the same. Suites of other sizes are not.
    """
    before = {(suite, figure.name): figure for suite, figure in old.figures()}
    after = {(suite, figure.name): figure for suite, figure in new.figures()}
    elsewhere = bool(old.differences(new))
    changes = []
    for key in [*before, *(key for key in after if key not in before)]:
        suite, name = key
        was, now = before.get(key), after.get(key)
        if was is None or now is None:
            changes.append(_lonely(old, new, suite, name, was, now))
        elif old.suites[suite].size != new.suites[suite].size:
            why = f"{old.suites[suite].size} size and {new.suites[suite].size} size"
            changes.append(Change(suite, name, was, now, "not compared", why))
        elif elsewhere and not was.comparable:
            changes.append(Change(suite, name, was, now, "not compared", "another machine"))
        else:
            changes.append(_judge(suite, name, was, now))
    return changes


def worse(changes: Sequence[Change]) -> list[Change]:
    """Return the changes that are regressions."""
    return [change for change in changes if change.verdict in ("worse", "missed")]


def as_changes(changes: Sequence[Change]) -> str:
    """Return the changes as a Markdown table, the worst first within what they are."""
    order = ("missed", "worse", "gone", "moved", "better", "same", "new", "not compared")
    marks = {"worse": "**worse**", "missed": "**target missed**", "same": ""}
    lines = [
        "| suite | figure | old | new | new / old | noise up to | |",
        "|---|---|---:|---:|---:|---:|---|",
    ]
    for change in sorted(changes, key=lambda each: order.index(each.verdict)):
        unit = (change.new or change.old).unit  # type: ignore[union-attr]
        was, now = (
            "" if each is None else f"{number(each.value, unit)} {unit}".strip()
            for each in (change.old, change.new)
        )
        ratio = "" if math.isnan(change.ratio) else f"{change.ratio:.3g}"
        noise = f"{change.noise:.0%}" if change.noise else ""
        said = marks.get(change.verdict, change.verdict)
        if change.why:
            said = f"{said} ({change.why})" if said else f"({change.why})"
        lines.append(
            f"| {change.suite} | {change.name} | {was} | {now} | {ratio} | {noise} | {said} |"
        )
    return "\n".join(lines)


def _lonely(
    old: Run, new: Run, suite: str, name: str, was: Figure | None, now: Figure | None
) -> Change:
    if was is None:
        return Change(suite, name, None, now, "new")
    ran = new.suites.get(suite)
    if ran is None:
        return Change(suite, name, was, None, "not compared", "its suite was not measured")
    if ran.status != "done":
        return Change(suite, name, was, None, "gone", "its suite failed")
    if ran.size != old.suites[suite].size:
        why = f"{old.suites[suite].size} size and {ran.size} size"
        return Change(suite, name, was, None, "not compared", why)
    return Change(suite, name, was, None, "gone", "no longer measured")


def _judge(suite: str, name: str, old: Figure, new: Figure) -> Change:
    """Judge one figure that both runs may be compared in."""
    if not (math.isfinite(old.value) and math.isfinite(new.value)):
        verdict = "same" if math.isfinite(old.value) == math.isfinite(new.value) else "worse"
        return Change(suite, name, old, new, verdict, "not a number")
    noise = _noise(old, new)
    missed = old.met is True and new.met is False
    why = ""
    if _apart(old.value, new.value) <= noise and not (missed and _is_computed(old)):
        verdict, why = "same", "target missed within noise" if missed else ""
    elif new.direction is None:
        verdict = "moved"
    elif (new.value > old.value) == (new.direction == "more"):
        verdict = "better"
    else:
        verdict = "missed" if missed else "worse"
    return Change(suite, name, old, new, verdict, why, noise)


def _apart(old: float, new: float) -> float:
    """How much larger the larger value is: a rate that halves is as far off as a time doubled."""
    if old == new:
        return 0.0
    return max(old / new, new / old) - 1 if old * new > 0 else math.inf


def _is_computed(figure: Figure) -> bool:
    return figure.unit in ("", "difference", "levels")


def _noise(old: Figure, new: Figure) -> float:
    """Largest relative change between two runs that may be chance."""
    if _is_computed(old):
        # Computed, not timed: only what computes them changes them. Of a cosine next to 1 the third
        # digit counts; of the small errors beside it, which processors round apart, a quarter.
        return 1e-3 if 0.5 <= old.value <= 1 else 0.25
    halves = [TIMES * figure.noise for figure in (old, new) if figure.noise is not None]
    if len(halves) < 2:
        return max([ONCE, *halves])
    return max(RATIO if old.comparable else ABSOLUTE, math.hypot(*halves))
