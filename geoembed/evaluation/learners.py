"""What learns in a comparison: a head on the vectors of one encoder, fold by fold."""

import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from geopandas.array import GeometryDtype
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.exceptions import ConvergenceWarning

from geoembed.coordinates import Places
from geoembed.encoders.base import LocationEncoder
from geoembed.errors import OptionError
from geoembed.evaluation.plans import Fold
from geoembed.evaluation.tasks import HEADS, Task
from geoembed.featurizer import LocationFeaturizer
from geoembed.heads import GeoembedHeadWarning, LocationHead, make_head

__all__ = ["HeadLearner", "Learner", "points_frame"]


class Learner(ABC):
    """Learns on the training rows of a fold and predicts its test rows."""

    @abstractmethod
    def predict(self, encoder: LocationEncoder, fold: Fold) -> list[NDArray[Any]]:
        """Return predictions (m,) or (m, t) of the test rows, one array for every initialisation.

        Parameters
        ----------
        encoder : LocationEncoder
            With the vectors of all places.
        fold : Fold
            Rows.

        Returns
        -------
        list of array
            At least one.
        """

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """Return what decides its predictions, fit for JSON."""


class HeadLearner(Learner):
    """A head on the vectors of an encoder.

    Parameters
    ----------
    X : GeoDataFrame
        Places, with the extra columns that the head takes.
    task : Task
        What is predicted.
    head : str, LocationHead or None
        Name of a head, or an unfitted one; None for the one of the task.
    model : str, estimator or None
        The head's model; None for its default, ``"mean"`` for the mean of the training rows or
        their most frequent label.
    extra_columns : sequence of str, optional
        Columns of X that a head given by name learns from too.
    random_state : int
        Of the head.

    Raises
    ------
    OptionError
        If the head or the model is not one of those offered.
    """

    def __init__(
        self,
        X: gpd.GeoDataFrame,
        task: Task,
        *,
        head: Any = None,
        model: Any = None,
        extra_columns: Any = None,
        random_state: int = 0,
    ) -> None:
        self._X = X
        self._task = task
        options = {"random_state": random_state, "extra_columns": extra_columns}
        # A kernel at the end of its range is no news: it may fit none.
        self._quiet = isinstance(model, str) and model == "gp"
        self._head = _make_head(task, head, model, options)

    def predict(self, encoder: LocationEncoder, fold: Fold) -> list[NDArray[Any]]:
        """Fit the head on the training rows and predict the test rows."""
        head = clone(self._head).set_params(featurizer=LocationFeaturizer(encoder, progress=False))
        with warnings.catch_warnings():
            # Rows of one place with different targets are told of once, not fold by fold; and a
            # class may well be absent from a fold.
            warnings.simplefilter("ignore", GeoembedHeadWarning)
            if self._quiet:
                warnings.simplefilter("ignore", ConvergenceWarning)
            head.fit(self._X.iloc[fold.train], self._labelled(fold.train))
        return [np.asarray(head.predict(self._X.iloc[fold.test]))]

    def describe(self) -> dict[str, Any]:
        """Return the type of the head and its parameters."""
        given = self._head.get_params(deep=True)
        given.pop("featurizer", None)
        parameters = {
            name: repr(value)
            for name, value in given.items()
            if not name.startswith("featurizer__")
        }
        kind = type(self._head)
        return {"head": f"{kind.__module__}.{kind.__qualname__}", "parameters": parameters}

    def _labelled(self, rows: NDArray[np.intp]) -> Any:
        """Targets under their names, which shares need for their classes."""
        values, index = self._task.values[rows], self._X.index[rows]
        if values.ndim == 1:
            return pd.Series(values, index=index, name=self._task.columns[0])
        return pd.DataFrame(values, index=index, columns=list(self._task.columns))


def points_frame(table: Any, places: Places) -> gpd.GeoDataFrame:
    """Return the table with a point a row on WGS 84, labelled by position.

    Parameters
    ----------
    table : GeoDataFrame, DataFrame or other places
        Columns are kept, but for geometries.
    places : Places
        Read from it, all valid.

    Returns
    -------
    GeoDataFrame
        Its points are `places`, bit by bit.
    """
    points = gpd.GeoSeries(shapely.points(places.lonlat), crs="EPSG:4326")
    if not isinstance(table, pd.DataFrame):
        return gpd.GeoDataFrame(geometry=points)
    kept = pd.DataFrame(table).reset_index(drop=True)
    plain = [not isinstance(dtype, GeometryDtype) for dtype in kept.dtypes]
    kept = kept.loc[:, plain].drop(columns="geometry", errors="ignore")
    return gpd.GeoDataFrame(kept, geometry=points)


def _make_head(task: Task, head: Any, model: Any, options: Mapping[str, Any]) -> Any:
    if isinstance(head, LocationHead):
        if model is not None:
            raise OptionError(
                "model= does not go with a head that has been made: give the head its model."
            )
        return clone(head)
    made = make_head(HEADS[task.kind] if head is None else head)
    offered = made.get_params(deep=False)
    wanted: dict[str, Any] = {**options, "coverage": None, "calibration": None}
    if model is not None:
        wanted["model"] = _model(task, model)
    if model is not None and "model" not in offered:
        raise OptionError(f"head={head!r} has no model to choose: leave model= out.")
    if "featurizer" not in offered:
        raise OptionError(
            f"head={head!r} has no featurizer to choose, so encoders cannot be compared with it."
        )
    made.set_params(**{name: value for name, value in wanted.items() if name in offered})
    return made


def _model(task: Task, model: Any) -> Any:
    if not isinstance(model, str) or model != "mean":
        return model
    if task.kind == "classification":
        return DummyClassifier(strategy="most_frequent")
    return DummyRegressor()
