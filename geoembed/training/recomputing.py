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
        What `encode` takes.
    context : callable
        Gives the context to encode in, such as autocast.
    keep : bool
        Keep the graphs of all parts, and encode each once: more memory, less time.

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
        *,
        keep: bool = False,
    ) -> None:
        self._encode, self._parts, self._context = encode, parts, context
        with torch.set_grad_enabled(keep):
            outputs = [self._run(part) for part in parts]
        self._sizes = [len(output) for output in outputs]
        self._graphs = outputs if keep else []
        self.values = torch.cat([output.detach() for output in outputs])

    def backward(self, gradient: Tensor) -> None:
        """Add to the gradients of the weights what a gradient of the embeddings makes of them.

        Parameters
        ----------
        gradient : Tensor of shape (n, d)
            For all parts in their order.
        """
        pieces = torch.split(gradient, self._sizes)
        if not self._graphs:
            for part, piece in zip(self._parts, pieces, strict=True):
                _backward(self._run(part), piece)
            return
        # Each graph is let go as soon as it has been gone through.
        for piece in reversed(pieces):
            _backward(self._graphs.pop(), piece)

    def _run(self, part: Inputs) -> Tensor:
        with self._context():
            return self._encode(part)


def _backward(output: Tensor, gradient: Tensor) -> None:
    # Nothing to do where nothing of this side is trained.
    if output.requires_grad:
        torch.autograd.backward(output, gradient)
