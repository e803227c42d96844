"""Training from the first step to the last: batches, validations, checkpoints, lines of the log."""

import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from geoembed.errors import TrainingError
from geoembed.evaluation.geolocation.words import counted
from geoembed.progress import progress_bar
from geoembed.training.assembling import Parts, assemble
from geoembed.training.batches import Batch, FeatureData, PictureData
from geoembed.training.checkpoint import list_checkpoints
from geoembed.training.determinism import deterministic_kernels
from geoembed.training.distributed import start_processes
from geoembed.training.keeping import Keeper, check_folder
from geoembed.training.progressing import Pace, Progress, note
from geoembed.training.random_states import seeded
from geoembed.training.run_folder import RunFolder
from geoembed.training.schedule import (
    checkpoint_due,
    learning_rate,
    total_steps,
    validation_due,
)
from geoembed.training.settings import TrainingSettings
from geoembed.training.splitting import Split
from geoembed.training.stopping import RunStopped, StopRequest, catch_signals
from geoembed.training.tasks import TrainingTask

if TYPE_CHECKING:
    from tqdm import tqdm

__all__ = ["RunResult", "train"]

# Drawing takes half a second: not after every validation.
_CURVES_SECONDS: Final = 30.0
# float16 gradients are scaled by half as much after each: from 65,536 to less than 1e-10.
_SKIPPED_STEPS: Final = 50


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """What a run has come to.

    Parameters
    ----------
    folder : Path
        Of the run.
    step : int
        Steps that have been taken.
    best : dict or None
        The best validation: ``"step"``, ``"epoch"``, ``"metric"``, ``"value"`` and ``"scores"``;
        None if no place is held out.
    metrics : dict of str to float
        Scores of the last validation; empty if there was none.
    ended : {"steps", "patience"}
        Why it has ended: all steps are done, or validations were no better for too long.
    """

    folder: Path
    step: int
    best: dict[str, Any] | None
    metrics: dict[str, float]
    ended: str


def train(
    settings: TrainingSettings,
    folder: str | Path,
    *,
    resume: bool = False,
    data: PictureData | FeatureData | None = None,
    split: Split | None = None,
    task: TrainingTask | None = None,
    progress: bool | None = None,
) -> RunResult:
    """Train a model, alone or as one of the processes that torchrun has started.

    Parameters
    ----------
    settings : TrainingSettings
        Of the run.
    folder : str or Path
        Where everything is written; of several machines on a disk that all see.
    resume : bool
        Go on from the last checkpoint in the folder; from the start where there is none.
    data : PictureData or FeatureData, optional
        Opened by the settings when left out.
    split : Split, optional
        Made by the settings when left out.
    task : TrainingTask, optional
        What is trained: a location encoder and an image side, as the settings say, when left out.
    progress : bool, optional
        Show a progress bar, and lines for validations, on stderr. If not given, the bar is shown
        on a terminal; False shows nothing.

    Returns
    -------
    RunResult
        Where it is, and how good it became.

    Raises
    ------
    OptionError
        If settings and data do not fit together.
    TableError, WeightsError, MissingWeightsError, UnknownNameError
        If data, weights or a gallery are not here, or damaged.
    TrainingError
        If the folder holds a run and `resume` is False, or a run of other settings or data; if the
        loss is no number, whose batch then stands in ``bad_batch.json``; if float16 gradients are
        not finite for many steps in a row; if a checkpoint cannot be written; if another process
        has ended.
    RunStopped
        After SIGTERM or Ctrl-C, once a checkpoint is written. It is a SystemExit of 143 or 130.

    Warns
    -----
    CheckpointWarning
        On a resume, if a checkpoint is damaged and the one before is taken, or the run goes on but
        no longer bit for bit, or its end moves under a cosine.

    Notes
    -----
    On a CPU, with the same number of threads, N steps, a resume and N more give the same weights,
    optimiser, queue and metrics as 2 N steps, bit for bit.

    Examples
    --------
    >>> from geoembed.training.config import load_settings
    >>> settings = load_settings(
    ...     "bluemarble",
    ...     [
    ...         "data.crops=100",
    ...         "location.hidden=[8]",
    ...         "image.widths=[4, 4]",
    ...         "loop.batch=16",
    ...         "loop.steps=2",
    ...         "loop.workers=0",
    ...         "validation.gallery=train",
    ...     ],
    ... )
    >>> result = train(settings, "run", progress=False)
    >>> result.step, result.ended, (result.folder / "metrics.csv").is_file()
    (2, 'steps', True)
    """
    run = RunFolder(folder)
    with ExitStack() as stack:
        processes = stack.enter_context(start_processes(settings.loop.device))
        stack.enter_context(seeded(settings.seed))
        stack.enter_context(deterministic_kernels(settings.loop.deterministic))
        if processes.rank == 0:
            check_folder(run, settings, resume=resume)
            stack.enter_context(run.locked())
        else:
            progress = False
        parts = assemble(settings, processes, data, split, task)
        keeper = stack.enter_context(closing(Keeper(parts, run)))
        # From here on there is something to save; before, a signal ends the process as ever.
        request = stack.enter_context(catch_signals())
        loop = _Loop(parts, keeper, request, quiet=progress is False)
        return loop.run(progress)


class _Loop:
    """One session of a run."""

    def __init__(self, parts: Parts, keeper: Keeper, request: StopRequest, *, quiet: bool) -> None:
        self.parts, self.keeper, self.request, self.quiet = parts, keeper, request, quiet
        self.settings, self.order = parts.settings, parts.order
        self.steps = total_steps(parts.settings, parts.order)
        self.pace = Pace(parts.settings.loop.batch)
        self.progress = Progress()
        self._drawn = time.monotonic()

    def run(self, show: bool | None) -> RunResult:
        """Take the steps that are left."""
        self.progress = progress = self.keeper.start()
        for left_out in getattr(self.parts.data, "notes", ()):
            self._say(left_out)
        if progress.step:
            self._say(f"goes on after step {progress.step:,} of {self.steps:,}")
        bar = progress_bar(
            show, text=self.settings.name, unit="step", total=self.steps, done=progress.step
        )
        with bar:
            self.pace.restart()
            if not self._over():
                self._take_steps(bar)
            elif self.steps == 0 == len(list_checkpoints(self.keeper.folder.checkpoints)):
                self._after_step()  # what a run of no steps starts from is its result
        if progress.means.count:
            # Not in the checkpoint: a longer run takes these steps into its next line.
            self._log_steps()
        self.keeper.draw()
        if bad := self.keeper.listed:
            there = self.keeper.folder.bad_pictures
            self._say(f"{counted(bad, 'picture')} could not be used, listed in {there}")
        return RunResult(
            folder=self.keeper.folder.path,
            step=progress.step,
            best=progress.best,
            metrics=progress.scores or {},
            ended="steps" if progress.step >= self.steps else "patience",
        )

    def _take_steps(self, bar: "tqdm[Any]") -> None:
        batches = self.parts.feed.batches(self.progress.step, self.steps)
        try:
            for batch in self.pace.waiting(batches):
                self._take_step(batch, bar)
                self._after_step()
                if self._over():
                    break
        finally:
            # Workers end with the iterator.
            if isinstance(batches, Iterator) and hasattr(batches, "close"):
                batches.close()

    def _take_step(self, batch: Batch, bar: "tqdm[Any]") -> None:
        progress = self.progress
        lr = learning_rate(self.settings, progress.step, self.order)
        try:
            result = self.parts.step(batch, progress.step, lr)
        except TrainingError as error:
            self.keeper.tell_bad_batch(progress.step, error)
            error.args = (f"{error} {self._saved()}",)
            raise
        if result.skipped:
            self._skip()
        else:
            progress.skipped = 0
            self.parts.average.update(progress.step)
        progress.step += 1
        progress.means.add(result, lr)
        bar.set_postfix_str(
            f"loss {result.loss:.3f}, {self.pace.pictures_per_s:,.0f} pictures/s, "
            f"{self.pace.wait_share:.0%} waiting for data",
            refresh=False,
        )
        bar.update()

    def _skip(self) -> None:
        """Count a step that moved no weight; stop where none will."""
        self.progress.skipped += 1
        if self.progress.skipped >= _SKIPPED_STEPS:
            raise TrainingError(
                f"The float16 gradients of the last {_SKIPPED_STEPS} steps, up to step "
                f"{self.progress.step:,}, were no finite numbers at any scale: no weight has "
                "moved. Train with loop.precision = 'bfloat16' or 'float32', in another folder; "
                f"if gradients are not finite there either, it names the batch. {self._saved()}"
            )

    def _saved(self) -> str:
        """Say what there is to go on from."""
        there = list_checkpoints(self.keeper.folder.checkpoints)
        if not there:
            return "There is no checkpoint yet."
        return f"The last checkpoint is {there[max(there)]}."

    def _after_step(self) -> None:
        """Do what is due, in the order that a resume relies on: lines first, then a checkpoint."""
        done, settings = self.progress.step, self.settings
        last = done >= self.steps
        stop = self.parts.processes.any(bool(self.request.number))
        if self.progress.means.count and done % settings.loop.log_every == 0:
            self._log_steps()
        before = time.perf_counter()
        validated = (
            last or validation_due(settings, done, self.order)
        ) and self.parts.validator is not None
        if validated:
            self._validate()
        if validated or stop or self._over() or checkpoint_due(settings, done, self.order):
            self.keeper.save(self.progress)
        if validated and time.monotonic() - self._drawn > _CURVES_SECONDS:
            self.keeper.draw()
            self._drawn = time.monotonic()
        self.pace.pause(time.perf_counter() - before)
        if stop and not self._over():
            stopped = RunStopped(self.request.number or signal.SIGTERM, done)
            self._say(str(stopped))
            raise stopped

    def _over(self) -> bool:
        patience = self.settings.loop.patience
        return self.progress.step >= self.steps or 0 < patience <= self.progress.worse

    def _validate(self) -> None:
        progress, settings = self.progress, self.settings
        assert self.parts.validator is not None
        with self.parts.average.in_place():
            scores = self.parts.validator(self.parts.model)
        epoch = self.order.epoch(progress.step)
        best = progress.judge(settings.validation.metric, scores, epoch)
        if self.keeper.log is not None:
            named = {f"val_{name}": value for name, value in scores.items()}
            self.keeper.log.metrics(progress.step, epoch, named)
        self._say(
            f"step {progress.step:,}, epoch {epoch:.2f}: held-out pictures within 25 km "
            f"{scores['within_25']:.1f} %, 200 km {scores['within_200']:.1f} %, 750 km "
            f"{scores['within_750']:.1f} %, 2500 km {scores['within_2500']:.1f} %, median "
            f"{scores['median_km']:,.0f} km, loss {scores['loss']:.3f}{' (best)' if best else ''}"
        )

    def _log_steps(self) -> None:
        """Write the means since the last line, and how fast it went."""
        progress, pace = self.progress, self.pace
        values = progress.means.take()
        if self.keeper.log is not None:
            self.keeper.log.metrics(progress.step, self.order.epoch(progress.step), values)
            now = datetime.now(UTC).isoformat(timespec="seconds")
            self.keeper.log.speed(
                now, progress.step, pace.seconds, pace.pictures_per_s, pace.wait_share
            )
        pace.restart()

    def _say(self, text: str) -> None:
        if not self.quiet:
            note(f"{self.settings.name}: {text}")
