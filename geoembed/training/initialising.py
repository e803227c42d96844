"""Weights that a run starts from: new ones drawn from its seed, or those of a trained model."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Final

import torch
from torch import nn

from geoembed.encoders import load_encoder
from geoembed.encoders.architecture import LocationArchitecture
from geoembed.encoders.geoclip import GeoCLIPEncoder
from geoembed.encoders.network import LocationNetwork
from geoembed.errors import OptionError
from geoembed.extending.image_specs import Preprocessing
from geoembed.images.convnet import ConvNet
from geoembed.images.network import ImageNetwork
from geoembed.images.sides import ImageSide, image_side_of
from geoembed.training.randomness import generator
from geoembed.training.settings import ImageSettings, LocationSettings, ObjectiveSettings

__all__ = ["initial_image_side", "initial_location"]

# Colours between 0 and 1 become numbers between -2 and 2.
_MEAN: Final = (0.5, 0.5, 0.5)
_STD: Final = (0.25, 0.25, 0.25)

# Settings give a temperature in three digits.
_ROUNDED: Final = 0.01


def initial_location(
    settings: LocationSettings, seed: int
) -> tuple[LocationArchitecture, LocationNetwork]:
    """Return the location encoder that a run starts with.

    Parameters
    ----------
    settings : LocationSettings
        What it is made of, or which encoder it starts from, and which scales are added.
    seed : int
        Of the run.

    Returns
    -------
    LocationArchitecture
        Of the network, added scales included.
    LocationNetwork
        On the CPU, float32; what is not to be trained needs no gradient. An added scale has a head
        of zeros: vectors are at first those of the encoder that was started from.

    Raises
    ------
    UnknownNameError, WeightsError, MissingWeightsError
        If there is no such encoder, or its weights are not here or damaged.
    OptionError
        If it is no location network, or its scales are not known and some are to be added.
    """
    if settings.init:
        architecture, network = _started(settings, seed)
    else:
        architecture = LocationArchitecture(
            projection=settings.projection,
            encoding=settings.encoding,
            sigmas=tuple(settings.sigmas),
            frequencies=settings.frequencies,
            hidden=tuple(settings.hidden),
            output=settings.output,
        )
        with _seeded(seed, "location weights"):
            network = architecture.build()
    network.train().requires_grad_(settings.train == "all")
    if settings.train == "added":
        for capsule in network.capsules[-len(settings.add_sigmas) :]:
            capsule.requires_grad_(True)
    return architecture, network


def _started(settings: LocationSettings, seed: int) -> tuple[LocationArchitecture, LocationNetwork]:
    encoder = load_encoder(settings.init, device="cpu")
    if not isinstance(encoder, GeoCLIPEncoder):
        raise OptionError(
            f"location.init = {settings.init!r} is a {type(encoder).__name__}: only networks of "
            "GeoCLIP's kind and folders of trained models can be trained further."
        )
    known = encoder.architecture
    architecture = replace(known, sigmas=(*known.sigmas, *settings.add_sigmas))
    with _seeded(seed, "added weights"):
        network = architecture.build()
    network.load_state_dict(encoder.network.state_dict(), strict=False)
    for capsule in network.capsules[len(known.sigmas) :]:
        for parameter in capsule.head.parameters():
            nn.init.zeros_(parameter)
    return architecture, network


def initial_image_side(
    settings: ImageSettings,
    output: int,
    seed: int,
    *,
    features: int = 0,
    backbone_sha256: str = "",
    temperature: float = 0.07,
) -> ImageSide:
    """Return the image side that a run starts with.

    Parameters
    ----------
    settings : ImageSettings
        What it is made of, or which encoder it starts from.
    output : int
        Length of the location encoder's vectors.
    seed : int
        Of the run.
    features : int
        Length of the frozen tower's features; not needed where the tower is trained.
    backbone_sha256 : str
        Digest of the frozen tower, if it is known.
    temperature : float
        Initial one of new weights. Weights that are started from bring their own.

    Returns
    -------
    ImageSide
        On the CPU, float32; what is not to be trained needs no gradient.

    Raises
    ------
    UnknownNameError, WeightsError, MissingWeightsError
        If there is no such encoder to start from, or its weights are not here or damaged.
    OptionError
        If it does not fit the tower, its features, the location encoder's vectors, or a
        temperature other than the default.
    """
    if settings.init:
        side = image_side_of(settings.init)
        _check_fit(settings, side, output, features)
        _check_temperature(settings, side, temperature)
        if side.backbone_sha256 and backbone_sha256 not in ("", side.backbone_sha256):
            raise OptionError(
                f"image.init = {settings.init!r} was trained on the tower of {side.backbone!r} "
                f"with the digest {side.backbone_sha256}; the one of image.backbone = "
                f"{settings.backbone!r} is {backbone_sha256}. Give the tower that it was trained "
                "on, or leave image.init empty."
            )
    else:
        with _seeded(seed, "image weights"):
            side = _new_side(settings, output, features, 1.0 / temperature)
    network = side.network.train().requires_grad_(settings.train != "none")
    if network.tower is not None:
        network.tower.requires_grad_(settings.train == "all")
    return side


def _new_side(settings: ImageSettings, output: int, features: int, scale: float) -> ImageSide:
    if settings.tower == "backbone":
        network = ImageNetwork(features, settings.head, output)
        return ImageSide(network=network, scale=scale, backbone=settings.backbone)
    tower = ConvNet(settings.size, settings.widths)
    return ImageSide(
        network=ImageNetwork(tower.features, settings.head, output, tower),
        scale=scale,
        preprocessing=Preprocessing(size=settings.size, mean=_MEAN, std=_STD),
    )


def _check_fit(settings: ImageSettings, side: ImageSide, output: int, features: int) -> None:
    """Refuse layers that were trained on another tower, or for vectors of another length."""
    kind = "backbone" if side.network.tower is None else "convnet"
    if kind != settings.tower:
        raise OptionError(
            f"image.init = {settings.init!r} has the tower {kind!r}, image.tower is "
            f"{settings.tower!r}: set both alike."
        )
    into, *_, out = side.network.widths
    if kind == "backbone" and into != features:
        raise OptionError(
            f"image.init = {settings.init!r} takes features of {into} values, those of "
            f"image.backbone = {settings.backbone!r} have {features}: it was trained on another "
            "tower."
        )
    if out != output:
        raise OptionError(
            f"image.init = {settings.init!r} gives vectors of {out} values, the location encoder "
            f"of {output}: start both from one model, or set location.output = {out}."
        )


def _check_temperature(settings: ImageSettings, side: ImageSide, temperature: float) -> None:
    """Refuse one that was set and would not hold. The default counts as not set.

    Settings that were written to a file give every field: which were set, nobody knows.
    """
    if temperature == ObjectiveSettings.model_fields["temperature"].default:
        return
    if abs(temperature * side.scale - 1.0) > _ROUNDED:
        raise OptionError(
            f"objective.temperature = {temperature:g}, and image.init = {settings.init!r} was "
            f"trained to {1.0 / side.scale:.3g}, which a run goes on from: leave "
            f"objective.temperature out, or set it to {1.0 / side.scale:.3g}."
        )


@contextmanager
def _seeded(seed: int, purpose: str) -> Iterator[None]:
    """Draw weights from a generator of their own, and leave torch's where it was.

    Each part has its own purpose, so that runs that differ in one part share the others' weights.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(int(generator(seed, purpose).integers(2**63)))
        yield
