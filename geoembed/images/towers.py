"""The part of an image encoder that can stay frozen below layers that are trained anew."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from geoembed.errors import OptionError
from geoembed.extending.image_specs import Preprocessing

if TYPE_CHECKING:
    from geoembed.images.base import ImageEncoder

__all__ = ["Tower", "tower_of"]


@dataclass(frozen=True, kw_only=True)
class Tower:
    """Pixels to features, frozen.

    Parameters
    ----------
    name : str
        Of the image encoder that it belongs to.
    compute : callable
        Pixels (n, 3, size, size) on `device`, of `dtype`, to features (n, dimension).
    dimension : int
        Length of a feature.
    preprocessing : Preprocessing
        How pictures become the pixels that it takes.
    digest : callable
        Gives the digest of its weights, whatever lies on top of it; the empty string if there are
        none.
    device : torch.device
        Where it lies.
    dtype : torch.dtype
        What it computes in.
    rows : int
        Pictures computed at a time.
    texts : callable, optional
        Texts to features (n, dimension), where they can be read.
    parameters : int
        How many numbers it has; 0 if that is not known.
    patches : callable, optional
        Pixels, as `compute` takes them, to the same features and to one token a patch,
        (n, dimension) and (n, T, c), where a tower has patches.
    """

    name: str
    compute: Callable[[Tensor], Tensor]
    dimension: int
    preprocessing: Preprocessing
    digest: Callable[[], str]
    device: torch.device
    dtype: torch.dtype = torch.float32
    rows: int = 64
    texts: Callable[[list[str]], Tensor] | None = None
    parameters: int = 0
    patches: Callable[[Tensor], tuple[Tensor, Tensor]] | None = None

    @property
    def sha256(self) -> str:
        """Digest of the weights; taken when asked for, which reads all of them."""
        return self.digest()

    def features(self, pixels: Tensor) -> Tensor:
        """Return the features of prepared pixels, without gradients.

        Parameters
        ----------
        pixels : Tensor of shape (n, 3, size, size)
            As `geoembed.images.preprocessing.prepare` gives them, on any device.

        Returns
        -------
        Tensor of shape (n, dimension), float32
            On the tower's device. Nothing is rounded by autocast that the caller is under.
        """
        with self._frozen():
            blocks = [
                self.compute(block.to(self.device, self.dtype)).float()
                for block in torch.split(pixels, self.rows)
                if len(block)
            ]
            empty = torch.empty(0, self.dimension, device=self.device)
            return torch.cat([empty, *blocks])

    def patch_tokens(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Return the features of prepared pixels and their patches, without gradients.

        Parameters
        ----------
        pixels : Tensor of shape (n, 3, size, size)
            As for `features`; at least one.

        Returns
        -------
        features : Tensor of shape (n, dimension), float32
            What `features` gives, up to rounding.
        tokens : Tensor of shape (n, T, c), float32
            One vector a patch, row by row from the upper left, of the last layer before patches
            become one feature; c need not be `dimension`.

        Raises
        ------
        OptionError
            If it has no patches, or there are no pixels.
        """
        if self.patches is None:
            raise OptionError(
                f"The tower of the image encoder {self.name!r} gives no patch tokens."
            )
        if not len(pixels):
            raise OptionError("There are no pixels, whose patches could be told: give some.")
        with self._frozen():
            blocks = [
                self.patches(block.to(self.device, self.dtype))
                for block in torch.split(pixels, self.rows)
            ]
            features, tokens = zip(*blocks, strict=True)
            return torch.cat(features).float(), torch.cat(tokens).float()

    def text_features(self, texts: Sequence[str]) -> Tensor:
        """Return the features of texts, without gradients.

        Parameters
        ----------
        texts : sequence of str
            None of them empty.

        Returns
        -------
        Tensor of shape (n, dimension), float32
            On the tower's device.

        Raises
        ------
        OptionError
            If it reads no texts.
        """
        if self.texts is None:
            raise OptionError(f"The tower of the image encoder {self.name!r} reads no texts.")
        with self._frozen():
            return self.texts(list(texts)).float()

    def __deepcopy__(self, memo: object) -> "Tower":
        return self  # a copy of a model shares what is frozen

    @contextmanager
    def _frozen(self) -> Iterator[None]:
        # Not inference_mode: layers that are trained on top keep what they are given.
        with torch.no_grad(), torch.autocast(self.device.type, enabled=False):
            yield


def tower_of(encoder: "ImageEncoder") -> Tower:
    """Return the part of an image encoder that stays frozen below layers that are trained anew.

    Parameters
    ----------
    encoder : ImageEncoder
        A CLIP or a trained network with a head gives what goes into the head; any other encoder
        its vectors.

    Returns
    -------
    Tower
        Sharing the encoder's weights.

    Examples
    --------
    >>> import tempfile
    >>> from geoembed.images import load_image_encoder
    >>> from geoembed.testing import tiny_clip_spec, write_tiny_clip
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     encoder = load_image_encoder(tiny_clip_spec(), weights=write_tiny_clip(folder))
    >>> encoder.dimension, tower_of(encoder).dimension
    (512, 768)
    """
    return encoder.tower
