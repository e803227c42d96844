"""One hierarchy, each class beside the built-in a caller would catch."""

import pytest

from geoembed import errors


@pytest.mark.parametrize(
    ("ours", "builtin"),
    [
        (errors.CoordinateError, ValueError),
        (errors.OptionError, ValueError),
        (errors.PictureError, ValueError),
        (errors.TableError, ValueError),
        (errors.UnknownNameError, KeyError),
        (errors.WeightsError, RuntimeError),
        (errors.MissingWeightsError, FileNotFoundError),
        (errors.OfflineError, RuntimeError),
        (errors.PluginError, RuntimeError),
        (errors.DuplicateNameError, errors.PluginError),
        (errors.MissingExtraError, ImportError),
    ],
)
def test_each_error_is_also_a_built_in(ours, builtin):
    assert issubclass(ours, errors.GeoembedError)
    assert issubclass(ours, builtin)


def test_an_unknown_name_reads_as_a_sentence_not_as_a_repr():
    error = errors.unknown_name("encoder", "geoclip.v11", ["geoclip.v1", "xyz"])
    assert str(error) == "There is no encoder named 'geoclip.v11'. Close matches: 'geoclip.v1'."
    assert str(errors.unknown_name("head", "q", ["a", "b"])).endswith("Known names: 'a', 'b'.")
    assert str(errors.unknown_name("head", "q", [])).endswith("None is registered.")
    many = [str(number) for number in range(1000)]
    assert str(errors.unknown_name("city", "Xyz", many)).endswith("There are 1,000 others.")
