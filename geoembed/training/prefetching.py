"""Items of an iterator made in a thread, ahead of who asks for them."""

from collections.abc import Callable, Generator, Iterator
from queue import Empty, Full, Queue
from threading import Event, Thread
from typing import Any, Final, TypeVar

__all__ = ["prefetch"]

T = TypeVar("T")

# How soon the thread sees that nobody asks any more, and who asks that the thread has ended.
_SECONDS: Final = 0.2


def prefetch(
    source: Iterator[T], *, ahead: int = 1, cancel: Callable[[], object] = lambda: None
) -> Generator[T, None, None]:
    """Yield the items of an iterator, which runs ahead in a thread.

    Parameters
    ----------
    source : iterator
        It is used in the thread alone, and closed there if it is a generator.
    ahead : int
        How many items may wait; one more is being made.
    cancel : callable
        Called when the last item was taken, or no more are wanted, so that `source` does not wait
        any longer for what will not be used.

    Yields
    ------
    object
        The same items in the same order; what `source` raises is raised in its place.

    Examples
    --------
    >>> list(prefetch(iter("abc"), ahead=2))
    ['a', 'b', 'c']
    """
    queue: Queue[tuple[str, Any]] = Queue(maxsize=ahead)
    unwanted = Event()
    thread = Thread(
        target=_run, args=(source, queue, unwanted), name="geoembed-prefetch", daemon=True
    )
    thread.start()
    try:
        while True:
            try:
                kind, value = queue.get(timeout=_SECONDS)
            except Empty:
                if thread.is_alive() or not queue.empty():
                    continue
                raise RuntimeError("The thread that prefetches ended without a word.") from None
            if kind == "end":
                return
            if kind == "error":
                raise value
            yield value
    finally:
        unwanted.set()
        cancel()
        thread.join()


def _run(source: Iterator[Any], queue: "Queue[tuple[str, Any]]", unwanted: Event) -> None:
    last: tuple[str, Any] = ("end", None)
    try:
        for item in source:
            if not _put(queue, ("item", item), unwanted):
                break
    except BaseException as error:
        last = ("error", error)
    finally:
        close = getattr(source, "close", None)
        if close is not None:
            close()
    _put(queue, last, unwanted)


def _put(queue: "Queue[tuple[str, Any]]", entry: tuple[str, Any], unwanted: Event) -> bool:
    while not unwanted.is_set():
        try:
            queue.put(entry, timeout=_SECONDS)
        except Full:
            continue
        return True
    return False
