"""Comparisons of encoders: the same folds for all, known truths found, nothing lost on the way."""

import json
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray
from scipy import stats
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LinearRegression
from sklearn.metrics import accuracy_score, r2_score
from sklearn.model_selection import KFold, cross_val_score
from sklearn.neighbors import KNeighborsClassifier

import geoembed as ge
from geoembed.errors import (
    CoordinateError,
    OptionError,
    PluginError,
    TableError,
    TargetError,
    UnknownNameError,
)
from geoembed.evaluation import compare as compare_module
from geoembed.evaluation.cached import CachedEncoder
from geoembed.evaluation.compare import compare_encoders
from geoembed.evaluation.contenders import adapt_encoder, read_contenders
from geoembed.evaluation.learners import HeadLearner
from geoembed.evaluation.spread import paired_difference
from geoembed.evaluation.tasks import read_task
from geoembed.extending.registry import location_encoder_spec
from geoembed.featurizer import LocationFeaturizer
from geoembed.splits.block_splits import SpatialBlockKFold

ENCODERS = ["xyz", "wrap", "harmonics.l10"]


class Sine:
    """An encoder of somebody else: no class of ours, a tensor out."""

    def encode(self, lon: NDArray[np.float64], lat: NDArray[np.float64]) -> Any:
        phi = torch.from_numpy(np.radians(np.stack([lat, lon], axis=1)))
        return torch.sin(phi).requires_grad_()


@pytest.fixture(scope="module")
def cities() -> gpd.GeoDataFrame:
    table = ge.data.load_cities().sample(400, random_state=1).set_index("name")
    lat, lon = table["lat"].to_numpy(), table["lon"].to_numpy()
    rng = np.random.default_rng(0)
    table["sine"] = np.sin(np.radians(lat)) + rng.normal(0, 0.01, len(table))
    table["half"] = np.where(lat > 15, "north", "south")
    table["east"] = (lon + 180) / 360
    table["west"] = 1 - table["east"]
    return table


def quick(table: Any, target: Any, **options: Any) -> Any:
    given = {
        "encoders": ENCODERS,
        "baselines": ["mean"],
        "n_splits": 3,
        "model": LinearRegression(),
    }
    return compare_encoders(table, target, progress=False, **{**given, **options})


@pytest.fixture(scope="module")
def found(cities: gpd.GeoDataFrame) -> Any:
    return quick(cities, "sine")


# -- what is compared, and how it is scored --------------------------------------------------------


def test_every_encoder_meets_the_same_folds_of_both_splits(found: Any) -> None:
    assert list(found.splits) == ["random", "spatial"]
    assert set(found.table["label"]) == {*ENCODERS, "mean"}
    assert len(found.table) == 8
    for _, folds in found.folds.groupby(["split", "fold"]):
        assert len(folds) == 4
        assert folds["n_test"].nunique() == folds["n_train"].nunique() == 1
    assert (found.table["folds"] == 3).all()
    assert (found.table["n"] == 400).all()


def test_scores_are_those_of_scikit_learn(cities: gpd.GeoDataFrame, found: Any) -> None:
    vectors = LocationFeaturizer("xyz").transform(cities)
    folds = KFold(3, shuffle=True, random_state=0)
    expected = cross_val_score(LinearRegression(), vectors, cities["sine"], cv=folds)
    mine = found.folds.query("label == 'xyz' and split == 'random'")
    np.testing.assert_allclose(mine["score"], expected, rtol=1e-5)
    row = found.table.query("label == 'xyz' and split == 'random'").iloc[0]
    np.testing.assert_allclose(
        [row["mean"], row["sd"]], [expected.mean(), expected.std(ddof=1)], rtol=1e-4
    )
    spatial = SpatialBlockKFold(3, block_km=500).split(cities)
    scores = []
    for train, test in spatial:
        model = LinearRegression().fit(vectors[train], cities["sine"].iloc[train])
        scores.append(r2_score(cities["sine"].iloc[test], model.predict(vectors[test])))
    mine = found.folds.query("label == 'xyz' and split == 'spatial'")
    np.testing.assert_allclose(mine["score"], scores, rtol=1e-5)


def test_a_field_that_is_linear_in_an_encoder_is_found(found: Any) -> None:
    spatial = found.table[found.table["split"] == "spatial"].set_index("label")
    # The third value of xyz is the sine of the latitude.
    assert spatial.loc["xyz", "mean"] > 0.99
    assert spatial.loc["mean", "mean"] < 0.01
    assert not spatial.loc["mean", "within_spread"]
    assert spatial.index[0] in {"xyz", "wrap"}  # which holds that sine as well


def test_errors_are_out_of_fold_and_lie_at_their_places(
    cities: gpd.GeoDataFrame, found: Any
) -> None:
    assert found.errors.index.equals(cities.index)
    assert found.errors.crs == "EPSG:4326"
    np.testing.assert_array_equal(found.errors.geometry.x, cities["lon"])
    errors = found.errors["mean (random)"].to_numpy()
    expected = np.empty(len(cities))
    for train, test in KFold(3, shuffle=True, random_state=0).split(cities):
        expected[test] = (cities["sine"].iloc[test] - cities["sine"].iloc[train].mean()).abs()
    np.testing.assert_allclose(errors, expected, rtol=1e-4)


def test_pooled_scores_are_those_of_all_rows_together(cities: gpd.GeoDataFrame, found: Any) -> None:
    predicted = np.empty(len(cities))
    for train, test in KFold(3, shuffle=True, random_state=0).split(cities):
        predicted[test] = cities["sine"].iloc[train].mean()
    row = found.table.query("label == 'mean' and split == 'random'").iloc[0]
    assert row["pooled"] == pytest.approx(r2_score(cities["sine"], predicted), rel=1e-6)


def test_labels_are_classified_and_numbers_that_sum_to_one_are_shares(
    cities: gpd.GeoDataFrame,
) -> None:
    labels = quick(cities, "half", model=KNeighborsClassifier(3), encoders=["xyz"])
    assert labels.metric == "accuracy"
    row = labels.table.query("label == 'most frequent class' and split == 'spatial'").iloc[0]
    folds = list(SpatialBlockKFold(3, block_km=500).split(cities))
    expected = cross_val_score(DummyClassifier(), cities[["lon"]], cities["half"], cv=folds)
    assert row["mean"] == pytest.approx(expected.mean())
    assert set(labels.errors["xyz (random)"].unique()) <= {0.0, 1.0}

    shares = quick(cities, ["east", "west"], model=None, head=None, encoders=["xyz"], n_splits=2)
    assert shares.provenance["request"]["task"] == "fractions"
    assert "LandCoverRegressor" in shares.provenance["request"]["learner"]["head"]
    assert list(shares.targets["target"].unique()) == ["east", "west"]
    # Half the sum of absolute errors: both classes miss by the same.
    assert shares.errors["mean (random)"].max() <= 1.0

    several = quick(cities, ["east", "sine"], encoders=["xyz"])
    parts = several.targets.query("label == 'xyz' and split == 'random'")["mean"]
    row = several.table.query("label == 'xyz' and split == 'random'").iloc[0]
    assert row["mean"] == pytest.approx(parts.mean())


def test_heads_by_name_and_made_and_their_extra_columns(cities: gpd.GeoDataFrame) -> None:
    options: dict[str, Any] = {"encoders": ["xyz"], "n_splits": 2, "baselines": "knn"}
    named = quick(cities, "sine", head="regress", **options)
    made = ge.LocationRegressor(model=LinearRegression(), coverage=None, calibration=None)
    own = quick(cities, "sine", head=made, model=None, **options)
    np.testing.assert_allclose(named.folds["score"], own.folds["score"])
    # A column that is the target beside the coordinates: also the baselines see it.
    table = cities.assign(known=cities["sine"])
    told = ge.LocationRegressor(model=LinearRegression(), extra_columns=["known"])
    known = quick(table, "sine", head=told, model=None, **options)
    assert known.table.set_index("label").loc["xyz", "mean"].min() > 0.999
    knn = known.table.query("label == 'xyz + kNN'")["mean"].min()
    assert knn > named.table.query("label == 'xyz + kNN'")["mean"].min()


def test_gaussian_process_takes_part_where_rows_allow(cities: gpd.GeoDataFrame) -> None:
    small = quick(cities.head(60), "sine", baselines=None, encoders=["xyz"], n_splits=2)
    assert "xyz + Gaussian process" in set(small.table["label"])
    labels = quick(cities, "half", model=None, baselines=None, encoders=["lonlat"], n_splits=2)
    assert any("Gaussian process on coordinates is left out" in note for note in labels.notes)


def test_splits_of_ones_own_and_repeated_ones(cities: gpd.GeoDataFrame) -> None:
    folds = [(np.arange(100), np.arange(100, 150)), (np.arange(50, 150), np.arange(50))]
    own = quick(cities, "sine", splits={"mine": folds, "blocks": SpatialBlockKFold(2)})
    assert list(own.splits) == ["mine", "blocks"]
    assert own.deciding == "blocks"
    assert own.splits["mine"] == "2 folds as given"
    assert own.splits["blocks"].startswith("SpatialBlockKFold(")
    assert "\n" not in own.splits["blocks"]
    assert own.errors["xyz (mine)"].isna().sum() == 300
    twice = quick(cities, "sine", encoders=["xyz"], seeds=2)
    assert (twice.table["folds"] == 6).all()
    first = quick(cities, "sine", encoders=["xyz"], random_state=1)
    again = twice.folds[twice.folds["repeat"] == 1]
    np.testing.assert_allclose(again["score"], first.folds["score"])


def test_arrays_and_polygons_are_places_too(cities: gpd.GeoDataFrame) -> None:
    lonlat = cities[["lon", "lat"]].to_numpy()
    arrays = quick(lonlat, cities["sine"].to_numpy(), encoders=["xyz"])
    frame = quick(cities, "sine", encoders=["xyz"])
    np.testing.assert_allclose(arrays.folds["score"], frame.folds["score"])
    discs = cities.to_crs("EPSG:6933")
    discs["geometry"] = discs.buffer(1000)
    with pytest.raises(CoordinateError, match="geometry='representative_point'"):
        quick(discs, "sine")
    shapes = quick(discs, "sine", geometry="centroid", encoders=["xyz"])
    np.testing.assert_allclose(shapes.folds["score"], frame.folds["score"], atol=1e-3)


# -- encoders --------------------------------------------------------------------------------------


def test_encoders_by_name_with_layers_loaded_and_foreign(cities: gpd.GeoDataFrame) -> None:
    loaded = ge.load_encoder("xyz", normalize=True)
    both = quick(
        cities.head(60),
        "sine",
        encoders={"a": loaded, "sine of Mr X": Sine(), "b": "geoclip.v1:scale0"},
        baselines=(),
        n_splits=2,
    )
    sizes = both.table.drop_duplicates("label").set_index("label")["dimension"]
    assert sizes.to_dict() == {"a": 3, "sine of Mr X": 2, "b": 512}
    # The sine of the latitude is one of its values.
    assert both.table.query("label == 'sine of Mr X'")["mean"].min() > 0.99


def test_layers_are_multiplied_out() -> None:
    best = location_encoder_spec("geoclip.v1").best_layers
    labels = [c.label for c in read_contenders(["geoclip.v1", "xyz"], None)]
    assert labels == ["geoclip.v1:final", f"geoclip.v1:{best}", "xyz"]
    labels = [
        c.label for c in read_contenders(["geoclip.v1", "geoclip.v1:final", "xyz"], ["scales"])
    ]
    assert labels == ["geoclip.v1:scales", "geoclip.v1:final", "xyz"]
    cached = CachedEncoder(ge.load_encoder("xyz"), [[0.0, 0.0]])
    assert [c.label for c in read_contenders(cached, None)] == ["xyz"]


def test_what_is_no_encoder_is_said() -> None:
    with pytest.raises(UnknownNameError, match="Close matches: 'geoclip.v1'"):
        read_contenders(["geoclip.v2"], None)
    with pytest.raises(OptionError, match="encode\\(lon, lat\\) -> \\(n, d\\)"):
        adapt_encoder(object())
    with pytest.raises(OptionError, match="names nothing to compare"):
        read_contenders([], None)
    with pytest.raises(OptionError, match="Two encoders would be called 'xyz'"):
        read_contenders(["xyz", ge.load_encoder("xyz", normalize=True, dtype="float64")], None)

    class Wrong:
        def __init__(self, answer: Any) -> None:
            self.answer = answer

        def encode(self, lon: Any, lat: Any) -> Any:
            return self.answer

    for answer, said in [
        (np.zeros(3), r"shape \(3,\) for 1 places"),
        (np.full((1, 2), np.nan), "not finite"),
        ([["a"]], "no array of numbers"),
    ]:
        with pytest.raises(PluginError, match=said):
            adapt_encoder(Wrong(answer))


def test_outside_suites_can_drive_our_encoders() -> None:
    """A benchmark that knows nothing of geoembed calls ``encode(lon, lat)`` and gets (n, d)."""

    def benchmark(encoder: Any) -> tuple[int, ...]:
        lon, lat = np.linspace(-180, 180, 7), np.linspace(-90, 90, 7)
        vectors = encoder.encode(lon, lat)
        assert isinstance(vectors, np.ndarray)
        assert np.isfinite(vectors).all()
        return vectors.shape

    for name in ["geoclip.v1", "xyz", "space2vec.grid"]:
        encoder = ge.load_encoder(name)
        assert benchmark(encoder) == (7, encoder.dimension)
    assert benchmark(Sine2 := adapt_encoder(Sine())) == (7, 2)
    assert Sine2.name == "sine"


# -- what the folds can tell apart -----------------------------------------------------------------


def test_corrected_t_test_against_its_formula() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(0.8, 0.1, 10), rng.normal(0.7, 0.1, 10)
    found = paired_difference(a, b, 0.25, confidence=0.9)
    # Without the correction it is the paired test of SciPy: narrower by a known factor.
    plain = stats.ttest_rel(a, b).confidence_interval(0.9)
    factor = np.sqrt((1 / 10 + 0.25) / (1 / 10))
    assert found.mean == pytest.approx((a - b).mean())
    assert found.high - found.mean == pytest.approx(factor * (plain.high - found.mean))
    assert found.mean - found.low == pytest.approx(factor * (found.mean - plain.low))


def test_alike_encoders_are_seldom_told_apart() -> None:
    """Two learners of one quality: a plain t-test errs often, the corrected one seldom."""
    rng = np.random.default_rng(0)
    plain = corrected = 0
    for _ in range(200):
        x = rng.normal(size=(60, 2))
        target = x.sum(axis=1) + rng.normal(size=60)
        scores = np.empty((2, 10))
        for at, (train, test) in enumerate(KFold(10).split(x)):
            slopes = (x[train] * target[train, None]).sum(axis=0) / (x[train] ** 2).sum(axis=0)
            scores[:, at] = -((target[test, None] - x[test] * slopes) ** 2).mean(axis=0)
        corrected += not paired_difference(*scores, 1 / 9).within_spread
        plain += stats.ttest_rel(*scores).pvalue < 0.05
    assert corrected < plain
    assert corrected <= 20  # 10 of 200 are expected


def test_one_fold_says_nothing_of_the_spread(cities: gpd.GeoDataFrame) -> None:
    one = {"one": [(np.arange(300), np.arange(300, 400))]}
    found = quick(cities, "sine", splits=one)
    assert found.table["sd"].isna().all()
    assert found.table["within_spread"].all()
    assert "on one fold, which says nothing of the spread" in found.conclusion
    with pytest.raises(OptionError, match="fold by fold"):
        paired_difference([1.0], [1.0, 2.0], 0.5)


def test_conclusions_are_honest(cities: gpd.GeoDataFrame) -> None:
    # A smooth field that neighbours know best, and an encoder of noise.
    class Noise:
        def encode(self, lon: Any, lat: Any) -> Any:
            return np.sin(1e6 * np.stack([lon, lat], axis=1))

    lost = quick(cities, "sine", encoders={"noise": Noise()}, baselines=["knn"])
    assert (
        "no encoder is ahead of plain coordinates: xyz + kNN is ahead of noise by"
        in lost.conclusion
    )
    assert "beyond the spread" in lost.conclusion
    won = quick(cities, "sine", encoders={"sine": Sine()}, baselines=["knn", "mean"])
    assert won.conclusion.startswith(
        "On spatial blocks, sine is ahead of the best of plain coordinates, xyz + kNN, by"
    )
    gaps = won.differences("random", to="mean")
    assert gaps.loc["mean", "difference"] == 0
    assert gaps.loc["sine", "low"] > 0
    with pytest.raises(UnknownNameError, match="split named 'space'"):
        won.differences("space")
    with pytest.raises(UnknownNameError, match="encoder in this comparison named 'x'"):
        won.differences(to="x")


# -- files, going on -------------------------------------------------------------------------------


def test_a_stopped_comparison_goes_on(
    cities: gpd.GeoDataFrame, found: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fits = []
    fit = HeadLearner.predict

    def stopping(self: Any, encoder: Any, fold: Any) -> Any:
        if len(fits) == 8:
            raise KeyboardInterrupt
        fits.append(fold)
        return fit(self, encoder, fold)

    monkeypatch.setattr(HeadLearner, "predict", stopping)
    with pytest.raises(KeyboardInterrupt, match="8 of 24 fits are done") as stopped:
        quick(cities, "sine", folder=tmp_path)
    assert "8 of 24 fits are done and kept in" in stopped.value.__notes__[0]
    fits.clear()
    monkeypatch.setattr(HeadLearner, "predict", lambda *a: fits.append(1) or fit(*a))
    again = quick(cities, "sine", folder=tmp_path)
    assert len(fits) == 16
    pd.testing.assert_series_equal(again.folds["score"], found.folds["score"])
    pd.testing.assert_frame_equal(
        pd.DataFrame(again.errors.drop(columns="geometry")),
        pd.DataFrame(found.errors.drop(columns="geometry")),
        rtol=1e-5,
    )
    # All is done: nothing is computed, not even vectors; a further encoder is added.
    fits.clear()
    monkeypatch.setattr("geoembed.evaluation.running.CachedEncoder", None)
    quick(cities, "sine", folder=tmp_path)
    monkeypatch.undo()
    monkeypatch.setattr(HeadLearner, "predict", lambda *a: fits.append(1) or fit(*a))
    more = quick(cities, "sine", folder=tmp_path, encoders=["xyz", "lonlat"])
    assert len(fits) == 6
    assert "lonlat" in set(more.table["label"])
    assert not list(tmp_path.rglob("*.npy"))
    assert not list(tmp_path.rglob("*.part"))


def test_a_damaged_cell_is_done_again(cities: gpd.GeoDataFrame, found: Any, tmp_path: Path) -> None:
    quick(cities, "sine", folder=tmp_path)
    paths = sorted(tmp_path.glob("cells/xyz-*/random-*.json"))
    paths[0].write_text("{", encoding="utf-8")
    cell = json.loads(paths[1].read_text(encoding="utf-8"))
    paths[1].write_text(json.dumps({**cell, "errors": cell["errors"][1:]}), encoding="utf-8")
    again = quick(cities, "sine", folder=tmp_path)
    pd.testing.assert_series_equal(again.folds["score"], found.folds["score"])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"target": "east"}, r"target was \['sine'\] and is \['east'\]"),
        ({"n_splits": 4}, "splits is not the same"),
        ({"model": "knn"}, "learner is not the same"),
        ({"table": slice(0, 300)}, "rows was 400 and is 300"),
    ],
)
def test_another_request_is_refused_or_starts_anew(
    cities: gpd.GeoDataFrame, tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    quick(cities, "sine", folder=tmp_path, encoders=["xyz"])
    options = {"encoders": ["xyz"], **change}
    table, target = cities.iloc[options.pop("table", slice(None))], options.pop("target", "sine")
    with pytest.raises(TableError, match=said) as refused:
        quick(table, target, folder=tmp_path, **options)
    assert "force=True" in str(refused.value)
    anew = quick(table, target, folder=tmp_path, force=True, **options)
    assert anew.title == target


def test_folders_of_other_things_are_left_alone(cities: gpd.GeoDataFrame, tmp_path: Path) -> None:
    (tmp_path / "comparison.csv").write_text("mine", encoding="utf-8")
    with pytest.raises(TableError, match="holds comparison.csv of another comparison"):
        quick(cities, "sine", folder=tmp_path)
    (tmp_path / "cells").mkdir()
    with pytest.raises(TableError, match="no folder of a comparison, or is damaged"):
        quick(cities, "sine", folder=tmp_path)
    assert (tmp_path / "comparison.csv").read_text(encoding="utf-8") == "mine"
    with pytest.raises(TableError, match="is a file"):
        quick(cities, "sine", folder=tmp_path / "comparison.csv")


def test_vectors_are_kept_where_that_is_asked_for(cities: gpd.GeoDataFrame, tmp_path: Path) -> None:
    first = quick(cities, "sine", cache=tmp_path / "vectors")
    assert len(list((tmp_path / "vectors").glob("*.npy"))) == 3
    again = quick(cities, "east", cache=tmp_path / "vectors")
    assert again.table["seconds_encode"].isna().all()
    assert first.table["seconds_encode"].notna().all()


def test_files(found: Any, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    folder = found.save(tmp_path / "out")
    names = ["comparison.csv", "comparison.json", "comparison.md", "comparison.png", "errors.png"]
    assert sorted(path.name for path in folder.iterdir()) == names
    read = pd.read_csv(folder / "comparison.csv", keep_default_na=False, na_values=["nan"])
    np.testing.assert_allclose(read["mean"], found.table["mean"])
    facts = json.loads((folder / "comparison.json").read_text(encoding="utf-8"))
    assert facts["conclusion"] == found.conclusion
    assert len(facts["folds"]) == 24
    page = (folder / "comparison.md").read_text(encoding="utf-8")
    assert page == found.to_markdown()
    lines = [line for line in page.splitlines() if line.startswith("|")]
    assert lines[0] == "| encoder | values | random R2 | spatial R2 | encode s | fit s |"
    assert len(lines) == 6
    assert "spatial: 3 folds of blocks of 500 km." in page
    for name in names[3:]:
        assert (folder / name).stat().st_size > 10_000


# -- bad input -------------------------------------------------------------------------------------


def test_bad_input_is_named(cities: gpd.GeoDataFrame) -> None:
    with pytest.raises(TableError, match="column named 'sin'"):
        quick(cities, "sin")
    with pytest.raises(TargetError, match="1 of 400 rows of target 'sine' are missing"):
        quick(cities.assign(sine=cities["sine"].where(np.arange(400) != 7)), "sine")
    with pytest.raises(TargetError, match="All 400 rows of target 'one' hold 1"):
        quick(cities.assign(one=1.0), "one")
    with pytest.raises(TargetError, match="only one class, 'a'"):
        quick(cities.assign(one="a"), "one")
    with pytest.raises(TargetError, match="do not sum to 1"):
        quick(cities.assign(east=cities["east"].where(np.arange(400) > 3, 5.0)), ["east", "west"])
    with pytest.raises(TargetError, match="not all numbers"):
        quick(cities, ["sine", "half"])
    with pytest.raises(TargetError, match="4 rows, and 3 folds need 6 at least"):
        quick(cities.head(4), "sine")
    with pytest.raises(OptionError, match="the table has no rows"):
        quick(cities.head(0), "sine")
    with pytest.raises(OptionError, match="needs 3 blocks at least"):
        quick(cities, "sine", block_km=30_000)
    same = cities.head(20).assign(
        lon=5.0, lat=5.0, geometry=gpd.points_from_xy([5.0] * 20, [5.0] * 20)
    )
    with pytest.raises(OptionError, match=r"20 places lie in 1 \(blocks of 1 km\)"):
        quick(same, "sine")


def test_labels_that_are_absent_from_a_fold(cities: gpd.GeoDataFrame) -> None:
    rare = cities.assign(half=cities["half"].where(np.arange(400) != 5, "rare"))
    with pytest.raises(
        TargetError, match=r"1 label is absent .* 'rare' \(1 rows\).*on_absent='wrong'"
    ):
        quick(rare, "half", model=KNeighborsClassifier(1))
    found = quick(rare, "half", model=KNeighborsClassifier(1), on_absent="wrong", encoders=["xyz"])
    assert found.errors["xyz (random)"].iloc[5] == 1.0
    assert sum("These rows count as wrong." in note for note in found.notes) == 2
    lonely = {
        "one": [(np.flatnonzero(rare["half"] == "north"), np.flatnonzero(rare["half"] == "south"))]
    }
    with pytest.raises(TargetError, match="carry the label 'north'"):
        quick(rare, "half", model=None, splits=lonely, on_absent="wrong")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"n_splits": 1}, "n_splits=1"),
        ({"block_km": -5}, "block_km=-5"),
        ({"seeds": 0}, "seeds=0 must be 1 or more"),
        ({"seeds": 1.5}, "seeds=1.5 must be a whole number"),
        ({"on_absent": "skip"}, "on_absent='skip' is not one of: raise, wrong"),
        ({"baselines": ["kriging"]}, "'kriging' is not one of: knn, gp, mean"),
        ({"model": "logistic"}, "model='logistic' is not offered for regression"),
        ({"head": 3}, "head=3 is no head"),
        ({"splits": {}}, "must map names to splitters"),
        ({"splits": {"a": 3}}, "'a' gives no folds"),
        ({"splits": {"a": []}}, "'a' has no folds"),
        ({"splits": {"a": [([0, 1], [1, 2])]}}, "both learned from and tested in fold 1 of the a"),
        ({"splits": {"a": [([0, 1], [])]}}, "nothing to test in fold 1"),
        ({"protocol": "range-v1", "n_splits": 4}, "leave out model=, n_splits="),
        ({"layers": []}, "names no layers"),
        ({"geometry": "sample"}, "geometry='sample'"),
    ],
)
def test_bad_options_are_named(
    cities: gpd.GeoDataFrame, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(OptionError, match=said):
        quick(cities, "sine", **options)


def test_rows_of_one_place_and_codes_are_told(cities: gpd.GeoDataFrame) -> None:
    twice = pd.concat([cities, cities.head(2).assign(sine=0.0)])
    found = quick(twice, "sine", encoders=["xyz"])
    assert any("4 of 402 rows share their place" in note for note in found.notes)
    codes = quick(cities.assign(code=(cities["lat"] > 10).astype(int)), "code", encoders=["xyz"])
    assert any("codes of classes" in note for note in codes.notes)


def test_tasks_are_guessed() -> None:
    table = pd.DataFrame({"lon": [0.0, 1.0], "lat": [0.0, 1.0]})
    kinds = {
        "regression": [1, 2],
        "classification": pd.array([True, False], dtype="boolean"),
    }
    for kind, values in kinds.items():
        assert read_task(table.assign(y=values), "y").kind == kind
    text = table.assign(y=pd.Categorical(["a", "b"]))
    assert read_task(text, "y").kind == "classification"
    assert read_task(table.assign(y=["1", "2"]), "y", "classify").kind == "classification"
    assert read_task(table.assign(y=[1, 2]), "y", "classify").kind == "classification"
    assert read_task(table.assign(y=[1, 2]), "y", ge.LocationClassifier()).metric == "accuracy"
    nullable = table.assign(y=pd.array([1, 2], dtype="Int64"))
    assert read_task(nullable, "y").values.tolist() == [1.0, 2.0]


def test_default_encoders_are_registered() -> None:
    assert set(compare_module.DEFAULT_ENCODERS) <= set(ge.list_encoders())


def test_outcomes_of_shares_and_labels() -> None:
    shares = np.array([[0.5, 0.5], [1.0, 0.0], [0.0, 1.0]])
    task = read_task(np.zeros((3, 2)), shares)
    outcome = task.outcome(np.array([[0.5, 0.5], [0.5, 0.5], [0.0, 1.0]]), np.arange(3))
    assert outcome.errors.tolist() == [0.0, 0.5, 0.0]
    assert outcome.score == pytest.approx(r2_score(shares, [[0.5, 0.5], [0.5, 0.5], [0.0, 1.0]]))
    labels = read_task(np.zeros((3, 2)), ["a", "b", "b"])
    wrong = labels.outcome(np.array(["a", "a", "b"]), np.arange(3))
    assert wrong.score == pytest.approx(accuracy_score(["a", "b", "b"], ["a", "a", "b"]))
    # A target that does not vary among the tested rows takes no part.
    flat = read_task(np.zeros((3, 2)), np.array([[1.0, 1.0], [2.0, 1.0], [3.0, 5.0]]))
    part = flat.outcome(np.array([[1.0, 2.0], [2.0, 2.0]]), np.arange(2))
    assert part.score == 1.0
    assert np.isnan(part.parts[1])
