"""A second stream made of the first: how much of each class of patches a picture holds."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from threadpoolctl import threadpool_limits

from geoembed.errors import OptionError, TableError
from geoembed.scalars import is_whole

__all__ = ["SegmentModel"]

Floats = NDArray[np.float32]

# Classes where none are asked for: enough for sky, water, leaves, walls, roads and their like.
_USUAL_CLASSES: Final = 16

# Patches that the centres are learned from; more move them by less than their own spread.
_SAMPLE: Final = 20_000

# How many classes a patch is spread over on average, at most.
_SPREAD: Final = 2.0

_ARRAYS: Final = ("mean", "scale", "centres")

# Values computed at a time: 16 MB of float32.
_BLOCK: Final = 2**22


@dataclass(frozen=True, eq=False)
class SegmentModel:
    """Share patches, or whole pictures, out among classes that were found in features.

    TransLocator reads a semantic segmentation of each picture. Where none is at hand, this stands
    in for it, and it is ours: features are standardised, k-means finds `classes` centres, and the
    shares of a feature are a softmax of -(squared distance to each centre) / `temperature`. The
    temperature is the mean squared distance of training features to their nearest centre, or
    less, so that a feature is not spread over more than two classes on average, however many
    columns there are. Classes found so have no names, and hold nothing that the features do not:
    a segmentation by a network of its own is the better stream.

    Parameters
    ----------
    mean, scale : array of shape (c,), float32
        What features are standardised by, column by column.
    centres : array of shape (S, c), float32
        Of the classes, among standardised features; the largest class first.
    temperature : float
        Squared distance, among standardised features, over which shares fall by a factor e.

    Examples
    --------
    >>> patches = np.array([[[0.0, 1.0], [0.1, 1.0]], [[5.0, 3.0], [5.1, 3.0]]])  # (n, T, c)
    >>> model = SegmentModel.fit(patches, classes=2)
    >>> model.transform(patches).round(2).tolist()[0]
    [[1.0, 0.0], [1.0, 0.0]]
    """

    mean: Floats
    scale: Floats
    centres: Floats
    temperature: float

    @classmethod
    def fit(
        cls,
        features: Any,
        classes: int | Literal["auto"] = "auto",
        random_state: int = 0,
        *,
        called: str = "classes",
    ) -> Self:
        """Find classes.

        Parameters
        ----------
        features : array of shape (..., c)
            Patch tokens, or pooled features; one along the last axis.
        classes : int or "auto"
            How many to find. ``"auto"``: 16, or as many as there are different features.
        random_state : int
            Of the sample of 20,000 features that is looked at where there are more, and of the
            first centres.
        called : str
            What errors call `classes`: the option of who asks.

        Returns
        -------
        SegmentModel
            The same for the same features and `random_state`.

        Raises
        ------
        OptionError
            If `classes` is no whole number of at least 1, or there are fewer different features.
        TableError
            If there are no features, or some are not finite.
        """
        rows = _rows(features)
        if not rows.size:
            raise TableError(f"Features of the shape {np.shape(features)} hold no classes.")
        if classes != "auto" and not _is_count(classes):
            raise OptionError(
                f"{called}={classes!r} is neither 'auto' nor a whole number of at least 1."
            )
        random = np.random.default_rng(random_state)
        if len(rows) > _SAMPLE:
            rows = rows[np.sort(random.choice(len(rows), _SAMPLE, replace=False))]
        if not np.isfinite(rows).all():
            raise TableError("Features that are not finite have no class: leave those rows out.")
        mean = rows.mean(axis=0, dtype=np.float64)
        spread = rows.std(axis=0, dtype=np.float64)
        # What varies by rounding alone is constant.
        scale = np.where(spread > 1e-6 * (np.abs(mean) + 1e-30), spread, 1.0)
        standard = ((rows - mean) / scale).astype(np.float32)
        different = len(np.unique(standard, axis=0))
        if classes == "auto":
            classes = min(_USUAL_CLASSES, different)
        elif classes > different:
            raise OptionError(
                f"{called}={classes} are more than there are different features, {different:,}: "
                "ask for fewer."
            )
        centres, squares = _k_means(standard, int(classes), random)
        return cls(
            mean.astype(np.float32),
            scale.astype(np.float32),
            centres,
            _temperature(squares),
        )

    @property
    def classes(self) -> int:
        """How many there are (S)."""
        return len(self.centres)

    def transform(self, features: Any) -> Floats:
        """Share features out.

        Parameters
        ----------
        features : array of shape (..., c)
            Of the kind that it has learned from.

        Returns
        -------
        array of shape (..., S), float32
            Not negative; they sum to 1 along the last axis.

        Raises
        ------
        OptionError
            If features have another length than those that it has learned from.
        """
        shape = np.shape(features)
        if not shape or shape[-1] != len(self.mean):
            raise OptionError(
                f"Features of the shape {shape} are shared out by classes of features of length "
                f"{len(self.mean):,}: give features of the same image encoder."
            )
        rows = _rows(features)
        shares = np.empty((len(rows), self.classes), dtype=np.float32)
        step = max(1, _BLOCK // (shape[-1] + self.classes))
        for start in range(0, len(rows), step):
            block = slice(start, start + step)
            standard = (rows[block] - self.mean) / self.scale
            shares[block] = _softmax(-_squares(standard, self.centres) / self.temperature)
        return shares.reshape(*shape[:-1], self.classes)

    def to_state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Return what it is made of.

        Returns
        -------
        arrays : dict of str to array
            ``mean``, ``scale`` and ``centres``.
        config : dict
            Fit for JSON.
        """
        arrays: dict[str, NDArray[Any]] = {name: getattr(self, name) for name in _ARRAYS}
        return arrays, {"temperature": self.temperature}

    @classmethod
    def from_state(cls, arrays: Mapping[str, Any], config: Mapping[str, Any]) -> Self:
        """Make it again.

        Parameters
        ----------
        arrays, config : mapping
            What `to_state` gave.

        Returns
        -------
        SegmentModel
            The same.
        """
        mean, scale, centres = (np.asarray(arrays[name], np.float32) for name in _ARRAYS)
        return cls(mean, scale, centres, float(config["temperature"]))


def _is_count(value: Any) -> bool:
    return is_whole(value) and bool(value >= 1)


def _rows(features: Any) -> Floats:
    values = np.asarray(features, dtype=np.float32)
    if values.ndim < 2:
        raise TableError(f"Features have the shape {values.shape}: give one a row, (n, c).")
    return values.reshape(-1, values.shape[-1])


def _k_means(rows: Floats, classes: int, random: np.random.Generator) -> tuple[Floats, Floats]:
    """Return centres, the largest class first, and the squared distances of rows to them."""
    # Threads of its loop add up in the order in which they end: one, so that it is the same again.
    with threadpool_limits(limits=1, user_api="openmp"):
        found = KMeans(classes, n_init=4, random_state=int(random.integers(2**31))).fit(rows)
    sizes = np.bincount(found.labels_, minlength=classes)
    centres = found.cluster_centers_[np.argsort(-sizes, kind="stable")].astype(np.float32)
    return centres, _squares(rows, centres)


def _squares(rows: Floats, centres: Floats) -> Floats:
    """Return squared distances, (n, S)."""
    squares: Floats = (rows**2).sum(axis=1)[:, None] - 2.0 * rows @ centres.T
    squares += (centres**2).sum(axis=1)
    return np.maximum(squares, 0.0, out=squares)


def _softmax(scores: Floats) -> Floats:
    raised = np.exp(scores - scores.max(axis=1, keepdims=True))
    shares: Floats = raised / raised.sum(axis=1, keepdims=True)
    return shares


def _temperature(squares: Floats) -> float:
    """Return the spread within classes, lowered until shares are spread over two at most."""
    # The floor is for features that are their own centres.
    within = max(float(squares.min(axis=1).mean()), 1e-6)
    if _spread(squares, within) <= _SPREAD:
        return within
    # The spread grows with the temperature: halving finds where it is two.
    low, high = within * 1e-6, within
    for _ in range(30):
        middle = float(np.sqrt(low * high))
        low, high = (middle, high) if _spread(squares, middle) <= _SPREAD else (low, middle)
    return low


def _spread(squares: Floats, temperature: float) -> float:
    """Return how many classes a feature is spread over: e to the mean entropy."""
    shares = _softmax(-squares / temperature).astype(np.float64)
    return float(np.exp(-(shares * np.log(shares + 1e-30)).sum(axis=1).mean()))
