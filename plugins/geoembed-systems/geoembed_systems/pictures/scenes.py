"""What pictures show, such as indoor, natural or urban: given, found, or told by prompts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from geoembed.errors import OptionError
from geoembed.images import load_image_encoder
from geoembed.images.running import ImageEmbeddings
from geoembed.scalars import check_count
from geoembed_systems.pictures.features import PictureFeatures
from geoembed_systems.pictures.reading import read_picture_features
from geoembed_systems.pictures.segments import SegmentModel

__all__ = [
    "PROMPTS",
    "SCENES",
    "Scenes",
    "cluster_scenes",
    "label_scenes_by_text",
    "scenes_to_learn",
]

#: The three scenes that ISNs and TransLocator were published with.
SCENES: Final = ("indoor", "natural", "urban")

#: What `label_scenes_by_text` asks a CLIP for; the words are ours.
PROMPTS: Final[Mapping[str, tuple[str, ...]]] = {
    "indoor": (
        "a photo taken indoors",
        "a photo of a room inside a building",
        "the interior of a house, shop or hall",
    ),
    "natural": (
        "a photo of nature",
        "an outdoor photo of mountains, forest, fields or water",
        "a natural landscape without buildings",
    ),
    "urban": (
        "a photo taken in a city",
        "an outdoor photo of streets and buildings",
        "a photo of a town, a road or a monument",
    ),
}


@dataclass(frozen=True)
class Scenes:
    """Names of scenes, and the number of each.

    Parameters
    ----------
    names : tuple of str
        In the order of their numbers.

    Examples
    --------
    >>> scenes = Scenes.learn(["urban", None, "indoor", "urban"])
    >>> scenes.names, scenes.encode(["urban", None]).tolist()
    (('indoor', 'urban'), [1, -1])
    """

    names: tuple[str, ...]

    @classmethod
    def learn(cls, labels: Any, *, at_least: int = 2) -> Self:
        """Take the names from labels.

        Parameters
        ----------
        labels : sequence of shape (n,)
            One a picture; None, NaN or an empty text where it is not known.
        at_least : int
            How many different ones are needed.

        Returns
        -------
        Scenes
            Sorted by name.

        Raises
        ------
        OptionError
            If there are fewer, or labels are no sequence.
        """
        names = tuple(sorted({label for label in _texts(labels) if label}))
        if len(names) < at_least:
            got = f"only {names[0]!r}" if names else "no label at all"
            raise OptionError(
                f"scenes= holds {got}, and {at_least} different scenes are needed to tell them "
                "apart: label pictures of others too, or leave scenes= out."
            )
        return cls(names)

    def __len__(self) -> int:
        return len(self.names)

    def encode(self, labels: Any) -> NDArray[np.int64]:
        """Return the number of each label.

        Parameters
        ----------
        labels : sequence of shape (n,)
            As `learn` takes them.

        Returns
        -------
        array of shape (n,), int64
            -1 where a label is missing.

        Raises
        ------
        OptionError
            If a scene is not among the names; the message lists them.
        """
        texts = _texts(labels)
        numbers = {"": -1} | {name: number for number, name in enumerate(self.names)}
        unseen = {text: row for row, text in reversed([*enumerate(texts)]) if text not in numbers}
        if unseen:
            shown = ", ".join(map(repr, sorted(unseen)[:5]))
            more = f" and {len(unseen) - 5:,} others" if len(unseen) > 5 else ""
            raise OptionError(
                f"scenes= holds {shown}{more}, first in row {min(unseen.values()):,}, which "
                f"nothing was learned about. Known scenes: {', '.join(map(repr, self.names))}; "
                "None where a scene is not known."
            )
        return np.array([numbers[text] for text in texts], dtype=np.int64)

    def counts(self, labels: Any) -> dict[str, int]:
        """Return how many labels there are of each scene.

        Parameters
        ----------
        labels : sequence of shape (n,)
            As `encode` takes them.

        Returns
        -------
        dict of str to int
            Missing ones are not counted.
        """
        numbers = self.encode(labels)
        return dict(
            zip(self.names, np.bincount(numbers[numbers >= 0], minlength=len(self)), strict=True)
        )


def scenes_to_learn(labels: Any) -> tuple[Scenes | None, tuple[str, ...]]:
    """Take from labels what a system can learn to tell apart.

    Parameters
    ----------
    labels : sequence of shape (n,), or None
        As `Scenes.learn` takes them.

    Returns
    -------
    scenes : Scenes or None
        None where nothing was given, or fewer than two different scenes.
    notes : tuple of str
        One, where labels were given and tell nothing apart; none otherwise.

    Raises
    ------
    OptionError
        If labels are no sequence.

    Examples
    --------
    >>> scenes_to_learn(["urban", "urban", None])
    (None, ("scenes= holds 'urban' alone: learned as if no scenes were given",))
    """
    if labels is None:
        return None, ()
    known = Scenes.learn(labels, at_least=0)
    if len(known) > 1:
        return known, ()
    held = f"{known.names[0]!r} alone" if known.names else "no label at all"
    return None, (f"scenes= holds {held}: learned as if no scenes were given",)


def cluster_scenes(
    features: Any, count: int = 3, random_state: int = 0, *, called: str = "count"
) -> NDArray[np.object_]:
    """Make scenes up for pictures without labels: clusters of their features.

    This is ours, for data that nobody has labelled: what k-means finds (`SegmentModel`). Nothing
    says that a cluster is a kind of scene.

    Parameters
    ----------
    features : PictureFeatures, or array of shape (n, d) or (n, V, d)
        Pooled; the mean over the views is looked at.
    count : int
        How many clusters.
    random_state : int
        Of the first centres.
    called : str
        What errors call `count`: the option of who asks.

    Returns
    -------
    array of shape (n,), object
        ``"cluster-1"`` for the largest, and so on; None where a picture has no features.

    Raises
    ------
    OptionError
        If `count` is no whole number of at least 1, or there are fewer different pictures.

    Examples
    --------
    >>> cluster_scenes(np.array([[0.0, 0], [0.1, 0], [9, 9]]), count=2).tolist()
    ['cluster-1', 'cluster-1', 'cluster-2']
    """
    check_count(called, count)
    given = features if isinstance(features, PictureFeatures) else PictureFeatures(features)
    good = given.good
    pooled = given.pooled[good].mean(axis=1)
    shares = SegmentModel.fit(pooled, count, random_state, called=called).transform(pooled)
    labels = np.full(len(given), None, dtype=object)
    labels[good] = [f"cluster-{number + 1}" for number in shares.argmax(axis=1)]
    return labels


def label_scenes_by_text(
    images: Any,
    image_encoder: Any = "geoclip.v1",
    prompts: Mapping[str, Sequence[str] | str] | None = None,
    *,
    weights: str | Path | None = None,
    allow_download: bool = False,
    device: str = "auto",
    progress: bool | None = None,
) -> NDArray[np.object_]:
    """Tell what pictures show by the text that a CLIP finds nearest.

    Zero-shot, as CLIP's authors do it: the direction of a scene is the mean of its prompts'
    normalised features, and a picture shows the scene whose direction has the largest cosine with
    its own. Features of the tower below the trained head are compared where pictures or
    `PictureFeatures` are given, and vectors above it where `ImageEmbeddings` are.

    Parameters
    ----------
    images : pictures, PictureFeatures, array of shape (n, d) or (n, V, d), or ImageEmbeddings
        Of that image encoder. Arrays of floats are features of its tower.
    image_encoder : str, Path, ImageEncoderSpec or ImageEncoder
        A CLIP that reads texts.
    prompts : mapping of str to str or sequence of str, optional
        Texts by the scene that they speak of; `PROMPTS` if not given.
    weights : str or Path, optional
        File or folder with the weights of its tower.
    allow_download : bool
        Whether those weights may be downloaded if they are not on this machine.
    device : str
        ``"auto"`` (CUDA, else MPS, else the CPU) or a device name.
    progress : bool, optional
        Show a progress bar; None shows one on a terminal when the work is long.

    Returns
    -------
    array of shape (n,), object
        The scene of each picture; None where it cannot be read.

    Raises
    ------
    OptionError
        If the encoder reads no texts, there are fewer than two scenes, one has no prompt, or
        features are of another length than its own.

    Examples
    --------
    >>> import tempfile
    >>> from geoembed.testing import tiny_clip_spec, write_tiny_clip
    >>> picture = np.zeros((32, 32, 3), np.uint8)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     encoder = load_image_encoder(tiny_clip_spec(), weights=write_tiny_clip(folder))
    >>> label_scenes_by_text([picture], encoder).item() in SCENES
    True
    """
    texts = _prompts(PROMPTS if prompts is None else prompts)
    encoder = load_image_encoder(image_encoder, **_loading(weights, allow_download, device))
    asked = [text for several in texts.values() for text in several]
    if isinstance(images, ImageEmbeddings):
        described = encoder.encode_text(asked)
        pictures, good = images.vectors, images.good
    else:
        described = encoder.tower.text_features(asked).cpu().numpy()
        features = read_picture_features(images, image_encoder=encoder, progress=progress)
        # Normalised view by view, so that none outweighs the others.
        pictures, good = _directions(features.pooled).mean(axis=1), features.good
    if pictures.shape[1] != described.shape[1]:
        raise OptionError(
            f"The pictures have features of length {pictures.shape[1]:,}, and the texts of "
            f"{encoder.name!r} of length {described.shape[1]:,}: give features of its own."
        )
    rows = np.split(_directions(described), np.cumsum([*map(len, texts.values())])[:-1])
    scenes = _directions(np.array([several.mean(axis=0) for several in rows]))
    labels = np.full(len(pictures), None, dtype=object)
    nearest = (pictures[good] @ scenes.T).argmax(axis=1)
    labels[good] = np.array([*texts], dtype=object)[nearest]
    return labels


def _texts(labels: Any) -> list[str]:
    """Return labels as texts; the empty text where one is missing."""
    listed = np.asarray(labels, dtype=object)
    if listed.ndim != 1 or not all(
        np.isscalar(label) or pd.isna(label) is True for label in listed
    ):
        raise OptionError(
            f"scenes= has the shape {listed.shape}: give one label a picture, (n,), None where it "
            "is not known."
        )
    return [_text(label) for label in listed]


def _text(label: Any) -> str:
    if pd.isna(label):
        return ""
    # A column of whole numbers turns into floats where one is missing.
    if isinstance(label, float | np.floating) and float(label).is_integer():
        label = int(label)
    return str(label).strip()


def _prompts(given: Mapping[str, Sequence[str] | str]) -> dict[str, list[str]]:
    if not isinstance(given, Mapping) or len(given) < 2:
        raise OptionError(
            f"prompts={given!r}: give two scenes at least, as a mapping of each to its texts."
        )
    texts = {
        name: [several] if isinstance(several, str) else list(several)
        for name, several in given.items()
    }
    for name, several in texts.items():
        if not several:
            raise OptionError(f"prompts: the scene {name!r} has no text to look for.")
    return texts


def _loading(weights: str | Path | None, allow_download: bool, device: str) -> dict[str, Any]:
    # An encoder that is loaded already takes no option, and "auto" is the default of the others.
    options = {"weights": weights, "device": None if device == "auto" else device}
    given = {name: value for name, value in options.items() if value is not None}
    return given | ({"allow_download": True} if allow_download else {})


def _directions(rows: NDArray[Any]) -> NDArray[np.float64]:
    exact = rows.astype(np.float64)
    norms = np.linalg.norm(exact, axis=-1, keepdims=True)
    directions: NDArray[np.float64] = exact / np.where(norms == 0.0, 1.0, norms)
    return directions
