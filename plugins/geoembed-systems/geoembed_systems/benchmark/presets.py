"""The systems of the comparison, and their options on the default data."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from geoembed.errors import unknown_name
from geoembed.extending.registry import resolve_factory
from geoembed_systems.shared.base import System

__all__ = ["CHOSEN", "SYSTEMS", "Preset", "find_preset", "options_for"]

CHOSEN: Final = (
    "by held-out blocks within the training pictures, one option at a time, with a tower that had "
    "not seen those blocks and without a look at the test pictures (benchmarks/choose_presets.py)"
)
"""How the options on the default data were found."""


@dataclass(frozen=True, kw_only=True)
class Preset:
    """A system of the comparison.

    Parameters
    ----------
    name, title : str
        Its registered name, and what people call it.
    factory : str
        ``"module:class"``.
    tokens : bool
        Whether it is given patch tokens, where there are some.
    cells : bool
        Whether its answers are those of cells; else of single places.
    options : mapping
        Of its constructor on the default data, where they are not the class's own.
    """

    name: str
    title: str
    factory: str
    tokens: bool = False
    cells: bool = True
    options: Mapping[str, Any] = field(default_factory=dict)

    def load(self) -> type[System]:
        """Return the class."""
        found: type[System] = resolve_factory(self.factory, owner="geoembed-systems")
        return found


_LEVELS: Final = {"t_max": [500, 200, 100], "t_min": 10, "smooth_km": 400.0}

SYSTEMS: Final = (
    Preset(
        name="knn",
        title="[L]kNN",
        factory="geoembed_systems.knn:KNNDensity",
        cells=False,
        options={"neighbours": 30, "sigma": 2.0},
    ),
    Preset(
        name="planet",
        title="PlaNet",
        factory="geoembed_systems.planet:PlaNet",
        options={"t_max": 50, "t_min": 5, "smooth_km": 200.0},
    ),
    Preset(
        name="cplanet",
        title="CPlaNet",
        factory="geoembed_systems.cplanet:CPlaNet",
        options={"smooth_km": 400.0, "epochs": 60.0},
    ),
    Preset(
        name="isns",
        title="ISNs",
        factory="geoembed_systems.isns:ISNs",
        options={**_LEVELS, "weight_decay": 1.0},
    ),
    Preset(
        name="translocator",
        title="TransLocator",
        factory="geoembed_systems.translocator:TransLocator",
        tokens=True,
        options={**_LEVELS, "epochs": 10.0},
    ),
    Preset(
        name="geodecoder",
        title="GeoDecoder",
        factory="geoembed_systems.geodecoder:GeoDecoder",
        tokens=True,
        options={**_LEVELS, "epochs": 20.0},
    ),
    Preset(
        name="geoclip",
        title="GeoCLIP",
        factory="geoembed_systems.geoclip:GeoCLIP",
        cells=False,
        options={"recipe": "bluemarble", "gallery": "land", "smooth_km": 400.0, "epochs": 15.0},
    ),
)
"""All seven, in the order of the paper's table."""


def find_preset(name: str) -> Preset:
    """Return a system of the comparison by its name.

    Parameters
    ----------
    name : str
        Such as ``"planet"``.

    Returns
    -------
    Preset
        Of that name.

    Raises
    ------
    UnknownNameError
        If there is none; lists close matches.

    Examples
    --------
    >>> find_preset("isns").title
    'ISNs'
    """
    for preset in SYSTEMS:
        if preset.name == name:
            return preset
    raise unknown_name("system", str(name), [preset.name for preset in SYSTEMS])


def options_for(preset: Preset, data: str) -> dict[str, Any]:
    """Return the options that a system starts from.

    Parameters
    ----------
    preset : Preset
        The system.
    data : str
        Name of the data.

    Returns
    -------
    dict
        Those found for the default data; none for any other, whose users know it better.

    Examples
    --------
    >>> options_for(find_preset("geoclip"), "mine")
    {}
    """
    return dict(preset.options) if data == "bluemarble" else {}
