"""The network of TransLocator: two streams of one picture, fused, and a linear head each answer."""

from collections.abc import Iterator, Mapping
from typing import Any, Final, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import gelu, scaled_dot_product_attention

from geoembed_systems.features import Layout, Parts, PictureFeatures

__all__ = [
    "EncoderLayer",
    "Exchange",
    "FusedLayers",
    "GatedFusion",
    "Standardised",
    "TransLocatorNetwork",
    "moments",
]

# Values looked at together when means and spreads are taken: 32 MB of float64.
_BLOCK: Final = 2**22

# How far weights of class tokens and places of patches are drawn apart, as in vision transformers.
_DRAWN: Final = 0.02

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
        """Return values of shape (..., width), standardised."""
        return (values - self.mean) / self.scale


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
        """Return the first `asked` tokens as the layer leaves them, all if not given.

        Every token is attended to; those that nothing looks at later need not be computed.
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
        """Return both class tokens (b, width) as the fusion leaves them."""
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
        """Return the class tokens after the last layer, side by side, (b, 2 * width)."""
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
        """Return the fused vector, (b, width)."""
        assert parts.segments is not None
        segments = parts.segments if parts.segments.ndim == 2 else parts.segments.mean(dim=1)
        image = parts.pooled
        for one, other in zip(self.image, self.segments, strict=True):
            image = self.dropout(gelu(one(image)))
            segments = self.dropout(gelu(other(segments)))
        gate = torch.sigmoid(self.gate(torch.cat([image, segments], dim=1)))
        return gate * image + (1.0 - gate) * segments


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
        self.layout = layout
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

    @classmethod
    def of(
        cls, features: Moments, layout: Layout, classes: Mapping[str, int], **sizes: Any
    ) -> Self:
        """Build one that standardises features by their `moments`.

        Parameters
        ----------
        features : dict
            What `moments` returned of the training features.
        layout, classes, **sizes
            As the class takes them.

        Returns
        -------
        TransLocatorNetwork
            With new weights.
        """
        network = cls(layout, classes, **sizes)
        for name, (mean, scale) in features.items():
            part = network.standardised[name]
            part.load_state_dict({"mean": torch.from_numpy(mean), "scale": torch.from_numpy(scale)})
        return network

    def forward(self, rows: Tensor) -> dict[str, Tensor]:
        """Return the logits of every head, (b, classes), of rows (b, layout.width)."""
        seen = self.seen(rows)
        return {name: head(seen) for name, head in self.heads.items()}

    def scores(self, rows: Tensor, head: str) -> Tensor:
        """Return the logits of one head, (b, classes), of rows (b, layout.width)."""
        logits: Tensor = self.heads[head](self.seen(rows))
        return logits

    def seen(self, rows: Tensor) -> Tensor:
        """Return what the heads look at, of rows (b, layout.width)."""
        fused: Tensor = self.norm(self.fusion(self.parts(rows)))
        return fused

    def parts(self, rows: Tensor) -> Parts:
        """Take rows (b, layout.width) apart, standardised."""
        given = self.layout.unpack(rows)
        return Parts(
            **{name: module(getattr(given, name)) for name, module in self.standardised.items()}
        )


def _drawn(count: int, width: int) -> nn.Parameter:
    return nn.Parameter(_DRAWN * torch.randn(count, width))


def _dense(into: int, width: int, layers: int) -> list[nn.Linear]:
    return [nn.Linear(into if number == 0 else width, width) for number in range(layers)]
