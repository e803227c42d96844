"""Image encoders by name: pictures, and for some texts, in; vectors out."""

import os
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geoembed.errors import OptionError, PluginError
from geoembed.extending import registry
from geoembed.extending.image_specs import ImageEncoderSpec
from geoembed.lazy import resolver

if TYPE_CHECKING:
    from geoembed.images.base import ImageEncoder as ImageEncoder
    from geoembed.images.gps import read_gps as read_gps
    from geoembed.images.preprocessing import prepare as prepare
    from geoembed.images.running import ImageEmbeddings as ImageEmbeddings
    from geoembed.images.sources import Picture as Picture
    from geoembed.images.sources import find_pictures as find_pictures
    from geoembed.images.sources import read_pictures as read_pictures
    from geoembed.images.views import make_views as make_views

__all__ = [
    "ImageEmbeddings",
    "ImageEncoder",
    "Picture",
    "find_pictures",
    "list_image_encoders",
    "load_image_encoder",
    "make_views",
    "prepare",
    "read_gps",
    "read_pictures",
]

# Resolved when first used: their modules import torch.
_HOME = {
    "ImageEncoder": "geoembed.images.base",
    "ImageEmbeddings": "geoembed.images.running",
    "Picture": "geoembed.images.sources",
    "find_pictures": "geoembed.images.sources",
    "read_pictures": "geoembed.images.sources",
    "read_gps": "geoembed.images.gps",
    "prepare": "geoembed.images.preprocessing",
    "make_views": "geoembed.images.views",
}


def list_image_encoders(pattern: str = "*") -> list[str]:
    """Return the names of the registered image encoders.

    Parameters
    ----------
    pattern : str
        Shell-style, for example ``"geo*"``.

    Returns
    -------
    list of str
        Sorted.

    Examples
    --------
    >>> list_image_encoders("geoclip*")
    ['geoclip.v1']
    """
    return sorted(n for n in registry.image_encoder_specs() if fnmatchcase(n, pattern.lower()))


def load_image_encoder(
    name: "str | Path | ImageEncoderSpec | ImageEncoder" = "geoclip.v1",
    *,
    weights: str | os.PathLike[str] | None = None,
    allow_download: bool = False,
    device: str | None = None,
    precision: str = "float32",
    channels_last: bool = False,
    compile: bool = False,
) -> "ImageEncoder":
    """Load an image encoder by its registered name, or from the folder of a trained model.

    The weights of the tower, 1.7 GB for ``"geoclip.v1"``, do not come with geoembed. They are taken
    from `weights`; else from what lies in the caches of Hugging Face, open_clip and OpenAI's
    package; else, only with `allow_download`, from the network, into Hugging Face's cache. The
    trained head and the temperature are looked for as those of location encoders are.

    Parameters
    ----------
    name : str, Path, ImageEncoderSpec or ImageEncoder
        A name from `list_image_encoders`; a folder with the ``config.json`` and
        ``model.safetensors`` of a trained model that reads pictures; or a description that is
        registered nowhere. An encoder is returned as it is, and then takes no options.
    weights : path, optional
        A file or folder with the weights of the tower: for a CLIP a Hugging Face folder
        (``config.json`` and ``model.safetensors``), an open_clip folder, or a ``.pt`` or
        ``.safetensors`` file of OpenAI or open_clip. A file carries no activation and no
        preprocessing: those of the spec are taken to be its own. What a folder declares is
        compared.
    allow_download : bool
        Whether missing weights may be downloaded. ``GEOEMBED_OFFLINE`` forbids it all the same.
    device : str, optional
        ``"auto"``, the default (CUDA, else MPS, else the CPU), or a device name.
    precision : {"float32", "bfloat16", "float16"}
        What the towers compute in; the head and what comes out are float32 in all. For
        ``"geoclip.v1"`` bfloat16 keeps cosines to float32 above 0.9998 and float16 above 0.99999
        (`geoembed.images.geoclip` says how it was measured); on most CPUs both are slower.
    channels_last : bool
        Lay pixels out with the channels last, which some devices convolve faster.
    compile : bool
        Compile the image tower with `torch.compile` when it is first used, and again for the first
        batch of another size: a minute each, and a C++ compiler is needed on a CPU.

    Returns
    -------
    ImageEncoder
        Loaded CLIPs are shared by all encoders of a process that use them.

    Raises
    ------
    UnknownNameError
        If it is neither a registered name nor a path that exists; lists close matches.
    OptionError
        If an option does not fit.
    MissingExtraError
        If packages are missing: ``pip install "geoembed[image]"``.
    MissingWeightsError
        If weights are nowhere; the message says the three ways to get them, and their size.
    OfflineError
        If a download is allowed and needed while ``GEOEMBED_OFFLINE`` is set.
    WeightsError
        If weights are not what they should be: another size, activation, preprocessing, or
        damaged.

    Examples
    --------
    A small CLIP with random weights stands in for the real one, which is too large to show here.

    >>> import tempfile
    >>> from geoembed.testing import tiny_clip_spec, write_tiny_clip
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     encoder = load_image_encoder(tiny_clip_spec(), weights=write_tiny_clip(folder))
    >>> encoder.dimension, round(encoder.logit_scale, 2)
    (512, 39.69)
    >>> encoder.encode_text(["a fjord in winter"]).shape
    (1, 512)
    """
    from geoembed.images.base import OPTION_DEFAULTS, ImageEncoder

    if weights is not None:
        if not isinstance(weights, str | os.PathLike) or not str(weights):
            raise OptionError(f"weights={weights!r} is no path of a file or folder.")
        # Pickled encoders are loaded again from elsewhere.
        weights = os.path.abspath(os.path.expanduser(weights))
    options: dict[str, Any] = {
        "weights": weights,
        "allow_download": allow_download,
        "device": device,
        "precision": precision,
        "channels_last": channels_last,
        "compile": compile,
    }
    if isinstance(name, ImageEncoder):
        given = [key for key, value in options.items() if value != OPTION_DEFAULTS[key]]
        if given:
            raise OptionError(
                f"The image encoder {name!r} is loaded already and takes no further options: "
                f"{', '.join(given)}. Give its name instead."
            )
        return name
    for key in ("allow_download", "channels_last", "compile"):
        if not isinstance(options[key], bool):
            raise OptionError(f"{key}={options[key]!r} is not True or False.")
    if isinstance(name, ImageEncoderSpec):
        spec = name
    elif isinstance(name, str | Path) and str(name):
        path = _as_path(name)
        if path is not None:
            from geoembed.images.trained import load_folder

            return load_folder(path, **options)
        spec = registry.image_encoder_spec(str(name))
    else:
        raise OptionError(
            f"encoder={name!r} is no name and no spec of an image encoder, and no path of a folder."
        )
    encoder = registry.resolve_factory(spec.factory, owner=spec.owner)(spec, **options)
    if not isinstance(encoder, ImageEncoder):
        raise PluginError(
            f"The factory {spec.factory!r} of the image encoder {spec.name!r} returned "
            f"{type(encoder).__name__} instead of an ImageEncoder."
        )
    return encoder


def _as_path(name: str | Path) -> Path | None:
    """Return `name` as a path if it is meant as one; registered names come first."""
    if isinstance(name, str) and name in registry.image_encoder_specs():
        return None
    path = Path(name).expanduser()
    meant = isinstance(name, Path) or "/" in name or os.sep in name
    return path if meant or path.exists() else None


__getattr__ = resolver(__name__, _HOME)
