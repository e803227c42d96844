"""GeoCLIP's two trained sides in memory: features and places become vectors of one space."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from geoembed.devices import has_float64, resolve_device
from geoembed.encoders.architecture import LocationArchitecture
from geoembed.encoders.base import LocationEncoder
from geoembed.encoders.blocks import encode_blocks
from geoembed.encoders.network import LocationNetwork, load_network
from geoembed.errors import WeightsError
from geoembed.extending.specs import LocationEncoderSpec
from geoembed.galleries import Gallery, GalleryPlaces
from geoembed.galleries.cache import gallery_facts
from geoembed.images.network import ImageNetwork
from geoembed.training.trained_model import TrainedModel
from geoembed.weights.model_folders import digest_location

__all__ = ["PlaceEncoder", "TrainedSides"]

Vectors = NDArray[np.float32]

_LOCATION: Final = "location_encoder."
_IMAGE: Final = "image_encoder."
# Features at a time: a few megabytes.
_BLOCK: Final = 4096


class PlaceEncoder(LocationEncoder):
    """A location network that lies in memory and not in a file.

    Parameters
    ----------
    architecture : LocationArchitecture
        What it is made of.
    network : LocationNetwork
        Of that architecture; moved to the device.
    device : str
        ``"auto"`` or a device name.

    Examples
    --------
    >>> architecture = LocationArchitecture(sigmas=(1.0,), hidden=(8,), output=4)
    >>> encoder = PlaceEncoder(architecture, architecture.build())
    >>> encoder.encode([2.35], [48.86]).shape
    (1, 4)
    """

    def __init__(
        self, architecture: LocationArchitecture, network: LocationNetwork, device: str = "auto"
    ) -> None:
        spec = LocationEncoderSpec(
            name="systems.geoclip",
            factory=f"{__name__}:PlaceEncoder",
            dimension=architecture.output,
            summary="Location side of a trained GeoCLIP system",
        )
        super().__init__(spec, normalize=True, device=device)
        self.architecture = architecture
        self._where = resolve_device(device)
        self._network = network.to(self._where).eval().requires_grad_(False)

    @property
    def weights_sha256(self) -> str:
        """Digest of the tensors in use (`geoembed.weights.digest_location`)."""
        made = self.architecture
        return digest_location(self._network.state_dict(), made.projection, made.encoding)

    @property
    def _is_torn(self) -> bool:
        return self.architecture.projection != "sphere"

    def _encode_block(self, lonlat: NDArray[np.float64]) -> NDArray[np.floating[Any]]:
        points = torch.from_numpy(self.architecture.project(lonlat))
        if has_float64(self._where):
            points = points.to(self._where)
        with torch.inference_mode(), torch.autocast(self._where.type, enabled=False):
            block: NDArray[np.floating[Any]] = self._network(points).cpu().numpy()
        return block

    def gallery(self, places: GalleryPlaces, *, progress: bool | None = False) -> Gallery:
        """Encode places, in memory alone.

        Parameters
        ----------
        places : GalleryPlaces
            What is encoded.
        progress : bool, optional
            Show a progress bar.

        Returns
        -------
        Gallery
            Its vectors are float32.
        """
        vectors = np.empty((len(places), self.dimension), dtype=np.float32)
        encode_blocks(self, places.lonlat, vectors, progress=progress)
        return self.gallery_of(places, vectors)

    def gallery_of(self, places: GalleryPlaces, vectors: Vectors) -> Gallery:
        """Make a gallery of places whose vectors are there.

        Parameters
        ----------
        places : GalleryPlaces
            Of which.
        vectors : array of shape (n, dimension), float32
            Of this encoder, of length 1.

        Returns
        -------
        Gallery
            In memory.
        """
        facts = gallery_facts(places, self, "float32")
        return Gallery(places, vectors, facts, device=self.device)

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        # No file holds the weights: they travel along.
        return type(self), (self.architecture, self._network, self.device)


@dataclass(frozen=True, eq=False)
class TrainedSides:
    """What training gave: the location network, the layers on top of features, the temperature.

    Parameters
    ----------
    architecture : LocationArchitecture
        What the location network is made of.
    network : LocationNetwork
        Of that architecture, on the CPU.
    head : ImageNetwork
        Features of the frozen tower to the space of places, without a tower.
    scale : float
        What cosines are multiplied by in the loss.

    Examples
    --------
    >>> architecture = LocationArchitecture(sigmas=(1.0,), hidden=(8,), output=4)
    >>> sides = TrainedSides(architecture, architecture.build(), ImageNetwork(6, [5], 4), 14.0)
    >>> vectors = sides.vectors(np.ones((3, 2, 6), np.float32))
    >>> vectors.shape, np.linalg.norm(vectors, axis=2).round(5).tolist()[0]
    ((3, 2, 4), [1.0, 1.0])
    >>> again = TrainedSides.of_state(*sides.state())
    >>> bool((again.vectors(np.ones((3, 2, 6), np.float32)) == vectors).all())
    True
    """

    architecture: LocationArchitecture
    network: LocationNetwork
    head: ImageNetwork
    scale: float

    @classmethod
    def of_model(cls, model: TrainedModel) -> Self:
        """Take the sides of a trained model, with the layers above its tower alone.

        Parameters
        ----------
        model : TrainedModel
            Of `geoembed.training.run_model.model_of_run`, with an image side.

        Returns
        -------
        TrainedSides
            Sharing the weights.
        """
        assert model.side is not None
        features, *hidden, output = model.side.network.widths
        head = ImageNetwork(features, hidden, output)
        head.mlp.load_state_dict(model.side.network.mlp.state_dict())
        return cls(model.architecture, model.network, _frozen(head), model.side.scale)

    @property
    def parameters(self) -> int:
        """How many numbers were trained, frequencies and a tower not among them."""
        both: tuple[nn.Module, ...] = (self.network, self.head)
        return sum(each.numel() for side in both for each in side.parameters()) + 1

    def place_encoder(self, device: str) -> PlaceEncoder:
        """Return the location side as an encoder.

        Parameters
        ----------
        device : str
            ``"auto"`` or a device name.

        Returns
        -------
        PlaceEncoder
            Whose vectors are of length 1.
        """
        return PlaceEncoder(self.architecture, self.network, device)

    def vectors(self, features: NDArray[np.float32], device: str = "auto") -> Vectors:
        """Bring features of pictures into the space of places.

        Parameters
        ----------
        features : array of shape (n, V, d)
            Of V views of each picture, as the frozen tower gives them.
        device : str
            ``"auto"`` or a device name.

        Returns
        -------
        array of shape (n, V, output), float32
            Of length 1; the dot product with that of a place is a cosine.
        """
        where = resolve_device(device)
        head = self.head.to(where)
        flat = torch.from_numpy(np.ascontiguousarray(features.reshape(-1, features.shape[-1])))
        with torch.inference_mode():
            parts = [
                nn.functional.normalize(head(block.to(where)), dim=1).cpu()
                for block in torch.split(flat, _BLOCK)
            ]
        found = torch.cat([torch.empty(0, self.architecture.output), *parts]).numpy()
        unit: Vectors = found.reshape(*features.shape[:2], self.architecture.output)
        return unit

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return the weights, and what JSON can hold.

        Returns
        -------
        tensors : dict of str to Tensor
            Under the names of `geoembed.training.model.GeolocationModel`.
        config : dict
            The architecture, and the widths of the image side.
        """
        tensors = {
            **{f"{_LOCATION}{key}": each for key, each in self.network.state_dict().items()},
            **{f"{_IMAGE}{key}": each for key, each in self.head.state_dict().items()},
            # The exponential in float64 of a float32 number, and back, is that number.
            "logit_scale": torch.tensor(math.log(self.scale)),
        }
        kept = {key: each.detach().to("cpu").contiguous() for key, each in tensors.items()}
        return kept, {
            "location": self.architecture.to_dict(),
            "image": list(self.head.widths),
        }

    @classmethod
    def of_state(cls, tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> Self:
        """Take up what `state` gave.

        Parameters
        ----------
        tensors : mapping of str to Tensor
            Others may lie beside them.
        config : mapping
            With ``"location"`` and ``"image"``.

        Returns
        -------
        TrainedSides
            Equal to the ones that were saved.

        Raises
        ------
        OptionError
            If the description of the location network is not one.
        WeightsError
            If tensors are missing, do not fit or are not finite.
        """
        where = "a saved GeoCLIP system"
        architecture = LocationArchitecture.from_dict(config["location"])
        with torch.device("meta"):
            network = architecture.build()
        features, *hidden, output = config["image"]
        head = ImageNetwork(features, hidden, output)
        own = {k.removeprefix(_IMAGE): v for k, v in tensors.items() if k.startswith(_IMAGE)}
        try:
            head.load_state_dict(own, strict=True)
            scale = math.exp(float(tensors["logit_scale"]))
        except (RuntimeError, KeyError) as error:
            problem = " ".join(str(error).split())
            raise WeightsError(f"The tensors of {where} do not fit together: {problem}") from error
        return cls(
            architecture,
            load_network(network, tensors, where).eval().requires_grad_(False),
            _frozen(head),
            scale,
        )


def _frozen(head: ImageNetwork) -> ImageNetwork:
    head.eval().requires_grad_(False)
    return head
