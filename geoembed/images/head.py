"""The trained head on a CLIP: from its projected feature to the space that places lie in."""

from collections.abc import Mapping
from math import exp

from torch import Tensor, nn

from geoembed import weights
from geoembed.errors import WeightsError
from geoembed.extending.image_specs import ImageEncoderSpec

__all__ = ["build_head", "load_temperature"]

_KEYS = {"0.weight", "0.bias", "2.weight", "2.bias"}


def build_head(spec: ImageEncoderSpec, width: int) -> nn.Module:
    """Build the two layers of a spec's role ``"image_mlp"``, with a ReLU between them.

    Parameters
    ----------
    spec : ImageEncoderSpec
        Whose head. One without weights has none: features are taken as they are.
    width : int
        Length of the tower's features.

    Returns
    -------
    torch.nn.Module
        Features (n, width) to vectors (n, spec.dimension), float32, on the CPU, for inference.

    Raises
    ------
    MissingWeightsError
        If the head's weights are nowhere; the message gives the commands that get them.
    WeightsError
        If they are not what the spec says, or do not fit the tower.

    Examples
    --------
    >>> from geoembed.extending.registry import image_encoder_spec
    >>> build_head(image_encoder_spec("geoclip.v1"), 768)[2]
    Linear(in_features=768, out_features=512, bias=True)
    """
    if spec.weights is None:
        _fits(spec, "tower", width, spec.dimension)
        return nn.Identity()
    tensors = weights.load_tensors(spec.weights, "image_mlp")
    if set(tensors) != _KEYS:
        raise WeightsError(
            f"The head of {spec.name!r} holds {', '.join(sorted(tensors))}, expected "
            f"{', '.join(sorted(_KEYS))}: two linear layers."
        )
    hidden, incoming = tensors["0.weight"].shape
    outgoing = tensors["2.weight"].shape[0]
    if incoming != width:
        raise WeightsError(
            f"The head of {spec.name!r} takes features of {incoming} values, the tower gives "
            f"{width}: it was trained on another CLIP."
        )
    _fits(spec, "head", outgoing, spec.dimension)
    head = nn.Sequential(nn.Linear(incoming, hidden), nn.ReLU(), nn.Linear(hidden, outgoing))
    head.load_state_dict(_float32(tensors), strict=True)
    return head.eval().requires_grad_(False)


def load_temperature(spec: ImageEncoderSpec) -> float | None:
    """Return what a spec's cosines are multiplied by, or None if it has no trained weights.

    Parameters
    ----------
    spec : ImageEncoderSpec
        Whose.

    Returns
    -------
    float or None
        exp of the tensor of the role ``"logit_scale"``.

    Raises
    ------
    WeightsError
        If it is not one number.

    Examples
    --------
    >>> from geoembed.extending.registry import image_encoder_spec
    >>> round(load_temperature(image_encoder_spec("geoclip.v1")), 2)
    39.69
    """
    if spec.weights is None:
        return None
    values = list(weights.load_tensors(spec.weights, "logit_scale").values())
    if len(values) != 1 or values[0].numel() != 1:
        raise WeightsError(f"The temperature of {spec.name!r} is not one number.")
    return exp(values[0].item())


def _fits(spec: ImageEncoderSpec, what: str, got: int, expected: int) -> None:
    if got != expected:
        raise WeightsError(
            f"The {what} of {spec.name!r} gives vectors of {got} values, the spec says {expected}."
        )


def _float32(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.float() for name, tensor in tensors.items()}
