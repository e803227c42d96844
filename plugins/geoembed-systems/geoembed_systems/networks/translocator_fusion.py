"""How two streams of a picture meet: after every layer of two encoders, or by a gate."""

from collections.abc import Iterator
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, scaled_dot_product_attention

from geoembed_systems.pictures.features import Layout, Parts

__all__ = ["EncoderLayer", "Exchange", "FusedLayers", "GatedFusion"]

# How far weights of class tokens and places of patches are drawn apart, as in vision transformers.
_DRAWN: Final = 0.02


class EncoderLayer(nn.Module):
    """One layer of a transformer encoder, normalised before attention and before the dense part.

    Parameters
    ----------
    width : int
        Of a token; a multiple of `heads`.
    heads : int
        Of the attention.
    dropout : float
        Share of values left out of what each part adds, in training.
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.before = nn.LayerNorm(width)
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.mixed = nn.Linear(width, width)
        self.between = nn.LayerNorm(width)
        self.dense = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor, asked: int | None = None) -> Tensor:
        """Let tokens look at each other.

        Parameters
        ----------
        tokens : Tensor of shape (b, T, width)
            All of them are attended to.
        asked : int, optional
            How many, from the first on, are computed: those that something looks at later. All
            if not given.

        Returns
        -------
        Tensor of shape (b, asked, width)
            As the layer leaves them.
        """
        normed = self.before(tokens)
        query = self._by_head(self.query(normed[:, :asked]))
        key, value = map(self._by_head, self.key_value(normed).chunk(2, dim=2))
        seen = scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
        there = tokens[:, :asked] + self.dropout(self.mixed(seen))
        left: Tensor = there + self.dropout(self.dense(self.between(there)))
        return left

    def _by_head(self, tokens: Tensor) -> Tensor:
        return tokens.reshape(*tokens.shape[:2], self.heads, -1).transpose(1, 2)


class Exchange(nn.Module):
    """The class tokens of both streams, fused: each learns from both.

    A linear map of the two, normalised side by side, is added to each.

    Parameters
    ----------
    width : int
        Of a class token.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(2 * width)
        self.to_image = nn.Linear(2 * width, width)
        self.to_segments = nn.Linear(2 * width, width)

    def forward(self, image: Tensor, segments: Tensor) -> tuple[Tensor, Tensor]:
        """Fuse two class tokens.

        Parameters
        ----------
        image, segments : Tensor of shape (b, width)
            Class tokens of the two streams.

        Returns
        -------
        image, segments : Tensor of shape (b, width)
            As the fusion leaves them.
        """
        both = self.norm(torch.cat([image, segments], dim=-1))
        return image + self.to_image(both), segments + self.to_segments(both)


class FusedLayers(nn.Module):
    """Two transformer encoders whose class tokens are fused after every layer.

    Parameters
    ----------
    layout : Layout
        With tokens and segments.
    width, heads, layers, dropout
        As `TransLocatorNetwork` takes them.
    """

    def __init__(
        self, layout: Layout, *, width: int, heads: int, layers: int, dropout: float
    ) -> None:
        super().__init__()
        assert layout.tokens is not None
        assert layout.segments is not None
        patches = {
            "image": layout.tokens,
            # Shares of a whole picture are a stream of one patch.
            "segments": (1, *layout.segments)[-2:],
        }
        self.length = 2 * width
        self.pooled = nn.Linear(layout.pooled, width)
        self.project = nn.ModuleDict(
            {name: nn.Linear(c, width) for name, (_, c) in patches.items()}
        )
        self.places = nn.ParameterDict(
            {name: _drawn(count, width) for name, (count, _) in patches.items()}
        )
        self.classes = nn.ParameterDict({name: _drawn(1, width) for name in patches})
        self.layers = nn.ModuleDict(
            {
                name: nn.ModuleList(EncoderLayer(width, heads, dropout) for _ in range(layers))
                for name in patches
            }
        )
        self.exchanges = nn.ModuleList(Exchange(width) for _ in range(layers))

    def forward(self, parts: Parts) -> Tensor:
        """Fuse the streams.

        Parameters
        ----------
        parts : Parts
            Standardised.

        Returns
        -------
        Tensor of shape (b, 2 * width)
            The class tokens after the last fusion, side by side.
        """
        *_, last = self.class_tokens(parts)
        return torch.cat(last, dim=1)

    def class_tokens(self, parts: Parts) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield both class tokens (b, width) after the fusion of each layer.

        Parameters
        ----------
        parts : Parts
            Standardised.

        Yields
        ------
        image, segments : Tensor of shape (b, width)
            The first layer's, then the next one's.
        """
        assert parts.tokens is not None
        assert parts.segments is not None
        segments = parts.segments if parts.segments.ndim == 3 else parts.segments[:, None]
        # What the tower made of the whole picture is where its class token starts.
        start = self.classes["image"] + self.pooled(parts.pooled)[:, None]
        image = self._stream("image", parts.tokens, start)
        other = self._stream("segments", segments, self.classes["segments"])
        for number, exchange in enumerate(self.exchanges):
            # No patch is looked at after the last layer.
            asked = 1 if number == len(self.exchanges) - 1 else None
            image = self.layers["image"][number](image, asked)  # type: ignore[index]
            other = self.layers["segments"][number](other, asked)  # type: ignore[index]
            both = exchange(image[:, 0], other[:, 0])
            yield both
            image, other = (
                torch.cat([token[:, None], stream[:, 1:]], dim=1)
                for token, stream in zip(both, (image, other), strict=True)
            )

    def _stream(self, name: str, patches: Tensor, start: Tensor) -> Tensor:
        placed = self.project[name](patches) + self.places[name]
        return torch.cat([start.expand(len(placed), -1, -1), placed], dim=1)


class GatedFusion(nn.Module):
    """Two vectors of a picture, each through dense layers, and a gate between them.

    With a and b what the dense layers make of the pooled feature and of the segments' shares:
    g * a + (1 - g) * b, where g = sigmoid(W [a, b] + c), value by value.

    Parameters
    ----------
    layout : Layout
        With segments.
    width, layers, dropout
        As `TransLocatorNetwork` takes them.
    """

    def __init__(self, layout: Layout, *, width: int, layers: int, dropout: float) -> None:
        super().__init__()
        assert layout.segments is not None
        self.length = width
        self.image = nn.ModuleList(_dense(layout.pooled, width, layers))
        self.segments = nn.ModuleList(_dense(layout.segments[-1], width, layers))
        self.gate = nn.Linear(2 * width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, parts: Parts) -> Tensor:
        """Fuse the streams.

        Parameters
        ----------
        parts : Parts
            Standardised; segments of patches are averaged.

        Returns
        -------
        Tensor of shape (b, width)
            The gated vector.
        """
        assert parts.segments is not None
        segments = parts.segments if parts.segments.ndim == 2 else parts.segments.mean(dim=1)
        image = parts.pooled
        for one, other in zip(self.image, self.segments, strict=True):
            image = self.dropout(gelu(one(image)))
            segments = self.dropout(gelu(other(segments)))
        gate = torch.sigmoid(self.gate(torch.cat([image, segments], dim=1)))
        return gate * image + (1.0 - gate) * segments


def _drawn(count: int, width: int) -> nn.Parameter:
    return nn.Parameter(_DRAWN * torch.randn(count, width))


def _dense(into: int, width: int, layers: int) -> list[nn.Linear]:
    return [nn.Linear(into if number == 0 else width, width) for number in range(layers)]
