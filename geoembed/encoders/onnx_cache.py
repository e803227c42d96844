"""Registered encoders as ONNX files, exported once and kept in geoembed's cache."""

import hashlib
import json
import os
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from geoembed import __version__
from geoembed.encoders import load_encoder
from geoembed.errors import MissingExtraError, OptionError, WeightsError
from geoembed.extending import registry
from geoembed.extending.specs import LocationEncoderSpec
from geoembed.weights import cache_dir, digest_file
from geoembed.weights.drafts import draft_room

__all__ = ["cached_file"]

# By name, as specs name their code: what exports belongs to training, and imports torch.
_EXPORTER: Final = "geoembed.training.onnx_export:export_onnx"
_MAKING: Final = threading.Lock()
# Looked for, and their digests taken, once a process.
_found: Final[dict[str, Path]] = {}


def cached_file(spec: LocationEncoderSpec, *, layers: str, precision: str) -> Path:
    """Return the ONNX file of a registered encoder from the cache, or export it and keep it there.

    Parameters
    ----------
    spec : LocationEncoderSpec
        With weights.
    layers : str
        Which layers make up a vector.
    precision : {"float32", "float64", "int8"}
        What its layers compute in.

    Returns
    -------
    Path
        Named by all that decides what is in it, and by its own digest, which is checked once a
        process; a damaged file is made again.

    Raises
    ------
    OptionError
        If the encoder has no network, or no such layers.
    MissingExtraError
        If there is no file yet, and what exports it, torch among it, is not installed; the message
        says how to come by one.
    MissingWeightsError
        If there is no file yet, and no weights.
    WeightsError
        If the cache cannot be written.
    TrainingError
        If the exported vectors are not the encoder's.
    """
    if spec.weights is None:
        raise OptionError(
            f"backend='onnx': the encoder {spec.name!r} has no network that could be exported. "
            "Leave backend out."
        )
    matter = {
        "geoembed": __version__,
        "encoder": spec.name,
        "weights": {file.role: file.sha256 for file in spec.weights.files},
        "layers": layers,
        "precision": precision,
    }
    key = hashlib.sha256(json.dumps(matter, sort_keys=True).encode()).hexdigest()[:16]
    stem = str(cache_dir() / "onnx" / f"{spec.name}-{precision}-{key}")
    if not _is_there(stem):
        with _MAKING:
            if not _is_there(stem):
                sound = _sound(Path(stem))
                _found[stem] = sound or _make(Path(stem), spec.name, layers, precision)
    return _found[stem]


def _is_there(stem: str) -> bool:
    """Tell whether the file is known, and not deleted since."""
    return stem in _found and _found[stem].exists()


def _sound(stem: Path) -> Path | None:
    for path in sorted(stem.parent.glob(f"{stem.name}-*.onnx")):
        if path.stem == f"{stem.name}-{digest_file(path)[:16]}":
            return path
    return None


def _make(stem: Path, name: str, layers: str, precision: str) -> Path:
    with ExitStack() as stack:
        try:
            stem.parent.mkdir(parents=True, exist_ok=True)
            # One name for all files: what was left of an older version's is cleared with this one.
            room = stack.enter_context(draft_room(stem.with_name("making")))
        except OSError as error:
            raise WeightsError(
                f"The encoder {name!r} cannot be kept as an ONNX file in {stem.parent}: "
                f"{error.strerror or error}. Set GEOEMBED_CACHE to a folder that can be written, "
                f"or give a file: geoembed export {name} --format onnx -o FILE.onnx"
            ) from error
        exact = "float64" if precision == "float64" else "float32"
        try:
            encoder = load_encoder(name, layers=layers, precision=exact, device="cpu")
            export: Any = registry.resolve_factory(_EXPORTER)
        except MissingExtraError as error:
            if error.name != "torch":
                raise
            raise _no_torch(name, layers, precision) from error
        made = room / "made.onnx"
        export(encoder, made, int8=precision == "int8")
        target = stem.with_name(f"{stem.name}-{digest_file(made)[:16]}.onnx")
        os.replace(made, target)
    return target


def _no_torch(name: str, layers: str, precision: str) -> MissingExtraError:
    folder = cache_dir() / "onnx"
    where = f"Load it once where torch is, with this version, and copy the folder {folder}"
    if precision != "float64":
        flags = " --int8" * (precision == "int8") + f" --layers {layers}" * (layers != "final")
        command = f"geoembed export {name} --format onnx{flags} -o {name}.onnx"
        where = f"Export it once where torch is, and give the file in place of the name: {command}"
    return MissingExtraError(
        f"The encoder {name!r} is not among the ONNX files in {folder} yet, and putting it there "
        f"needs torch, which is not installed here. {where}",
        name="torch",
    )
