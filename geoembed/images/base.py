"""What every image encoder offers: common options, checked pixels in, checked vectors out."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Final, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from geoembed.devices import PRECISIONS, resolve_device
from geoembed.errors import OptionError, PluginError
from geoembed.extending.image_specs import ImageEncoderSpec, Preprocessing
from geoembed.extending.registry import image_encoder_specs
from geoembed.images.running import ImageEmbeddings, check_batch_size, run_pictures
from geoembed.images.texts import check_texts
from geoembed.images.towers import Tower

__all__ = ["OPTION_DEFAULTS", "ImageEncoder"]

# The options every image encoder takes, with the value each has if it is not given.
OPTION_DEFAULTS: Final[dict[str, Any]] = {
    "weights": None,
    "allow_download": False,
    "device": None,
    "precision": "float32",
    "channels_last": False,
    "compile": False,
}

_PRECISIONS: Final = ("float32", "bfloat16", "float16")


class ImageEncoder(ABC):
    """Pictures in, vectors out; for some encoders texts too.

    A plugin subclasses it, loads its tower in ``__init__`` and writes `_encode_pixels` and
    `weights_sha256`; one that reads texts writes `_encode_texts` as well. Reading pictures,
    preparing them, views, batches, bad rows and progress come from here.

    Parameters
    ----------
    spec : ImageEncoderSpec
        What it is called and how its pictures are prepared.
    **options
        Those of `geoembed.images.load_image_encoder`, all of which reach the factory. `device`,
        `precision` and their values are checked here; a subclass uses the others, or refuses
        them.

    Raises
    ------
    OptionError
        If an option is not one of those offered.

    Examples
    --------
    >>> import torch
    >>> class MeanColour(ImageEncoder):
    ...     weights_sha256 = ""
    ...
    ...     def _encode_pixels(self, pixels):
    ...         return pixels.mean(dim=(2, 3))
    >>> spec = ImageEncoderSpec(
    ...     name="mean.colour",
    ...     factory="my_package.images:load",
    ...     dimension=3,
    ...     preprocessing=Preprocessing(size=8, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)),
    ...     summary="The mean colour of a picture",
    ... )
    >>> import numpy as np
    >>> red = np.zeros((20, 30, 3), np.uint8) + np.array([255, 0, 0], np.uint8)
    >>> MeanColour(spec).encode_images([red]).vectors.tolist()
    [[1.0, 0.0, 0.0]]
    """

    supports_precision: ClassVar[bool] = False

    def __init__(self, spec: ImageEncoderSpec, **options: Any) -> None:
        unknown = sorted(set(options) - set(OPTION_DEFAULTS))
        if unknown:
            raise OptionError(
                f"Unknown option{'s' * (len(unknown) > 1)} of an image encoder: "
                f"{', '.join(unknown)}. Known: {', '.join(OPTION_DEFAULTS)}."
            )
        self.spec = spec
        self.options = {**OPTION_DEFAULTS, **options}
        self.precision: str = self.options["precision"]
        if self.precision not in _PRECISIONS:
            raise OptionError(
                f"precision={self.precision!r} is not one of: {', '.join(_PRECISIONS)}."
            )
        if self.precision != "float32" and not self.supports_precision:
            raise OptionError(
                f"precision={self.precision!r}: the image encoder {spec.name!r} offers float32."
            )
        self.device = resolve_device(self.options["device"] or "auto")

    @property
    def name(self) -> str:
        """Registered name, for example ``"geoclip.v1"``."""
        return self.spec.name

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        return self.spec.dimension

    @property
    def preprocessing(self) -> Preprocessing:
        """How pictures become the pixels that the tower takes."""
        return self.spec.preprocessing

    @property
    def location_encoder(self) -> str:
        """Name of the location encoder whose vectors these compare with; empty if there is none."""
        return self.spec.location_encoder

    @property
    def logit_scale(self) -> float:
        """What cosines are multiplied by in the loss: 39.69 for ``"geoclip.v1"``, else 1."""
        return 1.0

    @property
    def dtype(self) -> torch.dtype:
        """What the tower computes in."""
        return PRECISIONS[self.precision]

    @property
    @abstractmethod
    def weights_sha256(self) -> str:
        """Digest of all tensors that make an image's vector; empty if there are none."""

    @property
    def tower(self) -> Tower:
        """What can stay frozen below layers that are trained anew; here, the whole encoder."""
        return Tower(
            name=self.name,
            compute=self._encode_pixels,
            dimension=self.dimension,
            preprocessing=self.preprocessing,
            digest=lambda: self.weights_sha256,
            device=self.device,
            dtype=self.dtype,
            rows=self.batch_rows,
            texts=self._encode_texts if self.spec.reads_text else None,
        )

    @property
    def batch_rows(self) -> int:
        """Rows of pixels computed at a time unless another number is asked for."""
        # A core takes as long for a picture in a batch of 1 as in one of 16 (ViT-L/14, measured);
        # an accelerator wants to be kept busy.
        return 4 if self.device.type == "cpu" else 64

    def encode_pixels(
        self, pixels: "Tensor | NDArray[Any]", *, batch_size: int | None = None
    ) -> NDArray[np.float32]:
        """Encode prepared pixels.

        Parameters
        ----------
        pixels : tensor or array of shape (n, 3, size, size)
            As `geoembed.images.preprocessing.prepare` gives them.
        batch_size : int, optional
            Rows computed at a time. Default: `batch_rows`.

        Returns
        -------
        array of shape (n, dimension), float32
            Not normalised.

        Raises
        ------
        OptionError
            If the shape does not fit, values are not finite (the message names the rows), or
            `batch_size` is not a whole number of at least 1.
        """
        size_of_block = check_batch_size(batch_size, self.batch_rows)
        tensor = torch.as_tensor(pixels)
        size = self.preprocessing.size
        if tensor.ndim != 4 or tuple(tensor.shape[1:]) != (3, size, size):
            raise OptionError(
                f"pixels has the shape {tuple(tensor.shape)}, expected (n, 3, {size}, {size})."
            )
        if not tensor.is_floating_point():
            raise OptionError(
                f"pixels are {tensor.dtype}, expected prepared ones (geoembed.images.preprocessing"
                ".prepare): floats, normalised."
            )
        bad = (~torch.isfinite(tensor).flatten(1).all(dim=1)).nonzero().flatten().tolist()
        if bad:
            raise OptionError(
                f"pixels holds values that are not finite in {len(bad)} of {len(tensor)} rows, "
                f"such as {', '.join(map(str, bad[:5]))}."
            )
        out = np.empty((len(tensor), self.dimension), dtype=np.float32)
        for start in range(0, len(tensor), size_of_block):
            rows = slice(start, start + size_of_block)
            block = tensor[rows].to(self.device, self.dtype)
            with torch.inference_mode(), torch.autocast(self.device.type, enabled=False):
                out[rows] = self._checked(self._encode_pixels(block), len(block))
        return out

    def encode_text(self, texts: Sequence[str] | str) -> NDArray[np.float32]:
        """Encode texts.

        Parameters
        ----------
        texts : sequence of str, or str
            One text counts as a list of one.

        Returns
        -------
        array of shape (n, dimension), float32
            Not normalised.

        Raises
        ------
        OptionError
            If this encoder reads no texts, one is empty, or one is longer than the text tower
            reads: the message names it and its length, nothing is cut.
        """
        if not self.spec.reads_text:
            raise OptionError(f"The image encoder {self.name!r} reads no texts.")
        listed = check_texts(texts)
        out = np.empty((len(listed), self.dimension), dtype=np.float32)
        if listed:
            with torch.inference_mode(), torch.autocast(self.device.type, enabled=False):
                out[:] = self._checked(self._encode_texts(listed), len(listed))
        return out

    def encode_images(
        self,
        source: Any,
        *,
        tta: str = "none",
        column: str | None = None,
        recursive: bool = False,
        batch_size: int | None = None,
        workers: int | None = None,
        progress: bool | None = None,
        max_pixels: int | None = None,
    ) -> ImageEmbeddings:
        """Encode pictures.

        They are read and prepared in threads while the tower computes. One that cannot be read
        becomes a row of NaN and an error text; the others go on.

        Parameters
        ----------
        source : path, bytes, file object, PIL image, array, tensor, table or iterable
            What `geoembed.images.sources.read_pictures` reads.
        tta : {"none", "five", "ten-crop"}
            Which views of a picture are averaged, see `geoembed.images.views.make_views`.
        column : str, optional
            The column of a table that holds paths or pictures.
        recursive : bool
            Whether a folder's folders are looked into.
        batch_size : int, optional
            Views computed at a time. Default: what suits the device.
        workers : int, optional
            Threads that read and prepare pictures; with 0 none. Default: one for each core, at
            most 8.
        progress : bool or None
            Show a progress bar; None shows one on a terminal when the work is long.
        max_pixels : int, optional
            Larger pictures get an error before they are decoded. Default: 200 million.

        Returns
        -------
        ImageEmbeddings
            One row a picture, in order. A vector is the mean over the views of the normalised
            features, so that its dot product with a unit vector is the mean of the cosines.

        Raises
        ------
        PictureError
            If there is no picture at all: an empty folder, a pattern that nothing fits.
        OptionError
            If an option does not fit.
        """
        batches = self.iterate_images(
            source,
            tta=tta,
            column=column,
            recursive=recursive,
            batch_size=batch_size,
            workers=workers,
            progress=progress,
            max_pixels=max_pixels,
        )
        return ImageEmbeddings.joined(list(batches), self.dimension)

    def iterate_images(
        self,
        source: Any,
        *,
        tta: str = "none",
        column: str | None = None,
        recursive: bool = False,
        batch_size: int | None = None,
        workers: int | None = None,
        progress: bool | None = None,
        max_pixels: int | None = None,
    ) -> Iterator[ImageEmbeddings]:
        """Encode pictures batch by batch, in memory that does not grow with their number.

        Parameters
        ----------
        source, tta, column, recursive, batch_size, workers, progress, max_pixels
            As for `encode_images`.

        Returns
        -------
        iterator of ImageEmbeddings
            One a batch, in order.

        Raises
        ------
        PictureError, OptionError
            At once, as `encode_images` does.
        """
        return run_pictures(
            self,
            source,
            tta=tta,
            batch_size=batch_size,
            progress=progress,
            column=column,
            recursive=recursive,
            workers=workers,
            max_pixels=max_pixels,
        )

    @abstractmethod
    def _encode_pixels(self, pixels: Tensor) -> Tensor:
        """Return vectors (n, dimension) for pixels (n, 3, size, size) on `device`, of `dtype`."""

    def _encode_texts(self, texts: list[str]) -> Tensor:
        """Return vectors (n, dimension) for texts, none of them empty."""
        raise PluginError(
            f"The image encoder {self.name!r} is registered as one that reads texts, and its class "
            f"{type(self).__name__} does not: write _encode_texts, or register it with "
            "reads_text=False."
        )

    def _checked(self, vectors: Tensor, count: int) -> NDArray[np.float32]:
        expected = (count, self.dimension)
        if not isinstance(vectors, Tensor) or tuple(vectors.shape) != expected:
            got = getattr(vectors, "shape", type(vectors).__name__)
            raise PluginError(
                f"The image encoder {self.name!r} ({type(self).__name__}) returned {got}, "
                f"expected a tensor of shape {expected}."
            )
        return vectors.to("cpu", torch.float32).numpy()

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        # By recipe: weights are found again where the object is unpickled. A spec that is not
        # registered travels along.
        known = image_encoder_specs().get(self.name) == self.spec
        return _remake, (self.name if known else self.spec, self.options)

    def __repr__(self) -> str:
        return (
            f"<{type(self).__name__} {self.name} ({self.dimension} values; "
            f"{self.precision} on {self.device})>"
        )

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self  # immutable in practice; copies would double the weights


def _remake(name: str | ImageEncoderSpec, options: dict[str, Any]) -> ImageEncoder:
    from geoembed.images import load_image_encoder

    return load_image_encoder(name, **options)
