"""Look up what is registered. Listing imports no encoder and no torch."""

from importlib import import_module
from typing import Any, TypeVar

from geoembed.errors import GeoembedError, OptionError, PluginError, unknown_name
from geoembed.extending.gallery_specs import GallerySpec, IndexSpec
from geoembed.extending.image_specs import ImageEncoderSpec
from geoembed.extending.manager import host
from geoembed.extending.report import PluginInfo
from geoembed.extending.specs import HeadSpec, LocationEncoderSpec, WeightsSpec, check_factory

__all__ = [
    "gallery_spec",
    "gallery_specs",
    "head_spec",
    "head_specs",
    "image_encoder_spec",
    "image_encoder_specs",
    "index_spec",
    "index_specs",
    "location_encoder_spec",
    "location_encoder_specs",
    "plugin_report",
    "resolve_factory",
    "weights_specs",
]

_Spec = TypeVar("_Spec")


def location_encoder_specs() -> dict[str, LocationEncoderSpec]:
    """Return the registered location encoders by name, built-in ones first.

    Returns
    -------
    dict of str to LocationEncoderSpec
        With ``owner`` filled in.

    Examples
    --------
    >>> location_encoder_specs()["geoclip.v1"].dimension
    512
    """
    return host().specs(LocationEncoderSpec)


def location_encoder_spec(name: str) -> LocationEncoderSpec:
    """Return the spec of one location encoder.

    Parameters
    ----------
    name : str
        A registered name, for example ``"geoclip.v1"``.

    Returns
    -------
    LocationEncoderSpec
        With ``owner`` filled in.

    Raises
    ------
    UnknownNameError
        If no plugin registered `name`; the message gives close matches.

    Examples
    --------
    >>> location_encoder_spec("geoclip.v1").factory
    'geoembed.encoders.geoclip:load'
    >>> location_encoder_spec("geoclip.v2")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    geoembed.errors.UnknownNameError: There is no encoder named 'geoclip.v2'. ...
    """
    return _named("encoder", name, location_encoder_specs())


def image_encoder_specs() -> dict[str, ImageEncoderSpec]:
    """Return the registered image encoders by name, built-in ones first.

    Returns
    -------
    dict of str to ImageEncoderSpec
        With ``owner`` filled in.

    Examples
    --------
    >>> image_encoder_specs()["geoclip.v1"].dimension
    512
    """
    return host().specs(ImageEncoderSpec)


def image_encoder_spec(name: str) -> ImageEncoderSpec:
    """Return the spec of one image encoder.

    Parameters
    ----------
    name : str
        A registered name, for example ``"geoclip.v1"``.

    Returns
    -------
    ImageEncoderSpec
        With ``owner`` filled in.

    Raises
    ------
    UnknownNameError
        If no plugin registered `name`; the message gives close matches.

    Examples
    --------
    >>> image_encoder_spec("geoclip.v1").owner.split()[0]
    'geoembed'
    """
    return _named("image encoder", name, image_encoder_specs())


def gallery_specs() -> dict[str, GallerySpec]:
    """Return the registered galleries by name, built-in ones first.

    Returns
    -------
    dict of str to GallerySpec
        With ``owner`` filled in.

    Examples
    --------
    >>> gallery_specs()["geoclip.100k"].encoder
    'geoclip.v1'
    """
    return host().specs(GallerySpec)


def gallery_spec(name: str) -> GallerySpec:
    """Return the spec of one gallery.

    Parameters
    ----------
    name : str
        A registered name, for example ``"geoclip.100k"``.

    Returns
    -------
    GallerySpec
        With ``owner`` filled in.

    Raises
    ------
    UnknownNameError
        If no plugin registered `name`; the message gives close matches.

    Examples
    --------
    >>> gallery_spec("geoclip.100k").owner.split()[0]
    'geoembed'
    """
    return _named("gallery", name, gallery_specs())


def index_specs() -> dict[str, IndexSpec]:
    """Return the registered indexes by name, built-in ones first.

    Returns
    -------
    dict of str to IndexSpec
        With ``owner`` filled in.

    Examples
    --------
    >>> index_specs()["exact"].exact
    True
    """
    return host().specs(IndexSpec)


def index_spec(name: str) -> IndexSpec:
    """Return the spec of one index.

    Parameters
    ----------
    name : str
        A registered name, for example ``"exact"``.

    Returns
    -------
    IndexSpec
        With ``owner`` filled in.

    Raises
    ------
    UnknownNameError
        If no plugin registered `name`; the message gives close matches.

    Examples
    --------
    >>> index_spec("exact").owner.split()[0]
    'geoembed'
    """
    return _named("index", name, index_specs())


def head_specs() -> dict[str, HeadSpec]:
    """Return the registered heads by name, built-in ones first.

    Returns
    -------
    dict of str to HeadSpec
        With ``owner`` filled in.

    Examples
    --------
    >>> head_specs()["landcover"].task
    'fractions'
    """
    return host().specs(HeadSpec)


def head_spec(name: str, *, takes: str = "") -> HeadSpec:
    """Return the spec of one head.

    Parameters
    ----------
    name : str
        A registered name, for example ``"landcover"``.
    takes : {"", "places", "pictures"}
        What it is going to be given, if that is known.

    Returns
    -------
    HeadSpec
        With ``owner`` filled in.

    Raises
    ------
    UnknownNameError
        If no plugin registered `name`; the message gives close matches.
    OptionError
        If it takes something else.

    Examples
    --------
    >>> head_spec("regress").factory
    'geoembed.heads.location:LocationRegressor'
    """
    spec = _named("head", name, head_specs())
    if takes and spec.input_kind != takes:
        fitting = ", ".join(n for n, each in head_specs().items() if each.input_kind == takes)
        raise OptionError(
            f"The head {name!r} takes {spec.input_kind}, and these are {takes}. Heads of {takes}: "
            f"{fitting or 'none'}."
        )
    return spec


def weights_specs() -> dict[str, WeightsSpec]:
    """Return the distinct trained weights of all registered encoders, by name.

    Returns
    -------
    dict of str to WeightsSpec
        In the order of the encoders.

    Examples
    --------
    >>> weights_specs()["geoclip.v1"].licence
    'MIT'
    """
    found = (spec.weights for spec in location_encoder_specs().values())
    return {weights.name: weights for weights in found if weights is not None}


def resolve_factory(factory: str, *, owner: str = "") -> Any:
    """Import what a spec's ``factory`` names.

    Parameters
    ----------
    factory : str
        ``"module:attribute"``.
    owner : str
        The distribution that registered it, for the message.

    Returns
    -------
    callable
        The attribute.

    Raises
    ------
    PluginError
        If the string does not read ``"module:attribute"``, the module cannot be imported (the
        message says why), or it has no callable of that name. An error of geoembed's own, such as
        a missing extra, is passed on as it is.

    Examples
    --------
    >>> resolve_factory("math:hypot")(3.0, 4.0)
    5.0
    """
    module_name, _, attribute = check_factory(factory).partition(":")
    by = f" of {owner}" if owner else ""
    try:
        module = import_module(module_name)
    except GeoembedError:
        raise
    except (Exception, SystemExit) as error:
        raise PluginError(
            f"The factory {factory!r}{by} cannot be imported: {type(error).__name__}: {error}"
        ) from error
    if not callable(getattr(module, attribute, None)):
        raise PluginError(
            f"The factory {factory!r}{by} does not exist: the module {module_name!r} has no "
            f"callable {attribute!r}."
        )
    return getattr(module, attribute)


def plugin_report() -> list[PluginInfo]:
    """Describe every plugin: those that are loaded, that failed, and that were not selected.

    Returns
    -------
    list of PluginInfo
        Built-ins first, then by name.

    Examples
    --------
    >>> plugin_report()[0].registered["location encoder"][:2]
    ('geoclip.v1', 'lonlat')
    """
    return [plugin.info for plugin in host().plugins]


def _named(kind: str, name: str, specs: dict[str, _Spec]) -> _Spec:
    if name not in specs:
        raise unknown_name(kind, name, specs)
    return specs[name]
