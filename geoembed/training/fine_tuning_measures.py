"""What fine-tuning did: retrieval before and after, and how far the encoder moved elsewhere."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from torch.nn.functional import normalize

from geoembed.data import is_land
from geoembed.errors import OptionError
from geoembed.geodesy import EARTH_RADIUS_KM, to_unit_vectors
from geoembed.training.batches import FeatureData, PictureData
from geoembed.training.model import GeolocationModel
from geoembed.training.queue import uniform_places
from geoembed.training.randomness import generator
from geoembed.training.settings import TrainingSettings
from geoembed.training.splitting import Split
from geoembed.training.validation import validate

__all__ = ["Away", "Moved", "lookup_scores", "tell_scores"]

Floats = NDArray[np.float64]

_BLOCK: Final = 2048
# Draws before it is said that there is no such place.
_DRAWS: Final = 100
_SCORES: Final = {
    "within_1": "within 1 km, %",
    "within_25": "within 25 km, %",
    "within_200": "within 200 km, %",
    "within_750": "within 750 km, %",
    "within_2500": "within 2500 km, %",
    "median_km": "median km",
    "loss": "loss",
}


@dataclass(frozen=True, kw_only=True)
class Moved:
    """How far an encoder's vectors have moved at places away from the training's.

    Parameters
    ----------
    places : int
        How many were looked at.
    mean : float
        Mean of 1 - cosine between the vectors before and after.
    mean_land, high_land : float
        Mean, and 95th percentile, over those on land; NaN if there is none.
    kept : float
        Percent of the land places whose vector after is nearer to its own before than to those of
        the other land places.
    """

    places: int
    mean: float
    mean_land: float
    high_land: float
    kept: float


class Away:
    """Random places away from the pictures, and the vectors that they had before.

    Parameters
    ----------
    model : GeolocationModel
        Before it is trained.
    lonlat : array of shape (n, 2), float64
        Places of the pictures, degrees.
    away_km : float
        The places are so far from each of them.
    count : int
        How many.
    seed : int
        Of the places.

    Raises
    ------
    OptionError
        If the pictures leave no room for them.
    """

    def __init__(
        self, model: GeolocationModel, lonlat: Floats, *, away_km: float, count: int, seed: int
    ) -> None:
        self.lonlat = _places_away(lonlat, away_km, count, seed)
        self.land = is_land(self.lonlat[:, 0], self.lonlat[:, 1])
        self.before = _vectors(model, self.lonlat)

    def moved(self, model: GeolocationModel) -> Moved:
        """Compare with a model's vectors now.

        Parameters
        ----------
        model : GeolocationModel
            After it was trained.

        Returns
        -------
        Moved
            How far it is from where it was.
        """
        after = _vectors(model, self.lonlat)
        # Rounding may lift a cosine above 1 by a digit.
        drift = np.maximum(0.0, 1.0 - (after * self.before).sum(axis=1))
        land = drift[self.land]
        if not len(land):
            return Moved(
                places=len(drift), mean=float(drift.mean()), mean_land=np.nan, high_land=np.nan,
                kept=np.nan,
            )  # fmt: skip
        nearest = (after[self.land] @ self.before[self.land].T).argmax(axis=1)
        return Moved(
            places=len(drift),
            mean=float(drift.mean()),
            mean_land=float(land.mean()),
            high_land=float(np.percentile(land, 95.0)),
            kept=100.0 * float((nearest == np.arange(len(land))).mean()),
        )


def lookup_scores(
    model: GeolocationModel, data: PictureData | FeatureData, settings: TrainingSettings
) -> dict[str, float]:
    """Look pictures up among their own places.

    Parameters
    ----------
    model : GeolocationModel
        Left as it is.
    data : PictureData or FeatureData
        All of them are looked up.
    settings : TrainingSettings
        Of the run.

    Returns
    -------
    dict of str to float
        Shares and distances. The true places are among the answers, so that these scores compare
        two models and say nothing of a gallery.
    """
    asked = settings.validation.model_copy(
        update={"gallery": "train", "gallery_size": 0, "queries": 0}
    )
    rows, none = np.arange(len(data), dtype=np.int64), np.empty(0, dtype=np.int64)
    found = validate(
        model,
        data,
        Split(rows, rows, none, none),
        settings.model_copy(update={"validation": asked}),
    )
    return {name: value for name, value in found.items() if name != "loss"}


def tell_scores(before: Mapping[str, float], after: Mapping[str, float]) -> str:
    """Set scores side by side.

    Parameters
    ----------
    before, after : mapping of str to float
        Of `geoembed.training.validation.validate`.

    Returns
    -------
    str
        A line a score.

    Examples
    --------
    >>> print(tell_scores({"median_km": 20.0}, {"median_km": 9.5}))
                          before     after
    median km               20.0       9.5
    """
    lines = [f"{'':<18}{'before':>10}{'after':>10}"]
    for name, title in _SCORES.items():
        if name in before:
            cells = "".join(f"{_number(name, scores[name]):>10}" for scores in (before, after))
            lines.append(f"{title:<18}{cells}")
    return "\n".join(lines)


def _number(name: str, value: float) -> str:
    if name.startswith("within"):
        return f"{value:.1f}"
    return (
        f"{value:,.0f}" if value >= 1000.0 else f"{value:.1f}" if value >= 5.0 else f"{value:.3f}"
    )


def _places_away(lonlat: Floats, away_km: float, count: int, seed: int) -> Floats:
    tree: Any = cKDTree(to_unit_vectors(lonlat))
    chord = 2.0 * np.sin(min(away_km / EARTH_RADIUS_KM, np.pi) / 2.0)
    found: list[Floats] = []
    for draw in range(_DRAWS):
        drawn = uniform_places(count, generator(seed, "places away", draw))
        near, _ = tree.query(to_unit_vectors(drawn), distance_upper_bound=max(chord, 1e-300))
        found.append(drawn[np.isinf(near)])
        if sum(map(len, found)) >= count:
            return np.concatenate(found)[:count]
    raise OptionError(
        f"Hardly any place on Earth is {away_km:g} km from every picture: "
        f"{sum(map(len, found)):,} of {_DRAWS * count:,}. Fine-tuning is for a region; lower "
        "objective.anchor_away_km."
    )


def _vectors(model: GeolocationModel, lonlat: Floats) -> NDArray[np.float32]:
    with torch.no_grad():
        blocks = [
            normalize(model.encode_places(lonlat[start : start + _BLOCK])).cpu()
            for start in range(0, len(lonlat), _BLOCK)
        ]
    vectors: NDArray[np.float32] = torch.cat(blocks).float().numpy()
    return vectors
