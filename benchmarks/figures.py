"""What a benchmark gives: named figures with their spread, target, ceiling and growth."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from statistics import median, quantiles
from time import perf_counter
from typing import Any

__all__ = [
    "ROUNDS",
    "Figure",
    "Growth",
    "alternate",
    "as_table",
    "median_ratio",
    "number",
    "ratios",
    "seconds",
    "timed",
]

ROUNDS = 5
# Units of what a change of the machine does not change; "x" is a ratio of two sides of one run.
_COMPARABLE = {"x", "", "difference", "levels", "nats"}
# Units that say by themselves which way is better.
_LESS = {
    "s",
    "ms",
    "h",
    "bytes",
    "MB",
    "GB",
    "GiB",
    "TB",
    "difference",
    "levels",
    "nats",
    "dollars",
}


@dataclass(frozen=True)
class Growth:
    """Where a figure stands in a series that grows.

    Parameters
    ----------
    series : str
        What is measured at every size, e.g. ``"encode"``.
    axis : str
        What grows: ``"rows"``, ``"places"``, ``"k"``, ``"workers"``.
    at : float
        How much of it there was.
    """

    series: str
    axis: str
    at: float


@dataclass(frozen=True)
class Figure:
    """One measured figure.

    Parameters
    ----------
    name : str
        What was measured.
    value : float
        The figure.
    unit : str
        Its unit; "x" for ratios of two sides measured in one run.
    target : float or None
        What it is held against; None for figures that are only reported.
    at_most : bool
        Whether the target is an upper bound (else a lower one).
    spread : tuple of 2 floats or None
        Lower and upper quartile of the rounds whose median `value` is; None if measured once.
    better : {"less", "more"} or None
        Which way is better, where neither target nor unit say it.
    ceiling : str or None
        For a share of a ceiling: what the ceiling is.
    growth : Growth or None
        Where the figure stands in a series that grows.
    """

    name: str
    value: float
    unit: str
    target: float | None = None
    at_most: bool = True
    spread: tuple[float, float] | None = field(default=None, kw_only=True)
    better: str | None = field(default=None, kw_only=True)
    ceiling: str | None = field(default=None, kw_only=True)
    growth: Growth | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        # Figures come from numpy and from JSON as well.
        object.__setattr__(self, "value", float(self.value))
        if self.spread is not None:
            low, high = self.spread
            object.__setattr__(self, "spread", (float(low), float(high)))

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None without one."""
        if self.target is None:
            return None
        return self.value <= self.target if self.at_most else self.value >= self.target

    @property
    def comparable(self) -> bool:
        """Whether the figure means the same on another machine."""
        return self.unit in _COMPARABLE

    @property
    def direction(self) -> str | None:
        """Which way is better, ``"less"`` or ``"more"``; None if nobody said."""
        if self.better is not None:
            return self.better
        if self.target is not None:
            return "less" if self.at_most else "more"
        if self.ceiling is not None or "/s" in self.unit:
            return "more"
        return "less" if self.unit in _LESS else None

    @property
    def noise(self) -> float | None:
        """Half of the range between the quartiles, as a share of the value; None if unknown."""
        if self.spread is None or self.value == 0:
            return None
        low, high = self.spread
        return abs(high - low) / 2 / abs(self.value)

    def as_dict(self) -> dict[str, Any]:
        """Return what goes into the JSON file."""
        return {**asdict(self), "met": self.met, "comparable": self.comparable}

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> "Figure":
        """Return the figure that `as_dict` stored."""
        known = {name: stored[name] for name in cls.__dataclass_fields__ if name in stored}
        if known.get("growth") is not None:
            known["growth"] = Growth(**known["growth"])
        if known.get("spread") is not None:
            known["spread"] = tuple(known["spread"])
        return cls(**known)


def timed(
    name: str,
    rounds: Sequence[float],
    unit: str,
    target: float | None = None,
    at_most: bool = True,
    **more: Any,
) -> Figure:
    """Return the median of rounds as a figure that knows their spread; one round has none."""
    spread = _quartiles(rounds) if len(rounds) > 1 else None
    return Figure(name, median(rounds), unit, target, at_most, spread=spread, **more)


def seconds(work: Callable[[], object]) -> float:
    """Time one call."""
    start = perf_counter()
    work()
    return perf_counter() - start


def alternate(*works: Callable[[], object], rounds: int = ROUNDS) -> list[list[float]]:
    """Time several works in turn, `rounds` times; return the times of each.

    Machines drift; ratios of neighbours in time do not.
    """
    times: list[list[float]] = [[] for _ in works]
    for _ in range(rounds):
        for taken, work in zip(times, works, strict=True):
            taken.append(seconds(work))
    return times


def ratios(above: Iterable[float], below: Iterable[float]) -> list[float]:
    """Return the ratio of the two times of every round."""
    return [a / b for a, b in zip(above, below, strict=True)]


def median_ratio(above: Iterable[float], below: Iterable[float]) -> float:
    """Return the median over rounds of the ratio of two times of the same round."""
    return median(ratios(above, below))


def as_table(figures: Iterable[Figure]) -> str:
    """Return the figures as a Markdown table."""
    lines = ["| figure | measured | quartiles | target | |", "|---|---:|---:|---:|---|"]
    for figure in figures:
        unit, target, spread = figure.unit, "", ""
        if figure.target is not None:
            target = f"{'≤' if figure.at_most else '≥'} {number(figure.target, unit)} {unit}"
        if figure.spread is not None:
            spread = " - ".join(number(each, unit) for each in figure.spread)
        verdict = {None: "", True: "met", False: "**not met**"}[figure.met]
        measured = f"{number(figure.value, unit)} {unit}".strip()
        cells = [figure.name, measured, spread, target.strip(), verdict]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def number(value: float, unit: str = "x") -> str:
    """Write a number with three digits that count, whole from a hundred on."""
    if not math.isfinite(value):
        return "-"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    # A cosine next to 1 shows how far from it.
    return f"{value:.6g}" if unit == "" and 0.9 < value < 1 else f"{value:.3g}"


def _quartiles(rounds: Sequence[float]) -> tuple[float, float]:
    """Lower and upper quartile; the range itself where rounds are fewer than four."""
    if len(rounds) < 4:
        return min(rounds), max(rounds)
    low, _, high = quantiles(rounds, n=4, method="inclusive")
    return low, high
