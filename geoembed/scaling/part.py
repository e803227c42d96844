"""The unit of work: one row group of a Parquet file in, one part file out."""

import shutil
import socket
import tempfile
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from geoembed import __version__
from geoembed.encoders.sharing import shared_encoder
from geoembed.errors import GeoembedError, TableError, WorkerError
from geoembed.partitions import limit_threads, worker_address
from geoembed.scaling.listing import is_local, locate, open_parquet
from geoembed.scaling.storing import put_whole
from geoembed.streaming.parquet_source import ParquetSource
from geoembed.streaming.request import Request
from geoembed.streaming.run import Run
from geoembed.streaming.sources import check_names

__all__ = ["MANIFEST", "OWN_FOLDER", "WORK_FOLDER", "Job", "Part", "PartDone", "embed_part"]

# Readers of Parquet folders pass over names that begin with an underscore.
OWN_FOLDER: Final = "_geoembed"
WORK_FOLDER: Final = f"{OWN_FOLDER}/work"
MANIFEST: Final = f"{OWN_FOLDER}/manifest.json"


@dataclass(frozen=True)
class Part:
    """One row group to embed, and the file it becomes.

    Parameters
    ----------
    name : str
        Of the file, below the output folder.
    url : str
        Of the file to read.
    group : int or None
        Which row group; None for a file that has none.
    first_row : int
        Its first row, counted through the file from 0.
    rows : int
        How many it has.
    """

    name: str
    url: str
    group: int | None
    first_row: int
    rows: int


@dataclass(frozen=True)
class Job:
    """What all parts of an output folder share; small, and sent with every part.

    Parameters
    ----------
    id : str
        Digest of everything that decides what is in the folder.
    target : str
        Address of the folder.
    columns : tuple of str
        Of the tables to read, in the order they are to have.
    request : mapping
        Parameters of `geoembed.streaming.request.Request`, but source and target.
    encoder : str or LocationEncoder
        What encodes.
    options : mapping
        Of the encoder.
    weights_sha256 : str
        Digest of its weights where the job was started.
    version : str
        Of geoembed there.
    """

    id: str
    target: str
    columns: tuple[str, ...]
    request: Mapping[str, Any]
    encoder: Any
    options: Mapping[str, Any]
    weights_sha256: str
    version: str = __version__

    def request_for(self, source: Path, target: Path) -> Request:
        """Return what is asked for of one part."""
        return Request(source=source, target=target, force=True, resume=False, **self.request)


@dataclass(frozen=True)
class PartDone:
    """What became of a part.

    Parameters
    ----------
    name : str
        Of its file.
    rows : int
        Rows in it.
    dropped : int
        Rows of its row group that are not in it, having no place.
    size : int
        Of the file, in bytes.
    """

    name: str
    rows: int
    dropped: int
    size: int


class RowGroupSource(ParquetSource):
    """One row group of a Parquet file, or of a file without any its columns."""

    def __init__(self, part: Part, columns: Sequence[str], lon: Any, lat: Any, crs: Any) -> None:
        system, path = locate(part.url)
        super().__init__(Path(path), open_parquet(system, path))
        self._first = part.first_row
        self._groups = [] if part.group is None else [part.group]
        self.rows = part.rows
        check_names(self.path, self.schema.names)
        fields = [self.schema.field(name) for name in columns]
        self.schema = pa.schema(fields, metadata=self.schema.metadata)
        self.settle(lon, lat, crs)

    def files(self) -> list[Path]:
        """Return nothing: the manifest of the whole job says which files were read."""
        return []

    def tables(self) -> Iterator[pa.Table]:
        """Read the rows in order, their columns in the order of the job."""
        for table in super().tables():
            yield table.select(self.schema.names)

    def read_places(self, table: pa.Table, first_row: int, *, crs: Any, **options: Any) -> Any:
        """Read the places of some rows; errors count rows through the whole file."""
        return super().read_places(table, self._first + first_row, crs=crs, **options)


def open_part(part: Part, job: Job) -> RowGroupSource:
    """Open the row group of a part."""
    asked = job.request
    return RowGroupSource(part, job.columns, asked["lon"], asked["lat"], asked["crs"])


def embed_part(part: Part, job: Job) -> PartDone:
    """Embed one row group and give its file the name it is to have, when it is whole.

    Any number of attempts at a part may run at once, or die: each writes in a folder of its own,
    and what they give the name to is the same.

    Raises
    ------
    WorkerError
        If this worker has another geoembed or other weights than where the job was started, or
        does not see the output folder.
    GeoembedError
        What `geoembed.embed_file` raises; a note says which part it was, and on which worker.
    """
    try:
        _check_version(job)
        encoder = shared_encoder(job.encoder, **job.options)
        # After the encoder, which has imported torch by now if it needs it.
        limit_threads()
        _check_here(job, encoder)
        with _work_folder(job) as folder, closing(open_part(part, job)) as source:
            file = folder / "part.parquet"
            told = {"job": job.id, "source": part.url, "row_group": part.group}
            run = Run(job.request_for(source.path, file), encoder, source, told)
            try:
                run.go(False)
            except BaseException as error:
                _forget_draft(error, folder)
                raise
            size = file.stat().st_size
            _publish(file, job, part)
        return PartDone(part.name, run.rows, run.rows_read - run.rows, size)
    except GeoembedError as error:
        group = "" if part.group is None else f", row group {part.group}"
        error.add_note(f"In {part.url}{group}, on {_here()}.")
        raise


def _forget_draft(error: BaseException, folder: Path) -> None:
    """Take back what a run says of its draft, which goes with the folder: parts are kept."""
    notes = getattr(error, "__notes__", [])
    if notes and (isinstance(error, KeyboardInterrupt) or folder.name in notes[-1]):
        del notes[-1]


def _check_version(job: Job) -> None:
    if job.version != __version__:
        raise WorkerError(
            f"The job was started with geoembed {job.version}, and {_here()} has {__version__}. "
            f"Install geoembed {job.version} there, and start the worker again."
        )


def _check_here(job: Job, encoder: Any) -> None:
    if encoder.weights_sha256 != job.weights_sha256:
        raise WorkerError(
            f"The encoder {encoder.name!r} has other weights on {_here()} (SHA-256 "
            f"{encoder.weights_sha256[:12]}...) than where the job was started "
            f"({job.weights_sha256[:12]}...). Put the same file on all workers."
        )
    system, path = locate(job.target)
    if not system.exists(f"{path}/{MANIFEST}"):
        raise WorkerError(
            f"The output folder {job.target} is not to be seen from {_here()}. It must be on a "
            "file system that all workers share, or on an object store."
        )


@contextmanager
def _work_folder(job: Job) -> Iterator[Path]:
    """Make a folder of this attempt's own: on the file system of the target, if that is mounted."""
    system, path = locate(job.target)
    if not is_local(system):
        with tempfile.TemporaryDirectory(prefix="geoembed-") as name:
            yield Path(name)
        return
    folder = Path(path) / WORK_FOLDER / uuid.uuid4().hex
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _publish(file: Path, job: Job, part: Part) -> None:
    system, path = locate(job.target)
    try:
        put_whole(system, file, f"{path}/{part.name}", f"{path}/{WORK_FOLDER}")
    except OSError as error:
        raise TableError(f"{job.target}/{part.name} cannot be written: {error}.") from error


def _here() -> str:
    address = worker_address()
    return f"the worker at {address} ({socket.gethostname()})" if address else "this machine"
