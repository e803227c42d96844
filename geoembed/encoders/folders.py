"""Location networks in files and model folders: what they are made of, and their weights."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from geoembed import weights
from geoembed.encoders.architecture import LocationArchitecture
from geoembed.encoders.layers import Shape
from geoembed.encoders.network import LocationNetwork, build_network, load_network
from geoembed.errors import OptionError, WeightsError
from geoembed.extending.specs import LocationEncoderSpec, WeightsSpec
from geoembed.weights import ModelFolder
from geoembed.weights.model_folders import local_name

__all__ = ["LocationModel", "best_layers", "model_of", "model_of_spec", "spec_of"]

# What stands in for a description where there is none; the first is that of a model folder.
_FILES: Final = ("model.safetensors", "location_encoder.safetensors")
_CONFIG: Final = "config.json"
_TOLD: Final = ("summary", "licence", "paper", "training_data", "best_layers")
# The published scales are powers of two. Of 256 frequencies the measured deviation is off by 3 %.
_NEAR_A_POWER: Final = 0.1


@dataclass(frozen=True, eq=False)
class LocationModel:
    """A location network with its weights.

    Parameters
    ----------
    network : LocationNetwork
        On the CPU, float32.
    architecture : LocationArchitecture
        What it is made of. Where only tensors are at hand, the projection is taken to be GeoCLIP's,
        and sigmas are those of the frequencies themselves.
    sha256 : str
        `geoembed.weights.digest_location` of its tensors.
    """

    network: LocationNetwork
    architecture: LocationArchitecture
    sha256: str


def model_of(path: Path) -> LocationModel:
    """Read the location network of a file or model folder.

    Parameters
    ----------
    path : Path
        A ``.safetensors``, ``.pth`` or ``.pt`` file; or a folder with ``config.json`` and
        ``model.safetensors``, as `geoembed export` and the package geoclip write and read them.

    Returns
    -------
    LocationModel
        Of new tensors.

    Raises
    ------
    WeightsError
        If there is no such path, it is of another kind, or description and tensors do not fit.
    """
    if not path.is_dir():
        return _published(weights.read_tensors(path), str(path))
    if (path / _CONFIG).is_file():
        return _of_folder(weights.read_model_folder(path))
    for name in _FILES:
        if (path / name).is_file():
            return _published(weights.read_tensors(path / name), str(path))
    hint = "Give a folder with config.json and model.safetensors, or a .safetensors or .pth file."
    if any(path.glob("checkpoints/step-*.pt")):
        hint = f"It looks like a training run; type: geoembed export {path} -o FOLDER"
    raise WeightsError(f"The folder {path} holds no model.safetensors. {hint}")


def model_of_spec(spec: WeightsSpec) -> LocationModel:
    """Load the location network of registered weights, checked against their hashes.

    Parameters
    ----------
    spec : WeightsSpec
        With a file of the role ``"location_encoder"``, or with a model folder's two files of the
        roles ``"config"`` and ``"model"``.

    Returns
    -------
    LocationModel
        Of new tensors.

    Raises
    ------
    MissingWeightsError
        If the weights are nowhere.
    WeightsError
        If they are not what the spec says.
    """
    where = f"the weights {spec.name!r}"
    if any(file.role == "config" for file in spec.files):
        return _of_folder(weights.model_folder_of(spec), where)
    return _published(weights.load_tensors(spec, "location_encoder"), where)


def spec_of(path: Path, shape: Shape) -> LocationEncoderSpec:
    """Describe the encoder in a file or model folder, by what its configuration tells.

    Parameters
    ----------
    path : Path
        As for `model_of`.
    shape : Shape
        Of its network.

    Returns
    -------
    LocationEncoderSpec
        Named ``local.`` and the name of the file or folder.

    Examples
    --------
    >>> spec_of(Path("/models/My Alps.safetensors"), Shape(1, (8, 8), 4)).name
    'local.my-alps'
    """
    described = path.is_dir() and (path / _CONFIG).is_file()
    folder = weights.read_model_folder(path) if described else None
    told: dict[str, Any] = {} if folder is None else {key: folder.text(key) for key in _TOLD}
    given = "" if folder is None else folder.text("name")
    named = f"Location encoder {given}".strip()
    return LocationEncoderSpec(
        name=local_name(path),
        factory="geoembed.encoders.geoclip:load",
        dimension=shape.output,
        summary=told.pop("summary", "") or f"{named} read from {path.name}",
        best_layers=told.pop("best_layers", "") or best_layers(shape),
        **told,
    )


def best_layers(shape: Shape) -> str:
    """Name the layers of the preset of ``geoclip.v1`` in a network of another depth.

    Parameters
    ----------
    shape : Shape
        Of the network.

    Returns
    -------
    str
        For the option ``layers``.

    Examples
    --------
    >>> best_layers(Shape(scales=3, hidden=(1024, 1024, 1024), output=512))
    'hidden0.1+hidden.2'
    """
    last = len(shape.hidden) - 1
    return f"hidden0.{last - 1}+hidden.{last}" if last else "hidden"


def _published(tensors: Mapping[str, Tensor], where: str, declared: object = ()) -> LocationModel:
    """Take tensors of GeoCLIP's kind of network: projection and encoding are the published ones."""
    network = build_network(tensors, where)
    frequencies: list[Tensor] = [capsule.capsule[0].b for capsule in network.capsules]  # type: ignore[misc]
    sigmas = _checked_sigmas(declared, len(frequencies), where)
    architecture = LocationArchitecture(
        sigmas=sigmas or tuple(_sigma(b) for b in frequencies),
        frequencies=len(frequencies[0]),
        hidden=network.shape.hidden,
        output=network.shape.output,
    )
    return _loaded(network, architecture)


def _of_folder(folder: ModelFolder, where: str = "") -> LocationModel:
    where = where or str(folder.path)
    if folder.format == "geoclip":
        return _published(folder.tensors(), where, folder.config.get("sigma", ()))
    described: Any = folder.config.get("location")
    if not isinstance(described, Mapping):
        raise WeightsError(
            f"{folder.path / _CONFIG} does not say what the location encoder is made of: expected "
            f"a table under 'location', got {described!r:.60}."
        )
    try:
        architecture = LocationArchitecture.from_dict(described)
        with torch.device("meta"):
            network = architecture.build()
    except (OptionError, TypeError, RuntimeError) as error:
        problem = f"'location' of {folder.path / _CONFIG} cannot be built"
        raise WeightsError(f"{problem}: {error}") from error
    return _loaded(load_network(network, folder.location_tensors(), where), architecture)


def _loaded(network: LocationNetwork, architecture: LocationArchitecture) -> LocationModel:
    state = network.state_dict()
    digest = weights.digest_location(state, architecture.projection, architecture.encoding)
    return LocationModel(network, architecture, digest)


def _checked_sigmas(declared: object, scales: int, where: str) -> tuple[float, ...]:
    """Check what a release of the package geoclip declares, if it does."""
    values = tuple(declared) if isinstance(declared, list | tuple) else None
    numbers = values is not None and all(
        isinstance(sigma, int | float) and not isinstance(sigma, bool) and sigma > 0
        for sigma in values
    )
    if values is None or not numbers or len(values) not in (0, scales):
        raise WeightsError(
            f"The configuration of {where} declares sigma = {declared!r:.60}, and its tensors have "
            f"{scales} scales: give one number above 0 for each."
        )
    return tuple(map(float, values))


def _sigma(frequencies: Tensor) -> float:
    """Measure the standard deviation of frequencies; a power of two that is near stands for it."""
    deviation = float(frequencies.double().square().mean().sqrt())
    if deviation <= 0.0:
        return 1.0
    power = 2.0 ** round(math.log2(deviation))
    return power if abs(deviation / power - 1.0) <= _NEAR_A_POWER else float(f"{deviation:.3g}")
