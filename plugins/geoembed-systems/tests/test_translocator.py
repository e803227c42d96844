"""TransLocator: worlds with known answers, what is saved, what is refused."""

import numpy as np
import pytest
from geoembed_systems.cells.nesting import Hierarchy, nested_partitions
from geoembed_systems.pictures.features import PictureFeatures
from geoembed_systems.translocator import TransLocator
from translocator_towns import LIMITS, SCENES, TOWNS, accuracy, in_one_patch, system, tell, towns

from geoembed.errors import OptionError, TableError, TrainingError

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def gated():
    town, lonlat = towns()
    return system().fit(tell(town)[0], lonlat, SCENES[town % 3])


@pytest.fixture(scope="module")
def layered():
    town, lonlat = towns()
    telling, silent = tell(town)
    features = PictureFeatures(silent, tokens=in_one_patch(telling))
    return system(epochs=20).fit(features, lonlat)


# -- what it learns --------------------------------------------------------------------------------


def test_pooled_features_that_tell_the_town_are_learned_and_fusion_is_gated(gated):
    town, lonlat = towns(seed=5)
    assert gated.fusion_ == "gated"
    assert accuracy(gated, tell(town, seed=5)[0], lonlat) > 0.95


def test_patches_that_tell_the_town_are_learned_and_tokens_are_fused_after_every_layer(layered):
    town, lonlat = towns(seed=5)
    telling, silent = tell(town, seed=5)
    features = PictureFeatures(silent, tokens=in_one_patch(telling, seed=6))
    assert layered.fusion_ == "layers"
    assert accuracy(layered, features, lonlat) > 0.95


@pytest.mark.parametrize("kind", ["gated", "gated with patches", "layers", "layers of pictures"])
def test_segments_that_alone_tell_the_town_are_learned(kind):
    def given(seed):
        town, lonlat = towns(seed=seed)
        _, silent = tell(town, seed=seed)
        shares = np.eye(9)[town] * 0.6 + 0.4 / 9
        patches = np.repeat(shares[:, None], 3, axis=1)
        tokens = in_one_patch(silent, seed=seed + 1) if kind.startswith("layers") else None
        alone = kind in ("gated", "layers of pictures")
        return PictureFeatures(silent, tokens, shares if alone else patches), lonlat

    features, lonlat = given(0)
    fitted = system().fit(features, lonlat)
    assert fitted.fusion_ == kind.split()[0]
    assert fitted.segments_ is None
    unseen, there = given(5)
    assert accuracy(fitted, unseen, there) > 0.95
    # And without them nothing would be.
    blind = PictureFeatures(unseen.pooled, unseen.tokens, unseen.segments[::-1])
    assert accuracy(fitted, blind, there) < 0.5


def test_answers_are_the_mean_place_of_the_likeliest_fine_cell(gated):
    town, lonlat = towns()
    features = tell(town)[0]
    finest = nested_partitions(lonlat, t_max=LIMITS, t_min=10).partitions[-1]
    assert gated.partition_.digest == finest.digest
    cells = gated.predict_cells(features)
    np.testing.assert_array_equal(gated.predict(features), finest.means[cells])
    np.testing.assert_allclose(gated.predict_proba(features).sum(axis=1), 1.0, atol=1e-5)
    assert len(gated.hierarchy_.partitions[0]) < len(finest)


def test_it_says_how_the_streams_are_fused(gated, layered):
    assert "pooled features fused by a gate" in repr(gated)
    assert "fused after every layer" in repr(layered)
    assert "fitted" not in repr(system())
    assert gated.notes_ == (
        "pooled features fused by a gate, no patch tokens",
        "segments derived from the features, 16 classes",
        "a scene head of 3 scenes",
    )
    assert layered.notes_[0] == "class tokens fused after every layer"
    assert layered.notes_[2] == "no scene head"


def test_the_scene_head_tells_what_pictures_show(gated, layered):
    town, _ = towns(seed=5)
    features = tell(town, seed=5)[0]
    features[7] = np.nan
    found = gated.predict_scenes(features)
    assert found[7] is None
    assert np.mean(np.delete(found == SCENES[town % 3], 7)) > 0.95
    twice = gated.predict_scenes(np.stack([features, features], axis=1))
    assert twice.tolist() == found.tolist()
    with pytest.raises(OptionError, match="learned without scenes"):
        layered.predict_scenes(PictureFeatures(features[:2], tokens=np.zeros((2, 3, 12))))


def test_a_shift_and_a_scale_of_features_change_nothing(gated):
    town, lonlat = towns()
    features = tell(town)[0] * 64.0 + 256.0
    again = system().fit(features, lonlat, SCENES[town % 3])
    unseen = tell(towns(seed=5)[0], seed=5)[0]
    share = np.mean(gated.predict_cells(unseen) == again.predict_cells(unseen * 64.0 + 256.0))
    assert share > 0.98


# -- answers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["gated", "layered"])
def test_blocks_of_rows_make_no_difference(kind, request, monkeypatch):
    fitted = request.getfixturevalue(kind)
    telling, silent = tell(towns(40)[0])
    tokens = in_one_patch(telling) if kind == "layered" else None
    features = PictureFeatures(silent, tokens)
    whole = fitted.predict_proba(features)
    monkeypatch.setattr("geoembed_systems.translocator._BLOCK", 1)
    np.testing.assert_allclose(fitted.predict_proba(features), whole, atol=1e-6)


def test_views_are_pooled_as_probabilities(gated):
    one, other = tell(towns(20, seed=1)[0])[0], tell(towns(20, seed=2)[0])[0]
    alone = [gated.predict_proba(each) for each in (one, other)]
    both = gated.predict_proba(np.stack([one, other], axis=1))
    np.testing.assert_allclose(both, np.mean(alone, axis=0), atol=1e-6)


def test_pictures_without_features_are_answered_with_nothing(gated):
    features = tell(towns(9)[0])[0]
    features[4] = np.nan
    with pytest.warns(UserWarning, match="not finite"):
        found = gated.predict(features)
    assert np.isnan(found[4]).all()
    assert np.isfinite(np.delete(found, 4, axis=0)).all()


def test_the_same_seed_gives_the_same_system(gated):
    town, lonlat = towns()
    features = tell(town)[0]
    again = system().fit(features, lonlat, SCENES[town % 3])
    np.testing.assert_array_equal(again.predict_proba(features), gated.predict_proba(features))


@pytest.mark.parametrize("kind", ["gated", "layered"])
def test_a_saved_system_answers_the_same(kind, request, tmp_path):
    fitted = request.getfixturevalue(kind)
    telling, silent = tell(towns(40)[0])
    features = PictureFeatures(silent, in_one_patch(telling) if kind == "layered" else None)
    again = TransLocator.load(fitted.save(tmp_path / "system"))
    np.testing.assert_array_equal(again.predict_proba(features), fitted.predict_proba(features))
    assert again.fusion_ == fitted.fusion_
    assert again.notes_ == fitted.notes_
    assert again.scenes_ == fitted.scenes_
    assert again.hierarchy_.digest == fitted.hierarchy_.digest


def test_a_system_whose_segments_were_supplied_is_saved_without_a_model_of_them(tmp_path):
    town, lonlat = towns(90)
    features = PictureFeatures(tell(town)[0], segments=np.eye(9)[town])
    fitted = system(epochs=1, t_max=(40, 20, 15), t_min=5).fit(features, lonlat)
    again = TransLocator.load(fitted.save(tmp_path / "system"))
    assert again.segments_ is None
    np.testing.assert_array_equal(again.predict(features), fitted.predict(features))


def test_a_saved_system_with_the_cells_of_another_is_refused(gated):
    town, lonlat = towns(90)
    other = system(epochs=1, t_max=(40, 20, 15), t_min=5).fit(tell(town)[0], lonlat)
    tensors, config = gated._state()
    arrays = {name: np.asarray(each) for name, each in tensors.items()}
    with pytest.raises(OptionError, match="partition of other data"):
        other._restore(arrays, config)


def test_training_goes_on_in_its_folder(tmp_path):
    town, lonlat = towns(90)
    features = PictureFeatures(tell(town)[0], tokens=in_one_patch(tell(town)[0]))
    options = {"t_max": (40, 20, 15), "t_min": 5, "run_folder": tmp_path / "run", "epochs": 2}
    first = system(**options).fit(features, lonlat)
    again = system(**options, resume=True).fit(features, lonlat)
    np.testing.assert_array_equal(again.predict_proba(features), first.predict_proba(features))
    with pytest.raises(TrainingError, match="dropout"):
        system(**options, resume=True, dropout=0.5).fit(features, lonlat)


# -- bad input -------------------------------------------------------------------------------------


def test_features_without_the_tokens_it_was_trained_with_are_refused(layered):
    with pytest.raises(OptionError, match="Patch tokens are needed"):
        layered.predict(np.zeros((3, 12)))


def test_features_of_another_size_are_refused(gated, layered):
    with pytest.raises(OptionError, match="length 13, and the system .* length 12"):
        gated.predict(np.zeros((3, 13)))
    with pytest.raises(OptionError, match="4 tokens of length 12"):
        layered.predict(PictureFeatures(np.zeros((3, 12)), tokens=np.zeros((3, 4, 12))))


def test_tokens_are_left_out_where_pooled_features_were_learned_from(gated):
    telling = tell(towns(9)[0])[0]
    features = PictureFeatures(telling, tokens=np.zeros((9, 2, 5)))
    np.testing.assert_array_equal(gated.predict(features), gated.predict(telling))


def test_tokens_are_left_out_where_gated_fusion_is_asked_for():
    town, lonlat = towns(90)
    features = PictureFeatures(tell(town)[0], tokens=np.zeros((90, 2, 5)))
    fitted = system(fusion="gated", epochs=1, t_max=(40, 20, 15), t_min=5).fit(features, lonlat)
    assert fitted.fusion_ == "gated"
    assert fitted.layout_.tokens is None


def test_fusion_after_every_layer_needs_tokens():
    town, lonlat = towns(90)
    with pytest.raises(OptionError, match="Patch tokens are needed"):
        system(fusion="layers").fit(tell(town)[0], lonlat)


def test_scenes_nobody_knows_are_refused(gated):
    town, lonlat = towns()
    features = tell(town)[0]
    with pytest.raises(TableError, match="3 scenes for 360 pictures"):
        system().fit(features, lonlat, ["urban", "indoor", "natural"])
    with pytest.raises(OptionError, match=r"'desert', first in row 2.*Known scenes: 'indoor'"):
        gated.scenes_.encode(["urban", "indoor", "desert"])
    with pytest.raises(OptionError, match="does not choose by scene"):
        gated.predict(features, scenes=SCENES[town % 3])


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"fusion": "late"}, "fusion='late' is not offered"),
        ({"layers": 0}, "layers=0 is no whole number"),
        ({"heads": 2.5}, "heads=2.5 is no whole number"),
        ({"width": 33}, "width=33 is no multiple of heads=2"),
        ({"width": "wide"}, "width='wide' is no whole number"),
        ({"dropout": 1.0}, "dropout=1.0 is no share"),
        ({"segment_classes": 0}, "classes=0 is neither"),
        ({"segment_classes": 500}, "segment_classes=500 are more than"),
        ({"t_max": (100, 50)}, "makes 2 partitions"),
        ({"training": {"name": "x"}}, "training= has 'name'"),
    ],
)
def test_options_that_do_not_fit_are_refused_and_nothing_is_lost(options, told, gated):
    town, lonlat = towns()
    features = tell(town)[0]
    before = gated.predict(features[:5])
    usual = gated.get_params()
    try:
        with pytest.raises(OptionError, match=told):
            gated.set_params(**options).fit(features, lonlat)
    finally:
        gated.set_params(**usual)
    np.testing.assert_array_equal(gated.predict(features[:5]), before)


def test_cells_may_be_given_and_those_of_other_data_are_refused(gated):
    town, lonlat = towns(90)
    features = tell(town)[0]
    fitted = system(hierarchy=gated.hierarchy_, epochs=1).fit(features, lonlat)
    assert fitted.hierarchy_.digest == gated.hierarchy_.digest
    with pytest.raises(OptionError, match="hierarchy= is a partition of other data"):
        system(hierarchy=gated.hierarchy_).fit(features, lonlat - 40.0)
    with pytest.raises(OptionError, match="is no Hierarchy"):
        system(hierarchy=gated.partition_).fit(features, lonlat)
    two = Hierarchy(gated.hierarchy_.partitions[:2])
    with pytest.raises(OptionError, match="hierarchy= makes 2 partitions"):
        system(hierarchy=two).fit(features, lonlat)


def test_too_few_places_and_places_in_one_cell_are_refused():
    with pytest.raises(OptionError, match="fewer"):
        system(t_min=10).fit(np.eye(5), TOWNS[:5])
    with pytest.raises(OptionError, match="one class is nothing to learn"):
        system(t_min=10).fit(np.eye(30), np.repeat(TOWNS[:1], 30, axis=0))
