"""The examples in docstrings say what happens."""

import doctest
import importlib
import pkgutil

import pytest

import mptt

PACKAGES = ("mptt", "mptt.callbacks", "mptt.datamodules", "mptt.experiments")
MODULES = sorted(
    {
        f"{package}.{found.name}"
        for package in PACKAGES
        for found in pkgutil.iter_modules(importlib.import_module(package).__path__)
        if found.name != "__main__"
    }
)


@pytest.mark.parametrize("name", MODULES)
def test_examples_of(name):
    module = importlib.import_module(name)
    assert doctest.testmod(module).failed == 0


def test_there_are_examples_of_the_method():
    finder = doctest.DocTestFinder()
    named = [mptt.WindowIndex, mptt.KeyMap, mptt.StateMap]
    assert all(any(test.examples for test in finder.find(one)) for one in named)
