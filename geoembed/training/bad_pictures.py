"""bad_pictures.csv: every picture of a run that could not be read, and why."""

import csv
import io
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from geoembed.training.batches import TrainingData
from geoembed.training.distributed import Processes
from geoembed.training.run_folder import RunFolder

__all__ = ["gather_bad", "write_bad"]


def gather_bad(processes: Processes, bad: Mapping[int, str]) -> dict[int, str]:
    """Collect what each process found.

    Parameters
    ----------
    processes : Processes
        All of them call it.
    bad : mapping of int to str
        Row to reason, of this process.

    Returns
    -------
    dict of int to str
        Of all processes, the same in each.

    Examples
    --------
    >>> gather_bad(Processes(), {3: "no file"})
    {3: 'no file'}
    """
    if processes.world == 1:
        return dict(bad)
    text = json.dumps({int(row): reason for row, reason in bad.items()}).encode()
    sizes = processes.gather(torch.tensor([len(text)]), processes.world).tolist()
    padded = np.zeros((1, max(sizes)), np.uint8)
    padded[0, : len(text)] = np.frombuffer(text, np.uint8)
    rows = processes.gather(torch.from_numpy(padded), processes.world).numpy()
    found: dict[int, str] = {}
    for row, size in zip(rows, sizes, strict=True):
        for number, reason in json.loads(row[:size].tobytes()).items():
            found[int(number)] = reason
    return found


def write_bad(folder: RunFolder, data: TrainingData, bad: Mapping[int, str]) -> int:
    """Write the list.

    Parameters
    ----------
    folder : RunFolder
        Of the run. What stands there already stays.
    data : TrainingData
        Of the run; its `missing` ones and their `reasons` stand first.
    bad : mapping of int to str
        Row to reason.

    Returns
    -------
    int
        How many are listed.
    """
    listed = _listed(folder)
    missing = getattr(data, "missing", [])
    reasons = getattr(data, "reasons", [""] * len(missing))
    for name, reason in zip(missing, reasons, strict=True):
        listed[name] = ("", reason)
    for row in sorted(bad):
        listed[data.names[row]] = (str(row), bad[row])
    text = io.StringIO()
    writer: Any = csv.writer(text, lineterminator="\n")
    writer.writerow(["name", "row", "reason"])
    writer.writerows([name, row, reason] for name, (row, reason) in listed.items())
    folder.write_text(folder.bad_pictures, text.getvalue())
    return len(listed)


def _listed(folder: RunFolder) -> dict[str, tuple[str, str]]:
    if not folder.bad_pictures.exists():
        return {}
    with folder.bad_pictures.open(encoding="utf-8", newline="") as file:
        return {row["name"]: (row["row"], row["reason"]) for row in csv.DictReader(file)}
