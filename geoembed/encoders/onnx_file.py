"""Exported location encoders in ONNX files: what they say of themselves, and running them."""

import base64
import json
import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from geoembed.encoders.layers import Part, Shape, name_features, parse_layers
from geoembed.encoders.onnx_held import HeldFile
from geoembed.errors import WeightsError
from geoembed.optional import import_optional

__all__ = ["PROBE", "FileFacts", "OnnxFile", "open_onnx"]

# In the metadata of a file; a file of another one is not read.
_FORMAT: Final = "geoembed location encoder 1"
_PRECISIONS: Final = ("float32", "float64", "int8")

# A place whose vector stands in the file, so that it is known to come out on this machine too.
PROBE: Final = (7.5, 46.9)
# Largest difference, of its length. Files are compared at thousands of places when they are
# written; this finds damage, and processors that compute otherwise.
_PROBE_APART: Final = {"float32": 1e-4, "float64": 1e-6, "int8": 0.2}


@dataclass(frozen=True, kw_only=True)
class FileFacts:
    """What a file must say for its vectors to be an encoder's.

    Parameters
    ----------
    name : str
        Of the encoder, for example ``"geoclip.v1"``.
    weights_sha256 : str
        Of the encoder.
    precision : {"float32", "float64", "int8"}
        What the layers compute in.
    projection : str
        The network's first step, see `geoembed.encoders.projections.project`.
    shape : Shape
        Of the network.
    layers, best_layers : str
        Which layers make up its vectors, and which the encoder recommends for heads.
    normalize : bool
        Whether vectors come out scaled to length 1.
    probe : array of shape (dimension,), float32
        The encoder's own vector of the place `PROBE`.
    licence, paper, training_data, version : str
        Provenance, and the version of geoembed that wrote the file.

    Raises
    ------
    OptionError
        If the layers are not some of the shape's.

    Examples
    --------
    >>> facts = FileFacts(
    ...     name="tiny.v1",
    ...     weights_sha256="ab" * 32,
    ...     precision="int8",
    ...     projection="sphere",
    ...     shape=Shape(scales=2, hidden=(8,), output=4),
    ...     layers="scale1+final",
    ...     probe=np.ones(8, np.float32),
    ... )
    >>> facts.dimension, facts.to_metadata()["feature_names"]
    (8, 'tiny.v1_scale1_000 to tiny.v1_scale1_003, tiny.v1_000 to tiny.v1_003')
    """

    name: str
    weights_sha256: str
    precision: str
    projection: str
    shape: Shape
    layers: str
    probe: NDArray[np.float32]
    best_layers: str = "final"
    normalize: bool = False
    licence: str = ""
    paper: str = ""
    training_data: str = ""
    version: str = ""

    @property
    def parts(self) -> tuple[Part, ...]:
        """What makes up a vector of the file, in order."""
        return parse_layers(self.layers, self.shape)

    @property
    def dimension(self) -> int:
        """Length of a vector of the file."""
        return sum(part.width for part in self.parts)

    def to_metadata(self) -> dict[str, str]:
        """Return the facts as the metadata of an ONNX file hold them.

        Returns
        -------
        dict of str to str
            Without those that are empty.
        """
        shape = {"scales": self.shape.scales, "hidden": self.shape.hidden}
        facts = {
            "format": _FORMAT,
            "encoder": self.name,
            "weights_sha256": self.weights_sha256,
            "precision": self.precision,
            "projection": self.projection,
            "shape": json.dumps({**shape, "output": self.shape.output}),
            "layers": self.layers,
            "best_layers": self.best_layers,
            "normalize": str(self.normalize).lower(),
            "dimension": str(self.dimension),
            "feature_names": self._feature_names(),
            "probe": base64.b64encode(self.probe.astype("<f4").tobytes()).decode(),
            "licence": self.licence,
            "paper": self.paper,
            "training_data": self.training_data,
            "geoembed_version": self.version,
        }
        return {key: value for key, value in facts.items() if value}

    @classmethod
    def from_metadata(cls, told: Mapping[str, str]) -> Self:
        """Read what `to_metadata` wrote.

        Parameters
        ----------
        told : mapping of str to str
            Metadata of a file.

        Returns
        -------
        FileFacts
            Consistent with each other.

        Raises
        ------
        ValueError
            If a fact is missing, unreadable or contradicts another; the message names it.
        """
        if told.get("format") != _FORMAT:
            raise ValueError(f"'format' is {told.get('format')!r}, expected {_FORMAT!r}")
        needed = ("encoder", "weights_sha256", "precision", "projection", "layers", "probe")
        missing = [key for key in needed if not told.get(key)]
        if missing:
            raise ValueError(f"{', '.join(map(repr, missing))} missing")
        if told["precision"] not in _PRECISIONS:
            raise ValueError(f"'precision' is {told['precision']!r}")
        try:
            shape: Any = json.loads(told["shape"])
            facts = cls(
                name=told["encoder"],
                weights_sha256=told["weights_sha256"],
                precision=told["precision"],
                projection=told["projection"],
                shape=Shape(int(shape["scales"]), tuple(shape["hidden"]), int(shape["output"])),
                layers=told["layers"],
                best_layers=told.get("best_layers", "final"),
                normalize=told["normalize"] == "true",
                probe=np.frombuffer(base64.b64decode(told["probe"]), "<f4").astype(np.float32),
                licence=told.get("licence", ""),
                paper=told.get("paper", ""),
                training_data=told.get("training_data", ""),
                version=told.get("geoembed_version", ""),
            )
            expected = facts.to_metadata()
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"unreadable ({type(error).__name__}: {error})") from error
        for key in ("dimension", "feature_names"):
            if told.get(key) != expected[key]:
                raise ValueError(f"{key!r} is {told.get(key)!r:.60}, expected {expected[key]!r}")
        if facts.probe.shape != (facts.dimension,):
            raise ValueError(f"'probe' has {len(facts.probe)} values, not {facts.dimension}")
        return facts

    def _feature_names(self) -> str:
        """First and last name of every part: all of them would be half the size of the weights."""
        parts = [(part.label, part.width) for part in self.parts]
        named = [name_features(self.name, [part]) for part in parts]
        return ", ".join(f"{names[0]} to {names[-1]}" for names in named)


class OnnxFile:
    """An exported encoder, opened in onnxruntime on the CPU.

    Made by `open_onnx`, not directly.

    Parameters
    ----------
    held : HeldFile
        The file.
    session : onnxruntime.InferenceSession
        Takes ``lon`` and ``lat`` (n,), double; gives ``embedding`` (n, d).
    facts : FileFacts
        What its metadata say.
    """

    def __init__(self, held: HeldFile, session: Any, facts: FileFacts) -> None:
        self.path = held.path
        self._held = held
        self.process = os.getpid()
        self.facts = facts
        self._run = session.run

    def __call__(self, lonlat: NDArray[np.float64]) -> NDArray[np.floating[Any]]:
        """Return vectors (n, d) of lon/lat (n, 2), degrees, WGS 84; several threads may ask."""
        lon, lat = np.ascontiguousarray(lonlat.T)
        vectors: NDArray[np.floating[Any]] = self._run(None, {"lon": lon, "lat": lat})[0]
        return vectors

    def again(self) -> "OnnxFile":
        """Open the very file in a forked process, which lacks the threads of the first.

        Returns
        -------
        OnnxFile
            The same for all who ask in that process.

        Raises
        ------
        WeightsError
            If the file has been overwritten. One that was deleted, or replaced by renaming another
            to its name, is still there for those who had opened it.
        """
        opened = _open(self._held, os.getpid(), _threads())
        if opened.facts.to_metadata() != self.facts.to_metadata():
            raise WeightsError(
                f"{self.path} holds another encoder than the one that was opened: it has been "
                "overwritten. Start this process again."
            )
        return opened


def open_onnx(path: Path) -> OnnxFile:
    """Open an exported location encoder, once a process, and check what it says of itself.

    Parameters
    ----------
    path : Path
        Written by ``geoembed export --format onnx``.

    Returns
    -------
    OnnxFile
        The same one until the file changes; another one off the main thread, and in a forked
        process, where the threads of the first are missing.

    Raises
    ------
    MissingExtraError
        If onnxruntime is not installed.
    WeightsError
        If the file is not there or damaged, is another kind of ONNX file, or does not give here
        the vector that it gave when it was written.

    Notes
    -----
    Opened on the main thread, it computes on as many threads as the environment variable
    ``OMP_NUM_THREADS`` says, and without it on one for each core. Opened on any other thread, as
    workers and servers do, it computes on that one alone, whatever was inherited: several of them
    share the cores. Threads that wait do not spin.

    Examples
    --------
    >>> open_onnx(Path("missing.onnx"))
    Traceback (most recent call last):
    ...
    geoembed.errors.WeightsError: There is no weights file or folder missing.onnx.
    """
    try:
        held = HeldFile(path)
    except FileNotFoundError as error:
        raise WeightsError(f"There is no weights file or folder {path}.") from error
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror or error}.") from error
    return _open(held, os.getpid(), _threads())


@lru_cache(maxsize=8)
def _open(held: HeldFile, process: int, threads: int) -> OnnxFile:
    path = held.path
    runtime = import_optional("onnxruntime", extra="onnx", purpose="Running an ONNX file")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    # Spinning threads win microseconds and take whole cores from other processes.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    try:
        session = _session(runtime.InferenceSession, held, options)
    except WeightsError:
        raise
    # The runtime raises classes of its own, one for each way of being damaged.
    except Exception as error:
        reason = (str(error).strip().splitlines() or ["no reason given"])[0]
        raise WeightsError(f"{path} cannot be read as an ONNX file: {reason:.200}") from error
    again = f"Write it with: geoembed export NAME --format onnx -o {path.name}"
    try:
        facts = FileFacts.from_metadata(session.get_modelmeta().custom_metadata_map)
    except ValueError as error:
        raise WeightsError(
            f"{path} is not an ONNX file that this version of geoembed has written. Of its "
            f"metadata, {error}. {again}"
        ) from error
    takes = {value.name: value.type for value in session.get_inputs()}
    gives = [value.shape[1:] for value in session.get_outputs()]
    if takes != dict.fromkeys(("lon", "lat"), "tensor(double)") or gives != [[facts.dimension]]:
        raise WeightsError(
            f"{path} takes {takes} and gives {gives}, expected lon and lat in double and "
            f"{facts.dimension} values. {again}"
        )
    if facts.normalize:
        # The mean of several points, which geometry="sample" takes, is one of unscaled vectors.
        raise WeightsError(
            f"{path} holds vectors scaled to length 1; geoembed scales them itself. Export it "
            "without --normalize, and pass normalize=True."
        )
    opened = OnnxFile(held, session, facts)
    _check_probe(opened, again)
    return opened


def _session(make: Any, held: HeldFile, options: Any) -> Any:
    """Run the file that is held, by its name if it has that still."""
    chosen = {"sess_options": options, "providers": ["CPUExecutionProvider"]}
    if held.is_named():
        session = make(str(held.path), **chosen)
        if held.is_named():
            return session
    # From its content, which the session keeps: megabytes that only these processes need.
    return make(held.read(), **chosen)


def _check_probe(opened: OnnxFile, again: str) -> None:
    facts = opened.facts
    told = facts.probe.astype(np.float64)
    apart = np.linalg.norm(opened(np.array([PROBE]))[0] - told) / (np.linalg.norm(told) or 1.0)
    if not apart <= _PROBE_APART[facts.precision]:
        raise WeightsError(
            f"{opened.path} does not give the vectors of {facts.name!r} here: at lon {PROBE[0]}, "
            f"lat {PROBE[1]} it is off by {apart:.1e} of the vector's length, allowed is "
            f"{_PROBE_APART[facts.precision]:.0e}. {again}"
        )


def _threads() -> int:
    if threading.current_thread() is not threading.main_thread():
        # One of several that share the cores; torch is limited so by `limit_threads`.
        return 1
    named = os.environ.get("OMP_NUM_THREADS", "")
    if named.isdecimal() and int(named) > 0:
        return int(named)
    # Not os.cpu_count(): of a container's cores only some may be ours.
    cores = getattr(os, "sched_getaffinity", None)
    return len(cores(0)) if cores else os.cpu_count() or 1
