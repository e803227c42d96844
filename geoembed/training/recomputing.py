"""Embeddings of a large batch in parts: gradients of the whole in the memory of one part.

Gao et al., "Scaling deep contrastive learning batch size under memory limited setup", 2021: all
parts are encoded without graphs, the loss gives gradients with respect to the embeddings, and
each part is encoded again with its graph to take them further.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Generic, TypeVar

import torch
from torch import Tensor

__all__ = ["Encoded"]

Inputs = TypeVar("Inputs")


class Encoded(Generic[Inputs]):
    """Embeddings of the parts of a batch, and the way back through them.

    Parameters
    ----------
    encode : callable
        From one part to its embeddings, (n, d); the same each time it is called.
    parts : sequence
        What `encode` takes. A single part keeps its graph and is encoded once.
    context : callable
        Gives the context to encode in, such as autocast.

    Examples
    --------
    >>> from contextlib import nullcontext
    >>> layer = torch.nn.Linear(2, 1)
    >>> encoded = Encoded(layer, torch.ones(4, 2).split(2), nullcontext)
    >>> encoded.values.requires_grad
    False
    >>> encoded.backward(torch.ones(4, 1))
    >>> layer.bias.grad
    tensor([4.])
    """

    def __init__(
        self,
        encode: Callable[[Inputs], Tensor],
        parts: Sequence[Inputs],
        context: Callable[[], AbstractContextManager[object]],
    ) -> None:
        self._encode, self._parts, self._context = encode, parts, context
        self._graph: Tensor | None = None
        if len(parts) == 1:
            self._graph = self._run(parts[0])
            self.values = self._graph.detach()
            return
        with torch.no_grad():
            pieces = [self._run(part) for part in parts]
        self._sizes = [len(piece) for piece in pieces]
        self.values = torch.cat(pieces)

    def backward(self, gradient: Tensor) -> None:
        """Add to the gradients of the weights what a gradient of the embeddings makes of them.

        Parameters
        ----------
        gradient : Tensor of shape (n, d)
            For all parts in their order.
        """
        if self._graph is not None:
            _backward(self._graph, gradient)
            self._graph = None
            return
        for part, piece in zip(self._parts, gradient.split(self._sizes), strict=True):
            _backward(self._run(part), piece)

    def _run(self, part: Inputs) -> Tensor:
        with self._context():
            return self._encode(part)


def _backward(output: Tensor, gradient: Tensor) -> None:
    # Nothing to do where nothing of this side is trained.
    if output.requires_grad:
        torch.autograd.backward(output, gradient)
