"""Shares of classes at places, such as land-cover fractions, that stay shares."""

from typing import Any, ClassVar, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import kl_div
from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error

from geoembed.errors import OptionError, TargetError
from geoembed.heads.location import LocationRegressor
from geoembed.heads.models.by_name import forget_pairs, make_model
from geoembed.heads.models.links import (
    LINKS,
    alr,
    alr_inverse,
    ilr,
    ilr_inverse,
    nearest_shares,
    replace_zeros,
)
from geoembed.heads.reading import Target, check_names, read_target
from geoembed.heads.shares import read_shares, warn_of_absent

__all__ = ["LandCoverRegressor", "learns_by_softmax"]

# Models by name that learn shares with link="softmax"; the default first.
SOFTMAX_MODELS: Final = ("kernel", "logistic")

# Columns of `predict_frame` that are no class's, without "predicted_".
_OWN_COLUMNS = ("class",)


def learns_by_softmax(model: Any) -> bool:
    """Tell whether `model` is None or a name that ``link="softmax"`` takes."""
    return model is None or (isinstance(model, str) and model in SOFTMAX_MODELS)


class LandCoverRegressor(LocationRegressor):
    """Predict shares of classes at places: not negative, every row sums to 1.

    Parameters
    ----------
    featurizer : None, str, LocationEncoder or transformer
        What turns places into vectors, as in `LocationRegressor`.
    model : None, str or estimator
        What learns from the vectors. None stands for ``"kernel"``, which measured best on land
        cover. With ``link="softmax"`` there is ``"logistic"`` beside it, which is linear; the
        other links take every model of `LocationRegressor`.
    link : {None, "softmax", "identity", "alr", "ilr"}
        How predictions come to be shares. None stands for ``"softmax"`` where the model learns
        by it, and for ``"identity"`` with every other:

        - ``"softmax"``: softmax regression on the shares themselves, which minimises their
          Kullback-Leibler divergence; zeros need no replacement.
        - ``"identity"``: the model learns the shares, and what it predicts is moved to the nearest
          row of shares, which is never further from the truth.
        - ``"alr"``, ``"ilr"``: the model learns additive or isometric log-ratios. The reference of
          ``"alr"`` is the class with the largest mean share.
    epsilon : float
        With ``"alr"`` and ``"ilr"``, whose logarithms know no zero, smaller shares become this,
        and the others of the row shrink by as much; above 0 and below 1 / k. It decides: the
        smaller, the more rows of zeros pull; the larger, the worse rare classes come out.
    extra_columns : str or sequence of str, optional
        Columns of X that join the vectors, as in `LocationRegressor`.
    coverage : float or None
        Nominal coverage of the interval of every class, each for itself; None for none.
    calibration : float, splitter or None
        Rows that calibrate the intervals, as in `LocationRegressor`.
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
    classes_ : array of str, shape (k,)
        Names of the classes in the order of y; their numbers where y carried no names.
    target_names_ : tuple of str
        The same; empty where y carried none.
    reference_ : int or None
        With ``"alr"``, the column of the reference class.
    radius_ : array of shape (k,) or None
        Half the width of every class's interval before it is cut at 0 and 1; None without
        calibration.
    shared_places_ : SharedPlaces or None
        Rows of one place with different shares, and the best possible score.
    n_features_in_ : int
        Number of columns that the places were read from.
    feature_names_in_ : array of str
        Names of those columns; only when X has column names.

    Notes
    -----
    Rows of y may miss the sum of 1 by 0.1 % and are then rescaled; anything more is an error. A
    class that is 0 everywhere is kept, with a warning: predictions of it mean nothing.

    Examples
    --------
    >>> import geoembed as ge
    >>> cities = ge.data.load_cities().head(300)
    >>> cities["north"] = (cities["lat"] + 90) / 180
    >>> cities["south"] = 1 - cities["north"]
    >>> head = LandCoverRegressor().fit(cities, ["north", "south"])
    >>> head.predict(cities.head(2)).sum(axis=1).round(9).tolist()
    [1.0, 1.0]
    >>> list(head.predict_frame(cities.head(2)).columns[-4:])
    ['predicted_south', 'predicted_south_lower', 'predicted_south_upper', 'predicted_class']
    """

    _task: ClassVar[str] = "regression"

    def __init__(
        self,
        featurizer: Any = None,
        model: Any = None,
        *,
        link: str | None = None,
        epsilon: float = 3e-3,
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
        self.link = link
        self.epsilon = epsilon

    def predict_interval(self, X: Any) -> NDArray[np.float64]:
        """Return the lower and upper end of the interval of every class.

        Parameters
        ----------
        X : GeoDataFrame, GeoSeries, DataFrame, geometries or array of shape (n, 2)
            Places; with the extra columns, if there are any.

        Returns
        -------
        array of shape (n, k, 2), float64
            Lower end first, both in [0, 1].

        Raises
        ------
        OptionError
            If the head was fitted without calibration.
        """
        return np.clip(super().predict_interval(X), 0.0, 1.0)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return R2, the mean over the classes.

        Parameters
        ----------
        X : GeoDataFrame, GeoSeries, DataFrame, geometries or array of shape (n, 2)
            Places; with the extra columns, if there are any.
        y : list of str, DataFrame or array of shape (n, k)
            True shares, as in `fit`.
        sample_weight : array of shape (n,), optional
            Weight of every row.

        Returns
        -------
        float
            At most 1. Classes whose share is the same in all rows of y, such as one that is not
            there, have no R2 and do not count.
        """
        truth = self._read_truth(X, y)
        varies = np.ptp(truth, axis=0) > 0.0
        counted = varies if varies.any() else ~varies
        predicted = self.predict(X)
        return float(
            r2_score(truth[:, counted], predicted[:, counted], sample_weight=sample_weight)
        )

    def report(self, X: Any, y: Any, sample_weight: Any = None) -> pd.DataFrame:
        """Return errors of every class, and of all.

        Parameters
        ----------
        X : GeoDataFrame, GeoSeries, DataFrame, geometries or array of shape (n, 2)
            Places; with the extra columns, if there are any.
        y : list of str, DataFrame or array of shape (n, k)
            True shares, as in `fit`.
        sample_weight : array of shape (n,), optional
            Weight of every row, such as the cosine of the latitude.

        Returns
        -------
        DataFrame
            A row a class and a last row ``"all"``. Columns: ``"share"``, the mean true share;
            ``"R2"``, NaN where the share is the same in all rows; ``"RMSE"`` and ``"MAE"``, in
            shares; ``"KL"``, the class's part of the Kullback-Leibler divergence of the prediction
            from the truth, in nats, mean over rows. Row ``"all"`` has the sums of ``"share"`` and
            ``"KL"``, which is the whole divergence, and the means of the others over the classes,
            of R2 over those that have one.

        Notes
        -----
        A class that is there and of which exactly 0 is predicted makes the divergence infinite;
        ``link="identity"`` does so, the other links do not.

        Examples
        --------
        >>> import geoembed as ge
        >>> cities = ge.data.load_cities().head(300)
        >>> north = (cities["lat"] + 90) / 180
        >>> shares = pd.DataFrame({"north": north, "south": 1 - north})
        >>> head = LandCoverRegressor().fit(cities, shares)
        >>> head.report(cities, shares).shape
        (3, 5)
        """
        truth = self._read_truth(X, y)
        predicted = self.predict(X)
        how = {"sample_weight": sample_weight, "multioutput": "raw_values"}
        r2 = np.asarray(r2_score(truth, predicted, **how))
        divergence = kl_div(truth, predicted)
        table = pd.DataFrame(
            {
                "share": np.average(truth, axis=0, weights=sample_weight),
                "R2": np.where(np.ptp(truth, axis=0) > 0.0, r2, np.nan),
                "RMSE": root_mean_squared_error(truth, predicted, **how),
                "MAE": mean_absolute_error(truth, predicted, **how),
                "KL": np.average(divergence, axis=0, weights=sample_weight),
            },
            index=pd.Index(self.classes_, name="class"),
        )
        table.loc["all"] = table.mean()
        table.loc["all", ["share", "KL"]] = table.iloc[:-1][["share", "KL"]].sum()
        return table

    # -- what LocationHead asks for --------------------------------------------------------------

    def _check_parameters(self) -> None:
        if self.link is not None and self.link not in LINKS:
            raise OptionError(
                f"link={self.link!r} is not offered: choose {', '.join(map(repr, LINKS))}, or None "
                "for what suits the model."
            )
        super()._check_parameters()

    @property
    def _link(self) -> str:
        if self.link is not None:
            return self.link
        of_shares = not isinstance(self.model, type) and hasattr(self.model, "fit_fractions")
        return "softmax" if of_shares or learns_by_softmax(self.model) else "identity"

    def _make_model(self, pairs: Any = None) -> Any:
        if self._link != "softmax":
            given = "kernel" if self.model is None else self.model
            return make_model(given, "regression", self.random_state, pairs)
        if learns_by_softmax(self.model):
            given = SOFTMAX_MODELS[0] if self.model is None else self.model
            return make_model(given, "classification", self.random_state, pairs)
        if isinstance(self.model, type) or not hasattr(self.model, "fit_fractions"):
            raise OptionError(
                f"link='softmax' learns with model='kernel' or 'logistic', and model="
                f"{self.model!r} is another: leave model= out, or choose link='identity', 'alr' or "
                "'ilr'."
            )
        return make_model(self.model, "classification", self.random_state)

    def _encode_target(self, target: Target) -> NDArray[np.float64]:
        shares = read_shares(target)
        check_names(target.names, _OWN_COLUMNS)
        classes = shares.shape[1]
        self.target_names_ = target.names
        self.classes_ = np.asarray(target.names or [str(at) for at in range(classes)])
        self.flat_ = False
        self.reference_ = int(shares.mean(axis=0).argmax()) if self._link == "alr" else None
        if self._link in ("alr", "ilr"):
            replace_zeros(shares[:1], self.epsilon)  # refuses what does not fit, before the work
        warn_of_absent(shares, self.classes_)
        return shares

    def _fit_model(
        self, features: NDArray[np.float32], encoded: NDArray[Any], weights: Any, pairs: Any
    ) -> None:
        if self._link != "softmax":
            super()._fit_model(features, self._linked(encoded), weights, pairs)
            return
        model = self._make_model(pairs)
        self.model_ = model.fit_fractions(features, encoded, sample_weight=weights)
        forget_pairs(self.model_)

    def _linked(self, shares: NDArray[np.float64]) -> NDArray[np.float64]:
        if self._link == "identity":
            return shares
        positive = replace_zeros(shares, self.epsilon)
        return ilr(positive) if self.reference_ is None else alr(positive, self.reference_)

    def _predict_features(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        if self._link == "softmax":
            shares = np.asarray(self.model_.predict_proba(features), dtype=np.float64)
        else:
            raw = np.asarray(self.model_.predict(features), dtype=np.float64)
            raw = raw.reshape(len(features), -1)
            if self._link == "identity":
                shares = nearest_shares(raw)
            elif self.reference_ is None:
                shares = ilr_inverse(raw)
            else:
                shares = alr_inverse(raw, self.reference_)
        return np.asarray(shares / shares.sum(axis=1, keepdims=True))

    def _columns_from(self, features: NDArray[np.float32]) -> dict[str, Any]:
        columns = super()._columns_from(features)
        shares = np.column_stack([columns[self._column(name)] for name in self.classes_])
        for name, values in columns.items():
            columns[name] = np.clip(values, 0.0, 1.0)
        codes = shares.argmax(axis=1)
        categories = pd.Index(self.classes_)
        columns[self._column("class")] = pd.Categorical.from_codes(codes, categories)
        return columns

    def _read_truth(self, X: Any, y: Any) -> NDArray[np.float64]:
        """Read true shares in the order of `classes_`."""
        target = read_target(X, y)
        shares = read_shares(target)
        if target.names and self.target_names_ and target.names != self.target_names_:
            if sorted(target.names) != sorted(self.target_names_):
                raise TargetError(
                    f"y has the classes {', '.join(target.names)}; the head was fitted to "
                    f"{', '.join(self.target_names_)}."
                )
            shares = shares[:, [target.names.index(name) for name in self.target_names_]]
        if shares.shape[1] != len(self.classes_):
            raise TargetError(
                f"y has {shares.shape[1]} classes; the head was fitted to {len(self.classes_)}."
            )
        return shares
