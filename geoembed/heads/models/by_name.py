"""The models a head can be given by name, each a scikit-learn estimator on a matrix of features."""

from collections.abc import Callable
from typing import Any, Final

from sklearn.base import BaseEstimator, clone, is_classifier, is_regressor
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.multioutput import MultiOutputRegressor
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.validation import has_fit_parameter

from geoembed.errors import OptionError
from geoembed.heads.models.kernel import PathKernel
from geoembed.heads.models.kernel_softmax import KernelSoftmax
from geoembed.heads.models.neighbours import (
    NeighboursClassifier,
    NeighboursRegressor,
    choose_neighbours,
)
from geoembed.heads.models.processes import ProcessClassifier, ProcessRegressor
from geoembed.heads.models.ridge import PathRidge
from geoembed.heads.models.softmax import PathSoftmax

__all__ = ["check_rows", "forget_pairs", "make_model", "model_names", "weights_for"]

# A Gaussian process factorises matrices of n x n.
_MOST_ROWS: Final = {"gp": 3_000}


def _mlp(kind: type[BaseEstimator], seed: Any) -> BaseEstimator:
    network = kind(hidden_layer_sizes=(256,), early_stopping=True, max_iter=500, random_state=seed)
    return make_pipeline(StandardScaler(), network)


_REGRESSORS: Final[dict[str, Callable[[Any, Any], BaseEstimator]]] = {
    "ridge": lambda seed, pairs: PathRidge(validation=_or_auto(pairs), random_state=seed),
    "kernel": lambda seed, pairs: PathKernel(validation=_or_auto(pairs), random_state=seed),
    "knn": lambda seed, pairs: choose_neighbours(NeighboursRegressor, seed, pairs),
    "mlp": lambda seed, _: _mlp(MLPRegressor, seed),
    "gbm": lambda seed, _: MultiOutputRegressor(HistGradientBoostingRegressor(random_state=seed)),
    "gp": lambda seed, _: make_pipeline(StandardScaler(), ProcessRegressor(random_state=seed)),
}
_CLASSIFIERS: Final[dict[str, Callable[[Any, Any], BaseEstimator]]] = {
    "logistic": lambda seed, pairs: PathSoftmax(validation=_or_auto(pairs), random_state=seed),
    "kernel": lambda seed, pairs: KernelSoftmax(validation=_or_auto(pairs), random_state=seed),
    "knn": lambda seed, pairs: choose_neighbours(NeighboursClassifier, seed, pairs),
    "mlp": lambda seed, _: _mlp(MLPClassifier, seed),
    "gbm": lambda seed, _: HistGradientBoostingClassifier(random_state=seed),
    "gp": lambda seed, _: make_pipeline(StandardScaler(), ProcessClassifier(random_state=seed)),
}


def _or_auto(pairs: Any) -> Any:
    return "auto" if pairs is None else pairs


def model_names(task: str) -> list[str]:
    """Return the names that ``model=`` takes.

    Parameters
    ----------
    task : {"regression", "classification"}
        What the head learns.

    Returns
    -------
    list of str
        The default first.

    Examples
    --------
    >>> model_names("regression")
    ['ridge', 'kernel', 'knn', 'mlp', 'gbm', 'gp']
    """
    return list(_REGRESSORS if task == "regression" else _CLASSIFIERS)


def make_model(model: Any, task: str, random_state: Any, pairs: Any = None) -> Any:
    """Make the unfitted model of a head.

    Parameters
    ----------
    model : str or estimator
        A name from `model_names`, or a scikit-learn estimator, which is cloned.
    task : {"regression", "classification"}
        What the head learns.
    random_state : int, RandomState or None
        Given to models made by name.
    pairs : list of (array of int, array of int), optional
        Rows to learn from and rows to score, on which a model made by name chooses its penalty or
        its number of neighbours; at random without.

    Returns
    -------
    estimator
        Not fitted.

    Raises
    ------
    OptionError
        If the name is unknown, the estimator is of another kind, or a classifier without
        ``predict_proba``.

    Examples
    --------
    >>> make_model("ridge", "regression", 0)
    PathRidge()
    """
    makers = _REGRESSORS if task == "regression" else _CLASSIFIERS
    if isinstance(model, str):
        if model not in makers:
            raise OptionError(
                f"model={model!r} is not offered for {task}: choose "
                f"{', '.join(map(repr, makers))}, or give a scikit-learn estimator."
            )
        return makers[model](random_state, pairs)
    kind = is_regressor if task == "regression" else is_classifier
    if isinstance(model, type) or not hasattr(model, "fit") or not kind(model):
        raise OptionError(
            f"model={model!r} is no estimator for {task}: give a name ("
            f"{', '.join(makers)}) or an instance of a scikit-learn "
            f"{'regressor' if task == 'regression' else 'classifier'}."
        )
    if task != "regression" and not hasattr(model, "predict_proba"):
        raise OptionError(
            f"model={model!r} gives no probabilities: choose another, or wrap it in scikit-learn's "
            "CalibratedClassifierCV."
        )
    return clone(model)


def forget_pairs(model: Any) -> None:
    """Take the row numbers that a fitted model has validated on out of its parameters.

    They speak of a table that a saved model, or a clone fitted to other rows, does not have.

    Parameters
    ----------
    model : estimator
        From `make_model`, fitted.

    Examples
    --------
    >>> model = make_model("ridge", "regression", 0, [([0], [1])])
    >>> forget_pairs(model)
    >>> model
    PathRidge()
    """
    for name, usual in (("validation", "auto"), ("cv", None)):
        if isinstance(getattr(model, name, None), list):
            model.set_params(**{name: usual})


def check_rows(model: Any, rows: int) -> None:
    """Refuse more rows than a model can take.

    Parameters
    ----------
    model : str or estimator
        As in `make_model`.
    rows : int
        Rows to learn from.

    Raises
    ------
    OptionError
        If there are too many for the named model.

    Examples
    --------
    >>> check_rows("gp", 100)
    """
    most = _MOST_ROWS.get(model) if isinstance(model, str) else None
    if most is not None and rows > most:
        raise OptionError(
            f"model={model!r} takes at most {most:,} rows and there are {rows:,}: its time grows "
            "with their cube. Give a sample of the rows, or choose another model."
        )


def weights_for(model: Any, weights: Any) -> dict[str, Any]:
    """Return weights of rows as an argument of a model's ``fit``.

    Parameters
    ----------
    model : estimator
        From `make_model`.
    weights : array of shape (n,) or None
        None for no weights.

    Returns
    -------
    dict
        ``{"sample_weight": weights}``, or nothing.

    Raises
    ------
    OptionError
        If there are weights and the model takes none.

    Examples
    --------
    >>> weights_for(make_model("knn", "regression", 0), None)
    {}
    """
    if weights is None:
        return {}
    if not has_fit_parameter(model, "sample_weight"):
        raise OptionError(
            f"The model {model!r} takes no sample_weight: leave it out, or choose another model."
        )
    return {"sample_weight": weights}
