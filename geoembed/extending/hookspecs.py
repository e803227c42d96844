"""The hooks a plugin can implement: this file is the whole contract.

A hook is here only if a real plugin uses it. Mark an implementation with
`hookimpl`; one for a hook of a newer geoembed with
``@hookimpl(optionalhook=True)``, so that older releases skip it.
"""

# Annotations stay strings: the docs and their test quote them as they are written here.
from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    import typer

    from geoembed.extending.gallery_specs import GallerySpec, IndexSpec
    from geoembed.extending.image_specs import ImageEncoderSpec
    from geoembed.extending.specs import HeadSpec, LocationEncoderSpec

__all__ = [
    "hookimpl",
    "hookspec",
    "register_commands",
    "register_galleries",
    "register_heads",
    "register_image_encoders",
    "register_indexes",
    "register_location_encoders",
]

PROJECT = "geoembed"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def register_location_encoders(register: Callable[[LocationEncoderSpec], None]) -> None:
    """Add location encoders: functions from longitude and latitude to vectors.

    Called once a process, when a name is first looked up or listed. It must be quick and must
    not import torch: a spec names its code as ``"module:attribute"``, imported on first use.

    Parameters
    ----------
    register : callable
        ``register(spec)`` adds one `LocationEncoderSpec`; call it once an encoder, before the
        hook returns.

    Raises
    ------
    PluginError
        By `register`, if it is given anything but a `LocationEncoderSpec`, or after the hook.
    DuplicateNameError
        By `register`, if the name (or that of its weights) is taken; both owners are named.

    Notes
    -----
    If the hook raises anything, the whole plugin is left out: nothing that it registered before
    stays, one `GeoembedPluginWarning` says why, everything else works.

    Examples
    --------
    >>> from geoembed.extending import LocationEncoderSpec, hookimpl
    >>> @hookimpl
    ... def register_location_encoders(register):
    ...     register(
    ...         LocationEncoderSpec(
    ...             name="sphere.xyz",
    ...             factory="my_package.encoders:load",
    ...             dimension=3,
    ...             summary="The point on the unit sphere",
    ...         )
    ...     )
    """


@hookspec
def register_image_encoders(register: Callable[[ImageEncoderSpec], None]) -> None:
    """Add image encoders: functions from pictures, and perhaps texts, to vectors.

    Called once a process, when a name is first looked up or listed. It must be quick and must
    not import torch: a spec names its code as ``"module:attribute"``, imported on first use. One
    whose spec names a location encoder can be searched with: its vectors and those of places
    lie in one space.

    Parameters
    ----------
    register : callable
        ``register(spec)`` adds one `ImageEncoderSpec`; call it once an encoder, before the hook
        returns.

    Raises
    ------
    PluginError
        By `register`, if it is given anything but an `ImageEncoderSpec`, or after the hook.
    DuplicateNameError
        By `register`, if the name is taken; both owners are named.

    Notes
    -----
    If the hook raises anything, the whole plugin is left out, as with
    `register_location_encoders`.

    Examples
    --------
    >>> from geoembed.extending import ImageEncoderSpec, Preprocessing, hookimpl
    >>> @hookimpl
    ... def register_image_encoders(register):
    ...     register(
    ...         ImageEncoderSpec(
    ...             name="mean.colour",
    ...             factory="my_package.images:load",
    ...             dimension=3,
    ...             preprocessing=Preprocessing(size=8, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)),
    ...             summary="The mean colour of a picture",
    ...         )
    ...     )
    """


@hookspec
def register_galleries(register: Callable[[GallerySpec], None]) -> None:
    """Add galleries: named sets of places that photographs and texts are compared with.

    Called once a process, when a name is first looked up or listed. It must be quick: a spec
    names its code as ``"module:attribute"``, imported on first use. The factory gives places
    only; geoembed encodes them, and keeps their embeddings in its cache.

    Parameters
    ----------
    register : callable
        ``register(spec)`` adds one `GallerySpec`; call it once a gallery, before the hook returns.

    Raises
    ------
    PluginError
        By `register`, if it is given anything but a `GallerySpec`, or after the hook.
    DuplicateNameError
        By `register`, if the name is taken; both owners are named.

    Notes
    -----
    If the hook raises anything, the whole plugin is left out, as with
    `register_location_encoders`.

    Examples
    --------
    >>> from geoembed.extending import GallerySpec, hookimpl
    >>> @hookimpl
    ... def register_galleries(register):
    ...     register(
    ...         GallerySpec(
    ...             name="airports",
    ...             factory="my_package.places:airports",
    ...             summary="Airports of the world",
    ...         )
    ...     )
    """


@hookspec
def register_indexes(register: Callable[[IndexSpec], None]) -> None:
    """Add indexes: ways to find the rows of a gallery that are most similar to a vector.

    Called once a process, when a name is first looked up or listed. It must be quick and must
    not import torch: a spec names its code as ``"module:attribute"``, imported on first use.

    Parameters
    ----------
    register : callable
        ``register(spec)`` adds one `IndexSpec`; call it once an index, before the hook returns.

    Raises
    ------
    PluginError
        By `register`, if it is given anything but an `IndexSpec`, or after the hook.
    DuplicateNameError
        By `register`, if the name is taken; both owners are named.

    Notes
    -----
    If the hook raises anything, the whole plugin is left out, as with
    `register_location_encoders`.

    Examples
    --------
    >>> from geoembed.extending import IndexSpec, hookimpl
    >>> @hookimpl
    ... def register_indexes(register):
    ...     register(
    ...         IndexSpec(
    ...             name="graph",
    ...             factory="my_package.search:GraphIndex",
    ...             summary="Approximate search along a graph of neighbours",
    ...         )
    ...     )
    """


@hookspec
def register_heads(register: Callable[[HeadSpec], None]) -> None:
    """Add heads: estimators that predict something at places, or the places of pictures.

    Called once a process, when a name is first looked up or listed. It must be quick and must
    not import scikit-learn: a spec names its code as ``"module:attribute"``, imported on first
    use. A registered head is known by its name to `geoembed.heads.make_head`,
    ``geoembed fit --head`` and ``geoembed compare --head``.

    Parameters
    ----------
    register : callable
        ``register(spec)`` adds one `HeadSpec`; call it once a head, before the hook returns.

    Raises
    ------
    PluginError
        By `register`, if it is given anything but a `HeadSpec`, or after the hook.
    DuplicateNameError
        By `register`, if the name is taken; both owners are named.

    Notes
    -----
    If the hook raises anything, the whole plugin is left out, as with
    `register_location_encoders`. The factory is best a subclass of `geoembed.heads.LocationHead`:
    saving, columns, extra columns and the command line then come with it.

    Examples
    --------
    >>> from geoembed.extending import HeadSpec, hookimpl
    >>> @hookimpl
    ... def register_heads(register):
    ...     register(
    ...         HeadSpec(
    ...             name="forest",
    ...             task="regression",
    ...             factory="my_package.heads:ForestRegressor",
    ...             summary="A random forest on the embedding",
    ...         )
    ...     )
    """


@hookspec
def register_commands(cli: typer.Typer) -> None:
    """Add commands to the command line ``geoembed``.

    Called once a run of ``geoembed``, never from Python. Import heavy packages inside the
    command's function: ``geoembed --help`` runs this hook.

    Parameters
    ----------
    cli : typer.Typer
        An empty app of this plugin's own. Add to it with ``@cli.command()``, or a group with
        ``cli.add_typer(group, name="...")``; afterwards it is merged into ``geoembed``.

    Raises
    ------
    DuplicateNameError
        After the hook, if a command's name is taken; both owners are named.
    PluginError
        After the hook, if Typer cannot build a command, or the plugin set a callback for the
        whole app (global options are geoembed's).

    Notes
    -----
    If the hook raises anything, or one of its commands is refused, the whole plugin is left out
    of this run, its encoders included, and one `GeoembedPluginWarning` says why. A paragraph of a
    command's docstring that starts with ``Example:`` is shown line by line as it is written.

    Examples
    --------
    >>> from geoembed.extending import hookimpl
    >>> @hookimpl
    ... def register_commands(cli):
    ...     @cli.command()
    ...     def hello(name: str) -> None:
    ...         '''Greet somebody.
    ...
    ...         Example:
    ...             geoembed hello Ada
    ...         '''
    ...         print(f"Hello {name}")
    """
