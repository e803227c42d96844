"""Tensors in files: read without running anything, and pinned by a digest of their own."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING

from geoembed.errors import WeightsError

if TYPE_CHECKING:
    import torch

__all__ = ["digest_file", "digest_tensors", "read_tensors"]


def digest_file(path: Path) -> str:
    """Return the SHA-256 of a file.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    str
        64 hexadecimal digits.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.NamedTemporaryFile() as file:
    ...     digest_file(Path(file.name))[:16]
    'e3b0c44298fc1c14'
    """
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def digest_tensors(tensors: Mapping[str, "torch.Tensor"]) -> str:
    """Return a SHA-256 over names, types, shapes and values of tensors.

    The digest is the same whether the tensors come from a ``.pth`` or a
    ``.safetensors`` file, so one value pins both.

    Parameters
    ----------
    tensors : mapping of str to torch.Tensor
        A state dict; the order of its keys does not matter.

    Returns
    -------
    str
        64 hexadecimal digits.

    Examples
    --------
    >>> import torch
    >>> digest_tensors({"a": torch.zeros(2)}) == digest_tensors({"a": torch.ones(2)})
    False
    """
    digest = hashlib.sha256()
    for key in sorted(tensors):
        tensor = tensors[key].detach().cpu().contiguous()
        digest.update(f"{key}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()


def read_tensors(path: Path, *, role: str = "tensor") -> dict[str, "torch.Tensor"]:
    """Read a ``.safetensors`` file, or a ``.pth``/``.pt`` file without running anything in it.

    Parameters
    ----------
    path : Path
        The file.
    role : str
        Key given to the tensor of a file that holds one bare tensor.

    Returns
    -------
    dict of str to torch.Tensor
        On the CPU.

    Raises
    ------
    WeightsError
        If the file is missing, cannot be read, holds anything but tensors, or is a pickle that
        wants to run code (refused, not run).

    Examples
    --------
    >>> import tempfile, torch
    >>> with tempfile.TemporaryDirectory() as name:
    ...     path = Path(name, "model.pth")
    ...     torch.save({"weight": torch.eye(2)}, path)
    ...     read_tensors(path)["weight"].tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    import torch
    from safetensors.torch import load_file

    if not path.is_file():
        raise WeightsError(f"There is no weights file {path}.")
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        content = torch.load(path, map_location="cpu", weights_only=True)
    # Damaged and hostile files fail in many ways (UnpicklingError, RuntimeError, EOFError,
    # SafetensorError, ...); all of them mean the same to the caller.
    except Exception as error:
        reason = (str(error).strip().splitlines() or ["no reason given"])[0]
        if isinstance(error, UnpicklingError):
            # torch would advise to run it after all.
            reason = "it is damaged, or holds objects that need code to be run"
        raise WeightsError(
            f"The weights file {path} cannot be read as tensors, and nothing in it was run: "
            f"{type(error).__name__}: {reason}."
        ) from error
    if isinstance(content, torch.Tensor):
        return {role: content}
    if isinstance(content, Mapping) and all(isinstance(v, torch.Tensor) for v in content.values()):
        return {str(key): value for key, value in content.items()}
    raise WeightsError(
        f"The weights file {path} holds {type(content).__name__} instead of a state dict "
        "(names to tensors). Save it with torch.save(module.state_dict(), path)."
    )
