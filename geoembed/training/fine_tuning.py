"""Fine-tuning a trained encoder on pictures of a region, with a report of what it did."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import pandas as pd
from numpy.typing import ArrayLike

from geoembed.devices import resolve_device
from geoembed.errors import GeoembedError, OptionError
from geoembed.extending.registry import image_encoder_specs
from geoembed.images.sides import ImageSide, image_side_of
from geoembed.training.config import load_settings
from geoembed.training.fine_tuning_measures import Away, Moved, lookup_scores, tell_scores
from geoembed.training.loop import RunResult, train
from geoembed.training.memory_data import FeatureArray, PictureList, features_of, pictures_of
from geoembed.training.model import GeolocationModel, build_model
from geoembed.training.run_folder import RunFolder
from geoembed.training.run_model import model_of_run
from geoembed.training.settings import TrainingSettings
from geoembed.training.splitting import Split, split_rows
from geoembed.training.validation import validate
from geoembed.weights import read_model_folder

__all__ = ["FineTuning", "fine_tune"]

_IN_MEMORY: Final = "(given in Python)"
_FILE: Final = "fine_tuning.json"


@dataclass(frozen=True, kw_only=True)
class FineTuning:
    """What fine-tuning came to.

    Parameters
    ----------
    run : RunResult
        The run: ``run.folder`` can be exported.
    before, after : mapping of str to float
        Retrieval of the held-out pictures of the region.
    moved : Moved
        How far the location encoder moved away from the region.
    elsewhere : mapping or None
        ``"before"`` and ``"after"``: retrieval of the pictures of elsewhere, where there are any.
    report : str
        All of it in words.
    """

    run: RunResult
    before: Mapping[str, float]
    after: Mapping[str, float]
    moved: Moved
    elsewhere: Mapping[str, Mapping[str, float]] | None
    report: str


def fine_tune(
    frame: pd.DataFrame,
    features: ArrayLike | Sequence[str] | None = None,
    *,
    folder: str | Path,
    pictures: Sequence[Any] | None = None,
    encoder: str | Path = "geoclip.v1",
    image_encoder: str | None = None,
    recipe: str | Path = "finetune-region",
    overrides: Sequence[str] = (),
    elsewhere: tuple[pd.DataFrame, Any] | None = None,
    away_places: int = 2000,
    lon: str | None = None,
    lat: str | None = None,
    crs: Any = None,
    resume: bool = False,
    progress: bool | None = None,
) -> FineTuning:
    """Train a location encoder further on pictures of a region, and say what that did.

    Parameters
    ----------
    frame : GeoDataFrame or DataFrame
        A row a picture, in any CRS; a DataFrame needs coordinate columns.
    features : array of shape (n, d) or (n, K, d), or sequence of str
        What the frozen tower of the image encoder gave for each picture, or for K views of it; or
        the columns of `frame` that hold it. Where the image encoder was trained from its pixels
        on, give `pictures`.
    folder : str or Path
        Of the run: settings, checkpoints, metrics, ``fine_tuning.json``. `geoembed.training.
        export_run` makes a model folder of it, which stands wherever an encoder's name does.
    pictures : sequence of PIL.Image.Image or path
        One a row, in place of `features`.
    encoder : str or Path
        Registered location encoder, or a model folder, to start from.
    image_encoder : str, optional
        Registered image encoder, or a model folder, whose trained layers stay on top of the
        tower; by default those that were trained with `encoder`. ``""`` starts from new layers,
        for the features of any other tower: give ``"image.train=all"`` among the `overrides`.
    recipe : str or Path
        Settings to start from, by name or file. ``objective.mask_own`` is on with any.
    overrides : sequence of str
        ``"section.field=value"``, the last word on a setting.
    elsewhere : tuple of (frame, features or pictures), optional
        Pictures outside the region, which are looked up before and after.
    away_places : int
        How many random places away from the region say how far the encoder moved there.
    lon, lat : str, optional
        Coordinate columns of a DataFrame, where they are not the usual ones.
    crs : any, optional
        CRS of coordinates that do not carry one.
    resume : bool
        Go on from the last checkpoint in `folder`.
    progress : bool, optional
        Show a progress bar; by default on a terminal.

    Returns
    -------
    FineTuning
        Scores before and after, in the region and elsewhere, of the last weights.

    Raises
    ------
    OptionError
        If neither or both of features and pictures are given, they do not fit the image encoder,
        no place is held out, or a setting does not fit.
    TableError
        If there are no rows, not as many features as rows, or some are not finite.
    CoordinateError
        If places cannot be read, or some are missing.
    UnknownNameError, WeightsError, MissingWeightsError
        If what it starts from is not here, or damaged.
    TrainingError
        As `geoembed.training.train`.

    Notes
    -----
    The recipe keeps the picture side as it is, and pulls the location encoder towards where it
    was at random places away from the pictures (``objective.anchor``). So what was true elsewhere
    stays true to the measure that the report states.

    Examples
    --------
    >>> from geoembed.training import fine_tune
    >>> done = fine_tune(photos, features, folder="alps")  # doctest: +SKIP
    >>> print(done.report)  # doctest: +SKIP
    """
    if (features is None) == (pictures is None):
        raise OptionError("Give one of features= and pictures=.")
    places = {"lon": lon, "lat": lat, "crs": crs}
    data = _data(frame, features, pictures, places)
    settings = _settings(str(encoder), image_encoder, data, recipe, overrides)
    split = split_rows(data.lonlat, settings.data)
    if not len(split.validation):
        raise OptionError(
            "data.validation = 0 holds out no place of the region: nothing would say whether "
            "fine-tuning has helped. Hold out some."
        )
    others = None if elsewhere is None else _elsewhere(data, *elsewhere, places)
    dimension = getattr(data, "dimension", None)
    model = build_model(
        settings,
        device=resolve_device(settings.loop.device),
        feature_dimension=dimension,
        backbone=dimension is None,
    )
    away = Away(
        model,
        data.lonlat,
        away_km=settings.objective.anchor_away_km,
        count=away_places,
        seed=settings.data.split_seed,
    )
    before = _scores(model, data, split, others, settings)
    run = train(settings, folder, resume=resume, data=data, split=split, progress=progress)
    trained = model_of_run(run.folder, "last").tensors()
    # An export carries the frozen tower of a model folder, which is no part of this model.
    model.load_state_dict({key: trained[key] for key in model.state_dict()})
    after = _scores(model, data, split, others, settings)
    done = FineTuning(
        run=run,
        before=before[0],
        after=after[0],
        moved=away.moved(model),
        elsewhere=None if others is None else {"before": before[1], "after": after[1]},
        report="",
    )
    done = FineTuning(**{**done.__dict__, "report": _tell(done, settings, split)})
    facts = {**asdict(done), "run": {"folder": run.folder.name, "step": run.step}}
    RunFolder(run.folder).write_json(run.folder / _FILE, json.loads(json.dumps(facts)))
    return done


def _data(
    frame: pd.DataFrame, features: Any, pictures: Any, places: Mapping[str, Any]
) -> FeatureArray | PictureList:
    if features is not None:
        return features_of(frame, features, **places)
    return pictures_of(frame, pictures, **places)


def _elsewhere(
    data: FeatureArray | PictureList, frame: pd.DataFrame, shown: Any, places: Mapping[str, Any]
) -> FeatureArray | PictureList:
    """Read the pictures of elsewhere, which are of the kind of the region's."""
    cached = isinstance(data, FeatureArray)
    try:
        others = _data(frame, shown if cached else None, None if cached else shown, places)
    except GeoembedError as error:
        error.args = (f"elsewhere=: {error}",)
        raise
    one, other = (getattr(each, "dimension", None) for each in (data, others))
    if one != other:
        raise OptionError(
            f"elsewhere=: its features have {other} values, those of the region {one}: give those "
            "of one tower."
        )
    return others


def _settings(
    encoder: str,
    image_encoder: str | None,
    data: FeatureArray | PictureList,
    recipe: str | Path,
    overrides: Sequence[str],
) -> TrainingSettings:
    cached = isinstance(data, FeatureArray)
    name = _image_side_name(encoder) if image_encoder is None else image_encoder
    side = image_side_of(name) if name else None
    table: dict[str, Any] = {
        "base": str(recipe),
        "data": {"kind": "features" if cached else "manifest", "path": _IN_MEMORY},
        "location": {"init": encoder},
        "image": _image_table(name, side, cached) if side else {"init": ""},
        # Regions have few pictures, and the queue soon holds each of their places.
        "objective": {"mask_own": True},
    }
    if side is not None:
        # The recipe's is that of the encoder that it names.
        table["objective"]["temperature"] = float(f"{1.0 / side.scale:.3g}")
    return load_settings(table, overrides)


def _image_side_name(encoder: str) -> str:
    """Find the image side that was trained with a location encoder."""
    specs = image_encoder_specs().values()
    paired = [s.name for s in specs if s.location_encoder == encoder and s.weights is not None]
    if paired:
        return paired[0]
    if Path(encoder).expanduser().is_dir() and read_model_folder(encoder).has_images:
        return encoder
    raise OptionError(
        f"No image encoder was trained with encoder={encoder!r}: say whose layers are on top of "
        "the features (image_encoder=NAME or FOLDER), or start from new ones (image_encoder='', "
        "overrides=['image.train=all'])."
    )


def _image_table(name: str, side: ImageSide, cached: bool) -> dict[str, Any]:
    tower = side.network.tower
    if tower is None:
        backbone = {"backbone": side.backbone} if side.backbone else {}
        return {"tower": "backbone", "init": name, **backbone}
    if cached:
        raise OptionError(
            f"The image encoder {name!r} was trained from its pixels on: give pictures= in place "
            "of features=."
        )
    return {"tower": "convnet", "init": name, "size": tower.size, "widths": list(tower.widths)}


def _scores(
    model: GeolocationModel,
    data: FeatureArray | PictureList,
    split: Split,
    others: FeatureArray | PictureList | None,
    settings: TrainingSettings,
) -> tuple[dict[str, float], dict[str, float]]:
    local = validate(model, data, split, settings)
    return local, {} if others is None else lookup_scores(model, others, settings)


def _tell(done: FineTuning, settings: TrainingSettings, split: Split) -> str:
    moved, data = done.moved, settings.data
    side = f"{data.block_deg:g} degrees" if data.block_deg else f"{data.block_km:g} km"
    km = settings.objective.anchor_away_km
    parts = [
        f"{settings.location.init}, fine-tuned on {len(split.train):,} pictures; "
        f"{len(split.validation):,} were held out, in blocks of {side}.",
        f"In the region, held-out pictures:\n{tell_scores(done.before, done.after)}",
        f"Elsewhere, at {moved.places:,} random places {km:g} km or more from every picture, the "
        f"encoder moved by 1 - cosine = {moved.mean:.2g} on average; on land by "
        f"{moved.mean_land:.2g}, and 95 % of the places by less than {moved.high_land:.2g}. "
        f"{moved.kept:.1f} % of the places on land are still nearest to what they were.",
    ]
    if done.elsewhere is not None:
        told = tell_scores(done.elsewhere["before"], done.elsewhere["after"])
        parts.append(f"Pictures of elsewhere, among their own places:\n{told}")
    return "\n\n".join(parts)
