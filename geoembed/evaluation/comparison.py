"""The result of a comparison: scores side by side, what the folds can tell apart, files."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd

from geoembed.errors import TableError, unknown_name
from geoembed.evaluation.cached import write_atomically
from geoembed.evaluation.spread import Difference, paired_difference

__all__ = ["Comparison"]


@dataclass(eq=False)
class Comparison:
    """Scores of encoders on the same folds, as `geoembed.compare_encoders` gives them.

    Parameters
    ----------
    table : DataFrame
        A row an encoder and split, split by split, the best first: ``label``, ``encoder``,
        ``layers``, ``model``, ``dimension``, ``split``, ``mean`` and ``sd`` of the score over the
        folds (over the initialisations of the model where there is one fold), ``pooled`` (the
        score of all tested rows together), ``folds``, ``n`` (rows of the table), ``n_train``,
        ``n_test`` (a fold), ``seconds_encode`` (all places, once), ``seconds`` (to learn and
        predict, a fold), ``behind`` (the mean difference to the first of the split) and
        ``within_spread`` (whether the folds cannot tell it from the first).
    folds : DataFrame
        A row an encoder, split and fold: ``label``, ``split``, ``repeat``, ``fold``, ``score``,
        ``n_train``, ``n_test``, ``seconds``.
    targets : DataFrame
        A row an encoder, split and target: ``label``, ``split``, ``target``, ``mean`` and ``sd``
        of its R2; empty for labels.
    errors : GeoDataFrame
        A row a row of the table, with its place: the error of every encoder and split where the
        row was tested, the mean over repetitions; columns are called ``"label (split)"``.
    metric : {"R2", "accuracy"}
        What the score is.
    title : str
        What is predicted.
    error_name : str
        What the error of a place is.
    splits : dict
        Name of a split -> how the rows were divided.
    test_shares : dict
        Name of a split -> rows tested for each row learned from.
    plain : tuple of str
        Labels that are no more than the coordinates.
    notes : list of str
        What the reader should know.
    provenance : dict
        The request and the identity of every encoder.

    See Also
    --------
    geoembed.evaluation.spread.paired_difference : When a difference is within the spread.
    """

    table: pd.DataFrame
    folds: pd.DataFrame
    targets: pd.DataFrame
    errors: gpd.GeoDataFrame
    metric: str
    title: str
    error_name: str
    splits: dict[str, str]
    test_shares: dict[str, float]
    plain: tuple[str, ...] = ()
    notes: list[str] = field(default_factory=list)
    provenance: dict[str, Any] = field(default_factory=dict)

    @property
    def deciding(self) -> str:
        """The split that encoders are ranked by: ``"spatial"``, or the last one."""
        return "spatial" if "spatial" in self.splits else list(self.splits)[-1]

    def differences(self, split: str | None = None, *, to: str | None = None) -> pd.DataFrame:
        """Compare every encoder with one of them, fold by fold.

        Parameters
        ----------
        split : str, optional
            `deciding` if not given.
        to : str, optional
            Label to compare with; the one with the best mean if not given.

        Returns
        -------
        DataFrame
            Indexed by label, the best first: ``difference`` of the mean scores, ``low`` and
            ``high`` (its 95 % interval by `geoembed.evaluation.spread.paired_difference`) and
            ``within_spread``.

        Raises
        ------
        UnknownNameError
            If there is no such split or label.
        """
        name = self.deciding if split is None else split
        if name not in self.splits:
            raise unknown_name("split", name, self.splits)
        ranked = self._ranked(name)
        base = ranked[0] if to is None else to
        if base not in ranked:
            raise unknown_name("encoder in this comparison", base, ranked)
        rows = {label: self._difference(name, label, base) for label in ranked}
        return pd.DataFrame(
            {
                "difference": [d.mean for d in rows.values()],
                "low": [d.low for d in rows.values()],
                "high": [d.high for d in rows.values()],
                "within_spread": [d.within_spread for d in rows.values()],
            },
            index=pd.Index(rows, name="label"),
        )

    @property
    def conclusion(self) -> str:
        """Whether the best encoder is ahead of plain coordinates on the deciding split."""
        split = self.deciding
        where = "On spatial blocks" if split == "spatial" else f"On the {split} split"
        ranked = self._ranked(split)
        learned = [label for label in ranked if label not in self.plain]
        plain = [label for label in ranked if label in self.plain]
        if not learned or not plain:
            first = f"{where}, {ranked[0]} is first with {self._score(split, ranked[0])}"
            if len(ranked) < 2:
                return f"{first}."
            gap = self._difference(split, ranked[0], ranked[1])
            return f"{first}, ahead of {ranked[1]} by {gap.mean:.3f}, {_verdict(gap)}."
        best, rival = learned[0], plain[0]
        gap = self._difference(split, best, rival)
        scores = f"{self._score(split, best)} against {self._score(split, rival)}"
        if gap.mean > 0:
            return (
                f"{where}, {best} is ahead of the best of plain coordinates, {rival}, by "
                f"{gap.mean:.3f} {self.metric} ({scores}), {_verdict(gap)}."
            )
        return (
            f"{where}, no encoder is ahead of plain coordinates: {rival} is ahead of {best} by "
            f"{-gap.mean:.3f} {self.metric} ({self._score(split, rival)} against "
            f"{self._score(split, best)}), {_verdict(gap)}."
        )

    def to_markdown(self) -> str:
        """Return the comparison as a page of Markdown: table, conclusion, how it was done.

        Returns
        -------
        str
            Ends with a line break.
        """
        lines = [f"# Encoders compared on {self.title}", "", self.conclusion, ""]
        lines += self.markdown_table()
        lines += ["", f"{self.metric}: mean ± standard deviation over the folds; {_RULE}", ""]
        lines += [f"- {name}: {how}." for name, how in self.splits.items()]
        lines += [f"- {note}" for note in self.notes]
        if len(self.targets):
            lines += ["", f"## R2 of every target, {self.deciding} split", ""]
            lines += self._markdown_targets()
        return "\n".join(lines) + "\n"

    def markdown_table(self) -> list[str]:
        """Return the lines of a Markdown table, an encoder a row, the splits side by side.

        Returns
        -------
        list of str
            Header first.
        """
        rows = self.wide()
        header = list(rows.columns)
        lines = ["| " + " | ".join(header) + " |"]
        lines.append("|" + "|".join("---" if at == 0 else "--:" for at in range(len(header))) + "|")
        lines += ["| " + " | ".join(map(str, row)) + " |" for row in rows.to_numpy()]
        return lines

    def wide(self) -> pd.DataFrame:
        """Return the table for people: an encoder a row, the splits side by side, as text.

        Returns
        -------
        DataFrame
            The best on the deciding split first; scores that the folds cannot tell from the best
            of their split carry a ``=``, the best a ``*``.
        """
        by_split = {name: self._of(name).set_index("label") for name in self.splits}
        rows = []
        for label in self._ranked(self.deciding):
            one = by_split[self.deciding].loc[label]
            row: dict[str, Any] = {
                "encoder": label,
                "values": f"{one['dimension']:,}" if one["dimension"] else "-",
            }
            for name, part in by_split.items():
                row[f"{name} {self.metric}"] = _cell(part, label)
            row["encode s"] = f"{one['seconds_encode']:.1f}"
            row["fit s"] = f"{one['seconds']:.2f}"
            rows.append(row)
        return pd.DataFrame(rows)

    def save(self, folder: str | Path) -> Path:
        """Write the comparison into a folder.

        Parameters
        ----------
        folder : str or Path
            Made if it is not there. Files of the same names are replaced: ``comparison.csv`` (the
            table), ``comparison.md``, ``comparison.json`` (all but the errors),
            ``comparison.png`` (the chart) and ``errors.png`` (where the errors are).

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
            _write(path / "comparison.csv", self.table.to_csv(index=False, lineterminator="\n"))
            _write(path / "comparison.md", self.to_markdown())
            _write(path / "comparison.json", json.dumps(self.to_dict(), indent=1) + "\n")
            self._draw(path)
        except OSError as error:
            raise TableError(f"{path} cannot be written to: {error.strerror}.") from error
        return path

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the errors, fit for JSON.

        Returns
        -------
        dict
            Missing numbers are None.
        """
        return {
            "title": self.title,
            "metric": self.metric,
            "conclusion": self.conclusion,
            "splits": self.splits,
            "notes": self.notes,
            "table": _records(self.table),
            "folds": _records(self.folds),
            "targets": _records(self.targets),
            "provenance": self.provenance,
        }

    def _draw(self, path: Path) -> None:
        from geoembed.plot.axes import import_matplotlib
        from geoembed.plot.charts import error_map, score_chart

        plt = import_matplotlib("pyplot")
        ax = score_chart(
            self.table, metric=self.metric, by=self.deciding, title=f"Encoders on {self.title}"
        )
        _save_figure(plt, ax, path / "comparison.png")
        best = self._ranked(self.deciding)[0]
        lonlat = (self.errors.geometry.x.to_numpy(), self.errors.geometry.y.to_numpy())
        columns = [f"{best} ({name})" for name in self.splits]
        ax = error_map(
            *lonlat,
            {name: self.errors[column] for name, column in zip(self.splits, columns, strict=True)},
            label=self.error_name,
            title=f"Where {best} errs on {self.title}",
        )
        _save_figure(plt, ax, path / "errors.png")

    def _of(self, split: str) -> pd.DataFrame:
        return self.table[self.table["split"] == split]

    def _ranked(self, split: str) -> list[str]:
        return list(self._of(split)["label"])

    def _score(self, split: str, label: str) -> str:
        rows = self._of(split).set_index("label")
        return f"{float(rows['mean'].loc[label]):.3f}"

    def _difference(self, split: str, first: str, second: str) -> Difference:
        folds = self.folds[self.folds["split"] == split]
        a, b = (folds[folds["label"] == label]["score"] for label in (first, second))
        return paired_difference(a, b, self.test_shares[split])

    def _markdown_targets(self) -> list[str]:
        part = self.targets[self.targets["split"] == self.deciding]
        wide = part.pivot_table(index="label", columns="target", values="mean", sort=False)
        wide = wide.reindex([label for label in self._ranked(self.deciding) if label in wide.index])
        names: list[str] = [str(name) for name in wide.columns.tolist()]
        lines = ["| encoder | " + " | ".join(names) + " |"]
        lines.append("|---|" + "--:|" * len(wide.columns))
        return lines + [
            f"| {label!s} | " + " | ".join(f"{value:.3f}" for value in row) + " |"
            for label, row in zip(wide.index.tolist(), wide.to_numpy(), strict=True)
        ]


_RULE = (
    "`*` is the best of its split, `=` is not told from it by these folds (95 % interval of the "
    "paired difference, corrected for folds that share training rows, holds 0)."
)


def _verdict(gap: Difference) -> str:
    if gap.folds == 1:
        return "on one fold, which says nothing of the spread"
    return "within the spread over folds" if gap.within_spread else "beyond the spread over folds"


def _cell(part: pd.DataFrame, label: str) -> str:
    if label not in part.index:
        return "-"
    row = part.loc[label]
    text = f"{row['mean']:.3f}"
    if np.isfinite(row["sd"]):
        text += f" ± {row['sd']:.3f}"
    if row["folds"] == 1:
        return text
    mark = "*" if label == part.index[0] else "=" if row["within_spread"] else ""
    return f"{text} {mark}".rstrip()


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(table.to_json(orient="records", double_precision=10))
    return rows


def _write(path: Path, text: str) -> None:
    write_atomically(path, lambda draft: draft.write_text(text, encoding="utf-8"))


def _save_figure(plt: Any, ax: Any, path: Path) -> None:
    write_atomically(path, lambda draft: ax.figure.savefig(draft, format="png", dpi=150))
    plt.close(ax.figure)
