"""``geoembed gallery index`` with this plugin."""

import json

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from geoembed.cli.gallery_index import index
from geoembed.errors import OptionError, TableError
from geoembed.galleries import Gallery


@pytest.fixture
def folder(tmp_path):
    Gallery.cities(300_000, encoder="wrap").save(tmp_path / "places")
    return tmp_path / "places"


def run(*arguments):
    app = typer.Typer()
    app.command()(index)
    done = CliRunner().invoke(app, list(map(str, arguments)))
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done


def test_it_is_built_measured_and_printed(folder):
    done = run(folder, "--set", "connectivity=8")
    assert done.exit_code == 0
    assert "connectivity      8" in done.output
    assert "cosine 0.4 to a row" in done.output
    assert "recall@10" in done.output
    assert (folder / "indexes" / "usearch.float16.json").is_file()
    # Again: it is there, and the table is what was measured then.
    assert run(folder).output == done.output


def test_queries_of_the_user_are_measured_and_json_is_printed(folder, tmp_path):
    width = Gallery.load(folder).embeddings.shape[1]
    np.save(tmp_path / "queries.npy", np.random.default_rng(0).normal(size=(30, width)))
    options = (folder, "--index", "usearch.int8", "--queries", tmp_path / "queries.npy", "--json")
    facts = json.loads(run(*options).stdout)
    assert facts["dtype"] == "int8"
    (given,) = [one for one in facts["recall"] if one["queries"] == "given"]
    assert (given["count"], given["recall@10"] > 0.9) == (30, True)


def test_force_builds_it_again_with_other_options(folder):
    run(folder)
    with pytest.raises(OptionError, match="built with connectivity=16, not 8"):
        run(folder, "--set", "connectivity=8")
    assert "connectivity      8" in run(folder, "--set", "connectivity=8", "--force").output


@pytest.mark.parametrize("setting", ["connectivity", "=3", "a b=3", "connectivity="])
def test_a_setting_that_is_none_is_refused(folder, setting):
    done = run(folder, "--set", setting)
    assert done.exit_code == 2
    assert "is no OPTION=VALUE" in done.output


def test_other_nonsense_is_refused(folder, tmp_path):
    with pytest.raises(OptionError, match="takes no such option"):
        run(folder, "--set", "nonsense=3")
    with pytest.raises(TableError, match="cannot be read as an array"):
        run(folder, "--queries", tmp_path / "none.npy")
    for content in (b"no array", b"", b"PK\x03\x04", b"\x93NUMPY"):
        (tmp_path / "text.npy").write_bytes(content)
        with pytest.raises(TableError, match="cannot be read as an array"):
            run(folder, "--queries", tmp_path / "text.npy")
    for array in (np.ones(3), np.array([["a"]]), np.ones((2, 2), dtype=complex)):
        np.save(tmp_path / "other.npy", array)
        with pytest.raises(TableError, match="holds no array of numbers of shape"):
            run(folder, "--queries", tmp_path / "other.npy")
