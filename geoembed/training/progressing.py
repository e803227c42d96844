"""How far a run is: what a checkpoint remembers of it, and what is shown while it goes on."""

import math
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from tqdm import tqdm

from geoembed.training.moving import StepResult
from geoembed.training.validation import is_better

__all__ = ["Means", "Pace", "Progress", "note"]


@dataclass
class Means:
    """Means over the steps since the last line of the log.

    Parameters
    ----------
    count : int
        Steps so far.
    loss, accuracy : float
        Sums over them.
    grad_norm : float
        Sum over those that moved the weights.
    skipped : int
        Those that did not.
    scale, lr : float
        Of the last one.

    Examples
    --------
    >>> means = Means()
    >>> means.add(StepResult(4.0, 0.25, 14.0, 1.0, False), lr=1e-3)
    >>> means.add(StepResult(3.0, 0.75, 14.5, math.inf, True), lr=2e-3)
    >>> means.take()
    {'lr': 0.002, 'loss': 3.5, 'accuracy': 0.5, 'scale': 14.5, 'grad_norm': 1.0, 'skipped': 1}
    >>> means.count
    0
    """

    count: int = 0
    loss: float = 0.0
    accuracy: float = 0.0
    grad_norm: float = 0.0
    skipped: int = 0
    scale: float = 0.0
    lr: float = 0.0

    def add(self, result: StepResult, lr: float) -> None:
        """Take in a step.

        Parameters
        ----------
        result : StepResult
            What it told.
        lr : float
            Its learning rate.
        """
        self.count += 1
        self.loss += result.loss
        self.accuracy += result.accuracy
        self.scale, self.lr = result.scale, lr
        if result.skipped:
            self.skipped += 1
        else:
            self.grad_norm += result.grad_norm

    def take(self) -> dict[str, float]:
        """Return the means, the last rate and scale, and how many steps were skipped; start anew.

        Returns
        -------
        dict of str to float
            By the columns of the log.
        """
        moved = self.count - self.skipped
        found = {
            "lr": self.lr,
            "loss": self.loss / self.count,
            "accuracy": self.accuracy / self.count,
            "scale": self.scale,
            "grad_norm": self.grad_norm / moved if moved else math.inf,
            "skipped": self.skipped,
        }
        self.__dict__.update(vars(Means()))
        return found


@dataclass
class Progress:
    """What a run has come to.

    Parameters
    ----------
    step : int
        Steps that have been taken.
    best : dict, optional
        The best validation: ``"step"``, ``"epoch"``, ``"metric"``, ``"value"``, ``"scores"``.
    worse : int
        Validations since then.
    scores : dict, optional
        Of the last validation.
    means : Means
        Since the last line of the log.
    skipped : int
        The last steps that did not move the weights, in a row.

    Examples
    --------
    >>> progress = Progress(step=10)
    >>> progress.judge("median_km", {"median_km": 900.0}, epoch=1.0)
    True
    >>> Progress.from_state(progress.to_state()) == progress
    True
    """

    step: int = 0
    best: dict[str, Any] | None = None
    worse: int = 0
    scores: dict[str, float] | None = None
    means: Means = field(default_factory=Means)
    skipped: int = 0

    def judge(self, metric: str, scores: dict[str, float], epoch: float) -> bool:
        """Take in a validation.

        Parameters
        ----------
        metric : str
            Which score decides.
        scores : dict of str to float
            All of them.
        epoch : float
            Where the run is.

        Returns
        -------
        bool
            Whether it is the best so far.
        """
        self.scores = scores
        value = scores[metric]
        # By the same score: a resumed run may go by another one than before.
        best = None if self.best is None else self.best["scores"][metric]
        if not is_better(metric, value, best):
            self.worse += 1
            return False
        self.worse = 0
        self.best = {
            "step": self.step,
            "epoch": epoch,
            "metric": metric,
            "value": value,
            "scores": scores,
        }
        return True

    def to_state(self) -> dict[str, Any]:
        """Return what a checkpoint holds of it.

        Returns
        -------
        dict
            Of numbers, texts and dicts.
        """
        return {**vars(self), "means": dict(vars(self.means))}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> "Progress":
        """Return what `to_state` was called on.

        Parameters
        ----------
        state : mapping
            Of a checkpoint.

        Returns
        -------
        Progress
            The same.
        """
        return cls(**{**state, "means": Means(**state["means"])})


class Pace:
    """How fast a run goes, and how much of the time it waits for data.

    Time between `pause` and `resume` does not count.

    Parameters
    ----------
    batch : int
        Pictures a step, of all processes together.

    Examples
    --------
    >>> pace = Pace(batch=256)
    >>> list(pace.waiting(iter("ab")))
    ['a', 'b']
    >>> pace.steps, 0.0 <= pace.wait_share <= 1.0
    (2, True)
    """

    def __init__(self, batch: int) -> None:
        self._batch = batch
        self.restart()

    def restart(self) -> None:
        """Count from now on."""
        self._start = time.perf_counter()
        self._waited = self._paused = 0.0
        self.steps = 0

    def waiting(self, batches: Iterator[Any]) -> Iterator[Any]:
        """Pass batches on, and note how long each is waited for.

        Parameters
        ----------
        batches : iterator
            Of a feed.

        Yields
        ------
        Batch
            The same.
        """
        while True:
            before = time.perf_counter()
            try:
                batch = next(batches)
            except StopIteration:
                return
            self._waited += time.perf_counter() - before
            self.steps += 1
            yield batch

    def pause(self, seconds: float) -> None:
        """Leave time out that was spent on something else than steps.

        Parameters
        ----------
        seconds : float
            How long.
        """
        self._paused += seconds

    @property
    def seconds(self) -> float:
        """Since the start, without pauses."""
        return time.perf_counter() - self._start - self._paused

    @property
    def pictures_per_s(self) -> float:
        """Of all processes together."""
        return self.steps * self._batch / max(self.seconds, 1e-9)

    @property
    def wait_share(self) -> float:
        """Share of the time that was spent waiting for data."""
        return min(1.0, self._waited / max(self.seconds, 1e-9))


def note(text: str) -> None:
    """Write a line to stderr, above a progress bar if there is one.

    Parameters
    ----------
    text : str
        The line.
    """
    if sys.stderr is not None:
        tqdm.write(text, file=sys.stderr)
