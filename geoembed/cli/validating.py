"""How good a head is, in random folds and in space, beside what it has to beat."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Self

import geopandas as gpd
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.metrics import accuracy_score, mean_absolute_error, r2_score, recall_score
from sklearn.model_selection import KFold

from geoembed.coordinates import read_places
from geoembed.errors import OptionError, TargetError
from geoembed.featurizer import LocationFeaturizer
from geoembed.heads.labels.sets import split_labels
from geoembed.heads.models.by_name import make_model
from geoembed.heads.penalties import validation_pairs
from geoembed.progress import progress_bar
from geoembed.splits.block_splits import SpatialBlockKFold

__all__ = ["SPLITS", "ComputedFeaturizer", "Validation", "make_splits", "validate"]

SPLITS: Final = ("random", "spatial")
COORDINATES: Final = "xyz + kNN"

Folds = list[tuple[NDArray[np.intp], NDArray[np.intp]]]


class ComputedFeaturizer(LocationFeaturizer):
    """A featurizer whose vectors are computed once, and then looked up by row label."""

    def compute(self, X: gpd.GeoDataFrame) -> Self:
        """Compute the vectors of a table, whose row labels are all different."""
        self.fit(X)
        self._index = X.index
        self._vectors = super().transform(X)
        return self

    def transform(self, X: Any) -> Any:
        """Look up the vectors of rows of that table."""
        return self._vectors[self._index.get_indexer(X.index)]

    def __sklearn_clone__(self) -> Self:
        # A copy for every fold would hold all vectors again.
        return self


@dataclass
class Validation:
    """Scores of a head and of what it has to beat.

    Parameters
    ----------
    metrics : tuple of str
        Names of the scores, the deciding one first.
    scores : dict
        Split -> name -> metric -> score over all rows, each predicted by a model that has not
        seen its fold.
    by_fold : dict
        Split -> name -> deciding score of every fold.
    coverage : dict
        Split -> share of the intervals or label sets that hold the truth; None without any.
    notes : list of str
        What the reader should know.
    """

    metrics: tuple[str, ...]
    scores: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    by_fold: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    coverage: dict[str, float | None] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def verdict(self, head: str) -> str:
        """Say in a sentence whether the head beats the plain baselines in space."""
        metric = self.metrics[0]
        spatial = {name: found[metric] for name, found in self.scores["spatial"].items()}
        own = spatial.pop(head)
        best = max(spatial, key=lambda name: spatial[name])
        folds = zip(self.by_fold["spatial"][head], self.by_fold["spatial"][best], strict=True)
        won = sum(a > b for a, b in folds)
        count = len(self.by_fold["spatial"][head])
        if own > spatial[best]:
            return (
                f"In space {head} beats {best} by {own - spatial[best]:.3f} {metric}, in {won} of "
                f"{count} folds."
            )
        return (
            f"In space {head} does not beat {best}: {own:.3f} against {spatial[best]:.3f} "
            f"{metric}. For places far from these the baseline serves as well."
        )


def validate(
    head: Any,
    name: str,
    table: gpd.GeoDataFrame,
    targets: Sequence[str],
    task: str,
    splits: Mapping[str, Folds],
    *,
    geometry: str,
    validation: str = "spatial",
    seed: int,
    progress: bool | None,
) -> Validation:
    """Cross-validate a head in random folds and in blocks of the Earth, beside baselines.

    Parameters
    ----------
    head : LocationHead
        Not fitted; cloned for every fold.
    name : str
        What it is called.
    table : GeoDataFrame
        Targets, extra columns and places.
    targets : sequence of str
        Columns to learn.
    task : {"regression", "classification", "fractions"}
        What is learned.
    splits : mapping
        From `make_splits`.
    geometry : str
        What stands for a geometry that is not a point, in the baseline.
    validation : {"spatial", "random"}
        What the baseline chooses its number of neighbours on, as the head its penalty: blocks of
        the rows that it learns from, or some at random.
    seed : int
        Of the baseline.
    progress : bool or None
        Show a progress bar; None shows one on a terminal when the work is long.

    Returns
    -------
    Validation

    Raises
    ------
    TargetError
        If a fold leaves too little to learn from.
    """
    truth = table[list(targets)]
    if task != "classification":
        # They may be objects, such as decimals out of a file.
        truth = truth.astype(np.float64)
    lonlat = read_places(table, geometry=geometry).lonlat
    plain = _plain_models(task, lonlat, validation, seed)
    xyz = LocationFeaturizer("xyz", progress=False).transform(lonlat)
    found = Validation(_metrics(task, targets))
    if task == "classification":
        found.notes += _absent_classes(truth[targets[-1]].to_numpy(), splits)
    total = sum(map(len, splits.values())) * (1 + len(plain))
    with progress_bar(progress, text="validating", unit="fit", total=total) as bar:
        for split, parts in splits.items():
            frames: dict[str, list[pd.DataFrame]] = {}
            for at, (train, test) in enumerate(parts, 1):
                where = f"fold {at} of {len(parts)} of the {split} split"
                fitted = _fit(clone(head), table.iloc[train], targets, where)
                frames.setdefault(name, []).append(_predict(fitted, table.iloc[test], targets))
                bar.update()
                for label, make in plain.items():
                    model = make(train).fit(xyz[train], _flat(truth.iloc[train]))
                    predicted = np.asarray(model.predict(xyz[test])).reshape(len(test), -1)
                    frame = pd.DataFrame(predicted, index=truth.index[test], columns=list(targets))
                    frames.setdefault(label, []).append(frame)
                    bar.update()
            _score(found, split, frames, truth, task, parts)
            found.coverage[split] = _coverage(pd.concat(frames[name]), truth)
    return found


def make_splits(
    table: gpd.GeoDataFrame, *, folds: int, block_km: float, geometry: str, seed: int
) -> dict[str, Folds]:
    """Split a table twice: in random folds, and in folds of whole blocks of the Earth.

    Parameters
    ----------
    table : GeoDataFrame
        With places.
    folds : int
        Of both splits.
    block_km : float
        Side of the blocks, km.
    geometry : str
        What stands for a geometry that is not a point.
    seed : int
        Of both splits.

    Returns
    -------
    dict
        Split -> rows to learn from and rows to predict, fold by fold.

    Raises
    ------
    OptionError
        If the places lie in fewer blocks than there are folds; the message names a size that
        would do.
    """
    random = KFold(folds, shuffle=True, random_state=seed)
    spatial = SpatialBlockKFold(folds, block_km=block_km, geometry=geometry, random_state=seed)
    blocks = len(np.unique(spatial.block_ids(table)))
    if blocks < folds:
        raise OptionError(_too_few_blocks(table, blocks, folds, block_km, geometry))
    return {"random": list(random.split(table)), "spatial": list(spatial.split(table))}


def _too_few_blocks(
    table: gpd.GeoDataFrame, blocks: int, folds: int, block_km: float, geometry: str
) -> str:
    """Say that the blocks are too large, and which size would do."""
    size = block_km
    where = f"lie in {blocks} blocks" if blocks > 1 else "all lie in one block"
    text = f"The {len(table):,} places {where} of {size:g} km, and {folds} folds need {folds}."
    while size > 0.2:
        size /= 2
        splitter = SpatialBlockKFold(folds, block_km=size, geometry=geometry)
        # Twice as many, so that folds are of about one size.
        if len(np.unique(splitter.block_ids(table))) >= 2 * folds:
            return f"{text} Choose smaller blocks, such as block_km={float(f'{size:.2g}'):g}."
    return f"{text} They are too close together to be validated in space."


def _plain_models(
    task: str, lonlat: NDArray[np.float64], validation: str, seed: int
) -> dict[str, Callable[[NDArray[np.intp]], Any]]:
    """Models on the unit sphere that anything learned has to beat, by the rows they learn from."""

    def neighbours(rows: NDArray[np.intp], task: str = "regression") -> Any:
        pairs = validation_pairs(lonlat[rows], None, validation, seed)
        return make_model("knn", task, seed, pairs)

    if task == "classification":
        return {
            COORDINATES: lambda rows: _EachColumn(neighbours(rows, task)),
            "most frequent": lambda rows: _EachColumn(DummyClassifier()),
        }
    # The mean of shares is a share, and so is the mean over neighbours.
    return {COORDINATES: neighbours, "mean": lambda rows: DummyRegressor()}


class _EachColumn:
    """A classifier for every level of labels."""

    def __init__(self, model: Any) -> None:
        self._model = model

    def fit(self, X: Any, y: NDArray[Any]) -> Self:
        columns = y.reshape(len(y), -1).T
        self._fitted = [clone(self._model).fit(X, column) for column in columns]
        return self

    def predict(self, X: Any) -> NDArray[Any]:
        return np.stack([model.predict(X) for model in self._fitted], axis=1)


def _flat(frame: pd.DataFrame) -> NDArray[Any]:
    values = frame.to_numpy()
    if values.dtype == object:
        values = values.astype(str)
    return values[:, 0] if values.shape[1] == 1 else values


def _fit(head: Any, table: gpd.GeoDataFrame, targets: Sequence[str], where: str) -> Any:
    with warnings.catch_warnings():
        # Every fold would say it; what the fit on all rows says is told.
        warnings.simplefilter("ignore")
        try:
            return head.fit(table, targets[0] if len(targets) == 1 else list(targets))
        except TargetError as error:
            raise TargetError(
                f"{where.capitalize()} leaves too little to learn from: {error} Or choose blocks "
                "of another size with block_km=."
            ) from error


def _predict(head: Any, table: gpd.GeoDataFrame, targets: Sequence[str]) -> pd.DataFrame:
    """Predict, in columns named as the targets, with their ends and sets behind them."""
    out = head.predict_frame(table, overwrite=True)
    columns = {name: f"predicted_{name}" for name in targets}
    if not all(column in out.columns for column in columns.values()):
        predicted = np.asarray(head.predict(table)).reshape(len(table), -1)
        return pd.DataFrame(predicted, index=table.index, columns=list(targets))
    frame = pd.DataFrame({name: out[column] for name, column in columns.items()})
    for name, column in columns.items():
        for suffix in ("_lower", "_upper", "_set"):
            if column + suffix in out.columns:
                frame[name, suffix] = out[column + suffix]
    return frame


def _metrics(task: str, targets: Sequence[str]) -> tuple[str, ...]:
    if task != "classification":
        return ("R2", "RMSE", "MAE")
    if len(targets) == 1:
        return ("accuracy", "balanced accuracy")
    return tuple(f"accuracy of {name}" for name in reversed(targets))


def _score(
    found: Validation,
    split: str,
    frames: Mapping[str, list[pd.DataFrame]],
    truth: pd.DataFrame,
    task: str,
    parts: Folds,
) -> None:
    score = _score_labels if task == "classification" else _score_numbers
    found.scores[split] = {}
    found.by_fold[split] = {}
    for name, predicted in frames.items():
        whole = pd.concat(predicted).loc[truth.index]
        found.scores[split][name] = score(truth, whole)
        found.by_fold[split][name] = [
            score(truth.iloc[test], whole.iloc[test])[found.metrics[0]] for _, test in parts
        ]


def _score_numbers(truth: pd.DataFrame, predicted: pd.DataFrame) -> dict[str, float]:
    true = truth.to_numpy(dtype=np.float64)
    given = predicted[list(truth.columns)].to_numpy(dtype=np.float64)
    varies = (true != true[0]).any(axis=0)
    r2 = r2_score(true[:, varies], given[:, varies]) if varies.any() and len(true) > 1 else np.nan
    return {
        "R2": float(r2),
        "RMSE": float(np.sqrt(((true - given) ** 2).mean())),
        "MAE": float(mean_absolute_error(true, given)),
    }


def _score_labels(truth: pd.DataFrame, predicted: pd.DataFrame) -> dict[str, float]:
    pairs = {
        name: (truth[name].astype(str).to_numpy(), predicted[name].astype(str).to_numpy())
        for name in truth.columns
    }
    if len(pairs) > 1:
        return {f"accuracy of {n}": float(accuracy_score(*pairs[n])) for n in reversed(pairs)}
    true, given = next(iter(pairs.values()))
    recall = recall_score(true, given, average="macro", labels=np.unique(true), zero_division=0.0)
    return {"accuracy": float(accuracy_score(true, given)), "balanced accuracy": float(recall)}


def _coverage(predicted: pd.DataFrame, truth: pd.DataFrame) -> float | None:
    """Return the share of intervals or label sets that hold the truth, over all targets."""
    truth = truth.loc[predicted.index]
    held: list[float] = []
    for name in truth.columns:
        if (name, "_upper") in predicted.columns:
            lower, upper = predicted[name, "_lower"], predicted[name, "_upper"]
            if np.isinf(upper).all():
                return None
            held.append(float(((lower <= truth[name]) & (truth[name] <= upper)).mean()))
        elif (name, "_set") in predicted.columns:
            sets = map(split_labels, predicted[name, "_set"])
            inside = [str(t) in s for t, s in zip(truth[name], sets, strict=True)]
            held.append(sum(inside) / len(inside))
    return float(np.mean(held)) if held else None


def _absent_classes(labels: NDArray[Any], splits: Mapping[str, Folds]) -> list[str]:
    """Count the classes that some fold has to predict and cannot learn."""
    notes = []
    for split, parts in splits.items():
        absent: set[Any] = set()
        for train, test in parts:
            absent |= set(labels[test].tolist()) - set(labels[train].tolist())
        if absent:
            named = sorted(map(str, absent))
            more = f" and {len(named) - 5} more" if len(named) > 5 else ""
            notes.append(
                f"{len(named)} of {len(set(labels.tolist()))} classes lie in one fold of the "
                f"{split} split and cannot be predicted there: {', '.join(named[:5])}{more}."
            )
    return notes
