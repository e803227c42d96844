"""Fitted systems as folders of safetensors and JSON, loaded without running their code."""

import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from sklearn.utils.validation import check_is_fitted

from geoembed import __version__
from geoembed.errors import SavedHeadError
from geoembed.extending.registry import head_specs, resolve_factory
from geoembed.geolocation.calibration import Calibration
from geoembed.heads.saving.folders import sha256
from geoembed.images import ImageEncoder
from geoembed.weights.drafts import draft_folder
from geoembed_systems.cells.adaptive import Partition
from geoembed_systems.pictures.features import Layout
from geoembed_systems.shared.naming import named, under

if TYPE_CHECKING:
    from geoembed_systems.shared.base import System

__all__ = ["CONFIG", "FORMAT", "MODEL", "load_as", "load_system", "save_system"]

CONFIG: Final = "config.json"
MODEL: Final = "model.safetensors"
FORMAT: Final = "geoembed system"
_VERSION: Final = 1

_PARTITION: Final = "partition."
_LEARNED: Final = "learned."
_NEEDED: Final = {
    "class": str,
    "parameters": dict,
    "layout": dict,
    "partition": dict,
    "learned": dict,
    "model": dict,
}
# Of this machine and this run, not of what was learned; and what is saved as something learned.
_NOT_KEPT: Final = ("device", "progress", "run_folder", "resume", "partition", "hierarchy")

_Loaded = TypeVar("_Loaded", bound="System")


def save_system(system: "System", folder: str | Path, *, overwrite: bool = False) -> Path:
    """Write a fitted system to a folder; see `geoembed_systems.shared.base.System.save`.

    Parameters
    ----------
    system : System
        Fitted.
    folder : str or Path
        To be made.
    overwrite : bool
        Replace a saved system of that name.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    NotFittedError
        If it is not fitted.
    SavedHeadError
        If it cannot be written.
    """
    check_is_fitted(system, "layout_")
    target = _check_folder(folder, overwrite=overwrite)
    tensors, config = _describe(system)
    try:
        with draft_folder(target) as draft:
            # One that a killed process had moved away may be there again.
            _check_folder(folder, overwrite=overwrite)
            save_file(tensors, draft / MODEL)
            config["model"] = {
                "bytes": (draft / MODEL).stat().st_size,
                "sha256": sha256(draft / MODEL),
            }
            text = json.dumps(config, indent=1, ensure_ascii=False, allow_nan=False)
            (draft / CONFIG).write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        cause = os.strerror(error.errno) if error.errno else str(error)
        raise SavedHeadError(f"{target} cannot be written: {cause}.") from error
    except (TypeError, ValueError) as error:
        raise SavedHeadError(
            f"{type(system).__name__} has learned or was given something that JSON cannot hold: "
            f"{error}."
        ) from error
    return target


def load_system(folder: str | Path) -> "System":
    """Load a fitted system of any registered kind from a folder; no code from it is run.

    Parameters
    ----------
    folder : str or Path
        Written by `geoembed_systems.shared.base.System.save`.

    Returns
    -------
    System
        Fitted; it answers the same, bit for bit, with the same versions of the packages on the
        same kind of machine.

    Raises
    ------
    SavedHeadError
        If there is no saved system, it is of another version's format, a file is missing or
        damaged, the files do not belong together, or its kind is not registered here.
    """
    path = Path(folder).expanduser()
    config = _read_config(path)
    return _load(_registered(path, config), path, config)


def load_as(kind: type[_Loaded], folder: str | Path) -> _Loaded:
    """Load a system of a class that is there; see `geoembed_systems.shared.base.System.load`.

    Parameters
    ----------
    kind : type
        The class, or one that it derives from.
    folder : str or Path
        Written by `save_system`.

    Returns
    -------
    System
        Fitted.

    Raises
    ------
    SavedHeadError
        If the folder holds a system of another class, or as `load_system`.
    """
    path = Path(folder).expanduser()
    config = _read_config(path)
    if config["class"] != _path_of(kind):
        raise SavedHeadError(
            f"{path} holds a {config['class'].rpartition(':')[2]}, not a {kind.__name__}: load it "
            "with load_system(folder)."
        )
    return _load(kind, path, config)


def _describe(system: "System") -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Return tensors and configuration of a fitted system."""
    kind = type(system)
    arrays, partition = system.partition_.to_state()
    learned, facts = system._state()
    whole = named(_PARTITION, arrays) | named(_LEARNED, learned)
    tensors = {name: _array(value) for name, value in whole.items()}
    calibration: Calibration | None = getattr(system, "calibration_", None)
    spec = next((s for s in head_specs().values() if s.factory == _path_of(kind)), None)
    config = {
        "format": FORMAT,
        "format_version": _VERSION,
        "geoembed": __version__,
        "system": None if spec is None else spec.name,
        "class": _path_of(kind),
        "distribution": kind.__module__ if spec is None else spec.owner,
        "parameters": {
            name: _plain(name, value)
            for name, value in system.get_params(deep=False).items()
            if name not in _NOT_KEPT
        },
        "layout": system.layout_.to_dict(),
        "partition": partition,
        "learned": facts,
        "calibration": None if calibration is None else calibration.to_dict(),
        "rows": system.rows_,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    return tensors, config


def _load(kind: type[_Loaded], path: Path, config: Mapping[str, Any]) -> _Loaded:
    tensors = _read_tensors(path, config["model"])
    partition = under(_PARTITION, tensors)
    try:
        system = kind(**{name: _tupled(value) for name, value in config["parameters"].items()})
        system.partition_ = Partition.from_state(partition, config["partition"])
        system.layout_ = Layout.from_dict(config["layout"])
        system.rows_ = int(config.get("rows") or 0)
        if config.get("calibration") is not None:
            system.calibration_ = Calibration.from_dict(config["calibration"])
        system._restore(under(_LEARNED, tensors), config["learned"])
    except SavedHeadError as error:
        raise SavedHeadError(f"{path} cannot be loaded: {error}") from error
    except (TypeError, KeyError, ValueError, RuntimeError) as error:
        raise SavedHeadError(
            f"{path} cannot be loaded: {type(error).__name__}: {error}. It was saved by geoembed "
            f"{config.get('geoembed')} with {config.get('distribution')}, and {__version__} is "
            "here: its files do not belong together, or are of another version. Fit and save it "
            "again."
        ) from error
    return system


def _registered(path: Path, config: Mapping[str, Any]) -> "type[System]":
    """Return the class among those registered; nothing that a folder names is imported else."""
    # It has the methods that call this module.
    from geoembed_systems.shared.base import System

    for spec in head_specs().values():
        if spec.factory == config["class"]:
            found = resolve_factory(spec.factory, owner=spec.owner)
            if isinstance(found, type) and issubclass(found, System):
                return found
    name = config["class"].rpartition(":")[2]
    raise SavedHeadError(
        f"{path} holds a {name} ({config['class']}) from {config.get('distribution')}, which is "
        "not among the systems registered here. Install that distribution ('geoembed plugins' "
        f"lists what is here); a class of your own loads with {name}.load(folder)."
    )


def _read_config(path: Path) -> dict[str, Any]:
    file = path / CONFIG
    if not file.is_file():
        raise SavedHeadError(
            f"{path} holds no saved system: there is no {CONFIG} in it. Give the folder that "
            "system.save(folder) has written."
        )
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SavedHeadError(f"{file} is damaged: {error}. Save the system again.") from error
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise SavedHeadError(f"{file} describes no system of geoembed-systems.")
    if found.get("format_version") != _VERSION:
        raise SavedHeadError(
            f"{path} is in format {found.get('format_version')!r}, written by geoembed "
            f"{found.get('geoembed')}; this version, {__version__}, reads format {_VERSION}. "
            "Update geoembed-systems, or fit and save the system again with this version."
        )
    for key, kind in _NEEDED.items():
        if not isinstance(found.get(key), kind):
            raise SavedHeadError(f"{file} is damaged: {key!r} is missing. Save the system again.")
    return found


def _read_tensors(path: Path, facts: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    file = path / MODEL
    if not file.is_file():
        raise SavedHeadError(f"{path} is not whole: there is no {MODEL} in it. Copy it again.")
    if file.stat().st_size != facts.get("bytes") or sha256(file) != facts.get("sha256"):
        raise SavedHeadError(
            f"{file} is not the file that was saved: its size or SHA-256 is not the one in "
            f"{CONFIG}. Do not use it; copy or save it again."
        )
    try:
        return dict(load_file(file))
    except SafetensorError as error:
        raise SavedHeadError(f"{file} cannot be read as tensors: {error}.") from error


def _check_folder(folder: str | Path, *, overwrite: bool) -> Path:
    """Refuse a folder that a system cannot be saved to; nothing else in it may be lost."""
    path = Path(folder).expanduser()
    target = Path(os.path.realpath(path)) if path.is_symlink() else path.absolute()
    if not target.parent.is_dir():
        raise SavedHeadError(f"There is no folder {target.parent} to write {target.name} to.")
    if not target.exists():
        return target
    if not target.is_dir():
        raise SavedHeadError(f"{path} is a file. Give the name of a folder that is not there yet.")
    held = {entry.name for entry in target.iterdir()}
    strangers = sorted(held - {CONFIG, MODEL})
    if strangers or (held and not _is_system(target)):
        raise SavedHeadError(
            f"{path} holds other things than a saved system: "
            f"{', '.join(map(repr, (strangers or sorted(held))[:3]))}. Choose another folder."
        )
    if held and not overwrite:
        raise SavedHeadError(f"{path} exists already. Pass overwrite=True to replace it.")
    return target


def _is_system(folder: Path) -> bool:
    """Whether a folder says it is a system, of any version; models have the same file names."""
    try:
        told = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(told, dict) and told.get("format") == FORMAT


def _plain(name: str, value: Any) -> Any:
    """Return an option as JSON holds it."""
    if isinstance(value, ImageEncoder):
        return value.name
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, np.generic):
        return value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        return [_plain(name, each) for each in value]
    if isinstance(value, Mapping):
        return {str(key): _plain(name, each) for key, each in value.items()}
    raise SavedHeadError(
        f"{name}={value!r:.80} cannot be saved: it is no number, text, list or mapping of these. "
        "Set it to something else with set_params()."
    )


def _tupled(value: Any) -> Any:
    """JSON has no tuples, and estimators compare their options."""
    return tuple(_tupled(each) for each in value) if isinstance(value, list) else value


def _array(value: Any) -> NDArray[Any]:
    # A tensor on whatever device; numpy has no bfloat16, and nothing learned is kept in it.
    there = value.detach().cpu().numpy() if hasattr(value, "detach") else value
    return np.ascontiguousarray(there)


def _path_of(kind: type) -> str:
    return f"{kind.__module__}:{kind.__qualname__}"
