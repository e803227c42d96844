"""Which tars of a folder are its shards, and whether all of them are there."""

import json
import re
import warnings
from pathlib import Path
from typing import Final

from geoembed.errors import OptionError, TableError
from geoembed.evaluation.geolocation.words import counted
from geoembed.training.shard_index import INDEX_SUFFIX, ShardWarning

__all__ = ["PACKED", "REQUEST", "find_tars"]

PACKED: Final = "shards.json"
"""What `geoembed.training.packing.pack` writes last: its shards, with size and digest."""
REQUEST: Final = "packing.json"
"""What it writes first: what was asked for."""

_SHOWN: Final = 5


def find_tars(folder: Path) -> list[Path]:
    """List the shards of a folder.

    Parameters
    ----------
    folder : Path
        With tars; or one tar.

    Returns
    -------
    list of Path
        By name. What lies deeper is not looked at.

    Raises
    ------
    OptionError
        If there is no such folder.
    TableError
        If it holds no tars, or not those that a packing or earlier indexes speak of.

    Warns
    -----
    ShardWarning
        If numbers in the names have a gap.
    """
    if folder.is_file():
        return [folder]
    if not folder.is_dir():
        raise OptionError(f"There is no folder {folder}: give the one with the tars.")
    tars = sorted(folder.glob("*.tar"))
    packed = (folder / PACKED).is_file()
    if packed:
        _check_packed(folder, tars)
    elif (folder / REQUEST).is_file():
        raise TableError(
            f"The packing of {folder} is not finished. Go on with it: run 'geoembed data pack' "
            "again as it was."
        )
    if not tars:
        others = sorted(path.name for path in folder.glob("*.tar.*") if path.suffix != INDEX_SUFFIX)
        hint = f" {others[0]} is compressed: unpack it." if others else ""
        raise TableError(f"There are no tars (*.tar) in {folder}.{hint}")
    if packed:
        return tars
    indexed = {path.name.removesuffix(INDEX_SUFFIX) for path in folder.glob(f"*.tar{INDEX_SUFFIX}")}
    gone = sorted(indexed - {tar.name for tar in tars})
    if gone:
        raise TableError(
            f"{counted(len(gone), 'shard')} of {folder} {'is' if len(gone) == 1 else 'are'} "
            f"missing, whose index is there: {', '.join(gone[:_SHOWN])}. Bring them back, or "
            "remove their index to do without."
        )
    _warn_of_gaps(folder, tars)
    return tars


def _check_packed(folder: Path, tars: list[Path]) -> None:
    """Compare the tars with what the packing says that it wrote."""
    try:
        listed = {
            str(shard["file"]): int(shard["bytes"])
            for shard in json.loads((folder / PACKED).read_text(encoding="utf-8"))["shards"]
            if shard["pictures"]
        }
    except (ValueError, KeyError, TypeError) as error:
        raise TableError(
            f"{folder / PACKED} is damaged ({type(error).__name__}: {error}). Bring it back, or "
            "remove it, and the tars are taken as they are."
        ) from error
    there = {tar.name: tar.stat().st_size for tar in tars}
    problems = [
        f"{name} is missing"
        if name not in there
        else f"{name} has {there[name]:,} bytes in place of {size:,}"
        for name, size in listed.items()
        if there.get(name) != size
    ]
    problems += [f"{name} is none of them" for name in there if name not in listed]
    if problems:
        more = f"; and {len(problems) - _SHOWN:,} more" if len(problems) > _SHOWN else ""
        raise TableError(
            f"The shards of {folder} are not those that {PACKED} lists: "
            f"{'; '.join(problems[:_SHOWN])}{more}. Copy them again, or pack again with "
            "'geoembed data pack'."
        )


def _warn_of_gaps(folder: Path, tars: list[Path]) -> None:
    numbers: dict[str, list[int]] = {}
    for tar in tars:
        found = re.fullmatch(r"(.*?)(\d+)", tar.stem)
        if found:
            numbers.setdefault(found[1], []).append(int(found[2]))
    for stem, there in numbers.items():
        if max(there) - min(there) >= 2 * len(there):
            continue  # dates, or names of another kind
        gap = sorted(set(range(min(there), max(there))) - set(there))
        if gap:
            warnings.warn(
                f"Shards of {folder} may be missing: the numbers of {stem}*.tar run from "
                f"{min(there)} to {max(there)} without {', '.join(map(str, gap[:_SHOWN]))}"
                f"{' and others' if len(gap) > _SHOWN else ''}.",
                ShardWarning,
                stacklevel=4,
            )
