"""Trained location encoders, GeoCLIP's first: a network behind the common interface."""

import os
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from geoembed.devices import PRECISIONS, has_float64, resolve_device
from geoembed.encoders.architecture import LocationArchitecture
from geoembed.encoders.base import LocationEncoder
from geoembed.encoders.folders import LocationModel, model_of, model_of_spec, spec_of
from geoembed.encoders.layers import parse_layers
from geoembed.encoders.network import LocationNetwork
from geoembed.errors import OptionError, WeightsError
from geoembed.extending.specs import LocationEncoderSpec, WeightsSpec

__all__ = ["GeoCLIPEncoder", "load", "load_path"]


# Weights below this in size are zero: nothing that they are added to shows them.
_SMALLEST: Final = 1e-30


class GeoCLIPEncoder(LocationEncoder):
    """A trained location network behind the common interface: GeoCLIP's, or one of that family.

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
        self._model = _network(
            None if source else _weights_of(spec),
            source,
            _stamp(source),
            self.precision,
            self._device,
        )
        if self.architecture.encoding == "none" and self.precision not in ("float32", "float64"):
            # Its first layer takes coordinates, which half precision rounds by some 50 km.
            raise OptionError(
                f"precision={self.precision!r}: the encoder {spec.name!r} has no Fourier features "
                "and offers float32 and float64."
            )
        self._network = self._model.network
        self._parts = parse_layers(self.layers, self._network.shape)

    @property
    def network(self) -> LocationNetwork:
        """The torch module itself; it takes points projected by `project`."""
        return self._network

    @property
    def architecture(self) -> LocationArchitecture:
        """What the network is made of, its projection first."""
        return self._model.architecture

    def read_network(self) -> LocationNetwork:
        """Read the network anew: the very weights of its file, on the CPU, float32.

        Returns
        -------
        LocationNetwork
            Nobody else's; in `network` subnormal weights are zero.
        """
        return _model(None if self._source else _weights_of(self.spec), self._source).network

    @property
    def weights_sha256(self) -> str:
        """Digest of the tensors in use (`geoembed.weights.digest_location`)."""
        return self._model.sha256

    @property
    def parts(self) -> tuple[tuple[str, int], ...]:
        """Label and width of every part of the vector, in order."""
        return tuple((part.label, part.width) for part in self._parts)

    def project(self, lonlat: NDArray[np.float64]) -> NDArray[np.float64]:
        """Project places to what the network takes: Equal Earth, scaled, for ``geoclip.v1``.

        Parameters
        ----------
        lonlat : array of shape (n, 2), float64
            Degrees, WGS 84.

        Returns
        -------
        array of shape (n, 2), or (n, 3) where places lie on the unit sphere, float64
            See `geoembed.encoders.projections.project`.
        """
        return self.architecture.project(lonlat)

    @property
    def _is_torn(self) -> bool:
        return self.architecture.projection != "sphere"

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
    path = Path(os.path.abspath(path.expanduser()))
    model = _network(None, str(path), _stamp(str(path)), "float32", torch.device("cpu"))
    return GeoCLIPEncoder(spec_of(path, model.network.shape), source=str(path), **options)


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


def _model(spec: WeightsSpec | None, source: str) -> LocationModel:
    return model_of(Path(source)) if spec is None else model_of_spec(spec)


@lru_cache(maxsize=8)
def _network(
    spec: WeightsSpec | None,
    source: str,
    stamp: tuple[int, ...],
    precision: str,
    device: torch.device,
) -> LocationModel:
    """Build a network once a process for each weights, precision and device."""
    model = _model(spec, source)
    network = model.network
    frequencies = {key: b for key, b in network.state_dict().items() if key.endswith(".b")}
    network = network.to(PRECISIONS[precision])
    # Frequencies are coordinates of a kind: rounding them to half precision moves every phase.
    for key, b in frequencies.items():
        network.get_submodule(key.removesuffix(".b")).b = b
    network = network.to(device).eval().requires_grad_(False)
    # Weight decay has shrunk weights of dead units to subnormal numbers, with which some CPUs
    # multiply a hundred times slower. Zero in their place gives the same vectors, bit for bit.
    for weight in network.parameters():
        weight.copy_(torch.hardshrink(weight, _SMALLEST))
    return LocationModel(network, model.architecture, model.sha256)
