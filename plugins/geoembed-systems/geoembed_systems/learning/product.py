"""The product of the probabilities of cells that lie in each other."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["hierarchical_logits"]


def hierarchical_logits(levels: Sequence[Tensor], parents: Sequence[NDArray[np.int64]]) -> Tensor:
    """Return logits of the product of a fine cell's probability and those that it lies in.

    p(i) is proportional to p_fine(i) p_middle(parent of i) p_coarse(grandparent of i), each being
    the softmax of its own logits. What normalises those is the same for all fine cells, so that
    the sum of the logits has the same softmax as the sum of the log-probabilities.

    Parameters
    ----------
    levels : sequence of Tensor of shape (b, classes)
        Logits of each partition, coarse to fine.
    parents : sequence of array of shape (fine classes,), int64
        For each coarser partition the class that holds each fine one.

    Returns
    -------
    Tensor of shape (b, fine classes)
        Their softmax is the normalised product.

    Examples
    --------
    >>> coarse, fine = torch.tensor([[0.0, 1.0]]), torch.tensor([[3.0, 2.0, 1.0]])
    >>> hierarchical_logits([coarse, fine], [np.array([0, 0, 1])]).tolist()
    [[3.0, 2.0, 2.0]]
    """
    *coarser, fine = levels
    found = fine.clone()
    for logits, parent in zip(coarser, parents, strict=True):
        found += logits[:, torch.from_numpy(parent).to(logits.device)]
    return found
