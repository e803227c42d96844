"""Cards under a map: a small photograph each, with the places that were found for it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from geoembed.errors import PictureError
from geoembed.plot.axes import INK, import_matplotlib

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Card", "add_cards", "cards_height", "read_pictures"]

_COLUMNS: Final = 3
_GAP: Final = 0.16  # inches, between cards and around them
_HEIGHT: Final = 1.2  # inches, of one card
_BELOW: Final = 0.55  # inches that the map's degrees and caption take
_LINE: Final = 0.17  # inches
_LETTER: Final = 0.056  # inches, of the small text, on average
_LINES: Final = 5
_PIXELS: Final = 360
_ALARM: Final = "#a8321f"


@dataclass(frozen=True)
class Card:
    """What stands on a card."""

    name: str
    colour: str
    mark: str
    places: Sequence[tuple[int, str, float]]  # rank, name, score
    error: str
    picture: npt.NDArray[np.uint8] | None


def read_pictures(pictures: Mapping[str, Any]) -> dict[str, npt.NDArray[np.uint8]]:
    """Turn PIL pictures into small arrays of shape (height, width, 3), or raise PictureError."""
    read = {}
    for name, picture in pictures.items():
        try:
            small = picture.copy()
            small.thumbnail((_PIXELS, _PIXELS))
            read[name] = np.asarray(small.convert("RGB"))
        except (OSError, ValueError, SyntaxError) as error:
            raise PictureError(f"pictures[{name!r:.80}] cannot be decoded: {error}.") from error
    return read


def cards_height(cards: Sequence["Card"]) -> float:
    """Return how many inches cards take under the map."""
    rows = -(-len(cards) // _columns(len(cards)))
    return rows * (_card_height(cards) + _GAP)


def _columns(count: int) -> int:
    # Four in two rows of two, rather than three and one.
    return 2 if count == 4 else min(count, _COLUMNS)


def _card_height(cards: Sequence["Card"]) -> float:
    """Return inches a card: what a photograph or an error needs, else the longest list."""
    if any(card.picture is not None or card.error for card in cards):
        return _HEIGHT
    lines = 1 + max((len(card.places) for card in cards), default=0)
    return min(_HEIGHT, 0.1 + 0.21 * max(lines, 2))


def add_cards(ax: "Axes", cards: Sequence[Card]) -> None:
    """Lay cards under a map, as wide together as the map's room in its figure."""
    figure: Any = ax.figure
    share = ax.get_position(original=True).width
    width = float(figure.bbox.width / figure.dpi * min(1.0, 1.2 * share)) - 0.5
    columns, tall = _columns(len(cards)), _card_height(cards)
    for number, card in enumerate(cards):
        row, column = divmod(number, columns)
        left = column / columns
        bottom = -_BELOW - (row + 1) * tall - row * _GAP
        room = width / columns - _GAP
        place = (left, bottom, room / width, tall)
        inset = ax.inset_axes(place, transform=_inches_below(ax))
        inset.set_axis_off()
        inset.set(xlim=(0, room), ylim=(0, tall))
        _fill(inset, card, room, tall)


def _inches_below(ax: "Axes") -> Any:
    """Across as the map counts, 0 to 1; upwards in inches from its lower edge."""
    transforms = import_matplotlib("transforms")
    figure = ax.figure
    upwards = figure.dpi_scale_trans + transforms.ScaledTranslation(0, 0, ax.transAxes)
    return transforms.blended_transform_factory(ax.transAxes, upwards)


def _fill(inset: "Axes", card: Card, room: float, top: float) -> None:
    left = 0.0
    if card.picture is not None:
        height, width = card.picture.shape[:2]
        shown = min(_HEIGHT * width / height, 0.36 * room, 1.5 * _HEIGHT)
        tall = shown * height / width
        extent = (0.0, shown, _HEIGHT - tall, _HEIGHT)
        inset.imshow(card.picture, extent=extent, interpolation="antialiased", zorder=2)
        inset.set(xlim=(0, room), ylim=(0, _HEIGHT), aspect="auto")
        left = shown + 0.1
    _write(inset, card, left, room, top)


def _write(inset: "Axes", card: Card, left: float, room: float, height: float) -> None:
    """Write name and places from so many inches to the right end."""
    top, text = height - 0.09, inset.text
    inset.plot(left + 0.07, top, "o", ms=10, mfc=card.colour, mec="white", mew=1, clip_on=False)
    middle: dict[str, Any] = {"va": "center", "parse_math": False}
    bold: dict[str, Any] = {**middle, "fontweight": "bold"}
    text(left + 0.07, top - 0.005, card.mark, fontsize=6.5, ha="center", color="white", **bold)
    letters = max(8, int((room - left) / _LETTER))
    name = _shorten(_last_part(card), int(0.8 * letters) - 3)
    text(left + 0.2, top, name, fontsize=8.5, color=INK, **bold)
    if card.error:
        lines = _wrap(card.error, letters)
    else:
        lines = [
            f"{rank}  {_shorten(place, letters - 11, middle=False)}  ·  {score:.3f}"
            for rank, place, score in card.places[:_LINES]
        ]
        if len(card.places) > _LINES:
            lines[-1] = f"and {len(card.places) - _LINES + 1} more"
    colour = _ALARM if card.error else INK
    for number, line in enumerate(lines, start=1):
        text(left, top - 0.03 - number * _LINE, line, fontsize=7.5, color=colour, **middle)


def _last_part(card: Card) -> str:
    """Return the file's name of a path; a text stays whole."""
    if card.picture is None and not card.error:
        return card.name
    return card.name.replace("\\", "/").rstrip("/").rpartition("/")[2] or card.name


def _shorten(text: str, most: int, *, middle: bool = True) -> str:
    """Cut a text to so many letters; the ends of a path tell more than its middle."""
    text = " ".join(text.split())
    if len(text) <= most:
        return text
    if not middle:
        return f"{text[: most - 1]}…"
    head = (most - 1) // 2
    return f"{text[:head]}…{text[len(text) - (most - 1 - head) :]}"


def _wrap(text: str, letters: int) -> list[str]:
    words = [_shorten(word, letters) for word in text.split()]
    lines = [""]
    for word in words:
        if lines[-1] and len(lines[-1]) + 1 + len(word) > letters:
            lines.append(word)
        else:
            lines[-1] = f"{lines[-1]} {word}".strip()
    if len(lines) > _LINES:
        lines = [
            *lines[: _LINES - 2],
            _shorten(" ".join(lines[_LINES - 2 :]), letters, middle=False),
        ]
    return lines
