"""Regression kriging: the embedding explains the trend, the neighbours what it leaves."""

import warnings
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from sklearn.base import BaseEstimator, RegressorMixin, clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel
from sklearn.model_selection import KFold, cross_val_predict

from geoembed.coordinates import read_places
from geoembed.errors import OptionError
from geoembed.geodesy import EARTH_RADIUS_KM, to_unit_vectors
from geoembed.heads import LocationRegressor

__all__ = ["KrigingRegressor", "ResidualKriging"]

# Rows on which the covariance is fitted: enough for three parameters, and a matter of seconds.
_COVARIANCE_ROWS = 400


class KrigingRegressor(LocationRegressor):
    """Predict numbers at places by regression kriging.

    A linear model on the embedding gives the trend; what it leaves is interpolated between the
    nearest training places by simple kriging, with an exponential-like covariance (Matern 1/2)
    that is fitted to the leftovers. Near training places it follows them, far from all of them
    it is the trend alone.

    Parameters
    ----------
    featurizer, model, extra_columns, coverage, calibration, validation, random_state
        As in `geoembed.LocationRegressor`; `model` is that of the trend.
    neighbours : int
        Training places that every prediction looks at.

    Examples
    --------
    >>> import geoembed as ge
    >>> cities = ge.data.load_cities().head(300)
    >>> cities["north"] = cities["lat"].abs()
    >>> head = KrigingRegressor().fit(cities, "north")
    >>> head.predict(cities.head(2)).shape
    (2,)
    """

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
        neighbours: int = 24,
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
        self.neighbours = neighbours

    def _check_parameters(self) -> None:
        super()._check_parameters()
        if not isinstance(self.neighbours, int | np.integer) or self.neighbours < 1:
            raise OptionError(f"neighbours={self.neighbours!r} is no whole number of at least 1.")

    def _with_extras(self, features: NDArray[Any], X: Any) -> NDArray[np.float32]:
        # Points on the unit sphere ride along as the last three columns. float32 keeps them
        # to half a metre.
        options = {name: getattr(self.featurizer_, name, None) for name in ("crs",)}
        geometry = getattr(self.featurizer_, "geometry", "point")
        # The middle of a shape that the featurizer samples.
        places = read_places(
            X, geometry="centroid" if geometry == "sample" else geometry, **options
        )
        joined = super()._with_extras(features, X)
        points = to_unit_vectors(places.lonlat).astype(np.float32)
        return np.hstack([joined, points])

    def _fit_model(
        self, features: NDArray[np.float32], encoded: NDArray[Any], weights: Any, pairs: Any
    ) -> None:
        super()._fit_model(features[:, :-3], encoded, weights, pairs)
        self.model_ = ResidualKriging(self.model_, self.neighbours, self.random_state).fit(
            features, encoded
        )


class ResidualKriging(RegressorMixin, BaseEstimator):
    """A trend on all columns but the last three, kriging of its leftovers on those.

    Parameters
    ----------
    trend : estimator
        Fitted on the same rows.
    neighbours : int
        Training places that every prediction looks at.
    random_state : int, RandomState or None
        Decides on which rows the covariance is fitted.
    """

    def __init__(self, trend: Any, neighbours: int = 24, random_state: Any = 0) -> None:
        self.trend = trend
        self.neighbours = neighbours
        self.random_state = random_state

    def fit(self, X: NDArray[np.float32], y: NDArray[Any]) -> Self:
        """Learn the covariance of what the trend leaves, target by target."""
        self.flat_ = np.ndim(y) == 1
        targets = np.asarray(y, dtype=np.float64).reshape(len(X), -1)
        # Leftovers on rows that the trend has learned from would look too small.
        folds = KFold(5, shuffle=True, random_state=0)
        trend = clone(self.trend)
        unseen = cross_val_predict(trend, X[:, :-3], y, cv=folds).reshape(targets.shape)
        self.leftovers_ = targets - unseen
        self.points_ = X[:, -3:].astype(np.float64)
        self.covariances_ = [self._fit_covariance(column) for column in self.leftovers_.T]
        return self

    def predict(self, X: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the trend plus the kriged leftover of every row."""
        trend = np.asarray(self.trend.predict(X[:, :-3]), dtype=np.float64).reshape(len(X), -1)
        points = X[:, -3:].astype(np.float64)
        count = min(self.neighbours, len(self.points_))
        distances, rows = cKDTree(self.points_).query(points, k=count)
        distances, rows = distances.reshape(len(X), -1), rows.reshape(len(X), -1)
        near = self.points_[rows]
        between = np.linalg.norm(near[:, :, None] - near[:, None], axis=-1)
        for column, (sill, reach, noise) in enumerate(self.covariances_):
            system = sill * np.exp(-between / reach)
            system[:, np.arange(count), np.arange(count)] += noise
            weights = np.linalg.solve(system, (sill * np.exp(-distances / reach))[..., None])
            trend[:, column] += (weights[..., 0] * self.leftovers_[rows, column]).sum(axis=1)
        return trend[:, 0] if self.flat_ else trend

    @property
    def reach_km(self) -> list[float]:
        """Distance at which the covariance of every target has fallen to 1/e, in km."""
        return [reach * EARTH_RADIUS_KM for _, reach, _ in self.covariances_]

    def _fit_covariance(self, leftovers: NDArray[np.float64]) -> tuple[float, float, float]:
        """Return sill, reach (chord on the unit sphere) and noise."""
        spread = float(leftovers.var())
        if spread <= 1e-12:
            # The trend explains everything: nothing to krige.
            return 0.0, 1.0, 1.0
        random = np.random.default_rng(0 if self.random_state is None else self.random_state)
        rows = random.permutation(len(leftovers))[:_COVARIANCE_ROWS]
        kernel = ConstantKernel(0.5, (1e-3, 10.0)) * Matern(
            0.05, (1e-4, 1.0), nu=0.5
        ) + WhiteKernel(0.5, (1e-3, 10.0))
        with warnings.catch_warnings():
            # A parameter at the end of its range is an answer here: no noise, or no reach.
            warnings.simplefilter("ignore", ConvergenceWarning)
            fitted = GaussianProcessRegressor(kernel).fit(
                self.points_[rows], leftovers[rows] / np.sqrt(spread)
            )
        sill, reach, noise = np.exp(fitted.kernel_.theta)
        return float(sill * spread), float(reach), float(noise * spread)
