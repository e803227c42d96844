"""Frozen descriptions of image encoders and of how their pictures are prepared."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from geoembed.errors import PluginError
from geoembed.extending.specs import WeightsSpec, check_factory, check_name, check_texts
from geoembed.scalars import is_whole

__all__ = ["ImageEncoderSpec", "Preprocessing"]

_INTERPOLATIONS: Final = ("bicubic", "bilinear")
_FITS: Final = ("crop", "squash")


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """How a picture becomes the pixels that a tower was trained on. Part of the model.

    Parameters
    ----------
    size : int
        Height and width of the pixels that the tower takes.
    mean, std : tuple of 3 floats
        Subtracted from, and divided out of, red, green and blue in [0, 1].
    interpolation : {"bicubic", "bilinear"}
        How pictures are resized, with anti-aliasing.
    fit : {"crop", "squash"}
        ``"crop"`` resizes the shorter side to `size` and takes the centre; ``"squash"`` resizes
        both sides, whatever the shape.
    """

    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: str = "bicubic"
    fit: str = "crop"

    def __post_init__(self) -> None:
        if not is_whole(self.size) or self.size < 1:
            raise PluginError(f"Preprocessing declares size={self.size!r}: give pixels.")
        for name in ("mean", "std"):
            values = getattr(self, name)
            numbers = isinstance(values, tuple) and all(isinstance(v, int | float) for v in values)
            if not numbers or len(values) != 3:
                raise PluginError(f"Preprocessing declares {name}={values!r}: give three numbers.")
        if not all(value > 0 for value in self.std):
            raise PluginError(f"Preprocessing declares std={self.std!r}: it divides, so not 0.")
        for name, choices in (("interpolation", _INTERPOLATIONS), ("fit", _FITS)):
            if getattr(self, name) not in choices:
                raise PluginError(
                    f"Preprocessing declares {name}={getattr(self, name)!r}: use one of "
                    f"{', '.join(map(repr, choices))}."
                )


@dataclass(frozen=True, kw_only=True)
class ImageEncoderSpec:
    """An image encoder: what it is called, what it gives, where its code is.

    Parameters
    ----------
    name : str
        ``family`` or ``family.tag``, lower case, for example ``"geoclip.v1"``.
    factory : str
        ``"module:attribute"``; called as ``factory(spec, **options)``, it returns a
        `geoembed.images.ImageEncoder`.
    dimension : int
        Length of a vector.
    preprocessing : Preprocessing
        What its tower was trained on.
    summary : str
        One line for listings.
    location_encoder : str
        Name of the location encoder whose vectors can be compared with these; empty where there
        is none, as for towers that know nothing of places.
    reads_text : bool
        Whether texts can be encoded too.
    architecture : str
        Name of the tower in the library that builds it, such as ``"ViT-L-14-quickgelu"``.
    pretrained : str
        Tag of its trained weights in that library, such as ``"openai"``.
    weights : WeightsSpec or None
        The trained head on top of the tower, or None.
    licence, paper, training_data : str
        Provenance; the empty string where there is none.
    details : mapping of str to str
        Further facts for the models page, in order.
    owner : str
        Name and version of the distribution that registered it; the host fills it in.
    """

    name: str
    factory: str
    dimension: int
    preprocessing: Preprocessing
    summary: str
    location_encoder: str = ""
    reads_text: bool = False
    architecture: str = ""
    pretrained: str = ""
    weights: WeightsSpec | None = None
    licence: str = ""
    paper: str = ""
    training_data: str = ""
    details: Mapping[str, str] = field(default_factory=dict, hash=False)
    owner: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        check_name(self.name)
        check_factory(self.factory)
        check_texts(
            self,
            *("summary", "location_encoder", "architecture", "pretrained"),
            *("licence", "paper", "training_data", "owner"),
        )
        what = f"The image encoder {self.name!r} declares"
        if not is_whole(self.dimension) or self.dimension < 1:
            raise PluginError(
                f"{what} the dimension {self.dimension!r}: it must be a positive whole number."
            )
        if not isinstance(self.preprocessing, Preprocessing):
            raise PluginError(f"{what} no Preprocessing: {self.preprocessing!r}.")
        if self.weights is not None and not isinstance(self.weights, WeightsSpec):
            raise PluginError(f"{what} the weights {self.weights!r}: give a WeightsSpec or None.")
        if self.location_encoder:
            check_name(self.location_encoder)
