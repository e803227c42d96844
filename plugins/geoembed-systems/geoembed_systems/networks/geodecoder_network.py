"""GeoDecoder's network: queries of scenes and hierarchies that look at the patches of a picture."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from geoembed_systems.pictures.features import Layout

__all__ = ["Attention", "DecoderLayer", "GeoDecoderNetwork", "Moments"]

Floats = NDArray[np.float32]

Moments = dict[str, tuple[Floats, Floats]]
"""Mean and standard deviation of each channel of ``"tokens"`` and ``"pooled"``."""

# Of the learned queries when they are drawn: small beside what attention adds to them.
_QUERY_SCALE = 0.1

# A channel that never changes is not blown up.
_LEAST_SCALE = 1e-6


class Attention(nn.Module):
    """Attention of several heads, by torch's own kernel.

    Parameters
    ----------
    width : int
        Of queries, of what they look at, and of what comes out.
    heads : int
        A divisor of `width`.

    Examples
    --------
    >>> Attention(8, 2)(torch.zeros(1, 3, 8), torch.zeros(5, 4, 8)).shape
    torch.Size([5, 3, 8])
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)

    def forward(self, queries: Tensor, seen: Tensor) -> Tensor:
        """Let queries (b, q, width), or (1, q, width), look at (b, t, width)."""
        query = self._split(self.query(queries)).expand(len(seen), -1, -1, -1)
        key, value = self._split(self.key(seen)), self._split(self.value(seen))
        found = functional.scaled_dot_product_attention(query, key, value)
        out: Tensor = self.out(found.transpose(1, 2).flatten(2))
        return out

    def _split(self, values: Tensor) -> Tensor:
        """Give each head its part: (b, t, width) to (b, heads, t, width / heads)."""
        return values.reshape(*values.shape[:2], self.heads, -1).transpose(1, 2)


class DecoderLayer(nn.Module):
    """Queries look at tokens, then at each other, then each thinks for itself.

    The order is the paper's. Norms come first, as in today's transformers (ours): such layers
    learn without a warm-up.

    Parameters
    ----------
    width, heads : int
        As of `Attention`.
    hidden : int
        Width between the two layers of the last step.
    dropout : float
        Of what each step adds, while learning.

    Examples
    --------
    >>> layer = DecoderLayer(8, 2, 16, 0.0)
    >>> layer(torch.zeros(1, 3, 8), torch.zeros(5, 4, 8)).shape
    torch.Size([5, 3, 8])
    """

    def __init__(self, width: int, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.across = Attention(width, heads)
        self.among = Attention(width, heads)
        self.expand = nn.Linear(width, hidden)
        self.contract = nn.Linear(hidden, width)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))
        self.dropout = nn.Dropout(dropout)

    def forward(self, queries: Tensor, tokens: Tensor) -> Tensor:
        """Return queries (b, q, width) that know more of tokens (b, t, width)."""
        first, second, third = self.norms
        queries = queries + self.dropout(self.across(first(queries), tokens))
        normed = second(queries)
        queries = queries + self.dropout(self.among(normed, normed))
        hidden = functional.gelu(self.expand(third(queries)))
        out: Tensor = queries + self.dropout(self.contract(hidden))
        return out


class GeoDecoderNetwork(nn.Module):
    """Features to logits of the classes of each partition, and of scenes.

    Parameters
    ----------
    layout : Layout
        Of a picture's row, without segments.
    see : {"patches", "pooled", "both"}
        What becomes tokens.
    classes : sequence of int
        Classes of each partition, coarse to fine.
    scenes : int
        How many; 1 for none.
    names : sequence of str
        What the heads of the partitions are called.
    layers, width, heads, hidden : int
        Of the decoder.
    dropout : float
        As of `DecoderLayer`.
    moments : Moments, optional
        Of what is learned from, which tokens are standardised by; without, they are left alone.

    Examples
    --------
    >>> network = GeoDecoderNetwork(
    ...     Layout(6, tokens=(4, 3)), see="patches", classes=(2, 5), scenes=3,
    ...     names=("coarse", "fine"), layers=2, width=8, heads=2, hidden=16, dropout=0.0,
    ... )
    >>> {name: tuple(logits.shape) for name, logits in network(torch.zeros(7, 18)).items()}
    {'coarse': (7, 2), 'fine': (7, 5), 'scene': (7, 3)}
    """

    def __init__(
        self,
        layout: Layout,
        *,
        see: str,
        classes: Sequence[int],
        scenes: int,
        names: Sequence[str],
        layers: int,
        width: int,
        heads: int,
        hidden: int,
        dropout: float,
        moments: Moments | None = None,
    ) -> None:
        super().__init__()
        self.layout = layout
        self.scenes = scenes
        self.names = tuple(names)
        known = moments or {}
        self.patches: _Tokens | None = None
        self.whole: _Tokens | None = None
        if see in ("patches", "both"):
            assert layout.tokens is not None
            count, length = layout.tokens
            self.patches = _Tokens(count, length, width, known.get("tokens"))
        if see in ("pooled", "both"):
            self.whole = _Tokens(1, layout.pooled, width, known.get("pooled"))
        self.queries = nn.Parameter(_QUERY_SCALE * torch.randn(1, scenes * len(classes), width))
        #: How many numbers a picture takes on its way through a layer, at most.
        self.values = scenes * len(classes) * max(width, hidden)
        self.layers = nn.ModuleList(
            DecoderLayer(width, heads, hidden, dropout) for _ in range(layers)
        )
        self.norm = nn.LayerNorm(width)
        self.heads = nn.ModuleList(nn.Linear(width, count) for count in classes)
        self.scene = nn.Linear(width, 1) if scenes > 1 else None

    def forward(self, rows: Tensor) -> dict[str, Tensor]:
        """Return logits (b, classes) by name.

        Parameters
        ----------
        rows : Tensor of shape (b, layout.width) or (b, layout.width + scenes)
            What comes behind the features is the true scene, 1 at its number, all 0 where it is
            not known. It is looked at only while learning.

        Returns
        -------
        dict of str to Tensor
            Of each partition; and of ``"scene"``, where there are several.
        """
        told = rows[:, self.layout.width :]
        known = None
        if self.training and told.shape[1]:
            known = torch.where(told.any(dim=1), told.argmax(dim=1), -1)
        return self.answer(rows[:, : self.layout.width], known)

    def answer(self, rows: Tensor, known: Tensor | None = None) -> dict[str, Tensor]:
        """Return logits, with the scenes that are known.

        Parameters
        ----------
        rows : Tensor of shape (b, layout.width)
            Features.
        known : Tensor of shape (b,), int64, optional
            The scene whose vectors are read; -1 where the network is to choose.

        Returns
        -------
        dict of str to Tensor
            As a call.
        """
        vectors = self.decode(rows).reshape(len(rows), self.scenes, len(self.heads), -1)
        logits: dict[str, Tensor] = {}
        if self.scene is None:
            chosen = vectors[:, 0]
        else:
            scene = self.scene(vectors).squeeze(3).mean(dim=2)
            number = scene.argmax(dim=1)
            if known is not None:
                number = torch.where(known >= 0, known, number)
            chosen = vectors[torch.arange(len(rows), device=rows.device), number]
            logits["scene"] = scene
        for level, (name, head) in enumerate(zip(self.names, self.heads, strict=True)):
            logits[name] = head(chosen[:, level])
        return {name: logits[name] for name in (*self.names, "scene") if name in logits}

    def decode(self, rows: Tensor) -> Tensor:
        """Return what the queries have become, (b, scenes x partitions, width).

        Parameters
        ----------
        rows : Tensor of shape (b, layout.width)
            Features.

        Returns
        -------
        Tensor
            Scene by scene, in each coarse to fine.
        """
        parts = self.layout.unpack(rows)
        tokens = []
        if self.patches is not None:
            assert parts.tokens is not None
            tokens.append(self.patches(parts.tokens))
        if self.whole is not None:
            tokens.append(self.whole(parts.pooled[:, None]))
        seen = torch.cat(tokens, dim=1)
        # Each layer goes on from what the one before has found.
        queries = self.queries
        for layer in self.layers:
            queries = layer(queries, seen)
        decoded: Tensor = self.norm(queries)
        return decoded


class _Tokens(nn.Module):
    """Tokens as the decoder sees them: channels standardised, projected, told where they are."""

    centre: Tensor
    scale: Tensor

    def __init__(
        self, count: int, length: int, width: int, moments: tuple[Floats, Floats] | None
    ) -> None:
        super().__init__()
        centre, scale = moments or (np.zeros(length, np.float32), np.ones(length, np.float32))
        self.register_buffer("centre", torch.tensor(centre, dtype=torch.float32))
        self.register_buffer("scale", torch.tensor(scale, dtype=torch.float32).clamp(_LEAST_SCALE))
        self.project = nn.Linear(length, width)
        self.places = nn.Parameter(_QUERY_SCALE * torch.randn(1, count, width))
        self.norm = nn.LayerNorm(width)

    def forward(self, tokens: Tensor) -> Tensor:
        even = (tokens - self.centre) / self.scale
        found: Tensor = self.norm(self.project(even) + self.places)
        return found
