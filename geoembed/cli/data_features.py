"""``geoembed data features``: what a frozen tower gives for K views of every picture, stored."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from geoembed.cli.output import print_json
from geoembed.cli.runs import notes_told, terminable
from geoembed.errors import OptionError, TableError

if TYPE_CHECKING:
    from geoembed.training.feature_store import StoredFeatures
    from geoembed.training.settings import TrainingSettings

__all__ = ["features"]

FLAGS = {"workers": "--workers", "max_bad": "--max-bad", "on_invalid": "--on-invalid drop"}

_SHOWN = 5
_VIEWS = 10


def features(
    source: str = typer.Argument(
        metavar="SOURCE",
        help="Table of pictures; a folder of 'geoembed data pack' or other WebDataset tars; or "
        "bluemarble.",
    ),
    output: Path = typer.Option(..., "-o", "--output", metavar="FOLDER", help="Where to write."),
    images: Path | None = typer.Option(
        None, "--images", metavar="FOLDER", help="Where the names of the table start from."
    ),
    encoder: str | None = typer.Option(
        None,
        "--encoder",
        metavar="NAME|FOLDER",
        help="Image encoder or model folder whose frozen tower looks at them; geoclip.v1 else.",
    ),
    weights: Path | None = typer.Option(
        None, "--weights", metavar="PATH", help="File or folder with the weights of its tower."
    ),
    allow_download: bool = typer.Option(
        False, "--allow-download", help="Download those weights if they are not here."
    ),
    views: int | None = typer.Option(
        None, "--views", metavar="K", min=1, help="Views of a picture; 10, or 1 without augmenting."
    ),
    augment: str | None = typer.Option(
        None, "--augment", metavar="simclr|none", help="Random crops and colours, or the centre."
    ),
    recipe: str | None = typer.Option(
        None,
        "--recipe",
        metavar="NAME|FILE",
        help="Take views and encoder from the settings of a run, where no option says otherwise.",
    ),
    overrides: list[str] = typer.Option(
        [],
        "--set",
        metavar="SECTION.FIELD=VALUE",
        help="Change a setting of the views or the data; give it once for each.",
    ),
    seed: int | None = typer.Option(None, "--seed", min=0, help="Of the views."),
    batch_size: int | None = typer.Option(
        None, "--batch-size", metavar="N", min=1, help="Views computed at a time."
    ),
    workers: int = typer.Option(
        0, "--workers", metavar="N", min=0, help="Processes that read pictures beside the tower."
    ),
    max_bad: float | None = typer.Option(
        None, "--max-bad", min=0.0, max=1.0, help="Share of bad pictures at which it stops."
    ),
    device: str = typer.Option("auto", "--device", help="Such as cpu or cuda."),
    precision: str = typer.Option("float32", "--precision", help="float32, bfloat16 or float16."),
    dry_run: bool = typer.Option(
        False, "--dry-run", help="Say how large they are and how long it takes, and stop."
    ),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Keep what a frozen tower makes of pictures.

    It runs once, over fixed views of all of them. Training then needs no tower and no pictures
    (data.kind=features, data.path=FOLDER). Size and time are said first. After an interruption the
    same command goes on.

    Example:
        geoembed data features photos.csv --images photos -o features --dry-run
        geoembed data features shards -o features --views 10 --workers 8 --precision bfloat16
    """
    settings = _settings(
        source,
        {
            "data": {"images": images and str(images), "max_bad": max_bad},
            "views": {"pool": views, "augment": augment},
            "image": {"backbone": encoder, "weights": weights and str(weights)},
            "seed": seed,
        },
        recipe,
        overrides,
    )
    with notes_told(FLAGS), terminable():
        from geoembed.images import load_image_encoder
        from geoembed.training.features import plan_features, write_features
        from geoembed.training.opening import open_data

        data: Any = open_data(settings.data)
        loaded = load_image_encoder(
            settings.image.backbone,
            weights=settings.image.weights or None,
            allow_download=allow_download,
            device=device,
            precision=precision,
        )
        if not as_json:
            for note in getattr(data, "notes", ()):
                print(note)
        plan: dict[str, Any] = {}
        if dry_run or not _is_whole(output):
            planned = plan_features(data, loaded, views=settings.views, workers=workers)
            plan = planned.to_dict()
            if not as_json:
                print(f"{planned} on {loaded.device}", flush=True)
        if dry_run:
            if as_json:
                print_json(plan)
            return
        stored = write_features(
            data,
            loaded,
            output,
            views=settings.views,
            seed=settings.seed,
            batch_size=batch_size,
            workers=workers,
            max_bad=settings.data.max_bad,
            progress=False if as_json else None,
        )
    _report(stored, plan, list(getattr(data, "notes", ())), as_json=as_json)


def _settings(
    source: str, given: dict[str, Any], recipe: str | None, overrides: list[str]
) -> "TrainingSettings":
    """Settings of a run with this data, checked by the same rules and in the same words."""
    from geoembed.training.config import load_settings

    path = Path(source).expanduser()
    if source == "bluemarble":
        kind = "bluemarble"
    elif path.is_dir():
        kind = "shards"
    elif path.exists():
        kind = "manifest"
    else:
        raise OptionError(f"SOURCE: there is no file or folder {source!r}.")
    table: dict[str, Any] = {
        key: {name: each for name, each in value.items() if each is not None}
        if isinstance(value, dict)
        else value
        for key, value in given.items()
        if value is not None
    }
    table["data"] |= {"kind": kind, "path": "" if kind == "bluemarble" else source}
    if recipe is not None:
        table["base"] = str(Path(recipe).resolve()) if recipe.endswith(".toml") else recipe
    settings = load_settings(table, overrides)
    if settings.views.pool:
        return settings
    pool = 1 if settings.views.augment == "none" else _VIEWS
    return load_settings(table, [*overrides, f"views.pool={pool}"])


def _is_whole(folder: Path) -> bool:
    from geoembed.training.feature_store import open_features

    try:
        open_features(folder)
    except TableError:
        return False
    return True


def _report(
    stored: "StoredFeatures", plan: dict[str, Any], notes: list[str], *, as_json: bool
) -> None:
    from geoembed.training.amounts import size_text
    from geoembed.training.feature_folder import BAD_PICTURES

    bad = len(stored.bad)
    if as_json:
        print_json(
            {
                "folder": str(stored.folder),
                "pictures": len(stored),
                "views": stored.views,
                "dimension": stored.dimension,
                "bytes": stored.bytes,
                "bad": bad,
                "missing": len(stored.missing),
                "notes": notes,
                "seconds_per_view": plan.get("seconds_per_view"),
                "digest": stored.digest,
            }
        )
        return
    print(
        f"{len(stored) - bad:,} pictures x {stored.views} views x {stored.dimension} values, "
        f"{size_text(stored.bytes)}: {stored.folder}"
    )
    listed = list(zip(stored.missing, stored.reasons, strict=True))
    listed += [(stored.names[row], reason) for row, reason in stored.bad.items()]
    if not listed:
        return
    there = stored.folder / BAD_PICTURES
    print(f"{len(stored.missing):,} missing and {bad:,} bad, listed in {there}:")
    for name, reason in listed[:_SHOWN]:
        print(f"  {name}: {reason}")
    if len(listed) > _SHOWN:
        print(f"  and {len(listed) - _SHOWN:,} more")
