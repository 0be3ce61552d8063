import doctest
import importlib
import pkgutil

import pytest

import estimator

MODULES = [module.name for module in pkgutil.iter_modules(estimator.__path__, "estimator.")]


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_in_docstrings_are_true(name):
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_there_are_examples_to_run():
    tried = sum(doctest.testmod(importlib.import_module(name)).attempted for name in MODULES)
    assert tried >= 15
