"""The network of TransLocator: two streams of one picture, fused, and a linear head each answer."""

from collections.abc import Mapping
from typing import Final, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from geoembed_systems.networks.translocator_fusion import FusedLayers, GatedFusion
from geoembed_systems.pictures.features import Layout, Parts, PictureFeatures

__all__ = ["Standardised", "TransLocatorNetwork", "moments"]

# Values looked at together when means and spreads are taken: 32 MB of float64.
_BLOCK: Final = 2**22

Moments = dict[str, tuple[NDArray[np.float32], NDArray[np.float32]]]


def moments(features: PictureFeatures) -> Moments:
    """Return the mean and spread of every column of pooled features, tokens and segments.

    Parameters
    ----------
    features : PictureFeatures
        None with an error.

    Returns
    -------
    dict of str to (mean, scale), arrays of shape (c,), float32
        By name of the part; over pictures, views and patches. The scale of a column that is
        always the same is 1.

    Examples
    --------
    >>> mean, scale = moments(PictureFeatures(np.array([[1.0, 5.0], [3.0, 5.0]])))["pooled"]
    >>> mean.tolist(), scale.tolist()
    ([2.0, 5.0], [1.0, 1.0])
    """
    found: Moments = {}
    for name in ("pooled", "tokens", "segments"):
        values = getattr(features, name)
        if values is None:
            continue
        rows = values.reshape(-1, values.shape[-1])
        step = max(1, _BLOCK // rows.shape[1])
        blocks = [rows[start : start + step] for start in range(0, len(rows), step)]
        mean = sum(block.sum(axis=0, dtype=np.float64) for block in blocks) / len(rows)
        # About the mean, so that a column far from zero keeps its digits.
        square = sum(((block - mean) ** 2).sum(axis=0) for block in blocks) / len(rows)
        spread = np.sqrt(square)
        scale = np.where(spread > 1e-6 * (np.abs(mean) + 1e-30), spread, 1.0)
        found[name] = (mean.astype(np.float32), scale.astype(np.float32))
    return found


class Standardised(nn.Module):
    """Columns with the mean 0 and the spread 1, as they were in training.

    Parameters
    ----------
    width : int
        How many columns.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("scale", torch.ones(width))

    def forward(self, values: Tensor) -> Tensor:
        """Standardise values.

        Parameters
        ----------
        values : Tensor of shape (..., width)
            Columns last.

        Returns
        -------
        Tensor of the same shape
            Less the mean, over the scale.
        """
        return (values - self.mean) / self.scale


class TransLocatorNetwork(nn.Module):
    """Rows of features to the logits of every head.

    Parameters
    ----------
    layout : Layout
        Of the rows; with segments, and with tokens where `fusion` is ``"layers"``.
    classes : mapping of str to int
        How many classes each head has.
    fusion : {"layers", "gated"}
        How the two streams meet.
    width : int
        Of a token in both encoders, or of the gated vectors; a multiple of `heads`.
    heads : int
        Of the attention.
    layers : int
        Of each encoder; dense layers of each stream where fusion is gated.
    dropout : float
        Share of values left out in training.

    Attributes
    ----------
    layout, classes
        As given.

    Examples
    --------
    >>> layout = Layout(4, tokens=(2, 3), segments=(2, 5))
    >>> sizes = {"fusion": "layers", "width": 8, "heads": 2, "layers": 1, "dropout": 0.0}
    >>> network = TransLocatorNetwork(layout, {"coarse": 6, "fine": 9}, **sizes)
    >>> {name: tuple(logits.shape) for name, logits in network(torch.zeros(7, 20)).items()}
    {'coarse': (7, 6), 'fine': (7, 9)}
    """

    def __init__(
        self,
        layout: Layout,
        classes: Mapping[str, int],
        *,
        fusion: str,
        width: int,
        heads: int,
        layers: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.layout, self.classes = layout, dict(classes)
        shapes = {"pooled": (layout.pooled,), "tokens": layout.tokens, "segments": layout.segments}
        self.standardised = nn.ModuleDict(
            {name: Standardised(shape[-1]) for name, shape in shapes.items() if shape}
        )
        self.fusion: FusedLayers | GatedFusion = (
            FusedLayers(layout, width=width, heads=heads, layers=layers, dropout=dropout)
            if fusion == "layers"
            else GatedFusion(layout, width=width, layers=layers, dropout=dropout)
        )
        self.norm = nn.LayerNorm(self.fusion.length)
        self.heads = nn.ModuleDict(
            {name: nn.Linear(self.fusion.length, count) for name, count in classes.items()}
        )

    def standardise(self, features: Moments) -> Self:
        """Standardise rows by the columns of some features from now on.

        Parameters
        ----------
        features : dict
            What `moments` returned of the training features.

        Returns
        -------
        TransLocatorNetwork
            Itself.
        """
        for name, (mean, scale) in features.items():
            part = self.standardised[name]
            part.load_state_dict({"mean": torch.from_numpy(mean), "scale": torch.from_numpy(scale)})
        return self

    def forward(self, rows: Tensor) -> dict[str, Tensor]:
        """Answer with every head.

        Parameters
        ----------
        rows : Tensor of shape (b, layout.width)
            As `PictureFeatures.flat` gives them.

        Returns
        -------
        dict of str to Tensor of shape (b, classes)
            Logits, by head.
        """
        seen = self.seen(rows)
        return {name: head(seen) for name, head in self.heads.items()}

    def scores(self, rows: Tensor, head: str) -> Tensor:
        """Answer with one head.

        Parameters
        ----------
        rows : Tensor of shape (b, layout.width)
            As `PictureFeatures.flat` gives them.
        head : str
            Its name.

        Returns
        -------
        Tensor of shape (b, classes)
            Logits.
        """
        logits: Tensor = self.heads[head](self.seen(rows))
        return logits

    def seen(self, rows: Tensor) -> Tensor:
        """Return what the heads look at.

        Parameters
        ----------
        rows : Tensor of shape (b, layout.width)
            As `PictureFeatures.flat` gives them.

        Returns
        -------
        Tensor of shape (b, length of the fused streams)
            Normalised.
        """
        fused: Tensor = self.norm(self.fusion(self._parts(rows)))
        return fused

    def _parts(self, rows: Tensor) -> Parts:
        given = self.layout.unpack(rows)
        return Parts(
            **{name: module(getattr(given, name)) for name, module in self.standardised.items()}
        )
