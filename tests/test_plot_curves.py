"""Curve and map of geolocation errors: what is drawn where, and what is refused."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from geoembed.errors import CoordinateError, OptionError

pytest.importorskip("matplotlib")

from matplotlib import pyplot as plt
from matplotlib.colors import to_rgba

from geoembed.plot.curves import cumulative_error_curve, distance_error_map

KM = [0.0, 0.5, 1.0, 30.0, 700.0, 9000.0, 9000.0, np.nan]


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    yield
    plt.close("all")


def share_at(line: Any, km: float) -> float:
    """Height of a curve of steps at a distance."""
    x, y = line.get_data()
    return float(y[np.searchsorted(x, km, side="right") - 1])


def test_the_curve_is_the_share_within_every_distance() -> None:
    ax = cumulative_error_curve(KM, title="Eight pictures")
    (line,) = (one for one in ax.get_lines() if len(one.get_xdata()) > 2)
    # One of eight has no prediction: it is never reached.
    for km, share in [(0.2, 12.5), (0.7, 25.0), (1.0, 37.5), (25.0, 37.5), (31.0, 50.0)]:
        assert share_at(line, km) == share, km
    assert share_at(line, 19_000.0) == 87.5
    assert line.get_xdata()[-1] > 20_003.9
    assert np.all(np.diff(line.get_ydata()) >= 0.0)
    texts = [text.get_text() for text in ax.texts]
    assert texts[:6] == ["37.5 %", "1 km", "37.5 %", "25 km", "50.0 %", "200 km"]
    assert ax.get_title(loc="left") == "Eight pictures"
    assert ax.get_legend() is None


def test_several_systems_have_a_legend_and_styles_of_their_own() -> None:
    ax = cumulative_error_curve({"a": [1.0, 2.0], "b": [3.0]}, thresholds_km=[10.0])
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["a", "b"]
    curves = [line for line in ax.get_lines() if line.get_label() in ("a", "b")]
    assert len({(line.get_color(), line.get_linestyle()) for line in curves}) == 2
    assert [text.get_text() for text in ax.texts] == ["100.0 %", "10 km"]


def test_a_curve_on_given_axes() -> None:
    _, given = plt.subplots()
    assert cumulative_error_curve([5.0], ax=given) is given


def test_the_map_colours_by_distance_and_counts() -> None:
    lon, lat = np.linspace(-100, 100, 8), np.linspace(-40, 60, 8)
    ax = distance_error_map(lon, lat, KM, title="Eight pictures")
    texts = [text.get_text() for text in ax.get_legend().get_texts()]
    assert texts == [
        "up to 1 km: 3",
        "1 to 25 km: 0",
        "25 to 200 km: 1",
        "200 to 750 km: 1",
        "750 to 2,500 km: 0",
        "over 2,500 km: 2",
    ]
    dots = [c for c in ax.collections if str(c.get_label()).startswith(("up", "over"))]
    near, far = dots
    assert near.get_offsets().tolist() == np.column_stack([lon, lat])[:3].tolist()
    assert far.get_offsets().tolist() == np.column_stack([lon, lat])[5:7].tolist()
    # Large errors over small ones, and in another colour.
    assert far.get_zorder() > near.get_zorder()
    assert to_rgba(near.get_facecolor()[0]) != to_rgba(far.get_facecolor()[0])
    assert "7 places, 1 left out" in ax.get_xlabel()


def test_what_cannot_be_drawn() -> None:
    with pytest.raises(OptionError, match="There are no errors to draw"):
        cumulative_error_curve([])
    with pytest.raises(OptionError, match="There are no errors of 'a' to draw"):
        cumulative_error_curve({"a": []})
    with pytest.raises(OptionError, match="has no system"):
        cumulative_error_curve({})
    with pytest.raises(OptionError, match="The errors of 'a' hold negative"):
        cumulative_error_curve({"a": [-1.0]})
    with pytest.raises(OptionError, match="errors_km holds negative"):
        distance_error_map([0, 1, 2], [0, 1, 2], [1, 2, -3])
    with pytest.raises(OptionError, match="at least 3 rows"):
        distance_error_map([0, 1, 2], [0, 1, 2], [1, 2, np.nan])
    with pytest.raises(CoordinateError, match="Latitudes must lie in"):
        distance_error_map([0, 1, 2], [0, 1, 95], [1, 2, 3])
    assert plt.get_fignums() == []
