"""The general heads: numbers and labels at places."""

from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import ClassifierMixin, RegressorMixin
from sklearn.metrics import accuracy_score, r2_score
from sklearn.multioutput import MultiOutputRegressor
from sklearn.utils.validation import check_is_fitted

from geoembed.errors import OptionError
from geoembed.heads.base import LocationHead
from geoembed.heads.conformal import conformal_radius
from geoembed.heads.labels.columns import label_columns
from geoembed.heads.models.temperature import fit_temperature, soften
from geoembed.heads.reading import Target, check_names, read_labels, read_numbers, read_target
from geoembed.scalars import check_count

__all__ = ["LocationClassifier", "LocationRegressor"]


class LocationRegressor(RegressorMixin, LocationHead):  # type: ignore[misc]
    """Predict numbers at places, each with an interval.

    Parameters
    ----------
    featurizer : None, str, LocationEncoder or transformer
        What turns places into vectors: None stands for ``LocationFeaturizer(layers="best")``, a
        name or path for that encoder with its best layers, a loaded encoder for itself. A
        transformer is cloned.
    model : {"ridge", "kernel", "knn", "mlp", "gbm", "gp"} or estimator
        What learns from the vectors: ridge regression whose penalty is chosen on rows held out,
        kernel regression (`PathKernel`: often better, slower beyond ten thousand rows), nearest
        neighbours, a neural network, gradient-boosted trees, a Gaussian process (up to
        3,000 rows), or any scikit-learn regressor.
    extra_columns : str or sequence of str, optional
        Columns of X that join the vectors: numbers are standardised, text and categories become
        one column a value.
    coverage : float or None
        Nominal coverage of the intervals; None for none.
    calibration : float, splitter or None
        Share of the rows, or a scikit-learn splitter whose first test part is taken (such as
        `geoembed.SpatialBlockKFold`), that calibrates the intervals and that the model does not
        learn from. None gives all rows to the model and leaves the intervals out.
    validation : {"spatial", "random"} or splitter
        Rows on which a model made by name chooses its penalty or number of neighbours: whole
        blocks of the Earth, as suits regions without training places, or rows at random, as suits
        gaps between them.
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
    radius_ : array of shape (t,) or None
        Half the width of every target's interval; None without calibration.
    n_features_in_ : int
        Number of columns that the places were read from.
    feature_names_in_ : array of str
        Names of those columns; only when X has column names.

    Notes
    -----
    Intervals are split-conformal on absolute errors (`geoembed.heads.conformal`): they hold the
    truth at the nominal rate for new places scattered like those of the training table, not for
    regions that it leaves out.

    Examples
    --------
    >>> import geoembed as ge
    >>> cities = ge.data.load_cities().head(200)
    >>> cities["north"] = cities["lat"].abs()
    >>> head = ge.LocationRegressor().fit(cities, "north")
    >>> list(head.predict_frame(cities.head(2)).columns[-3:])
    ['predicted_north', 'predicted_north_lower', 'predicted_north_upper']
    """

    _task: ClassVar[str] = "regression"

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
        super().__init__(
            featurizer,
            model,
            extra_columns=extra_columns,
            coverage=coverage,
            calibration=calibration,
            validation=validation,
            random_state=random_state,
        )

    def predict_interval(self, X: Any) -> NDArray[np.float64]:
        """Return the lower and upper end of every prediction's interval.

        Parameters
        ----------
        X : GeoDataFrame, GeoSeries, DataFrame, geometries or array of shape (n, 2)
            Places; with the extra columns, if there are any.

        Returns
        -------
        array of shape (n, 2) or (n, t, 2), float64
            Lower end first.

        Raises
        ------
        OptionError
            If the head was fitted without calibration.
        """
        check_is_fitted(self)
        if self.radius_ is None:
            raise OptionError(
                "There are no intervals: the head was fitted with coverage=None, calibration=None "
                "or too few rows."
            )
        middle = self.predict(X)
        radius = self.radius_ if middle.ndim == 2 else self.radius_[0]
        return np.stack([middle - radius, middle + radius], axis=-1)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return R2, the mean over the targets.

        Parameters
        ----------
        X : GeoDataFrame, GeoSeries, DataFrame, geometries or array of shape (n, 2)
            Places; with the extra columns, if there are any.
        y : str, list of str, array, Series or DataFrame
            True values, as in `fit`.
        sample_weight : array of shape (n,), optional
            Weight of every row.

        Returns
        -------
        float
            At most 1; as `sklearn.metrics.r2_score` has it.
        """
        truth = read_numbers(read_target(X, y))
        return float(r2_score(truth, self.predict(X), sample_weight=sample_weight))

    def _fit_model(
        self, features: NDArray[np.float32], encoded: NDArray[Any], weights: Any, pairs: Any
    ) -> None:
        one_each = self.model == "gbm" or isinstance(self.model, MultiOutputRegressor)
        if encoded.size == len(encoded):
            # Of one target, some models want a vector and a model a target wants a table.
            encoded = encoded.reshape((-1, 1) if one_each else -1)
        super()._fit_model(features, encoded, weights, pairs)

    def _encode_target(self, target: Target) -> NDArray[np.float64]:
        numbers = read_numbers(target)
        check_names(target.names)
        self.target_names_ = target.names
        self.flat_ = target.values.ndim == 1
        return numbers[:, 0] if self.flat_ else numbers

    def _predict_features(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        predicted = np.asarray(self.model_.predict(features), dtype=np.float64)
        return predicted.reshape(len(features) if self.flat_ else (len(features), -1))

    def _calibrate(self, features: NDArray[np.float32], encoded: NDArray[Any]) -> None:
        errors = np.abs(self._predict_features(features) - encoded).reshape(len(features), -1)
        self.radius_: NDArray[np.float64] | None = conformal_radius(
            errors, float(self.coverage or 0.0)
        )

    def _forget_calibration(self) -> None:
        self.radius_ = None

    def _columns_from(self, features: NDArray[np.float32]) -> dict[str, Any]:
        predicted = self._predict_features(features).reshape(len(features), -1)
        columns: dict[str, Any] = {}
        for at, values in enumerate(predicted.T):
            name = self._column(self._target_name(at))
            columns[name] = values
            if self.coverage is not None and self.calibration is not None:
                radius = np.inf if self.radius_ is None else self.radius_[at]
                columns[f"{name}_lower"] = values - radius
                columns[f"{name}_upper"] = values + radius
        return columns

    def _target_name(self, at: int) -> str:
        if self.target_names_:
            return str(self.target_names_[at])
        return "" if self.flat_ else str(at)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags


class LocationClassifier(ClassifierMixin, LocationHead):  # type: ignore[misc]
    """Predict labels at places, with calibrated probabilities.

    Parameters
    ----------
    featurizer : None, str, LocationEncoder or transformer
        What turns places into vectors, as in `LocationRegressor`.
    model : {"logistic", "kernel", "knn", "mlp", "gbm", "gp"} or estimator
        What learns from the vectors: multinomial logistic regression whose penalty is chosen on
        rows held out, or another as in `LocationRegressor`; a scikit-learn classifier with
        ``predict_proba``.
    extra_columns : str or sequence of str, optional
        Columns of X that join the vectors, as in `LocationRegressor`.
    coverage : float or None
        Nominal coverage of label sets, which `RegionClassifier` gives; None for none. Probabilities
        are calibrated either way.
    calibration : float, splitter or None
        Share of the rows of every class, or a scikit-learn splitter whose first test part is
        taken, that calibrates the probabilities and that the model does not learn from. None
        gives all rows to the model; there are scores then, and no probabilities.
    validation : {"spatial", "random"} or splitter
        Rows on which a model made by name chooses its penalty or number of neighbours: whole
        blocks of the Earth, as suits regions without training places, or rows at random, as suits
        gaps between them.
    random_state : int, RandomState or None
        Decides which rows calibrate and validate, and seeds models made by name.
    top_k : int
        How many labels `predict_frame` gives a place, the most probable first.

    Attributes
    ----------
    featurizer_ : transformer
        In use.
    model_ : estimator
        Fitted on the vectors.
    classes_ : array of shape (k,)
        The labels, sorted.
    target_names_ : tuple of str
        Name of the target; empty where y carried none.
    temperature_ : float or None
        By which logarithms of probabilities are divided; None without calibration.
    n_features_in_ : int
        Number of columns that the places were read from.
    feature_names_in_ : array of str
        Names of those columns; only when X has column names.

    Notes
    -----
    Probabilities are calibrated by temperature scaling (Guo, Pleiss, Sun, Weinberger: On
    calibration of modern neural networks. ICML 2017), which keeps the order of the labels.

    Examples
    --------
    >>> import geoembed as ge
    >>> cities = ge.data.load_cities().head(300)
    >>> cities["half"] = ["north" if lat > 20 else "south" for lat in cities["lat"]]
    >>> head = ge.LocationClassifier().fit(cities, "half")
    >>> list(head.predict_frame(cities.head(2)).columns[-2:])
    ['predicted_half', 'predicted_half_probability']
    """

    _task: ClassVar[str] = "classification"

    def __init__(
        self,
        featurizer: Any = None,
        model: Any = "logistic",
        *,
        extra_columns: Any = None,
        coverage: float | None = 0.9,
        calibration: Any = 0.2,
        validation: Any = "spatial",
        random_state: Any = 0,
        top_k: int = 1,
    ) -> None:
        super().__init__(
            featurizer,
            model,
            extra_columns=extra_columns,
            coverage=coverage,
            calibration=calibration,
            validation=validation,
            random_state=random_state,
        )
        self.top_k = top_k

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Return the probability of every class at places.

        Parameters
        ----------
        X : GeoDataFrame, GeoSeries, DataFrame, geometries or array of shape (n, 2)
            Places; with the extra columns, if there are any.

        Returns
        -------
        array of shape (n, k), float64
            In the order of `classes_`, rows sum to 1; calibrated unless ``calibration=None``.
        """
        return self._in_blocks(X, self._probabilities)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return the accuracy: the share of rows whose label is predicted.

        Parameters
        ----------
        X : GeoDataFrame, GeoSeries, DataFrame, geometries or array of shape (n, 2)
            Places; with the extra columns, if there are any.
        y : str, array or Series
            True labels, as in `fit`; some may be new.
        sample_weight : array of shape (n,), optional
            Weight of every row.

        Returns
        -------
        float
            Between 0 and 1.
        """
        truth = read_labels(read_target(X, y), minimum=1)
        return float(accuracy_score(truth, self.predict(X), sample_weight=sample_weight))

    def _encode_target(self, target: Target) -> NDArray[Any]:
        labels = read_labels(target)
        self.target_names_ = target.names
        self.classes_ = np.unique(labels)
        return labels

    def _check_parameters(self) -> None:
        super()._check_parameters()
        check_count("top_k", self.top_k)

    def _probabilities(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        raw = self.model_.predict_proba(features)
        temperature = 1.0 if self.temperature_ is None else self.temperature_
        return soften(_spread(raw, self.model_.classes_, self.classes_), temperature)

    def _predict_features(self, features: NDArray[np.float32]) -> NDArray[Any]:
        return np.asarray(self.classes_[self._probabilities(features).argmax(axis=1)])

    def _calibrate(self, features: NDArray[np.float32], encoded: NDArray[Any]) -> None:
        self.temperature_ = None
        codes = np.searchsorted(self.classes_, encoded)
        self.temperature_ = fit_temperature(self._probabilities(features), codes)

    def _forget_calibration(self) -> None:
        self.temperature_ = None

    def _columns_from(self, features: NDArray[np.float32]) -> dict[str, Any]:
        # Only what is calibrated is called a probability.
        kind = "score" if self.temperature_ is None else "probability"
        name = self._column(self.target_names_[0] if self.target_names_ else "")
        probabilities = self._probabilities(features)
        return label_columns(
            name,
            probabilities.argmax(axis=1),
            probabilities,
            self.classes_,
            kind=kind,
            top_k=self.top_k,
            sets=None,
        )


def _spread(raw: ArrayLike, known: NDArray[Any], classes: NDArray[Any]) -> NDArray[np.float64]:
    """Put the probabilities of the classes that a model has learned beside those it has not."""
    values = np.asarray(raw, dtype=np.float64)
    if len(known) == len(classes):
        return values
    spread = np.zeros((len(values), len(classes)))
    spread[:, np.searchsorted(classes, known)] = values
    return spread
