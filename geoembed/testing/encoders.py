"""The contract of a location encoder, as checks."""

import pickle
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoembed.encoders import load_encoder
from geoembed.encoders.base import OUTPUT_DTYPES, LocationEncoder
from geoembed.errors import CoordinateError, OptionError, PluginError
from geoembed.extending.registry import location_encoder_spec, location_encoder_specs
from geoembed.testing.promises import promise, refused

__all__ = ["check_location_encoder"]

# Poles, antimeridian, the origin, equal points, and places between.
LON = np.array([-74.006, 0.0, 180.0, -180.0, 12.5, 12.5, 0.0, 90.0, 139.69, -0.1, 179.999, -65.2])
LAT = np.array([40.7128, 0.0, 10.0, 10.0, 41.9, 41.9, 90.0, -90.0, 35.68, 51.5, -16.5, -10.01])


def check_location_encoder(encoder: str | LocationEncoder) -> None:
    """Check that a location encoder keeps the contract that everything else relies on.

    Parameters
    ----------
    encoder : str or LocationEncoder
        A registered name: everything is checked. An encoder that is not registered: all but the
        options and the pickle, which go by the name.

    Raises
    ------
    AssertionError
        At the first broken promise; the message says which.

    Examples
    --------
    >>> check_location_encoder("geoclip.v1")
    """
    if isinstance(encoder, str):
        name, loaded = encoder, load_encoder(encoder)
    else:
        name, loaded = encoder.name, encoder
    checks = [_shape, _finite, _deterministic, _order, _blocks, _turns, _inputs, _names, _invalid]
    for check in checks:
        check(loaded)
    if name in location_encoder_specs():
        _spec(loaded, name)
        for named_check in (_dtypes, _normalised, _options, _pickle):
            named_check(name)


def _encode(encoder: LocationEncoder) -> NDArray[np.floating[Any]]:
    return encoder.encode(LON, LAT)


def _shape(encoder: LocationEncoder) -> None:
    try:
        got = _encode(encoder).shape
    except PluginError as error:
        # What the base class says of blocks whose shape does not fit.
        raise AssertionError(str(error)) from error
    expected = (len(LON), encoder.dimension)
    promise(got == expected, f"encode gives the shape {got}, expected {expected}")
    empty = encoder.encode([], []).shape
    expected = (0, encoder.dimension)
    promise(empty == expected, f"zero places give the shape {empty}, expected {expected}")
    scalar = encoder.encode(LON[0], LAT[0]).shape
    promise(scalar == (1, encoder.dimension), f"one place gives the shape {scalar}")


def _finite(encoder: LocationEncoder) -> None:
    bad = ~np.isfinite(_encode(encoder)).all(axis=1)
    where = list(zip(LON[bad], LAT[bad], strict=True))
    promise(not bad.any(), f"values are not finite at (lon, lat) {where}")


def _deterministic(encoder: LocationEncoder) -> None:
    same = np.array_equal(_encode(encoder), _encode(encoder))
    promise(same, "two calls give different values; fix every random draw when loading")


def _order(encoder: LocationEncoder) -> None:
    order = np.arange(len(LON))[::-1]
    _close(encoder, encoder.encode(LON[order], LAT[order]), _encode(encoder)[order], "row order")


def _blocks(encoder: LocationEncoder) -> None:
    single = np.vstack([encoder.encode(lon, lat) for lon, lat in zip(LON, LAT, strict=True)])
    _close(encoder, single, _encode(encoder), "how many rows are encoded together")


def _turns(encoder: LocationEncoder) -> None:
    turned = encoder.encode(LON[4:10] + 360.0, LAT[4:10])
    _close(encoder, turned, encoder.encode(LON[4:10], LAT[4:10]), "a whole turn of longitude")


def _inputs(encoder: LocationEncoder) -> None:
    lon, lat = LON.copy(), LAT.copy()
    encoder.encode(lon, lat)
    kept = np.array_equal(lon, LON) and np.array_equal(lat, LAT)
    promise(kept, "encode changes the arrays it is given")


def _names(encoder: LocationEncoder) -> None:
    names = encoder.feature_names()
    promise(
        len(names) == encoder.dimension == len(set(names)),
        f"feature_names gives {len(set(names))} distinct names for {encoder.dimension} values",
    )
    prefixed = encoder.feature_names("p")
    promise(all(n.startswith("p_") for n in prefixed), "feature_names does not use its prefix")


def _invalid(encoder: LocationEncoder) -> None:
    for lon, lat in ((0.0, 91.0), (float("nan"), 0.0), (0.0, float("inf"))):
        what = f"the place lon={lon}, lat={lat}"
        refused(partial(encoder.encode, lon, lat), CoordinateError, what)


def _spec(encoder: LocationEncoder, name: str) -> None:
    spec = location_encoder_spec(name)
    promise(encoder.name == name, f"the encoder of {name!r} calls itself {encoder.name!r}")
    promise(spec.owner != "", f"the spec of {name!r} has no owner")
    promise(
        load_encoder(name).dimension == spec.dimension,
        f"{load_encoder(name).dimension} values with default options, the spec declares "
        f"{spec.dimension}",
    )


def _dtypes(name: str) -> None:
    for dtype in OUTPUT_DTYPES:
        got = str(_encode(load_encoder(name, dtype=dtype)).dtype)
        promise(got == dtype, f"dtype={dtype!r} gives {got}")


def _normalised(name: str) -> None:
    vectors = _encode(load_encoder(name, normalize=True, dtype="float64"))
    norms = np.linalg.norm(vectors, axis=1)
    # A vector of zeros has no direction and stays as it is.
    unit = np.isclose(norms, 1.0, atol=1e-6) | (norms == 0.0)
    promise(bool(unit.all()), f"normalize=True gives norms {norms[~unit][:3]}")


def _options(name: str) -> None:
    wrong: tuple[dict[str, Any], ...] = (
        {"layers": "no-such"},
        {"dtype": "int8"},
        {"precision": "int3"},
        {"colour": "red"},
    )
    for options in wrong:
        call = partial(load_encoder, name, **options)
        refused(call, OptionError, f"the option {options}")


def _pickle(name: str) -> None:
    encoder = load_encoder(name, normalize=True)
    again = pickle.loads(pickle.dumps(encoder))
    same = np.array_equal(_encode(again), _encode(encoder))
    promise(same, "a pickled encoder gives other values")


def _close(
    encoder: LocationEncoder,
    got: NDArray[np.floating[Any]],
    expected: NDArray[np.floating[Any]],
    what: str,
) -> None:
    # Matrix products of other shapes sum in another order, so equality is too much to ask.
    allowed = max(encoder.spec.tolerance, 1e-6) * 10
    norms = np.linalg.norm(expected.astype(np.float64), axis=1)
    errors = np.linalg.norm(got.astype(np.float64) - expected, axis=1)
    worst = float(np.max(errors / np.where(norms == 0.0, 1.0, norms)))
    promise(worst <= allowed, f"{what} changes values by {worst:.1e}, allowed {allowed:.1e}")
