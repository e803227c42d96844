"""The method that saves a head, apart from all that saving takes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["Savable"]


class Savable:
    """What can be saved to a folder once it is fitted."""

    def save(
        self,
        folder: str | Path,
        *,
        overwrite: bool = False,
        scores: Any = None,
        provenance: Mapping[str, Any] | None = None,
    ) -> Path:
        """Write the fitted head to a folder, from which `geoembed.load_head` loads it anywhere.

        The folder holds ``head.json``, which people can read, and ``state.skops``, from which no
        code is run. It appears when it is whole. Encoders are saved by name, options and the
        SHA-256 of their weights; they compute on whatever device there is.

        Parameters
        ----------
        folder : str or path
            To be made.
        overwrite : bool
            Replace a saved head of that name; any other folder with something in it is an error.
        scores : mapping or DataFrame, optional
            How good it is, to be kept with it.
        provenance : mapping, optional
            What it was made from, to be kept with it.

        Returns
        -------
        Path
            The folder.

        Raises
        ------
        NotFittedError
            If the head has not been fitted.
        SavedHeadError
            If something is there that may not be replaced, the folder cannot be written, or the
            head holds what cannot be saved or found again: an encoder without a name, a function
            defined on the fly.

        Warns
        -----
        GeoembedHeadWarning
            If it holds types that load only when they are named as trusted.
        """
        # It knows the base class of heads, which has this method.
        from geoembed.heads.saving.store import save_head

        return save_head(self, folder, overwrite=overwrite, scores=scores, provenance=provenance)
