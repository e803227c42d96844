"""Which layers of a scale-by-scale encoder make up its vector: the ``layers=`` grammar."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from geoembed.errors import OptionError

__all__ = ["Part", "Shape", "name_features", "parse_layers"]


@dataclass(frozen=True)
class Shape:
    """How many scales an encoder has, and the widths of what each gives.

    Parameters
    ----------
    scales : int
        Number of scales (capsules), from the coarsest frequencies to the finest.
    hidden : tuple of int
        Width of every hidden (ReLU) layer of a scale, in the order of computation.
    output : int
        Width of a scale's output, and of the sum of all.
    """

    scales: int
    hidden: tuple[int, ...]
    output: int


@dataclass(frozen=True)
class Part:
    """A stretch of the vector that comes from one place in the network.

    Parameters
    ----------
    label : str
        ``"final"``, ``"scale0"`` or ``"hidden0.2"`` (scale 0, hidden layer 2).
    scale : int or None
        Which scale; None for the sum over scales.
    layer : int or None
        Which hidden layer; None for the scale's output.
    width : int
        Number of values.
    """

    label: str
    scale: int | None
    layer: int | None
    width: int


_TERM = re.compile(r"(final|scales?|hidden)(\d+)?(?:\.(\d+))?")


def parse_layers(layers: str, shape: Shape) -> tuple[Part, ...]:
    """Read a ``layers=`` option into the parts of the vector, in the order they are written.

    Parameters
    ----------
    layers : str
        Terms joined by ``+``. ``final``: the sum of the scales' outputs. ``scales``: each
        scale's output side by side; ``scale1``: one of them. ``hidden``: every ReLU layer,
        scale by scale and layer by layer; ``hidden1``: all of scale 1; ``hidden.2``: layer 2 of
        every scale; ``hidden1.2``: one layer. Scales and layers count from 0. (``best``, the
        preset of the encoder, is put in words of these before it comes here.)
    shape : Shape
        What the encoder has.

    Returns
    -------
    tuple of Part
        At least one; no part twice.

    Raises
    ------
    OptionError
        If a term is unknown, names a scale or layer that is not there, or repeats a part.

    Examples
    --------
    >>> shape = Shape(scales=3, hidden=(1024, 1024, 1024), output=512)
    >>> [part.label for part in parse_layers("hidden0.2+final", shape)]
    ['hidden0.2', 'final']
    """
    if not isinstance(layers, str) or not layers:
        raise OptionError(f"layers={layers!r} is not text such as 'final'. {_offer(shape)}")
    parts: list[Part] = []
    for term in layers.split("+"):
        parts += _parse_term(term.strip().lower(), layers, shape)
    labels = [part.label for part in parts]
    twice = sorted({label for label in labels if labels.count(label) > 1})
    if twice:
        raise OptionError(f"layers={layers!r} names {', '.join(twice)} more than once.")
    return tuple(parts)


def name_features(start: str, parts: Iterable[tuple[str, int]]) -> list[str]:
    """Name every value of a vector.

    Parameters
    ----------
    start : str
        Stands before every name.
    parts : iterable of (str, int)
        Label and width of every part of the vector, in order.

    Returns
    -------
    list of str
        Those of the part ``"final"`` without its label.

    Examples
    --------
    >>> name_features("tiny.v1", [("scale0", 1), ("final", 2)])
    ['tiny.v1_scale0_000', 'tiny.v1_000', 'tiny.v1_001']
    """
    names: list[str] = []
    for label, width in parts:
        stem = start if label == "final" else f"{start}_{label}"
        digits = max(3, len(str(width - 1)))
        names += [f"{stem}_{i:0{digits}d}" for i in range(width)]
    return names


def _parse_term(term: str, layers: str, shape: Shape) -> list[Part]:
    found = _TERM.fullmatch(term)
    if found is None:
        raise OptionError(f"layers={layers!r}: {term!r} is not a layer. {_offer(shape)}")
    kind, scale_text, layer_text = found.groups()
    plain = scale_text is None and layer_text is None
    if kind == "final" and plain:
        return [Part("final", None, None, shape.output)]
    if (kind == "scales" and plain) or (kind == "scale" and scale_text and not layer_text):
        scales = _choose(scale_text, shape.scales, "scale", layers)
        return [Part(f"scale{s}", s, None, shape.output) for s in scales]
    if kind == "hidden":
        scales = _choose(scale_text, shape.scales, "scale", layers)
        chosen = _choose(layer_text, len(shape.hidden), "hidden layer", layers)
        return [Part(f"hidden{s}.{j}", s, j, shape.hidden[j]) for s in scales for j in chosen]
    raise OptionError(f"layers={layers!r}: {term!r} is not a layer. {_offer(shape)}")


def _choose(text: str | None, count: int, what: str, layers: str) -> Sequence[int]:
    if text is None:
        return range(count)
    if int(text) >= count:
        raise OptionError(
            f"layers={layers!r}: there is no {what} {text}; they count from 0 to {count - 1}."
        )
    return [int(text)]


def _offer(shape: Shape) -> str:
    return (
        "Use 'final', 'scales', 'hidden', one scale ('scale0'), the hidden layers of one scale "
        f"('hidden0'), one hidden layer ('hidden0.{len(shape.hidden) - 1}', or 'hidden."
        f"{len(shape.hidden) - 1}' of every scale), or several joined by '+'."
    )
