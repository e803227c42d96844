"""``geoembed export``: from a training run to a model folder, ONNX or torch."""

from pathlib import Path
from typing import Any

import typer

from geoembed.cli.runs import notes_told
from geoembed.errors import OptionError

__all__ = ["export"]

FLAGS = {
    "overwrite": "--overwrite",
    "dtype": "--dtype float32",
    "format": "--format geoembed",
    "gallery": "--gallery NAME",
    "precision": "--precision float32",
    "name": "--name family.tag",
}

_FOLDERS = ("geoembed", "geoclip")
_FILES = ("onnx", "torch")


def export(
    source: str = typer.Argument(
        metavar="SOURCE",
        help="Folder of a run, an exported model's folder, or a name of 'geoembed encoders'.",
    ),
    output: str = typer.Option(
        ..., "-o", "--output", metavar="OUT", help="Folder to write; with onnx and torch a file."
    ),
    format: str = typer.Option(
        "geoembed",
        "--format",
        metavar="geoembed|geoclip|onnx|torch",
        help="Holds everything; what the package geoclip reads; an ONNX file; a program of "
        "torch.export.",
    ),
    checkpoint: str = typer.Option(
        "best", "--checkpoint", metavar="best|last|STEP", help="Which one of a run."
    ),
    dtype: str | None = typer.Option(
        None, "--dtype", metavar="float32|float16", help="Of the weights in a folder."
    ),
    gallery: str | None = typer.Option(
        None,
        "--gallery",
        metavar="NAME|FOLDER|TABLE",
        help="With --format geoclip: places to look pictures up among; writes the whole model.",
    ),
    layers: str | None = typer.Option(
        None, "--layers", help="With onnx and torch: which layers make up a vector."
    ),
    normalize: bool = typer.Option(
        False, "--normalize", help="With onnx and torch: scale every vector to length 1."
    ),
    int8: bool = typer.Option(
        False, "--int8", help="With onnx: weights of 8 bits, a quarter of the size and faster."
    ),
    name: str = typer.Option("", "--name", help="What the model is called: family.tag."),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace OUT if it exists."),
) -> None:
    """Write a trained model for use.

    A folder holds config.json, model.safetensors and a card, README.md; it stands wherever an
    encoder's name does. An ONNX file or torch program holds the location encoder alone, longitude
    and latitude in, vectors out; it is compared with the encoder before it appears.

    Example:
        geoembed export runs/alps -o alps.v1 --dtype float16
        geoembed export runs/alps -o alps-geoclip --format geoclip --gallery geoclip.100k
        geoembed export geoclip.v1 -o geoclip.onnx --format onnx --int8
    """
    _check(
        format,
        {
            "--dtype": (dtype is not None, _FOLDERS),
            "--gallery": (gallery is not None, _FOLDERS),
            "--layers": (layers is not None, _FILES),
            "--normalize": (normalize, _FILES),
            "--int8": (int8, ("onnx",)),
        },
    )
    chosen: dict[str, Any] = {
        "format": format,
        "checkpoint": int(checkpoint) if checkpoint.isdecimal() else checkpoint,
        "name": name,
        "overwrite": overwrite,
    }
    with notes_told(FLAGS):
        if format in _FOLDERS:
            chosen |= {"dtype": dtype or "float32", "gallery": gallery}
            print(_write_folder(source, output, **chosen))
        else:
            chosen |= {"layers": layers or "final", "normalize": normalize, "int8": int8}
            print(_write_file(source, output, **chosen))


def _check(format: str, flags: dict[str, tuple[bool, tuple[str, ...]]]) -> None:
    """Refuse flags that say nothing in a format, before anything is loaded."""
    known = (*_FOLDERS, *_FILES)
    if format not in known:
        raise OptionError(f"--format {format} is not one of: {', '.join(known)}.")
    for flag, (given, formats) in flags.items():
        if given and format not in formats:
            raise OptionError(f"{flag} goes with --format {' or '.join(formats)}, not {format}.")


def _write_folder(source: str, output: str, **chosen: Any) -> str:
    from geoembed.training.export import export_run

    model = export_run(source, output, **chosen)
    size = sum(path.stat().st_size for path in Path(output).expanduser().iterdir())
    alone = chosen["format"] == "geoclip" and chosen["gallery"] is None
    sides = "places alone" if model.side is None or alone else "places and pictures"
    return f"{output}: {model.name}, {sides}, {size / 1e6:.1f} MB"


def _write_file(source: str, output: str, **chosen: Any) -> str:
    from geoembed.training.export import export_graph

    parity = export_graph(source, output, **chosen)
    near = (
        f"mean cosine similarity with the encoder's vectors {parity.cosine:.6f}"
        if chosen["int8"]
        else f"off the encoder's vectors by {parity.worst:.1e} at most"
    )
    size = Path(output).expanduser().stat().st_size
    return f"{output}: {size / 1e6:.1f} MB; {near}, at {parity.places:,} places"
