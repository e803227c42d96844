"""The commands ``geoembed fit`` and ``geoembed heads``."""

import json
import re
import subprocess
import sys
from decimal import Decimal

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest

import geoembed as ge
from geoembed.cli.fit_table import guess_head, read_training_table
from geoembed.cli.main import main
from geoembed.cli.validating import COORDINATES, _plain_models
from geoembed.errors import TableError, TargetError
from geoembed.heads.models.neighbours import FewFolds
from geoembed.heads.penalties import validation_pairs
from geoembed.heads.saving.description import read_description
from geoembed.heads.saving.store import load_head

QUICK = ["--encoder", "xyz", "--folds", "3"]


def places(rows=180):
    """Cities with a number, labels of two levels and shares that follow from the place."""
    table = ge.data.load_cities().iloc[::9].head(rows)[["name", "geometry"]]
    table = table.reset_index(drop=True)
    lon, lat = np.radians(table.geometry.x), np.radians(table.geometry.y)
    table["height"] = 100.0 * np.sin(lat) + 30.0 * np.cos(lon)
    table["side"] = np.where(np.cos(lat) * np.sin(lon) > 0.5, "east", "west")
    table["part"] = table["side"].str[:1] + np.where(np.sin(lat) > 0.4, "n", "s")
    table["code"] = (np.sin(lat) > 0.4).astype(np.int64)
    table["wood"] = (1.0 + np.sin(lat)) / 2.0
    table["water"] = (1.0 - table["wood"]) * 0.25
    table["rest"] = 1.0 - table["wood"] - table["water"]
    return table


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Tables as analysts have them."""
    made = tmp_path_factory.mktemp("tables")
    table = places()
    table.to_file(made / "t.gpkg")
    table.to_crs(3857).to_parquet(made / "t.parquet")
    plain = pd.DataFrame(table.drop(columns="geometry"))
    plain.assign(x=table.geometry.x, y=table.geometry.y).to_csv(made / "t.csv", index=False)
    return made


@pytest.fixture(autouse=True)
def here(folder, tmp_path, monkeypatch):
    """Tables are read where they lie, and written beside nothing."""
    monkeypatch.chdir(tmp_path)
    for path in folder.iterdir():
        (tmp_path / path.name).symlink_to(path)


def scores_of(out):
    lines = out.splitlines()
    header = next(i for i, line in enumerate(lines) if "random" in line)
    rows = [re.split(r"\s{2,}", line) for line in lines[header : header + 4]]
    return {row[0]: dict(zip(rows[0][1:], map(float, row[1:]), strict=True)) for row in rows[1:]}


def test_numbers_from_a_geopackage(capsys):
    assert main(["fit", "t.gpkg", "--target", "height", *QUICK, "-o", "model"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "table    180 rows of t.gpkg\n" in out
    assert "head     regress, as it holds numbers\n" in out
    assert "from     xyz, layers final, 3 values\n" in out
    found = scores_of(out)
    assert list(found) == ["regress", "xyz + kNN", "mean"]
    # 100 z + 30 x / cos(lat) is nearly linear in the unit vector.
    assert found["regress"]["random R2"] > 0.98
    assert found["regress"]["spatial R2"] > 0.97
    assert found["xyz + kNN"]["spatial R2"] < found["xyz + kNN"]["random R2"]
    assert abs(found["mean"]["random R2"]) < 0.05
    assert re.search(r"made for 90% hold the truth for [\d.]+% in random folds, [\d.]+% in", out)
    assert re.search(r"In space regress beats xyz \+ kNN by 0\.\d+ R2, in 3 of 3 folds\.", out)
    assert out.endswith("The head, fitted on all 180 rows, is in model.\n")
    head = load_head("model")
    table = gpd.read_file("t.gpkg")
    assert head.score(table, "height") > 0.98
    assert type(head.featurizer_) is ge.LocationFeaturizer


def test_the_scores_are_scikit_learns(capsys):
    """The same folds, the same head, by cross_val_predict: the same scores."""
    from sklearn.metrics import mean_absolute_error, r2_score
    from sklearn.model_selection import KFold, cross_val_predict

    from geoembed.heads import LocationRegressor
    from geoembed.splits.block_splits import SpatialBlockKFold

    assert main(["fit", "t.gpkg", "-t", "height", *QUICK, "--block-km", "900", "--json"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    found = json.loads(out)
    assert (found["head"], found["rows"], found["saved"]) == ("regress", 180, None)
    table = gpd.read_file("t.gpkg")
    for split, cv in {
        "random": KFold(3, shuffle=True, random_state=0),
        "spatial": SpatialBlockKFold(3, block_km=900),
    }.items():
        predicted = cross_val_predict(LocationRegressor("xyz"), table, table["height"], cv=cv)
        r2, mae = r2_score(table["height"], predicted), mean_absolute_error(table.height, predicted)
        assert found["scores"][split]["regress"]["R2"] == pytest.approx(r2, abs=1e-6)
        assert found["scores"][split]["regress"]["MAE"] == pytest.approx(mae, rel=1e-5)
        # Three folds of one block size; each fold has a score of its own.
        assert len(found["by_fold"][split]["regress"]) == 3
        assert 0.5 < found["coverage"][split] <= 1.0


def test_labels_from_a_csv_with_columns_of_other_names(capsys):
    names = ["--lon-column", "x", "--lat-column", "y"]
    assert main(["fit", "t.csv", "-t", "side", *names, *QUICK, "-o", "model"]) == 0
    out = capsys.readouterr().out
    assert "head     classify, as it holds labels\n" in out
    found = scores_of(out)
    assert list(found) == ["classify", "xyz + kNN", "most frequent"]
    assert found["classify"]["random accuracy"] > 0.95
    assert found["most frequent"]["random balanced accuracy"] == pytest.approx(0.5, abs=0.01)
    assert load_head("model").classes_.tolist() == ["east", "west"]


@pytest.mark.parametrize("targets", [["height"], ["wood", "rest"]])
def test_decimals_of_parquet_are_numbers(capsys, targets):
    table = places()
    table["rest"] += table["water"]
    table[targets] = table[targets].round(3)
    table.to_parquet("floats.parquet")
    table[targets] = table[targets].map(lambda value: Decimal(f"{value:.3f}"))
    table.to_parquet("decimals.parquet")
    said = []
    for name in ("floats", "decimals"):
        asked = [part for target in targets for part in ("--target", target)]
        assert main(["fit", f"{name}.parquet", *asked, *QUICK, "-o", name]) == 0
        said.append(capsys.readouterr().out.replace(name, "..."))
    assert said[0] == said[1]
    models = [load_head(name).predict(table) for name in ("floats", "decimals")]
    np.testing.assert_array_equal(*models)


def test_shares_from_geoparquet_in_another_crs(capsys):
    targets = ["-t", "wood", "-t", "water", "-t", "rest"]
    assert main(["fit", "t.parquet", *targets, *QUICK, "-o", "model"]) == 0
    out = capsys.readouterr().out
    assert "head     landcover, as their rows sum to 1\n" in out
    assert scores_of(out)["landcover"]["random R2"] > 0.9
    shares = load_head("model").predict(gpd.read_parquet("t.parquet"))
    np.testing.assert_allclose(shares.sum(axis=1), 1.0)


def test_labels_of_two_levels(capsys):
    command = ["fit", "t.gpkg", "-t", "side", "-t", "part", *QUICK, "-o", "model", "--json"]
    assert main(command) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["head"] == "region"
    assert found["validation"]["metrics"] == ["accuracy of part", "accuracy of side"]
    assert found["scores"]["random"]["region"]["accuracy of side"] > 0.9
    assert load_head("model").target_names_ == ("side", "part")


def test_what_is_saved_says_how_good_it_is(capsys):
    options = ["--model", "knn", "-x", "code", "--coverage", "0.8", "--seed", "3"]
    assert main(["fit", "t.gpkg", "-t", "height", *QUICK, *options, "-o", "model", "-q"]) == 0
    assert capsys.readouterr() == ("", "")
    facts = read_description("model")
    assert facts["parameters"] | {"featurizer": ""} == {
        "calibration": 0.2, "coverage": 0.8, "extra_columns": ["code"], "featurizer": "",
        "model": "knn", "random_state": 3, "validation": "spatial",
    }  # fmt: skip
    assert facts["scores"]["validation"] == {
        "folds": 3, "block_km": 500.0, "seed": 3, "rows": 180, "metrics": ["R2", "RMSE", "MAE"],
    }  # fmt: skip
    assert facts["scores"]["coverage"]["nominal"] == 0.8
    assert facts["provenance"]["table"] == "t.gpkg"
    assert facts["provenance"]["targets"] == ["height"]
    assert len(facts["provenance"]["sha256_of_ends"]) == 64
    assert main(["heads", "model"]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[:5] == [
        f"head        regress (geoembed {ge.__version__})",
        "predicts    height",
        "from        xyz, layers final",
        "and         code",
        "learned on  180 rows of t.gpkg",
    ]
    assert scores_of(out)["regress"]["random R2"] == pytest.approx(
        facts["scores"]["scores"]["random"]["regress"]["R2"], abs=1e-4
    )
    assert main(["heads", "model", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == facts


def test_the_precision_is_the_models(capsys):
    command = ["fit", "t.gpkg", "-t", "height", *QUICK, "-o", "model", "--force"]
    assert main(command) == 0
    assert "3 values\n" in capsys.readouterr().out
    assert load_head("model").featurizer_.precision == "float32"
    assert main([*command, "--precision", "float64"]) == 0
    assert "from     xyz, layers final, 3 values, in float64\n" in capsys.readouterr().out
    facts = read_description("model")
    assert facts["encoders"][0]["options"]["precision"] == "float64"
    assert load_head("model").featurizer_.precision == "float64"


def tiny_model(folder):
    """Write a model whose network differs from a real one in size alone."""
    import torch
    from safetensors.torch import save_file

    from geoembed.encoders.architecture import LocationArchitecture

    torch.manual_seed(5)
    made = LocationArchitecture(frequencies=64, hidden=(128, 128), output=64)
    folder.mkdir()
    config = {
        "model_type": "geoembed-location-encoder", "format_version": 1, "licence": "CC0-1.0",
        "training_data": "none", "location": made.to_dict(), "image": None,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    state = made.build().state_dict()
    tensors = {f"location_encoder.{key}": value for key, value in state.items()}
    save_file(tensors, folder / "model.safetensors")
    return folder


def test_a_file_in_eight_bits_teaches_and_predicts_in_them(tmp_path, capsys):
    """By onnxruntime, because it is such a file; in its precision, because nobody says another."""
    pytest.importorskip("onnxruntime")
    from geoembed.training.onnx_export import export_onnx

    tiny = ge.load_encoder(tiny_model(tmp_path / "tiny"), device="cpu")
    export_onnx(tiny, "eight.onnx", name="tiny.v1", int8=True)
    told = main(["fit", "t.gpkg", "-t", "height", "--encoder", "eight.onnx", "--layers", "final",
                 "--folds", "3", "--model", "ridge", "-o", "model"])  # fmt: skip
    out = capsys.readouterr().out
    assert told == 0
    assert re.search(r"layers final, \d+ values, in int8, by onnxruntime\n", out)
    (encoder,) = read_description("model")["encoders"]
    assert (encoder["options"]["precision"], encoder["options"]["backend"]) == ("int8", "onnx")
    assert main(["predict", "model", "t.gpkg", "-o", "out.csv"]) == 0
    table = gpd.read_file("t.gpkg")
    vectors = ge.LocationFeaturizer("eight.onnx", precision="int8").fit_transform(table)
    head = load_head("model")
    np.testing.assert_array_equal(head.featurizer_.transform(table), vectors)
    predicted = pd.read_csv("out.csv")["predicted_height"]
    np.testing.assert_allclose(predicted, head.predict(table), rtol=1e-5)


def test_rows_to_choose_on_lie_in_blocks_or_at_random(capsys):
    command = ["fit", "t.gpkg", "-t", "height", *QUICK, "--json"]
    found = {}
    for validation in ("spatial", "random"):
        options = ["--validation", validation, "-o", validation]
        assert main([*command, *options]) == 0
        found[validation] = json.loads(capsys.readouterr().out)["scores"]
        assert read_description(validation)["parameters"]["validation"] == validation
    assert main(command) == 0
    assert json.loads(capsys.readouterr().out)["scores"] == found["spatial"]
    for name in ("regress", "xyz + kNN"):
        spatial, random = (found[v]["spatial"][name]["R2"] for v in ("spatial", "random"))
        assert spatial != random


def test_the_baseline_chooses_its_neighbours_as_the_head_its_penalty():
    lonlat = places().get_coordinates().to_numpy()
    rows = np.arange(0, 180, 2)
    for task in ("regression", "classification"):
        for validation in ("spatial", "random"):
            make = _plain_models(task, lonlat, validation, 3)[COORDINATES]
            model = getattr(make(rows), "_model", make(rows))
            expected = validation_pairs(lonlat[rows], None, validation, 3)
            if expected is None:
                assert isinstance(model.cv, FewFolds)
            else:
                np.testing.assert_equal(model.cv, expected)


def test_polygons(tmp_path, capsys):
    table = places(120)
    table["geometry"] = table.to_crs(6933).buffer(20_000, cap_style="square").to_crs(4326)
    table.to_file("shapes.gpkg")
    command = ["fit", "shapes.gpkg", "-t", "height", *QUICK]
    assert main(command) == 1
    err = capsys.readouterr().err
    assert err.splitlines()[-1] == "On the command line: --geometry representative_point."
    assert main([*command, "--geometry", "sample", "-o", "model"]) == 0
    assert scores_of(capsys.readouterr().out)["regress"]["random R2"] > 0.97
    head = load_head("model")
    assert head.featurizer_.geometry == "sample"
    assert head.bounds_ is not None


def test_a_folder_or_a_pattern_is_one_table(tmp_path, capsys):
    """As `geoembed embed --engine dask` writes it, a value of a column a folder."""
    table = places().sort_values("side", kind="stable").reset_index(drop=True)
    table.to_parquet("one.parquet")
    for side, rows in table.groupby("side"):
        for at in (0, 1):
            place = tmp_path / "in" / f"side={side}" / f"{at}.parquet"
            place.parent.mkdir(parents=True, exist_ok=True)
            half = rows.drop(columns="side").iloc[at * (len(rows) // 2) :][: len(rows) // 2 + at]
            half.assign(embedding=[np.zeros(4)] * len(half)).to_parquet(place)
    found = {}
    for source in ("one.parquet", "in/**/*.parquet"):
        command = ["fit", source, "-t", "height", "-x", "side", *QUICK, "-o", "model", "--force"]
        assert main([*command, "--json"]) == 0
        found[source] = json.loads(capsys.readouterr().out)
    assert found["in/**/*.parquet"] == found["one.parquet"]
    provenance = read_description("model")["provenance"]
    assert (provenance["table"], provenance["files"]) == ("in/**/*.parquet", 4)
    rows, dropped = read_training_table("in", ["side"], [])
    assert (rows["side"].tolist(), dropped) == (table["side"].tolist(), 0)


def test_a_folder_that_is_no_table_is_refused(tmp_path, capsys):
    (tmp_path / "in").mkdir()
    table = places(60)
    for at, part in enumerate((table, table.to_crs(3857))):
        part.to_parquet(f"in/{at}.parquet")
    command = ["fit", "in", "-t", "height", *QUICK, "-o", "model"]
    for change, message in [
        (None, "in/1.parquet has geometries in 'geometry' as WKB in EPSG:3857, and file://"),
        (table[["name", "geometry"]], "in/1.parquet lacks 'height', 'side'"),
        (table, ""),
    ]:
        if change is not None:
            change.to_parquet("in/1.parquet")
        if message:
            assert main(command) == 1
            assert message in capsys.readouterr().err
    (tmp_path / "in" / "more.gpkg").symlink_to(tmp_path / "t.gpkg")
    assert main(command) == 1
    assert "in holds tables of other kinds beside Parquet, such as more.gpkg" in (
        capsys.readouterr().err
    )
    assert not (tmp_path / "model").exists()
    (tmp_path / "empty").mkdir()
    assert main(["fit", "empty", "-t", "height", *QUICK]) == 1
    assert "empty holds no Parquet file" in capsys.readouterr().err


# -- bad data --------------------------------------------------------------------------------------


def write(table, name="bad.gpkg"):
    table.to_file(name)
    return name


@pytest.mark.parametrize(
    ("change", "arguments", "message"),
    [
        (None, ["-t", "heigth"], "no column in bad.gpkg named 'heigth'. Close matches: 'height'"),
        (None, ["-t", "height", "-x", "soil"], "no column in bad.gpkg named 'soil'"),
        (None, ["-t", "height", "-x", "height"], "'height' is named twice"),
        (None, ["-t", "height", "-t", "side"], "'height' holds numbers, 'side' holds labels"),
        (None, ["-t", "name"], "'name' holds .* different labels in 60 rows, such as"),
        (None, ["-t", "side", "--head", "regress"], "y is no table of numbers"),
        (None, ["-t", "height", "--head", "regres"], "no head named 'regres'. Close matches"),
        (None, ["-t", "height", "--model", "forest"], "model='forest' is not offered"),
        (None, ["-t", "height", "--encoder", "xzy"], "no encoder named 'xzy'"),
        (None, ["-t", "height", "--layers", "hidden"], "offers only layers='final'"),
        (
            None,
            ["-t", "height", "--precision", "int8"],
            "precision='int8' is offered by onnxruntime only",
        ),
        (None, ["-t", "height", "--precision", "half"], "precision='half'"),
        (None, ["-t", "height", "--backend", "tf"], "backend='tf' is not one of: auto, torch"),
        (None, ["-t", "height", "--backend", "onnx"], "'xyz' has no network that could be expor"),
        (None, ["-t", "height", "--coverage", "2"], "coverage=2.0 is no share"),
        (None, ["-t", "height", "--on-invalid", "nan"], "on_invalid='nan' is not one of: raise"),
        (None, ["-t", "height", "--validation", "blocks"], "validation='blocks' is not offered"),
        (None, ["-t", "height", "--block-km", "0"], "block_km=0.0 must be a number"),
        (None, ["-t", "height", "--layer", "x"], "no layer in bad.gpkg named 'x'"),
        (
            lambda t: t.assign(height=t["height"].where(t.index != 7)),
            ["-t", "height"],
            "1 of 60 rows of the target 'height' are missing or not finite: row 7. Fill them",
        ),
        (
            lambda t: t.assign(side=t["side"].where(t.index > 1)),
            ["-t", "side"],
            "2 of 60 rows of the target 'side' are missing or not finite: rows 0, 1.",
        ),
        (
            lambda t: t.assign(soil=np.where(t.index < 3, np.nan, 1.0)),
            ["-t", "height", "-x", "soil"],
            "3 of 60 rows of the extra column 'soil' are missing",
        ),
        (
            lambda t: t.set_geometry(t.geometry.where(t.index != 5)),
            ["-t", "height"],
            "row 5",
        ),
        (lambda t: t.assign(side="west"), ["-t", "side"], "holds only one class, 'west'"),
        (lambda t: t.assign(height=3.5), ["-t", "height"], "All 60 rows of target 'height' hold"),
        (lambda t: t.head(2), ["-t", "height"], "has 2 rows, fewer than the 3 folds"),
        (
            lambda t: t.assign(wood=t["wood"].where(t.index > 2, 0.9)),
            ["-t", "wood", "-t", "water", "-t", "rest"],
            "3 of 60 rows",
        ),
        (
            lambda t: t.assign(height=pd.Timestamp("2026-01-01")),
            ["-t", "height"],
            "holds datetime64.* neither numbers nor labels",
        ),
    ],
)
def test_bad_data_is_refused_with_the_reason(tmp_path, capsys, change, arguments, message):
    table = places(60)
    name = write(table if change is None else change(table))
    before = sorted(tmp_path.iterdir())
    assert main(["fit", name, *QUICK, "-o", "model", *arguments]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert re.search(message, err)
    assert "Traceback" not in err
    assert sorted(tmp_path.iterdir()) == before


def test_all_places_in_one_block(capsys):
    rng = np.random.default_rng(0)
    lon, lat = 13.0 + rng.random((2, 60))
    frame = {"ph": lon}
    write(gpd.GeoDataFrame(frame, geometry=gpd.points_from_xy(lon, lat), crs=4326), "one.gpkg")
    command = ["fit", "one.gpkg", "-t", "ph", *QUICK, "-o", "model"]
    assert main(command) == 1
    err = capsys.readouterr().err
    assert re.search(r"The 60 places (all lie in one block|lie in 2 blocks) of 500 km, and 3", err)
    (size,) = re.findall(r"such as block_km=([\d.]+)\.", err)
    assert err.splitlines()[-1] == "On the command line: --block-km KM."
    assert main([*command, "--block-km", size]) == 0
    here = gpd.GeoDataFrame(frame, geometry=gpd.points_from_xy([13.0] * 60, [13.0] * 60), crs=4326)
    write(here, "spot.gpkg")
    capsys.readouterr()
    assert main(["fit", "spot.gpkg", "-t", "ph", *QUICK]) == 1
    assert "too close together to be validated in space" in capsys.readouterr().err


def test_rows_that_cannot_be_learned_from_are_left_out_if_asked(capsys):
    table = places(90)
    table.loc[[3, 4], "height"] = np.nan
    table.loc[8, "geometry"] = None
    name = write(table)
    command = ["fit", name, "-t", "height", *QUICK, "-o", "model"]
    assert main(command) == 1
    assert capsys.readouterr().err.endswith("On the command line: --on-invalid drop.\n")
    assert main([*command, "--on-invalid", "drop"]) == 0
    assert "87 rows of bad.gpkg (3 left out)" in capsys.readouterr().out
    facts = read_description("model")
    assert (facts["rows"], facts["provenance"]["left_out"]) == (87, 3)


def test_places_with_several_labels_are_reported(capsys):
    table = places(90)
    twice = table.head(10).assign(side="other")
    write(gpd.GeoDataFrame(pd.concat([table, twice], ignore_index=True), crs=4326))
    assert main(["fit", "bad.gpkg", "-t", "side", *QUICK]) == 0
    out, err = capsys.readouterr()
    assert "note: 20 of 100 rows share their place (10 places) with a row of another target" in err
    assert "an accuracy of 0.9000" in err
    assert err.count("share their place") == 1
    # Every place of the label is among those of others, but it lies in all folds.
    assert "In space classify" in out


def test_labels_of_one_place_only(capsys):
    table = places(90)
    table.loc[[11], "side"] = "middle"
    name = write(table)
    assert main(["fit", name, "-t", "side", *QUICK]) == 0
    err = capsys.readouterr().err
    for split in ("random", "spatial"):
        expected = f"1 of 3 classes lie in one fold of the {split} split and cannot be predicted"
        assert expected in err


def test_a_fold_that_leaves_one_class(capsys):
    """East is one block: where it is held out, all the rest is west."""
    lon = np.r_[np.linspace(-80, 0, 40), np.full(20, 100.0)]
    frame = {"side": np.repeat(["west", "east"], [40, 20])}
    write(gpd.GeoDataFrame(frame, geometry=gpd.points_from_xy(lon, lon * 0.0), crs=4326))
    assert main(["fit", "bad.gpkg", "-t", "side", *QUICK, "-o", "model"]) == 1
    err = capsys.readouterr().err
    assert re.search(r"Fold \d of 3 of the spatial split leaves too little to learn from", err)
    assert err.endswith("On the command line: --block-km KM.\n")


def test_few_rows_leave_the_intervals_open(capsys):
    write(places(24))
    assert main(["fit", "bad.gpkg", "-t", "height", *QUICK]) == 0
    out, err = capsys.readouterr()
    assert "hold the truth" not in out
    assert "coverage=0.9 needs 9 rows to calibrate on" in err
    assert main(["fit", "bad.gpkg", "-t", "height", *QUICK, "--coverage", "0"]) == 0
    assert capsys.readouterr().err == ""


def test_a_model_that_is_there(capsys):
    command = ["fit", "t.gpkg", "-t", "height", *QUICK, "-o", "model", "-q"]
    assert main(command) == 0
    assert main(command) == 1
    err = capsys.readouterr().err
    assert "model exists already. Pass overwrite=True to replace it." in err
    assert err.endswith("On the command line: --force.\n")
    assert main([*command, "--force"]) == 0


def test_other_models_of_shares(capsys):
    command = ["fit", "t.gpkg", "-t", "wood", "-t", "water", "-t", "rest", "--model", "ridge"]
    assert main([*command, *QUICK, "-o", "model"]) == 0
    assert scores_of(capsys.readouterr().out)["landcover"]["random R2"] > 0.9
    assert read_description("model")["parameters"]["link"] is None


def test_codes_of_classes_are_mentioned(capsys):
    assert main(["fit", "t.gpkg", "-t", "code", *QUICK, "--model", "ridge"]) == 0
    assert "if these are codes of classes: --head classify" in capsys.readouterr().out
    assert main(["fit", "t.gpkg", "-t", "code", *QUICK, "--head", "classify"]) == 0
    assert "head     classify\n" in capsys.readouterr().out


def test_guesses():
    table = pd.DataFrame({"a": [60.0, 10.0], "b": [40.0, 90.0], "c": [True, False]})
    name, why = guess_head(table, ["a", "b"])
    assert (name, "divided by 100 they are shares" in why) == ("regress", True)
    assert guess_head(table, ["c"])[0] == "classify"
    assert guess_head(table.astype("category"), ["a", "b"])[0] == "region"
    assert guess_head(table, ["a"]) == ("regress", "it holds numbers")
    with pytest.raises(TargetError, match="One head learns targets of one kind"):
        guess_head(table, ["a", "c"])


def test_a_table_without_rows():
    places(1).head(0).to_file("none.gpkg")
    with pytest.raises(TableError, match="none.gpkg has no rows"):
        read_training_table("none.gpkg", ["height"], [])
    table = places(3)
    table["height"] = np.nan
    table.to_file("nan.gpkg")
    with pytest.raises(TableError, match="None of the 3 rows of nan.gpkg has a place and a target"):
        read_training_table("nan.gpkg", ["height"], [], on_invalid="drop")


# -- heads -----------------------------------------------------------------------------------------


def test_heads_are_listed(capsys):
    assert main(["heads"]) == 0
    header, *rows = capsys.readouterr().out.splitlines()
    assert header.split() == ["name", "task", "from", "summary"]
    assert [row.split()[:2] for row in rows[:4]] == [
        ["regress", "regression"],
        ["classify", "classification"],
        ["landcover", "fractions"],
        ["region", "classification"],
    ]
    assert main(["heads", "region", "--json"]) == 0
    (spec,) = json.loads(capsys.readouterr().out)
    assert spec["output_columns"][2] == "predicted_{target}_set"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("regres", "There is no head, and no folder, named 'regres'. Close matches: 'regress'"),
        ("models/ph", "There is no folder models/ph."),
        ("t.gpkg", "t.gpkg is a file, and a saved head is a folder"),
    ],
)
def test_heads_that_are_not_there(capsys, name, message):
    assert main(["heads", name]) == 1
    assert message in capsys.readouterr().err


def test_other_scores_are_shown_as_they_are(capsys):
    from geoembed.heads import LocationRegressor

    head = LocationRegressor("xyz").fit(places(60), "height")
    head.save("model", scores={"R2 of last year": 0.5})
    assert main(["heads", "model"]) == 0
    assert capsys.readouterr().out.endswith("\n\nscores      R2 of last year 0.5\n")


def test_as_a_user_types_it(tmp_path):
    run = [sys.executable, "-W", "error", "-m", "geoembed", "fit", "t.gpkg", "-t", "side"]
    done = subprocess.run([*run, *QUICK, "-o", "m"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("is in m.\n")
    done = subprocess.run([*run, "-t", "sid"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert "Close matches: 'side'" in done.stderr
