"""The GeoCLIP location encoder: the network, and how trained weights get into it."""

import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from geoembed import weights
from geoembed.encoders.base import LocationEncoder
from geoembed.encoders.devices import PRECISIONS, has_float64, resolve_device
from geoembed.encoders.features import fourier_features
from geoembed.encoders.layers import Part, Shape, parse_layers
from geoembed.encoders.projections import GEOCLIP_SCALE, equal_earth
from geoembed.errors import WeightsError
from geoembed.extending.specs import LocationEncoderSpec, WeightsSpec

__all__ = ["GeoCLIPEncoder", "LocationCapsule", "LocationNetwork", "load", "load_path"]

# Model types of the release folders that carry a location encoder, by their config.json.
_MODEL_TYPES: Final = ("geoclip-location-encoder", "geoclip-geolocation")
_PREFIX: Final = "location_encoder."


class LocationCapsule(nn.Module):
    """One scale: random Fourier features, three hidden ReLU layers, a linear head.

    The names of its parameters are those of the published state dict (``capsule.0.b`` holds the
    frequencies), so that trained weights go in and out without renaming.

    Parameters
    ----------
    frequencies : int
        Rows of the frequency matrix; the features are twice as many.
    hidden : tuple of int
        Widths of the hidden layers.
    output : int
        Width of the head's output.
    sigma : float
        Standard deviation of the frequencies, drawn anew; loading weights replaces them.
    """

    def __init__(
        self, frequencies: int, hidden: tuple[int, ...], output: int, sigma: float = 1.0
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = [_Frequencies(torch.randn(frequencies, 2) * sigma)]
        width = 2 * frequencies
        for size in hidden:
            layers += [nn.Linear(width, size), nn.ReLU()]
            width = size
        self.capsule = nn.Sequential(*layers)
        self.head = nn.Sequential(nn.Linear(width, output))

    def hidden(self, points: Tensor) -> list[Tensor]:
        """Return the output of every hidden layer, (n, width) each, for projected points."""
        first, *rest = self.capsule
        assert isinstance(first, _Frequencies)
        weight = self.head[0].weight
        values = fourier_features(points, first.b.to(points.device), weight.dtype)
        values = values.to(weight.device)
        outputs = []
        for linear in rest[::2]:
            values = torch.relu_(linear(values))
            outputs.append(values)
        return outputs

    def forward(self, points: Tensor) -> Tensor:
        """Return the head's output, (n, output)."""
        output: Tensor = self.head(self.hidden(points)[-1])
        return output


class _Frequencies(nn.Module):
    """Holds the frequency matrix under the key it has in the published state dict."""

    b: Tensor

    def __init__(self, b: Tensor) -> None:
        super().__init__()
        self.register_buffer("b", b)


class LocationNetwork(nn.Module):
    """Projected points to vectors: one capsule a scale, outputs summed.

    Parameters
    ----------
    sigmas : tuple of float
        Standard deviation of each scale's frequencies, coarse to fine.
    frequencies, hidden, output
        As in `LocationCapsule`.
    """

    def __init__(
        self,
        sigmas: tuple[float, ...] = (1.0, 16.0, 256.0),
        *,
        frequencies: int = 256,
        hidden: tuple[int, ...] = (1024, 1024, 1024),
        output: int = 512,
    ) -> None:
        super().__init__()
        self.shape = Shape(scales=len(sigmas), hidden=hidden, output=output)
        for scale, sigma in enumerate(sigmas):
            self.add_module(f"LocEnc{scale}", LocationCapsule(frequencies, hidden, output, sigma))

    @property
    def capsules(self) -> list[LocationCapsule]:
        """The scales, coarse to fine."""
        return [self.get_submodule(f"LocEnc{i}") for i in range(self.shape.scales)]  # type: ignore[misc]

    def forward(self, points: Tensor) -> Tensor:
        """Return the sum over scales, (n, output), for points of shape (n, 2), float64."""
        first, *rest = self.capsules
        total: Tensor = first(points)
        for capsule in rest:
            total = total + capsule(points)
        return total

    def parts(self, points: Tensor, parts: tuple[Part, ...]) -> list[Tensor]:
        """Return the tensors of the asked parts; every scale that is needed runs once."""
        if parts == (Part("final", None, None, self.shape.output),):
            return [self(points)]
        everything = any(part.label == "final" for part in parts)
        got: dict[tuple[int | None, int | None], Tensor] = {}
        for scale, capsule in enumerate(self.capsules):
            if not everything and all(part.scale != scale for part in parts):
                continue
            hidden = capsule.hidden(points)
            got.update({(scale, layer): values for layer, values in enumerate(hidden)})
            if everything or any((p.scale, p.layer) == (scale, None) for p in parts):
                got[scale, None] = capsule.head(hidden[-1])
        if everything:
            got[None, None] = sum(  # type: ignore[assignment]
                (got[s, None] for s in range(1, self.shape.scales)), start=got[0, None]
            )
        return [got[part.scale, part.layer] for part in parts]


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
            None if source else _weights_of(spec), source, _stamp(source), self.precision, self._device
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
    stem = "".join(c if c.isalnum() or c in "-_" else "-" for c in path.stem.lower()) or "model"
    network, _ = _network(None, str(path), _stamp(str(path)), "float32", torch.device("cpu"))
    spec = LocationEncoderSpec(
        name=f"local.{stem.lstrip('-_') or 'model'}",
        factory="geoembed.encoders.geoclip:load",
        dimension=network.shape.output,
        summary=f"GeoCLIP location encoder read from {path.name}",
    )
    return GeoCLIPEncoder(spec, source=str(path), **options)


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


def build_network(tensors: Mapping[str, Tensor], where: str) -> LocationNetwork:
    """Build a network whose scales and widths are those of a state dict, and load it strictly.

    Parameters
    ----------
    tensors : mapping of str to Tensor
        Keys ``LocEnc0.capsule.0.b`` and so on, possibly behind ``location_encoder.`` beside the
        tensors of a full model.
    where : str
        For messages: where they come from.

    Raises
    ------
    WeightsError
        If keys are missing, unknown or of the wrong shape.
    """
    if any(key.startswith(_PREFIX) for key in tensors):
        tensors = {k.removeprefix(_PREFIX): v for k, v in tensors.items() if k.startswith(_PREFIX)}
    hidden_keys = []
    while f"LocEnc0.capsule.{2 * len(hidden_keys) + 1}.weight" in tensors:
        hidden_keys.append(f"LocEnc0.capsule.{2 * len(hidden_keys) + 1}.weight")
    scales = len({key.partition(".")[0] for key in tensors if key.startswith("LocEnc")})
    needed = ("LocEnc0.capsule.0.b", "LocEnc0.head.0.weight")
    if not hidden_keys or any(key not in tensors for key in needed):
        raise WeightsError(
            f"The tensors of {where} are not a GeoCLIP location encoder: expected keys such as "
            f"{needed[0]!r}, got {sorted(tensors)[:3]}."
        )
    network = LocationNetwork(
        (1.0,) * scales,
        frequencies=len(tensors["LocEnc0.capsule.0.b"]),
        hidden=tuple(len(tensors[key]) for key in hidden_keys),
        output=len(tensors["LocEnc0.head.0.weight"]),
    )
    try:
        network.load_state_dict(dict(tensors), strict=True)
    except RuntimeError as error:
        problem = " ".join(str(error).split())
        raise WeightsError(f"The tensors of {where} do not fit together: {problem}") from error
    return network


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
