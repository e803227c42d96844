"""Files that hold a CLIP: their formats, opened without running anything in them, read lazily."""

import json
import warnings
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from pickle import UnpicklingError
from typing import Any, Final

import torch
from torch import Tensor

from geoembed.errors import WeightsError
from geoembed.images.declared import from_hugging_face, from_open_clip
from geoembed.images.shapes import ClipShape, shape_from_hugging_face, shape_from_open_clip

__all__ = ["Checkpoint", "files_stamp", "open_checkpoint"]

# Weights and configuration in the folders that open_clip and transformers write.
_OPEN_CLIP_CONFIG: Final = "open_clip_config.json"
_OPEN_CLIP_WEIGHTS: Final = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
_HF_CONFIG: Final = "config.json"
_HF_WEIGHTS: Final = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin")
# transformers 5 may put a processor's parts into one file.
_HF_PREPROCESSING: Final = ("preprocessor_config.json", "processor_config.json")

_POINTER: Final = b"version https://git-lfs"
# Sizes that OpenAI's archive carries beside its weights; the weights show them too.
_NOT_WEIGHTS: Final = frozenset({"input_resolution", "context_length", "vocab_size"})


@dataclass(frozen=True)
class Checkpoint:
    """Tensors of a CLIP under the names of their file, and what lies beside them.

    Parameters
    ----------
    path : Path
        The file or folder, for messages.
    shapes : mapping of str to tuple of int
        Name -> shape of every tensor in it.
    read : callable
        Gives a tensor by name, on the CPU.
    shape : ClipShape or None
        What the configuration beside it says; None for a file that has none.
    preprocessing : mapping
        What it declares of `geoembed.extending.Preprocessing`, field by field.
    """

    path: Path
    shapes: Mapping[str, tuple[int, ...]]
    read: Callable[[str], Tensor]
    shape: ClipShape | None = None
    preprocessing: Mapping[str, object] = field(default_factory=dict)


def open_checkpoint(path: Path) -> Checkpoint:
    """Open a file or folder that holds a CLIP.

    Parameters
    ----------
    path : Path
        A Hugging Face folder (``config.json`` and ``model.safetensors``, its shards, or
        ``pytorch_model.bin``), an open_clip folder (``open_clip_config.json`` and
        ``open_clip_model.safetensors``), or a file of OpenAI or open_clip (``.pt``, ``.pth``,
        ``.bin``, ``.safetensors``). A file of a Hugging Face folder stands for its folder.

    Returns
    -------
    Checkpoint
        Nothing but names, shapes and configurations is read yet, where the format allows it.

    Raises
    ------
    WeightsError
        If it is missing, damaged, a Git LFS pointer, a pickle that wants to run code (refused,
        not run), or a folder without a configuration.

    Examples
    --------
    >>> import tempfile
    >>> from geoembed.testing import write_tiny_clip
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     open_checkpoint(write_tiny_clip(folder)).shape.dimension
    768
    """
    if path.is_dir():
        return _open_folder(path)
    if not path.is_file():
        raise WeightsError(f"There is no file or folder {path} to read CLIP weights from.")
    if path.name in _HF_WEIGHTS and (path.parent / _HF_CONFIG).is_file():
        return _open_folder(path.parent)
    shapes, read = _open_file(path)
    if any(name.startswith("vision_model.") for name in shapes):
        raise WeightsError(
            f"{path} holds a CLIP in Hugging Face's layout, without the {_HF_CONFIG} that says "
            "which activation it was trained with. Give the folder that holds both."
        )
    return Checkpoint(path, shapes, read)


def files_stamp(path: Path) -> tuple[tuple[str, int, int], ...]:
    """Tell changed files from those that were read before: names, times and sizes.

    Parameters
    ----------
    path : Path
        A file or folder.

    Returns
    -------
    tuple of (str, int, int)
        Name, modification time in ns and size in bytes of the file, or of every file directly in
        the folder.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     files_stamp(Path(folder))
    ()
    """
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    states = ((file.name, file.stat()) for file in files if file.is_file())
    return tuple((name, state.st_mtime_ns, state.st_size) for name, state in states)


def _open_folder(folder: Path) -> Checkpoint:
    ours = _first(folder, _OPEN_CLIP_WEIGHTS)
    # Some folders carry both layouts; open_clip's names the preprocessing in full.
    if ours is not None and (folder / _OPEN_CLIP_CONFIG).is_file():
        config = _read_json(folder / _OPEN_CLIP_CONFIG)
        where = str(folder / _OPEN_CLIP_CONFIG)
        shape = shape_from_open_clip(_table(config, "model_cfg", where), where)
        declared = from_open_clip(_table(config, "preprocess_cfg", where), where)
        return Checkpoint(folder, *_open_file(ours), shape, declared)
    if not (folder / _HF_CONFIG).is_file():
        raise WeightsError(
            f"The folder {folder} holds no {_HF_CONFIG} (Hugging Face) and no "
            f"{_OPEN_CLIP_CONFIG} with weights (open_clip). Give such a folder, or the weights "
            "file itself."
        )
    shape = shape_from_hugging_face(_read_json(folder / _HF_CONFIG), str(folder / _HF_CONFIG))
    weights = _first(folder, _HF_WEIGHTS)
    if weights is None:
        raise WeightsError(
            f"The folder {folder} holds a {_HF_CONFIG} but none of {', '.join(_HF_WEIGHTS)}."
        )
    declared = {}
    beside = _first(folder, _HF_PREPROCESSING)
    if beside is not None:
        table = _read_json(beside)
        declared = from_hugging_face(table.get("image_processor", table), str(beside))
    opened = _open_shards(weights) if weights.suffix == ".json" else _open_file(weights)
    return Checkpoint(folder, *opened, shape, declared)


_Opened = tuple[dict[str, tuple[int, ...]], Callable[[str], Tensor]]


def _open_file(path: Path) -> _Opened:
    with path.open("rb") as stream:
        start = stream.read(len(_POINTER))
    if start == _POINTER:
        raise WeightsError(
            f"{path} is a Git LFS pointer, a few lines of text that stand for the weights. Fetch "
            "the file itself: git lfs pull"
        )
    if not start:
        raise WeightsError(f"{path} is empty.")
    try:
        if path.suffix == ".safetensors":
            return _open_safetensors(path)
        tensors = _read_archive(path) if _is_archive(path) else _read_pickle(path)
    except WeightsError:
        raise
    # Damaged files fail in many ways; all of them mean the same to the caller.
    except Exception as error:
        reason = (str(error).strip().splitlines() or ["no reason given"])[0]
        if isinstance(error, UnpicklingError):
            # torch would advise to run it after all.
            reason = "it is damaged, or holds objects that need code to be run"
        raise WeightsError(
            f"{path} cannot be read as CLIP weights, and nothing in it was run: "
            f"{type(error).__name__}: {reason}. Fetch it again if it was cut off."
        ) from error
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    return shapes, tensors.__getitem__


def _open_safetensors(path: Path) -> _Opened:
    from safetensors import safe_open

    opened: Any = safe_open(path, framework="pt", device="cpu")
    # Not a mapping: it has keys() and cannot be iterated over.
    names = list(opened.keys())
    return {name: tuple(opened.get_slice(name).get_shape()) for name in names}, opened.get_tensor


def _open_shards(index: Path) -> _Opened:
    where = _table(_read_json(index), "weight_map", str(index))
    shapes: dict[str, tuple[int, ...]] = {}
    reads: dict[str, Callable[[str], Tensor]] = {}
    for file in sorted({str(file) for file in where.values()}):
        if PurePath(file).name != file:
            raise WeightsError(f"{index} names {file!r}, which is not a file of its own folder.")
        if not (index.parent / file).is_file():
            raise WeightsError(f"{index} names the shard {file!r}, which is not there.")
        found, read = _open_file(index.parent / file)
        shapes |= found
        reads |= dict.fromkeys(found, read)
    lost = sorted({*where} ^ {*shapes})
    if lost:
        raise WeightsError(f"The shards of {index} do not hold what it lists: {lost[0]}.")
    return shapes, lambda name: reads[name](name)


def _is_archive(path: Path) -> bool:
    """Tell an archive of TorchScript, which is how OpenAI publishes CLIP, from a state dict."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(PurePath(name).name == "constants.pkl" for name in archive.namelist())


def _read_archive(path: Path) -> dict[str, Tensor]:
    # torch.load(weights_only=True) refuses archives of TorchScript. torch.jit.load rebuilds their
    # modules from TorchScript's own language: no Python is unpickled, and nothing is called here
    # but state_dict(), which is the module's own and only lists tensors.
    load: Callable[..., Any] = torch.jit.load
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*torch.jit.load.*is deprecated")
        module = load(path, map_location="cpu")
    found: dict[str, Tensor] = module.state_dict()
    return {name: tensor for name, tensor in found.items() if name not in _NOT_WEIGHTS}


def _read_pickle(path: Path) -> dict[str, Tensor]:
    # Only files of the zip format can be mapped; older ones are read as a whole.
    mapped = zipfile.is_zipfile(path)
    content = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]  # a checkpoint of open_clip's training
    if not isinstance(content, Mapping) or not content:
        raise WeightsError(f"{path} holds {type(content).__name__} instead of names and tensors.")
    strange = [name for name, value in content.items() if not isinstance(value, Tensor)]
    if strange:
        raise WeightsError(f"{path} holds things that are no tensors, such as {strange[0]!r}.")
    found = {str(name).removeprefix("module."): value for name, value in content.items()}
    return {name: tensor for name, tensor in found.items() if name not in _NOT_WEIGHTS}


def _first(folder: Path, names: tuple[str, ...]) -> Path | None:
    return next((folder / name for name in names if (folder / name).is_file()), None)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(content, dict):
        raise WeightsError(f"{path} holds {type(content).__name__}, expected a table.")
    return content


def _table(content: Mapping[str, Any], key: str, where: str) -> dict[str, Any]:
    part = content.get(key)
    if not isinstance(part, dict):
        raise WeightsError(f"{where} has no table {key!r}.")
    return part
