"""What checkpoints declare of their preprocessing, in our terms, and how far it fits a spec."""

from collections.abc import Mapping
from math import isclose
from typing import Any, Final

from geoembed.errors import WeightsError
from geoembed.extending.image_specs import Preprocessing

__all__ = ["compare_preprocessing", "from_hugging_face", "from_open_clip"]

# Pillow's numbers, which Hugging Face writes.
_RESAMPLE: Final = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box", 5: "hamming"}


def from_open_clip(config: Mapping[str, Any], where: str) -> dict[str, object]:
    """Read the ``preprocess_cfg`` of an ``open_clip_config.json``.

    Parameters
    ----------
    config : mapping
        May hold ``size``, ``mean``, ``std``, ``interpolation``, ``resize_mode``.
    where : str
        What it was read from, for messages.

    Returns
    -------
    dict of str to object
        The fields of `Preprocessing` that it declares.

    Raises
    ------
    WeightsError
        If a value is of another kind than open_clip writes.

    Examples
    --------
    >>> from_open_clip({"resize_mode": "squash"}, "an example")
    {'fit': 'squash'}
    """
    try:
        found: dict[str, object] = {}
        if "size" in config:
            found["size"] = _one_size(config["size"])
        for key in ("mean", "std"):
            if key in config:
                found[key] = tuple(float(value) for value in config[key])
        if "interpolation" in config:
            found["interpolation"] = config["interpolation"]
        if "resize_mode" in config:
            mode = config["resize_mode"]
            found["fit"] = {"shortest": "crop"}.get(mode, mode)
    except (TypeError, ValueError, KeyError) as error:
        raise _unreadable(where, error) from error
    return found


def from_hugging_face(config: Mapping[str, Any], where: str) -> dict[str, object]:
    """Read a ``preprocessor_config.json``, in its old and its new spelling.

    Parameters
    ----------
    config : mapping
        May hold ``size``, ``crop_size``, ``resample``, ``image_mean``, ``image_std`` and the
        switches ``do_*``.
    where : str
        What it was read from, for messages.

    Returns
    -------
    dict of str to object
        The fields of `Preprocessing` that it declares.

    Raises
    ------
    WeightsError
        If a value is of another kind than transformers writes, or it leaves out a step that every
        tower here is given.

    Examples
    --------
    >>> from_hugging_face({"size": 224, "resample": 3}, "an example")
    {'size': 224, 'interpolation': 'bicubic'}
    """
    for step in ("do_resize", "do_rescale", "do_normalize"):
        if config.get(step, True) is not True:
            raise WeightsError(
                f"{where} sets {step} to {config[step]!r}: pictures are always resized, scaled to "
                "[0, 1] and normalised here."
            )
    try:
        found: dict[str, object] = {}
        crops = config.get("do_center_crop")
        size = config.get("size")
        if crops and "crop_size" in config:
            found["size"] = _one_size(config["crop_size"])
            resized = found["size"] if size is None else _one_size(size)
            if resized != found["size"]:
                raise ValueError(f"resizes to {resized} before it crops {found['size']}")
        elif size is not None:
            found["size"] = _one_size(size)
        if crops is not None:
            found["fit"] = "crop" if crops else "squash"
        if "resample" in config:
            found["interpolation"] = _RESAMPLE.get(config["resample"], str(config["resample"]))
        for key in ("mean", "std"):
            if f"image_{key}" in config:
                found[key] = tuple(float(value) for value in config[f"image_{key}"])
        factor = config.get("rescale_factor", 1 / 255)
        if not isclose(factor, 1 / 255, rel_tol=1e-6):
            raise ValueError(f"rescales by {factor} instead of 1/255")
    except (TypeError, ValueError, KeyError) as error:
        raise _unreadable(where, error) from error
    return found


def compare_preprocessing(declared: Mapping[str, object], expected: Preprocessing) -> list[str]:
    """Say in words where a declared preprocessing differs from that of a spec.

    Parameters
    ----------
    declared : mapping
        Fields of `Preprocessing`; one that is not there is not compared.
    expected : Preprocessing
        Of the spec.

    Returns
    -------
    list of str
        One text a difference; empty if all that is declared fits.

    Examples
    --------
    >>> clip = Preprocessing(size=224, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    >>> compare_preprocessing({"size": 336, "fit": "crop"}, clip)
    ['size 336, expected 224']
    """
    found = []
    for name, value in declared.items():
        wanted = getattr(expected, name)
        if isinstance(value, tuple):
            same = len(value) == len(wanted) and all(
                isclose(one, other, abs_tol=1e-6) for one, other in zip(value, wanted, strict=True)
            )
        else:
            same = value == wanted
        if not same:
            found.append(f"{name} {value}, expected {wanted}")
    return found


def _unreadable(where: str, error: Exception) -> WeightsError:
    return WeightsError(f"{where} declares a preprocessing that cannot be used: {error}.")


def _one_size(size: Any) -> int:
    """Return the one number of a size that is square or gives its shorter side."""
    if isinstance(size, Mapping):
        values = list(size.values())
    else:
        values = list(size) if isinstance(size, list | tuple) else [size]
    if not values or any(not isinstance(value, int) or value != values[0] for value in values):
        raise ValueError(f"the size {size!r} is not square")
    return int(values[0])
