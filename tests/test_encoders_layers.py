import pytest

from geoembed.encoders import load_encoder
from geoembed.encoders.layers import Shape, parse_layers
from geoembed.errors import OptionError

SHAPE = Shape(scales=3, hidden=(1024, 1024, 1024), output=512)


@pytest.mark.parametrize(
    ("layers", "labels", "width"),
    [
        ("final", ["final"], 512),
        ("scales", ["scale0", "scale1", "scale2"], 1536),
        ("scale2", ["scale2"], 512),
        ("hidden", [f"hidden{s}.{j}" for s in range(3) for j in range(3)], 9216),
        ("hidden1", ["hidden1.0", "hidden1.1", "hidden1.2"], 3072),
        ("hidden.2", ["hidden0.2", "hidden1.2", "hidden2.2"], 3072),
        ("hidden1.0", ["hidden1.0"], 1024),
        (
            "hidden0+hidden1+final",
            [f"hidden{s}.{j}" for s in (0, 1) for j in range(3)] + ["final"],
            6656,
        ),
        ("Final + Scale0", ["final", "scale0"], 1024),
    ],
)
def test_terms_give_parts_in_the_order_written(layers, labels, width):
    parts = parse_layers(layers, SHAPE)
    assert [part.label for part in parts] == labels
    assert sum(part.width for part in parts) == width


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ("last", r"layers='last': 'last' is not a layer\. Use 'final'"),
        ("", r"layers='' is not text"),
        (None, r"layers=None is not text"),
        ("final0", r"'final0' is not a layer"),
        ("scale", r"'scale' is not a layer"),
        ("scales1", r"'scales1' is not a layer"),
        ("scale3", r"there is no scale 3; they count from 0 to 2"),
        ("hidden0.3", r"there is no hidden layer 3; they count from 0 to 2"),
        ("hidden0+", r"'' is not a layer"),
        ("hidden0+hidden0.1", r"names hidden0\.1 more than once"),
    ],
)
def test_what_is_not_offered_is_refused_with_what_is(layers, message):
    with pytest.raises(OptionError, match=message):
        parse_layers(layers, SHAPE)


def test_best_is_the_preset_of_the_spec_and_resolved_at_once():
    encoder = load_encoder("geoclip.v1", layers="best")
    assert encoder.layers == encoder.spec.best_layers == encoder.options()["layers"]
    assert encoder.dimension == load_encoder("geoclip.v1", layers=encoder.layers).dimension
