"""Every public name has a complete numpydoc docstring, and every example in the package runs."""

import dataclasses
import doctest
import importlib
import inspect
import pkgutil

import matplotlib.pyplot as plt
import pytest
from numpydoc.validate import validate

import geoembed

MODULES = (
    "geoembed",
    "geoembed.data",
    "geoembed.encoders",
    "geoembed.errors",
    "geoembed.evaluation",
    "geoembed.extending",
    "geoembed.extending.registry",
    "geoembed.evaluation.geolocation",
    "geoembed.galleries",
    "geoembed.geodesy",
    "geoembed.geolocation",
    "geoembed.scaling",
    "geoembed.heads",
    "geoembed.images",
    "geoembed.plot",
    "geoembed.similar",
    "geoembed.splits",
    "geoembed.streaming",
    "geoembed.targets",
    "geoembed.testing",
    "geoembed.training",
    "geoembed.webmap",
    "geoembed.weights",
)
CHECKS = {
    "GL03": "no doubled blank lines",
    "GL06": "only sections of numpydoc",
    "GL07": "sections in numpydoc's order",
    "GL08": "there is a docstring",
    "SS01": "it starts with a summary",
    "SS02": "the summary starts with a capital letter",
    "SS03": "the summary ends with a full stop",
    "PR01": "every parameter is documented",
    "PR02": "no parameter is documented that does not exist",
    "PR07": "every parameter has a description",
    "RT01": "what is returned is documented",
    "RT03": "what is returned has a description",
    "YD01": "what is yielded is documented",
    "EX01": "there is an example",
}
# pluggy makes them; hookspecs.py explains them and docs/plugins.md shows them.
MARKERS = {"geoembed.extending.hookimpl", "geoembed.extending.hookspec"}


def public_objects():
    """Name -> object, once each: what the public modules export, and public members of classes."""
    found = {}
    for module_name in MODULES:
        module = importlib.import_module(module_name)
        for name in module.__all__:
            value = getattr(module, name)
            if callable(value) and id(value) not in {id(v) for v in found.values()}:
                found[f"{module_name}.{name}"] = value
    for owner, value in list(found.items()):
        if inspect.isclass(value):
            for name, member in vars(value).items():
                if not name.startswith("_") and (
                    inspect.isfunction(member) or isinstance(member, property)
                ):
                    found[f"{owner}.{name}"] = member
    return {name: value for name, value in found.items() if name not in MARKERS}


PUBLIC = public_objects()
TOP = {f"{module}.{name}" for module in MODULES for name in importlib.import_module(module).__all__}


def needs_example(name):
    """Functions and classes do; members share their class's, descriptions and errors need none."""
    value = PUBLIC[name]
    if name not in TOP:
        return False
    return not (inspect.isclass(value) and issubclass(value, Exception)) and not (
        dataclasses.is_dataclass(value)
    )


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_docstring_is_complete(name):
    checks = set(CHECKS) if needs_example(name) else set(CHECKS) - {"EX01"}
    if isinstance(PUBLIC[name], property):
        checks -= {"RT01"}  # a property is what its summary says
    broken = [f"{code}: {text}" for code, text in validate(name)["errors"] if code in checks]
    assert broken == []


def test_public_objects_are_found():
    assert {"geoembed.embed", "geoembed.LocationFeaturizer.transform"} <= set(PUBLIC)
    assert len(PUBLIC) > 60


def modules():
    """Return every module of the package but the one that runs the command line."""
    found = pkgutil.walk_packages(geoembed.__path__, "geoembed.")
    return ["geoembed", *(m.name for m in found if not m.name.endswith("__main__"))]


@pytest.mark.parametrize("module", modules())
def test_examples_run(module, monkeypatch, tmp_path):
    # Examples that write files write them here.
    monkeypatch.chdir(tmp_path)
    module = importlib.import_module(module)
    failures = []
    runner = doctest.DocTestRunner(verbose=False)
    for case in doctest.DocTestFinder(exclude_empty=True).find(module, module.__name__):
        runner.run(case, out=failures.append)
    plt.close("all")
    assert failures == []


def test_examples_are_found():
    finder = doctest.DocTestFinder(exclude_empty=True)
    cases = [case for m in modules() for case in finder.find(importlib.import_module(m), m)]
    assert sum(bool(case.examples) for case in cases) > 30
