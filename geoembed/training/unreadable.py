"""Rows whose picture could not be read: put down, and judged by their share."""

from collections.abc import Mapping
from itertools import islice
from typing import Final

from geoembed.errors import TrainingError
from geoembed.training.batches import TrainingData

__all__ = ["UnreadableRows"]

# The share is that of at least so many pictures: one bad picture in the first batch is no sign.
_JUDGED: Final = 1000
_SHOWN: Final = 5


class UnreadableRows:
    """Rows that could not be read, out of those that were asked for.

    Parameters
    ----------
    data : TrainingData
        Knows what rows are called.
    rows : int
        How many there are to be read in an epoch.
    max_bad : float
        The share that may be unreadable, of the pictures seen so far but of no fewer than 1,000,
        or of `rows` if there are not so many.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> data = SimpleNamespace(names=["a.jpg", "b.jpg"])
    >>> unreadable = UnreadableRows(data, rows=2, max_bad=0.5)
    >>> unreadable.add({1: "It is empty."}, seen=2)
    >>> unreadable.reasons
    {1: 'It is empty.'}
    """

    def __init__(self, data: TrainingData, *, rows: int, max_bad: float) -> None:
        self._data = data
        self.max_bad = max_bad
        self.reasons: dict[int, str] = {}
        self._least = min(rows, _JUDGED)
        self._seen = self._failed = 0

    def add(self, reasons: Mapping[int, str], *, seen: int) -> None:
        """Put down what became of a batch.

        Parameters
        ----------
        reasons : mapping of int to str
            Why rows could not be read.
        seen : int
            How many rows the batch had.

        Raises
        ------
        TrainingError
            If more rows than the share allows could not be read; the message names some.
        """
        self.reasons |= reasons
        self._seen += seen
        self._failed += len(reasons)
        if self._failed <= self.max_bad * max(self._seen, self._least):
            return
        shown = "; ".join(
            f"{self._data.names[row]}: {reason.rstrip('.')}"
            for row, reason in islice(self.reasons.items(), _SHOWN)
        )
        raise TrainingError(
            f"{self._failed:,} of the {self._seen:,} pictures read so far cannot be used, more "
            f"than data.max_bad = {self.max_bad:g} allows: {shown}. Mend them, take them out of "
            "the data, or allow a larger share."
        )
