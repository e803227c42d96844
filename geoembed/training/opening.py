"""The data of a run, whatever kind they are of."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

from geoembed.errors import GeoembedError, OptionError, TableError
from geoembed.training.settings import DataSettings

if TYPE_CHECKING:
    from geoembed.training.batches import FeatureData, PictureData

__all__ = ["check_missing", "open_data"]

# What readers of data call an option, and the setting that gives it.
_SETTINGS: Final = {
    "file": "data.file_column",
    "images": "data.images",
    "lat": "data.lat_column",
    "lon": "data.lon_column",
    "on_invalid": "data.on_invalid",
}
_OPTION: Final = re.compile(rf"(?<![\w.])({'|'.join(_SETTINGS)})( ?=)")

# The crops are a data set of their own: no run's seed changes them.
_CROPS_SEED = 0
_SHOWN = 5


def open_data(settings: DataSettings) -> "PictureData | FeatureData":
    """Open pictures or features with their places.

    Parameters
    ----------
    settings : DataSettings
        Which, and what share of them may be missing.

    Returns
    -------
    PictureData or FeatureData
        `FolderPictures`, `ShardPictures`, `BlueMarble`, or stored features.

    Raises
    ------
    OptionError
        If a path that is needed is not given, or there is nothing at it.
    TableError
        If the data cannot be read, are empty, or more than `max_bad` of the pictures are missing.
    CoordinateError
        If places are missing, out of range, or look swapped.

    Examples
    --------
    >>> data = open_data(DataSettings(kind="bluemarble", crops=4))
    >>> len(data), data.lonlat.shape
    (4, (4, 2))
    """
    if settings.kind == "bluemarble":
        from geoembed.training.bluemarble import BlueMarble

        return BlueMarble(settings.crops, settings.crop_size, seed=_CROPS_SEED)
    _check_path(settings)
    if settings.kind == "features":
        from geoembed.training.feature_store import open_features

        # Its names are read when they are asked for, which no protocol of attributes can say.
        return cast("FeatureData", open_features(Path(settings.path).expanduser()))
    data: PictureData
    if settings.kind == "shards":
        from geoembed.training.shards import ShardPictures

        with _named_as_settings():
            data = ShardPictures(settings.path, on_invalid=settings.on_invalid)
    else:
        from geoembed.training.manifest import FolderPictures

        with _named_as_settings():
            data = FolderPictures(
                settings.path,
                settings.images,
                file=settings.file_column or None,
                lon=settings.lon_column or None,
                lat=settings.lat_column or None,
                on_invalid=settings.on_invalid,
            )
    check_missing(data, settings.max_bad)
    return data


def check_missing(data: "PictureData", max_bad: float) -> None:
    """Refuse data of which too many pictures are missing.

    Parameters
    ----------
    data : PictureData
        With `missing` and `reasons`, where there are such.
    max_bad : float
        The share that may be missing.

    Raises
    ------
    TableError
        If more are; the message names some.

    Examples
    --------
    >>> class Data(list):
    ...     missing, reasons = ["b.jpg"], ["There is no such file."]
    >>> check_missing(Data(["a.jpg"]), max_bad=0.5)
    >>> check_missing(Data(["a.jpg"]), max_bad=0.1)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    geoembed.errors.TableError: 1 of 2 pictures (50 %) cannot be used, more than data.max_bad = ...
    """
    missing: list[str] = getattr(data, "missing", [])
    total = len(data) + len(missing)
    if not missing or len(missing) <= max_bad * total:
        return
    reasons: list[str] = getattr(data, "reasons", [""] * len(missing))
    shown = "; ".join(
        f"{name}: {reason.rstrip('.')}"
        for name, reason in zip(missing[:_SHOWN], reasons[:_SHOWN], strict=True)
    )
    more = f"; and {len(missing) - _SHOWN:,} more" if len(missing) > _SHOWN else ""
    raise TableError(
        f"{len(missing):,} of {total:,} pictures ({100 * len(missing) / total:.3g} %) cannot be "
        f"used, more than data.max_bad = {max_bad:g}: {shown}{more}. Bring them, take them out of "
        "the data, or allow a larger share."
    )


@contextmanager
def _named_as_settings() -> Iterator[None]:
    """Have errors that speak of options speak of the settings that they come from."""
    try:
        yield
    except GeoembedError as error:
        words = _OPTION.sub(lambda found: f"{_SETTINGS[found[1]]}{found[2]}", str(error))
        error.args = (words, *error.args[1:])
        raise


def _check_path(settings: DataSettings) -> None:
    if not settings.path:
        raise OptionError(f"data.kind = {settings.kind!r} needs data.path.")
    if not Path(settings.path).expanduser().exists():
        raise OptionError(f"data.path = {settings.path!r}: there is no such file or folder.")
