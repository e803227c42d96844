"""What TransLocator learns from: its two streams, its heads and their parts of the loss."""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from geoembed.errors import OptionError
from geoembed.scalars import check_count, is_number
from geoembed_systems.cells.nesting import Hierarchy
from geoembed_systems.learning.task import ClassHead
from geoembed_systems.pictures.features import Layout, PictureFeatures
from geoembed_systems.pictures.scenes import Scenes
from geoembed_systems.pictures.segments import SegmentModel

__all__ = [
    "FUSED",
    "LEVELS",
    "LOSS_WEIGHTS",
    "class_heads",
    "first_stream",
    "notes",
    "sizes_of",
    "with_segments",
    "without_tokens",
]

#: Of each head in the loss (the paper's).
LOSS_WEIGHTS: Final[Mapping[str, float]] = {
    "scene": 1.0,
    "coarse": 0.5,
    "middle": 0.3,
    "fine": 0.2,
}

#: Heads of the hierarchy from its coarse end; the last is the one that answers.
LEVELS: Final = ("coarse", "middle", "fine")

#: How the streams meet, in words.
FUSED: Final = {
    "layers": "class tokens fused after every layer",
    "gated": "pooled features fused by a gate, no patch tokens",
}

# Widths are a multiple of it, so that any usual number of heads divides them.
_STEP: Final = 64


def class_heads(
    hierarchy: Hierarchy, lonlat: NDArray[np.float64], scenes: Scenes | None, labels: Any
) -> list[ClassHead]:
    """Return what TransLocator learns: its heads, their targets and their parts of the loss.

    Parameters
    ----------
    hierarchy : Hierarchy
        Of three partitions.
    lonlat : array of shape (n, 2), float64
        Where pictures were taken, degrees, WGS 84.
    scenes : Scenes or None
        Without, there is no scene head.
    labels : array of shape (n,) or None
        What pictures show.

    Returns
    -------
    list of ClassHead
        The fine one last. A picture in no cell of a partition has no target there.
    """
    heads = []
    if scenes is not None:
        weight = LOSS_WEIGHTS["scene"]
        heads.append(ClassHead("scene", scenes.encode(labels), len(scenes), weight))
    located = hierarchy.locate(lonlat)
    for name, partition, targets in zip(LEVELS, hierarchy.partitions, located.T, strict=True):
        weight, means = LOSS_WEIGHTS[name], partition.means
        heads.append(ClassHead(name, targets, len(partition), weight, means))
    return heads


def with_segments(features: PictureFeatures, model: SegmentModel | None) -> PictureFeatures:
    """Return features with a second stream: their own segments, or those that a model derives.

    Parameters
    ----------
    features : PictureFeatures
        With segments where there is no model.
    model : SegmentModel or None
        Of their tokens, or of pooled features where they have none.

    Returns
    -------
    PictureFeatures
        With segments.
    """
    if model is None:
        return features
    return replace(features, segments=model.transform(first_stream(features)))


def first_stream(features: PictureFeatures) -> NDArray[np.float32]:
    """Return what segments are derived from: patch tokens; pooled features where there are none.

    Parameters
    ----------
    features : PictureFeatures
        With them or not.

    Returns
    -------
    array of shape (n, V, T, c) or (n, V, d), float32
        As the features hold it.
    """
    return features.pooled if features.tokens is None else features.tokens


def without_tokens(features: PictureFeatures) -> PictureFeatures:
    """Return features without their patch tokens.

    Parameters
    ----------
    features : PictureFeatures
        With them or not.

    Returns
    -------
    PictureFeatures
        The same otherwise.
    """
    return features if features.tokens is None else replace(features, tokens=None)


def notes(fusion: str, segments: SegmentModel | None, scenes: Scenes | None) -> tuple[str, ...]:
    """Say what was decided while fitting.

    Parameters
    ----------
    fusion : {"layers", "gated"}
        How the streams meet.
    segments : SegmentModel or None
        What derives segments; None where they were given.
    scenes : Scenes or None
        That the scene head tells apart.

    Returns
    -------
    tuple of str
        One part of a sentence each.
    """
    stream = (
        "segments as supplied"
        if segments is None
        else f"segments derived from the features, {segments.classes} classes"
    )
    known = "no scene head" if scenes is None else f"a scene head of {len(scenes)} scenes"
    return FUSED[fusion], stream, known


def sizes_of(
    layout: Layout, *, width: int | str, heads: int, layers: int, dropout: float
) -> dict[str, Any]:
    """Settle what the network is built with.

    Parameters
    ----------
    layout : Layout
        Of the features: the streams are fused after every layer where it has tokens.
    width : int or "auto"
        As `geoembed_systems.translocator.TransLocator` takes it, and the others.
    heads, layers : int
        Whole numbers of at least 1.
    dropout : float
        In [0, 1).

    Returns
    -------
    dict
        Fit for JSON; ``fusion``, ``width``, ``heads``, ``layers`` and ``dropout``.

    Raises
    ------
    OptionError
        If one is out of range, or heads do not divide the width.

    Examples
    --------
    >>> sizes_of(Layout(768), width="auto", heads=4, layers=2, dropout=0.1)["width"]
    512
    """
    heads, layers = check_count("heads", heads), check_count("layers", layers)
    if not is_number(dropout) or not 0 <= dropout < 1:
        raise OptionError(f"dropout={dropout!r} is no share in [0, 1).")
    if width == "auto":
        length, least, most = (
            (layout.pooled, 128, 512) if layout.tokens is None else (layout.tokens[1], 64, 256)
        )
        # Of the least common multiple, so that the heads share it evenly.
        step = math.lcm(_STEP, heads)
        width = step * max(1, round(min(max(length, least), most) / step))
    elif check_count("width", width) % heads:
        raise OptionError(
            f"width={width!r} is no multiple of heads={heads!r}: every head of the attention takes "
            "an equal part."
        )
    return {
        "fusion": "gated" if layout.tokens is None else "layers",
        "width": int(width),
        "heads": heads,
        "layers": layers,
        "dropout": float(dropout),
    }
