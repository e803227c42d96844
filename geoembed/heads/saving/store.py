"""Fitted heads as folders: saved without pickle, checked and loaded without running their code."""

import copy
import json
import os
import warnings
from collections.abc import Iterable, Mapping
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import sklearn
from pyproj import CRS
from sklearn.exceptions import InconsistentVersionWarning
from sklearn.utils.validation import check_is_fitted

from geoembed.encoders import load_encoder
from geoembed.encoders.base import LocationEncoder
from geoembed.errors import GeoembedError, OptionError, SavedHeadError, UnknownNameError
from geoembed.featurizer import LocationFeaturizer
from geoembed.heads.base import GeoembedHeadWarning, LocationHead
from geoembed.heads.saving.description import DESCRIPTION, STATE, describe, read_description
from geoembed.heads.saving.folders import check_folder, check_state, sha256
from geoembed.heads.saving.importing import import_skops
from geoembed.heads.saving.trust import check_contents, is_trusted, parts_of
from geoembed.weights.drafts import draft_folder

__all__ = ["load_head", "save_head"]


def save_head(
    head: Any,
    folder: str | Path,
    *,
    overwrite: bool = False,
    scores: Any = None,
    provenance: Mapping[str, Any] | None = None,
) -> Path:
    """Write a fitted head to a folder; see `geoembed.heads.LocationHead.save`."""
    check_is_fitted(head)
    target = check_folder(folder, overwrite=overwrite)
    portable, encoders = _portable(head)
    try:
        with draft_folder(target) as draft:
            # One that a killed process had moved away may be there again.
            check_folder(folder, overwrite=overwrite)
            state = _write_state(portable, draft / STATE)
            facts = describe(portable, encoders, state, scores=scores, provenance=provenance)
            text = json.dumps(facts, indent=2, ensure_ascii=False, allow_nan=False)
            (draft / DESCRIPTION).write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        cause = os.strerror(error.errno) if error.errno else str(error)
        raise SavedHeadError(f"{target} cannot be written: {cause}.") from error
    if state["needs_trust"]:
        warnings.warn(
            f"The head in {target} holds types that load only if they are trusted: pass "
            f"trusted={state['needs_trust']} to load_head().",
            GeoembedHeadWarning,
            stacklevel=3,
        )
    return target


def load_head(
    folder: str | Path,
    *,
    trusted: Iterable[str | type] = (),
    encoder: str | Path | None = None,
) -> Any:
    """Load a fitted head from a folder. No code from the folder is run.

    Parameters
    ----------
    folder : str or path
        Written by `geoembed.heads.LocationHead.save` or by ``geoembed fit``.
    trusted : iterable of str or type
        Types to load beyond those of scikit-learn, geoembed and plugins that registered a head,
        such as a model class of your own. Name only types whose code you know.
    encoder : str or path, optional
        Name or path under which the encoder is found here, if not under the one that was saved.

    Returns
    -------
    LocationHead
        Fitted; it predicts the same numbers, bit for bit, with the same versions of the packages
        on the same kind of machine.

    Raises
    ------
    SavedHeadError
        If there is no saved head, a file is missing, damaged or of a later format, the plugin
        that the head comes from is missing, the head holds types that are not trusted, or the
        encoder found here is not the one that it learned from.
    MissingWeightsError
        If the encoder's weights are nowhere; the message gives the commands that get them.

    Warns
    -----
    GeoembedHeadWarning
        If it was saved with another version of scikit-learn.

    Notes
    -----
    Every file is checked before it is used: the description ``head.json``, the SHA-256 of the
    state, the types in it (`skops.io`), and the SHA-256 of the encoder's weights.

    Examples
    --------
    >>> import geoembed as ge
    >>> cities = ge.data.load_cities().head(200)
    >>> cities["north"] = cities["lat"].abs()
    >>> folder = ge.LocationRegressor().fit(cities, "north").save("north")
    >>> head = ge.load_head("north")
    >>> head.predict([[13.4, 52.5]]).shape
    (1,)
    """
    path = Path(folder).expanduser()
    description = read_description(path)
    check_state(path, description["state"])
    named = [t if isinstance(t, str) else f"{t.__module__}.{t.__qualname__}" for t in trusted]
    kind = _class_of(path, description, named)
    head = _read_state(path / STATE, description, named)
    if type(head) is not kind:
        raise SavedHeadError(
            f"{path / STATE} holds {type(head).__name__}, and {DESCRIPTION} says "
            f"{kind.__name__}: they do not belong together. Save the head again."
        )
    check_contents(head)
    _settle_encoders(path, head, description["encoders"], encoder)
    return head


def _portable(head: Any) -> tuple[Any, list[LocationEncoder]]:
    """Copy a head so that its encoders are names and options; return the encoders in use."""
    twin = copy.copy(head)
    twin.featurizer = _named(head.featurizer)
    twin.featurizer_ = copy.deepcopy(head.featurizer_)
    encoders = []
    for featurizer in _featurizers(twin.featurizer_):
        encoder = featurizer._load()
        encoders.append(encoder)
        # The layers by name, not as "best": what is best may change, and the model does not.
        featurizer.set_params(**_recipe(encoder))
        _make_plain(featurizer)
    return twin, encoders


def _named(featurizer: Any) -> Any:
    """Return the parameter ``featurizer`` of a head without loaded encoders."""
    if isinstance(featurizer, LocationEncoder):
        return LocationFeaturizer(**_recipe(featurizer))
    if featurizer is None or isinstance(featurizer, str | Path):
        return None if featurizer is None else str(featurizer)
    twin = copy.deepcopy(featurizer)
    for part in _featurizers(twin):
        if isinstance(part.encoder, LocationEncoder):
            part.set_params(**_recipe(part._load()))
        _make_plain(part)
    return twin


def _featurizers(transformer: Any) -> list[LocationFeaturizer]:
    return [part for part in parts_of(transformer) if isinstance(part, LocationFeaturizer)]


def _recipe(encoder: LocationEncoder) -> dict[str, Any]:
    """Return the parameters of a featurizer that loads this encoder anywhere."""
    encoder = encoder._bare()
    name, options = encoder._recipe(), encoder.options()
    try:
        again = load_encoder(name, **options)
    except GeoembedError as error:
        raise SavedHeadError(
            f"The encoder {encoder!r} could not be found again by its name: {error} Register it "
            "through a plugin, or give the path of its weights."
        ) from error
    if again.weights_sha256 != encoder.weights_sha256 or type(again) is not type(encoder):
        raise SavedHeadError(
            f"{name!r} loads another encoder ({again!r}) than the one in use ({encoder!r}): the "
            "head would not predict the same. Register it under a name of its own."
        )
    return {"encoder": name, **options}


def _make_plain(featurizer: LocationFeaturizer) -> None:
    crs = featurizer.crs
    if crs is not None and not isinstance(crs, str | int):
        crs = CRS.from_user_input(crs).to_string()
    # The device is this machine's, not the model's.
    featurizer.set_params(crs=crs, device="auto")


def _write_state(head: Any, path: Path) -> dict[str, Any]:
    # Imported late: it imports all of scikit-learn to know what to trust.
    skops_io = import_skops()
    try:
        skops_io.dump(head, path)
        types = [name for name in skops_io.get_untrusted_types(file=path) if not is_trusted(name)]
    except OSError:
        raise
    except Exception as error:
        raise SavedHeadError(
            f"The head cannot be saved without pickle: {type(error).__name__}: {error}. Its "
            f"model is {head.model!r}; use one of scikit-learn's."
        ) from error
    lost = [name for name in types if "<" in name or name.startswith("__main__.")]
    if lost:
        raise SavedHeadError(
            f"The head holds {', '.join(map(repr, lost))}, which cannot be found again where it is "
            "loaded. Put it into a module that can be imported there."
        )
    return {
        "file": STATE,
        "bytes": path.stat().st_size,
        "sha256": sha256(path),
        "needs_trust": types,
    }


def _class_of(folder: Path, description: Mapping[str, Any], named: list[str]) -> type:
    module, _, name = description["class"].partition(":")
    found = None
    if f"{module}.{name}" in named or is_trusted(f"{module}.{name}"):
        with suppress(ImportError, AttributeError):
            found = getattr(import_module(module), name)
    if not (isinstance(found, type) and issubclass(found, LocationHead)):
        raise SavedHeadError(
            f"{folder} holds a head of the class {module}.{name} from "
            f"{description['distribution']}, which is not among the heads registered here. "
            "Install that distribution ('geoembed plugins' lists what is here); a class of your "
            f"own loads with trusted=['{module}.{name}']."
        )
    return found


def _read_state(path: Path, description: Mapping[str, Any], named: list[str]) -> Any:
    skops_io = import_skops()
    try:
        types = skops_io.get_untrusted_types(file=path)
        unknown = [name for name in types if name not in named and not is_trusted(name)]
        if not unknown:
            with warnings.catch_warnings():
                # We say so once, for all its parts.
                warnings.simplefilter("ignore", InconsistentVersionWarning)
                _compare_versions(path.parent, description["versions"])
                return skops_io.load(path, trusted=types)
    except GeoembedHeadWarning:
        raise
    except Exception as error:
        raise SavedHeadError(
            f"{path} cannot be loaded: {type(error).__name__}: {error}. It was saved with "
            f"{_listed(description['versions'])}."
        ) from error
    raise SavedHeadError(
        f"{path} holds types that are not trusted: {', '.join(unknown)}. If you know their code "
        f"and where the folder comes from, pass trusted={unknown}."
    )


def _compare_versions(folder: Path, saved: Mapping[str, Any]) -> None:
    if saved.get("scikit-learn") != sklearn.__version__:
        warnings.warn(
            f"The head in {folder} was saved with scikit-learn {saved.get('scikit-learn')}, and "
            f"{sklearn.__version__} is here: its predictions may differ. Compare some, or save it "
            "again with this version.",
            GeoembedHeadWarning,
            stacklevel=4,
        )


def _listed(versions: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {number}" for name, number in versions.items())


def _settle_encoders(
    folder: Path, head: Any, saved: list[dict[str, Any]], given: str | Path | None
) -> None:
    """Load the encoders, and compare them with those the head has learned from."""
    featurizers = _featurizers(head.featurizer_)
    if len(featurizers) != len(saved):
        raise SavedHeadError(
            f"{folder / DESCRIPTION} names {len(saved)} encoders, and the head has "
            f"{len(featurizers)}: they do not belong together. Save the head again."
        )
    if given is not None:
        if len(featurizers) != 1:
            raise OptionError(
                f"encoder={str(given)!r} stands for one encoder, and the head has "
                f"{len(featurizers)}."
            )
        featurizers[0].set_params(encoder=str(given))
    for featurizer, facts in zip(featurizers, saved, strict=True):
        try:
            encoder = featurizer._load()
        except UnknownNameError as error:
            raise SavedHeadError(
                f"{folder} needs the encoder {facts['name']!r} from {facts['owner']}, which is "
                f"not here. {error} Install it, or name one with encoder=."
            ) from error
        for key in ("weights_sha256", "dimension"):
            here = getattr(encoder, key)
            if here != facts[key]:
                raise SavedHeadError(
                    f"{folder} learned from the encoder {facts['name']!r} with {key} "
                    f"{facts[key]!r}, and the one here, {encoder.name!r}, has {here!r}: its "
                    "predictions would be nonsense. Get the same weights, and name them with "
                    "encoder=."
                )
