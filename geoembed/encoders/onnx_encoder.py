"""Location encoders that run in onnxruntime: vectors without importing torch."""

import os
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from geoembed.encoders.base import LocationEncoder
from geoembed.encoders.layers import Part, parse_layers
from geoembed.encoders.onnx_cache import cached_file
from geoembed.encoders.onnx_file import FileFacts, open_onnx
from geoembed.errors import OptionError, PluginError, WeightsError
from geoembed.extending import registry
from geoembed.extending.specs import LocationEncoderSpec

__all__ = ["OnnxEncoder", "describe_onnx", "load_onnx"]

# How a file of a precision is exported.
_EXPORTED: Final = {
    "float32": " without --int8",
    "int8": " with --int8",
    "float64": ": load_encoder(NAME, backend='onnx', precision='float64') keeps one in the cache",
}


class OnnxEncoder(LocationEncoder):
    """An exported location network, run by onnxruntime on the CPU.

    Made by `geoembed.load_encoder`, not directly: from an ``.onnx`` file, or from a registered
    name with ``backend="onnx"``. Its vectors are those of the encoder that was exported, up to
    rounding; with ``precision="int8"`` a vector depends a little on the others of its block.

    Parameters
    ----------
    spec : LocationEncoderSpec
        Of the encoder that was exported.
    path : Path
        The file.
    source : str
        What loads it again: a registered name, or the file's own path.
    **options
        Those of `geoembed.LocationEncoder`. ``layers`` and ``precision`` must be the file's, which
        may have more layers than are asked for; ``device`` is ``"auto"`` or ``"cpu"``.

    Raises
    ------
    OptionError
        If the file does not have what the options ask for; the message says how to export it.
    """

    supports_layers = True
    supports_precision = True

    def __init__(self, spec: LocationEncoderSpec, path: Path, source: str, **options: Any) -> None:
        super().__init__(spec, **{**options, "backend": "onnx"})
        _check_device(self.device)
        self._source = source
        self._opened = open_onnx(path)
        facts = self._opened.facts
        if facts.precision != self.precision:
            raise OptionError(
                f"{path} computes in {facts.precision}, and precision={self.precision!r} is asked "
                f"for. Pass precision={facts.precision!r}, or export another file"
                f"{_EXPORTED[self.precision]}."
            )
        self._parts = parse_layers(self.layers, facts.shape)
        self._columns = _columns(self._parts, facts, path, self.layers)

    @property
    def path(self) -> Path:
        """The ONNX file."""
        return self._opened.path

    @property
    def weights_sha256(self) -> str:
        """Digest of the exported weights, in any precision that of the encoder in torch."""
        return self._opened.facts.weights_sha256

    @property
    def parts(self) -> tuple[tuple[str, int], ...]:
        """Label and width of every part of the vector, in order."""
        return tuple((part.label, part.width) for part in self._parts)

    @property
    def _is_torn(self) -> bool:
        return self._opened.facts.projection != "sphere"

    def _encode_block(self, lonlat: NDArray[np.float64]) -> NDArray[np.floating[Any]]:
        if self._opened.process != os.getpid():
            # The threads of a session do not come along into a fork of its process.
            self._opened = self._opened.again()
        vectors = self._opened(lonlat)
        return vectors if self._columns is None else vectors[:, self._columns]

    def _recipe(self) -> str:
        return self._source

    def _default_block_size(self) -> int:
        # Fastest in 8 bits and in float32 on CPUs with 1 MB of second-level cache a core.
        return 1024


def load_onnx(source: "Path | LocationEncoderSpec", **options: Any) -> OnnxEncoder:
    """Make an encoder from an ONNX file, or of a registered encoder by way of the cache.

    Parameters
    ----------
    source : Path or LocationEncoderSpec
        A file of ``geoembed export --format onnx``; or what is to be exported, which is done once
        for each layers and precision and is the only step that imports torch.
    **options
        Of the encoder, without ``backend``. Where nobody says ``precision``, a file computes in
        its own.

    Returns
    -------
    OnnxEncoder
        Ready to compute.

    Raises
    ------
    OptionError
        If an option is not offered, or the encoder has no network.
    MissingExtraError, MissingWeightsError, WeightsError
        If onnxruntime or the weights are not here, or a file is not what it should be.
    """
    if isinstance(source, LocationEncoderSpec):
        # Options are judged before anything is made, which takes ten seconds.
        asked = _Asked(source, **{**options, "backend": "onnx"})
        _check_device(asked.device)
        path = cached_file(source, layers=asked.layers, precision=asked.precision)
        return OnnxEncoder(source, path, source.name, **options)
    path = Path(os.path.abspath(source.expanduser()))
    spec = describe_onnx(path)
    options.setdefault("precision", open_onnx(path).facts.precision)
    return OnnxEncoder(spec, path, str(path), **options)


def describe_onnx(path: Path) -> LocationEncoderSpec:
    """Return the spec of the encoder that was exported into a file, whatever layers it has.

    Parameters
    ----------
    path : Path
        A file of ``geoembed export --format onnx``.

    Returns
    -------
    LocationEncoderSpec
        The registered one, if the file holds its weights; else made of what the file says.

    Raises
    ------
    OptionError
        If it is a file of weights for torch.
    MissingExtraError
        If onnxruntime is not installed.
    WeightsError
        If the file is not what it should be, or has a registered name and other weights.

    Examples
    --------
    >>> describe_onnx(Path("model.safetensors"))  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    geoembed.errors.OptionError: backend='onnx': model.safetensors holds weights for torch. ...
    """
    if path.suffix.lower() != ".onnx":
        raise OptionError(
            f"backend='onnx': {path} holds weights for torch. Export them once, and give the file: "
            f"geoembed export {path} --format onnx -o {path.stem}.onnx"
        )
    return _spec_of(path)


class _Asked(LocationEncoder):
    """Options of an encoder that is not made yet."""

    supports_layers = True
    supports_precision = True

    def _encode_block(self, lonlat: NDArray[np.float64]) -> NDArray[np.floating[Any]]:
        raise NotImplementedError


def _spec_of(path: Path) -> LocationEncoderSpec:
    facts = open_onnx(path).facts
    registered = registry.location_encoder_specs().get(facts.name)
    if registered is not None and _weights_agree(registered, facts):
        return registered
    if registered is not None:
        raise WeightsError(
            f"{path} says that it is {facts.name!r} and holds other weights than those registered: "
            f"their digest is {facts.weights_sha256[:12]}... Export it under another name: --name."
        )
    try:
        return LocationEncoderSpec(
            name=facts.name,
            factory="geoembed.encoders.onnx_encoder:load_onnx",
            dimension=facts.shape.output,
            summary=f"Location encoder read from {path.name}",
            best_layers=facts.best_layers,
            licence=facts.licence,
            paper=facts.paper,
            training_data=facts.training_data,
        )
    except PluginError as error:
        raise WeightsError(f"{path} does not describe an encoder. {error}") from error


def _weights_agree(spec: LocationEncoderSpec, facts: FileFacts) -> bool:
    """Tell whether a file may hold a spec's weights; of model folders no digest is known."""
    if spec.weights is None:
        return False
    files = spec.weights.files
    pinned = [file.tensors_sha256 for file in files if file.role == "location_encoder"]
    return pinned in ([], [None]) or facts.weights_sha256 in pinned


def _columns(
    parts: tuple[Part, ...], facts: FileFacts, path: Path, layers: str
) -> NDArray[np.intp] | None:
    """Columns of the file that make up the asked parts; None for all of them in order."""
    if parts == facts.parts:
        return None
    ends = np.cumsum([part.width for part in facts.parts])
    place = {
        part: np.arange(end - part.width, end) for part, end in zip(facts.parts, ends, strict=True)
    }
    missing = [part.label for part in parts if part not in place]
    if missing:
        raise OptionError(
            f"layers={layers!r}: {path} has {facts.layers!r}, without {', '.join(missing)}. Pass "
            f"layers={facts.layers!r}, or export it again with --layers {layers}."
        )
    return np.concatenate([place[part] for part in parts])


def _check_device(device: str) -> None:
    if device not in ("auto", "cpu"):
        raise OptionError(
            f"device={device!r}: backend='onnx' computes on the CPU. Leave device out, or pass "
            "backend='torch'."
        )
