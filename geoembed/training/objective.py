"""The loss: every view of a picture against the places of the batch and of the queue."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.distance import cdist
from torch import Tensor
from torch.nn.functional import cross_entropy, log_softmax

from geoembed.geodesy import EARTH_RADIUS_KM, to_unit_vectors
from geoembed.training.precision import without_tiny
from geoembed.training.settings import ObjectiveSettings

__all__ = ["Contrast", "Loss", "contrastive_loss", "unit_length"]

# As torch.nn.functional.normalize has it.
_SHORTEST: Final = 1e-12


@dataclass(frozen=True)
class Contrast:
    """What stands against what in a global batch.

    Parameters
    ----------
    ids : array of shape (B,), int64
        Rows of the data. The same row may come twice in a batch that crosses two epochs.
    lonlat : array of shape (B + S, 2), float64
        Places of the batch, then of the queue, degrees, without noise: a mask and smoothed
        targets are about where the pictures are.
    valid : array of shape (B,), bool
        False for pictures that are no queries.
    queue_ids : array of shape (S,), int64, optional
        Rows that the queue's places are of, -1 for none; only for ``mask_own``.
    """

    ids: NDArray[np.int64]
    lonlat: NDArray[np.float64]
    valid: NDArray[np.bool_]
    queue_ids: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Loss:
    """What some of the pictures add to the loss of a global batch.

    Parameters
    ----------
    value : Tensor
        Scalar, with its graph: the sum over the queries of these pictures, over the number of
        valid queries of the global batch. Parts of all pictures sum to the loss.
    correct : Tensor
        Scalar, int64: queries to which no other place is as similar as their own.
    """

    value: Tensor
    correct: Tensor


def contrastive_loss(
    images: Tensor,
    places: Tensor,
    logit_scale: Tensor,
    contrast: Contrast,
    settings: ObjectiveSettings,
    pictures: slice | None = None,
) -> Loss:
    """Cross-entropy of each query over the places, and the other way round where asked.

    Parameters
    ----------
    images : Tensor of shape (B P, d)
        Embeddings of the views of the global batch, the P views of a picture in neighbouring
        rows. Of any length: they are scaled to length 1 here, as are `places`.
    places : Tensor of shape (B + S, d)
        Embeddings of the batch's places, then of the queue's.
    logit_scale : Tensor
        Scalar: logarithm of what cosines are multiplied by.
    contrast : Contrast
        Rows, places and validity of the global batch.
    settings : ObjectiveSettings
        ``symmetric``, ``mask_km``, ``mask_own`` and ``smooth_km``.
    pictures : slice, optional
        Whose queries are summed; all when left out.

    Returns
    -------
    Loss
        The part of the loss that these pictures give.

    Notes
    -----
    The target of a view is its picture's place; with ``smooth_km`` the targets are proportional
    to exp(-d / smooth_km), d being the great-circle distance to the picture's own place. Places
    nearer than ``mask_km``, and the other copy of a row that stands twice in the batch, take no
    part; with ``mask_own`` neither do copies of the row in the queue. From places to pictures each
    view is a target once; other views of the same picture take no part then.

    Computed in the type of the embeddings, which the caller keeps at float32 or better.

    Examples
    --------
    >>> vectors = torch.eye(3)
    >>> contrast = Contrast(
    ...     np.arange(2), np.array([[0.0, 0.0], [90.0, 0.0], [0.0, 90.0]]), np.array([True, True])
    ... )
    >>> loss = contrastive_loss(
    ...     vectors[:2], vectors, torch.tensor(0.0), contrast, ObjectiveSettings(symmetric=False)
    ... )
    >>> round(float(loss.value), 4), int(loss.correct)
    (0.5514, 2)
    """
    rows = np.arange(len(contrast))[pictures or slice(None)]
    rows = rows[contrast.valid[rows]]
    views = len(images) // len(contrast)
    queries = _views_of(rows, views)
    places = unit_length(places)
    # Symmetric needs all pictures, the other direction only its own.
    chosen = torch.from_numpy(queries).to(images.device)
    if settings.symmetric:
        images = unit_length(images)
        own = images[chosen]
    else:
        own = unit_length(images[chosen])
    # The scale goes to the fewer numbers: vectors, not logits.
    own = logit_scale.exp() * own
    total = max(1, int(contrast.valid.sum()) * views)
    targets = torch.from_numpy(np.repeat(rows, views)).to(images.device)
    excluded, smooth = _relations(contrast, rows, len(contrast.lonlat), settings)
    logits = own @ places.T
    value = _cross_entropy(logits, targets, _repeat(excluded, views), _repeat(smooth, views))
    with torch.no_grad():
        shown = _hide(logits, _repeat(excluded, views))
        # No place but the own one is as similar; places that are all alike are no right answer.
        correct = ((shown >= shown.gather(1, targets[:, None])).sum(dim=1) == 1).sum()
    if settings.symmetric:
        logits = (logit_scale.exp() * places[targets]) @ images.T
        excluded, smooth = _relations_to_views(contrast, rows, views, settings)
        value = 0.5 * (value + _cross_entropy(logits, chosen, excluded, smooth))
    return Loss(value / total, correct)


class _UnitLength(torch.autograd.Function):
    """Vectors over their length, with half the passes over memory that autograd makes."""

    @staticmethod
    def forward(ctx: Any, vectors: Tensor) -> Tensor:
        inverse = torch.linalg.vector_norm(vectors, dim=1, keepdim=True).clamp_min(_SHORTEST)
        inverse = inverse.reciprocal_()
        unit: Tensor = vectors * inverse
        ctx.save_for_backward(unit, inverse)
        return unit

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        unit, inverse = ctx.saved_tensors
        along = torch.linalg.vecdot(gradient, unit).unsqueeze(1)
        across: Tensor = torch.addcmul(gradient, unit, along, value=-1).mul_(inverse)
        return across


def unit_length(vectors: Tensor) -> Tensor:
    """Scale vectors to length 1, with gradients.

    Parameters
    ----------
    vectors : Tensor of shape (n, d)
        Any but zero; a vector of zeros stays one.

    Returns
    -------
    Tensor of shape (n, d)
        Of length 1.

    Examples
    --------
    >>> unit_length(torch.tensor([[3.0, 4.0]]))
    tensor([[0.6000, 0.8000]])
    """
    unit: Tensor = _UnitLength.apply(vectors)
    return unit


def _views_of(rows: NDArray[np.int64], views: int) -> NDArray[np.int64]:
    """Rows of the views of some pictures."""
    return (rows[:, None] * views + np.arange(views)).reshape(-1)


def _relations(
    contrast: Contrast, rows: NDArray[np.int64], count: int, settings: ObjectiveSettings
) -> tuple[NDArray[np.bool_] | None, NDArray[np.float64] | None]:
    """Which of the first `count` places take no part for some pictures; targets if smoothed."""
    excluded = None
    own = (np.arange(len(rows)), rows)
    batch = len(contrast)
    if len(np.unique(contrast.ids)) < batch:
        excluded = np.zeros((len(rows), count), dtype=np.bool_)
        excluded[:, :batch] = contrast.ids[rows, None] == contrast.ids
    if settings.mask_own and count > batch and contrast.queue_ids is not None:
        copies = contrast.ids[rows, None] == contrast.queue_ids
        excluded = np.zeros((len(rows), count), dtype=np.bool_) if excluded is None else excluded
        excluded[:, batch:] |= copies
    if settings.mask_km or settings.smooth_km:
        vectors = to_unit_vectors(contrast.lonlat[:count])
        # Chords from differences lose no digits between neighbours, as a cosine would.
        chords = cdist(vectors[rows], vectors)
        angles = 2.0 * np.arcsin(np.minimum(1.0, chords / 2.0))
        km = EARTH_RADIUS_KM * angles
        if settings.mask_km:
            near = km < settings.mask_km
            excluded = near if excluded is None else excluded | near
    if excluded is not None:
        excluded[own] = False
    if not settings.smooth_km:
        return excluded, None
    weights = np.exp(-km / settings.smooth_km)
    if excluded is not None:
        weights[excluded] = 0.0
    # The own place has weight 1: the sum is never zero.
    return excluded, weights / weights.sum(axis=1, keepdims=True)


def _relations_to_views(
    contrast: Contrast, rows: NDArray[np.int64], views: int, settings: ObjectiveSettings
) -> tuple[NDArray[np.bool_] | None, NDArray[np.float64] | None]:
    """Which views take no part for the place of each target view; targets if smoothed."""
    batch = len(contrast)
    near, smooth = _relations(contrast, rows, batch, settings)
    if near is None and smooth is None and views == 1 and contrast.valid.all():
        return None, None
    excluded = np.zeros((len(rows), batch), dtype=np.bool_) if near is None else near
    excluded = np.repeat(np.repeat(excluded | ~contrast.valid, views, axis=0), views, axis=1)
    queries = _views_of(rows, views)
    # Of the views of the own picture only the target itself takes part.
    of_own = np.repeat(rows, views)[:, None] == np.repeat(np.arange(batch), views)
    excluded |= of_own
    excluded[np.arange(len(queries)), queries] = False
    if smooth is None:
        return excluded, None
    weights = np.repeat(np.repeat(smooth, views, axis=0), views, axis=1)
    weights[excluded] = 0.0
    return excluded, weights / weights.sum(axis=1, keepdims=True)


def _repeat(values: NDArray[Any] | None, views: int) -> NDArray[Any] | None:
    return values if values is None or views == 1 else np.repeat(values, views, axis=0)


def _hide(logits: Tensor, excluded: NDArray[np.bool_] | None) -> Tensor:
    if excluded is None:
        return logits
    return logits.masked_fill(torch.from_numpy(excluded).to(logits.device), -torch.inf)


def _cross_entropy(
    logits: Tensor,
    targets: Tensor,
    excluded: NDArray[np.bool_] | None,
    smooth: NDArray[np.float64] | None,
) -> Tensor:
    """Sum over rows of the cross-entropy over what is not excluded."""
    if logits.requires_grad and logits.device.type == "cpu":
        # At a low temperature the probabilities of most negatives are such numbers.
        logits.register_hook(without_tiny)  # type: ignore[no-untyped-call]
    hidden = _hide(logits, excluded)
    if smooth is None:
        return cross_entropy(hidden, targets, reduction="sum")
    logs = log_softmax(hidden, dim=1)
    if excluded is not None:
        # Their weight is 0, and 0 times minus infinity is no number.
        logs = logs.masked_fill(torch.from_numpy(excluded).to(logits.device), 0.0)
    return -(torch.from_numpy(smooth).to(logits.device, logits.dtype) * logs).sum()
