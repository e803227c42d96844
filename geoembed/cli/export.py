"""``geoembed export``: from a training run to a model folder, ONNX or torch."""

from pathlib import Path

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
}

_FOLDERS = ("geoembed", "geoclip")
_FILES = ("onnx", "torch")


def export(
    source: str = typer.Argument(
        metavar="SOURCE",
        help="Folder of a run, an exported model's folder, or a name of 'geoembed encoders'.",
    ),
    output: Path = typer.Option(
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
        geoembed export geoclip.v1 -o geoclip.onnx --format onnx
    """
    if format not in (*_FOLDERS, *_FILES):
        offered = ", ".join((*_FOLDERS, *_FILES))
        raise OptionError(f"--format {format} is not one of: {offered}.")
    strange = (
        {"--dtype": dtype, "--gallery": gallery}
        if format in _FILES
        else {"--layers": layers, "--normalize": normalize or None}
    )
    for flag, value in strange.items():
        if value is not None:
            kinds = _FOLDERS if format in _FILES else _FILES
            raise OptionError(f"{flag} goes with --format {' or '.join(kinds)}, not {format}.")
    step = int(checkpoint) if checkpoint.isdecimal() else checkpoint
    with notes_told(FLAGS):
        if format in _FILES:
            from geoembed.training.export import export_graph

            parity = export_graph(
                source,
                output,
                format=format,
                checkpoint=step,
                layers=layers or "final",
                normalize=normalize,
                name=name,
                overwrite=overwrite,
            )
            size = output.stat().st_size
            print(
                f"{output}: {size / 1e6:.1f} MB; over {parity.places:,} places within "
                f"{parity.worst:.1e} of the encoder's vectors"
            )
            return
        from geoembed.training.export import export_run

        model = export_run(
            source,
            output,
            format=format,
            checkpoint=step,
            dtype=dtype or "float32",
            gallery=gallery,
            name=name,
            overwrite=overwrite,
        )
    size = sum(path.stat().st_size for path in output.iterdir())
    alone = format == "geoclip" and gallery is None
    sides = "places alone" if model.side is None or alone else "places and pictures"
    print(f"{output}: {model.name}, {sides}, {size / 1e6:.1f} MB")
