"""What a card measures: how similarity falls with distance, and what half precision costs."""

from collections.abc import Mapping
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from geoembed.encoders.network import LocationNetwork
from geoembed.galleries import places_of
from geoembed.geodesy import destination
from geoembed.training.trained_model import TrainedModel

__all__ = ["PLACES", "lowest_cosine", "similarity_by_distance"]

PLACES: Final = 200

_DISTANCES_KM: Final = (1.0, 10.0, 100.0, 1000.0)


def similarity_by_distance(model: TrainedModel) -> dict[float, float]:
    """Measure how similar places at several distances are, around cities of the world.

    Parameters
    ----------
    model : TrainedModel
        Whose vectors.

    Returns
    -------
    dict of float to float
        Kilometres to the mean cosine similarity over `PLACES` cities, one of four directions each.

    Examples
    --------
    >>> from geoembed.training.trained_model import model_of_name
    >>> found = similarity_by_distance(model_of_name("geoclip.v1"))
    >>> {km: round(cosine, 1) for km, cosine in found.items()}
    {1.0: 1.0, 10.0: 0.8, 100.0: 0.6, 1000.0: 0.3}
    """
    lon, lat = _cities().T
    bearings = np.arange(len(lon)) * 90.0
    here = _encoded(model, model.network, np.column_stack([lon, lat]))
    found = {}
    for km in _DISTANCES_KM:
        there = np.column_stack(destination(lon, lat, bearings, km))
        cosines = functional.cosine_similarity(here, _encoded(model, model.network, there))
        found[km] = float(cosines.mean())
    return found


def lowest_cosine(model: TrainedModel, tensors: Mapping[str, Tensor]) -> float:
    """Measure what rounding weights costs.

    Parameters
    ----------
    model : TrainedModel
        With weights as they were trained.
    tensors : mapping of str to Tensor
        The same as they stand in a file, of either format.

    Returns
    -------
    float
        Lowest cosine similarity of the two vectors of a place, over `PLACES` cities.

    Examples
    --------
    >>> from geoembed.training.trained_model import model_of_name
    >>> model = model_of_name("geoclip.v1")
    >>> round(lowest_cosine(model, model.tensors()), 6)
    1.0
    """
    rounded = model.architecture.build().eval()
    prefix = "location_encoder."
    bare = {key.removeprefix(prefix): tensor.float() for key, tensor in tensors.items()}
    rounded.load_state_dict({key: bare[key] for key in rounded.state_dict()})
    lonlat = _cities()
    exact = _encoded(model, model.network, lonlat)
    return float(functional.cosine_similarity(exact, _encoded(model, rounded, lonlat)).min())


def _encoded(model: TrainedModel, network: LocationNetwork, lonlat: NDArray[np.float64]) -> Tensor:
    with torch.inference_mode():
        vectors: Tensor = network(torch.from_numpy(model.architecture.project(lonlat)))
    return vectors.double()


def _cities() -> NDArray[np.float64]:
    lonlat = places_of("cities").lonlat
    return lonlat[np.linspace(0, len(lonlat) - 1, PLACES).astype(np.int64)]
