"""Where a CLIP's weights lie on this machine, and the one place that may download them."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from geoembed.errors import MissingWeightsError, OptionError, WeightsError
from geoembed.extending.image_specs import ImageEncoderSpec
from geoembed.images.backbone import clip_bytes
from geoembed.images.hub import cached_files, download_files, hub_cache
from geoembed.images.shapes import QUICK_GELU, architecture_shape
from geoembed.optional import import_optional
from geoembed.weights import digest_file

__all__ = ["find_clip"]


@dataclass(frozen=True)
class _Published:
    """A Hugging Face repository that holds the weights of one of open_clip's tags."""

    repository: str
    revision: str
    weights_sha256: str


# OpenAI's own conversion: what the published GeoCLIP was trained on and loads.
_PUBLISHED: Final = {
    ("ViT-L-14-quickgelu", "openai"): _Published(
        repository="openai/clip-vit-large-patch14",
        revision="32bd64288804d66eefd0ccbe215aa642df71cc41",
        weights_sha256="a2bf730a0c7debf160f7a6b50b3aaf3703e7e88ac73de7a314903141db026dcb",
    ),
}
_HF_FILES: Final = ("config.json", "preprocessor_config.json", "model.safetensors")
_OPEN_CLIP_FILES: Final = ("open_clip_config.json", "open_clip_model.safetensors")
# What may lie in a cached folder in their stead.
_HF_WEIGHTS: Final = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin")
_OPEN_CLIP_WEIGHTS: Final = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
# OpenAI's addresses carry the SHA-256 of their files.
_OPENAI_HOST: Final = "openaipublic"


def find_clip(
    spec: ImageEncoderSpec,
    weights: str | os.PathLike[str] | None = None,
    *,
    allow_download: bool = False,
) -> Path:
    """Find the CLIP of a spec: where the user says, in the local caches, or by a download.

    Parameters
    ----------
    spec : ImageEncoderSpec
        Whose ``architecture`` and ``pretrained`` are looked for.
    weights : path, optional
        A file or folder; then nothing else is looked at.
    allow_download : bool
        Fetch it into Hugging Face's cache if it is nowhere else.

    Returns
    -------
    Path
        An absolute path of a file or folder.

    Raises
    ------
    MissingWeightsError
        If it is in none of the places; the message says the three ways to get it, and its size.
    OfflineError
        If a download is allowed but ``GEOEMBED_OFFLINE`` is set.
    OptionError
        If the architecture's activation is not the one that the tag was trained with.
    WeightsError
        If `weights` does not exist, a cached file is damaged, or a download fails.

    Examples
    --------
    >>> import tempfile
    >>> from geoembed.extending.registry import image_encoder_spec
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     find_clip(image_encoder_spec("geoclip.v1"), folder) == Path(folder).absolute()
    True
    """
    if weights is not None:
        path = Path(weights).expanduser().absolute()
        if not path.exists():
            raise WeightsError(f"There is no file or folder {path} to read CLIP weights from.")
        return path
    if not spec.architecture or not spec.pretrained:
        raise MissingWeightsError(
            f"The image encoder {spec.name!r} names no published CLIP: give a file or folder, "
            "weights=PATH."
        )
    _check_activation(spec)
    for path in _cached(spec):
        return path
    if not allow_download:
        raise _missing(spec)
    return _download(spec)


def _check_activation(spec: ImageEncoderSpec) -> None:
    """Refuse 'ViT-L-14' with 'openai': open_clip only warns, and the vectors are wrong."""
    quick = bool(_config(spec).get("quick_gelu", False))
    computes = architecture_shape(spec.architecture).activation == QUICK_GELU
    if quick != computes:
        was, has = ("QuickGELU", "GELU") if quick else ("GELU", "QuickGELU")
        raise OptionError(
            f"{spec.name!r} names the architecture {spec.architecture!r}, which computes with "
            f"{has}, and the weights {spec.pretrained!r}, which were trained with {was}."
        )


def _config(spec: ImageEncoderSpec) -> dict[str, Any]:
    open_clip = import_optional("open_clip", extra="image", purpose="Encoding pictures")
    found: dict[str, Any] = open_clip.get_pretrained_cfg(spec.architecture, spec.pretrained)
    if not found:
        raise OptionError(
            f"open_clip knows no weights {spec.pretrained!r} of {spec.architecture!r}, which the "
            f"image encoder {spec.name!r} names."
        )
    return found


def _repositories(spec: ImageEncoderSpec) -> list[tuple[str, str | None, tuple[str, ...]]]:
    """Return where on the hub the weights lie: repository, revision, files; the best first."""
    found: list[tuple[str, str | None, tuple[str, ...]]] = []
    published = _PUBLISHED.get((spec.architecture, spec.pretrained))
    if published is not None:
        found.append((published.repository, published.revision, _HF_FILES))
    named = str(_config(spec).get("hf_hub") or "")
    if named:
        repository, _, file = named.rpartition("/")
        files = (_OPEN_CLIP_FILES[0], file) if file else _OPEN_CLIP_FILES
        found.append((repository, None, files))
    return found


def _cached(spec: ImageEncoderSpec) -> Iterator[Path]:
    for repository, _, files in _repositories(spec):
        config, *_ = files
        hugging_face = config == _HF_FILES[0]
        names = _HF_WEIGHTS if hugging_face else (*_OPEN_CLIP_WEIGHTS, files[-1])
        for path in cached_files(repository, tuple(dict.fromkeys(names))):
            if path.with_name(config).is_file():
                yield path.parent
            elif not hugging_face:
                # open_clip itself fetches the weights alone; the tag tells the rest.
                yield path
    url = str(_config(spec).get("url") or "")
    if _OPENAI_HOST in url:
        path = _openai_file(url)
        if path.is_file():
            expected = url.split("/")[-2]
            if digest_file(path) != expected:
                raise WeightsError(
                    f"{path} is not the file that OpenAI published: its SHA-256 is not {expected}. "
                    "Delete it, or give another file or folder: weights=PATH."
                )
            yield path


def _openai_file(url: str) -> Path:
    """Where OpenAI's package and open_clip keep what they fetched from OpenAI's own address."""
    return Path("~/.cache/clip").expanduser() / url.rpartition("/")[2]


def _download(spec: ImageEncoderSpec) -> Path:
    repositories = _repositories(spec)
    if not repositories:
        raise WeightsError(
            f"The weights {spec.pretrained!r} of {spec.architecture!r} lie on no hub. Fetch them "
            "by hand and give the file: weights=PATH."
        )
    repository, revision, files = repositories[0]
    path = download_files(repository, files, revision=revision)[-1]
    published = _PUBLISHED.get((spec.architecture, spec.pretrained))
    if published is not None and digest_file(path) != published.weights_sha256:
        raise WeightsError(
            f"{path} is not what {repository} published: its SHA-256 is not "
            f"{published.weights_sha256}. Delete it and try again."
        )
    return path.parent


def _missing(spec: ImageEncoderSpec) -> MissingWeightsError:
    size = f"{clip_bytes(architecture_shape(spec.architecture)) / 1e9:.1f} GB"
    repositories = [repository for repository, _, _ in _repositories(spec)]
    first = repositories[0] if repositories else ""
    lines = [
        f"The CLIP weights of {spec.name!r} ({spec.architecture}, {spec.pretrained}, {size} in "
        f"float32) are not on this machine: Hugging Face's cache ({hub_cache()}) holds no "
        f"{' and no '.join(repositories)}, and ~/.cache/clip no file of OpenAI's. "
        "Get them one of three ways:",
        f"    1. let geoembed fetch {first} ({size}): allow_download=True (--allow-download)",
        "    2. give a file or folder that is here, weights=PATH (--weights PATH): a Hugging Face "
        "folder (config.json and model.safetensors), an open_clip folder, or a .pt or "
        ".safetensors file of OpenAI or open_clip",
        "    3. put them into that cache yourself, here or copied from another machine: "
        f"hf download {first}",
    ]
    return MissingWeightsError("\n".join(lines))
