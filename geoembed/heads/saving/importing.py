"""Import what reads and writes states, `skops.io`, without torch."""

import sys
import threading
from types import ModuleType
from typing import Final

__all__ = ["import_skops"]

# To know what to trust, skops imports every module that is found below scikit-learn, among them one
# that is there for those who have tensors of torch, and imports it: two seconds and 470 MB for a
# head that needs none. It defines no estimators.
_NOT_NEEDED: Final = "sklearn.externals.array_api_compat.torch"
_IMPORTING: Final = threading.Lock()


def import_skops() -> ModuleType:
    """Import `skops.io`; torch, unless it is imported already, stays where it is.

    Returns
    -------
    module
        ``skops.io``.

    Examples
    --------
    >>> import_skops().__name__
    'skops.io'
    """
    with _IMPORTING:
        hides = not {"skops.io", "torch", _NOT_NEEDED} & set(sys.modules)
        if hides:
            # To Python a module that cannot be imported, which those who look for all pass over.
            sys.modules[_NOT_NEEDED] = None  # type: ignore[assignment]
        try:
            import skops.io
        finally:
            if hides:
                del sys.modules[_NOT_NEEDED]
    found: ModuleType = skops.io
    return found
