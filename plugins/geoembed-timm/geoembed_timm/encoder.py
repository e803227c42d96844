"""A tower of timm behind geoembed's interface for image encoders."""

from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn

from geoembed.devices import PRECISIONS
from geoembed.errors import MissingWeightsError, WeightsError
from geoembed.extending import ImageEncoderSpec
from geoembed.images import ImageEncoder
from geoembed.images.checkpoints import files_stamp
from geoembed.images.hub import cached_files, download_files, hub_cache
from geoembed.images.towers import Tower
from geoembed.weights import digest_tensors, read_tensors

__all__ = ["TimmEncoder", "load"]

_FILES = ("model.safetensors", "pytorch_model.bin")


class TimmEncoder(ImageEncoder):
    """A tower of timm without its classifier: the pooled feature of a picture.

    Parameters
    ----------
    spec : ImageEncoderSpec
        ``architecture`` and ``pretrained`` are timm's model and tag.
    **options
        Those of `geoembed.images.load_image_encoder`.
    """

    supports_precision = True

    def __init__(self, spec: ImageEncoderSpec, **options: Any) -> None:
        super().__init__(spec, **options)
        self._path = find_weights(
            spec, self.options["weights"], allow_download=self.options["allow_download"]
        )
        self._tower = _tower(
            *self._file(), self.precision, self.device, self.options["channels_last"]
        )
        self._call = torch.compile(self._tower) if self.options["compile"] else self._tower

    @property
    def weights_sha256(self) -> str:
        """Digest of the tower in float32; made when it is asked for."""
        return _digest(*self._file())

    @property
    def tower(self) -> Tower:
        """The whole encoder, with its patches."""
        return replace(super().tower, patches=self._patches)

    def _file(self) -> tuple[str, str, tuple[tuple[str, int, int], ...]]:
        return model_name(self.spec), str(self._path), files_stamp(self._path)

    def _encode_pixels(self, pixels: Tensor) -> Tensor:
        features: Tensor = self._call(self._laid_out(pixels))
        return features.float()

    def _patches(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Return features, and what timm pools into them: patches, or positions of a map."""
        # Not compiled: tokens are computed once a data set.
        network: Any = self._tower
        values: Tensor = network.forward_features(self._laid_out(pixels))
        features: Tensor = network.forward_head(values)
        if values.ndim == 4:
            last = getattr(network, "output_fmt", "NCHW") == "NHWC"
            return features, values.flatten(1, 2) if last else values.flatten(2).transpose(1, 2)
        # A class token and registers are no patches.
        return features, values[:, getattr(network, "num_prefix_tokens", 0) :]

    def _laid_out(self, pixels: Tensor) -> Tensor:
        if self.options["channels_last"]:
            return pixels.contiguous(memory_format=torch.channels_last)
        return pixels


def load(spec: ImageEncoderSpec, **options: Any) -> TimmEncoder:
    """Make the encoder of a spec; the factory of every name that this plugin registers."""
    return TimmEncoder(spec, **options)


def model_name(spec: ImageEncoderSpec) -> str:
    """Return timm's name of a spec's model, tag included."""
    return f"{spec.architecture}.{spec.pretrained}" if spec.pretrained else spec.architecture


def find_weights(spec: ImageEncoderSpec, weights: str | None, *, allow_download: bool) -> Path:
    """Return a weights file: the one named, one in Hugging Face's cache, or a download of it."""
    if weights is not None:
        path = Path(weights)
        if path.is_dir():
            inside = [path / name for name in _FILES if (path / name).is_file()]
            if not inside:
                raise WeightsError(f"The folder {path} holds none of {', '.join(_FILES)}.")
            path = inside[0]
        if not path.is_file():
            raise WeightsError(f"There is no weights file or folder {path}.")
        return path
    repository = timm.get_pretrained_cfg(model_name(spec)).hf_hub_id
    if not repository:
        raise MissingWeightsError(
            f"timm names no repository with the weights of {spec.name!r}: give weights=PATH."
        )
    for path in cached_files(repository, _FILES):
        return path
    if allow_download:
        return download_files(repository, _FILES[:1])[0]
    with torch.device("meta"):
        network = timm.create_model(model_name(spec), num_classes=0)
    size = 4 * sum(parameter.numel() for parameter in network.parameters())
    raise MissingWeightsError(
        f"The weights of {spec.name!r} ({size / 1e9:.2f} GB, {spec.licence}) are not in Hugging "
        f"Face's cache ({hub_cache()}). Get them one of three ways:\n"
        f"    1. let geoembed fetch {repository}: allow_download=True\n"
        "    2. give a .safetensors or .pth file, or a folder that holds one: weights=PATH\n"
        f"    3. put them into that cache yourself: hf download {repository}"
    )


@lru_cache(maxsize=2)
def _tower(
    model: str,
    path: str,
    stamp: tuple[tuple[str, int, int], ...],
    precision: str,
    device: torch.device,
    channels_last: bool,
) -> nn.Module:
    """Load a tower once a process for each weights, precision, device and layout."""
    del stamp  # there for the key: a file that was replaced is another one
    tower = _read(model, Path(path)).to(device=device, dtype=PRECISIONS[precision])
    return tower.to(memory_format=torch.channels_last) if channels_last else tower


@lru_cache(maxsize=8)
def _digest(model: str, path: str, stamp: tuple[tuple[str, int, int], ...]) -> str:
    del stamp
    return digest_tensors(_read(model, Path(path)).state_dict())


def _read(model: str, path: Path) -> nn.Module:
    tensors = read_tensors(path)
    with torch.device("meta"):
        own = timm.create_model(model).state_dict()
    resized = [
        f"{name} is {tuple(tensors[name].shape)}, expected {tuple(tensor.shape)}"
        for name, tensor in own.items()
        if name in tensors and tensors[name].shape != tensor.shape
    ]
    if resized:
        # timm would resize positions and patches to fit, without a word.
        raise WeightsError(f"{path} holds another model than timm's {model}: {resized[0]}.")
    overlay = {"state_dict": {name: tensor.float() for name, tensor in tensors.items()}}
    try:
        # timm's own names of older files are turned into today's; then all must fit.
        network = timm.create_model(model, pretrained=True, pretrained_cfg_overlay=overlay)
    except (RuntimeError, KeyError) as error:
        reason = " ".join(str(error).split())
        raise WeightsError(
            f"{path} does not hold the weights of timm's {model}: {reason[:300]}"
        ) from error
    network.reset_classifier(0)
    return network.eval().requires_grad_(False)
