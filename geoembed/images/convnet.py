"""A small residual network for small pictures, made to be trained from scratch on a CPU."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from geoembed.errors import OptionError

__all__ = ["ConvNet"]

# The first layer sees squares of 4 pixels that do not overlap. A 3 x 3 layer of stride 2 and one
# stage more took half as long again, and placed satellite crops of 48 pixels no better.
_PATCH: Final = 4

# The root has no gradient at 0, where a channel is the same all over the map.
_LEAST_VARIANCE: Final = 1e-5

# Channels that are normalised together.
_GROUP: Final = 16


class ConvNet(nn.Module):
    """Pixels to features: strided stages of residual blocks, then moments over the map.

    The feature of a picture is the mean of each channel and its standard deviation over the map:
    what there is, and how evenly it lies.

    Groups of channels are normalised, so that a picture's feature does not depend on the others of
    its batch: batches may be cut into parts, and training and use compute the same.

    Parameters
    ----------
    size : int
        Height and width of the pixels that it takes.
    widths : sequence of int
        Channels of the stages; each stage has half the resolution of the one before, the first a
        quarter of `size`.

    Raises
    ------
    OptionError
        If there are no widths, one is below 1, or `size` is too small for so many stages.

    Examples
    --------
    >>> network = ConvNet(48, (16, 32))
    >>> network.features, network(torch.zeros(2, 3, 48, 48)).shape
    (64, torch.Size([2, 64]))
    """

    def __init__(self, size: int, widths: Sequence[int]) -> None:
        super().__init__()
        self.size = size
        self.widths = tuple(widths)
        if not self.widths or any(width < 1 for width in self.widths):
            raise OptionError(f"widths={self.widths!r}: give one or more numbers of channels.")
        least = _PATCH * 2 ** (len(self.widths) - 1)
        if size < least:
            raise OptionError(
                f"size={size} is too small for {len(self.widths)} stages, each at half the "
                f"resolution of the one before: at least {least} pixels are needed. Give fewer "
                "widths or larger pictures."
            )
        first = self.widths[0]
        self.stem = nn.Conv2d(3, first, _PATCH, stride=_PATCH)
        self.blocks = nn.Sequential(
            _Block(first, first, 1), *(_Block(*pair, 2) for pair in pairwise(self.widths))
        )
        self.norm = _norm(self.widths[-1])
        # Convolutions of a CPU are a fifth faster in this layout.
        self.to(memory_format=torch.channels_last)

    @property
    def features(self) -> int:
        """Length of a feature: twice the last width."""
        return 2 * self.widths[-1]

    def forward(self, pixels: Tensor) -> Tensor:
        """Return features (n, features) of prepared pixels (n, 3, size, size)."""
        return _moments(self._map(pixels))

    def patches(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Return features, and the map that they are moments of.

        Parameters
        ----------
        pixels : Tensor of shape (n, 3, size, size)
            As for a call.

        Returns
        -------
        features : Tensor of shape (n, features)
            What a call returns.
        tokens : Tensor of shape (n, T, widths[-1])
            Every position of the map, row by row.

        Examples
        --------
        >>> features, tokens = ConvNet(48, (16, 32)).patches(torch.zeros(2, 3, 48, 48))
        >>> features.shape, tokens.shape
        (torch.Size([2, 64]), torch.Size([2, 36, 32]))
        """
        values = self._map(pixels)
        return _moments(values), values.flatten(2).transpose(1, 2)

    def _map(self, pixels: Tensor) -> Tensor:
        values = self.stem(pixels.contiguous(memory_format=torch.channels_last))
        values = functional.relu(self.norm(self.blocks(values)))
        # Squares of half precision would lose what tells even pictures apart.
        return values.to(torch.promote_types(values.dtype, torch.float32))


def _moments(values: Tensor) -> Tensor:
    variance, mean = torch.var_mean(values, dim=(2, 3), correction=0)
    return torch.cat([mean, (variance + _LEAST_VARIANCE).sqrt()], dim=1)


class _Block(nn.Module):
    """Two 3 x 3 layers, normalised before each, beside a way that goes around them."""

    def __init__(self, before: int, width: int, stride: int) -> None:
        super().__init__()
        self.norm1 = _norm(before)
        self.conv1 = nn.Conv2d(before, width, 3, stride=stride, padding=1, bias=False)
        self.norm2 = _norm(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.around = nn.Conv2d(before, width, 1, bias=False) if stride == 2 else None

    def forward(self, values: Tensor) -> Tensor:
        inner: Tensor = self.conv1(functional.relu(self.norm1(values)))
        inner = self.conv2(functional.relu(self.norm2(inner)))
        if self.around is None:
            return values + inner
        around: Tensor = self.around(functional.avg_pool2d(values, 2, ceil_mode=True))
        return around + inner


def _norm(width: int) -> nn.GroupNorm:
    groups = max(1, width // _GROUP)
    return nn.GroupNorm(groups if width % groups == 0 else 1, width)
