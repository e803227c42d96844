"""What a saved head may hold: types that load without being asked for, contents that are checked.

`skops` makes objects of a file only if their types are trusted, and runs no code of the file.
Trusted beyond its own list are estimators of geoembed and of plugins that registered a head, and
the parts of the models that heads offer by name.
"""

import dataclasses
from collections.abc import Iterator
from importlib import import_module
from typing import Any, Final

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.gaussian_process.kernels import Kernel
from sklearn.model_selection import BaseCrossValidator
from sklearn.model_selection._split import BaseShuffleSplit

from geoembed.encoders.base import LocationEncoder
from geoembed.errors import SavedHeadError
from geoembed.extending.registry import head_specs

__all__ = ["check_contents", "is_trusted", "parts_of"]

_OURS: Final = (BaseEstimator, BaseCrossValidator)
_SKLEARN: Final = (BaseCrossValidator, BaseShuffleSplit, Kernel)
# Parts of the models "knn", "mlp", "gbm" and "gp" that skops has no opinion on, or leaves to the
# reader because their indices are used unchecked: `check_contents` checks those.
_PARTS: Final = frozenset(
    {
        "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
        "sklearn.gaussian_process._gpc._BinaryGaussianProcessClassifierLaplace",
        "sklearn.metrics._dist_metrics.EuclideanDistance32",
        "sklearn.metrics._dist_metrics.EuclideanDistance64",
        "sklearn.metrics._scorer._PassthroughScorer",
        "sklearn.neighbors._kd_tree.KDTree",
        "sklearn.neighbors._kd_tree.KDTree64",
        "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
    }
)


def is_trusted(name: str) -> bool:
    """Tell whether a type may be loaded without being asked for.

    Parameters
    ----------
    name : str
        Module and name, as `skops.io.get_untrusted_types` gives them.

    Returns
    -------
    bool
        True for estimators, splitters and dataclasses of geoembed and of plugins that
        registered a head, for scikit-learn's splitters and kernels, and for the parts of the
        models that heads offer by name. Never for a function.

    Examples
    --------
    >>> is_trusted("geoembed.heads.location.LocationRegressor"), is_trusted("os.system")
    (True, False)
    """
    if name in _PARTS:
        return True
    module, _, attribute = name.rpartition(".")
    package = module.partition(".")[0]
    if package == "sklearn":
        return _is_class(module, attribute, _SKLEARN)
    if package not in {"geoembed", *(s.factory.partition(".")[0] for s in head_specs().values())}:
        return False
    return _is_class(module, attribute, _OURS, or_dataclass=True)


def _is_class(
    module: str, attribute: str, bases: tuple[type, ...], *, or_dataclass: bool = False
) -> bool:
    # Only packages that are part of this installation come this far: importing them is no risk.
    try:
        found = getattr(import_module(module), attribute, None)
    except ImportError:
        return False
    return isinstance(found, type) and (
        issubclass(found, bases) or (or_dataclass and dataclasses.is_dataclass(found))
    )


def parts_of(thing: Any) -> Iterator[Any]:
    """Go through an object and all that it is made of.

    Parameters
    ----------
    thing : object
        Such as a fitted head. Encoders are parts, and are not looked into.

    Yields
    ------
    object
        Every object that has attributes, once.

    Examples
    --------
    >>> from sklearn.linear_model import Ridge
    >>> from sklearn.pipeline import make_pipeline
    >>> [type(part).__name__ for part in parts_of(make_pipeline(Ridge()))]
    ['Pipeline', 'Ridge']
    """
    # Kept alive, so that no identity is given to another object meanwhile.
    seen: dict[int, Any] = {}
    stack = [thing]
    while stack:
        part = stack.pop()
        if id(part) in seen or isinstance(part, str | bytes | int | float | type | None):
            continue
        seen[id(part)] = part
        if isinstance(part, dict):
            stack += part.values()
        elif isinstance(part, list | tuple | set | frozenset):
            stack += part
        elif isinstance(part, np.ndarray):
            stack += part.ravel().tolist() if part.dtype == object else []
        else:
            yield part
            if not isinstance(part, LocationEncoder):
                stack += getattr(part, "__dict__", {}).values()


def check_contents(head: Any) -> None:
    """Check the indices inside trees, which scikit-learn follows without looking.

    Parameters
    ----------
    head : LocationHead
        Just loaded, and not used yet.

    Raises
    ------
    SavedHeadError
        If an index points out of its array: the file was made to do harm, or is damaged.

    Examples
    --------
    >>> from sklearn.ensemble import HistGradientBoostingRegressor
    >>> check_contents(HistGradientBoostingRegressor().fit([[0.0], [1.0]] * 20, [0.0, 1.0] * 20))
    """
    for part in parts_of(head):
        kind = type(part).__name__
        try:
            if kind.startswith("HistGradientBoosting"):
                predictors = getattr(part, "_predictors", [])
                good = all(_is_tree(tree, part) for many in predictors for tree in many)
            elif kind.startswith("KDTree"):
                good = _is_kd_tree(part.__getstate__())
            else:
                continue
        except (AttributeError, IndexError, KeyError, TypeError, ValueError):
            good = False
        if not good:
            raise SavedHeadError(
                f"A tree in the saved model ({kind}) points out of its own bounds: the file is "
                "damaged, or was made to do harm. Do not use it."
            )


def _is_tree(tree: Any, model: Any) -> bool:
    nodes, features = tree.nodes, model.n_features_in_
    own = np.arange(len(nodes))
    inner = nodes["is_leaf"] == 0
    within = (nodes["feature_idx"] >= 0) & (nodes["feature_idx"] < features)
    for side in ("left", "right"):
        # Children stand behind their parents, so that no walk goes on for ever.
        within &= (nodes[side] > own) & (nodes[side] < len(nodes))
    sets = min(len(tree.raw_left_cat_bitsets), len(tree.binned_left_cat_bitsets))
    if not len(nodes) or not within[inner].all():
        return False
    by_set = nodes[inner & (nodes["is_categorical"] != 0)]
    if not len(by_set):
        return True
    known = model._bin_mapper.is_categorical_
    return bool(known[by_set["feature_idx"]].all() and (by_set["bitset_idx"] < sets).all())


def _is_kd_tree(state: tuple[Any, ...]) -> bool:
    # As scikit-learn's BinaryTree.__getstate__ orders them.
    data, order, nodes, bounds = (np.asarray(array) for array in state[:4])
    levels, count = int(state[5]), int(state[6])
    rows, features = data.shape
    inner = nodes["is_leaf"] == 0
    children = 2 * np.arange(len(nodes)) + 2
    return bool(
        count == len(nodes) == 2**levels - 1
        and order.shape == (rows,)
        and bounds.shape == (2, count, features)
        and ((order >= 0) & (order < rows)).all()
        and ((nodes["idx_start"] >= 0) & (nodes["idx_start"] <= nodes["idx_end"])).all()
        and (nodes["idx_end"] <= rows).all()
        and (children[inner] < count).all()
    )
