"""Evaluate a localizer on a manifest of pictures, or of vectors computed elsewhere."""

from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoembed.errors import MissingExtraError, OptionError, TableError
from geoembed.evaluation.geolocation.encoding import (
    Encoded,
    count_gps,
    encode_pictures,
    gps_note,
    predict_pictures,
)
from geoembed.evaluation.geolocation.features import (
    Features,
    head_sha256,
    read_features,
    to_embeddings,
)
from geoembed.evaluation.geolocation.intervals import check_resampling
from geoembed.evaluation.geolocation.leakage import LEAK_M, check_leak_distance
from geoembed.evaluation.geolocation.manifests import Manifest, read_manifest
from geoembed.evaluation.geolocation.metrics import THRESHOLDS_KM, check_thresholds
from geoembed.evaluation.geolocation.protocols import (
    GeolocationProtocol,
    load_geolocation_protocol,
)
from geoembed.evaluation.geolocation.protocols.reading import CROPS
from geoembed.evaluation.geolocation.record import (
    UNKNOWN,
    describe_encoder,
    describe_gallery,
    deviations,
)
from geoembed.evaluation.geolocation.report import GeolocationReport
from geoembed.evaluation.geolocation.scoring import evaluate_geolocation
from geoembed.evaluation.geolocation.words import counted, first_of
from geoembed.images import load_image_encoder

__all__ = ["evaluate_manifest"]

DEFAULT_GALLERY = "geoclip.100k"
_VIEWS = {1: UNKNOWN, 5: "five", 10: "ten-crop"}


def evaluate_manifest(
    manifest: Any,
    localizer: Any = None,
    *,
    images: "str | PathLike[str] | None" = None,
    features: Any = None,
    protocol: "str | Path | GeolocationProtocol | None" = None,
    output: "str | PathLike[str] | None" = None,
    thresholds_km: Sequence[float] | None = None,
    tta: str | None = None,
    file: str | None = None,
    lon: str | None = None,
    lat: str | None = None,
    layer: str | None = None,
    id_column: str | None = None,
    on_invalid: str = "raise",
    leak_m: float = LEAK_M,
    resamples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
    progress: bool | None = None,
) -> GeolocationReport:
    """Evaluate geolocation on a benchmark: pictures, or vectors of them, and where they were taken.

    Parameters
    ----------
    manifest : str, path, DataFrame or Manifest
        As `geoembed.evaluation.geolocation.read_manifest` takes it.
    localizer : GeoLocalizer, Gallery, str, path or object, optional
        What predicts: a fitted `geoembed.GeoLocalizer`; a gallery, its name or its folder, searched
        by the released model; any object with ``predict(paths)`` that returns an array (n, 2), lon
        and lat. The gallery of the protocol, or ``"geoclip.100k"``, if not given.
    images : str or path, optional
        Folder of the pictures.
    features : str, path, array or DataFrame, optional
        Vectors in place of pictures, as `geoembed.evaluation.geolocation.read_features` takes them:
        of the gallery's length, or features of the tower (768 values for GeoCLIP), which go
        through the trained head.
    protocol : str, path or GeolocationProtocol, optional
        ``"im2gps3k"``, ``"yfcc26k"``, ``"gws15k"``, or a TOML file: sets gallery, crops and
        thresholds that are not given, and brings published rows to compare with. What is not as it
        asks for is noted.
    output : str or path, optional
        Folder for the files of `GeolocationReport.save`. Vectors of pictures are kept there too:
        a run that was stopped goes on, and another gallery needs no encoding.
    thresholds_km : sequence of float, optional
        Ascending; 1, 25, 200, 750 and 2500 km if not given.
    tta : {"none", "five", "ten-crop"}, optional
        Views of every picture; with `features`, what they are of. What the protocol says, else what
        the localizer does, if not given.
    file, lon, lat, layer, on_invalid
        Of `read_manifest`.
    id_column : str, optional
        Of `read_features`.
    leak_m, resamples, level, seed
        Of `evaluate_geolocation`.
    progress : bool or None
        Show a progress bar; None shows one on a terminal when the work is long.

    Returns
    -------
    GeolocationReport
        Scores with their intervals, by continent, leaks, and the record.

    Raises
    ------
    OptionError
        If not exactly one of `images` and `features` is given, or an option is not one of those
        offered.
    TableError
        If the manifest or the features cannot be read, or no picture can be evaluated.
    CoordinateError
        If places in the manifest are missing, out of range or swapped.
    MissingWeightsError
        If pictures are given and the tower's weights are not on this machine.

    Warns
    -----
    UserWarning
        If pictures carry their place in EXIF. It is not used.

    Examples
    --------
    Location embeddings of known places stand in for pictures, and the places are the gallery.

    >>> import geoembed as ge
    >>> from geoembed.galleries import Gallery
    >>> cities = ge.data.load_cities().head(50)
    >>> vectors = ge.encode(cities["lon"], cities["lat"], normalize=True)
    >>> manifest = cities.assign(file=cities.index.map("{}.jpg".format))
    >>> report = evaluate_manifest(manifest, Gallery.from_frame(cities), features=vectors)
    >>> report.value("within 25 km"), len(report.leaks)
    (100.0, 50)
    """
    if (images is None) == (features is None):
        raise OptionError("Give one of images= (a folder) and features= (vectors in their place).")
    if tta is not None and tta not in CROPS:
        raise OptionError(f"tta={tta!r} is not one of: {', '.join(CROPS)}.")
    rules = None if protocol is None else load_geolocation_protocol(protocol)
    if thresholds_km is None:
        thresholds_km = THRESHOLDS_KM if rules is None else rules.thresholds_km
    thresholds = check_thresholds(thresholds_km)
    check_resampling(resamples, level)
    check_leak_distance(leak_m)
    table = read_manifest(manifest, file=file, lon=lon, lat=lat, layer=layer, on_invalid=on_invalid)
    folder = None if output is None else Path(output).expanduser()
    # What may be wrong comes before the gallery, which may take minutes to encode.
    if images is not None:
        paths = _find(table, images)
        ready = _localizer(localizer, rules, progress, pictures=True)
        crops = tta or str(getattr(ready, "tta", "none") if rules is None else rules.tta)
        run = _from_images(table, ready, paths, crops, folder, progress)
    else:
        vectors = read_features(features, table, id_column=id_column)
        ready = _localizer(localizer, rules, progress, pictures=False)
        run = _from_features(ready, vectors, tta)
    gallery = getattr(ready, "gallery_", None)
    kept, notes = _protocol_facts(rules, gallery, run, thresholds)
    report = evaluate_geolocation(
        table.lonlat,
        run.predicted,
        files=table.files,
        errors=run.errors,
        gallery=gallery,
        thresholds_km=thresholds,
        leak_m=leak_m,
        resamples=resamples,
        level=level,
        seed=seed,
        protocol=rules,
        facts={
            "protocol": kept,
            "manifest": {"name": table.name, "sha256": table.sha256, "rows": len(table)},
            **run.facts,
            "refinement": UNKNOWN if gallery is None else "off",
            "index": None if gallery is None else str(getattr(ready, "index", UNKNOWN)),
            "gallery": None if gallery is None else describe_gallery(gallery),
        },
        notes=[*notes, *table.notes, *run.notes],
    )
    if folder is not None:
        _save(report, folder)
    return report


def _save(report: GeolocationReport, folder: Path) -> None:
    try:
        report.save(folder)
    except MissingExtraError as error:
        # The tables are there; hours of encoding are not lost for want of two pictures.
        report.notes.append(f"No curve and no map: {str(error).rstrip('.')}")


def _protocol_facts(
    rules: GeolocationProtocol | None, gallery: Any, run: "_Run", thresholds: Sequence[float]
) -> tuple[dict[str, Any] | None, list[str]]:
    """What the record says of the protocol, and the notes on what is not as it asks for."""
    if rules is None:
        return None, []
    found = deviations(
        rules,
        gallery=str(getattr(gallery, "name", "none")),
        tta=run.facts["crops"],
        thresholds_km=thresholds,
        pictures=len(run.errors),
        lost=sum(map(bool, run.errors)),
    )
    facts = {
        "name": rules.name,
        "followed": not found,
        "as_published": not found and not rules.differences,
        "deviations": found,
        "differences": list(rules.differences),
    }
    notes = [f"{rules.title} here: {text}" for text in rules.differences]
    return facts, notes + [f"Not as {rules.name} asks for: {text}" for text in found]


@dataclass(frozen=True, eq=False)
class _Run:
    """Predicted places of a manifest, and what is to be said of how they came about."""

    predicted: NDArray[np.float64]
    errors: list[str]
    facts: dict[str, Any]
    notes: Sequence[str] = ()


def _localizer(
    given: Any, rules: GeolocationProtocol | None, progress: bool | None, *, pictures: bool
) -> Any:
    if hasattr(given, "predict"):
        if hasattr(given, "fit") and not hasattr(given, "gallery_"):
            raise OptionError(f"{given!r} is not fitted yet: call its fit() first.")
        return given
    if given is None:
        given = DEFAULT_GALLERY if rules is None else rules.gallery
    if not isinstance(given, str | PathLike) and not hasattr(given, "lonlat"):
        raise OptionError(
            f"localizer={given!r} is neither a GeoLocalizer nor a gallery, its name or its folder, "
            "and it has no predict()."
        )
    from geoembed.geolocation import GeoLocalizer

    encoder = load_image_encoder() if pictures else "geoclip.v1"
    return GeoLocalizer(given, image_encoder=encoder, progress=progress).fit()


def _find(manifest: Manifest, images: "str | PathLike[str]") -> list[Path | None]:
    paths = manifest.find_files(images)
    if not any(paths):
        raise TableError(
            f"None of the {len(manifest):,} pictures of {manifest.name} is in {images}: the first "
            f"is {manifest.files[0]!r}."
        )
    return paths


def _from_images(
    manifest: Manifest,
    localizer: Any,
    paths: list[Path | None],
    crops: str,
    folder: Path | None,
    progress: bool | None,
) -> _Run:
    encoder = getattr(localizer, "image_encoder_", None)
    facts: dict[str, Any] = {"image_encoder": None}
    if encoder is None:
        found = predict_pictures(paths, localizer)
        predicted, facts["crops"] = found.values, UNKNOWN
    else:
        found = encode_pictures(
            manifest,
            paths,
            encoder,
            tta=crops,
            folder=folder,
            batch_size=getattr(localizer, "batch_size", None),
            workers=getattr(localizer, "workers", None),
            progress=progress,
        )
        predicted = _predict(localizer, found)
        facts |= {"crops": crops, "image_encoder": describe_encoder(encoder)}
    carrying = count_gps(paths)
    absent = sum(path is None for path in paths)
    facts["pictures"] = {
        "missing": absent,
        "unreadable": sum(map(bool, found.errors)) - absent,
        "with_exif_gps": carrying,
    }
    notes = _missing_note(manifest, paths)
    return _Run(predicted, found.errors, facts, [*notes, *([gps_note(carrying)] * bool(carrying))])


def _from_features(localizer: Any, found: Features, tta: str | None) -> _Run:
    gallery = getattr(localizer, "gallery_", None)
    if gallery is None or not hasattr(localizer, "predict_vectors"):
        raise OptionError(
            "features= needs a localizer with a gallery to search, such as a GeoLocalizer or a "
            "gallery's name."
        )
    name = getattr(localizer, "image_encoder", "geoclip.v1")
    encoder = name if isinstance(name, str) else str(getattr(name, "name", "geoclip.v1"))
    width = gallery.embeddings.shape[1]
    vectors = to_embeddings(found, width, encoder)
    facts = {
        "crops": tta or _VIEWS.get(found.views, f"{found.views} views"),
        "features": {
            "name": found.name if found.sha256 else "given in Python",
            "sha256": found.sha256,
            "shape": list(found.vectors.shape),
            "missing": sum(map(bool, found.errors)),
        },
        "image_encoder": {
            "name": encoder,
            "weights_sha256": None,
            "precision": None,
            "head_sha256": head_sha256(found, width, encoder),
        },
    }
    predicted = _predict(localizer, Encoded(vectors, found.errors))
    return _Run(predicted, found.errors, facts, found.notes)


def _predict(localizer: Any, encoded: Encoded) -> NDArray[np.float64]:
    good = np.array([not error for error in encoded.errors], dtype=bool)
    predicted = np.full((len(good), 2), np.nan)
    if good.any():
        predicted[good] = localizer.predict_vectors(encoded.values[good])
    return predicted


def _missing_note(manifest: Manifest, paths: Sequence[Path | None]) -> list[str]:
    names = [name for name, path in zip(manifest.files, paths, strict=True) if path is None]
    if not names:
        return []
    return [f"not in the folder: {counted(len(names), 'picture')}, {first_of(names)}"]
