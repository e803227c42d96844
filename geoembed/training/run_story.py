"""What the card of a model tells of the run that made it: data, recipe, results."""

from collections.abc import Mapping
from pathlib import PurePath
from typing import Any, Final

from geoembed.training.run_folder import RunFolder
from geoembed.training.settings import TrainingSettings
from geoembed.training.settings_text import flat_settings
from geoembed.training.trained_model import Story

__all__ = ["run_story"]

# Paths of the machine that trained, what the card says elsewhere, and what moves no weight.
_LEFT_OUT: Final = (
    *("name", "summary", "licence", "training_data"),
    *("data.path", "data.images", "image.weights"),
    *("loop.workers", "loop.device", "loop.save_every", "loop.keep_last", "loop.log_every"),
)
_GALLERIES: Final = {"train": "the training places", "land": "a grid of all land"}


def run_story(folder: RunFolder, settings: TrainingSettings, state: Mapping[str, Any]) -> Story:
    """Tell of a run in words.

    Parameters
    ----------
    folder : RunFolder
        Of the run.
    settings : TrainingSettings
        That it was trained with.
    state : mapping
        The checkpoint that is exported.

    Returns
    -------
    mapping
        ``"data"``, ``"recipe"`` and ``"results"``: label to text. No paths of the machine.
    """
    return {
        "data": _data(folder.read_json(folder.data) or {}),
        "recipe": _recipe(folder, settings, state),
        "results": _results(settings, state["progress"]),
    }


def _data(facts: Mapping[str, Any]) -> dict[str, str]:
    split = facts.get("split", {})
    rows = {
        "kind": facts.get("kind"),
        "pictures": _number(facts.get("rows")),
        "trained on": _number(split.get("train")),
        "held out, in whole blocks": _number(split.get("validation")),
        "left out between them": _number(split.get("left_out")),
        "missing": _number(facts.get("missing")),
        "views of a picture": _number(facts.get("views")),
        "digest": facts.get("digest") and f"`{facts['digest']}`",
    }
    bounds = facts.get("training_bounds")
    if bounds:
        west, south, east, north = bounds
        rows["training places"] = (
            f"longitude {west:.2f} to {east:.2f}, latitude {south:.2f} to {north:.2f}"
        )
    return {label: str(text) for label, text in rows.items() if text}


def _recipe(
    folder: RunFolder, settings: TrainingSettings, state: Mapping[str, Any]
) -> dict[str, str]:
    step = int(state["progress"]["step"])
    rows = {"steps": f"{step:,}, each with a batch of {settings.loop.batch:,} pictures"}
    if state["ema"]:
        rows["weights"] = f"running mean over the steps, decay {settings.optimiser.ema:g}"
    sessions = (folder.read_json(folder.environment) or {}).get("sessions", [])
    if sessions:
        last = sessions[-1]
        versions = last.get("versions", {})
        rows["trained with"] = f"geoembed {versions.get('geoembed')}, torch {versions.get('torch')}"
        rows["on"] = f"{last.get('processes')} x {last.get('device')} ({last.get('device_name')})"
    usual = flat_settings(TrainingSettings.model_validate({"data": {"kind": "bluemarble"}}))
    usual["data.kind"] = None
    for field, value in flat_settings(settings).items():
        if value != usual.get(field) and field not in _LEFT_OUT:
            rows[field] = ", ".join(map(str, value)) if isinstance(value, list) else _named(value)
    rows["all other settings"] = "as geoembed has them by default"
    return rows


def _results(settings: TrainingSettings, progress: Mapping[str, Any]) -> dict[str, str]:
    best = progress["best"]
    here = best is not None and best["step"] == progress["step"]
    scores = best["scores"] if here else progress["scores"]
    if not scores:
        return {}
    gallery = settings.validation.gallery
    among = _GALLERIES.get(gallery, f"the places of {_named(gallery)}")
    rows = {"measured on": f"pictures of held-out blocks, looked up among {among}"}
    if not here:
        rows["measured at"] = "the last validation before this checkpoint, or at it"
    for name, value in scores.items():
        label, text = _score(name, float(value))
        rows[label] = text
    return rows


def _score(name: str, value: float) -> tuple[str, str]:
    if name.startswith("within_"):
        return f"within {name.removeprefix('within_')} km", f"{value:.1f} %"
    if name.endswith("_km"):
        return f"{name.removesuffix('_km')} distance", f"{value:,.0f} km"
    label = "GeoScore, of 5000" if name == "geoscore" else name
    return label, f"{value:.4g}"


def _named(value: Any) -> str:
    """Leave out the folder of a path: it says something of a machine, nothing of a model."""
    return PurePath(value).name if isinstance(value, str) and "/" in value else str(value)


def _number(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) and value else ""
