"""Running a matrix: what is finished is kept, what was started goes on, the rest is trained."""

import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from geoembed.errors import GeoembedError, OptionError, TrainingError
from geoembed.training.batches import FeatureData, PictureData
from geoembed.training.checkpoint import list_checkpoints
from geoembed.training.locking import locked_folder
from geoembed.training.loop import train
from geoembed.training.matrix import BASE, Matrix, Variant, slug
from geoembed.training.matrix_report import MatrixResult, write_report
from geoembed.training.model import build_model
from geoembed.training.opening import open_data
from geoembed.training.run_folder import RunFolder
from geoembed.training.run_model import model_of_run
from geoembed.training.settings import DataSettings
from geoembed.training.settings_text import flat_settings
from geoembed.training.splitting import split_rows
from geoembed.training.validation import validate

__all__ = ["run_matrix"]

# What opens the same data.
_DATA: Final = ("validation", "block_km", "block_deg", "buffer_km", "fraction", "split_seed")

Data = PictureData | FeatureData


def run_matrix(
    matrix: Matrix,
    folder: str | Path,
    *,
    progress: bool | None = None,
    tell: Callable[[str], None] | None = None,
) -> list[MatrixResult]:
    """Train and score everything in a matrix that is not there yet.

    Parameters
    ----------
    matrix : Matrix
        Of `geoembed.training.matrix.load_matrix`.
    folder : str or Path
        Gets ``runs/``, a run folder each; ``results/``, a JSON file each; and the report:
        ``results.csv``, ``results.json``, ``results.md`` and ``matrix.png``. Started again in the
        same folder, finished runs are kept and an interrupted one goes on from its checkpoint.
    progress : bool, optional
        As for `geoembed.training.loop.train`.
    tell : callable, optional
        Is given a line about each result.

    Returns
    -------
    list of MatrixResult
        Seed by seed, in the order of the variants. A run that failed says why, is tried again the
        next time, and does not keep the others from running.

    Raises
    ------
    OptionError
        If a finished run in the folder has other settings, or no place is held out.
    TableError
        If another process trains a matrix in the folder.
    TrainingError
        If torchrun has started several processes, or the folder cannot be made.
    RunStopped
        After SIGTERM or Ctrl-C, once a checkpoint is written.
    MissingExtraError
        If matplotlib is not installed.

    Examples
    --------
    >>> from geoembed.training.matrix import load_matrix
    >>> matrix = load_matrix("matrix-bluemarble")
    >>> results = run_matrix(matrix, "ablations")  # doctest: +SKIP
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise TrainingError(
            "A matrix trains one run after another in one process, and torchrun has started "
            "several: start it without torchrun, or its runs one by one."
        )
    if not matrix.variants[0].settings.data.validation:
        raise OptionError("data.validation = 0 holds out no place: there is nothing to compare.")
    room = _Room(Path(folder).expanduser(), progress)
    room.prepare()
    room.check(matrix)
    with locked_folder(room.folder, "training a matrix"):
        return _run(room, matrix, tell)


def _run(room: "_Room", matrix: Matrix, tell: Callable[[str], None] | None) -> list[MatrixResult]:
    results: list[MatrixResult] = []
    written = False
    for seed in matrix.seeds:
        for result, fresh in room.run_seed(matrix, seed):
            results.append(result)
            if tell is not None:
                tell(_line(result, matrix))
            if fresh:
                written = _report(matrix, results, room.folder)
    if not written:
        _report(matrix, results, room.folder)
    return results


class _Room:
    """The folder of a matrix, and data that stay open between its runs."""

    def __init__(self, folder: Path, progress: bool | None) -> None:
        self.folder, self.progress = folder, progress
        self._opened: dict[str, Data] = {}

    def check(self, matrix: Matrix) -> None:
        """Refuse a folder with results of other settings, before anything runs."""
        for seed in matrix.seeds:
            for variant in matrix.variants:
                self._finished(variant, seed)

    def prepare(self) -> None:
        """Make the folder."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise TrainingError(
                f"The matrix's folder {self.folder} cannot be made: {error.strerror or error}."
            ) from error

    def run_seed(self, matrix: Matrix, seed: int) -> Iterator[tuple[MatrixResult, bool]]:
        """Yield the results of one seed, and whether each was made now."""
        for variant in matrix.variants:
            known = self._finished(variant, seed)
            if known is not None:
                yield known, False
                continue
            make = self._look if variant.gallery else self._train
            try:
                result = make(variant, seed)
            except GeoembedError as error:
                result = MatrixResult(
                    variant=variant.name, seed=seed, gallery=variant.gallery, failed=str(error)
                )
            else:
                self._keep(result, variant)
            yield result, True

    def _train(self, variant: Variant, seed: int) -> MatrixResult:
        settings = variant.run_settings(seed)
        run = self._run_folder(variant.name, seed)
        whole = not list_checkpoints(RunFolder(run).checkpoints)
        start = time.perf_counter()
        # Resuming starts anew where there is no checkpoint yet.
        done = train(
            settings, run, resume=True, data=self._data(settings.data), progress=self.progress
        )
        return MatrixResult(
            variant=variant.name,
            seed=seed,
            metrics=done.metrics,
            step=done.step,
            seconds=time.perf_counter() - start if whole else None,
        )

    def _look(self, variant: Variant, seed: int) -> MatrixResult:
        """Look the pictures up in another gallery, with the last weights of a run of the base."""
        settings = variant.run_settings(seed)
        run = self._run_folder(BASE, seed)
        if not self._result_file(BASE, seed).exists():
            raise TrainingError(f"The base's run of seed {seed} has failed: it has no weights.")
        data = self._data(settings.data)
        features: int | None = getattr(data, "dimension", None)
        model = build_model(settings, feature_dimension=features, backbone=features is None)
        trained = model_of_run(run, "last")
        tensors = trained.tensors()
        # An export carries the frozen tower of a model folder, which is no part of this model.
        model.load_state_dict({key: tensors[key] for key in model.state_dict()})
        start = time.perf_counter()
        scores = validate(model, data, split_rows(data.lonlat, settings.data), settings)
        seconds = time.perf_counter() - start
        step = max(list_checkpoints(RunFolder(run).checkpoints))
        return MatrixResult(
            variant=variant.name,
            seed=seed,
            metrics=scores,
            step=step,
            seconds=seconds,
            gallery=True,
        )

    def _data(self, settings: DataSettings) -> Data:
        """Open data once for all runs that share them."""
        key = settings.model_dump_json(exclude=set(_DATA))
        if key not in self._opened:
            self._opened[key] = open_data(settings)
        return self._opened[key]

    def _run_folder(self, variant: str, seed: int) -> Path:
        return self.folder / "runs" / f"{slug(variant)}-{seed}"

    def _result_file(self, variant: str, seed: int) -> Path:
        return self.folder / "results" / f"{slug(variant)}-{seed}.json"

    def _keep(self, result: MatrixResult, variant: Variant) -> None:
        path = self._result_file(variant.name, result.seed)
        path.parent.mkdir(parents=True, exist_ok=True)
        settings = flat_settings(variant.run_settings(result.seed))
        RunFolder(self.folder).write_json(path, {**asdict(result), "settings": settings})

    def _finished(self, variant: Variant, seed: int) -> MatrixResult | None:
        """Read a result, and refuse one of other settings."""
        path = self._result_file(variant.name, seed)
        document = RunFolder(self.folder).read_json(path)
        if document is None:
            return None
        before: dict[str, Any] = document.pop("settings", {})
        now = json.loads(json.dumps(flat_settings(variant.run_settings(seed))))
        differ = [
            f"\n  {name}: {before.get(name)!r} -> {value!r}"
            for name, value in now.items()
            if before.get(name) != value and name not in ("summary", "loop.workers")
        ]
        if differ:
            raise OptionError(
                f"{path} holds the result of other settings:{''.join(differ)}\nGive the matrix "
                "another folder; or delete this file and the run's folder "
                f"{self._run_folder(variant.name, seed)}, to train it anew."
            )
        try:
            return MatrixResult(**document)
        except TypeError as error:
            raise TrainingError(f"{path} is no result of a matrix: delete it.") from error


def _report(matrix: Matrix, results: list[MatrixResult], folder: Path) -> bool:
    """Write what there is, once a run of the base is among it."""
    there = any(result.variant == BASE and not result.failed for result in results)
    if there:
        write_report(matrix, results, folder)
    return there


def _line(result: MatrixResult, matrix: Matrix) -> str:
    what = f"{result.variant}, seed {result.seed}"
    if result.failed:
        return f"{what}: failed. {result.failed}"
    metric = matrix.variants[0].settings.validation.metric
    took = "" if result.seconds is None else f" in {result.seconds:,.0f} s"
    return f"{what}: {metric} {result.metrics[metric]:,.4g}, {result.step:,} steps{took}"
