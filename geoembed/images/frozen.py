"""What a frozen tower is, from its name or its model folder, without loading a large one."""

import os
from dataclasses import dataclass, replace
from pathlib import Path

from geoembed import weights
from geoembed.errors import MissingWeightsError, WeightsError
from geoembed.extending.image_specs import ImageEncoderSpec, Preprocessing
from geoembed.extending.registry import image_encoder_spec, image_encoder_specs
from geoembed.images.convnet import ConvNet
from geoembed.images.network import ImageNetwork
from geoembed.images.sides import ImageSide, image_side_of, read_image_side
from geoembed.weights import ModelFolder, read_model_folder

__all__ = ["FrozenTower", "frozen_tower", "standing_alone"]


@dataclass(frozen=True, kw_only=True, eq=False)
class FrozenTower:
    """What is known of a tower before its weights are loaded.

    Parameters
    ----------
    backbone : str
        Registered image encoder that it belongs to; or the absolute path of the model folder that
        it was trained in.
    preprocessing : Preprocessing
        How pictures become the pixels that it takes.
    sha256 : str
        Digest of its weights; empty where only loading them would tell.
    folder : ModelFolder, optional
        The model folder that holds it.
    network : ConvNet, optional
        The tower itself, where a folder holds it.
    """

    backbone: str
    preprocessing: Preprocessing
    sha256: str = ""
    folder: ModelFolder | None = None
    network: ConvNet | None = None


def frozen_tower(name: str) -> FrozenTower:
    """Say what the tower of an image encoder is.

    Parameters
    ----------
    name : str
        A registered image encoder, or the path of a model folder. The layers of a folder that lie
        on a frozen tower themselves share that one.

    Returns
    -------
    FrozenTower
        Nothing larger than a model folder is read for it.

    Raises
    ------
    UnknownNameError
        If it is neither.
    WeightsError
        If the folder is no model, reads no pictures, or is damaged.

    Examples
    --------
    >>> frozen_tower("geoclip.v1").preprocessing.size
    224
    """
    path = _folder(name)
    if path is None:
        spec = image_encoder_spec(name)
        return FrozenTower(
            backbone=name, preprocessing=spec.preprocessing, sha256=_registered_sha256(spec)
        )
    folder = read_model_folder(path)
    side = read_image_side(folder)
    tower = side.network.tower
    if tower is None:
        below = image_encoder_spec(side.backbone)
        return FrozenTower(
            backbone=side.backbone,
            preprocessing=below.preprocessing,
            sha256=side.backbone_sha256,
        )
    assert side.preprocessing is not None
    return FrozenTower(
        backbone=str(path),
        preprocessing=side.preprocessing,
        sha256=weights.digest_tensors(tower.state_dict()),
        folder=folder,
        network=tower,
    )


def standing_alone(side: ImageSide, moved: str = "") -> tuple[ImageSide, FrozenTower | None]:
    """Give layers that were trained on the tower of a model folder that tower as their own.

    Parameters
    ----------
    side : ImageSide
        Any. Its `backbone` is a path where the tower is that of a model folder.
    moved : str
        Where the folder is now, if it is no longer there.

    Returns
    -------
    ImageSide
        With the tower, so that the folder is not needed any more; others as they are.
    FrozenTower or None
        Where the tower was taken from; None if nothing was taken.

    Raises
    ------
    WeightsError
        If the folder is gone, or holds another tower than the one that was trained on.
    """
    if not side.backbone or _folder(side.backbone) is None:
        return side, None
    do = (
        "Bring the folder back as it was; or write its new place into image.backbone of the run's "
        "config.toml."
    )
    places = [each for each in (side.backbone, moved) if each and Path(each).expanduser().is_dir()]
    if not places:
        raise WeightsError(
            f"The layers were trained on the frozen tower of the model in {side.backbone}, which "
            f"is not there any more. {do}"
        )
    known = frozen_tower(places[0])
    if known.network is None or side.backbone_sha256 not in ("", known.sha256):
        raise WeightsError(
            f"The layers were trained on another tower than that of the model in {places[0]}: its "
            f"digest is {known.sha256}, expected {side.backbone_sha256}. {do}"
        )
    into, *head, out = side.network.widths
    network = ImageNetwork(into, head, out, known.network)
    network.mlp.load_state_dict(side.network.mlp.state_dict())
    network.eval().requires_grad_(False)
    alone = replace(
        side, network=network, preprocessing=known.preprocessing, backbone="", backbone_sha256=""
    )
    return alone, known


def _folder(name: str) -> Path | None:
    """Return `name` as a path if it is meant as one; registered names come first."""
    if name in image_encoder_specs():
        return None
    path = Path(os.path.abspath(Path(name).expanduser()))
    return path if os.sep in name or "/" in name or path.exists() else None


def _registered_sha256(spec: ImageEncoderSpec) -> str:
    """Digest of the tower of a registered model folder; that of a large one is not taken."""
    roles = {file.role for file in spec.weights.files} if spec.weights else set()
    if not {"config", "model"} <= roles:
        return ""
    try:
        side = image_side_of(spec.name)
    except MissingWeightsError:
        return ""
    if side.network.tower is None:
        return side.backbone_sha256
    return weights.digest_tensors(side.network.tower.state_dict())
