"""A tiny CLIP to test and show with, and the contract of an image encoder as checks."""

import json
import pickle
import re
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from geoembed.errors import OptionError, PluginError
from geoembed.extending.image_specs import ImageEncoderSpec
from geoembed.extending.registry import image_encoder_spec, image_encoder_specs
from geoembed.images import load_image_encoder
from geoembed.optional import import_optional
from geoembed.testing.promises import promise, refused

if TYPE_CHECKING:
    from geoembed.images.base import ImageEncoder

__all__ = ["check_image_encoder", "tiny_clip_spec", "write_tiny_clip"]

# A CLIP whose features GeoCLIP's head takes, small enough for a test: 6.5 million numbers, nearly
# all of them the vocabulary's.
_TINY: Final[dict[str, Any]] = {
    "embed_dim": 768,
    "quick_gelu": True,
    "vision_cfg": {"image_size": 224, "layers": 2, "width": 128, "patch_size": 32},
    "text_cfg": {
        "context_length": 77,
        "vocab_size": 49408,
        "width": 128,
        "heads": 2,
        "layers": 2,
    },
}


def tiny_clip_spec() -> ImageEncoderSpec:
    """Return the spec of GeoCLIP's image side without its architecture, called ``geoclip.tiny``.

    With it any CLIP of 224 pixels and features of 768 values can be loaded by ``weights=``: the
    one of `write_tiny_clip`, say. Head, temperature and preprocessing are those of
    ``"geoclip.v1"``.

    Returns
    -------
    ImageEncoderSpec
        For `geoembed.images.load_image_encoder`.

    Examples
    --------
    >>> tiny_clip_spec().location_encoder
    'geoclip.v1'
    """
    return replace(
        image_encoder_spec("geoclip.v1"), name="geoclip.tiny", architecture="", pretrained=""
    )


def write_tiny_clip(folder: str | Path, *, seed: int = 0) -> Path:
    """Write a small CLIP with random weights, in open_clip's layout.

    It tells pictures apart, but knows nothing about them.

    Parameters
    ----------
    folder : path
        Made if it is not there.
    seed : int
        Another seed gives another CLIP.

    Returns
    -------
    Path
        The folder, for ``weights=`` of `geoembed.images.load_image_encoder`.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     sorted(path.name for path in write_tiny_clip(folder).iterdir())
    ['open_clip_config.json', 'open_clip_model.safetensors']
    """
    import torch
    from safetensors.torch import save_file

    clip = import_optional("open_clip.model", extra="image", purpose="A tiny CLIP")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = clip.CLIP(**_TINY)
    preprocessing = image_encoder_spec("geoclip.v1").preprocessing
    config = {
        "model_cfg": _TINY,
        "preprocess_cfg": {
            "size": preprocessing.size,
            "mean": preprocessing.mean,
            "std": preprocessing.std,
            "interpolation": preprocessing.interpolation,
            "resize_mode": "shortest",
        },
    }
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "open_clip_config.json").write_text(json.dumps(config, indent=1), encoding="utf-8")
    tensors = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    save_file(tensors, folder / "open_clip_model.safetensors")
    return folder


def check_image_encoder(encoder: "str | ImageEncoder") -> None:
    """Check that an image encoder keeps the contract that everything else relies on.

    Parameters
    ----------
    encoder : str or ImageEncoder
        A registered name, whose weights must be here; or an encoder.

    Raises
    ------
    AssertionError
        At the first broken promise; the message says which.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     weights = write_tiny_clip(folder)
    ...     check_image_encoder(load_image_encoder(tiny_clip_spec(), weights=weights))
    """
    loaded = load_image_encoder(encoder)
    for check in (_spec, _shape, _deterministic, _rows, _refuses, _pictures, _texts, _pickle):
        check(loaded)


def _pixels(encoder: "ImageEncoder", count: int = 3) -> NDArray[np.float32]:
    size = encoder.preprocessing.size
    random = np.random.default_rng(0)
    return random.normal(size=(count, 3, size, size)).astype(np.float32)


def _spec(encoder: "ImageEncoder") -> None:
    known = image_encoder_specs()
    if encoder.name in known:
        promise(known[encoder.name] == encoder.spec, "its spec is not the one registered")
        promise(known[encoder.name].owner != "", f"the spec of {encoder.name!r} has no owner")
    scale = encoder.logit_scale
    promise(isinstance(scale, float) and 0 < scale < np.inf, f"logit_scale is {scale!r}")
    digest = encoder.weights_sha256
    shaped = isinstance(digest, str) and (digest == "" or re.fullmatch("[0-9a-f]{64}", digest))
    promise(bool(shaped), f"weights_sha256 is {digest!r}: 64 hexadecimal digits, or none")


def _shape(encoder: "ImageEncoder") -> None:
    for count in (0, 1, 3):
        try:
            got = encoder.encode_pixels(_pixels(encoder, count))
        except PluginError as error:
            # What the base class says of vectors whose shape does not fit.
            raise AssertionError(str(error)) from error
        promise(got.shape == (count, encoder.dimension), f"{count} pictures give {got.shape}")
        promise(got.dtype == np.float32, f"encode_pixels gives {got.dtype}, expected float32")
        promise(bool(np.isfinite(got).all()), "encode_pixels gives values that are not finite")


def _deterministic(encoder: "ImageEncoder") -> None:
    pixels = _pixels(encoder)
    kept = pixels.copy()
    same = np.array_equal(encoder.encode_pixels(pixels), encoder.encode_pixels(pixels))
    promise(same, "two calls give different values; is the tower in training mode?")
    promise(np.array_equal(pixels, kept), "encode_pixels changes the pixels it is given")


def _rows(encoder: "ImageEncoder") -> None:
    pixels = _pixels(encoder)
    together = encoder.encode_pixels(pixels)
    alone = np.vstack([encoder.encode_pixels(row[None]) for row in pixels])
    worst = np.abs(alone - together).max() / np.abs(together).max()
    # Matrix products of other shapes sum in another order; half precision rounds more.
    allowed = 1e-4 if encoder.precision == "float32" else 0.05
    promise(worst <= allowed, f"the other rows of a batch change a row by {worst:.1e}")
    apart = np.abs(together[0] - together[1]).max() > 0
    promise(bool(apart), "different pictures give one and the same vector")


def _refuses(encoder: "ImageEncoder") -> None:
    pixels = _pixels(encoder, 1)
    bad = pixels.copy()
    bad[0, 0, 0, 0] = np.nan
    for wrong, what in ((pixels[:, :, 1:], "pixels of another size"), (bad, "a pixel of NaN")):
        refused(partial(encoder.encode_pixels, wrong), OptionError, what)
    call = partial(encoder.encode_images, [_photo(0)], tta="no-such")
    refused(call, OptionError, "tta='no-such'")


def _photo(seed: int) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (90, 120, 3), dtype=np.uint8)


def _pictures(encoder: "ImageEncoder") -> None:
    photos = [_photo(0), b"no picture", _photo(1)]
    for tta in ("none", "ten-crop"):
        got = encoder.encode_images(photos, tta=tta, workers=0, progress=False)
        promise(len(got) == 3, f"{len(got)} rows for three pictures")
        promise(got.good.tolist() == [True, False, True], f"of a bad picture: {got.errors}")
        finite = np.isfinite(got.vectors).all(axis=1).tolist()
        promise(finite == [True, False, True], "rows of NaN are not those with an error")
        norms = np.linalg.norm(got.vectors[got.good], axis=1)
        unit = np.allclose(norms, 1.0, atol=1e-5) if tta == "none" else (norms <= 1.00001).all()
        promise(bool(unit), f"with tta={tta!r} the norms are {norms}")


def _texts(encoder: "ImageEncoder") -> None:
    if not encoder.spec.reads_text:
        refused(partial(encoder.encode_text, ["a fjord"]), OptionError, "a text it cannot read")
        return
    got = encoder.encode_text(["a fjord in winter", "a desert road"])
    promise(got.shape == (2, encoder.dimension), f"two texts give {got.shape}")
    promise(bool(np.isfinite(got).all()), "encode_text gives values that are not finite")
    empty = encoder.encode_text([]).shape
    promise(empty == (0, encoder.dimension), f"no texts give {empty}")
    for text, what in (("", "an empty text"), ("mountain " * 5000, "a text of 5,000 words")):
        refused(partial(encoder.encode_text, [text]), OptionError, what)


def _pickle(encoder: "ImageEncoder") -> None:
    again = pickle.loads(pickle.dumps(encoder))
    pixels = _pixels(encoder, 1)
    same = np.array_equal(again.encode_pixels(pixels), encoder.encode_pixels(pixels))
    promise(same, "a pickled encoder gives other values")
