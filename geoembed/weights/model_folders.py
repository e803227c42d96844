"""Model folders: ``config.json`` says what a model is, ``model.safetensors`` lies beside it."""

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import exp
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from geoembed.errors import WeightsError
from geoembed.extending.specs import WeightsSpec
from geoembed.weights.store import checked_path, load_tensors
from geoembed.weights.tensors import digest_tensors, read_tensors

if TYPE_CHECKING:
    import torch

__all__ = [
    "MODEL_TYPES",
    "ModelFolder",
    "digest_location",
    "local_name",
    "model_folder_of",
    "read_model_folder",
]

# What `geoembed export` writes, and the releases that the package geoclip reads.
MODEL_TYPES: Final = (
    "geoembed-location-encoder",
    "geoembed-geolocation",
    "geoclip-location-encoder",
    "geoclip-geolocation",
)

_CONFIG: Final = "config.json"
_TENSORS: Final = "model.safetensors"
_LOCATION: Final = "location_encoder."
_PUBLISHED: Final = ("equal-earth", "rff")


@dataclass(frozen=True)
class ModelFolder:
    """A trained model in a folder.

    Parameters
    ----------
    path : Path
        The folder.
    config : mapping
        What ``config.json`` holds.
    spec : WeightsSpec or None
        Where it is registered, the weights that pin its files.
    """

    path: Path
    config: Mapping[str, Any]
    spec: WeightsSpec | None = None

    @property
    def format(self) -> str:
        """``"geoembed"``, or ``"geoclip"`` for releases that the package geoclip reads."""
        return str(self.config["model_type"]).partition("-")[0]

    @property
    def has_images(self) -> bool:
        """Whether an image side goes with the location encoder."""
        return str(self.config["model_type"]).endswith("-geolocation")

    def text(self, key: str) -> str:
        """Return a text of the configuration.

        Parameters
        ----------
        key : str
            Such as ``"licence"``.

        Returns
        -------
        str
            Empty if there is none.

        Raises
        ------
        WeightsError
            If it is something else.
        """
        value = self.config.get(key) or ""
        if not isinstance(value, str):
            raise WeightsError(f"{self.path / _CONFIG} holds {key} = {value!r:.60}, no text.")
        return value

    def tensors(self) -> dict[str, "torch.Tensor"]:
        """Read all tensors of the model.

        Returns
        -------
        dict of str to torch.Tensor
            On the CPU, under the names that they have in the file.

        Raises
        ------
        WeightsError
            If the file is not there, cannot be read, or is not the registered one.
        """
        if self.spec is not None:
            return load_tensors(self.spec, "model")
        return read_tensors(self.path / _TENSORS)

    def part(self, prefix: str) -> dict[str, "torch.Tensor"]:
        """Read the tensors of one part of the model.

        Parameters
        ----------
        prefix : str
            What their names start with, for example ``"image_encoder."``.

        Returns
        -------
        dict of str to torch.Tensor
            Names without the prefix; empty if there are none.
        """
        return _part(self.tensors(), prefix)

    def location_tensors(self) -> dict[str, "torch.Tensor"]:
        """Read the tensors of the location encoder.

        Returns
        -------
        dict of str to torch.Tensor
            Named ``LocEnc0.capsule.0.b`` and so on.
        """
        tensors = self.tensors()
        return _part(tensors, _LOCATION) or tensors

    def location_sha256(self) -> str:
        """Return the digest that an encoder loaded from here has as ``weights_sha256``.

        Returns
        -------
        str
            64 hexadecimal digits, see `digest_location`.
        """
        network = self.config.get("location")
        described = network if self.format == "geoembed" and isinstance(network, dict) else {}
        return digest_location(
            self.location_tensors(),
            str(described.get("projection", _PUBLISHED[0])),
            str(described.get("encoding", _PUBLISHED[1])),
        )

    def temperature(self) -> float | None:
        """Return what cosines of pictures and places are multiplied by.

        Returns
        -------
        float or None
            None for a location encoder alone.

        Raises
        ------
        WeightsError
            If it is not one number.
        """
        tensor = self.tensors().get("logit_scale")
        if tensor is None:
            return None
        if tensor.numel() != 1:
            raise WeightsError(f"The temperature in {self.path} is not one number.")
        return exp(tensor.item())


def read_model_folder(path: str | Path) -> ModelFolder:
    """Read what a folder says of the model in it.

    Parameters
    ----------
    path : str or Path
        A folder with ``config.json`` and ``model.safetensors``.

    Returns
    -------
    ModelFolder
        Its tensors are read when asked for.

    Raises
    ------
    WeightsError
        If there is no such folder, or it is of another kind or format version.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as name:
    ...     config = {"model_type": "geoclip-location-encoder", "format_version": 1}
    ...     _ = Path(name, "config.json").write_text(json.dumps(config))
    ...     folder = read_model_folder(name)
    >>> folder.format, folder.has_images
    ('geoclip', False)
    """
    folder = Path(path).expanduser()
    if not folder.is_dir():
        raise WeightsError(f"There is no folder {folder} of a model.")
    return ModelFolder(folder, _read_config(folder))


def model_folder_of(spec: WeightsSpec) -> ModelFolder:
    """Find a registered model folder, its configuration checked.

    Parameters
    ----------
    spec : WeightsSpec
        With files of the roles ``"config"`` and ``"model"``, named ``config.json`` and
        ``model.safetensors``.

    Returns
    -------
    ModelFolder
        Its tensors are checked when they are read.

    Raises
    ------
    MissingWeightsError
        If it is nowhere.
    WeightsError
        If its configuration is not the registered one, or of another kind or format version.

    Examples
    --------
    >>> from geoembed.extending.registry import weights_specs
    >>> model_folder_of(weights_specs()["bluemarble.v1"]).format  # doctest: +SKIP
    'geoembed'
    """
    folder = checked_path(spec, "config").parent
    return ModelFolder(folder, _read_config(folder), spec)


def digest_location(
    tensors: Mapping[str, "torch.Tensor"],
    projection: str = _PUBLISHED[0],
    encoding: str = _PUBLISHED[1],
) -> str:
    """Return the digest of a location encoder: the ``weights_sha256`` of what is loaded.

    It does not depend on the precision that a file keeps them in beyond the values themselves,
    and tells apart networks of equal tensors whose places are projected otherwise.

    Parameters
    ----------
    tensors : mapping of str to torch.Tensor
        Named ``LocEnc0.capsule.0.b`` and so on.
    projection, encoding : str
        Fields of the network's description.

    Returns
    -------
    str
        For GeoCLIP's projection and encoding, `digest_tensors` of the tensors in float32.

    Examples
    --------
    >>> import torch
    >>> tensors = {"LocEnc0.capsule.0.b": torch.ones(2, 2)}
    >>> half = {"LocEnc0.capsule.0.b": torch.ones(2, 2, dtype=torch.float16)}
    >>> digest_location(tensors) == digest_location(half) == digest_tensors(tensors)
    True
    >>> digest_location(tensors, "plate-carree") == digest_location(tensors)
    False
    """
    digest = digest_tensors({key: tensor.float() for key, tensor in tensors.items()})
    if (projection, encoding) == _PUBLISHED:
        return digest
    return hashlib.sha256(f"{digest}\0{projection}\0{encoding}".encode()).hexdigest()


def _part(tensors: Mapping[str, "torch.Tensor"], prefix: str) -> dict[str, "torch.Tensor"]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / _CONFIG
    try:
        config: Any = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        hint = ""
        if any(folder.glob("checkpoints/step-*.pt")):
            hint = f" It looks like a training run; type: geoembed export {folder} -o FOLDER"
        raise WeightsError(f"The folder {folder} has no {_CONFIG}.{hint}") from error
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror or error}.") from error
    except ValueError as error:
        raise WeightsError(f"{path} is not JSON: {error}") from error
    told: dict[str, Any] = config if isinstance(config, dict) else {}
    kind, version = told.get("model_type"), told.get("format_version")
    if kind not in MODEL_TYPES or type(version) is not int or version != 1:
        raise WeightsError(
            f"{path} declares model_type {kind!r}, format_version {version!r}; this version reads "
            f"{', '.join(MODEL_TYPES)} of format_version 1."
        )
    return told


def local_name(path: Path) -> str:
    """Return what a model in a file or folder is called, on its place and its image side.

    Parameters
    ----------
    path : Path
        The file or folder.

    Returns
    -------
    str
        ``local.`` and the file's stem or the folder's name, in lower case.

    Examples
    --------
    >>> local_name(Path("models/Alps 2.safetensors"))
    'local.alps-2'
    """
    # What follows the last dot of a folder's name is part of it, as in 'alps.v2'.
    stem = os.path.basename(path) if path.is_dir() else path.stem
    return "local." + (re.sub(r"[^a-z0-9_-]+", "-", stem.lower()).strip("-_") or "model")
