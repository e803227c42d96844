"""Frozen descriptions of galleries and of the indexes that search them."""

import re
from dataclasses import dataclass, field
from typing import Final

from geoembed.errors import PluginError
from geoembed.extending.specs import check_factory, check_name, check_texts

__all__ = ["GallerySpec", "IndexSpec", "check_gallery_name"]

# A gallery may be made of several: 'geoclip.100k+land45'.
_NAME: Final = re.compile(r"[a-z][a-z0-9_-]*(\.[a-z0-9][a-z0-9_-]*)*(\+[a-z0-9][a-z0-9_-]*)*")


def check_gallery_name(name: object) -> str:
    """Return `name` if it is ``family.tag`` or ``family.tag+more`` in lower case, else raise."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise PluginError(
            f"The gallery name {name!r} does not fit: use 'family.tag' or 'family.tag+more' in "
            "lower case, made of letters, digits, '-' and '_', for example 'geoclip.100k'."
        )
    return name


@dataclass(frozen=True, kw_only=True)
class GallerySpec:
    """A gallery of places: what it is called, where its places come from.

    Parameters
    ----------
    name : str
        Lower case, for example ``"geoclip.100k"``.
    factory : str
        ``"module:attribute"``; called as ``factory(spec)``, it returns a
        `geoembed.galleries.GalleryPlaces`: places without their embeddings.
    summary : str
        One line for listings.
    encoder : str
        The location encoder that the gallery is encoded with unless another is asked for.
    version : str
        Changed by the owner when the places change, so that no stale cache is used.
    licence, source : str
        Where the places come from and what they may be used for.
    owner : str
        Name and version of the distribution that registered it; the host fills it in.
    """

    name: str
    factory: str
    summary: str
    encoder: str = "geoclip.v1"
    version: str = "1"
    licence: str = ""
    source: str = ""
    owner: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        check_gallery_name(self.name)
        check_factory(self.factory)
        check_name(self.encoder)
        check_texts(self, "summary", "version", "licence", "source", "owner")


@dataclass(frozen=True, kw_only=True)
class IndexSpec:
    """A way to search a gallery: what it is called, how exact it is, where its code is.

    Parameters
    ----------
    name : str
        ``family`` or ``family.tag``, lower case, for example ``"exact"``.
    factory : str
        ``"module:attribute"``; called as ``factory(embeddings, **options)`` with the normalised
        vectors of a gallery, array of shape (n, d), it returns a
        `geoembed.galleries.GalleryIndex`. A class of those is asked by its ``for_gallery``.
    summary : str
        One line for listings.
    exact : bool
        Whether it always finds the best rows.
    owner : str
        Name and version of the distribution that registered it; the host fills it in.
    """

    name: str
    factory: str
    summary: str
    exact: bool = False
    owner: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        check_name(self.name)
        check_factory(self.factory)
        check_texts(self, "summary", "owner")
        if not isinstance(self.exact, bool):
            raise PluginError(f"The index {self.name!r} declares exact={self.exact!r}: True/False.")
