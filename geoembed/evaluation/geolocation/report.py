"""The result of an evaluation: scores with their intervals, by continent, leaks, files."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from geoembed.errors import TableError
from geoembed.evaluation.cached import write_atomically
from geoembed.evaluation.geolocation import tables
from geoembed.evaluation.geolocation.leakage import Leaks
from geoembed.evaluation.geolocation.protocols import GeolocationProtocol

__all__ = ["GeolocationReport"]


@dataclass(eq=False)
class GeolocationReport:
    """How well places were predicted, as `evaluate_geolocation` gives it.

    Parameters
    ----------
    rows : DataFrame
        A row a picture, in the order of the manifest: ``file``, ``lon`` and ``lat`` (the truth),
        ``predicted_lon``, ``predicted_lat``, ``km`` (geodesic), ``continent``, ``leaked``
        (whether the truth is in the gallery) and ``error`` (why there is no prediction).
    scores : DataFrame
        A row a score: ``score``, ``unit``, ``value``, ``low`` and ``high`` (ends of the bootstrap
        interval); where a gallery is known, ``ceiling`` (what its nearest places would score);
        where queries are leaked, ``without_leaks``. Shares are of the pictures with a prediction.
    continents : DataFrame
        A row a continent of the truth, ``"at sea"`` last: ``continent``, ``n`` and the scores.
    thresholds_km : tuple of float
        Of the shares.
    leaks : Leaks or None
        Queries in the gallery; None where no gallery was given.
    protocol : GeolocationProtocol or None
        What was asked for.
    notes : list of str
        What the reader should know: deviations from the protocol, what is missing.
    record : dict
        What was compared with what, by which rules and versions; fit for JSON.
    """

    rows: pd.DataFrame
    scores: pd.DataFrame
    continents: pd.DataFrame
    thresholds_km: tuple[float, ...]
    leaks: Leaks | None = None
    protocol: GeolocationProtocol | None = None
    notes: list[str] = field(default_factory=list)
    record: dict[str, Any] = field(default_factory=dict)

    @property
    def evaluated(self) -> int:
        """How many pictures have a prediction."""
        return int(self.rows["km"].notna().sum())

    @property
    def lost(self) -> pd.DataFrame:
        """The rows without a prediction: ``file`` and ``error``."""
        return self.rows.loc[self.rows["km"].isna(), ["file", "error"]]

    def value(self, score: str) -> float:
        """Return one score.

        Parameters
        ----------
        score : str
            ``"within 25 km"``, ``"median_km"``, ``"mean_km"`` or ``"geoscore"``.

        Returns
        -------
        float
            Percent, km or points.

        Raises
        ------
        UnknownNameError
            If there is no such score.
        """
        return tables.score_of(self.scores, score)

    def table(self) -> pd.DataFrame:
        """Return the scores with their intervals.

        Returns
        -------
        DataFrame
            A copy of `scores`.
        """
        return self.scores.copy()

    def beside_published(self) -> pd.DataFrame:
        """Return the shares of this run above those that papers report.

        Returns
        -------
        DataFrame
            ``system``, a column a threshold in percent, ``how``. This run first, then the ceiling
            of its gallery; published rows where there is a protocol of the same thresholds.
        """
        return tables.beside_published(self)

    def to_markdown(self) -> str:
        """Return the evaluation as a page of Markdown.

        Returns
        -------
        str
            Leaks first; scores beside the published rows; by continent; how it was done, and
            what is missing.
        """
        return tables.to_markdown(self)

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the single pictures, fit for JSON.

        Returns
        -------
        dict
            ``record``, ``scores``, ``continents``, ``leakage``, ``lost`` (picture -> why it was
            not evaluated), ``published`` and ``notes``; missing numbers are None.
        """
        return tables.to_dict(self)

    def to_json(self) -> str:
        """Return `to_dict` as JSON.

        Returns
        -------
        str
            Indented, ends with a line break.
        """
        return json.dumps(self.to_dict(), indent=1, ensure_ascii=False) + "\n"

    def save(self, folder: "str | Path") -> Path:
        """Write the evaluation into a folder.

        Parameters
        ----------
        folder : str or Path
            Made if it is not there. Files of the same names are replaced: ``evaluation.json`` (the
            record and all scores), ``evaluation.md`` (for people), ``pictures.csv`` (a row a
            picture), ``errors.png`` (how many are within which distance) and ``error_map.png``
            (where the errors are).

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
            _write(path / "evaluation.json", self.to_json())
            _write(path / "evaluation.md", self.to_markdown())
            _write(path / "pictures.csv", self.rows.to_csv(index=False, lineterminator="\n"))
            self._draw(path)
        except OSError as error:
            raise TableError(f"{path} cannot be written to: {error.strerror or error}.") from error
        return path

    def _draw(self, path: Path) -> None:
        from geoembed.plot.axes import import_matplotlib
        from geoembed.plot.curves import cumulative_error_curve, distance_error_map

        plt = import_matplotlib("pyplot")
        known = self.rows[self.rows["km"].notna()]
        title = tables.title_of(self)
        ax = cumulative_error_curve(
            {"this run": known["km"]}, thresholds_km=self.thresholds_km, title=title
        )
        _save_figure(plt, ax, path / "errors.png")
        lonlat = known[["lon", "lat"]].to_numpy(np.float64)
        ax = distance_error_map(
            lonlat[:, 0], lonlat[:, 1], known["km"], thresholds_km=self.thresholds_km, title=title
        )
        _save_figure(plt, ax, path / "error_map.png")

    def __repr__(self) -> str:
        shares = self.scores[self.scores["unit"] == "%"]
        text = ", ".join(f"{row.score}: {row.value:.1f} %" for row in shares.itertuples())
        return f"<GeolocationReport of {self.evaluated:,} pictures: {text}>"


def _write(path: Path, text: str) -> None:
    write_atomically(path, lambda draft: draft.write_text(text, encoding="utf-8"))


def _save_figure(plt: Any, ax: Any, path: Path) -> None:
    write_atomically(path, lambda draft: ax.figure.savefig(draft, format="png", dpi=150))
    plt.close(ax.figure)
