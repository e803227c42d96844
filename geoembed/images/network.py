"""The image side as it is trained: a tower or the features of a frozen one, and layers on top."""

from collections.abc import Sequence

from torch import Tensor, nn

from geoembed.images.convnet import ConvNet

__all__ = ["ImageNetwork"]


class ImageNetwork(nn.Module):
    """Features of pictures to the space that places lie in, with the tower where it is trained too.

    The keys of its state dict are those of GeoCLIP's image encoder (``mlp.0.weight``,
    ``mlp.2.weight``), and ``tower.*`` for a trained tower.

    Parameters
    ----------
    features : int
        Length of a feature of the tower.
    head : sequence of int
        Widths of the hidden layers on top, with a ReLU after each.
    output : int
        Length of a vector.
    tower : ConvNet, optional
        Trained with the layers on top. Without one, features go in.

    Examples
    --------
    >>> network = ImageNetwork(768, [768], 512)
    >>> list(network.state_dict())
    ['mlp.0.weight', 'mlp.0.bias', 'mlp.2.weight', 'mlp.2.bias']
    """

    def __init__(
        self, features: int, head: Sequence[int], output: int, tower: ConvNet | None = None
    ) -> None:
        super().__init__()
        self.tower = tower
        layers: list[nn.Module] = []
        for width in head:
            layers += [nn.Linear(features, width), nn.ReLU()]
            features = width
        self.mlp = nn.Sequential(*layers, nn.Linear(features, output))

    @property
    def widths(self) -> tuple[int, ...]:
        """What goes into each layer on top, and at the end what comes out."""
        linear = [layer for layer in self.mlp if isinstance(layer, nn.Linear)]
        return (*(layer.in_features for layer in linear), linear[-1].out_features)

    def forward(self, values: Tensor) -> Tensor:
        """Return vectors (n, output) of pixels if there is a tower, else of features."""
        vectors: Tensor = self.mlp(values if self.tower is None else self.tower(values))
        return vectors
