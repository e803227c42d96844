"""The network of PlaNet and ISNs: linear classifiers on frozen features."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from geoembed.errors import OptionError
from geoembed.scalars import is_whole
from geoembed_systems.pictures.features import Layout, PictureFeatures

__all__ = ["HeadsNetwork", "check_hidden", "column_statistics"]

Floats = NDArray[np.float32]

# Columns that hardly move are not blown up: beside the typical one, their spread counts as this.
_LEAST_SPREAD = 1e-3


class HeadsNetwork(nn.Module):
    """Groups of linear classifiers; a group may have a hidden layer of its own before them.

    Pooled features are shifted and scaled by column first, by what `column_statistics` found in
    the training pictures.

    Parameters
    ----------
    layout : Layout
        Of the rows that come in; only the pooled features are looked at.
    groups : sequence of mapping of str to int
        Classes of each classifier, by its name; names differ between groups too.
    hidden : int
        Units of a group's hidden layer; 0 for none.
    statistics : tuple of (mean, scale), optional
        Arrays of shape (d,); 0 and 1 if not given.

    Examples
    --------
    >>> network = HeadsNetwork(Layout(4), [{"cell": 3}], hidden=8)
    >>> {name: logits.shape for name, logits in network(torch.zeros(5, 4)).items()}
    {'cell': torch.Size([5, 3])}
    """

    def __init__(
        self,
        layout: Layout,
        groups: Sequence[Mapping[str, int]],
        *,
        hidden: int = 0,
        statistics: tuple[Any, Any] | None = None,
    ) -> None:
        super().__init__()
        self.layout, self.names = layout, [list(group) for group in groups]
        width = layout.pooled
        mean, scale = (np.zeros(width), np.ones(width)) if statistics is None else statistics
        self.register_buffer("mean", torch.as_tensor(mean, dtype=torch.float32))
        self.register_buffer("scale", torch.as_tensor(scale, dtype=torch.float32))
        self.trunks = nn.ModuleList(
            nn.Sequential(nn.Linear(width, hidden), nn.GELU()) if hidden else nn.Identity()
            for _ in groups
        )
        self.heads = nn.ModuleList(
            nn.ModuleList(nn.Linear(hidden or width, classes) for classes in group.values())
            for group in groups
        )

    mean: Tensor
    scale: Tensor

    def standardised(self, rows: Tensor) -> Tensor:
        """Return the pooled features of rows (b, width), shifted and scaled, (b, d)."""
        pooled: Tensor = (rows[:, : self.layout.pooled] - self.mean) / self.scale
        return pooled

    def group(self, number: int, standardised: Tensor) -> dict[str, Tensor]:
        """Return the logits of one group's classifiers, by name, (b, classes) each."""
        inner = self.trunks[number](standardised)
        heads: Any = self.heads[number]
        return {name: head(inner) for name, head in zip(self.names[number], heads, strict=True)}

    def forward(self, rows: Tensor) -> dict[str, Tensor]:
        """Return the logits of all classifiers for rows (b, width)."""
        standardised = self.standardised(rows)
        return {
            name: logits
            for number in range(len(self.names))
            for name, logits in self.group(number, standardised).items()
        }


def column_statistics(features: PictureFeatures) -> tuple[Floats, Floats]:
    """Return mean and standard deviation of the pooled features.

    Parameters
    ----------
    features : PictureFeatures
        None with an error.

    Returns
    -------
    mean, scale : array of shape (d,), float32
        Over pictures and views. No scale is below a thousandth of the median one.

    Examples
    --------
    >>> mean, scale = column_statistics(PictureFeatures(np.array([[0.0, 5.0], [2.0, 5.0]])))
    >>> mean.tolist(), scale.tolist()
    ([1.0, 5.0], [1.0, 0.0005000000237487257])
    """
    rows = features.pooled.reshape(-1, features.pooled.shape[2])
    mean, scale = rows.mean(axis=0, dtype=np.float64), rows.std(axis=0, dtype=np.float64)
    least = _LEAST_SPREAD * float(np.median(scale)) or 1.0
    return mean.astype(np.float32), np.maximum(scale, least).astype(np.float32)


def check_hidden(hidden: Any) -> int:
    """Return the units of a hidden layer, 0 or more; raise OptionError for something else."""
    if not is_whole(hidden) or hidden < 0:
        raise OptionError(
            f"hidden={hidden!r} does not fit: give the units of a hidden layer, 0 for none."
        )
    return int(hidden)
