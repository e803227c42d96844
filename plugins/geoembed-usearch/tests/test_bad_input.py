"""Options that make no sense."""

import numpy as np
import pytest
from geoembed_usearch.index import UsearchIndex
from usearch_vectors import unit_vectors

from geoembed.errors import OptionError


@pytest.mark.parametrize(
    "option",
    [{"connectivity": 1}, {"expansion_add": 0}, {"expansion_search": 1.5}, {"threads": -1}],
)
def test_nonsense_is_refused(option):
    with pytest.raises(OptionError, match="is no whole number of at least"):
        UsearchIndex(unit_vectors(50), **option)


@pytest.mark.parametrize(
    ("option", "problem"),
    [
        ({"far": "no"}, "far='no' is not one of"),
        ({"target": 98}, "give a share between 0 and 1"),
        ({"checkpoint": "soon"}, "checkpoint='soon' does not fit: give seconds"),
        ({"checkpoint": float("nan")}, "checkpoint=nan does not fit: give seconds"),
        ({"rebuild": "false"}, "rebuild='false' is not one of: True, False"),
        ({"queries": np.zeros((2, 32))}, "not finite or zero"),
        ({"queries": np.ones((2, 3))}, "have the shape"),
        ({"queries": "photos.npy"}, "queries= is no array of numbers"),
    ],
)
def test_other_nonsense_is_refused(option, problem):
    with pytest.raises(OptionError, match=problem):
        UsearchIndex(unit_vectors(50), **option)
