"""GeoCLIP's network: projected points to vectors, one capsule a scale.

Trained through `LocationNetwork` itself; used behind `geoembed.encoders.geoclip`.
"""

from collections.abc import Mapping
from typing import Final

import torch
from torch import Tensor, nn

from geoembed.encoders.features import fourier_features
from geoembed.encoders.layers import Part, Shape
from geoembed.errors import WeightsError

__all__ = ["LocationCapsule", "LocationNetwork", "build_network", "load_network"]

_PREFIX: Final = "location_encoder."


class LocationCapsule(nn.Module):
    """One scale: random Fourier features, three hidden ReLU layers, a linear head.

    The names of its parameters are those of the published state dict (``capsule.0.b`` holds the
    frequencies), so that trained weights go in and out without renaming.

    Parameters
    ----------
    frequencies : int
        Rows of the frequency matrix; the features are twice as many.
    hidden : tuple of int
        Widths of the hidden layers.
    output : int
        Width of the head's output.
    sigma : float
        Standard deviation of the frequencies, drawn anew; loading weights replaces them.
    axes : int
        Numbers that a projected point has: 2 on a plane, 3 on the sphere.
    encoding : {"rff", "none"}
        Random Fourier features, or the projected numbers as they are.
    """

    def __init__(
        self,
        frequencies: int,
        hidden: tuple[int, ...],
        output: int,
        sigma: float = 1.0,
        *,
        axes: int = 2,
        encoding: str = "rff",
    ) -> None:
        super().__init__()
        fourier = encoding == "rff"
        layers: list[nn.Module] = [
            _Frequencies(torch.randn(frequencies, axes) * sigma) if fourier else nn.Identity()
        ]
        width = 2 * frequencies if fourier else axes
        for size in hidden:
            layers += [nn.Linear(width, size), nn.ReLU()]
            width = size
        self.capsule = nn.Sequential(*layers)
        self.head = nn.Sequential(nn.Linear(width, output))

    def hidden(self, points: Tensor) -> list[Tensor]:
        """Return the output of every hidden layer, (n, width) each, for projected points."""
        first, *rest = self.capsule
        weight: Tensor = self.head[0].weight  # type: ignore[assignment]
        if isinstance(first, _Frequencies):
            values = fourier_features(points, first.b.to(points.device), weight.dtype)
        else:
            values = points.to(weight.dtype)
        values = values.to(weight.device)
        outputs = []
        for linear in rest[::2]:
            values = torch.relu_(linear(values))
            outputs.append(values)
        return outputs

    def forward(self, points: Tensor) -> Tensor:
        """Return the head's output, (n, output)."""
        output: Tensor = self.head(self.hidden(points)[-1])
        return output


class _Frequencies(nn.Module):
    """Holds the frequency matrix under the key it has in the published state dict."""

    b: Tensor

    def __init__(self, b: Tensor) -> None:
        super().__init__()
        self.register_buffer("b", b)


class LocationNetwork(nn.Module):
    """Projected points to vectors: one capsule a scale, outputs summed.

    Parameters
    ----------
    sigmas : tuple of float
        Standard deviation of each scale's frequencies, coarse to fine.
    frequencies, hidden, output, axes, encoding
        As in `LocationCapsule`.
    """

    def __init__(
        self,
        sigmas: tuple[float, ...] = (1.0, 16.0, 256.0),
        *,
        frequencies: int = 256,
        hidden: tuple[int, ...] = (1024, 1024, 1024),
        output: int = 512,
        axes: int = 2,
        encoding: str = "rff",
    ) -> None:
        super().__init__()
        self.shape = Shape(scales=len(sigmas), hidden=hidden, output=output)
        for scale, sigma in enumerate(sigmas):
            capsule = LocationCapsule(
                frequencies, hidden, output, sigma, axes=axes, encoding=encoding
            )
            self.add_module(f"LocEnc{scale}", capsule)

    @property
    def capsules(self) -> list[LocationCapsule]:
        """The scales, coarse to fine."""
        return [self.get_submodule(f"LocEnc{i}") for i in range(self.shape.scales)]  # type: ignore[misc]

    def forward(self, points: Tensor) -> Tensor:
        """Return the sum over scales, (n, output), for points of shape (n, axes), float64."""
        first, *rest = self.capsules
        total: Tensor = first(points)
        for capsule in rest:
            total = total + capsule(points)
        return total

    def parts(self, points: Tensor, parts: tuple[Part, ...]) -> list[Tensor]:
        """Return the tensors of the asked parts; every scale that is needed runs once."""
        if parts == (Part("final", None, None, self.shape.output),):
            return [self(points)]
        everything = any(part.label == "final" for part in parts)
        got: dict[tuple[int | None, int | None], Tensor] = {}
        for scale, capsule in enumerate(self.capsules):
            if not everything and all(part.scale != scale for part in parts):
                continue
            hidden = capsule.hidden(points)
            got.update({(scale, layer): values for layer, values in enumerate(hidden)})
            if everything or any((p.scale, p.layer) == (scale, None) for p in parts):
                got[scale, None] = capsule.head(hidden[-1])
        if everything:
            got[None, None] = sum(
                (got[s, None] for s in range(1, self.shape.scales)), start=got[0, None]
            )
        return [got[part.scale, part.layer] for part in parts]


def build_network(tensors: Mapping[str, Tensor], where: str) -> LocationNetwork:
    """Build a network whose scales and widths are those of a state dict, and load it strictly.

    Parameters
    ----------
    tensors : mapping of str to Tensor
        Keys ``LocEnc0.capsule.0.b`` and so on, possibly behind ``location_encoder.`` beside the
        tensors of a full model; of a network with random Fourier features of points on a plane.
    where : str
        For messages: where they come from.

    Raises
    ------
    WeightsError
        If keys are missing, unknown or of the wrong shape, or values are not finite numbers.
    """
    tensors = _of_location(tensors)
    hidden_keys: list[str] = []
    while f"LocEnc0.capsule.{2 * len(hidden_keys) + 1}.weight" in tensors:
        hidden_keys.append(f"LocEnc0.capsule.{2 * len(hidden_keys) + 1}.weight")
    scales = len({key.partition(".")[0] for key in tensors if key.startswith("LocEnc")})
    needed = ("LocEnc0.capsule.0.b", "LocEnc0.head.0.weight")
    if not hidden_keys or any(key not in tensors for key in needed):
        raise WeightsError(
            f"The tensors of {where} are not a GeoCLIP location encoder: expected keys such as "
            f"{needed[0]!r}, got {sorted(tensors)[:3]}."
        )
    _check_values(tensors, where)
    # Without memory and random numbers, neither of which is needed for weights that are there.
    with torch.device("meta"):
        network = LocationNetwork(
            (1.0,) * scales,
            frequencies=len(tensors["LocEnc0.capsule.0.b"]),
            hidden=tuple(len(tensors[key]) for key in hidden_keys),
            output=len(tensors["LocEnc0.head.0.weight"]),
        )
    return load_network(network, tensors, where)


def load_network(
    network: LocationNetwork, tensors: Mapping[str, Tensor], where: str
) -> LocationNetwork:
    """Load a state dict strictly, in float32 whatever it was kept in.

    Parameters
    ----------
    network : LocationNetwork
        Built on torch's device ``"meta"``, or with other weights: they are replaced.
    tensors : mapping of str to Tensor
        As for `build_network`, of any network.
    where : str
        For messages: where they come from.

    Returns
    -------
    LocationNetwork
        The same, on the CPU, with copies of the tensors.

    Raises
    ------
    WeightsError
        If keys are missing, unknown or of the wrong shape, or values are not finite numbers.
    """
    tensors = _of_location(tensors)
    _check_values(tensors, where)
    state = {k: v.to("cpu", torch.float32, copy=True).contiguous() for k, v in tensors.items()}
    try:
        network.load_state_dict(state, strict=True, assign=True)
    except RuntimeError as error:
        problem = " ".join(str(error).split())
        raise WeightsError(f"The tensors of {where} do not fit together: {problem}") from error
    return network


def _of_location(tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Leave out the other parts of a full model."""
    if not any(key.startswith(_PREFIX) for key in tensors):
        return tensors
    return {k.removeprefix(_PREFIX): v for k, v in tensors.items() if k.startswith(_PREFIX)}


def _check_values(tensors: Mapping[str, Tensor], where: str) -> None:
    """Refuse what would load and then give nonsense: other types, NaN, scalars for matrices."""
    ours = {key: tensor for key, tensor in tensors.items() if key.startswith("LocEnc")}
    for key, tensor in ours.items():
        problem = None
        if not tensor.is_floating_point():
            problem = f"holds {tensor.dtype}, expected a floating type"
        elif tensor.ndim != (1 if key.endswith(".bias") else 2):
            problem = f"has the shape {tuple(tensor.shape)}"
        elif not torch.isfinite(tensor).all():
            problem = "holds values that are not finite"
        if problem:
            raise WeightsError(f"The tensors of {where} cannot be used: {key!r} {problem}.")
