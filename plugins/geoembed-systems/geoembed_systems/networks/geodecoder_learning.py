"""What goes into GeoDecoder's network and what comes out: classes, true scenes, logits."""

import math
from collections.abc import Iterator, Mapping
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from geoembed_systems.cells.nesting import Hierarchy
from geoembed_systems.learning.product import hierarchical_logits
from geoembed_systems.learning.task import Answer, ClassHead
from geoembed_systems.networks.geodecoder_network import GeoDecoderNetwork, Moments
from geoembed_systems.pictures.features import Layout, PictureFeatures
from geoembed_systems.pictures.scenes import Scenes

__all__ = [
    "SCENE",
    "answer_of",
    "class_heads",
    "decoded",
    "level_names",
    "moments_of",
    "width_of",
    "with_scenes",
]

#: What the head of scenes is called.
SCENE: Final = "scene"

# Bounds of a width that nobody has given; tokens of 4 numbers need more room than that to think.
_WIDTHS: Final = (32, 256)

# Numbers in a block of features and in what becomes of them: 16 MB.
_VALUES_AT_ONCE: Final = 4_000_000

_THREE: Final = ("coarse", "middle", "fine")


def level_names(levels: int) -> tuple[str, ...]:
    """Return what the heads of partitions are called.

    Parameters
    ----------
    levels : int
        How many there are.

    Returns
    -------
    tuple of str
        Coarse to fine.

    Examples
    --------
    >>> level_names(3), level_names(2)
    (('coarse', 'middle', 'fine'), ('level-0', 'level-1'))
    """
    return _THREE if levels == len(_THREE) else tuple(f"level-{n}" for n in range(levels))


def class_heads(
    hierarchy: Hierarchy,
    classes: NDArray[np.int64],
    scenes: Scenes | None,
    numbers: NDArray[np.int64],
    scene_weight: float,
) -> list[ClassHead]:
    """Return what is learned.

    Parameters
    ----------
    hierarchy : Hierarchy
        Whose classes are told.
    classes : array of shape (n, levels), int64
        Of each picture, as `Hierarchy.locate` gives them.
    scenes : Scenes or None
        Those that are told.
    numbers : array of shape (n,), int64
        The scene of each picture; -1 where it is not known.
    scene_weight : float
        Of the scenes beside each partition, whose weight is 1.

    Returns
    -------
    list of ClassHead
        Scenes, where there are some; then partitions, coarse to fine.

    Raises
    ------
    OptionError
        If a partition has one class.

    Examples
    --------
    >>> from geoembed_systems.cells.nesting import nested_partitions
    >>> places = np.random.default_rng(0).uniform(0, 30, (500, 2))
    >>> hierarchy = nested_partitions(places, t_max=(300, 100), t_min=10)
    >>> scenes = Scenes(("natural", "urban"))
    >>> classes, numbers = hierarchy.locate(places), np.zeros(500, np.int64)
    >>> heads = class_heads(hierarchy, classes, scenes, numbers, 0.5)
    >>> [(head.name, head.weight) for head in heads]
    [('scene', 0.5), ('level-0', 1.0), ('level-1', 1.0)]
    """
    heads = [
        ClassHead(name, targets, len(partition), means=partition.means)
        for name, targets, partition in zip(
            level_names(len(hierarchy)), classes.T, hierarchy.partitions, strict=True
        )
    ]
    if scenes is not None:
        heads.insert(0, ClassHead(SCENE, numbers, len(scenes), scene_weight))
    return heads


def with_scenes(
    features: PictureFeatures, numbers: NDArray[np.int64], scenes: Scenes | None
) -> PictureFeatures:
    """Put the true scene behind features, where the network looks for it while it learns.

    Parameters
    ----------
    features : PictureFeatures
        Of n pictures. Segments are left out.
    numbers : array of shape (n,), int64
        The scene of each picture; -1 where it is not known.
    scenes : Scenes or None
        None puts nothing there.

    Returns
    -------
    PictureFeatures
        Whose segments are 1 at the number of the scene; all 0 where it is not known.

    Examples
    --------
    >>> told = with_scenes(PictureFeatures(np.ones((2, 4))), np.array([1, -1]), Scenes(("a", "b")))
    >>> told.flat()[:, 0, 4:].tolist()
    [[0.0, 1.0], [0.0, 0.0]]
    """
    told = None
    if scenes is not None:
        told = (numbers[:, None] == np.arange(len(scenes))).astype(np.float32)
        told = np.repeat(told[:, None], features.views, axis=1)
    return PictureFeatures(
        features.pooled, features.tokens, told, errors=features.errors, names=features.names
    )


def moments_of(features: PictureFeatures) -> Moments:
    """Return mean and standard deviation of each channel, over pictures, views and patches.

    Parameters
    ----------
    features : PictureFeatures
        Without errors.

    Returns
    -------
    dict of str to (array, array)
        Of ``"pooled"``, and of ``"tokens"`` where there are some. A channel that never changes has
        the deviation 1.

    Examples
    --------
    >>> moments_of(PictureFeatures([[1.0, 5.0], [3.0, 5.0]]))["pooled"]
    (array([2., 5.], dtype=float32), array([1., 1.], dtype=float32))
    """
    found = {}
    for name, values in (("pooled", features.pooled), ("tokens", features.tokens)):
        if values is None:
            continue
        rows = values.reshape(-1, values.shape[-1])
        centre = rows.mean(axis=0, dtype=np.float64)
        scale = rows.std(axis=0, dtype=np.float64)
        scale[scale <= 1e-6 * np.abs(centre)] = 1.0
        found[name] = (centre.astype(np.float32), scale.astype(np.float32))
    return found


def answer_of(hierarchy: Hierarchy) -> Answer:
    """Return what makes places of logits: the mean of the likeliest finest class.

    Parameters
    ----------
    hierarchy : Hierarchy
        Whose classes the logits are of.

    Returns
    -------
    callable
        Logits by head to longitude and latitude (b, 2), degrees, WGS 84.

    Examples
    --------
    >>> from geoembed_systems.cells.nesting import nested_partitions
    >>> places = np.random.default_rng(0).uniform(0, 30, (500, 2))
    >>> hierarchy = nested_partitions(places, t_max=(300, 100), t_min=10)
    >>> coarse, fine = (torch.zeros(1, len(each)) for each in hierarchy.partitions)
    >>> fine[0, 5] = 1.0
    >>> found = answer_of(hierarchy)({"level-0": coarse, "level-1": fine})
    >>> found.tolist() == hierarchy.finest.means[[5]].tolist()
    True
    """
    names = level_names(len(hierarchy))
    means = hierarchy.finest.means

    def answer(logits: Mapping[str, Tensor]) -> NDArray[np.float64]:
        levels = [logits[name].float() for name in names]
        product = hierarchical_logits(levels, hierarchy.parents).cpu()
        found: NDArray[np.float64] = means[product.argmax(dim=1).numpy()]
        return found

    return answer


def decoded(
    network: GeoDecoderNetwork, features: PictureFeatures, numbers: NDArray[np.int64] | None
) -> Iterator[tuple[slice, dict[str, Tensor]]]:
    """Run pictures through a network, some at a time.

    Parameters
    ----------
    network : GeoDecoderNetwork
        On any device.
    features : PictureFeatures
        Of n pictures, without errors.
    numbers : array of shape (n,), int64, optional
        The scene whose queries are read; -1 where the network is to choose.

    Yields
    ------
    rows : slice
        Of the pictures.
    logits : dict of str to Tensor
        Of each head, (k, V, classes), on the network's device.

    Examples
    --------
    >>> layout = Layout(3, tokens=(2, 4))
    >>> network = GeoDecoderNetwork(
    ...     layout, see="both", classes=[2, 5], scenes=1, names=["coarse", "fine"], layers=1,
    ...     width=8, heads=2, hidden=16, dropout=0.0,
    ... )
    >>> features = PictureFeatures(np.zeros((6, 3)), tokens=np.zeros((6, 2, 4)))
    >>> for rows, logits in decoded(network, features, None):
    ...     print(rows, logits["fine"].shape)
    slice(0, 6, None) torch.Size([6, 1, 5])
    """
    network.eval()
    layout, views = network.layout, features.views
    device = network.queries.device
    # A picture's row, or all its queries on the way through a layer, whichever is more.
    step = max(1, _VALUES_AT_ONCE // (views * max(layout.width, network.values)))
    for start in range(0, len(features), step):
        rows = slice(start, min(start + step, len(features)))
        flat = torch.from_numpy(features.take(rows).flat()).to(device).flatten(0, 1)
        known = None
        if numbers is not None:
            known = torch.from_numpy(np.repeat(numbers[rows], views)).to(device)
        with torch.inference_mode():
            logits = network.answer(flat[:, : layout.width], known)
        yield rows, {name: each.reshape(-1, views, each.shape[1]) for name, each in logits.items()}


def width_of(layout: Layout, see: str, heads: int) -> int:
    """Return a width that suits the tokens.

    Parameters
    ----------
    layout : Layout
        Of the features.
    see : {"patches", "pooled", "both"}
        What becomes tokens.
    heads : int
        What it is a multiple of.

    Returns
    -------
    int
        The length of a token, but 32 to 256, rounded up to a multiple.

    Examples
    --------
    >>> width_of(Layout(768, tokens=(256, 1024)), "patches", 4), width_of(Layout(8), "pooled", 3)
    (256, 33)
    """
    length = layout.tokens[1] if layout.tokens and see != "pooled" else layout.pooled
    least, most = _WIDTHS
    return heads * math.ceil(min(max(length, least), most) / heads)
