"""How a localizer is asked: photographs, texts or vectors become directions in its space."""

from collections.abc import Hashable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_is_fitted

from geoembed.encoders import load_encoder
from geoembed.encoders.base import LocationEncoder
from geoembed.errors import OptionError
from geoembed.extending.image_specs import ImageEncoderSpec
from geoembed.extending.registry import image_encoder_spec
from geoembed.galleries import Gallery
from geoembed.geolocation.queries import (
    Queries,
    fuse,
    one_kind,
    read_texts,
    rename,
    vector_queries,
)
from geoembed.images import ImageEmbeddings, ImageEncoder, load_image_encoder

__all__ = ["Asking"]


class Asking:
    """What a localizer needs to understand a question; see `geoembed.GeoLocalizer`."""

    gallery_: Gallery
    image_encoder: Any
    weights: str | Path | None
    allow_download: bool
    tta: str
    device: str
    precision: str
    batch_size: int | None
    workers: int | None
    progress: bool | None

    @property
    def image_encoder_(self) -> ImageEncoder:
        """What encodes pictures and texts; loaded when first asked for.

        Raises
        ------
        MissingWeightsError
            If the weights of its tower are not on this machine; says how to get them.
        OptionError
            If its vectors and the gallery's do not lie in one space.
        """
        given = self.image_encoder
        if isinstance(given, ImageEncoder):
            encoder = given
        else:
            encoder = load_image_encoder(
                given,
                weights=self.weights,
                allow_download=self.allow_download,
                device=self.device,
                precision=self.precision,
            )
        if encoder.location_encoder != self.gallery_.encoder:
            space = encoder.location_encoder or "no location encoder"
            raise OptionError(
                f"The image encoder {encoder.name!r} goes with {space}, and the gallery "
                f"{self.gallery_.name!r} is encoded with {self.gallery_.encoder!r}: their vectors "
                "cannot be compared."
            )
        return encoder

    def _image_spec(self) -> ImageEncoderSpec:
        """Describe the image encoder without loading its tower."""
        given = self.image_encoder
        if isinstance(given, ImageEncoderSpec):
            return given
        return given.spec if isinstance(given, ImageEncoder) else image_encoder_spec(given)

    @cached_property
    def _location_encoder(self) -> LocationEncoder:
        """The gallery's encoder, for places that it does not hold."""
        encoder = load_encoder(
            self.gallery_.encoder, layers=self.gallery_.layers, normalize=True, device=self.device
        )
        if encoder.weights_sha256 != self.gallery_.weights_sha256:
            raise OptionError(
                f"The gallery {self.gallery_.name!r} was encoded with other weights than "
                f"{encoder.name!r} has now. Build it again."
            )
        return encoder

    def encode(
        self,
        images: Any,
        *,
        tta: str | None = None,
        column: Any = None,
        recursive: bool = False,
    ) -> ImageEmbeddings:
        """Encode photographs, so that several questions can be asked of them.

        Parameters
        ----------
        images : path, folder, picture, or many of them
            Anything that `geoembed.images.read_pictures` reads.
        tta : {"none", "five", "ten-crop"}, optional
            Views of a picture; the localizer's own if not given.
        column : str, optional
            Column of a table that holds paths or pictures.
        recursive : bool
            Whether a folder's folders are looked into.

        Returns
        -------
        ImageEmbeddings
            Names, vectors and errors, one a picture.
        """
        return self.image_encoder_.encode_images(
            images,
            tta=self.tta if tta is None else tta,
            column=column,
            recursive=recursive,
            batch_size=self.batch_size,
            workers=self.workers,
            progress=self.progress,
        )

    def encode_text(self, text: str | Sequence[str]) -> NDArray[np.float32]:
        """Encode texts, such as ``"a fjord in winter"``.

        Parameters
        ----------
        text : str or sequence of str
            One text or several.

        Returns
        -------
        array of shape (n, d), float32
            Unit vectors.

        Raises
        ------
        OptionError
            If a text is empty or longer than the encoder's context.
        """
        vectors = self.image_encoder_.encode_text(read_texts(text))
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        return np.asarray(vectors / norms, dtype=np.float32)

    def ask(
        self,
        images: Any = None,
        *,
        text: str | Sequence[str] | None = None,
        vectors: ArrayLike | None = None,
        tta: str | None = None,
        column: Any = None,
        recursive: bool = False,
        groups: Sequence[Hashable] | None = None,
        names: Sequence[str] | None = None,
    ) -> Queries:
        """Encode photographs or texts once, to ask several things of them.

        Every method that takes ``images`` takes the result in their place.

        Parameters
        ----------
        images : path, folder, picture, or many of them; ImageEmbeddings or Queries
            Anything that `geoembed.images.read_pictures` reads: paths, globs, folders, bytes,
            files, PIL pictures, arrays, tensors, a column of a table, any iterable of these; or
            what `encode` gave.
        text : str or sequence of str
            Texts instead, such as ``"a fjord in winter"``.
        vectors : array of shape (n, d)
            Vectors instead, of any length: they are scaled to length 1. The mean over views of a
            picture that `encode` gave is shorter than that: give it as ``images``.
        tta : {"none", "five", "ten-crop"}, optional
            Views of a picture; the localizer's own if not given.
        column : str, optional
            Column of a table that holds paths or pictures.
        recursive : bool
            Whether a folder's folders are looked into.
        groups : sequence of length n, optional
            What each photograph belongs to: several of one group become one query.
        names : sequence of str, optional
            What the queries are called, one each, in place of paths, texts or positions.

        Returns
        -------
        Queries
            Names, vectors and errors.

        Raises
        ------
        OptionError
            If not exactly one of images, text and vectors is given, or an option does not fit.
        MissingWeightsError
            If pictures or texts are given and the tower's weights are not on this machine.
        """
        check_is_fitted(self, "gallery_")
        kind = one_kind(images=images, text=text, vectors=vectors)
        ready = isinstance(images, Queries | ImageEmbeddings)
        if (kind != "images" or ready) and (tta is not None or column is not None):
            raise OptionError("tta= and column= are for pictures that are yet to be encoded.")
        if isinstance(images, Queries):
            queries = images
        elif kind == "vectors":
            queries = vector_queries(vectors, self.gallery_.embeddings.shape[1])
        elif kind == "text":
            names = read_texts(text)
            queries = Queries(names, self.encode_text(names), [""] * len(names))
        else:
            found = images
            if not isinstance(found, ImageEmbeddings):
                found = self.encode(images, tta=tta, column=column, recursive=recursive)
            queries = Queries(list(found.names), found.vectors, list(found.errors))
        queries = queries if groups is None else fuse(queries, groups)
        return queries if names is None else rename(queries, names)
