"""Questions: names, vectors, errors, and several photographs as one."""

import numpy as np
import pytest

from geoembed.errors import OptionError
from geoembed.geolocation.queries import (
    Queries,
    fuse,
    one_kind,
    read_texts,
    rename,
    vector_queries,
)


def test_one_kind_of_question_is_asked_for():
    assert one_kind(images=None, text="a", vectors=None) == "text"
    with pytest.raises(OptionError, match=r"one of images=, text=, vectors=: nothing was given"):
        one_kind(images=None, text=None, vectors=None)
    with pytest.raises(OptionError, match="images= and text= were given"):
        one_kind(images="a.jpg", text="a", vectors=None)


def test_texts():
    assert read_texts("a road") == ["a road"]
    assert read_texts(("a", "b")) == ["a", "b"]
    with pytest.raises(OptionError, match=r"text\[1\] is int, not text: 3"):
        read_texts(["a", 3])
    with pytest.raises(OptionError, match="text= holds no text"):
        read_texts([])


def test_vectors_that_are_not_finite_become_errors():
    queries = vector_queries([[1.0, 0.0], [np.nan, 1.0], [0.0, 0.0]], 2)
    assert queries.good.tolist() == [True, False, False]
    assert queries.errors[1] == "the vector is zero or not finite"
    assert np.isnan(queries.vectors[1:]).all()
    assert queries.names == ["0", "1", "2"]
    assert len(vector_queries(np.ones(2), 2)) == 1
    # `geoembed.encode` does not normalise: scores and radii must not depend on it.
    any_length = vector_queries([[3.0, 4.0], [3e30, 4e30], [3e-30, 4e-30]], 2).vectors
    np.testing.assert_allclose(any_length, [[0.6, 0.8]] * 3, rtol=1e-6)
    with pytest.raises(OptionError, match=r"has the shape \(3,\): .* have 2 values"):
        vector_queries(np.ones(3), 2)
    with pytest.raises(OptionError, match="cannot be read as numbers"):
        vector_queries([["a", "b"]], 2)


def asked():
    vectors = np.array([[1.0, 0.0], [0.0, 1.0], [np.nan, np.nan], [np.nan, np.nan]], np.float32)
    return Queries(["a", "b", "c", "d"], vectors, ["", "", "no such file", "no such file"])


def test_the_score_of_a_group_is_the_mean_of_its_photographs_scores():
    fused = fuse(asked(), ["tower", "tower", "tower", "lake"])
    assert fused.names == ["tower", "lake"]
    assert fused.vectors[0].tolist() == [0.5, 0.5]
    places = np.random.default_rng(0).normal(size=(2, 5))
    np.testing.assert_allclose(
        fused.vectors[0] @ places, (asked().vectors[:2] @ places).mean(axis=0), rtol=1e-6
    )


def test_a_group_without_a_readable_photograph_keeps_the_reason():
    fused = fuse(asked(), [1, 1, 2, 2])
    assert fused.names == ["1", "2"]
    assert fused.errors == ["", "no such file"]
    assert np.isnan(fused.vectors[1]).all()


def test_queries_may_be_called_something_else():
    assert rename(asked(), list("wxyz")).names == ["w", "x", "y", "z"]
    with pytest.raises(OptionError, match="names= has 1 entries and there are 4 queries"):
        rename(asked(), ["w"])


def test_groups_fit_the_photographs():
    with pytest.raises(OptionError, match="groups= has 1 entries and there are 4 queries"):
        fuse(asked(), ["a"])
    with pytest.raises(OptionError, match="groups= has no value at position 1"):
        fuse(asked(), ["a", None, "b", "b"])
