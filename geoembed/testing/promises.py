"""What contract checks are made of: a promise that must be kept, a call that must be refused."""

from collections.abc import Callable

from geoembed.errors import GeoembedError

__all__ = ["promise", "refused"]


def promise(kept: bool, message: str) -> None:
    """Raise AssertionError with a message unless a promise is kept."""
    if not kept:
        raise AssertionError(message)


def refused(call: Callable[[], object], error: type[GeoembedError], what: str) -> None:
    """Raise AssertionError unless a call raises the error that it should."""
    try:
        call()
    except error:
        return
    except Exception as other:
        message = f"{what} raises {type(other).__name__}, expected {error.__name__}: {other}"
        raise AssertionError(message) from other
    raise AssertionError(f"{what} is accepted, expected {error.__name__}")
