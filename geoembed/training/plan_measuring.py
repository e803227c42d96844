"""What parts of a training step cost on this machine, measured on a few rows."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from geoembed.errors import PictureError
from geoembed.training.batches import TrainingData
from geoembed.training.model import GeolocationModel
from geoembed.training.precision import networks_in
from geoembed.training.settings import TrainingSettings
from geoembed.training.views import make_views_of, view_numbers

__all__ = ["Costs", "Rows", "measure_costs"]

Rows = NDArray[np.int64]
Input = TypeVar("Input")

# Rows that are measured: enough for the rate of large matrices, few enough for a plan.
_PLACES: Final = 256
_FEATURES: Final = 256
_PIXELS: Final = 64
_BACKBONE: Final = 2
_PICTURES: Final = 16
_WEIGHTS: Final = 2**20
_REPEATS: Final = 3


@dataclass(frozen=True, kw_only=True)
class Costs:
    """Seconds and bytes of parts of a step.

    Parameters
    ----------
    place_s, view_s : float
        Seconds to encode a place, a view, and to take gradients back through them.
    place_forward_s, view_forward_s : float
        The same without gradients.
    place_bytes, view_bytes : float
        What a place, a view keeps in memory until its gradient is taken.
    view_size : int
        Numbers that a view has: pixels, or the length of a feature.
    picture_s : float
        Seconds to read a picture or its features, and to make its views, in one process.
    product_flop_s : float
        Floating-point operations a second of a matrix product.
    weight_s : float
        Seconds to move a weight by Adam.
    """

    place_s: float
    view_s: float
    place_forward_s: float
    view_forward_s: float
    place_bytes: float
    view_bytes: float
    view_size: int
    picture_s: float
    product_flop_s: float
    weight_s: float


def measure_costs(
    model: GeolocationModel, settings: TrainingSettings, data: TrainingData, rows: Rows
) -> Costs:
    """Encode a few places and pictures, forth and back, and time it.

    Parameters
    ----------
    model : GeolocationModel
        As the run starts, on its device. It is not changed.
    settings : TrainingSettings
        Of the run.
    data : TrainingData
        Pictures or features.
    rows : ndarray of int64
        Training rows.

    Returns
    -------
    Costs
        Of the fastest of a few tries each.

    Raises
    ------
    PictureError
        If none of the first pictures can be read.
    """
    some = rows[np.linspace(0, len(rows) - 1, min(len(rows), _PLACES)).astype(np.int64)]
    views, picture_s = _read(model, settings, data, some)
    place = _both(model, settings, model.encode_places, data.lonlat[some])
    view = _both(model, settings, model.encode_views, views)
    return Costs(
        place_s=place[0],
        view_s=view[0],
        place_forward_s=place[1],
        view_forward_s=view[1],
        place_bytes=place[2],
        view_bytes=view[2],
        view_size=views[0].numel(),
        picture_s=picture_s,
        product_flop_s=_product_rate(model),
        weight_s=_weight_seconds(model),
    )


def _read(
    model: GeolocationModel, settings: TrainingSettings, data: TrainingData, rows: Rows
) -> tuple[Tensor, float]:
    """Return views of some rows, and the seconds that a row took."""
    numbers = view_numbers(settings.views, settings.seed, rows, np.zeros_like(rows))
    source: Any = data
    if hasattr(data, "features"):
        few = rows[:_FEATURES]
        numbers = numbers[: len(few)] % source.views
        seconds, features = _timed(lambda: source.features(few, numbers))
        return torch.from_numpy(features).flatten(0, 1), seconds / len(few)
    limit = _PICTURES if model.image_encoder.tower is None else _PIXELS
    read: list[Tensor] = []
    failure = None
    start = time.perf_counter()
    for row, which in zip(rows[:limit].tolist(), numbers, strict=False):
        # The first one may also load what all are made from: it is not counted.
        if len(read) == 1:
            start = time.perf_counter()
        try:
            read.append(
                make_views_of(
                    source.picture(row),
                    model.preprocessing,
                    settings.views,
                    seed=settings.seed,
                    row=row,
                    numbers=which,
                )
            )
        except PictureError as error:
            failure = error
    if not read:
        raise PictureError(f"None of the first pictures can be read: {failure}") from failure
    seconds = (time.perf_counter() - start) / max(1, len(read) - 1)
    views = torch.cat(read)
    return views if model.backbone is None else views[:_BACKBONE], seconds


def _both(
    model: GeolocationModel,
    settings: TrainingSettings,
    encode: Callable[[Input], Tensor],
    given: Input,
) -> tuple[float, float, float]:
    """Seconds a row with gradients and without, and bytes a row that a gradient needs."""
    count: int = len(given)  # type: ignore[arg-type]
    weights = [weight for _, weight in model.trained()]
    kept: dict[int, int] = {}
    own = {weight.untyped_storage().data_ptr() for weight in model.parameters()}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    def there_and_back() -> None:
        with networks_in(settings.loop.precision, model.device):
            vectors = encode(given)
        if vectors.requires_grad:
            torch.autograd.grad(vectors.sum(), weights, allow_unused=True)
        _wait(model)

    def there() -> None:
        with torch.no_grad(), networks_in(settings.loop.precision, model.device):
            encode(given)
        _wait(model)

    # The first time also warms up what is timed.
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        there_and_back()
    both = min(_timed(there_and_back)[0] for _ in range(_REPEATS))
    forward = min(_timed(there)[0] for _ in range(_REPEATS))
    return both / count, forward / count, sum(kept.values()) / count


def _product_rate(model: GeolocationModel) -> float:
    """Floating-point operations a second of a product of the size of the logits."""
    width = model.architecture.output
    left = torch.zeros(512, width, device=model.device)
    right = torch.zeros(width, 4096, device=model.device)

    def multiply() -> None:
        _ = left @ right
        _wait(model)

    multiply()
    seconds = min(_timed(multiply)[0] for _ in range(_REPEATS))
    return 2.0 * left.numel() * right.shape[1] / seconds


def _weight_seconds(model: GeolocationModel) -> float:
    weight = torch.zeros(_WEIGHTS, device=model.device, requires_grad=True)
    weight.grad = torch.ones_like(weight)
    optimiser = torch.optim.Adam([weight], fused=True)

    def move() -> None:
        optimiser.step()
        _wait(model)

    move()
    return min(_timed(move)[0] for _ in range(_REPEATS)) / _WEIGHTS


def _wait(model: GeolocationModel) -> None:
    if model.device.type == "cuda":
        torch.cuda.synchronize(model.device)


def _timed(work: Callable[[], Input]) -> tuple[float, Input]:
    start = time.perf_counter()
    got = work()
    return time.perf_counter() - start, got
