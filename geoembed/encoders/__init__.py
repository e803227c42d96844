"""Location encoders by name."""

from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geoembed.errors import MissingExtraError, OptionError, PluginError, WeightsError
from geoembed.extending import registry

if TYPE_CHECKING:
    from geoembed.encoders.base import LocationEncoder

__all__ = ["list_encoders", "load_encoder"]

_WEIGHT_SUFFIXES = (".safetensors", ".pth", ".pt", ".onnx")


def list_encoders(pattern: str = "*") -> list[str]:
    """Return the names of the registered location encoders.

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
    >>> list_encoders("geo*")
    ['geoclip.v1']
    """
    return sorted(n for n in registry.location_encoder_specs() if fnmatchcase(n, pattern.lower()))


def load_encoder(name: "str | Path | LocationEncoder", **options: Any) -> "LocationEncoder":
    """Load a location encoder by its registered name, or from a local file or folder.

    Parameters
    ----------
    name : str, Path or LocationEncoder
        A name from `list_encoders`; or a ``.safetensors`` or ``.pth`` file that holds a GeoCLIP
        location encoder; or a folder with ``config.json`` and ``model.safetensors``, as
        `geoembed export` writes it in both formats and the package geoclip reads it in its own;
        or an ``.onnx`` file of `geoembed export`, which runs in onnxruntime and says itself what
        it is called and which ``precision`` it has. From other files and folders the encoder is
        called ``local.`` and the file's name. An encoder is returned as it is, and then takes no
        options.
    **options
        Those of `geoembed.LocationEncoder`: ``layers``, ``normalize``, ``precision``, ``dtype``,
        ``device``, ``seam``, ``block_size``, ``backend``. With ``backend="onnx"`` a registered
        encoder runs in onnxruntime, without torch; the first use exports it into the cache, which
        does import torch. ``"auto"`` does so for ``.onnx`` files only.

    Returns
    -------
    LocationEncoder
        Loaded weights are shared by all encoders of a process that use them.

    Raises
    ------
    UnknownNameError
        If it is neither a registered name nor a path that exists; lists close matches.
    OptionError
        If an option or its value is unknown.
    MissingWeightsError
        If the weights are nowhere; the message gives the commands that get them.
    WeightsError
        If weights are not what they should be.
    MissingExtraError
        If it needs torch or onnxruntime, which is not installed.

    Examples
    --------
    >>> encoder = load_encoder("geoclip.v1", layers="scales")
    >>> encoder.dimension
    1536
    """
    from geoembed.encoders.base import LocationEncoder

    if isinstance(name, LocationEncoder):
        if options:
            raise OptionError(
                f"The encoder {name!r} is loaded already and takes no further options: "
                f"{', '.join(sorted(options))}. Give its name instead."
            )
        return name
    if not isinstance(name, str | Path) or not str(name):
        raise OptionError(f"encoder={name!r} is no name and no path of an encoder.")
    path = _as_path(name)
    backend = options.pop("backend", "auto")
    if _runs_in_onnx(path, backend):
        from geoembed.encoders.onnx_encoder import load_onnx

        source = path or registry.location_encoder_spec(str(name))
        exported: LocationEncoder = _call(load_onnx, source, **options)
        return exported
    if path is not None:
        with _torch_named(name):
            from geoembed.encoders.geoclip import load_path

        local: LocationEncoder = _call(load_path, path, **options)
        return local
    spec = registry.location_encoder_spec(str(name))
    with _torch_named(name):
        factory = registry.resolve_factory(spec.factory)
    encoder = _call(factory, spec, **options)
    if not isinstance(encoder, LocationEncoder):
        raise PluginError(
            f"The factory {spec.factory!r} of the encoder {spec.name!r} returned "
            f"{type(encoder).__name__} instead of a LocationEncoder."
        )
    return encoder


def _as_path(name: "str | Path") -> Path | None:
    """Return `name` as a path if it is meant as one; registered names come first."""
    if isinstance(name, str) and name in registry.location_encoder_specs():
        return None
    path = Path(name).expanduser()
    if path.exists():
        return path
    meant = isinstance(name, Path) or path.suffix.lower() in _WEIGHT_SUFFIXES or "/" in str(name)
    if meant:
        raise WeightsError(f"There is no weights file or folder {path}.")
    return None


def _runs_in_onnx(path: Path | None, backend: object) -> bool:
    from geoembed.encoders.base import BACKENDS

    if backend not in BACKENDS:
        raise OptionError(f"backend={backend!r} is not one of: {', '.join(BACKENDS)}.")
    exported = path is not None and path.suffix.lower() == ".onnx"
    if exported and backend == "torch":
        raise OptionError(
            f"backend='torch': {path} is an ONNX file. Leave backend out, or give the weights that "
            "it was exported from."
        )
    return exported or backend == "onnx"


@contextmanager
def _torch_named(name: object) -> Iterator[None]:
    """Say what is missing where an encoder's code cannot be imported for want of torch."""
    try:
        yield
    except (ImportError, PluginError) as error:
        cause = error.__cause__ if isinstance(error, PluginError) else error
        if not isinstance(cause, ImportError) or cause.name != "torch":
            raise
        raise MissingExtraError(
            f"The encoder {str(name)!r} computes with torch, which is not installed here. Install "
            "it with: pip install torch; or export the encoder where torch is (geoembed export "
            "NAME --format onnx -o FILE.onnx), and give the file.",
            name="torch",
        ) from error


def _call(factory: Any, first: Any, **options: Any) -> Any:
    from geoembed.encoders.base import OPTION_DEFAULTS

    unknown = sorted(set(options) - set(OPTION_DEFAULTS))
    if unknown:
        raise OptionError(
            f"Unknown option{'s' * (len(unknown) > 1)} of a location encoder: "
            f"{', '.join(unknown)}. Known: {', '.join(OPTION_DEFAULTS)}."
        )
    return factory(first, **options)
