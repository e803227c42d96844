"""How a localizer is asked: photographs, texts or vectors become directions in its space."""

from collections.abc import Hashable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_is_fitted

from geoembed.encoders.base import LocationEncoder
from geoembed.errors import OptionError
from geoembed.extending.image_specs import ImageEncoderSpec
from geoembed.extending.registry import (
    image_encoder_spec,
    image_encoder_specs,
    location_encoder_specs,
)
from geoembed.galleries import Gallery, load_gallery
from geoembed.geolocation.queries import (
    Queries,
    fuse,
    one_kind,
    read_texts,
    rename,
    vector_queries,
)
from geoembed.images import ImageEmbeddings, ImageEncoder, load_image_encoder
from geoembed.images.head import load_temperature
from geoembed.weights import model_folder_of, read_model_folder

__all__ = ["Asking", "check_pair"]


class Asking:
    """What a localizer needs to understand a question; see `geoembed.GeoLocalizer`."""

    gallery: Any
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
        check_pair(encoder, self.gallery_)
        return encoder

    @property
    def _gallery_encoder(self) -> Path | str | None:
        """What registered galleries are encoded with, so that the image encoder fits them.

        None where that is not known: the gallery's own encoder then has to fit.
        """
        given = self.image_encoder
        path = _model_path(given)
        if path is not None:
            return path
        # What was loaded from a folder says where that is: its location encoder is no known name.
        source: str | None = getattr(given, "location_source", None)
        if source:
            return source
        named = image_encoder_specs().get(given) if isinstance(given, str) else given
        location = getattr(named, "location_encoder", "")
        return location if location in location_encoder_specs() else None

    def _load_gallery(self) -> Gallery:
        self.__dict__.pop("_location_encoder", None)  # of the gallery before
        return load_gallery(
            self.gallery,
            encoder=self._gallery_encoder,
            device=self.device,
            progress=self.progress,
        )

    def _trained_scale(self) -> float:
        """What cosines were multiplied by in training; the tower is not loaded for it."""
        given = self.image_encoder
        if isinstance(given, ImageEncoder):
            return given.logit_scale
        path = _model_path(given)
        if path is not None:
            return read_model_folder(path).temperature() or 1.0
        spec = given if isinstance(given, ImageEncoderSpec) else image_encoder_spec(given)
        if spec.weights is not None and any(file.role == "config" for file in spec.weights.files):
            return model_folder_of(spec.weights).temperature() or 1.0
        return load_temperature(spec) or 1.0

    @cached_property
    def _location_encoder(self) -> LocationEncoder:
        """The gallery's encoder, for places that it does not hold."""
        return self.gallery_.load_encoder(device=self.device)

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


def check_pair(encoder: ImageEncoder, gallery: Gallery) -> None:
    """Raise OptionError unless vectors of an image encoder and a gallery lie in one space.

    Parameters
    ----------
    encoder : ImageEncoder
        One that was trained here says by ``location_sha256`` which weights it goes with; of others
        the name of the location encoder counts.
    gallery : Gallery
        Encoded with some location encoder.
    """
    goes_with: str = getattr(encoder, "location_sha256", "")
    if goes_with:
        if goes_with == gallery.weights_sha256:
            return
        space = f"{encoder.location_encoder} of the weights {goes_with[:12]}..."
        encoded = f"{gallery.encoder!r} of the weights {gallery.weights_sha256[:12] or '(none)'}..."
    else:
        if encoder.location_encoder == gallery.encoder:
            return
        space = encoder.location_encoder or "no location encoder"
        encoded = repr(gallery.encoder)
    raise OptionError(
        f"The image encoder {encoder.name!r} goes with {space}, and the gallery {gallery.name!r} "
        f"is encoded with {encoded}: their vectors cannot be compared."
    )


def _model_path(given: Any) -> Path | None:
    """Return the folder of a trained model; registered names come first."""
    if not isinstance(given, str | Path) or given in image_encoder_specs():
        return None
    path = Path(given).expanduser()
    return path if path.is_dir() else None
