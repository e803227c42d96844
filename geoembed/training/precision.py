"""Number formats of the networks: autocast, the scaling of float16 gradients, compilation."""

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Final

import torch
from torch import Tensor, nn

from geoembed.devices import PRECISIONS

__all__ = ["compile_networks", "drop_tiny", "gradient_scaler", "networks_in", "without_tiny"]

# The smallest normal float32 is 1.2e-38; products with smaller numbers take a hundred times as
# long on many CPUs. This leaves room for what decays further before it is dropped again.
_TINY: Final = 1e-30


def networks_in(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """Return the context that the networks run in.

    Parameters
    ----------
    precision : {"float32", "bfloat16", "float16"}
        Of their matrix products. Coordinates, phases and the loss are outside, or elementwise in
        float64, and stay as they are.
    device : torch.device
        Where they run.

    Returns
    -------
    context manager
        Autocast, or nothing for float32.

    Examples
    --------
    >>> with networks_in("bfloat16", torch.device("cpu")):
    ...     (torch.eye(2) @ torch.eye(2)).dtype
    torch.bfloat16
    """
    if precision == "float32":
        return nullcontext()
    # No cache of cast weights: it is made for one forward pass, and a recomputed one with other
    # settings of gradients must not find it.
    return torch.autocast(device.type, dtype=PRECISIONS[precision], cache_enabled=False)


def gradient_scaler(precision: str, device: torch.device) -> torch.amp.GradScaler:
    """Return what keeps float16 gradients from vanishing.

    Parameters
    ----------
    precision : {"float32", "bfloat16", "float16"}
        Only float16 is scaled; for the others the scaler changes nothing.
    device : torch.device
        Where the weights lie.

    Returns
    -------
    torch.amp.GradScaler
        Enabled for float16.

    Examples
    --------
    >>> gradient_scaler("bfloat16", torch.device("cpu")).is_enabled()
    False
    """
    return torch.amp.GradScaler(device.type, enabled=precision == "float16")


def compile_networks(model: nn.Module) -> None:
    """Compile the location encoder and the image side in place; names of weights stay.

    Parameters
    ----------
    model : GeolocationModel
        Its ``location_encoder`` and ``image_encoder`` are compiled when they first run.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> parts = SimpleNamespace(location_encoder=nn.Linear(2, 2), image_encoder=nn.Linear(2, 2))
    >>> compile_networks(parts)
    >>> list(parts.location_encoder.state_dict())
    ['weight', 'bias']
    """
    for name in ("location_encoder", "image_encoder"):
        getattr(model, name).compile()


@torch.no_grad()
def drop_tiny(weights: Iterable[Tensor]) -> None:
    """Set weights below 1e-30 to zero, in place.

    Adam's weight decay shrinks the weights of units that never fire by a constant factor a step,
    until they are no longer normal float32 numbers: a hundred thousand of the published weights
    are not. They add nothing to any output, and CPUs multiply by them so slowly that a step takes
    three times as long.

    Parameters
    ----------
    weights : iterable of Tensor
        Changed in place.

    Examples
    --------
    >>> weight = torch.tensor([1e-40, -1e-8, 0.5])
    >>> drop_tiny([weight])
    >>> weight
    tensor([ 0.0000e+00, -1.0000e-08,  5.0000e-01])
    """
    for weight in weights:
        weight.copy_(without_tiny(weight))


def without_tiny(values: Tensor) -> Tensor:
    """Return values with those below 1e-30 set to zero; no number stays none.

    Parameters
    ----------
    values : Tensor
        Of any shape.

    Returns
    -------
    Tensor
        New.

    Examples
    --------
    >>> without_tiny(torch.tensor([1e-40, 2.0])).tolist()
    [0.0, 2.0]
    """
    return torch.hardshrink(values, _TINY)
