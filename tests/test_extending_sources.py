"""How installed plugins are found."""

import pytest

from geoembed.extending.sources import canonical, installed_sources, selected_names
from geoembed.testing import fake_distribution


def found(name):
    return [source for source in installed_sources() if canonical(source.name) == name]


def test_distributions_are_found_without_importing_them(tmp_path, monkeypatch):
    fake_distribution(tmp_path, "Geoembed_Found", {"found_here": "raise ImportError"}, version="3")
    monkeypatch.syspath_prepend(tmp_path)
    (source,) = found("geoembed-found")
    assert (source.name, source.version, source.owner) == (
        "Geoembed_Found",
        "3",
        "Geoembed_Found 3",
    )
    assert [part.label for part in source.parts] == ["found_here"]


def test_of_two_copies_the_first_on_the_path_counts(tmp_path, monkeypatch):
    for folder, version in (("old", "1"), ("new", "2")):
        fake_distribution(tmp_path / folder, "geoembed-copies", {"copies": ""}, version=version)
        monkeypatch.syspath_prepend(tmp_path / folder)
    assert [source.version for source in found("geoembed-copies")] == ["2"]


def test_a_distribution_without_metadata_is_no_obstacle(tmp_path, monkeypatch):
    fake_distribution(tmp_path, "geoembed-bare", {"bare": ""})
    (tmp_path / "geoembed_bare-1.0.dist-info" / "METADATA").unlink()
    monkeypatch.syspath_prepend(tmp_path)
    (source,) = found("unknown")
    assert source.parts[0].label == "bare"


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", set()),
        (" , ", set()),
        ("geoembed-a", {"geoembed-a"}),
        ("Geoembed_A, b.c", {"geoembed-a", "b-c"}),
    ],
)
def test_selected_names(monkeypatch, text, names):
    monkeypatch.setenv("GEOEMBED_LOAD_PLUGINS", text)
    assert selected_names() == names


def test_no_selection(monkeypatch):
    monkeypatch.delenv("GEOEMBED_LOAD_PLUGINS", raising=False)
    assert selected_names() is None
