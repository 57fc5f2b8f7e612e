"""The examples in docstrings say what happens."""

import doctest
import importlib
import pkgutil

import pytest

import mptt

PACKAGES = ("mptt", "mptt.callbacks", "mptt.datamodules", "mptt.experiments")


def modules_of(package):
    """The names of all modules below a package, in its sub-packages too."""
    for found in pkgutil.walk_packages(importlib.import_module(package).__path__, f"{package}."):
        if not found.name.endswith(".__main__"):
            yield found.name


MODULES = sorted({name for package in PACKAGES for name in modules_of(package)})


@pytest.mark.parametrize("name", MODULES)
def test_examples_of(name):
    module = importlib.import_module(name)
    assert doctest.testmod(module).failed == 0


def test_there_are_examples_of_the_method():
    finder = doctest.DocTestFinder()
    named = [mptt.WindowIndex, mptt.KeyMap, mptt.StateMap]
    assert all(any(test.examples for test in finder.find(one)) for one in named)
