"""What a comparison compares: encoders by name, by path, loaded, or anything that encodes."""

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from geoembed.encoders import load_encoder
from geoembed.encoders.base import LocationEncoder
from geoembed.errors import OptionError, PluginError
from geoembed.evaluation.cached import CachedEncoder
from geoembed.extending.registry import location_encoder_specs
from geoembed.extending.specs import LocationEncoderSpec

__all__ = ["BASELINES", "Contender", "adapt_encoder", "baseline_contenders", "read_contenders"]

# Models on coordinates alone, and what each is called. The encoder "xyz" gives all of them
# distances that mean the same everywhere on the Earth.
BASELINES: Final[Mapping[str, str]] = {
    "knn": "xyz + kNN",
    "gp": "xyz + Gaussian process",
    "mean": "mean",
}
_PLAIN: Final = ("lonlat", "wrap", "xyz")

# Places at which the vectors of an encoder without a digest are compared with earlier ones.
_PROBE: Final = np.array([[-74.006, 40.7128], [0.0, 0.0], [151.2, -33.87], [37.6, 55.75]])


@dataclass(frozen=True, eq=False)
class Contender:
    """One row of a comparison: an encoder with its layers, and the model if it has its own.

    Parameters
    ----------
    label : str
        What it is called.
    encoder : LocationEncoder
        With its layers.
    model : str or None
        Model of its own, for baselines; None for the one that all encoders share.
    plain : bool
        Whether it is no more than the coordinates.
    """

    label: str
    encoder: LocationEncoder
    model: str | None = None
    plain: bool = False

    @cached_property
    def identity(self) -> dict[str, Any]:
        """Everything that decides its vectors, fit for JSON."""
        digest = self.encoder.weights_sha256
        if not digest:
            probe = self.encoder.encode(*_PROBE.T).astype(np.float32)
            digest = hashlib.sha256(probe.tobytes()).hexdigest()
        return {
            "label": self.label,
            "encoder": self.encoder.name,
            "options": self.encoder.options(),
            "digest": digest,
            "dimension": self.encoder.dimension,
            "model": self.model,
        }


class _Adapter(LocationEncoder):
    """Any object with ``encode(lon, lat)``, behind the common interface."""

    def __init__(self, thing: Any, name: str) -> None:
        first = _as_vectors(thing, name, np.zeros((1, 2)))
        spec = LocationEncoderSpec(
            name=name,
            factory=f"{type(thing).__module__}:{type(thing).__name__}".replace("<", "_"),
            dimension=first.shape[1],
            summary=f"An object of type {type(thing).__qualname__}",
        )
        super().__init__(spec, dtype="float32")
        self._thing = thing

    def _encode_block(self, lonlat: NDArray[np.float64]) -> NDArray[np.floating[Any]]:
        return _as_vectors(self._thing, self.name, lonlat)

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return _Adapter, (self._thing, self.name)


def adapt_encoder(thing: Any, name: str | None = None) -> LocationEncoder:
    """Put any object that encodes behind the interface of `geoembed.LocationEncoder`.

    Parameters
    ----------
    thing : object
        With ``encode(lon, lat)``: two arrays of shape (n,), degrees, WGS 84, longitude in
        [-180, 180]; it returns an array or tensor of shape (n, d). Returned as it is if it is a
        LocationEncoder.
    name : str, optional
        What it is called, ``family`` or ``family.tag``; from its type if not given.

    Returns
    -------
    LocationEncoder
        With one vector a place, float32.

    Raises
    ------
    OptionError
        If it has no ``encode``.
    PluginError
        If ``encode`` returns something else than finite numbers, one row a place.

    Examples
    --------
    >>> import numpy as np
    >>> class Latitude:
    ...     def encode(self, lon, lat):
    ...         return np.sin(np.radians(lat))[:, None]
    >>> adapt_encoder(Latitude()).encode([0.0, 9.0], [90.0, 0.0]).tolist()
    [[1.0], [0.0]]
    """
    if isinstance(thing, LocationEncoder):
        return thing
    if isinstance(thing, type) or not callable(getattr(thing, "encode", None)):
        raise OptionError(
            f"{thing!r} is no encoder: give a name, a path, or an object with "
            "encode(lon, lat) -> (n, d)."
        )
    stem = name or type(thing).__name__
    fitting = re.sub(r"[^a-z0-9_.-]+", "-", stem.lower()).strip("-._")
    return _Adapter(thing, fitting if re.match(r"[a-z]", fitting) else f"encoder-{fitting}")


def read_contenders(
    encoders: Iterable[Any] | Mapping[str, Any], layers: Sequence[str] | str | None
) -> list[Contender]:
    """Load every encoder with each of its layers.

    Parameters
    ----------
    encoders : sequence, or mapping of label to encoder
        Registered names, ``name:layers``, paths, loaded encoders, or objects with
        ``encode(lon, lat)``.
    layers : sequence of str, str or None
        Layers of the encoders that do not say which; None for ``final`` and ``best``.

    Returns
    -------
    list of Contender
        In the order given, equal ones once.

    Raises
    ------
    OptionError
        If there is none, two different ones have one label, or an option does not fit.
    UnknownNameError
        If a name is not registered.
    """
    if isinstance(encoders, str | Path) or hasattr(encoders, "encode"):
        encoders = [encoders]
    wanted = [layers] if isinstance(layers, str) else layers
    if wanted is not None and not wanted:
        raise OptionError("layers=[] names no layers: leave it out for 'final' and 'best'.")
    named = isinstance(encoders, Mapping)
    items = list(encoders.items()) if isinstance(encoders, Mapping) else [("", e) for e in encoders]
    found: dict[str, Contender] = {}
    for name, given in items:
        for contender in _load(name, given, wanted):
            before = found.setdefault(contender.label, contender)
            if before is not contender and before.identity != contender.identity:
                raise OptionError(
                    f"Two encoders would be called {contender.label!r}: tell them apart with "
                    "encoders={label: encoder, ...}."
                    if not named
                    else f"Two encoders are called {contender.label!r}: give them other labels."
                )
    if not found:
        raise OptionError("encoders=[] names nothing to compare: give at least one encoder.")
    return list(found.values())


def baseline_contenders(names: Iterable[str], task: str) -> list[Contender]:
    """Make the models on coordinates that encoders have to beat.

    Parameters
    ----------
    names : iterable of str
        Of `BASELINES`.
    task : {"regression", "classification", "fractions"}
        What is learned.

    Returns
    -------
    list of Contender
        In the order given.

    Raises
    ------
    OptionError
        If a name is not one of `BASELINES`.

    Examples
    --------
    >>> [c.label for c in baseline_contenders(["knn", "mean"], "classification")]
    ['xyz + kNN', 'most frequent class']
    """
    chosen = [names] if isinstance(names, str) else list(dict.fromkeys(names))
    for name in chosen:
        if name not in BASELINES:
            raise OptionError(
                f"baselines: {name!r} is not one of: {', '.join(BASELINES)}. An encoder goes into "
                "encoders."
            )
    xyz = load_encoder("xyz")
    labels = {**BASELINES}
    if task == "classification":
        labels["mean"] = "most frequent class"
    return [Contender(labels[name], xyz, name, plain=True) for name in chosen]


def _load(name: str, given: Any, layers: Sequence[str] | None) -> list[Contender]:
    if isinstance(given, LocationEncoder) or not isinstance(given, str | Path):
        encoder = adapt_encoder(given, name or None)
        return [_contender(name, encoder)]
    text, own = _split_layers(given)
    if own is not None:
        return [_contender(name, load_encoder(text, layers=own))]
    final = load_encoder(text)
    if not type(final).supports_layers:
        return [_contender(name, final)]
    several = layers is None or len(layers) > 1
    made = [load_encoder(text, layers=each) for each in (layers or ("final", "best"))]
    distinct = {encoder.layers: encoder for encoder in made}
    return [
        _contender(f"{name}:{encoder.layers}" if name and several else name, encoder)
        for encoder in distinct.values()
    ]


def _split_layers(given: str | Path) -> tuple[str | Path, str | None]:
    """Take ``name:layers`` apart; a name or a path that exists has no layers behind it."""
    text = str(given)
    if isinstance(given, Path) or ":" not in text or text in location_encoder_specs():
        return given, None
    stem, _, layers = text.rpartition(":")
    if Path(text).expanduser().exists() or not layers or "/" in layers or "\\" in layers:
        return given, None
    return stem, layers


def _contender(label: str, encoder: LocationEncoder) -> Contender:
    if isinstance(encoder, CachedEncoder):
        encoder = encoder.encoder
    if not label:
        label = encoder.name
        if type(encoder).supports_layers:
            label += f":{encoder.layers}"
    return Contender(label, encoder, plain=encoder.name in _PLAIN)


def _as_vectors(thing: Any, name: str, lonlat: NDArray[np.float64]) -> NDArray[np.floating[Any]]:
    """Call ``encode`` of an object and check what comes back."""
    # Copies: what it does to its arguments is its own affair.
    given = thing.encode(lonlat[:, 0].copy(), lonlat[:, 1].copy())
    if hasattr(given, "detach"):
        given = given.detach().cpu().numpy()
    try:
        vectors = np.asarray(given, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise PluginError(f"The encoder {name!r} returned no array of numbers: {error}") from error
    if vectors.ndim != 2 or len(vectors) != len(lonlat) or not vectors.shape[1]:
        raise PluginError(
            f"The encoder {name!r} returned an array of shape {vectors.shape} for "
            f"{len(lonlat)} places, expected ({len(lonlat)}, d)."
        )
    if not np.isfinite(vectors).all():
        raise PluginError(
            f"The encoder {name!r} returned values that are not finite for "
            f"{(~np.isfinite(vectors).all(axis=1)).sum()} of {len(lonlat)} places."
        )
    return vectors
