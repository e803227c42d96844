"""Which location encoder serves a table, and whether it is better than plain coordinates."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from geoembed import __version__
from geoembed.coordinates import Places
from geoembed.errors import OptionError
from geoembed.evaluation.cells import CellStore
from geoembed.evaluation.comparison import Comparison
from geoembed.evaluation.contenders import baseline_contenders, read_contenders
from geoembed.evaluation.learners import HeadLearner, Learner, points_frame
from geoembed.evaluation.plans import Plan, make_plans
from geoembed.evaluation.protocols import ProtocolLearner, load_protocol, protocol_plans
from geoembed.evaluation.running import run_cells
from geoembed.evaluation.tabulating import tabulate
from geoembed.evaluation.tasks import Task, read_task
from geoembed.partitions import is_lazy
from geoembed.scaling.places import PlaceWorkers
from geoembed.splits.folds import read_rows

__all__ = ["DEFAULT_ENCODERS", "compare_encoders", "run_protocol"]

# The trained encoder, and one of every family that learned nothing.
DEFAULT_ENCODERS: Final = (
    "geoclip.v1",
    "xyz",
    "wrap",
    "harmonics.l20",
    "space2vec.theory",
    "sphere2vec.m",
    "rff.s16",
)
# A Gaussian process takes minutes a fold beyond.
_GP_BY_DEFAULT: Final = 1000


def compare_encoders(
    table: Any,
    target: Any,
    *,
    encoders: Iterable[Any] | Mapping[str, Any] = DEFAULT_ENCODERS,
    layers: Sequence[str] | str | None = None,
    baselines: Iterable[str] | None = None,
    head: Any = None,
    model: Any = None,
    splits: Mapping[str, Any] | None = None,
    n_splits: int = 5,
    block_km: float | None = None,
    buffer_km: float = 0.0,
    seeds: int = 1,
    random_state: int = 0,
    protocol: Any = None,
    on_absent: str = "raise",
    crs: Any = None,
    geometry: str = "point",
    folder: str | Path | None = None,
    cache: str | Path | None = None,
    scheduler: Any = None,
    workers: int | None = None,
    force: bool = False,
    progress: bool | None = None,
) -> Comparison:
    """Compare location encoders on a table of places with something to predict.

    Every encoder meets the same folds, random and spatial side by side, and the same model with
    the same choice of penalties. Beside them stand models that know no more than the coordinates.

    Parameters
    ----------
    table : GeoDataFrame, DataFrame, geometries or array of shape (n, 2)
        Places, as `geoembed.read_places` takes them; arrays are (lon, lat), degrees, WGS 84. A
        frame of dask is brought into memory, without its vectors.
    target : str, list of str, array, Series or DataFrame
        Columns of the table to predict, or the values. Labels are classified (accuracy), several
        numbers whose rows sum to 1 are fractions (mean R2 over the classes), other numbers are
        regressed (R2, the mean over several).
    encoders : sequence, or mapping of label to encoder
        Registered names, ``name:layers``, paths, loaded encoders, or any object with
        ``encode(lon, lat) -> (n, d)``.
    layers : sequence of str, str or None
        Layers of the encoders that do not say which; None for ``"final"`` and ``"best"``.
    baselines : sequence of {"knn", "gp", "mean"}, optional
        Models on the coordinates alone: k nearest neighbours and a Gaussian process (at most
        3,000 rows to learn from) on the unit sphere, and the mean, or the most frequent label.
        All three if not given, but the Gaussian process for numbers only, and up to 1,000 rows.
    head : str, LocationHead or None
        What learns: the name of a head, or an unfitted one; None for that of the target.
    model : str, estimator or None
        The head's model, for all encoders; None for its default.
    splits : mapping of str to splitter, or to sequence of (train, test), optional
        Instead of the two usual ones.
    n_splits : int
        Folds of the two usual splits.
    block_km : float, optional
        Side of the blocks of the spatial split, km; 500 if not given, less where the places lie
        in fewer than four blocks a fold.
    buffer_km : float
        Distance that the spatial split keeps between places tested and places learned from, km.
    seeds : int
        How often the splits are repeated, each time divided anew.
    random_state : int
        Seed of the first division, and of the models.
    protocol : str, Path or Protocol, optional
        A frozen set-up: ``"range-v1"``, ``"climplicit-linear"``, ``"spatial-v1"`` or a file of
        that kind. It decides on splits, scaling and model, so these are not to be given.
    on_absent : {"raise", "wrong"}
        What becomes of tested rows whose label is not among those learned from: an error that
        names them, or they count as wrong.
    crs : any
        CRS of coordinates that do not carry one; see `geoembed.read_places`.
    geometry : {"point", "representative_point", "centroid"}
        What stands for a geometry that is not a point.
    folder : str or Path, optional
        Keep finished folds here. A run that was stopped goes on from there, and one with further
        encoders adds them; a request that changes anything else is refused.
    cache : str or Path, optional
        Keep vectors in this folder for other comparisons. Without it they lie in `folder` while
        an encoder is at work, or in memory.
    scheduler : str or distributed.Client, optional
        Address of a dask scheduler whose workers compute the vectors. Models are fitted here.
    workers : int, optional
        Workers to start on this machine for that, each with one thread. Without either, or with
        0, this process computes them.
    force : bool
        Start anew, whatever lies in `folder`.
    progress : bool or None
        Show a progress bar; None shows one on a terminal when the work is long.

    Returns
    -------
    Comparison
        Its `table`, its `conclusion` in a sentence, and `save` for a folder of files.

    Raises
    ------
    CoordinateError
        If places cannot be read, or some are invalid.
    TableError
        If a column is not there, or `folder` holds another comparison.
    TargetError
        If values are missing or of another kind, there are fewer rows than folds, or a label is
        absent from the rows learned from.
    OptionError
        If an option is not one of those offered, or the places lie in fewer blocks than folds.
    UnknownNameError
        If an encoder, a head or a protocol is not known.
    WorkerError
        If no scheduler answers, its workers are not fit (the message says which version of
        geoembed is where), or workers are lost again and again.

    See Also
    --------
    run_protocol : One encoder under a published set-up.

    Examples
    --------
    >>> import geoembed as ge
    >>> from geoembed.evaluation import compare_encoders
    >>> cities = ge.data.load_cities().head(300)
    >>> cities["north"] = cities["lat"].abs()
    >>> found = compare_encoders(cities, "north", encoders=["xyz", "harmonics.l10"], seeds=2)
    >>> sorted(set(found.table["label"]))
    ['harmonics.l10', 'mean', 'xyz', 'xyz + Gaussian process', 'xyz + kNN']
    >>> sorted(set(found.table["split"]))
    ['random', 'spatial']
    """
    frozen = None if protocol is None else load_protocol(protocol)
    repeats = _check_seeds(seeds, random_state)
    hands = PlaceWorkers(scheduler, workers)
    if is_lazy(table):
        table = table.compute()
    places = read_rows(table, crs, geometry)
    task = read_task(table, target, head)
    X = points_frame(table, places)
    if frozen is None:
        plans = make_plans(
            X,
            places,
            task,
            splits,
            n_splits=n_splits,
            block_km=block_km,
            buffer_km=buffer_km,
            seeds=repeats,
            on_absent=on_absent,
        )
    else:
        _refuse_beside_protocol(splits, model, n_splits, block_km, buffer_km)
        plans = protocol_plans(frozen, X, places, task, seeds=seeds, on_absent=on_absent)
    contenders = read_contenders(encoders, layers)
    chosen, notes = _choose_baselines(baselines, task, plans)
    contenders += baseline_contenders(chosen, task.kind)

    def learner(own: str | None) -> Learner:
        if own is None and frozen is not None and frozen.model_for(task.kind)["model"] != "head":
            return ProtocolLearner(frozen, places, task)
        # A baseline has the head of the task: another may not take its model.
        kind = head if own is None else None
        return HeadLearner(
            X,
            task,
            head=kind,
            model=own or model,
            extra_columns=None if own is None else getattr(head, "extra_columns", None),
            random_state=random_state,
        )

    request = {
        "version": __version__,
        "rows": len(places),
        "places": _sha256(places.lonlat),
        "target": list(task.columns),
        "values": _sha256(task.values),
        "task": task.kind,
        "learner": learner(None).describe(),
        "protocol": None if frozen is None else frozen.name,
        "splits": {plan.name: plan.digest() for plan in plans},
    }
    store = CellStore(None if folder is None else Path(folder).expanduser(), request, force=force)
    with hands:
        runs = run_cells(
            contenders,
            plans,
            places,
            task,
            {own: learner(own) for own in {contender.model for contender in contenders}},
            store=store,
            cache=None if cache is None else Path(cache).expanduser(),
            workers=hands,
            progress=progress,
        )
    notes = [*_notes(task, places, plans), *notes]
    return tabulate(runs, plans, task, places, notes=notes, request=request)


def _choose_baselines(
    baselines: Iterable[str] | None, task: Task, plans: Sequence[Plan]
) -> tuple[list[str], list[str]]:
    """Names of the baselines, and what is to be said of one that is left out."""
    if baselines is not None:
        return [baselines] if isinstance(baselines, str) else list(baselines), []
    largest = max(len(fold.train) for plan in plans for fold in plan.folds)
    if task.kind == "classification":
        why = "labels take it minutes a fold"
    elif largest > _GP_BY_DEFAULT:
        why = f"{largest:,} rows to learn from take it minutes a fold"
    else:
        return ["knn", "gp", "mean"], []
    asked = "ask for it with baselines=['knn', 'gp', 'mean']"
    return ["knn", "mean"], [f"The Gaussian process on coordinates is left out: {why}; {asked}."]


def _notes(task: Task, places: Places, plans: Sequence[Plan]) -> list[str]:
    notes = [
        f"Median distance from a tested place to the nearest one learned from, {plan.name} split: "
        f"{plan.nearest_km:,.1f} km."
        for plan in plans
    ]
    notes += [f"{plan.absent} These rows count as wrong." for plan in plans if plan.absent]
    if task.holds_codes:
        notes.append(
            "The target holds a few whole numbers: if they are codes of classes, head='classify'."
        )
    shared = task.shared_places(places)
    return [*notes, shared] if shared else notes


def _check_seeds(seeds: int, random_state: int) -> range:
    for name, value in (("seeds", seeds), ("random_state", random_state)):
        if isinstance(value, bool) or not isinstance(value, int | np.integer):
            raise OptionError(f"{name}={value!r} must be a whole number.")
    if seeds < 1 or random_state < 0:
        raise OptionError(
            f"seeds={seeds} must be 1 or more, and random_state={random_state} not negative."
        )
    return range(int(random_state), int(random_state) + int(seeds))


def _refuse_beside_protocol(
    splits: Any, model: Any, n_splits: int, block_km: float | None, buffer_km: float
) -> None:
    given = {
        "splits": splits is not None,
        "model": model is not None,
        "n_splits": n_splits != 5,
        "block_km": block_km is not None,
        "buffer_km": buffer_km != 0.0,
    }
    named = [name for name, is_given in given.items() if is_given]
    if named:
        raise OptionError(
            "A protocol decides on splits and model: leave out "
            f"{', '.join(f'{name}=' for name in named)}."
        )


def _sha256(values: NDArray[Any]) -> str:
    if values.dtype.kind in "fiub":
        return hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()
    return hashlib.sha256("\0".join(map(repr, values.tolist())).encode()).hexdigest()


def run_protocol(
    name: Any,
    table: Any,
    target: Any,
    encoder: Any = "geoclip.v1",
    layers: str = "final",
    *,
    seeds: int = 1,
    **options: Any,
) -> Comparison:
    """Score one encoder under a frozen set-up.

    Parameters
    ----------
    name : str, Path or Protocol
        ``"range-v1"``, ``"climplicit-linear"``, ``"spatial-v1"``, or a file of that kind.
    table : GeoDataFrame, DataFrame, geometries or array of shape (n, 2)
        Places, as in `compare_encoders`. Published splits depend on the order of the rows.
    target : str, list of str, array, Series or DataFrame
        What to predict, as in `compare_encoders`.
    encoder : str, Path, LocationEncoder or object with ``encode(lon, lat)``
        What encodes.
    layers : str
        Layers of an encoder given by name.
    seeds : int
        How often the rows are divided, with the seed of the protocol and those that follow it.
    **options
        Others of `compare_encoders`, such as ``head``, ``folder`` and ``progress``.

    Returns
    -------
    Comparison
        Of one encoder with itself: see ``table["mean"]``.

    Raises
    ------
    OptionError
        If the protocol has no model for the target.
    UnknownNameError
        If there is no such protocol or encoder.

    Examples
    --------
    >>> import geoembed as ge
    >>> from geoembed.evaluation import run_protocol
    >>> cities = ge.data.load_cities().head(300)
    >>> found = run_protocol("range-v1", cities, cities["lat"].abs(), "harmonics.l10", seeds=3)
    >>> found.table[["n_train", "n_test", "folds"]].values.tolist()
    [[240, 60, 3]]
    """
    return compare_encoders(
        table,
        target,
        encoders=[encoder],
        layers=layers,
        baselines=(),
        protocol=name,
        seeds=seeds,
        **options,
    )
