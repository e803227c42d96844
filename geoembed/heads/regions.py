"""The head for regions: labels of one level or several, from columns or from polygons."""

from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.utils import _safe_indexing
from sklearn.utils.validation import check_is_fitted

from geoembed.errors import OptionError, TargetError
from geoembed.heads.labels.columns import label_columns
from geoembed.heads.labels.hierarchy import join_paths, name_levels, read_levels, read_regions
from geoembed.heads.labels.rare import check_rare, settle_rare
from geoembed.heads.labels.scores import score_levels
from geoembed.heads.labels.sets import conformal_threshold, join_labels, label_sets
from geoembed.heads.labels.tree import LabelTree, find_codes, find_level
from geoembed.heads.location import LocationClassifier
from geoembed.heads.reading import Target

__all__ = ["RegionClassifier"]


class RegionClassifier(LocationClassifier):
    """Predict the regions that places belong to, with label sets and consistent hierarchies.

    Parameters
    ----------
    featurizer : None, str, LocationEncoder or transformer
        What turns places into vectors, as in `LocationRegressor`.
    model : {"logistic", "kernel", "knn", "mlp", "gbm", "gp"} or estimator
        What learns from the vectors, as in `LocationClassifier`.
    extra_columns : str or sequence of str, optional
        Columns of X that join the vectors, as in `LocationRegressor`.
    coverage : float or None
        Nominal share of the label sets that hold the true label; None for no sets.
    calibration : float, splitter or None
        Rows that calibrate, as in `LocationClassifier`; with None there are scores, and neither
        probabilities nor sets.
    validation : {"spatial", "random"} or splitter
        Rows on which a model made by name chooses its penalty, as in `LocationRegressor`.
    random_state : int, RandomState or None
        Decides which rows calibrate and validate, and seeds models made by name.
    top_k : int
        How many labels `predict_frame` gives a place at each level.
    label : str or list of str, optional
        Column of the polygons that holds their label, or columns coarse to fine, where y is a
        GeoDataFrame of polygons.
    nearest_km : float, optional
        A place in no polygon gets the label of the nearest within so many km; else it is an error.
    sets : {"nested", "separate"}
        With several levels: the set of a coarse level holds the labels above that of the finest
        (all are right together at the nominal rate), or each level has a smaller one of its own.
    rare : {"keep", "merge", "drop"}
        Classes of fewer than `min_rows` rows stay, become `other_label`, or are not learned, with
        a warning that counts them.
    min_rows : int
        Classes of fewer rows are rare; unused with ``rare="keep"``.
    other_label : label
        What rare classes are merged into, each under the finest label above it that is not rare.

    Attributes
    ----------
    featurizer_ : transformer
        In use.
    model_ : estimator
        Fitted on the vectors.
    classes_ : array of shape (k,)
        The labels, sorted; with several levels paths, such as ``"Asia > Georgia"``.
    paths_ : tuple of arrays of shape (k,)
        Label of every class at each level.
    target_names_ : tuple of str
        Names of the levels; empty where y carried none.
    temperature_ : float or None
        By which logarithms of probabilities are divided; None without calibration.
    thresholds_ : array of shape (1,) or (levels,), or None
        What 1 - probability of a label must not exceed to belong to a set: at the finest level,
        or at each with ``sets="separate"``; None without calibration.
    rare_ : dict
        Name of every class that was merged or dropped, and its rows.
    n_features_in_ : int
        Number of columns that the places were read from.
    feature_names_in_ : array of str
        Names of those columns; only when X has column names.

    Notes
    -----
    With labels of several levels a class is a path, so that a name under two parents is two
    classes. The probability of a coarse label is the sum over the classes under it. Predictions go
    from the top down: the most probable label of the coarsest level, then the most probable one
    under it, and so on; at finer levels a label of another branch can be more probable.

    Sets are those of least ambiguity by MAPIE (`geoembed.heads.labels.sets`), with the predicted
    label in each. MAPIE finds the threshold in `fit`; the head keeps this one number, so that a
    saved head is plain. Sets hold the truth at the nominal rate for new places scattered like those
    of the training table, on average over all classes: rare classes, borders and regions without
    training places are covered less (countries of the world, coverage 0.9: 94 % of random places,
    87 % in held-out blocks of 500 km). Where the model is right more often than `coverage`, most
    sets are single labels; a higher coverage shows the alternatives.

    Examples
    --------
    >>> import geoembed as ge
    >>> cities = ge.data.load_cities().head(400)
    >>> cities["side"] = ["east" if lon > 60 else "west" for lon in cities["lon"]]
    >>> cities["part"] = ["north" if lat > 25 else "south" for lat in cities["lat"]]
    >>> head = ge.RegionClassifier("xyz").fit(cities, ["side", "part"])
    >>> head.classes_.tolist()
    ['east > north', 'east > south', 'west > north', 'west > south']
    >>> list(head.predict_frame(cities.head(2)).columns[-3:])
    ['predicted_part', 'predicted_part_probability', 'predicted_part_set']
    """

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
        label: Any = None,
        nearest_km: float | None = None,
        sets: str = "nested",
        rare: str = "keep",
        min_rows: int = 10,
        other_label: Any = "other",
    ) -> None:
        super().__init__(
            featurizer,
            model,
            extra_columns=extra_columns,
            coverage=coverage,
            calibration=calibration,
            validation=validation,
            random_state=random_state,
            top_k=top_k,
        )
        self.label = label
        self.nearest_km = nearest_km
        self.sets = sets
        self.rare = rare
        self.min_rows = min_rows
        self.other_label = other_label

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Learn to predict regions.

        Parameters
        ----------
        X : GeoDataFrame, GeoSeries, DataFrame, geometries or array of shape (n, 2)
            Places: anything with a CRS, or (lon, lat) in degrees, WGS 84.
        y : str, list of str, array, Series, DataFrame, or GeoDataFrame of polygons
            Name of a column of X, or names of several, coarse to fine; the labels, one row a
            place and one column a level; or polygons, whose column `label` says what a place
            inside is.
        sample_weight : array of shape (n,), optional
            Weight of every row in the model; calibration counts every row once.

        Returns
        -------
        RegionClassifier
            Itself.

        Raises
        ------
        CoordinateError
            If X cannot be read as places, or some are invalid.
        TargetError
            If a label is missing at any level, there is a single class, or a place lies in no
            polygon.
        TableError
            If a named column is not there.
        OptionError
            If a parameter is not one of those offered.

        Warns
        -----
        GeoembedHeadWarning
            If rare classes are merged or dropped, or there are too few rows to calibrate on.
        """
        self._check_parameters()
        target = read_regions(X, y, self._make_featurizer(), self.label, self.nearest_km)
        levels, kept, self.rare_ = settle_rare(
            read_levels(target), self.rare, self.min_rows, self.other_label
        )
        if len(kept) < len(target):
            X = _safe_indexing(X, kept)
            if sample_weight is not None:
                sample_weight = _safe_indexing(sample_weight, kept)
        classes = join_paths(levels)
        self.classes_, first = np.unique(classes, return_index=True)
        if len(self.classes_) == 1:
            raise TargetError(
                f"There is only 1 class, {self.classes_[0].item()!r}: a classifier needs at least "
                "two. Check the labels and min_rows, or add places of another class."
            )
        self.paths_ = tuple(level[first] for level in levels)
        self.target_names_ = name_levels(target, self.top_k)
        return super().fit(X, classes, sample_weight)

    def _check_parameters(self) -> None:
        super()._check_parameters()
        if self.sets not in ("nested", "separate"):
            raise OptionError(f"sets={self.sets!r} is not offered: choose 'nested' or 'separate'.")
        check_rare(self.rare, self.min_rows)

    def _encode_target(self, target: Target) -> NDArray[Any]:
        # fit() has read the labels, and knows the names of their levels.
        return target.values

    def _calibrate(self, features: NDArray[np.float32], encoded: NDArray[Any]) -> None:
        super()._calibrate(features, encoded)
        self.thresholds_: NDArray[np.float64] | None = None
        if self.coverage is None:
            return
        probabilities = self._probabilities(features)
        codes = np.searchsorted(self.classes_, encoded)
        tree = self._tree()
        levels = range(len(tree))[None if self.sets == "separate" else -1 :]
        thresholds = [
            conformal_threshold(tree.sums(probabilities, at), tree.nodes(at)[codes], self.coverage)
            for at in levels
        ]
        self.thresholds_ = np.array(thresholds)

    def _forget_calibration(self) -> None:
        super()._forget_calibration()
        self.thresholds_ = None

    def predict_proba(self, X: Any, level: Any = None) -> NDArray[np.float64]:
        """Return the probability of every label of a level at places.

        Parameters
        ----------
        X : GeoDataFrame, GeoSeries, DataFrame, geometries or array of shape (n, 2)
            Places; with the extra columns, if there are any.
        level : str or int, optional
            Name or number of a level; the finest without it.

        Returns
        -------
        array of shape (n, k), float64
            In the order of `level_labels` (`classes_` for the finest); rows sum to 1, and coarse
            labels are sums over the classes under them. Calibrated unless ``calibration=None``.

        Raises
        ------
        OptionError
            If there is no such level.
        """
        at, tree = self._find_level(level), self._tree()
        return self._in_blocks(X, lambda part: tree.sums(self._probabilities(part), at))

    def predict_set(self, X: Any, level: Any = None) -> NDArray[np.bool_]:
        """Tell which labels belong to the label set of each place.

        Parameters
        ----------
        X : GeoDataFrame, GeoSeries, DataFrame, geometries or array of shape (n, 2)
            Places; with the extra columns, if there are any.
        level : str or int, optional
            Name or number of a level; the finest without it.

        Returns
        -------
        array of bool, shape (n, k)
            In the order of `level_labels` (`classes_` for the finest), at least one True a row.

        Raises
        ------
        OptionError
            If the head was fitted without calibration, or there is no such level.
        """
        at = self._find_level(level)
        if self.thresholds_ is None:
            raise OptionError(
                "There are no label sets: the head was fitted with coverage=None, "
                "calibration=None or too few rows."
            )
        return self._in_blocks(X, lambda part: self._walk(part)[at][2])

    def level_labels(self, level: Any = None) -> list[str]:
        """Return the labels of a level, in the order of `predict_proba` and `predict_set`.

        Parameters
        ----------
        level : str or int, optional
            Name or number of a level; the finest without it.

        Returns
        -------
        list of str
            As label sets write them: a label that stands under several parents with its path.

        Raises
        ------
        OptionError
            If there is no such level.
        """
        return self._tree().names(self._find_level(level))

    def _find_level(self, level: Any) -> int:
        check_is_fitted(self)
        return find_level(level, self.target_names_, len(self.paths_))

    def _tree(self) -> LabelTree:
        return LabelTree(self.paths_)

    def _walk(self, features: NDArray[np.float32]) -> list[tuple[Any, Any, Any]]:
        """Level by level: the chosen labels, the probabilities of all, and the label sets."""
        tree, finest = self._tree(), self._probabilities(features)
        shares = [tree.sums(finest, level) for level in range(len(tree))]
        chosen = tree.choose(finest)
        # Without calibration everything is possible.
        thresholds = np.ones(len(tree)) if self.thresholds_ is None else self.thresholds_
        if self.sets == "separate":
            sets = list(map(label_sets, shares, thresholds, chosen))
        else:
            lowest = label_sets(finest, thresholds[-1], chosen[-1])
            sets = [tree.widen(lowest, level) for level in range(len(tree))]
        return list(zip(chosen, shares, sets, strict=True))

    def _predict_features(self, features: NDArray[np.float32]) -> NDArray[Any]:
        tree = self._tree()
        return tree.take(tree.choose(self._probabilities(features)))

    def _columns_from(self, features: NDArray[np.float32]) -> dict[str, Any]:
        tree, columns = self._tree(), dict[str, Any]()
        # Only what is calibrated is called a probability.
        kind = "score" if self.temperature_ is None else "probability"
        with_sets = self.coverage is not None and self.calibration is not None
        for level, (chosen, shares, sets) in enumerate(self._walk(features)):
            columns |= label_columns(
                self._column(self.target_names_[level] if self.target_names_ else ""),
                chosen,
                shares,
                tree.labels(level),
                kind=kind,
                top_k=self.top_k,
                sets=join_labels(sets, shares, tree.names(level)) if with_sets else None,
            )
        return columns

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return the accuracy at the finest level: the share of rows whose whole path is right.

        Parameters
        ----------
        X : GeoDataFrame, GeoSeries, DataFrame, geometries or array of shape (n, 2)
            Places; with the extra columns, if there are any.
        y : str, list of str, array, Series, DataFrame, or GeoDataFrame of polygons
            True labels, as in `fit`.
        sample_weight : array of shape (n,), optional
            Weight of every row.

        Returns
        -------
        float
            In [0, 1]. Rows whose label the head has not learned count as wrong; those of merged
            classes are right if the merged one is predicted.
        """
        check_is_fitted(self)
        truth = self._read_truth(X, y)[-1]
        chosen = self._in_blocks(X, lambda part: self._tree().choose(self._probabilities(part))[-1])
        return float(np.average(truth == chosen, weights=sample_weight))

    def report(self, X: Any, y: Any) -> pd.DataFrame:
        """Score every level in several ways.

        Parameters
        ----------
        X : GeoDataFrame, GeoSeries, DataFrame, geometries or array of shape (n, 2)
            Places; with the extra columns, if there are any.
        y : str, list of str, array, Series, DataFrame, or GeoDataFrame of polygons
            True labels, as in `fit`.

        Returns
        -------
        DataFrame
            One row a level, coarse to fine, with the columns of
            `geoembed.heads.labels.scores.score_labels`. Rows whose label the head has not learned
            count as wrong and as not covered, and stand in ``unknown_rows``.
        """
        check_is_fitted(self)
        truth, blocks = self._read_truth(X, y), self._blocks(X, self._walk)
        names = self.target_names_ or ["0"]
        return score_levels(truth, blocks, names, with_sets=self.thresholds_ is not None)

    def _read_truth(self, X: Any, y: Any) -> list[NDArray[np.intp]]:
        levels = read_levels(read_regions(X, y, self.featurizer_, self.label, self.nearest_km))
        if len(levels) != len(self.paths_):
            raise TargetError(
                f"The head has learned {len(self.paths_)} levels and y has {len(levels)}."
            )
        merged = self.rare_ if self.rare == "merge" else {}
        return find_codes(self._tree(), levels, merged, self.other_label)
