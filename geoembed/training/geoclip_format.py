"""Model folders that the package geoclip reads (1.3.0), and what they cannot hold."""

from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from geoembed.encoders.architecture import LocationArchitecture
from geoembed.errors import OptionError
from geoembed.extending.registry import image_encoder_specs
from geoembed.training.card import write_card
from geoembed.training.model_folder import save_tensors, stored, write_config
from geoembed.training.trained_model import TrainedModel

__all__ = ["check_expressible", "write_geoclip_folder"]

# Its classes have these written into their code; only the sigmas are read from a folder.
_FIXED: Final = LocationArchitecture()
_HEAD: Final = (768, 768, 512)

# The CLIP that its image side is built on, by architecture and tag of open_clip, and where the
# package fetches it from.
_CLIP: Final = ("ViT-L-14-quickgelu", "openai")
_BACKBONE: Final = {
    "repo_id": "openai/clip-vit-large-patch14",
    "revision": "32bd64288804d66eefd0ccbe215aa642df71cc41",
}


def check_expressible(model: TrainedModel, *, images: bool) -> None:
    """Refuse a model that the package geoclip could not compute.

    Parameters
    ----------
    model : TrainedModel
        To be written.
    images : bool
        Whether its image side is to be written too.

    Raises
    ------
    OptionError
        If something differs from what is written into the package's code; the message names every
        field, what it is and what it has to be.

    Examples
    --------
    >>> architecture = LocationArchitecture(projection="sphere")
    >>> model = TrainedModel(
    ...     name="seamless.v1", architecture=architecture, network=architecture.build()
    ... )
    >>> check_expressible(model, images=False)
    Traceback (most recent call last):
    geoembed.errors.OptionError: The format of the package geoclip cannot hold this model:
      location.projection is 'sphere', it computes 'equal-earth' only
    Use format='geoembed', which holds everything.
    """
    found, fixed = model.architecture, _FIXED
    problems = [
        f"location.{name} is {_shown(getattr(found, name))}, it computes "
        f"{_shown(getattr(fixed, name))} only"
        for name in ("projection", "encoding", "frequencies", "hidden", "output")
        if getattr(found, name) != getattr(fixed, name)
    ]
    if images:
        problems += _image_problems(model)
    if problems:
        listed = "".join(f"\n  {problem}" for problem in problems)
        raise OptionError(
            f"The format of the package geoclip cannot hold this model:{listed}\n"
            "Use format='geoembed', which holds everything."
        )


def _image_problems(model: TrainedModel) -> list[str]:
    side = model.side
    if side is None:
        return ["image is missing: a gallery goes with a model that has an image side"]
    if side.network.tower is not None:
        return ["image.tower is 'convnet', it puts its head on a CLIP only"]
    spec = image_encoder_specs().get(side.backbone)
    if spec is None or (spec.architecture, spec.pretrained) != _CLIP:
        return [f"image.backbone is {side.backbone!r}, it knows CLIP ViT-L/14 ('geoclip.v1') only"]
    if side.network.widths != _HEAD:
        return [
            f"image.head has the widths {list(side.network.widths)}, it computes {list(_HEAD)} only"
        ]
    return []


def write_geoclip_folder(
    model: TrainedModel,
    folder: Path,
    *,
    gallery: NDArray[np.float64] | None = None,
    dtype: str = "float32",
) -> None:
    """Write a model into an empty folder that the package geoclip reads.

    Parameters
    ----------
    model : TrainedModel
        With the published projection, encoding and widths; any sigmas.
    folder : Path
        Empty.
    gallery : array of shape (n, 2), optional
        Places that pictures are looked up among, (lon, lat), degrees, WGS 84. With them the whole
        model is written, for ``GeoCLIP.from_pretrained``; without, the location encoder alone, for
        ``LocationEncoder.from_pretrained``.
    dtype : {"float32", "float16"}
        Of the weights in the file; they are read into float32.

    Raises
    ------
    OptionError
        If the format cannot hold the model, see `check_expressible`.
    """
    images = gallery is not None
    check_expressible(model, images=images)
    prefix = "" if images else "location_encoder."
    tensors = {
        key.removeprefix(prefix): tensor
        for key, tensor in stored(model.tensors(), dtype).items()
        if images or key.startswith(prefix)
    }
    config: dict[str, Any] = {
        "model_type": "geoclip-geolocation" if images else "geoclip-location-encoder",
        "format_version": 1,
        "sigma": [int(s) if float(s).is_integer() else s for s in model.architecture.sigmas],
    }
    if gallery is not None:
        config |= {"gallery_file": "gallery.csv", "backbone": dict(_BACKBONE)}
        _write_gallery(folder / "gallery.csv", gallery)
    save_tensors(tensors, folder, model)
    # The package does not look at the facts.
    write_config(config | model.facts(), folder)
    write_card(model, folder, tensors, format="geoclip", images=images)


def _write_gallery(path: Path, lonlat: NDArray[np.float64]) -> None:
    # Every digit: the package rounds to float32 itself.
    rows = [f"{lat!r},{lon!r}" for lon, lat in lonlat.tolist()]
    path.write_text("\n".join(["LAT,LON", *rows, ""]), encoding="utf-8")


def _shown(value: object) -> str:
    return repr(list(value) if isinstance(value, tuple) else value)
