"""Which views of a picture are looked at, and their pixels."""

from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from geoembed.errors import OptionError
from geoembed.extending.image_specs import Preprocessing
from geoembed.images.decoding import upright_rgb
from geoembed.images.preprocessing import normalise, prepare
from geoembed.training.augmenting import cut_view, draw_view
from geoembed.training.randomness import generator
from geoembed.training.settings import ViewSettings

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["check_views", "make_view", "make_views_of", "view_numbers"]

Rows = NDArray[np.int64]

# Of the SplitMix64 generator (Steele, Lea and Flood 2014): the step of its counter, and the
# multipliers of its output function.
_STEP: Final = np.uint64(0x9E3779B97F4A7C15)
_FIRST: Final = np.uint64(0xBF58476D1CE4E5B9)
_SECOND: Final = np.uint64(0x94D049BB133111EB)


def check_views(settings: ViewSettings) -> None:
    """Refuse more views a batch than there are in the pool.

    Parameters
    ----------
    settings : ViewSettings
        Of the run.

    Raises
    ------
    OptionError
        If `count` is above a `pool` that is not 0.

    Examples
    --------
    >>> check_views(ViewSettings(count=2, pool=10))
    """
    if 0 < settings.pool < settings.count:
        raise OptionError(
            f"views.count = {settings.count} views a batch cannot be taken from a pool of "
            f"views.pool = {settings.pool}: they are different ones. Lower the count, or raise "
            "the pool."
        )


def view_numbers(settings: ViewSettings, seed: int, rows: Rows, epochs: Rows) -> Rows:
    """Say which views of which pictures a batch shows.

    Parameters
    ----------
    settings : ViewSettings
        With a pool of K views, P different ones of them are picked for each row and epoch.
        Without, epoch e shows the views e P to e P + P - 1, which are seen once.
    seed : int
        Of the run.
    rows, epochs : ndarray of int64, shape (b,)
        As `geoembed.training.order.GlobalOrder.batch` gives them.

    Returns
    -------
    ndarray of int64, shape (b, P)
        Numbers of views; a function of seed, row and epoch alone.

    Raises
    ------
    OptionError
        If there are fewer views in the pool than are wanted.

    Examples
    --------
    >>> rows, epochs = np.array([7, 8]), np.array([0, 2])
    >>> view_numbers(ViewSettings(count=2), 0, rows, epochs).tolist()
    [[0, 1], [4, 5]]
    >>> view_numbers(ViewSettings(count=2, pool=2), 0, rows, epochs).max()
    np.int64(1)
    """
    check_views(settings)
    count, pool = settings.count, settings.pool
    if pool == 0:
        first: Rows = epochs[:, None] * count + np.arange(count)
        return first
    numbers = np.zeros((len(rows), count), np.int64)
    if pool == 1:
        return numbers
    # One key an epoch and a hash for each row: a generator a row would take 8 ms for 512.
    for epoch in np.unique(epochs):
        chosen = epochs == epoch
        key = generator(seed, "pick", int(epoch)).bit_generator.random_raw(1)
        rank = _hash(_hash(rows[chosen, None].astype(np.uint64) * _STEP + key) + _counters(pool))
        numbers[chosen] = np.argsort(rank, axis=1, kind="stable")[:, :count]
    return numbers


def make_view(
    image: "Image.Image",
    preprocessing: Preprocessing,
    settings: ViewSettings,
    rng: np.random.Generator,
) -> Tensor:
    """Cut one view out of a picture.

    Parameters
    ----------
    image : PIL.Image.Image
        As `geoembed.images.read_pictures` gives it; others are turned upright and converted first.
    preprocessing : Preprocessing
        Of the tower: size, resizing, and the statistics to normalise with.
    settings : ViewSettings
        How views are drawn. With ``augment="none"`` the view is what the tower sees at inference,
        `geoembed.images.prepare`.
    rng : numpy.random.Generator
        Decides what the view shows.

    Returns
    -------
    Tensor of shape (3, size, size), float32
        Normalised pixels.

    Examples
    --------
    >>> from PIL import Image
    >>> tower = Preprocessing(size=4, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    >>> photo = Image.new("RGB", (90, 60), (255, 0, 0))
    >>> tuple(make_view(photo, tower, ViewSettings(), generator(0, "view", 17, 0)).shape)
    (3, 4, 4)
    """
    if settings.augment == "none":
        return prepare(image, preprocessing)
    image = upright_rgb(image, copy=False)
    view = cut_view(image, draw_view(image.size, settings, rng), preprocessing)
    return normalise([view], preprocessing)[0]


def make_views_of(
    image: "Image.Image",
    preprocessing: Preprocessing,
    settings: ViewSettings,
    *,
    seed: int,
    row: int,
    numbers: NDArray[np.int64],
) -> Tensor:
    """Cut the numbered views out of the picture of a row.

    Parameters
    ----------
    image : PIL.Image.Image
        The picture.
    preprocessing : Preprocessing
        Of the tower.
    settings : ViewSettings
        How views are drawn.
    seed : int
        Of the views.
    row : int
        Row of the data.
    numbers : ndarray of int64, shape (P,)
        As `view_numbers` gives them.

    Returns
    -------
    Tensor of shape (P, 3, size, size), float32
        Each view is a function of the picture, the settings, the seed, the row and its number.

    Examples
    --------
    >>> from PIL import Image
    >>> tower = Preprocessing(size=4, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    >>> photo = Image.linear_gradient("L")
    >>> def look(numbers):
    ...     return make_views_of(
    ...         photo, tower, ViewSettings(), seed=0, row=5, numbers=np.array(numbers)
    ...     )
    >>> bool((look([1, 2])[1] == look([2])[0]).all())
    True
    """
    image = upright_rgb(image, copy=False)
    if settings.augment == "none":
        return prepare(image, preprocessing).repeat(len(numbers), 1, 1, 1)
    views = [
        cut_view(
            image,
            draw_view(image.size, settings, generator(seed, "view", row, int(number))),
            preprocessing,
        )
        for number in numbers
    ]
    return normalise(views, preprocessing)


def _hash(numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
    numbers = (numbers ^ (numbers >> np.uint64(30))) * _FIRST
    numbers = (numbers ^ (numbers >> np.uint64(27))) * _SECOND
    return numbers ^ (numbers >> np.uint64(31))


def _counters(count: int) -> NDArray[np.uint64]:
    return np.arange(count, dtype=np.uint64) * _STEP
