"""`embed_folder`: from a folder of Parquet files to a folder of Parquet files with embeddings."""

import math
import time
import uuid
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from geoembed.encoders import load_encoder
from geoembed.encoders.sharing import options_for_workers
from geoembed.errors import GeoembedError, TableError
from geoembed.geometries import check_samples
from geoembed.progress import progress_bar
from geoembed.scaling.engine import Cluster, Task, do_here
from geoembed.scaling.joining import check_hands, connect
from geoembed.scaling.listing import SourceFile, finds, list_files
from geoembed.scaling.part import Job, Part, PartDone, embed_part, open_part
from geoembed.scaling.plan import OutputFolder, job_id, plan_parts
from geoembed.streaming.request import check_batch_rows, check_choices
from geoembed.streaming.run import Run
from geoembed.streaming.vectors import BATCH_BYTES, usual_rows

if TYPE_CHECKING:
    from geoembed.encoders.base import LocationEncoder

__all__ = ["FolderReport", "embed_folder"]


@dataclass(frozen=True)
class FolderReport:
    """What `embed_folder` did.

    Parameters
    ----------
    target : str
        Address of the folder.
    encoder : str
        Name of the encoder.
    parts : int
        Files in it.
    rows : int
        Rows in them.
    dropped : int
        Rows of the sources that are not in them, having no place.
    resumed : int
        Rows of the sources that an earlier run had done.
    made : int
        Parts that this run made; 0 if an earlier one had made them all.
    redone : tuple of str
        Part files that were torn, and were made again.
    dimension : int
        Length of a vector.
    batch_rows : int
        Rows that were computed at a time.
    seconds : float
        Time spent, from the first look at the sources.
    """

    target: str
    encoder: str
    parts: int
    rows: int
    dropped: int
    resumed: int
    made: int
    redone: tuple[str, ...]
    dimension: int
    batch_rows: int
    seconds: float

    @property
    def rows_per_second(self) -> float:
        """Rows of the sources done a second, in this run; NaN if it had nothing to do."""
        if not self.made:
            return math.nan
        return (self.rows + self.dropped - self.resumed) / max(self.seconds, 1e-9)


def embed_folder(
    sources: "str | PathLike[str] | Iterable[str | PathLike[str]]",
    target: "str | PathLike[str]",
    *,
    encoder: "str | LocationEncoder" = "geoclip.v1",
    layout: str | None = None,
    prefix: str | None = None,
    overwrite: bool = False,
    force: bool = False,
    lon: str | None = None,
    lat: str | None = None,
    crs: Any = None,
    geometry: str = "point",
    samples: int = 32,
    on_invalid: str = "raise",
    batch_rows: int | None = None,
    scheduler: Any = None,
    workers: int | None = None,
    progress: bool | None = None,
    **options: Any,
) -> FolderReport:
    """Embed a table of many Parquet files into a folder of Parquet files, on workers of dask.

    A row group in, a part file out. A part appears under its name when it is whole, and carries
    in its footer which job it belongs to: whatever stops a run, the same call goes on with what
    is missing, and finds parts that were torn. A part whose worker dies is given to another.

    Parameters
    ----------
    sources : str, path or iterable of them
        Parquet or GeoParquet: files, folders with all that is in them or linked there, patterns;
        local, or addresses that fsspec knows (``s3://bucket/theme=places/``). All must have the
        same columns and CRS. Folders named like ``country=KE`` are kept.
    target : str or path
        Folder to fill: new, empty, or of the same job. All workers must see it. On object stores
        a part is whole when it shows; on other stores that are not mounted that is up to them.
    encoder : str or LocationEncoder
        Registered name, local path that all workers see, or a loaded encoder.
    layout : {"vector", "columns"}, optional
        One column of whole vectors (an Arrow fixed-size list; the default), or one column a
        value.
    prefix, overwrite, lon, lat, crs, geometry, samples, on_invalid
        As in `geoembed.embed_file`.
    force : bool
        Throw the parts of another job away, or those of this one.
    batch_rows : int, optional
        Rows at a time; by default as many as fit the memory of the smallest worker, at most as
        many as make 64 MB of vectors. Equal places are computed once within a batch, and a batch
        becomes a row group.
    scheduler : str or distributed.Client, optional
        Address of a dask scheduler whose workers are to do it.
    workers : int, optional
        Workers to start on this machine where no scheduler is given, each with one thread; by
        default one a core. 0 does everything in this process, without dask.
    progress : bool or None
        Show a progress bar; None shows one on a terminal when the work is long.
    **options
        Of the encoder: ``layers``, ``normalize``, ``precision``, ``dtype``, ``device``,
        ``seam``, ``block_size``; see `geoembed.LocationEncoder`.

    Returns
    -------
    FolderReport
        Rows written and dropped, parts, seconds.

    Raises
    ------
    TableError
        If there are no sources, they are damaged or not of one table; if the target is not empty
        and not of this job, is among the sources, or cannot be written.
    CoordinateError
        If places cannot be read, have no CRS, or are invalid with ``on_invalid="raise"``.
    WorkerError
        If no scheduler answers, it has no workers, geoembed is missing on one or is another
        version, weights differ, the target is not to be seen from there, or workers are lost
        again and again.
    OptionError
        If an option is not one of those offered.
    MissingExtraError
        If dask, or what reads such addresses, is not installed.

    Notes
    -----
    ``_geoembed/manifest.json`` in the target says what was asked for, of which files, and what
    every part holds. Readers of Parquet folders pass over names that begin with an underscore.

    Examples
    --------
    >>> import geopandas as gpd, geoembed as ge
    >>> from geoembed.scaling import embed_folder
    >>> cities = ge.data.load_cities()[["name", "geometry"]].head(100)
    >>> cities.to_parquet("cities.parquet", row_group_size=25)
    >>> report = embed_folder("cities.parquet", "embedded", workers=0)
    >>> report.parts, report.rows
    (4, 100)
    >>> gpd.read_parquet("embedded").columns.tolist()
    ['name', 'geometry', 'embedding']
    """
    started = time.perf_counter()
    check_choices(layout=layout, geometry=geometry, on_invalid=on_invalid)
    check_samples(samples)
    if batch_rows is not None:
        check_batch_rows(batch_rows)
    check_hands(scheduler, workers)
    where = _address(target)
    asked = {
        "layout": layout,
        "prefix": prefix,
        "overwrite": overwrite,
        "lon": lon,
        "lat": lat,
        "crs": crs,
        "layer": None,
        "geometry": geometry,
        "samples": samples,
        "on_invalid": on_invalid,
        "batch_rows": batch_rows,
    }
    loaded = load_encoder(encoder, **options)
    sources = [sources] if isinstance(sources, str | PathLike) else list(sources)
    files = list_files(sources)
    if not files:
        raise TableError("There is nothing to read: give files, folders or patterns.")
    folder = OutputFolder(where)
    parts = plan_parts(files)
    _check_apart(sources, files, folder, parts)
    job = Job(
        id="",
        target=where,
        columns=tuple(files[0].schema.names),
        request=asked,
        encoder=encoder,
        options=options_for_workers(encoder, options, loaded),
        weights_sha256=loaded.weights_sha256,
    )
    facts = _facts(job, parts[0], loaded, files)
    job = replace(job, id=job_id(facts))
    folder.open(facts, parts, force=force)
    try:
        done, torn = folder.find_done(parts, job.id)
        resumed = sum(part.rows for part in parts if part.name in done)
        left = [part for part in parts if part.name not in done]
        with ExitStack() as stack:
            cluster = None
            if left and workers != 0:
                cluster = stack.enter_context(connect(scheduler, workers))
            rows = batch_rows or _fitting_rows(loaded, cluster)
            job = replace(job, request={**asked, "batch_rows": rows})
            _do(left, job, cluster, done, total=sum(p.rows for p in parts), progress=progress)
        folder.finish(facts, parts, done)
    except BaseException as error:
        note = _kept(folder, parts, job)
        if note:
            error.add_note(note)
        raise
    finally:
        folder.release()
    return FolderReport(
        target=where,
        encoder=loaded.name,
        parts=len(parts),
        rows=sum(part.rows for part in done.values()),
        dropped=sum(part.dropped for part in done.values()),
        resumed=resumed,
        made=len(left),
        redone=tuple(torn),
        dimension=loaded.dimension,
        batch_rows=rows,
        seconds=time.perf_counter() - started,
    )


def _address(target: "str | PathLike[str]") -> str:
    """Return the target as workers are told of it: absolute, as they may run elsewhere."""
    if not isinstance(target, str | PathLike) or not fspath(target):
        raise TableError(f"The target is the path or address of a folder, not {target!r}.")
    text = fspath(target)
    return text if "://" in text else str(Path(text).expanduser().absolute())


def _check_apart(
    sources: "Iterable[str | PathLike[str]]",
    files: Sequence[SourceFile],
    folder: OutputFolder,
    parts: Sequence[Part],
) -> None:
    """Refuse a target that holds what is read, or would be read when the same is asked again."""
    inside = str(folder.system.unstrip_protocol(folder.path)) + "/"
    mixed = [file.url for file in files if file.url.startswith(inside)]
    if mixed:
        raise TableError(
            f"{folder.target} holds a file to read, {mixed[0]}. Choose another folder for the "
            "result."
        )
    paths = [f"{folder.path}/{part.name}" for part in parts]
    for source in sources:
        if finds(source, folder.system, paths):
            raise TableError(
                f"The output folder {folder.target} lies in what is read, {fspath(source)}: its "
                "parts would be read with it the next time. Choose a folder beside it."
            )


def _facts(
    job: Job, part: Part, encoder: "LocationEncoder", files: Sequence[SourceFile]
) -> dict[str, Any]:
    """Return what decides what is in the folder; refuse what cannot be done, before it is begun."""
    source = open_part(part, job)
    try:
        request = job.request_for(source.path, Path("part.parquet"))
        Run(request, encoder, source)
        _check_keys(files[0], request.names(encoder))
        facts = request.facts(encoder, [])
    finally:
        source.close()
    # A row group of a part is a batch, and its vectors depend on the batch in the last digits
    # only: not worth starting again for.
    return facts | {"source": {file.url: file.facts() for file in files}}


def _check_keys(file: SourceFile, names: Sequence[str]) -> None:
    """Refuse columns that folders have too: hardly a reader makes one table of both."""
    for key in file.keys:
        told = f"Folders give {file.url} the partition column {key!r}"
        if key in names:
            raise TableError(
                f"{told}, and the embedding would have the same name. Pass another prefix=."
            )
        if key in file.schema.names:
            raise TableError(
                f"{told}, and it has a column of that name itself: what becomes of both is no "
                "table for most readers. Drop the column, or call the folders otherwise."
            )


def _fitting_rows(encoder: "LocationEncoder", cluster: Cluster | None) -> int:
    if cluster is None:
        return usual_rows(encoder)
    least = usual_rows(encoder, 0) * encoder.dimension * np.dtype(encoder.dtype).itemsize
    room = cluster.batch_bytes(least)
    return usual_rows(encoder, BATCH_BYTES if room is None else min(BATCH_BYTES, room))


def _do(
    parts: Sequence[Part],
    job: Job,
    cluster: Cluster | None,
    done: dict[str, PartDone],
    *,
    total: int,
    progress: bool | None,
) -> None:
    rows = {part.name: part.rows for part in parts}
    text = f"embedding {job.target.rstrip('/').rpartition('/')[2]}"
    before = total - sum(rows.values())
    with progress_bar(progress, text=text, unit="row", total=total, done=before) as bar:

        def finished(part: PartDone) -> None:
            done[part.name] = part
            bar.update(rows[part.name])

        # What an earlier run has left on the scheduler is never taken for this one's.
        run = uuid.uuid4().hex[:12]
        tasks = [
            Task(f"embed-{job.id}-{run}-{p.name}", f"{p.url}, row group {p.group}", (p, job))
            for p in parts
        ]
        if cluster is None:
            do_here(embed_part, tasks, finished)
        else:
            cluster.do(embed_part, tasks, finished)


def _kept(folder: OutputFolder, parts: Sequence[Part], job: Job) -> str:
    """Say what is done, and how to go on; nothing where nothing is done."""
    try:
        done, _ = folder.find_done(parts, job.id)
    except (OSError, GeoembedError):
        return f"What is done is kept in {job.target}."
    if not done:
        return ""
    return (
        f"{len(done):,} of {len(parts):,} parts are done and kept in {job.target}. The same call "
        "goes on from there."
    )
