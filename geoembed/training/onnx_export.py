"""A location encoder as an ONNX file: it runs in onnxruntime and elsewhere, without torch."""

import logging
import warnings
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from geoembed import __version__
from geoembed.encoders.base import LocationEncoder
from geoembed.encoders.geoclip import GeoCLIPEncoder
from geoembed.encoders.onnx_file import PROBE, FileFacts
from geoembed.optional import import_optional
from geoembed.training.graph import graph_of
from geoembed.training.graph_parity import Parity, Run, check_parity
from geoembed.training.program_export import provenance, trace_arguments
from geoembed.training.publishing import check_target, draft_file

__all__ = ["export_onnx", "onnx_run"]

_PLACES_INT8: Final = 5000
_COSINE_INT8: Final = 0.999


def export_onnx(
    encoder: LocationEncoder,
    path: str | Path,
    *,
    overwrite: bool = False,
    name: str = "",
    int8: bool = False,
) -> Parity:
    """Write an encoder as an ONNX file, and compare the two in onnxruntime.

    Parameters
    ----------
    encoder : LocationEncoder
        With a network, see `geoembed.training.graph.graph_of`.
    path : str or path
        The file, usually ``.onnx``. It appears when it is whole and compared.
    overwrite : bool
        Replace a file that is there.
    name : str
        What the file says it is; the encoder's name if not given.
    int8 : bool
        Keep the layers' weights in 8 bits: a quarter of the size, several times faster on most
        CPUs. Projection and Fourier features stay as they are.

    Returns
    -------
    Parity
        How near the file's vectors are to the encoder's, over 2,000 places, over 5,000 in 8 bits.

    Raises
    ------
    MissingExtraError
        If onnx, onnxscript or onnxruntime is not installed.
    OptionError
        If the encoder cannot be exported, or the file is there.
    TrainingError
        If the vectors differ by more than rounding, in 8 bits if their mean cosine similarity is
        below 0.999, or if the file cannot be written.

    Notes
    -----
    Inputs are ``lon`` and ``lat``, double, of shape (n,), degrees, WGS 84, longitude of any turn;
    the output is ``embedding``, (n, d): rows of NaN where a place is none. Projection and phases
    are computed in double inside. The file's metadata say where it comes from.

    In 8 bits each layer's input is scaled by the largest value of the batch, so that a vector
    depends a little on the other places of its batch.

    Examples
    --------
    >>> from geoembed.encoders import load_encoder
    >>> from geoembed.encoders.network import LocationNetwork
    >>> from safetensors.torch import save_file
    >>> network = LocationNetwork((1.0, 16.0), hidden=(8,), output=4)
    >>> save_file(network.state_dict(), "tiny.safetensors")
    >>> encoder = load_encoder("tiny.safetensors", device="cpu")
    >>> parity = export_onnx(encoder, "tiny.onnx")
    >>> parity.places, parity.worst < 1e-5
    (2000, True)
    """
    for module in ("onnx", "onnxscript", "onnxruntime"):
        import_optional(module, extra="onnx", purpose="Exporting to ONNX")
    target = check_target(path, overwrite=overwrite)
    program: Any
    with warnings.catch_warnings():
        # Of the exporter's own parts, and of both inputs having one length.
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            graph_of(encoder),
            **trace_arguments(),
            input_names=["lon", "lat"],
            output_names=["embedding"],
            dynamo=True,
            verbose=False,
        )
    weights = {"weights": "8 bits, a scale for each output"} if int8 else {}
    facts = _facts(encoder, name, int8).to_metadata()
    program.model.metadata_props.update(provenance(encoder, name) | facts | weights)
    what = f"The ONNX file {target.name}"
    with draft_file(target) as draft:
        if not int8:
            program.save(draft, external_data=False)
            return check_parity(encoder, onnx_run(draft), what)
        exact = draft.with_name("exact.onnx")
        program.save(exact, external_data=False)
        _quantize(exact, draft)
        return check_parity(
            encoder, onnx_run(draft), what, count=_PLACES_INT8, least_cosine=_COSINE_INT8
        )


def _facts(encoder: LocationEncoder, name: str, int8: bool) -> FileFacts:
    """What `geoembed.load_encoder` needs to know of the file."""
    assert isinstance(encoder, GeoCLIPEncoder)  # or there were no graph
    return FileFacts(
        name=name or encoder.name,
        weights_sha256=encoder.weights_sha256,
        precision="int8" if int8 else encoder.precision,
        projection=encoder.architecture.projection,
        shape=encoder.network.shape,
        layers=encoder.layers,
        best_layers=encoder.spec.best_layers,
        normalize=encoder.normalize,
        probe=encoder.finish(encoder.values(np.array([PROBE])))[0].astype(np.float32),
        licence=encoder.spec.licence,
        paper=encoder.spec.paper,
        training_data=encoder.spec.training_data,
        version=__version__,
    )


def _quantize(source: Path, target: Path) -> None:
    quantization = import_optional(
        "onnxruntime.quantization", extra="onnx", purpose="Rounding weights to 8 bits"
    )
    root = logging.getLogger()
    quiet = root.level
    try:
        # It recommends a step that changes nothing here.
        root.setLevel(logging.ERROR)
        quantization.quantize_dynamic(
            source,
            target,
            # Only products with weights: everything before the first layer stays exact.
            op_types_to_quantize=["MatMul", "Gemm"],
            per_channel=True,
            # 7 bits: sums of 8-bit products overflow on CPUs without instructions made for them.
            reduce_range=True,
            weight_type=quantization.QuantType.QInt8,
        )
    finally:
        root.setLevel(quiet)


def onnx_run(path: str | Path) -> Run:
    """Open an exported file in onnxruntime, on the CPU.

    Parameters
    ----------
    path : str or path
        Written by `export_onnx`.

    Returns
    -------
    callable
        Longitudes and latitudes (n,), float64, to vectors (n, d).

    Raises
    ------
    MissingExtraError
        If onnxruntime is not installed.

    Examples
    --------
    >>> onnx_run("missing.onnx")  # doctest: +ELLIPSIS, +IGNORE_EXCEPTION_DETAIL
    Traceback (most recent call last):
    onnxruntime.capi.onnxruntime_pybind11_state.NoSuchFile: ...
    """
    runtime = import_optional("onnxruntime", extra="onnx", purpose="Running an ONNX file")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = runtime.InferenceSession(
        str(path), sess_options=options, providers=["CPUExecutionProvider"]
    )

    def run(lon: Any, lat: Any) -> Any:
        (vectors,) = session.run(None, {"lon": lon, "lat": lat})
        return vectors

    return run
