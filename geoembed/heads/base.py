"""What every head is: a featurizer of places and a model on its vectors, as one estimator."""

import warnings
from abc import abstractmethod
from pathlib import Path
from typing import Any, ClassVar, Final, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, clone
from sklearn.utils.validation import _check_sample_weight

from geoembed.columns import name_rows
from geoembed.coordinates import Places
from geoembed.encoders.base import LocationEncoder
from geoembed.errors import CoordinateError, OptionError, TargetError
from geoembed.featurizer import LocationFeaturizer
from geoembed.heads import frames, holdout
from geoembed.heads.conformal import check_coverage, rows_needed
from geoembed.heads.duplicates import SharedPlaces, best_possible_score
from geoembed.heads.extras import check_extra_columns, encode_extras, fit_extras
from geoembed.heads.models.by_name import check_rows, forget_pairs, make_model, weights_for
from geoembed.heads.penalties import check_validation, validation_pairs
from geoembed.heads.predicting import Predicting
from geoembed.heads.reading import Target, read_target
from geoembed.heads.saving.description import bounding_box
from geoembed.heads.saving.keeping import Savable

__all__ = ["GeoembedHeadWarning", "LocationHead"]

# Probabilities without sets of labels: as many as sets of coverage 0.9 need.
_FEWEST_CALIBRATED: Final = 9


class GeoembedHeadWarning(UserWarning):
    """Something about a head that its user should know, such as intervals without an end."""


class LocationHead(Savable, Predicting, BaseEstimator):  # type: ignore[misc]
    """Base class of heads: X is a table of places, y is what is to be learned.

    A subclass says what it learns (`_encode_target`), what it predicts from features
    (`_predict_features`, `_columns_from`, see `geoembed.heads.predicting`), and how it calibrates
    (`_calibrate`).

    Parameters
    ----------
    featurizer : None, str, LocationEncoder or transformer
        What turns places into vectors: None stands for ``LocationFeaturizer(layers="best")``, a
        name or path for that encoder with its best layers, a loaded encoder for itself. A
        transformer is cloned.
    model : str or estimator
        What learns from the vectors; see `geoembed.heads.models.by_name.model_names`.
    extra_columns : str or sequence of str, optional
        Columns of X that join the vectors: numbers are standardised, text and categories become
        one column a value.
    coverage : float or None
        Nominal coverage of intervals or label sets; None for none.
    calibration : float, splitter or None
        Share of the rows, or a scikit-learn splitter whose first test part is taken (such as
        `geoembed.SpatialBlockKFold`), that the model does not learn from and that calibrates its
        uncertainty; None gives all rows to the model and leaves the uncertainty out.
    validation : {"spatial", "random"} or splitter
        Rows on which a model made by name chooses its penalty or number of neighbours: whole
        blocks of the Earth, as suits predictions for regions without training places, or rows at
        random, as suits filling gaps between them.
    random_state : int, RandomState or None
        Decides which rows calibrate and validate, and seeds models made by name.

    Attributes
    ----------
    featurizer_ : transformer
        In use.
    model_ : estimator
        Fitted on the vectors.
    target_names_ : tuple of str
        Names of the targets; empty where y carried none.
    shared_places_ : SharedPlaces or None
        Rows of one place with different targets, and the best possible score; None if the
        featurizer is one that reads places in its own way.
    bounds_ : (float, float, float, float) or None
        West, south, east and north of the places learned from, degrees, WGS 84; None where
        `shared_places_` is.
    n_features_in_ : int
        Number of columns that the places were read from.
    feature_names_in_ : array of str
        Names of those columns; only when X has column names.

    Examples
    --------
    >>> from geoembed.heads import LocationHead, make_head
    >>> isinstance(make_head("landcover"), LocationHead)
    True
    """

    _task: ClassVar[str]

    def __init__(
        self,
        featurizer: Any = None,
        model: Any = "ridge",
        *,
        extra_columns: Any = None,
        coverage: float | None = 0.9,
        calibration: Any = 0.2,
        validation: Any = "spatial",
        random_state: Any = 0,
    ) -> None:
        self.featurizer = featurizer
        self.model = model
        self.extra_columns = extra_columns
        self.coverage = coverage
        self.calibration = calibration
        self.validation = validation
        self.random_state = random_state

    # -- what a subclass writes ------------------------------------------------------------------

    @abstractmethod
    def _encode_target(self, target: Target) -> NDArray[Any]:
        """Check the targets, remember their names or classes, return what the model learns."""

    @abstractmethod
    def _calibrate(self, features: NDArray[np.float32], encoded: NDArray[Any]) -> None:
        """Learn the uncertainty from rows that the model has not seen."""

    @abstractmethod
    def _forget_calibration(self) -> None:
        """Set the learned state of `_calibrate` for a head without calibration."""

    # -- fitting ---------------------------------------------------------------------------------

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Learn to predict y at places.

        Parameters
        ----------
        X : GeoDataFrame, GeoSeries, DataFrame, geometries or array of shape (n, 2)
            Places: anything with a CRS, or (lon, lat) in degrees, WGS 84.
        y : str, list of str, array, Series or DataFrame
            Name of a column of X, or several where the head learns several; or the values, one
            row a place.
        sample_weight : array of shape (n,), optional
            Weight of every row in the model; calibration counts every row once.

        Returns
        -------
        LocationHead
            Itself.

        Raises
        ------
        CoordinateError
            If X cannot be read as places, or some are invalid.
        TargetError
            If targets are missing, not finite, or not of the kind that the head learns.
        TableError
            If a named column is not there, or X or y is a frame of dask.
        OptionError
            If a parameter is not one of those offered.
        """
        self._check_parameters()
        target = read_target(X, y)
        if len(target) < 2:
            raise TargetError(
                f"There is nothing to learn from: n_samples = {len(target)}, and a head needs two "
                "rows at least."
            )
        encoded = self._encode_target(target)
        self.featurizer_ = self._make_featurizer()
        features = self._fit_features(X, len(target))
        places = self._read_places(X)
        self._report_shared_places(X, places, encoded)
        check_rows(self.model, len(features))
        weights = None
        if sample_weight is not None:
            weights = _check_sample_weight(sample_weight, features, dtype=np.float64)
        learned, held = self._hold_out(X, encoded)
        lonlat = None if places is None else _one_each(places)
        if held is not None:
            lonlat = None if lonlat is None else lonlat[learned]
            weights = None if weights is None else weights[learned]
        taught = encoded if held is None else encoded[learned]
        self._fit_model(
            features if held is None else features[learned],
            taught,
            weights,
            validation_pairs(
                lonlat,
                taught if self._task == "classification" else None,
                self.validation,
                self.random_state,
            ),
        )
        if held is None:
            self._forget_calibration()
        else:
            self._calibrate(features[held], encoded[held])
        self.n_rows_ = len(features)
        return self

    def _check_parameters(self) -> None:
        check_coverage(self.coverage)
        check_extra_columns(self.extra_columns)
        holdout.check_calibration(self.calibration)
        check_validation(self.validation)
        # Before places are featurized, which takes time.
        self._make_model()

    def _make_model(self, pairs: Any = None) -> Any:
        return make_model(self.model, self._task, self.random_state, pairs)

    def _make_featurizer(self) -> Any:
        given = self.featurizer
        if given is None:
            return LocationFeaturizer(layers="best")
        if isinstance(given, LocationEncoder):
            return LocationFeaturizer(given)
        if isinstance(given, str | Path):
            return LocationFeaturizer(str(given), layers="best")
        if isinstance(given, type) or not hasattr(given, "transform"):
            raise OptionError(
                f"featurizer={given!r} is no name of an encoder and no transformer of places, "
                "such as LocationFeaturizer()."
            )
        return clone(given)

    def _read_places(self, X: Any) -> Places | None:
        """Read X as the featurizer does; None if that reads it in a way of its own."""
        try:
            return frames.read_as(self.featurizer_, X, "raise")
        except CoordinateError:
            return None

    def _report_shared_places(self, X: Any, places: Places | None, encoded: NDArray[Any]) -> None:
        """Warn of rows of one place with different targets, which no model can all fit."""
        self.shared_places_: SharedPlaces | None = None
        self.bounds_: tuple[float, float, float, float] | None = None
        if places is None:
            return
        names = check_extra_columns(self.extra_columns)
        self.bounds_ = bounding_box(places.lonlat)
        self.shared_places_ = best_possible_score(
            places, encoded, task=self._task, beside=X[names] if names else None
        )
        if self.shared_places_.rows:
            warnings.warn(str(self.shared_places_), GeoembedHeadWarning, stacklevel=3)

    def _fit_model(
        self, features: NDArray[np.float32], encoded: NDArray[Any], weights: Any, pairs: Any
    ) -> None:
        model = self._make_model(pairs)
        self.model_ = model.fit(features, encoded, **weights_for(model, weights))
        forget_pairs(self.model_)

    def _fit_features(self, X: Any, rows: int) -> NDArray[np.float32]:
        features = np.asarray(self.featurizer_.fit(X).transform(X))
        if len(features) != rows:
            raise TargetError(
                f"X has {len(features):,} rows and y {rows:,}: give one row of y for every place."
            )
        names = check_extra_columns(self.extra_columns)
        self.extras_ = fit_extras(X, names) if names else None
        return self._with_extras(features, X)

    def _with_extras(self, features: NDArray[Any], X: Any) -> NDArray[np.float32]:
        # One pass without a copy: a sum is finite only if every term is.
        bad = ~np.isfinite(features.sum(axis=1))
        if bad.any():
            index = X.index if isinstance(getattr(X, "index", None), pd.Index) else None
            index = pd.RangeIndex(len(features)) if index is None else index
            raise CoordinateError(
                f"{bad.sum():,} of {len(bad):,} rows have no finite vector: "
                f"{name_rows(index, bad)}. Leave those rows out of X and y."
            )
        features = features.astype(np.float32, copy=False)
        if self.extras_ is None:
            return features
        names = check_extra_columns(self.extra_columns)
        return np.hstack([features, encode_extras(self.extras_, X, names)])

    def _features(self, X: Any) -> NDArray[np.float32]:
        return self._with_extras(np.asarray(self.featurizer_.transform(X)), X)

    def _hold_out(self, X: Any, encoded: NDArray[Any]) -> tuple[Any, Any]:
        """Return rows to learn from and rows to calibrate on; (None, None) if none are held out."""
        coverage = check_coverage(self.coverage)
        labels = encoded if self._task == "classification" else None
        # Probabilities are calibrated whether or not there are sets of labels.
        if self.calibration is None or (coverage is None and labels is None):
            return None, None
        learned, held = holdout.split(X, labels, len(encoded), self.calibration, self.random_state)
        needed = _FEWEST_CALIBRATED if coverage is None else rows_needed(coverage)
        if len(held) < needed:
            purpose = "Calibration" if coverage is None else f"coverage={coverage:g}"
            warnings.warn(
                f"{purpose} needs {needed:,} rows to calibrate on and "
                f"calibration={self.calibration!r} leaves {len(held):,} of {len(encoded):,}: the "
                "model learns from all rows and the uncertainty is left open. Give more rows, a "
                "lower coverage, or calibration=None.",
                GeoembedHeadWarning,
                stacklevel=3,
            )
            return None, None
        return learned, held

    # -- scikit-learn ----------------------------------------------------------------------------

    @property
    def n_features_in_(self) -> int:
        """Number of columns that the places were read from."""
        return int(self._fitted_featurizer().n_features_in_)

    @property
    def feature_names_in_(self) -> NDArray[Any]:
        """Names of the columns that the places were read from."""
        return np.asarray(self._fitted_featurizer().feature_names_in_)

    def _fitted_featurizer(self) -> Any:
        # An AttributeError is what hasattr() and check_is_fitted() understand.
        return object.__getattribute__(self, "featurizer_")

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "model_")


def _one_each(places: Places) -> NDArray[np.float64]:
    """Return one place a row: the first of those that a shape is sampled at."""
    if places.owner is None:
        return places.lonlat
    return places.lonlat[np.searchsorted(places.owner, np.arange(len(places)))]
