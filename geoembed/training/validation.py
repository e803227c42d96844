"""How well held-out pictures find their places while a model is trained."""

from collections.abc import Mapping
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import normalize

from geoembed.errors import OptionError, TrainingError
from geoembed.evaluation.geolocation.metrics import (
    THRESHOLDS_KM,
    errors_km,
    name_threshold,
    summarise,
)
from geoembed.training.batches import FeatureData, PictureData
from geoembed.training.distributed import Processes
from geoembed.training.model import GeolocationModel
from geoembed.training.precision import networks_in
from geoembed.training.settings import TrainingSettings
from geoembed.training.splitting import Split
from geoembed.training.validation_places import gallery_places, negatives, query_rows
from geoembed.training.validation_queries import Queries

__all__ = ["SCORES", "Validator", "is_better", "score_places", "validate"]

SCORES: Final = (
    "loss",
    *(f"within_{km:g}" for km in THRESHOLDS_KM),
    "median_km",
    "mean_km",
    "geoscore",
)
"""Names of the scores, in the order of the tables."""

_LOWER: Final = ("loss", "median_km", "mean_km")
# Places encoded, and pictures compared, at a time.
_PLACES: Final = 4096
_QUERIES: Final = 512
# Similarities that are held at a time: 256 MB of float32.
_SCORES: Final = 2**26


class Validator:
    """Looks held-out pictures up among the places of a gallery, with the weights as they are.

    A picture's vector is compared with those of all places of the gallery; its answer is the most
    similar one. Pictures are seen as at inference, without augmentation; of cached features it is
    the mean of the unit vectors of all views, which gives the mean of their cosines.

    Parameters
    ----------
    data : PictureData or FeatureData
        Of the run.
    split : Split
        Its `validation` rows are looked up.
    settings : TrainingSettings
        Their `validation` section.
    processes : Processes, optional
        That share the work; alone when left out.

    Raises
    ------
    OptionError
        If no row is held out, or the gallery has no place.
    UnknownNameError, TableError
        If there is no such gallery.

    Examples
    --------
    >>> from geoembed.training.bluemarble import BlueMarble
    >>> from geoembed.training.model import build_model
    >>> from geoembed.training.splitting import split_rows
    >>> settings = TrainingSettings(
    ...     data={"kind": "bluemarble", "block_deg": 10.0},
    ...     location={"frequencies": 4, "hidden": [8], "output": 4},
    ...     image={"tower": "convnet", "widths": [4, 4], "head": [4]},
    ...     loop={"batch": 16},
    ... )
    >>> world = BlueMarble(60, 48)
    >>> validator = Validator(world, split_rows(world.lonlat, settings.data), settings)
    >>> scores = validator(build_model(settings))
    >>> sorted(scores) == sorted(SCORES), 0.0 <= scores["within_2500"] <= 100.0
    (True, True)
    """

    def __init__(
        self,
        data: PictureData | FeatureData,
        split: Split,
        settings: TrainingSettings,
        processes: Processes | None = None,
    ) -> None:
        if not len(split.validation):
            raise OptionError("No place is held out (data.validation = 0): nothing is validated.")
        self.settings = settings
        self.processes = processes or Processes()
        self.gallery = gallery_places(data.lonlat[split.train], settings)
        rows = query_rows(split.validation, settings)
        self.queries = Queries(
            data, rows, settings.data.max_bad, settings.loop.workers, len(split.validation)
        )
        self.truth = data.lonlat[rows]
        self._others, self._is_own = negatives(data.lonlat, rows, split, settings)

    @property
    def bad(self) -> Mapping[int, str]:
        """Rows of held-out pictures that could not be read, and why."""
        return self.queries.bad

    def __call__(self, model: GeolocationModel) -> dict[str, float]:
        """Score a model.

        Parameters
        ----------
        model : GeolocationModel
            Left as it is.

        Returns
        -------
        dict of str to float
            `SCORES`: shares in percent, distances in km on the ellipsoid. ``"loss"`` is the mean
            cross-entropy of a picture's own place among as many others as in training, without
            noise; these are drawn once, from training and held-out places alike. The same in every
            process.

        Raises
        ------
        TrainingError
            If too many of the pictures cannot be read, or vectors are no numbers.
        """
        was_training = model.training
        model.eval()
        try:
            with torch.no_grad():
                found = self._score(model)
        finally:
            model.train(was_training)
        # Every process decides by the same numbers what is best and when to stop.
        told = torch.tensor([found[name] for name in SCORES], dtype=torch.float64)
        self.processes.broadcast_([told])
        return dict(zip(SCORES, told.tolist(), strict=True))

    def _score(self, model: GeolocationModel) -> dict[str, float]:
        with networks_in(self.settings.loop.precision, model.device):
            valid, queries = self.queries.encode(model, self.processes)
            gallery = self._encode_places(model, self.gallery)
            others = self._encode_places(model, self._others)
            own = self._encode_places(model, self.truth)[torch.from_numpy(valid).to(model.device)]
        if not bool(torch.isfinite(queries).all()):
            raise TrainingError("Vectors of held-out pictures are no numbers: the weights are bad.")
        scale = float(model.logit_scale.detach().exp())
        column = torch.from_numpy(self._is_own[valid]).to(model.device)
        answers, losses = [], []
        size = max(1, min(_QUERIES, _SCORES // max(len(gallery), len(others))))
        for start in range(0, len(queries), size):
            block = slice(start, start + size)
            answers.append((queries[block] @ gallery.T).argmax(dim=1))
            losses.append(_cross_entropy(queries[block], own[block], others, column[block], scale))
        nearest = self.gallery[torch.cat(answers).cpu().numpy()]
        return score_places(self.truth[valid], nearest, float(torch.cat(losses).double().mean()))

    def _encode_places(self, model: GeolocationModel, lonlat: NDArray[np.float64]) -> Tensor:
        """Unit vectors of places; each process encodes its share."""
        mine = lonlat[self.processes.share(len(lonlat))]
        blocks = [
            normalize(model.encode_places(mine[start : start + _PLACES]))
            for start in range(0, len(mine), _PLACES)
        ]
        width = model.architecture.output
        empty = torch.empty(0, width, device=model.device)
        return self.processes.gather(torch.cat([empty, *blocks]), len(lonlat))


def score_places(
    truth: NDArray[np.float64], answers: NDArray[np.float64], loss: float
) -> dict[str, float]:
    """Score answers to held-out pictures.

    Parameters
    ----------
    truth, answers : array of shape (n, 2), float64
        Where they were taken, and where they are said to be, degrees, WGS 84.
    loss : float
        Of them.

    Returns
    -------
    dict of str to float
        `SCORES`.

    Examples
    --------
    >>> score_places(np.zeros((1, 2)), np.zeros((1, 2)), loss=0.5)["within_25"]
    100.0
    """
    summary = summarise(errors_km(truth, answers))
    shares = {f"within_{km:g}": summary[name_threshold(km)] for km in THRESHOLDS_KM}
    found = {**summary, **shares, "loss": loss}
    return {name: float(found[name]) for name in SCORES}


def _cross_entropy(
    queries: Tensor, own: Tensor, others: Tensor, column: Tensor, scale: float
) -> Tensor:
    """Cross-entropy of each picture's own place among others, in which it may be a column."""
    right = scale * (queries * own).sum(dim=1, keepdim=True)
    logits = scale * (queries @ others.T)
    columns = torch.arange(len(others), device=logits.device)
    logits.masked_fill_(columns == column[:, None], -torch.inf)
    return torch.logsumexp(torch.cat([right, logits], dim=1), dim=1) - right[:, 0]


def validate(
    model: GeolocationModel,
    data: PictureData | FeatureData,
    split: Split,
    settings: TrainingSettings,
    processes: Processes | None = None,
) -> dict[str, float]:
    """Score a model once; see `Validator`, which is quicker for several times.

    Parameters
    ----------
    model : GeolocationModel
        Left as it is.
    data, split, settings, processes
        As for `Validator`.

    Returns
    -------
    dict of str to float
        `SCORES`.

    Raises
    ------
    OptionError, UnknownNameError, TableError, TrainingError
        As `Validator`.

    Examples
    --------
    >>> from geoembed.training.bluemarble import BlueMarble
    >>> from geoembed.training.model import build_model
    >>> from geoembed.training.splitting import split_rows
    >>> settings = TrainingSettings(
    ...     data={"kind": "bluemarble", "block_deg": 10.0},
    ...     location={"frequencies": 4, "hidden": [8], "output": 4},
    ...     image={"tower": "convnet", "widths": [4, 4], "head": [4]},
    ...     loop={"batch": 16},
    ...     validation={"gallery": "land", "spacing_km": 1000.0},
    ... )
    >>> world = BlueMarble(60, 48)
    >>> scores = validate(
    ...     build_model(settings), world, split_rows(world.lonlat, settings.data), settings
    ... )
    >>> scores["median_km"] > 0.0
    True
    """
    return Validator(data, split, settings, processes)(model)


def is_better(metric: str, value: float, best: float | None) -> bool:
    """Tell whether a score is better than the best one so far.

    Parameters
    ----------
    metric : str
        One of `SCORES`.
    value : float
        The score.
    best : float or None
        The best so far; None if there is none.

    Returns
    -------
    bool
        An equal one is not better: the earlier checkpoint stays the best. One that is no number
        never is.

    Examples
    --------
    >>> is_better("median_km", 800.0, 900.0), is_better("within_25", 3.0, 3.0)
    (True, False)
    """
    if np.isnan(value):
        return False
    if best is None:
        return True
    return value < best if metric in _LOWER else value > best
