"""Hugging Face's cache on this machine, and downloads into it, for those that are allowed one."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from geoembed.errors import OfflineError, WeightsError
from geoembed.optional import import_optional
from geoembed.weights import is_offline

__all__ = ["cached_files", "download_files", "hub_cache"]


def hub_cache() -> Path:
    """Return the folder of Hugging Face's cache, as its own variables say at this moment.

    Returns
    -------
    Path
        From ``HF_HUB_CACHE``, ``HUGGINGFACE_HUB_CACHE``, ``HF_HOME`` or ``XDG_CACHE_HOME``, else
        in the home folder. It may not exist.

    Examples
    --------
    >>> from unittest import mock
    >>> with mock.patch.dict(os.environ, HF_HUB_CACHE="/data/hub"):
    ...     hub_cache().as_posix()
    '/data/hub'
    """
    for variable in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if os.environ.get(variable):
            return Path(os.path.expandvars(os.environ[variable])).expanduser()
    home = os.environ.get("HF_HOME")
    if home:
        return Path(os.path.expandvars(home)).expanduser() / "hub"
    root = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(root).expanduser() / "huggingface" / "hub"


def cached_files(repository: str, names: Sequence[str]) -> Iterator[Path]:
    """Yield files of a repository that are in the cache: of its main revision first.

    Parameters
    ----------
    repository : str
        Such as ``"openai/clip-vit-large-patch14"``.
    names : sequence of str
        Names of files, the best first.

    Yields
    ------
    Path
        A file that is there.

    Raises
    ------
    MissingExtraError
        If huggingface_hub is not installed.

    Examples
    --------
    >>> from unittest import mock
    >>> with mock.patch.dict(os.environ, HF_HUB_CACHE="/nowhere"):
    ...     list(cached_files("openai/clip-vit-large-patch14", ["config.json"]))
    []
    """
    hub = import_optional("huggingface_hub", extra="image", purpose="Looking for weights")
    folder = hub_cache() / f"models--{repository.replace('/', '--')}" / "snapshots"
    # A snapshot fetched by its revision is not what "main" points to.
    others = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    for revision in ("main", *others):
        for name in names:
            path = hub.try_to_load_from_cache(
                repository, name, cache_dir=hub_cache(), revision=revision
            )
            if isinstance(path, str):
                yield Path(path)


def download_files(
    repository: str, names: Sequence[str], *, revision: str | None = None
) -> list[Path]:
    """Fetch files of a repository into the cache. Call it only where a download was allowed.

    Parameters
    ----------
    repository : str
        Such as ``"openai/clip-vit-large-patch14"``.
    names : sequence of str
        Names of files.
    revision : str, optional
        A commit. Default: what the main branch points to.

    Returns
    -------
    list of Path
        The files, in the order of `names`.

    Raises
    ------
    OfflineError
        If ``GEOEMBED_OFFLINE`` is set.
    WeightsError
        If the download fails; the message says why.

    Examples
    --------
    >>> from unittest import mock
    >>> with mock.patch.dict(os.environ, GEOEMBED_OFFLINE="1"):
    ...     download_files("openai/clip-vit-large-patch14", ["config.json"])
    Traceback (most recent call last):
    geoembed.errors.OfflineError: GEOEMBED_OFFLINE is set, so openai/clip-vit-large-patch14 was \
not downloaded. Unset it, or give a file or folder that is here: weights=PATH.
    """
    if is_offline():
        raise OfflineError(
            f"GEOEMBED_OFFLINE is set, so {repository} was not downloaded. Unset it, or give a "
            "file or folder that is here: weights=PATH."
        )
    hub = import_optional("huggingface_hub", extra="image", purpose="Downloading weights")
    try:
        return [
            Path(hub.hf_hub_download(repository, name, revision=revision, cache_dir=hub_cache()))
            for name in names
        ]
    # The hub's client fails in many ways (no route, no permission, disk full, offline mode).
    except Exception as error:
        reason = (str(error).strip().splitlines() or ["no reason given"])[0]
        raise WeightsError(
            f"{repository} could not be downloaded: {type(error).__name__}: {reason}"
        ) from error
