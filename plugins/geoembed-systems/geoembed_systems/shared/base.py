"""What all systems share: pictures and places in, the same answers out."""

import warnings
from abc import ABC
from pathlib import Path
from typing import Any, Final, Self

from sklearn.base import BaseEstimator

from geoembed.errors import TableError
from geoembed.geolocation.queries import UnreadablePictureWarning
from geoembed_systems.shared.answering import Answering
from geoembed_systems.shared.inputs import check_places, check_scenes
from geoembed_systems.shared.pooling import check_crops, check_pooling
from geoembed_systems.shared.saving import load_as, save_system

__all__ = ["System"]

# So many pictures are named in a warning.
_TOLD: Final = 5


class System(Answering, BaseEstimator, ABC):  # type: ignore[misc]
    """A geolocalizer that learns from pictures and where they were taken.

    A subclass writes `_fit`, `_log_scores`, `_state` and `_restore`, says in `title` what tables
    call it, in `needs_tokens` and `uses_tokens` whether patch tokens must or may be there, and in
    `uses_scenes` whether it learns scenes; see `geoembed_systems.shared.contract.Contract`.

    Parameters
    ----------
    image_encoder : str or ImageEncoder
        What turns pictures into features, where pictures are given: a registered name, the folder
        of a trained model, or a loaded encoder. Its frozen tower is used.
    weights : str or Path, optional
        File or folder with the weights of its tower.
    allow_download : bool
        Whether those weights may be downloaded if they are not on this machine.
    crops : {"none", "five", "ten-crop"}
        Test-time crops of pictures.
    crop_pooling : {"mean", "max"}
        How the probabilities of a picture's views become one.
    device : str
        ``"auto"`` (CUDA, else MPS, else the CPU) or a device name.
    random_state : int
        Of weights, order and whatever else is drawn.
    progress : bool, optional
        Show progress bars; None shows them on a terminal when the work is long.

    Attributes
    ----------
    partition_ : Partition
        Cells that `predict_proba` and `predict_cells` speak of; the finest, where there are more.
    layout_ : Layout
        What the features were made of.
    rows_ : int
        Pictures that were learned from.
    calibration_ : Calibration
        What `calibrate` learned; only after it was called.
    """

    def fit(self, images_or_features: Any, points: Any, scenes: Any = None) -> Self:
        """Learn where pictures are taken.

        Parameters
        ----------
        images_or_features : pictures, array of shape (n, d) or (n, V, d), or PictureFeatures
            Anything that `geoembed.images.read_pictures` reads, or features of a frozen tower.
        points : GeoDataFrame, GeoSeries, DataFrame, geometries or array of shape (n, 2)
            Where they were taken, one place a picture, in order.
        scenes : array of shape (n,), optional
            What each shows, such as ``"indoor"``, ``"natural"`` or ``"urban"``; None or NaN where
            that is not known. ISNs, TransLocator and GeoDecoder learn them (``uses_scenes``); the
            others leave them alone. Fewer than two different ones are as good as none, and
            ``notes_`` says so.

        Returns
        -------
        System
            Itself. If learning fails, it is as it was before.

        Raises
        ------
        CoordinateError
            If places cannot be read, or there is not one a picture.
        TableError
            If no picture has features, or there is not one scene a picture.
        OptionError
            If an option does not fit, or the places make no two cells.

        Warns
        -----
        UnreadablePictureWarning
            If pictures are left out because they have no features; with how many, and why.
        """
        check_pooling(self.crop_pooling)
        check_crops(self.crops)
        features = self._read(images_or_features, crops="none")
        lonlat = check_places(points, len(features))
        labels = check_scenes(scenes, len(features))
        good = features.good
        if not good.any():
            raise TableError(f"No picture has features. The first: {features.errors[0]}")
        _tell(features.names, features.errors)
        before = dict(self.__dict__)
        for name in [name for name in before if name == "calibration_" or name.startswith("_kept")]:
            del self.__dict__[name]
        if not good.all():
            # What is whole is not copied: tokens are large.
            features, lonlat = features.take(good), lonlat[good]
            labels = None if labels is None else labels[good]
        try:
            self._fit(features, lonlat, labels)
        except BaseException:
            self.__dict__.clear()
            self.__dict__.update(before)
            raise
        self.layout_ = features.layout
        self.rows_ = len(features)
        return self

    def save(self, folder: str | Path, *, overwrite: bool = False) -> Path:
        """Write the fitted system to a folder, from which `load` or `load_system` loads it.

        The folder holds ``config.json``, which people can read, and ``model.safetensors``, from
        which no code is run. It appears when it is whole.

        Parameters
        ----------
        folder : str or Path
            To be made.
        overwrite : bool
            Replace a saved system of that name; any other folder with something in it is an error.

        Returns
        -------
        Path
            The folder.

        Raises
        ------
        NotFittedError
            Before `fit`.
        SavedHeadError
            If something is there that may not be replaced, the folder cannot be written, or an
            option cannot be saved.
        """
        return save_system(self, folder, overwrite=overwrite)

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Load a system of this class from a folder; no code from the folder is run.

        Parameters
        ----------
        folder : str or Path
            Written by `save`.

        Returns
        -------
        System
            Fitted; it answers the same, bit for bit, with the same versions of the packages on the
            same kind of machine.

        Raises
        ------
        SavedHeadError
            If there is no saved system, it is of another class or of another version's format, or
            a file is missing or damaged.
        """
        return load_as(cls, folder)

    def __getstate__(self) -> dict[str, Any]:
        # What is kept is quickly made again, and large.
        state: Any = super().__getstate__()
        return {key: value for key, value in state.items() if not key.startswith("_kept")}


def _tell(names: Any, errors: Any) -> None:
    """Warn of pictures that nothing is learned from."""
    bad = [f"{name}: {why.rstrip('.')}" for name, why in zip(names, errors, strict=True) if why]
    if bad:
        more = f"; and {len(bad) - _TOLD:,} more" if len(bad) > _TOLD else ""
        warnings.warn(
            f"{len(bad):,} of {len(errors):,} pictures have no features and are left out: "
            f"{'; '.join(bad[:_TOLD])}{more}.",
            UnreadablePictureWarning,
            stacklevel=3,
        )
