"""From a run, a model folder or a registered encoder to what others use."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError

from geoembed.coordinates import read_places
from geoembed.encoders import load_encoder
from geoembed.errors import GeoembedError, OptionError, TrainingError, unknown_name
from geoembed.extending.registry import gallery_specs, location_encoder_specs
from geoembed.galleries import Gallery, places_of
from geoembed.streaming import read_frames
from geoembed.training.geoclip_format import check_expressible, write_geoclip_folder
from geoembed.training.graph_parity import Parity
from geoembed.training.model_folder import (
    DTYPES,
    FILES,
    own_config,
    save_tensors,
    write_config,
    write_model_folder,
)
from geoembed.training.onnx_export import export_onnx
from geoembed.training.program_export import export_program
from geoembed.training.publishing import check_target, draft_folder
from geoembed.training.run_model import is_run, model_of_run
from geoembed.training.trained_model import TrainedModel, model_of_folder, model_of_name

__all__ = ["FOLDER_FORMATS", "GRAPH_FORMATS", "export_graph", "export_run", "read_model"]

FOLDER_FORMATS: Final = ("geoembed", "geoclip")
GRAPH_FORMATS: Final = ("onnx", "torch")


def export_run(
    source: str | Path,
    folder: str | Path,
    *,
    format: str = "geoembed",
    checkpoint: str | int = "best",
    dtype: str = "float32",
    gallery: Any = None,
    name: str = "",
    overwrite: bool = False,
) -> TrainedModel:
    """Write a model folder: ``config.json``, ``model.safetensors`` and a card.

    Parameters
    ----------
    source : str or path
        Folder of a training run, a model folder of either format, a weights file, or the name of a
        registered location encoder.
    folder : str or path
        To be written. It appears when it is whole.
    format : {"geoembed", "geoclip"}
        ``"geoembed"`` holds everything; ``"geoclip"`` is what the package geoclip reads.
    checkpoint : {"best", "last"} or int
        Of a run: the best one, the newest one, or the one of a step.
    dtype : {"float32", "float16"}
        Of the weights in the file; frequencies and temperature stay float32.
    gallery : str, path, Gallery or array of shape (n, 2), optional
        For ``format="geoclip"``: places to look pictures up among, a registered gallery, a
        gallery's folder, a table file, or (lon, lat). With it the whole model is written, without
        it the location encoder alone.
    name : str
        What the model is called, ``family.tag``; its own name if not given.
    overwrite : bool
        Replace an exported model that is there.

    Returns
    -------
    TrainedModel
        What was written.

    Raises
    ------
    OptionError
        If an option does not fit, the folder is there, or the format cannot hold the model; the
        message names every field.
    UnknownNameError, WeightsError, TrainingError
        If there is no such source, it is damaged, or the folder cannot be written.

    Examples
    --------
    >>> model = export_run("geoclip.v1", "mine", dtype="float16", name="mine.v1")
    >>> sorted(path.name for path in Path("mine").iterdir())
    ['README.md', 'config.json', 'model.safetensors']
    >>> load_encoder("mine").dimension
    512
    """
    for option, value, choices in (("format", format, FOLDER_FORMATS), ("dtype", dtype, DTYPES)):
        if value not in choices:
            raise OptionError(f"{option}={value!r} is not one of: {', '.join(choices)}.")
    if gallery is not None and format != "geoclip":
        raise OptionError(
            "gallery= belongs to format='geoclip', whose folders carry one. A gallery for a model "
            "in geoembed's format is built from the folder: geoembed gallery build."
        )
    target = check_target(folder, overwrite=overwrite, holds=FILES)
    model = read_model(source, checkpoint=checkpoint, name=name)
    lonlat = None
    if format == "geoclip":
        check_expressible(model, images=gallery is not None)
        lonlat = None if gallery is None else _gallery_places(gallery)
    with draft_folder(target) as draft:
        if format == "geoclip":
            write_geoclip_folder(model, draft, gallery=lonlat, dtype=dtype)
        else:
            write_model_folder(model, draft, dtype=dtype)
    return model


def export_graph(
    source: str | Path,
    path: str | Path,
    *,
    format: str = "onnx",
    checkpoint: str | int = "best",
    layers: str = "final",
    normalize: bool = False,
    int8: bool = False,
    name: str = "",
    overwrite: bool = False,
) -> Parity:
    """Write the location encoder of a model as a file that runs without geoembed.

    Parameters
    ----------
    source, checkpoint, name, overwrite
        As for `export_run`.
    path : str or path
        The file to be written; for ``format="onnx"`` its name ends in ``.onnx``, by which
        `geoembed.load_encoder` knows it.
    format : {"onnx", "torch"}
        See `geoembed.training.onnx_export.export_onnx` and
        `geoembed.training.program_export.export_program`.
    layers : str
        Which layers make up a vector, see `geoembed.load_encoder`.
    normalize : bool
        Scale every vector to unit Euclidean norm.
    int8 : bool
        For ``format="onnx"``: keep the layers' weights in 8 bits.

    Returns
    -------
    Parity
        How near its vectors are to the encoder's.

    Raises
    ------
    OptionError, UnknownNameError, WeightsError, MissingExtraError, TrainingError
        As `export_run`; if the file would replace the source, or an ONNX file would have the name
        of a registered encoder and other weights; and if its vectors are not the encoder's.

    Examples
    --------
    >>> from geoembed.encoders.network import LocationNetwork
    >>> from safetensors.torch import save_file
    >>> network = LocationNetwork((1.0, 16.0), hidden=(8,), output=4)
    >>> save_file(network.state_dict(), "tiny.safetensors")
    >>> export_graph("tiny.safetensors", "tiny.pt2", format="torch").worst < 1e-5
    True
    """
    if format not in GRAPH_FORMATS:
        raise OptionError(f"format={format!r} is not one of: {', '.join(GRAPH_FORMATS)}.")
    if int8 and format != "onnx":
        raise OptionError(f"int8=True goes with format='onnx', not {format!r}.")
    target = check_target(path, overwrite=overwrite)
    _check_file(path, target, format, source)
    model = read_model(source, checkpoint=checkpoint, name=name)
    if format == "onnx":
        _check_claim(model, source)
    with _written(model) as folder:
        encoder = load_encoder(folder, layers=layers, normalize=normalize, device="cpu")
        if format == "torch":
            return export_program(encoder, target, overwrite=overwrite, name=model.name)
        return export_onnx(encoder, target, overwrite=overwrite, name=model.name, int8=int8)


def _check_file(given: str | Path, target: Path, format: str, source: str | Path) -> None:
    """Refuse names that nothing would know again, and the file that is exported."""
    if str(given).endswith(("/", os.sep)):
        raise OptionError(f"{given} is a folder's name; this export is a file. Choose a name.")
    if format == "onnx" and Path(given).suffix.lower() != ".onnx":
        raise OptionError(
            f"{given} does not end in .onnx, by which geoembed and other programs know an ONNX "
            f"file. Call it {Path(given).name}.onnx."
        )
    path = Path(source).expanduser()
    if str(source) in location_encoder_specs() or not (target.exists() and path.exists()):
        return
    inside = path.is_dir() and target.is_relative_to(path.resolve())
    if path.samefile(target) or (inside and target.suffix.lower() not in (".onnx", ".pt2")):
        raise OptionError(
            f"{given} is what is exported, or a part of it, and would be lost. Choose another name."
        )


def _check_claim(model: TrainedModel, source: str | Path) -> None:
    """Refuse the name of a registered encoder for other weights: no such file can be loaded."""
    if str(source) == model.name or model.name not in location_encoder_specs():
        return
    try:
        registered = load_encoder(model.name, device="cpu").weights_sha256
    except GeoembedError:
        # Its weights are not here; what opens the file compares it with what the spec says.
        return
    if registered != model.location_sha256():
        raise OptionError(
            f"{source} is called {model.name!r} and holds other weights than the registered encoder"
            " of that name, for which an ONNX file of it would be taken. Give it another name: "
            "name='family.tag'."
        )


@contextmanager
def _written(model: TrainedModel) -> Iterator[Path]:
    """Give a temporary folder with a model, from which its encoder is loaded."""
    try:
        room = tempfile.TemporaryDirectory()
    except OSError as error:
        raise TrainingError(
            f"The export needs a temporary folder: {error.strerror or error}. Set TMPDIR to one "
            "that can be written."
        ) from error
    with room:
        folder = Path(room.name, "model")
        try:
            folder.mkdir()
            # No card, which takes a second to measure.
            save_tensors(model.tensors(), folder, model)
            write_config(own_config(model), folder)
        except (OSError, SafetensorError) as error:
            raise TrainingError(
                f"The temporary folder {room.name} cannot hold the model: {error}. Make room "
                "there, or set TMPDIR to another folder."
            ) from error
        yield folder


def read_model(
    source: str | Path, *, checkpoint: str | int = "best", name: str = ""
) -> TrainedModel:
    """Read a trained model, wherever it is.

    Parameters
    ----------
    source, checkpoint, name
        As for `export_run`.

    Returns
    -------
    TrainedModel
        On the CPU.

    Raises
    ------
    UnknownNameError
        If it is neither a registered name nor a path that exists.
    OptionError
        If it has no network, or `name` does not fit.
    WeightsError, TrainingError
        If it is damaged or of another kind.

    Examples
    --------
    >>> read_model("geoclip.v1").name
    'geoclip.v1'
    """
    path = Path(source).expanduser()
    registered = str(source) in location_encoder_specs()
    if not registered and is_run(path):
        model = model_of_run(path, checkpoint)
    elif checkpoint != "best":
        raise OptionError(f"checkpoint={checkpoint!r}: {source} is no run, it has no checkpoints.")
    elif registered:
        model = model_of_name(str(source))
    elif path.exists():
        model = model_of_folder(path)
    else:
        raise unknown_name("run, model folder or encoder", str(source), location_encoder_specs())
    return model.renamed(name) if name else model


def _gallery_places(gallery: Any) -> NDArray[np.float64]:
    """Return places (n, 2) of a gallery however it is given."""
    if isinstance(gallery, Gallery):
        return gallery.lonlat
    if not isinstance(gallery, str | Path):
        return read_places(gallery).lonlat
    if str(gallery) in gallery_specs():
        return places_of(str(gallery)).lonlat
    path = Path(gallery).expanduser()
    if path.is_dir():
        return Gallery.load(path).lonlat
    if not path.exists():
        raise unknown_name("gallery", str(gallery), gallery_specs())
    return np.concatenate([read_places(frame).lonlat for frame in read_frames(path)])
