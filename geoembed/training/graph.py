"""A location encoder as one module, longitude and latitude in, vectors out: what is exported.

Encoders project with NumPy before torch comes in, and their features are written into memory that
is there already. A graph for other programs must hold every step itself, out of operations that
such programs have in float64.
"""

import math
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from geoembed.encoders.architecture import LocationArchitecture
from geoembed.encoders.base import LocationEncoder
from geoembed.encoders.geoclip import GeoCLIPEncoder
from geoembed.encoders.layers import Part, parse_layers
from geoembed.encoders.network import LocationCapsule, LocationNetwork
from geoembed.encoders.projections import EQUAL_EARTH_COEFFICIENTS, GEOCLIP_SCALE, PROJECTIONS
from geoembed.errors import OptionError

__all__ = ["LocationGraph", "Projection", "graph_of"]


class LocationGraph(nn.Module):
    """Longitude and latitude to vectors, without a step in NumPy and without writing in place.

    Wrapping, projection and phases are float64, as in the encoders. Tensors are those of the
    network, not copies.

    Parameters
    ----------
    network : LocationNetwork
        The trained network.
    projection : {"equal-earth", "plate-carree", "sphere"}
        Its first step.
    parts : tuple of Part, optional
        What makes up a vector; the sum over scales if not given.
    normalize : bool
        Scale every row to unit Euclidean norm.

    Examples
    --------
    >>> network = LocationNetwork((1.0,), hidden=(8,), output=4, axes=3)
    >>> graph = LocationGraph(network, "sphere")
    >>> lon = torch.tensor([190.0, -170.0, 0.0], dtype=torch.float64)
    >>> lat = torch.tensor([10.0, 10.0, 91.0], dtype=torch.float64)
    >>> vectors = graph(lon, lat)
    >>> bool((vectors[0] == vectors[1]).all()), bool(vectors[2].isnan().all())
    (True, True)
    """

    def __init__(
        self,
        network: LocationNetwork,
        projection: str,
        *,
        parts: tuple[Part, ...] | None = None,
        normalize: bool = False,
    ) -> None:
        super().__init__()
        self.projection = Projection(projection)
        self.parts = parts or (Part("final", None, None, network.shape.output),)
        self.normalize = normalize
        self.scales = nn.ModuleList(_Scale(capsule) for capsule in network.capsules)
        self.eval().requires_grad_(False)

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        return sum(part.width for part in self.parts)

    def forward(self, lon: Tensor, lat: Tensor) -> Tensor:
        """Return the vectors of places.

        Parameters
        ----------
        lon, lat : Tensor of shape (n,), float64
            Degrees, WGS 84; longitude of any turn.

        Returns
        -------
        Tensor of shape (n, dimension)
            In the type of the network's weights; rows of NaN where a latitude is outside
            [-90, 90] or a coordinate is not finite.
        """
        # NaN would spread to other rows where a runtime scales a whole batch, as 8-bit ones do.
        there = self.projection.there(lon, lat)
        nowhere = torch.zeros_like(lon)
        points = self.projection(torch.where(there, lon, nowhere), torch.where(there, lat, nowhere))
        final = any(part.label == "final" for part in self.parts)
        found: dict[tuple[int | None, int | None], Tensor] = {}
        total: Tensor | None = None
        for number, scale in enumerate(self.scales):
            if not final and all(part.scale != number for part in self.parts):
                continue
            hidden, output = scale(points)
            found.update({(number, layer): values for layer, values in enumerate(hidden)})
            found[number, None] = output
            total = output if total is None else total + output
        if final and total is not None:
            found[None, None] = total
        tensors = [found[part.scale, part.layer] for part in self.parts]
        vectors = tensors[0] if len(tensors) == 1 else torch.cat(tensors, dim=1)
        if self.normalize:
            norms = (vectors * vectors).sum(dim=1, keepdim=True).sqrt()
            # A zero vector has no direction; it stays zero.
            vectors = vectors / torch.where(norms == 0.0, torch.ones_like(norms), norms)
        return torch.where(there.unsqueeze(1), vectors, math.nan)


class _Scale(nn.Module):
    """One capsule in functional form."""

    frequencies: Tensor
    tau: Tensor

    def __init__(self, capsule: LocationCapsule) -> None:
        super().__init__()
        first, *rest = capsule.capsule
        head: Any = capsule.head[0]
        # A tensor, for the reason that `Projection` gives.
        self.register_buffer("tau", torch.tensor(math.tau, dtype=head.weight.dtype))
        self.encoded = hasattr(first, "b")
        if self.encoded:
            exact: Any = first.b
            self.register_buffer("frequencies", exact.to(torch.float64))
        self.linears = nn.ModuleList(rest[::2])
        self.head = capsule.head

    def forward(self, points: list[Tensor]) -> tuple[list[Tensor], Tensor]:
        """Return the hidden layers' outputs and the head's for axes (n,) of projected points."""
        if self.encoded:
            values = _fourier(points, self.frequencies, self.tau)
        else:
            values = torch.stack(points, dim=1).to(self.tau.dtype)
        hidden = []
        for linear in self.linears:
            values = torch.relu(linear(values))
            hidden.append(values)
        return hidden, self.head(values)


def _fourier(points: list[Tensor], frequencies: Tensor, tau: Tensor) -> Tensor:
    """Functional form of `geoembed.encoders.features.fourier_features`."""
    turns = points[0].unsqueeze(1) * frequencies[:, 0]
    for axis, values in enumerate(points[1:], start=1):
        turns = turns + values.unsqueeze(1) * frequencies[:, axis]
    phases = (turns - turns.round()).to(tau.dtype) * tau
    return torch.cat([torch.cos(phases), torch.sin(phases)], dim=1)


class Projection(nn.Module):
    """Wraps and projects places as `geoembed.encoders.projections.project` does, in torch.

    Parameters
    ----------
    name : {"equal-earth", "plate-carree", "sphere"}
        Which.

    Raises
    ------
    OptionError
        If there is no such projection.

    Notes
    -----
    Constants are float64 tensors: the ONNX exporter rounds a number of Python's to float32, which
    moves the phases of the finest scale by a ten-thousandth of a turn. The arcsine is a float32 one
    and two steps of Newton's method in float64, which leave it exact to rounding: onnxruntime has
    no arcsine in float64.

    Examples
    --------
    >>> lon, lat = torch.tensor([[540.0], [0.0]], dtype=torch.float64)
    >>> [round(float(axis), 6) for axis in Projection("equal-earth")(lon, lat)]
    [1.0, 0.0]
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        if name not in PROJECTIONS:
            raise OptionError(f"projection={name!r} is not one of: {', '.join(PROJECTIONS)}.")
        self.name = name
        a1, a2, a3, a4 = EQUAL_EARTH_COEFFICIENTS
        values = {
            "turn": 360.0,
            "half_turn": 180.0,
            "right_angle": 90.0,
            "infinity": math.inf,
            "degree": math.pi / 180.0,
            "pi": math.pi,
            "scale": GEOCLIP_SCALE,
            "half_sqrt3": math.sqrt(3.0) / 2.0,
            "a1": a1,
            "a2": a2,
            "a3": a3,
            "a4": a4,
            "a2_slope": 3.0 * a2,
            "a3_slope": 7.0 * a3,
            "a4_slope": 9.0 * a4,
        }
        for key, value in values.items():
            self.register_buffer(key, torch.tensor(value, dtype=torch.float64), persistent=False)

    def __getattr__(self, name: str) -> Any:
        # Buffers are made in a loop; this says so to the type checker.
        return super().__getattr__(name)

    def there(self, lon: Tensor, lat: Tensor) -> Tensor:
        """Tell which pairs of numbers are places.

        Parameters
        ----------
        lon, lat : Tensor of shape (n,), float64
            Degrees, WGS 84; longitude of any turn.

        Returns
        -------
        Tensor of shape (n,), bool
            False where a latitude is outside [-90, 90] or a coordinate is not finite.
        """
        inside: Tensor = (lat.abs() <= self.right_angle) & (lon.abs() < self.infinity)
        return inside

    def forward(self, lon: Tensor, lat: Tensor) -> list[Tensor]:
        """Return what the network takes.

        Parameters
        ----------
        lon, lat : Tensor of shape (n,), float64
            Degrees, WGS 84; longitude of any turn.

        Returns
        -------
        list of Tensor of shape (n,), float64
            One for each axis: two on a plane, three on the sphere.
        """
        # fmod is exact; values inside [-180, 180] stay as they are, both ends included.
        turned = torch.fmod(lon, self.turn)
        turned = torch.where(turned > self.half_turn, turned - self.turn, turned)
        turned = torch.where(turned < -self.half_turn, turned + self.turn, turned)
        lon = torch.where(lon.abs() <= self.half_turn, lon, turned)
        if self.name == "plate-carree":
            return [lon / self.half_turn, lat / self.half_turn]
        lon, lat = lon * self.degree, lat * self.degree
        if self.name == "sphere":
            across = torch.cos(lat)
            axes = (across * torch.cos(lon), across * torch.sin(lon), torch.sin(lat))
            return [axis / self.pi for axis in axes]
        return self._equal_earth(lon, lat)

    def _equal_earth(self, lon: Tensor, lat: Tensor) -> list[Tensor]:
        sine = self.half_sqrt3 * torch.sin(lat)
        theta = torch.asin(sine.to(torch.float32)).to(torch.float64)
        for _ in range(2):
            theta = theta - (torch.sin(theta) - sine) / torch.cos(theta)
        square = theta * theta
        sixth = square * square * square
        slope = self.a1 + self.a2_slope * square
        slope = slope + sixth * (self.a3_slope + self.a4_slope * square)
        east = lon * torch.cos(theta) / (self.half_sqrt3 * slope)
        north = self.a1 + self.a2 * square + sixth * (self.a3 + self.a4 * square)
        return [east * self.scale, theta * north * self.scale]


def graph_of(encoder: LocationEncoder) -> LocationGraph:
    """Return an encoder as a module that can be exported, on the CPU.

    Parameters
    ----------
    encoder : LocationEncoder
        With a network: ``geoclip.v1``, or one that was trained here. Its ``layers`` and
        ``normalize`` become part of the graph.

    Returns
    -------
    LocationGraph
        With the same values up to rounding.

    Raises
    ------
    OptionError
        If the encoder has no network, computes in half precision, or blends its seam.

    Examples
    --------
    >>> from geoembed.encoders import load_encoder
    >>> graph_of(load_encoder("geoclip.v1", device="cpu")).dimension
    512
    """
    if not isinstance(encoder, GeoCLIPEncoder):
        raise OptionError(
            f"The encoder {encoder.name!r} has no network: only trained ones can be exported."
        )
    for option, value, usual in (
        ("precision", encoder.precision, ("float32", "float64")),
        ("seam", encoder.seam, ("as-trained",)),
    ):
        if value not in usual:
            raise OptionError(
                f"{option}={value!r} cannot be exported. Load {encoder.name!r} with "
                f"{option}={usual[0]!r}."
            )
    network = encoder.network
    if next(network.parameters()).device.type != "cpu":
        # Encoders share their network: it must not be moved.
        network = deepcopy(network).cpu()
    return LocationGraph(
        network,
        getattr(encoder, "architecture", LocationArchitecture()).projection,
        parts=parse_layers(encoder.layers, network.shape),
        normalize=encoder.normalize,
    )
