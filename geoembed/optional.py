"""Import packages that only some users need, and name the extra to install."""

from importlib import import_module
from types import ModuleType

from geoembed.errors import MissingExtraError

__all__ = ["import_optional"]


def import_optional(module: str, *, extra: str, purpose: str) -> ModuleType:
    """Import a module of an optional package, or say how to get it.

    Parameters
    ----------
    module : str
        Dotted name, for example ``"matplotlib.pyplot"``.
    extra : str
        The extra of geoembed that installs it, for example ``"plot"``.
    purpose : str
        What needs it, as the start of a sentence: ``"Drawing maps"``.

    Returns
    -------
    module
        The imported module.

    Raises
    ------
    MissingExtraError
        If the package is not installed; the message gives the command to type.

    Examples
    --------
    >>> import_optional("json", extra="plot", purpose="Drawing maps").dumps([1])
    '[1]'
    """
    try:
        return import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise MissingExtraError(
            f"{purpose} needs the package '{package}', which cannot be imported here ({error}). "
            f'Install it with: pip install "geoembed[{extra}]"',
            name=package,
        ) from error
