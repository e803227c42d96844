"""Devices and number formats by name."""

from typing import Final

import torch

from geoembed.errors import OptionError

__all__ = ["PRECISIONS", "has_float64", "resolve_device"]

PRECISIONS: Final = {
    "float32": torch.float32,
    "float64": torch.float64,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


def resolve_device(name: str) -> torch.device:
    """Turn ``"auto"`` or a device name into a device that is here.

    Parameters
    ----------
    name : str
        ``"auto"`` (CUDA, else MPS, else the CPU), ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"mps"``.

    Raises
    ------
    OptionError
        If torch knows no such device or it is not available here.

    Examples
    --------
    >>> resolve_device("cpu")
    device(type='cpu')
    """
    here = ["cpu"]
    if torch.cuda.is_available():
        here.insert(0, "cuda")
    if torch.backends.mps.is_available():
        here.insert(0, "mps")
    if name == "auto":
        return torch.device("cuda" if "cuda" in here else here[0])
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError) as error:
        raise OptionError(
            f"device={name!r} is not a device. Use 'auto' or one of: {', '.join(here)}."
        ) from error
    known = device.type in here and (
        device.type != "cuda" or (device.index or 0) < torch.cuda.device_count()
    )
    if not known:
        raise OptionError(
            f"device={name!r} is not available here. Use 'auto' or one of: {', '.join(here)}."
        )
    return device


def has_float64(device: torch.device) -> bool:
    """Tell whether a device computes in float64; MPS does not."""
    return device.type != "mps"
