"""One encoder a process for all who ask for the same, whichever thread they ask on."""

import threading
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

from geoembed.encoders import load_encoder
from geoembed.encoders.base import LocationEncoder
from geoembed.extending import registry

__all__ = ["options_for_workers", "shared_encoder"]

_LOADING: Final = threading.Lock()


def shared_encoder(name: "str | Path | LocationEncoder", **options: Any) -> LocationEncoder:
    """Load an encoder once a process, its weights too, however many threads ask at once.

    For workers, whose tasks come one after the other and side by side.

    Parameters
    ----------
    name : str, Path or LocationEncoder
        As for `geoembed.load_encoder`.
    **options
        Of the encoder.

    Returns
    -------
    LocationEncoder
        Ready to compute.

    Examples
    --------
    >>> shared_encoder("geoclip.v1") is shared_encoder("geoclip.v1")
    True
    """
    with _LOADING:
        # An option that no cache can hold is left to the encoder, which says what is wrong with it.
        if (
            isinstance(name, str)
            and name in registry.location_encoder_specs()
            and _can_be_keys(options.values())
        ):
            factory = registry.location_encoder_spec(name).factory
            return _loaded(name, factory, tuple(sorted(options.items())))
        # Files may have changed since; what was read of them before is known where it was read.
        loaded = load_encoder(name, **options)
        _warm(loaded)
        return loaded


def options_for_workers(
    name: "str | Path | LocationEncoder", options: Mapping[str, Any], loaded: LocationEncoder
) -> dict[str, Any]:
    """Return the options with which workers load what was loaded here.

    An ONNX file computes in its own precision where nobody says one; the file that a worker finds
    under the same path must not compute in another.

    Parameters
    ----------
    name : str, Path or LocationEncoder
        What `loaded` was loaded from.
    options : mapping
        With which.
    loaded : LocationEncoder
        What came of it here.

    Returns
    -------
    dict
        The options, and the precision of an ONNX file.

    Examples
    --------
    >>> options_for_workers("xyz", {"normalize": True}, load_encoder("xyz", normalize=True))
    {'normalize': True}
    """
    if isinstance(name, LocationEncoder) or loaded.backend != "onnx":
        return dict(options)
    return {**options, "precision": loaded.precision}


def _can_be_keys(values: Iterable[Any]) -> bool:
    try:
        hash(tuple(values))
    except TypeError:
        return False
    return True


@cache
def _loaded(name: str, factory: str, options: tuple[tuple[str, Any], ...]) -> LocationEncoder:
    encoder = load_encoder(name, **dict(options))
    _warm(encoder)
    return encoder


def _warm(encoder: LocationEncoder) -> None:
    """Have the weights read, which encoders put off until they compute."""
    encoder.encode(lon=[0.0], lat=[0.0])
