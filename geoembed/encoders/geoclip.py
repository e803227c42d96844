"""The GeoCLIP location encoder: trained weights in the network, behind the common interface."""

import json
import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from geoembed import weights
from geoembed.devices import PRECISIONS, has_float64, resolve_device
from geoembed.encoders.base import LocationEncoder
from geoembed.encoders.layers import Shape, parse_layers
from geoembed.encoders.network import LocationNetwork, build_network
from geoembed.encoders.projections import GEOCLIP_SCALE, equal_earth
from geoembed.errors import WeightsError
from geoembed.extending.specs import LocationEncoderSpec, WeightsSpec

__all__ = ["GeoCLIPEncoder", "load", "load_path"]

# Model types of the release folders that carry a location encoder, by their config.json.
_MODEL_TYPES: Final = ("geoclip-location-encoder", "geoclip-geolocation")


class GeoCLIPEncoder(LocationEncoder):
    """The GeoCLIP location encoder behind the common interface.

    Made by `geoembed.load_encoder`, not directly.

    Parameters
    ----------
    spec : LocationEncoderSpec
        What it is called and where it comes from.
    source : str
        Empty for the weights of the spec, else the path of a file or folder.
    **options
        Those of `geoembed.encoders.base.LocationEncoder`. ``layers`` takes the terms of
        `geoembed.encoders.layers.parse_layers`.
    """

    supports_layers = True
    supports_precision = True

    def __init__(self, spec: LocationEncoderSpec, source: str = "", **options: Any) -> None:
        super().__init__(spec, **options)
        self._source = source
        self._device = resolve_device(self.device)
        self._network, self._digest = _network(
            None if source else _weights_of(spec),
            source,
            _stamp(source),
            self.precision,
            self._device,
        )
        self._parts = parse_layers(self.layers, self._network.shape)

    @property
    def network(self) -> LocationNetwork:
        """The torch module itself; it takes points projected by `project`."""
        return self._network

    @property
    def weights_sha256(self) -> str:
        """Digest of the tensors in use (`geoembed.weights.digest_tensors`)."""
        return self._digest

    @property
    def parts(self) -> tuple[tuple[str, int], ...]:
        """Label and width of every part of the vector, in order."""
        return tuple((part.label, part.width) for part in self._parts)

    @staticmethod
    def project(lonlat: NDArray[np.float64]) -> NDArray[np.float64]:
        """Project lon/lat (n, 2) to what the network takes: Equal Earth, scaled, float64."""
        return equal_earth(lonlat) * GEOCLIP_SCALE

    def _encode_block(self, lonlat: NDArray[np.float64]) -> NDArray[np.floating[Any]]:
        points = torch.from_numpy(self.project(lonlat))
        if has_float64(self._device):
            points = points.to(self._device)
        # The result is what `precision` says, whatever autocast the caller is under.
        with torch.inference_mode(), torch.autocast(self._device.type, enabled=False):
            tensors = self._network.parts(points, self._parts)
            joined = tensors[0] if len(tensors) == 1 else torch.cat(tensors, dim=1)
            if joined.dtype in (torch.float16, torch.bfloat16):
                joined = joined.float()
            block: NDArray[np.floating[Any]] = joined.cpu().numpy()
        return block

    def _recipe(self) -> str:
        return self._source or self.name

    def _default_block_size(self) -> int:
        # 2,048 rows of 1,024 float32 fit the second-level cache of current CPUs, and the matrix
        # products still run at 95 % of their rate; an accelerator wants fewer, larger blocks.
        return 2048 if self._device.type == "cpu" else 32768


def load(spec: LocationEncoderSpec, **options: Any) -> GeoCLIPEncoder:
    """Make the encoder of a registered spec; the factory of ``geoclip.v1``."""
    return GeoCLIPEncoder(spec, **options)


def load_path(path: Path, **options: Any) -> GeoCLIPEncoder:
    """Make an encoder from a local file or folder (see `geoembed.load_encoder`)."""
    path = path.expanduser().absolute()
    stem = re.sub(r"[^a-z0-9_-]+", "-", path.stem.lower()).strip("-_") or "model"
    network, _ = _network(None, str(path), _stamp(str(path)), "float32", torch.device("cpu"))
    spec = LocationEncoderSpec(
        name=f"local.{stem}",
        factory="geoembed.encoders.geoclip:load",
        dimension=network.shape.output,
        summary=f"GeoCLIP location encoder read from {path.name}",
        best_layers=_best_layers(network.shape),
    )
    return GeoCLIPEncoder(spec, source=str(path), **options)


def _best_layers(shape: Shape) -> str:
    """Name the layers of the preset of ``geoclip.v1`` in a network of another depth."""
    last = len(shape.hidden) - 1
    return f"hidden0.{last - 1}+hidden.{last}" if last else "hidden"


def _weights_of(spec: LocationEncoderSpec) -> WeightsSpec:
    if spec.weights is None:
        raise WeightsError(f"The encoder {spec.name!r} declares no weights to load.")
    return spec.weights


def _stamp(source: str) -> tuple[int, ...]:
    """Tell a changed file from the one loaded before: modification times and sizes."""
    if not source:
        return ()
    path = Path(source)
    files = sorted(path.glob("*")) if path.is_dir() else [path]
    states = [file.stat() for file in files if file.is_file()]
    return tuple(value for state in states for value in (state.st_mtime_ns, state.st_size))


@lru_cache(maxsize=8)
def _network(
    spec: WeightsSpec | None,
    source: str,
    stamp: tuple[int, ...],
    precision: str,
    device: torch.device,
) -> tuple[LocationNetwork, str]:
    """Build a network once a process for each weights, precision and device."""
    if spec is not None:
        tensors: Mapping[str, Tensor] = weights.load_tensors(spec, "location_encoder")
        where = f"the weights {spec.name!r}"
    else:
        tensors, where = _read_source(Path(source)), source
    network = build_network(tensors, where)
    digest = weights.digest_tensors(network.state_dict())
    frequencies = {key: b for key, b in network.state_dict().items() if key.endswith(".b")}
    network = network.to(PRECISIONS[precision])
    # Frequencies are coordinates of a kind: rounding them to half precision moves every phase.
    for scale, capsule in enumerate(network.capsules):
        capsule.capsule[0].b = frequencies[f"LocEnc{scale}.capsule.0.b"]
    return network.to(device).eval().requires_grad_(False), digest


def _read_source(path: Path) -> dict[str, Tensor]:
    """Read a weights file, or the one inside a release folder."""
    if not path.is_dir():
        return weights.read_tensors(path)
    config_path = path / "config.json"
    if config_path.is_file():
        try:
            config = json.loads(config_path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise WeightsError(f"{config_path} is not JSON: {error}") from error
        kind = config.get("model_type") if isinstance(config, dict) else None
        if kind not in _MODEL_TYPES or config.get("format_version") != 1:
            raise WeightsError(
                f"{config_path} declares model_type {kind!r}, format_version "
                f"{config.get('format_version') if isinstance(config, dict) else None!r}; "
                f"this version reads {' and '.join(_MODEL_TYPES)} of format_version 1."
            )
    for name in ("model.safetensors", "location_encoder.safetensors"):
        if (path / name).is_file():
            return weights.read_tensors(path / name)
    raise WeightsError(
        f"The folder {path} holds no model.safetensors. Give a folder with config.json and "
        "model.safetensors, or a .safetensors or .pth file."
    )
