"""The cells of a comparison, done encoder by encoder."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from geoembed.coordinates import Places
from geoembed.evaluation.cached import CachedEncoder
from geoembed.evaluation.cells import Cell, CellStore
from geoembed.evaluation.contenders import Contender
from geoembed.evaluation.learners import Learner
from geoembed.evaluation.plans import Fold, Plan
from geoembed.evaluation.tabulating import Run
from geoembed.evaluation.tasks import Task
from geoembed.progress import progress_bar
from geoembed.scaling.places import PlaceWorkers

__all__ = ["run_cells"]

Cells = dict[tuple[str, str], Cell]


def run_cells(
    contenders: Sequence[Contender],
    plans: Sequence[Plan],
    places: Places,
    task: Task,
    learners: Mapping[str | None, Learner],
    *,
    store: CellStore,
    cache: Path | None,
    workers: PlaceWorkers,
    progress: bool | None,
) -> list[Run]:
    """Do every cell that is not done; the vectors of one encoder are held at a time.

    Parameters
    ----------
    contenders : sequence of Contender
        What is compared.
    plans : sequence of Plan
        The splits.
    places : Places
        One a row.
    task : Task
        What is predicted.
    learners : mapping
        Model of a contender, None for the shared one -> what learns.
    store : CellStore
        Where finished cells are kept.
    cache : Path or None
        Folder that keeps the vectors.
    workers : PlaceWorkers
        Who computes them.
    progress : bool or None
        Show a progress bar.

    Returns
    -------
    list of Run
        One a contender, in order.
    """
    folds = [(plan, fold) for plan in plans for fold in plan.folds]
    total, done, runs = len(folds) * len(contenders), 0, []
    # Baselines share the vectors of one encoder, which are computed once.
    seconds: dict[Path | None, float] = {}
    with progress_bar(progress, text="comparing", unit="fit", total=total) as bar:
        for contender in contenders:
            cells = _read(contender, folds, store)
            bar.update(len(cells))
            done += len(cells)
            if len(cells) < len(folds):
                try:
                    vectors = CachedEncoder(
                        contender.encoder,
                        places,
                        folder=store.vectors if cache is None else cache,
                        workers=workers,
                        # Under the other bar, and gone with the last of its places.
                        progress=None if progress else progress,
                    )
                except BaseException as error:
                    _tell(error, store, done, total)
                    raise
                if np.isfinite(vectors.seconds):
                    seconds[vectors.path] = vectors.seconds
                if vectors.path in seconds:
                    facts = {"seconds_encode": seconds[vectors.path]}
                    store.note(contender.identity, facts)
                try:
                    for plan, fold in folds:
                        if (plan.name, fold.key) not in cells:
                            cell = _cell(task, learners[contender.model], vectors, fold)
                            store.write(contender.identity, plan.name, fold.key, cell)
                            cells[plan.name, fold.key] = cell
                            bar.update()
                            done += 1
                except BaseException as error:
                    _tell(error, store, done, total)
                    raise
                if cache is None and vectors.path is not None:
                    # Needed no more; a run that was stopped before finds it again.
                    vectors.path.unlink(missing_ok=True)
            known = float(store.facts(contender.identity).get("seconds_encode", np.nan))
            runs.append(Run(contender, contender.identity, cells, known))
    return runs


def _read(contender: Contender, folds: Sequence[tuple[Plan, Fold]], store: CellStore) -> Cells:
    """Cells that are done; one whose errors are not one a row is not."""
    found = {}
    for plan, fold in folds:
        cell = store.read(contender.identity, plan.name, fold.key)
        if cell is not None and len(cell.errors) == len(fold.test):
            found[plan.name, fold.key] = cell
    return found


def _cell(task: Task, learner: Learner, encoder: CachedEncoder, fold: Fold) -> Cell:
    start = time.perf_counter()
    predictions = learner.predict(encoder, fold)
    seconds = time.perf_counter() - start
    found = [task.outcome(predicted, fold.test) for predicted in predictions]
    parts = np.mean([outcome.parts for outcome in found], axis=0)
    errors = np.mean([outcome.errors for outcome in found], axis=0)
    return Cell(
        [outcome.score for outcome in found],
        [None if np.isnan(part) else float(part) for part in parts],
        np.mean([outcome.lost for outcome in found], axis=0).tolist(),
        [float(f"{error:.6g}") for error in errors],
        seconds,
    )


def _tell(error: BaseException, store: CellStore, done: int, total: int) -> None:
    if store.folder is not None:
        error.add_note(
            f"{done:,} of {total:,} fits are done and kept in {store.folder}; the same "
            "request goes on from there."
        )
