"""The report of a benchmark: the paper's table with intervals, what it tells, files."""

from functools import cached_property
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from geoembed.errors import OptionError, TableError, unknown_name
from geoembed.evaluation.cached import write_atomically
from geoembed.splits.blocks import Blocks
from geoembed_systems.benchmark import tables, tabulating
from geoembed_systems.benchmark.comparing import Scores, mark_best, score_runs
from geoembed_systems.benchmark.concluding import conclude
from geoembed_systems.benchmark.fractions import tabulate_fractions
from geoembed_systems.benchmark.leaking import leaks_told
from geoembed_systems.benchmark.reading import Results, Run, blocks_of, read_results

__all__ = ["BenchmarkReport"]

Floats = NDArray[np.float64]

# What the others are compared with, where it ran.
_REFERENCE: Final = "geoclip"


class BenchmarkReport:
    """Systems side by side on one data set, over seeds.

    Parameters
    ----------
    results : Results
        Of `geoembed_systems.benchmark.reading.read_results`.
    blocks : Blocks, optional
        Of `geoembed.splits.blocks.choose_blocks`: draw whole blocks in place of single pictures,
        where test pictures stand or fall with their neighbours. Each on its own if not given.
    resamples, seed : int
        Of the bootstrap over pictures.
    level : float
        Coverage of its intervals, in (0, 1).

    Raises
    ------
    OptionError
        When scores are first asked for: if `resamples` is not a positive whole number, or `level`
        is outside (0, 1).

    Examples
    --------
    >>> km = np.random.default_rng(0).uniform(0, 2000, (2, 3, 60))
    >>> runs = [
    ...     Run(system=name, title=name, seed=seed, fraction=1.0, km=km[at, seed] * (at + 1))
    ...     for at, name in enumerate(["geoclip", "planet"])
    ...     for seed in range(3)
    ... ]
    >>> report = BenchmarkReport(Results({"name": "made up"}, {}, np.zeros((60, 2)), tuple(runs)))
    >>> report.table()["system"].tolist(), report.differences()["verdict"].iloc[-1]
    (['geoclip', 'planet'], 'worse')
    """

    def __init__(
        self,
        results: Results,
        *,
        blocks: Blocks | None = None,
        resamples: int = 2000,
        level: float = 0.95,
        seed: int = 0,
    ) -> None:
        self.results = results
        self.blocks = blocks
        self.resamples = resamples
        self.level = level
        self.seed = seed

    @classmethod
    def from_folder(cls, folder: str | Path, **options: Any) -> Self:
        """Read the folder of a benchmark.

        Parameters
        ----------
        folder : str or Path
            What `geoembed_systems.benchmark.running.run_benchmark` has written.
        **options
            Of the constructor: ``resamples``, ``level``, ``seed``; and ``blocks``, which are those
            that were held out if not given: pictures of one are alike.

        Returns
        -------
        BenchmarkReport
            Nothing is trained.

        Raises
        ------
        TableError
            If a file is missing or is not what it should be.
        """
        results = read_results(folder)
        return cls(results, **{"blocks": blocks_of(results.data), **options})

    @cached_property
    def scores(self) -> Scores:
        """Scores of all systems and fractions, with their draws."""
        return score_runs(
            self.results.runs,
            groups=self.groups,
            resamples=self.resamples,
            level=self.level,
            seed=self.seed,
        )

    @cached_property
    def groups(self) -> NDArray[np.int64] | None:
        """Number of the block that each test picture is drawn with; None where each is alone."""
        return None if self.blocks is None else self.blocks.ids(self.results.lonlat)

    @property
    def drawn_from(self) -> str:
        """What is drawn anew for the intervals, in words."""
        if self.groups is None:
            return "pictures"
        return f"{len(np.unique(self.groups)):,} whole {self.blocks}"

    @property
    def good(self) -> tuple[Run, ...]:
        """Runs that did not fail."""
        return tuple(run for run in self.results.runs if not run.failed)

    @property
    def fractions(self) -> tuple[float, ...]:
        """Shares of the training pictures that some run has learned from, ascending."""
        return tuple(sorted({run.fraction for run in self.good}))

    @property
    def systems(self) -> tuple[str, ...]:
        """Systems and baselines that have a run, in the order of the record."""
        return tuple(dict.fromkeys(run.system for run in self.good))

    @property
    def titles(self) -> dict[str, str]:
        """What people call them."""
        return {run.system: run.title for run in self.results.runs}

    @property
    def data_name(self) -> str:
        """What the data is called."""
        return str(self.results.data.get("title") or self.results.data.get("name") or "this data")

    @property
    def failed(self) -> pd.DataFrame:
        """Runs that failed: ``system``, ``title``, ``seed``, ``fraction`` and ``failed``, why."""
        names = ["system", "title", "seed", "fraction", "failed"]
        rows = [[getattr(run, name) for name in names] for run in self.results.runs if run.failed]
        return pd.DataFrame(rows, columns=names)

    @property
    def cautions(self) -> list[str]:
        """Sentences on test pictures that are training pictures, or were taken beside one."""
        return leaks_told(self.results.data)

    @property
    def conclusion(self) -> list[str]:
        """What the numbers say, after `cautions`: who is best, by how much, what is not told."""
        return conclude(self)

    def table(self, fraction: float | None = None) -> pd.DataFrame:
        """Return the paper's table: scores with intervals, and what each system took.

        Parameters
        ----------
        fraction : float, optional
            Share of the training pictures; the largest if not given.

        Returns
        -------
        DataFrame
            A row a system, the smallest median error first, baselines last: ``system``,
            ``title``, ``fraction``, ``seeds``, ``train_rows``, ``test_rows``; for every score
            its mean over seeds, ``_low`` and ``_high`` of its interval, ``_seed_low`` and
            ``_seed_high`` over seeds; ``parameters``, ``cells``, ``fit_s``, ``predict_s``,
            ``query_ms`` (a picture), ``peak_mb`` (the most of a seed) and ``missing``
            (predictions, of all seeds).

        Raises
        ------
        OptionError
            If no run of that fraction has succeeded.
        """
        return tabulating.paper_table(self.good, self.scores, self._fraction(fraction))

    def reference(self, fraction: float | None = None) -> str:
        """Return what the others are compared with.

        Parameters
        ----------
        fraction : float, optional
            Share of the training pictures; the largest if not given.

        Returns
        -------
        str
            GeoCLIP, or else the system with the smallest median error.
        """
        ranked = self.table(fraction)["system"].tolist()
        return _REFERENCE if _REFERENCE in ranked else str(ranked[0])

    def differences(self, to: str | None = None, fraction: float | None = None) -> pd.DataFrame:
        """Compare every system with one of them, on the same pictures.

        Parameters
        ----------
        to : str, optional
            Which; `reference` if not given.
        fraction : float, optional
            Share of the training pictures; the largest if not given.

        Returns
        -------
        DataFrame
            A row a system and score, as `geoembed_systems.benchmark.comparing.compare` gives
            them, with ``system`` and ``title``; in the order of `table`.

        Raises
        ------
        UnknownNameError
            If there is no such system.
        OptionError
            If no run of that fraction has succeeded.
        """
        order = self.table(fraction)
        base = self.reference(fraction) if to is None else to
        if base not in set(order["system"]):
            raise unknown_name("system in this benchmark", base, order["system"])
        return tabulating.difference_table(self.scores, order, base, self._fraction(fraction))

    def marks(self, fraction: float | None = None) -> dict[tuple[str, str], str]:
        """Say who is best in each score.

        Parameters
        ----------
        fraction : float, optional
            Share of the training pictures; the largest if not given.

        Returns
        -------
        dict
            Of `geoembed_systems.benchmark.comparing.mark_best`.
        """
        return mark_best(self.scores, self._fraction(fraction))

    def beside_published(self) -> pd.DataFrame:
        """Return the shares of this run, and those that papers print, labelled with their data.

        Returns
        -------
        DataFrame
            Of `geoembed_systems.benchmark.tabulating.beside_published`; this run first.
        """
        return tabulating.beside_published(self.table(), self.data_name)

    def fraction_table(self) -> pd.DataFrame:
        """Return how the scores grow with the training pictures.

        Returns
        -------
        DataFrame
            Of `geoembed_systems.benchmark.fractions.tabulate_fractions`.
        """
        return tabulate_fractions(self)

    def errors(self, fraction: float | None = None) -> dict[str, Floats]:
        """Return the errors of all systems.

        Parameters
        ----------
        fraction : float, optional
            Share of the training pictures; the largest if not given.

        Returns
        -------
        dict of str to ndarray of float64, shape (seeds, m)
            System -> errors of the test pictures, km, in the order of `table`.
        """
        at = self._fraction(fraction)
        return {
            str(name): np.stack(
                [run.km for run in self.good if (run.system, run.fraction) == (name, at)]
            )
            for name in self.table(at)["system"]
        }

    def to_markdown(self, *, pictures: bool = True) -> str:
        """Return the report as a page of Markdown.

        Parameters
        ----------
        pictures : bool
            Whether to show the pictures that `save` writes.

        Returns
        -------
        str
            What the numbers say; their tables; how it was done.
        """
        return tables.to_markdown(self, pictures=pictures)

    def to_dict(self) -> dict[str, Any]:
        """Return the report, fit for JSON.

        Returns
        -------
        dict
            ``data``, ``machine``, ``reference``, ``cautions``, ``conclusion``, ``table``,
            ``differences``, ``published``, ``fractions``, ``failed``; missing numbers are None.
        """
        return tables.to_dict(self)

    def save(self, folder: str | Path) -> Path:
        """Write the report.

        Parameters
        ----------
        folder : str or Path
            Made if it is not there. Files of the same names are replaced: ``results.md`` (for
            people), ``results.csv`` (the table), ``differences.csv``, ``runs.csv`` (a row a run),
            ``systems.png`` (scores with intervals), ``errors.png`` (how many are within which
            distance), and with several fractions ``fractions.csv`` and ``fractions.png``.

        Returns
        -------
        Path
            The folder.

        Raises
        ------
        TableError
            If the folder cannot be written to.
        MissingExtraError
            If matplotlib is not installed; the tables are written before.
        """
        path = Path(folder).expanduser()
        try:
            path.mkdir(parents=True, exist_ok=True)
            _write(path / "results.md", self.to_markdown())
            _write(path / "runs.csv", tabulating.run_table(self.results.runs))
            if self.good:
                _write(path / "results.csv", self.table())
                _write(path / "differences.csv", self.differences())
                if len(self.fractions) > 1:
                    _write(path / "fractions.csv", self.fraction_table())
                self.draw(path)
        except OSError as error:
            raise TableError(f"{path} cannot be written to: {error.strerror or error}.") from error
        return path

    def draw(self, folder: Path) -> list[Path]:
        """Draw the pictures.

        Parameters
        ----------
        folder : Path
            Of the files.

        Returns
        -------
        list of Path
            What was written.

        Raises
        ------
        MissingExtraError
            If matplotlib is not installed.
        """
        from geoembed_systems.benchmark.drawing import draw_report

        return draw_report(self, folder)

    def _fraction(self, fraction: float | None) -> float:
        known = self.fractions
        if not known:
            raise OptionError(
                f"No run has succeeded, so there is no table. The first: {self.failed['failed'][0]}"
            )
        if fraction is None:
            return known[-1]
        if fraction not in known:
            told = ", ".join(f"{each:g}" for each in known)
            raise OptionError(f"fraction={fraction!r} is none of those that ran: {told}.")
        return fraction

    def __repr__(self) -> str:
        told = f"{len(self.systems)} systems, {len(self.results.runs)} runs"
        return f"<BenchmarkReport on {self.data_name}: {told}>"


def _write(path: Path, what: str | pd.DataFrame) -> None:
    text = what if isinstance(what, str) else what.to_csv(index=False, lineterminator="\n")
    write_atomically(path, lambda draft: draft.write_text(text, encoding="utf-8"))
