"""``geoembed data pack | features``: what training reads, made ready."""

from pathlib import Path

import typer

from geoembed.cli.data_features import features
from geoembed.cli.output import print_json
from geoembed.cli.runs import TABLE_FLAGS, notes_told, terminable

__all__ = ["data"]

FLAGS = {
    **TABLE_FLAGS,
    "file": "--file-column NAME",
    "on_invalid": "--on-invalid drop",
    "images": "--images FOLDER",
    "force": "--force",
}

data = typer.Typer(no_args_is_help=True)

_SHOWN = 5


@data.callback()
def _data() -> None:
    """Prepare pictures for training.

    Pack them into shards that are read from anywhere in any order, or run the frozen tower over
    them once.

    Example:
        geoembed data pack photos.csv --images photos -o shards
        geoembed data features shards -o features --views 10
    """


@data.command()
def pack(
    manifest: Path = typer.Argument(
        metavar="MANIFEST", help="Table of pictures: IMG_FILE, LAT and LON, or named columns."
    ),
    images: Path = typer.Option(
        ..., "--images", metavar="FOLDER", help="Where the names of the manifest start from."
    ),
    output: Path = typer.Option(..., "-o", "--output", metavar="FOLDER", help="Of the shards."),
    per_shard: int = typer.Option(
        10_000, "--per-shard", metavar="N", min=1, help="Rows of the manifest for each shard."
    ),
    max_side: int = typer.Option(
        0,
        "--max-side",
        metavar="PIXELS",
        min=0,
        help="Make pictures with a longer side smaller; 0 stores all as they are.",
    ),
    workers: int | None = typer.Option(
        None, "--workers", metavar="N", min=0, help="Threads that read and check; all cores else."
    ),
    file: str | None = typer.Option(
        None, "--file-column", metavar="NAME", help="Column of the pictures."
    ),
    lon: str | None = typer.Option(
        None, "--lon-column", "--lon", metavar="NAME", help="Column of the longitude."
    ),
    lat: str | None = typer.Option(
        None, "--lat-column", "--lat", metavar="NAME", help="Column of the latitude."
    ),
    on_invalid: str = typer.Option(
        "raise", "--on-invalid", help="Rows without a place or a picture: raise, or drop."
    ),
    force: bool = typer.Option(False, "--force", help="Replace shards of an earlier packing."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Pack pictures into WebDataset tars.

    Every picture is decoded to check it; bad and missing ones are left out, and listed with reasons
    in bad_pictures.csv. After an interruption the same command goes on: finished shards stay.

    Example:
        geoembed data pack photos.csv --images photos -o shards
        geoembed data pack mp16.csv --images mp16 -o shards --max-side 512 --workers 8
    """
    with terminable(), notes_told(FLAGS):
        from geoembed.training.packing import pack as pack_pictures

        packed = pack_pictures(
            manifest,
            images,
            output,
            per_shard=per_shard,
            max_side=max_side,
            workers=workers,
            file=file,
            lon=lon,
            lat=lat,
            on_invalid=on_invalid,
            force=force,
            progress=False if as_json else None,
        )
    if as_json:
        print_json(packed.to_dict())
        return
    for note in packed.notes:
        print(note)
    tars = f"{packed.shards:,} shard{'' if packed.shards == 1 else 's'}"
    there = f" ({packed.found:,} there already)" if packed.found else ""
    print(f"{packed.pictures:,} pictures in {tars}{there}, {packed.bytes / 1e6:,.1f} MB: {output}")
    if packed.bad:
        print(f"{len(packed.bad):,} bad, listed in {output / 'bad_pictures.csv'}:")
        for bad in packed.bad[:_SHOWN]:
            print(f"  row {bad.row}, {bad.name}: {bad.reason}")
        if len(packed.bad) > _SHOWN:
            print(f"  and {len(packed.bad) - _SHOWN:,} more")


data.command("features")(features)
