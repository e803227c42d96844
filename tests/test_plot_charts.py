"""Charts of scores and maps of errors: what is drawn is what was given."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from geoembed import plot
from geoembed.errors import CoordinateError, OptionError, UnknownNameError

matplotlib = pytest.importorskip("matplotlib")
plt = pytest.importorskip("matplotlib.pyplot")


@pytest.fixture(autouse=True)
def no_figure_stays_open() -> Any:
    yield
    plt.close("all")


@pytest.fixture
def table() -> pd.DataFrame:
    rows = [
        ("xyz", "random", 0.7, 0.02, 3),
        ("geoclip.v1:final", "random", 0.9, 0.01, 512),
        ("mean", "random", -0.01, 0.01, 0),
        ("geoclip.v1:final", "spatial", 0.5, 0.6, 512),
        ("xyz", "spatial", 0.6, 0.1, 3),
        ("mean", "spatial", -4.0, 2.0, 0),
    ]
    return pd.DataFrame(rows, columns=["label", "split", "mean", "sd", "dimension"])


def names(ax: Any) -> list[str]:
    """From top to bottom."""
    return [label.get_text() for label in ax.get_yticklabels()][::-1]


def texts(ax: Any) -> list[str]:
    return [text.get_text() for text in ax.texts]


def overlapping(ax: Any) -> list[tuple[str, str]]:
    """Pairs of texts of a figure that lie over each other."""
    ax.figure.canvas.draw()
    drawn = [t for t in [*ax.texts, *ax.get_yticklabels(), ax.title] if t.get_text()]
    boxes = [(t.get_text(), t.get_window_extent()) for t in drawn]
    return [
        (a, b)
        for at, (a, one) in enumerate(boxes)
        for b, other in boxes[at + 1 :]
        if one.overlaps(other)
    ]


# Scores


def test_the_best_of_the_deciding_split_stands_on_top(table):
    assert names(plot.score_chart(table)) == ["xyz", "geoclip.v1:final", "mean"]
    assert names(plot.score_chart(table, by="random"))[0] == "geoclip.v1:final"


def test_dots_stand_at_the_means_and_bars_are_as_long_as_the_spread(table):
    ax = plot.score_chart(table, metric="R2")
    lines = {line.get_label(): line for line in ax.lines}
    assert sorted(lines["random"].get_xdata()) == [-0.01, 0.7, 0.9]
    # What is far below is no dot but an arrow at the edge.
    assert sorted(lines["spatial"].get_xdata()) == [0.5, 0.6]
    assert ax.get_xlim()[0] >= -0.6
    arrows = [line for line in ax.lines if line.get_marker() == "<" and len(line.get_xdata())]
    assert len(arrows) == 1
    bars = [segment for c in ax.collections for segment in c.get_segments()]
    ends = sorted((round(bar[0, 0], 3), round(bar[1, 0], 3)) for bar in bars)
    assert (0.68, 0.72) in ends
    # No score exceeds 1, and no bar does.
    assert max(end for _, end in ends) == 1.0


def test_numbers_and_units_are_written_out(table):
    ax = plot.score_chart(table, metric="R2", title="Scores")
    written = texts(ax)
    assert {"0.900", "0.600", "-4.000", "random", "spatial", "512", "values", "-"} <= set(written)
    assert ax.get_xlabel() == "R², mean and standard deviation over the folds"
    assert ax.get_title(loc="left") == "Scores"
    bare = plot.score_chart(table.assign(sd=np.nan)[["label", "split", "mean", "sd"]])
    assert bare.get_xlabel() == "score"
    assert "values" not in texts(bare)


def test_splits_have_marks_as_well_as_colours(table):
    ax = plot.score_chart(table)
    dots = [line for line in ax.lines if line.get_label() in {"random", "spatial"}]
    assert len({line.get_marker() for line in dots}) == 2
    assert len({line.get_color() for line in dots}) == 2


@pytest.mark.parametrize("count", [1, 3, 25])
def test_no_text_lies_over_another(table, count):
    many = [table.assign(label=table["label"] + f" with a long name, {at}") for at in range(count)]
    region = table.assign(split="one region left out", label="xyz with a long name, 0")
    wide = pd.concat([*many, region.drop_duplicates("label")])
    wide = wide.drop_duplicates(["label", "split"])
    assert overlapping(plot.score_chart(wide)) == []


def test_an_encoder_without_a_split_has_a_gap(table):
    ax = plot.score_chart(table.drop(index=4))
    assert "-" in texts(ax)
    assert names(ax)[-1] == "xyz"


def test_draws_where_it_is_told(table):
    _, ax = plt.subplots()
    assert plot.score_chart(table, ax=ax) is ax


def test_tables_that_do_not_fit_are_refused(table):
    with pytest.raises(OptionError, match="lacks 'sd'"):
        plot.score_chart(table.drop(columns="sd"))
    with pytest.raises(OptionError, match="is empty"):
        plot.score_chart(table.head(0))
    with pytest.raises(OptionError, match="'xyz' stands twice in the table for the split 'random'"):
        plot.score_chart(pd.concat([table, table.head(1)]))
    with pytest.raises(UnknownNameError, match="no split named 'space'"):
        plot.score_chart(table, by="space")


# Errors


@pytest.fixture
def places() -> tuple[Any, Any, Any]:
    rng = np.random.default_rng(0)
    return rng.uniform(-170, 170, 200), rng.uniform(-60, 70, 200), rng.exponential(1.0, 200)


def dots(ax: Any) -> Any:
    (found,) = [c for c in ax.collections if c.get_label() not in {"coastline", "border"}]
    return found


def test_every_split_has_its_map_with_one_scale_of_colours(places):
    lon, lat, errors = places
    first = plot.error_map(lon, lat, {"random": errors, "spatial": 2 * errors}, label="error, °C")
    maps = [ax for ax in first.figure.axes if ax.get_xlabel()]
    assert [ax.get_xlabel() for ax in maps] == [
        "Random split · 200 places",
        "Spatial split · 200 places",
    ]
    top = np.percentile(np.concatenate([errors, 2 * errors]), 98)
    assert {dots(ax).get_clim() for ax in maps} == {(0.0, float(top))}
    bars = [inset.get_ylabel() for ax in maps for inset in ax.child_axes]
    assert bars == ["error, °C"] * 2
    assert first is maps[0]


def test_large_errors_are_drawn_last_at_their_places(places):
    lon, lat, errors = places
    found = dots(plot.error_map(lon, lat, {"random": errors}))
    values = np.asarray(found.get_array())
    assert (np.diff(values) >= 0).all()
    order = np.argsort(errors)
    np.testing.assert_allclose(found.get_offsets(), np.stack([lon, lat], axis=1)[order])


def test_places_that_were_not_tested_are_counted(places):
    lon, lat, errors = places
    some = np.where(np.arange(200) < 50, errors, np.nan)
    ax = plot.error_map(lon, lat, {"one": some}, title="Errors")
    assert ax.get_xlabel() == "One split · 50 places, 150 left out (no usable values)"
    assert ax.get_title(loc="left") == "Errors"


def test_no_error_at_all_is_drawn_as_none(places):
    lon, lat, _ = places
    ax = plot.error_map(lon, lat, {"random": np.zeros(200)})
    assert dots(ax).get_clim() == (0.0, 1.0)


def test_errors_that_do_not_fit_are_refused(places):
    lon, lat, errors = places
    with pytest.raises(OptionError, match="nothing to show"):
        plot.error_map(lon, lat, {})
    with pytest.raises(OptionError, match="one value a row"):
        plot.error_map(lon[:5], lat, {"random": errors})
    with pytest.raises(OptionError, match="at least 3 rows"):
        plot.error_map(lon, lat, {"random": np.full(200, np.nan)})
    with pytest.raises(CoordinateError, match=r"Latitudes must lie in \[-90, 90\]"):
        plot.error_map(lat, lon, {"random": errors})
