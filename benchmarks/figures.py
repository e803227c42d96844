"""What a benchmark gives: named figures with the target they are held against."""

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from statistics import median
from time import perf_counter
from typing import Any

ROUNDS = 5


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
    """

    name: str
    value: float
    unit: str
    target: float | None = None
    at_most: bool = True

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None without one."""
        if self.target is None:
            return None
        return self.value <= self.target if self.at_most else self.value >= self.target

    def as_dict(self) -> dict[str, Any]:
        """Return what goes into the JSON file."""
        return {**asdict(self), "met": self.met}


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


def median_ratio(above: Iterable[float], below: Iterable[float]) -> float:
    """Return the median over rounds of the ratio of two times of the same round."""
    return median(a / b for a, b in zip(above, below, strict=True))


def as_table(figures: Iterable[Figure]) -> str:
    """Return the figures as a Markdown table."""
    lines = ["| figure | measured | target | |", "|---|---:|---:|---|"]
    for figure in figures:
        target = ""
        if figure.target is not None:
            target = f"{'≤' if figure.at_most else '≥'} {_number(figure.target)} {figure.unit}"
        verdict = {None: "", True: "met", False: "**not met**"}[figure.met]
        measured = f"{_number(figure.value)} {figure.unit}"
        lines.append(f"| {figure.name} | {measured} | {target} | {verdict} |")
    return "\n".join(lines)


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
