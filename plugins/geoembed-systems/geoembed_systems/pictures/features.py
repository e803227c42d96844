"""What the systems see of pictures: features of a frozen tower, in one container."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from geoembed.errors import OptionError, TableError

__all__ = ["Layout", "Parts", "PictureFeatures"]

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Parts:
    """One view a picture, taken apart.

    Parameters
    ----------
    pooled : Tensor of shape (b, d)
        One vector a picture.
    tokens : Tensor of shape (b, T, c), optional
        One vector a patch.
    segments : Tensor of shape (b, S) or (b, T, S), optional
        The second stream: how much of each segment class there is, in the picture or each patch.
    """

    pooled: Tensor
    tokens: Tensor | None = None
    segments: Tensor | None = None


@dataclass(frozen=True)
class Layout:
    """How pooled features, patch tokens and segments lie side by side in one row.

    Parameters
    ----------
    pooled : int
        Length of the pooled feature.
    tokens : tuple of (T, c), optional
        How many patches, and the length of a token.
    segments : tuple of (S,) or (T, S), optional
        Shape of the second stream.

    Examples
    --------
    >>> layout = Layout(4, tokens=(2, 3))
    >>> layout.width, layout.unpack(torch.zeros(5, 10)).tokens.shape
    (10, torch.Size([5, 2, 3]))
    """

    pooled: int
    tokens: tuple[int, ...] | None = None
    segments: tuple[int, ...] | None = None

    @property
    def width(self) -> int:
        """Length of a row."""
        return self.pooled + sum(
            int(np.prod(shape)) for shape in (self.tokens, self.segments) if shape
        )

    def unpack(self, rows: Tensor) -> Parts:
        """Take rows of shape (b, width) apart."""
        sizes = [self.pooled]
        shapes = [shape for shape in (self.tokens, self.segments) if shape]
        sizes += [int(np.prod(shape)) for shape in shapes]
        pooled, *rest = torch.split(rows, sizes, dim=1)
        apart = [part.unflatten(1, shape) for part, shape in zip(rest, shapes, strict=True)]
        tokens = apart.pop(0) if self.tokens else None
        return Parts(pooled, tokens, apart.pop(0) if self.segments else None)

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Make it again."""
        shapes = {
            name: tuple(values[name]) if values.get(name) else None
            for name in ("tokens", "segments")
        }
        return cls(int(values["pooled"]), **shapes)


@dataclass(frozen=True, eq=False)
class PictureFeatures:
    """Features of pictures, of one view each or several.

    Parameters
    ----------
    pooled : array of shape (n, d) or (n, V, d)
        One vector a picture, or one a view of it: augmented views where systems learn, test-time
        crops where they answer.
    tokens : array of shape (n, T, c) or (n, V, T, c), optional
        One vector a patch, of the same views.
    segments : array of shape (n, S), (n, T, S), (n, V, S) or (n, V, T, S), optional
        Semantic segmentation of the same views: shares of S classes in each picture, or in each
        patch.
    errors : sequence of str, optional
        Why a picture has no features; empty where it has some.
    names : sequence of str, optional
        What pictures are called; their positions if not given.

    Attributes
    ----------
    pooled : ndarray of float32, shape (n, V, d)
        With the axis of views, and so are `tokens` and `segments`.

    Raises
    ------
    TableError
        If shapes do not fit together, or features of a picture without an error are not finite.

    Examples
    --------
    >>> features = PictureFeatures(np.zeros((5, 4)), tokens=np.zeros((5, 2, 3)))
    >>> len(features), features.pooled.shape, features.flat().shape
    (5, (5, 1, 4), (5, 1, 10))
    """

    pooled: Floats
    tokens: Floats | None = None
    segments: Floats | None = None
    errors: Sequence[str] = field(default=())
    names: Sequence[str] = field(default=())

    def __post_init__(self) -> None:
        pooled = np.asarray(self.pooled, dtype=np.float32)
        if pooled.ndim not in (2, 3) or not pooled.size:
            raise TableError(
                f"Pooled features have the shape {pooled.shape}: give (n, d), or (n, V, d) for V "
                "views of each picture."
            )
        single = pooled.ndim == 2
        self._set("pooled", pooled[:, None] if single else pooled)
        for name, dimensions in (("tokens", (2,)), ("segments", (1, 2))):
            self._set(name, self._beside(name, single, dimensions))
        for name, usual in (("errors", [""] * len(self)), ("names", map(str, range(len(self))))):
            given = list(getattr(self, name)) or list(usual)
            if len(given) != len(self):
                raise TableError(f"{name}= has {len(given):,} entries for {len(self):,} pictures.")
            self._set(name, given)
        for name in ("pooled", "tokens", "segments"):
            values = getattr(self, name)
            # Rows are picked only where something is amiss: tokens are large.
            fine = values is None or np.isfinite(values).all()
            if not fine and not np.isfinite(values[self.good]).all():
                raise TableError(
                    f"{name} hold values that are not finite, of pictures without an error: leave "
                    "those rows out, or say in errors= what is wrong with them."
                )

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)

    def _beside(self, name: str, single: bool, dimensions: tuple[int, ...]) -> Floats | None:
        given = getattr(self, name)
        if given is None:
            return None
        values = np.asarray(given, dtype=np.float32)
        values = values[:, None] if single else values
        if values.shape[:2] != self.pooled.shape[:2] or values.ndim - 2 not in dimensions:
            raise TableError(
                f"{name} have the shape {np.shape(given)}, and pooled features "
                f"{np.shape(self.pooled)[: 3 - single]}: they are of the same pictures and views."
            )
        return values

    def __len__(self) -> int:
        return len(self.pooled)

    @property
    def views(self) -> int:
        """Views of a picture (V)."""
        return self.pooled.shape[1]

    @property
    def good(self) -> NDArray[np.bool_]:
        """Which pictures have features, (n,)."""
        return np.array([not error for error in self.errors], dtype=np.bool_)

    @property
    def layout(self) -> Layout:
        """How the parts lie in `flat`."""
        shapes = {
            name: None if getattr(self, name) is None else tuple(getattr(self, name).shape[2:])
            for name in ("tokens", "segments")
        }
        return Layout(self.pooled.shape[2], **shapes)

    def flat(self) -> Floats:
        """Return everything of a view in one row, (n, V, `layout`.width); pooled alone as it is."""
        parts = [part for part in (self.pooled, self.tokens, self.segments) if part is not None]
        if len(parts) == 1:
            return self.pooled
        return np.concatenate([part.reshape(*part.shape[:2], -1) for part in parts], axis=2)

    def take(self, rows: Any) -> Self:
        """Return some of the pictures.

        Parameters
        ----------
        rows : slice, array of int or of bool
            Which.

        Returns
        -------
        PictureFeatures
            In that order.
        """
        chosen = np.arange(len(self))[rows]
        return type(self)(
            self.pooled[chosen],
            None if self.tokens is None else self.tokens[chosen],
            None if self.segments is None else self.segments[chosen],
            errors=[self.errors[row] for row in chosen],
            names=[self.names[row] for row in chosen],
        )

    def pooled_only(self) -> Self:
        """Return the same pictures without tokens and segments.

        Returns
        -------
        PictureFeatures
            Nothing is copied.
        """
        if self.tokens is None and self.segments is None:
            return self
        return type(self)(self.pooled, errors=self.errors, names=self.names)

    def check(self, layout: Layout) -> None:
        """Refuse features of another kind than a system has learned from.

        Parameters
        ----------
        layout : Layout
            What it has learned from.

        Raises
        ------
        OptionError
            If they differ.
        """
        if self.layout != layout:
            raise OptionError(
                f"The features are {describe(self.layout)}, and the system has learned from "
                f"{describe(layout)}: give features of the same image encoder."
            )


def describe(layout: Layout) -> str:
    """Put a layout into words.

    Parameters
    ----------
    layout : Layout
        Of some features.

    Returns
    -------
    str
        Such as ``"pooled features of length 768 with 256 tokens of length 1,024"``.
    """
    text = f"pooled features of length {layout.pooled:,}"
    if layout.tokens:
        text += f" with {layout.tokens[0]:,} tokens of length {layout.tokens[1]:,}"
    if layout.segments:
        text += f" and segments of the shape {layout.segments}"
    return text
