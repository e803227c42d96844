"""Staying like the encoder that training starts from, away from the training places."""

import copy

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from torch import Tensor
from torch.nn.functional import cosine_similarity

from geoembed.devices import has_float64
from geoembed.errors import OptionError, TrainingError
from geoembed.geodesy import EARTH_RADIUS_KM, to_unit_vectors
from geoembed.training.model import GeolocationModel
from geoembed.training.queue import uniform_places
from geoembed.training.randomness import generator
from geoembed.training.settings import ObjectiveSettings

__all__ = ["Anchor"]

# Draws before it is said that there is no such place: with 1 % of the sphere left, the chance of
# finding none of 512 in one is already nil.
_DRAWS = 200


class Anchor:
    """A frozen copy of the location encoder, and places far from those of training.

    Parameters
    ----------
    model : GeolocationModel
        As it starts; its location encoder is copied.
    settings : ObjectiveSettings
        ``anchor_places`` and ``anchor_away_km``.
    seed : int
        Of the places.
    training_lonlat : array of shape (n, 2), float64, optional
        Training places, degrees. Needed if ``anchor_away_km`` is above 0.

    Raises
    ------
    OptionError
        If training places are needed and missing.

    Examples
    --------
    >>> from geoembed.encoders.architecture import LocationArchitecture
    >>> from types import SimpleNamespace
    >>> architecture = LocationArchitecture(sigmas=(1.0,), hidden=(8,), output=4)
    >>> model = SimpleNamespace(
    ...     architecture=architecture, location_encoder=architecture.build().double()
    ... )
    >>> settings = ObjectiveSettings(anchor_places=5, anchor_away_km=1000.0)
    >>> anchor = Anchor(model, settings, 0, np.array([[0.0, 0.0]]))
    >>> places = anchor.places(step=3)
    >>> points = torch.from_numpy(architecture.project(places))
    >>> drift = anchor.drift(places, model.location_encoder(points))
    >>> len(places), abs(float(drift.detach())) < 1e-12
    (5, True)
    """

    def __init__(
        self,
        model: GeolocationModel,
        settings: ObjectiveSettings,
        seed: int,
        training_lonlat: NDArray[np.float64] | None = None,
    ) -> None:
        self._project = model.architecture.project
        self.network = copy.deepcopy(model.location_encoder).requires_grad_(requires_grad=False)
        self._settings, self._seed = settings, seed
        self._tree: cKDTree | None = None
        if settings.anchor_away_km > 0.0:
            if training_lonlat is None:
                raise OptionError(
                    f"objective.anchor_away_km = {settings.anchor_away_km:g} needs the training "
                    "places, which the step was not given: give training_lonlat=, or set it to 0."
                )
            self._tree = cKDTree(to_unit_vectors(training_lonlat))

    def places(self, step: int) -> NDArray[np.float64]:
        """Draw the places of a step, the same in every process.

        Parameters
        ----------
        step : int
            Number of the step.

        Returns
        -------
        array of shape (anchor_places, 2), float64
            Degrees; uniform over what is at least ``anchor_away_km`` from every training place.

        Raises
        ------
        TrainingError
            If the training places leave no room.
        """
        count = self._settings.anchor_places
        rng = generator(self._seed, "anchor", step)
        if self._tree is None:
            return uniform_places(count, rng)
        reach = self._settings.anchor_away_km / EARTH_RADIUS_KM
        chord = 2.0 * np.sin(min(reach, np.pi) / 2.0)
        found: list[NDArray[np.float64]] = []
        for _ in range(_DRAWS):
            drawn = uniform_places(count, rng)
            # Nothing within the reach is told by an infinite distance.
            nearest, _ = self._tree.query(to_unit_vectors(drawn), distance_upper_bound=chord)
            found.append(drawn[np.isinf(nearest)])
            if sum(map(len, found)) >= count:
                return np.concatenate(found)[:count]
        raise TrainingError(
            f"Of {_DRAWS * count:,} random places only {sum(map(len, found)):,} lie "
            f"{self._settings.anchor_away_km:g} km or more from every training place, and "
            f"{count:,} are wanted: lower objective.anchor_away_km."
        )

    def drift(self, lonlat: NDArray[np.float64], embeddings: Tensor) -> Tensor:
        """Sum of 1 - cosine between embeddings of now and of the start.

        Parameters
        ----------
        lonlat : array of shape (n, 2), float64
            Degrees.
        embeddings : Tensor of shape (n, d)
            Of the model that is trained, with their graph.

        Returns
        -------
        Tensor
            Scalar, with its graph.
        """
        points = torch.from_numpy(self._project(lonlat))
        if has_float64(embeddings.device):
            points = points.to(embeddings.device)
        with torch.no_grad():
            start = self.network(points).to(embeddings.dtype)
        return (1.0 - cosine_similarity(embeddings, start, dim=1)).sum()
