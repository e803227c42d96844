"""The models of protocols, as their papers fit them."""

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import RidgeClassifierCV, RidgeCV
from sklearn.preprocessing import MinMaxScaler

from geoembed.coordinates import Places
from geoembed.encoders.base import LocationEncoder
from geoembed.errors import OptionError
from geoembed.evaluation.learners import Learner
from geoembed.evaluation.plans import Fold
from geoembed.evaluation.protocols.reading import Protocol
from geoembed.evaluation.tasks import Task
from geoembed.featurizer import encode_places

__all__ = ["ProtocolLearner"]

Floats = NDArray[np.float64]


class ProtocolLearner(Learner):
    """The model that a protocol names, on the vectors of an encoder, float64.

    Parameters
    ----------
    protocol : Protocol
        Scaling and models.
    places : Places
        One a row.
    task : Task
        What is predicted.

    Raises
    ------
    OptionError
        If the protocol has no model for the task, or needs validation rows that no split gives.
    """

    def __init__(self, protocol: Protocol, places: Places, task: Task) -> None:
        self._protocol = protocol
        self._places = places
        self._task = task
        self._model = protocol.model_for(task.kind)

    def predict(self, encoder: LocationEncoder, fold: Fold) -> list[NDArray[Any]]:
        """Fit the model on the training rows and predict the test rows."""
        vectors = encode_places(encoder, self._places, progress=False).astype(np.float64)
        if self._protocol.scaling["features"] == "min-max":
            vectors = MinMaxScaler().fit(vectors[fold.train]).transform(vectors)
        values = self._task.values
        middle, width = np.zeros(1), np.ones(1)
        if self._protocol.scaling["target"] == "standard":
            middle, width = values.mean(axis=0), values.std(axis=0)
            values = (values - middle) / width
        name = self._model["model"]
        if name == "linear-adam":
            found = _linear_adam(self._model, vectors, values, fold)
        else:
            kind = RidgeCV if name == "ridge-cv" else RidgeClassifierCV
            model = kind(alphas=tuple(self._model["alphas"]), cv=self._model["cv"])
            with warnings.catch_warnings():
                # Rare classes are as the protocol has them.
                warnings.filterwarnings("ignore", message="The least populated class")
                model.fit(vectors[fold.train], values[fold.train])
            found = [np.asarray(model.predict(vectors[fold.test]))]
        if self._task.kind == "classification":
            return found
        return [each * width + middle for each in found]

    def describe(self) -> dict[str, Any]:
        """Return the protocol's words on model and scaling."""
        return {
            "protocol": self._protocol.name,
            "scaling": dict(self._protocol.scaling),
            **self._model,
        }


def _linear_adam(
    options: Mapping[str, Any], vectors: Floats, values: Floats, fold: Fold
) -> list[NDArray[Any]]:
    """One linear layer, float32, trained until rows it does not learn from stop improving."""
    import torch

    if fold.validation is None:
        raise OptionError("model = 'linear-adam' needs a validation part in every split.")
    x = torch.from_numpy(vectors.astype(np.float32))
    y = torch.from_numpy(values.reshape(len(values), -1).astype(np.float32))
    train, watched = torch.from_numpy(fold.train), torch.from_numpy(fold.validation)
    found = []
    # The layers' first weights and the batches come from one generator, which is left alone
    # outside.
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(options["seed"])
        for _ in range(options["initialisations"]):
            layer = torch.nn.Linear(x.shape[1], y.shape[1])
            _train(layer, options, (x[train], y[train]), (x[watched], y[watched]))
            with torch.no_grad():
                predicted = layer(x[torch.from_numpy(fold.test)]).double().numpy()
            found.append(predicted.reshape(len(fold.test), *values.shape[1:]))
    return found


def _train(layer: Any, options: Mapping[str, Any], train: Any, watched: Any) -> None:
    """Adam on the mean squared error; stops when it has improved too little for too long."""
    import torch

    optimizer = torch.optim.Adam(layer.parameters(), lr=options["learning_rate"])
    loss_of = torch.nn.MSELoss()
    best, waited = np.inf, 0
    for _ in range(options["epochs"]):
        order: Any = torch.randperm(len(train[0]))
        for batch in order.split(options["batch_rows"]):
            optimizer.zero_grad()
            loss_of(layer(train[0][batch]), train[1][batch]).backward()
            optimizer.step()
        with torch.no_grad():
            loss = loss_of(layer(watched[0]), watched[1]).item()
        if best - loss > options["least_improvement"]:
            best, waited = loss, 0
        else:
            waited += 1
        if waited == options["patience"]:
            return
