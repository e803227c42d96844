"""Pack the pictures of a manifest into WebDataset tars, each picture checked."""

from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from geoembed.errors import OptionError, TableError
from geoembed.evaluation.geolocation.manifests import Manifest, read_manifest
from geoembed.evaluation.geolocation.words import counted, first_of
from geoembed.images.workers import check_workers
from geoembed.progress import progress_bar
from geoembed.training.manifest import digest_rows, find_pictures
from geoembed.training.packing_folder import BAD_PICTURES, PackingFolder
from geoembed.training.shard_index import index_of
from geoembed.training.shard_writing import BadPicture, Rows, write_shard

if TYPE_CHECKING:
    import pandas as pd
    from tqdm import tqdm

__all__ = ["BadPicture", "Packed", "pack"]

_VERSION: Final = 1


@dataclass(frozen=True)
class Packed:
    """What was packed.

    Parameters
    ----------
    folder : Path
        Where the shards are.
    pictures : int
        How many pictures are in them.
    shards : int
        How many tars there are.
    bytes : int
        Their size together.
    bad : tuple of BadPicture
        Pictures that are in none of them; ``bad_pictures.csv`` lists them too.
    found : int
        Shards that were there from an earlier run.
    notes : tuple of str
        What the manifest's reader noticed.
    """

    folder: Path
    pictures: int
    shards: int
    bytes: int
    bad: tuple[BadPicture, ...]
    found: int
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the summary for JSON: bad pictures are counted, not listed.

        Returns
        -------
        dict
            Plain types.
        """
        return {
            "folder": str(self.folder),
            "pictures": self.pictures,
            "shards": self.shards,
            "bytes": self.bytes,
            "bad": len(self.bad),
            "bad_pictures": str(self.folder / BAD_PICTURES),
            "found": self.found,
            "notes": list(self.notes),
        }


def pack(
    manifest: "str | PathLike[str] | pd.DataFrame | Manifest",
    images: "str | PathLike[str]",
    folder: "str | PathLike[str]",
    *,
    per_shard: int = 10_000,
    max_side: int = 0,
    workers: int | None = None,
    file: str | None = None,
    lon: str | None = None,
    lat: str | None = None,
    on_invalid: str = "raise",
    force: bool = False,
    progress: bool | None = None,
) -> Packed:
    """Pack pictures into tars that training reads.

    Every picture is decoded to its last pixel. Bad and missing ones are left out, and listed with
    reasons in ``bad_pictures.csv``. A run that was stopped, by whatever, is gone on with by
    calling it again: finished shards stay. The same pictures give the same bytes.

    Parameters
    ----------
    manifest : str, path, DataFrame or Manifest
        Which picture was taken where; as `geoembed.evaluation.geolocation.read_manifest` takes it.
    images : str or path
        Folder that the manifest's names start from.
    folder : str or path
        Where the shards are written: ``shard-000000.tar`` and so on, each with its index.
    per_shard : int
        Rows of the manifest for each shard.
    max_side : int
        Pictures with a longer side are made smaller, and stored as JPEG; 0 stores all of them as
        they are.
    workers : int, optional
        Threads that read and decode; None takes one for each core, at most 8.
    file, lon, lat : str, optional
        Names of the manifest's columns, where they are not the usual ones.
    on_invalid : {"raise", "drop"}
        What becomes of rows without a place or a picture's name.
    force : bool
        Start again, and replace shards of an earlier packing.
    progress : bool or None
        Show a progress bar; None shows it on a terminal.

    Returns
    -------
    Packed
        Counts, and what is wrong with the bad pictures.

    Raises
    ------
    TableError
        If the manifest cannot be read or has no rows, no picture is good, the folder holds
        something else, another run is packing into it, or it cannot be written.
    CoordinateError
        If places are missing, out of range, or look swapped.
    OptionError
        If there is no folder of pictures, or an option is out of its range.

    Notes
    -----
    A JPEG carries no check sum: damage inside it that leaves it decodable is not found.

    Examples
    --------
    >>> import tempfile
    >>> import pandas as pd
    >>> from PIL import Image
    >>> images = Path(tempfile.mkdtemp())
    >>> Image.new("RGB", (4, 3), "red").save(images / "a.jpg")
    >>> table = pd.DataFrame({"IMG_FILE": ["a.jpg", "b.jpg"], "LAT": [48.9, 0], "LON": [2.4, 9]})
    >>> packed = pack(table, images, images / "shards")
    >>> packed.pictures, packed.bad[0].name, packed.bad[0].reason
    (1, 'b.jpg', 'There is no such file.')
    """
    for name, value, least in (("per_shard", per_shard, 1), ("max_side", max_side, 0)):
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise OptionError(f"{name}={value!r} must be a whole number, {least} or more.")
    workers = check_workers(workers)
    read = read_manifest(manifest, file=file, lon=lon, lat=lat, on_invalid=on_invalid)
    if not any(find_pictures(read, images)):
        raise TableError(
            f"None of the {counted(len(read), 'picture')} of {read.name} is in {images}: "
            f"{first_of(read.files)}. Give the folder that the names start from."
        )
    request = {
        "version": _VERSION,
        "manifest": digest_rows(read.files, read.lonlat),
        "rows": len(read),
        "images": str(Path(images).expanduser().absolute()),
        "per_shard": per_shard,
        "max_side": max_side,
    }
    shards = [
        Rows(start, read.files[rows], str(images), read.lonlat[rows])
        for start in range(0, len(read), per_shard)
        for rows in [slice(start, start + per_shard)]
    ]
    into = PackingFolder(Path(folder).expanduser(), request, len(shards))
    bar = progress_bar(progress, text="packing", unit="picture", total=len(read))
    try:
        with into.taken(force=force) as reports, bar:
            found = len(reports)
            bar.update(sum(len(shards[number].names) for number in reports))
            for number in sorted(set(range(len(shards))) - set(reports)):
                reports[number] = _pack_shard(into, number, shards[number], max_side, workers, bar)
            ordered = [reports[number] for number in range(len(shards))]
            into.finish(ordered)
    except KeyboardInterrupt as error:
        error.add_note(f"Finished shards stay in {folder}: pack again as before, and it goes on.")
        raise
    return _summary(into.folder, read, ordered, found)


def _pack_shard(
    into: PackingFolder, number: int, rows: Rows, max_side: int, workers: int, bar: "tqdm[Any]"
) -> dict[str, Any]:
    tar = into.tar(number)
    report = write_shard(rows, tar, max_side=max_side, workers=workers, done=bar.update)
    if report["pictures"]:
        index_of(tar)
    # Last: it says that all the rest is there.
    into.report(number, report)
    return report


def _summary(folder: Path, read: Manifest, reports: list[dict[str, Any]], found: int) -> Packed:
    bad = tuple(BadPicture(*one) for report in reports for one in report["bad"])
    if len(bad) == len(read):
        raise TableError(
            f"None of the {counted(len(read), 'picture')} of {read.name} can be packed: "
            f"{bad[0].name}: {bad[0].reason} {BAD_PICTURES} in {folder} lists all of them."
        )
    return Packed(
        folder,
        pictures=len(read) - len(bad),
        shards=sum(report["pictures"] > 0 for report in reports),
        bytes=sum(report["bytes"] for report in reports),
        bad=bad,
        found=found,
        notes=read.notes,
    )
