"""Every example in a docstring runs. (pytest's own collector cannot follow the package mapping.)"""

import doctest
import importlib
import pkgutil

import pytest

from habenula import circuit, kernels

MODULES = sorted(
    module.name
    for package in (circuit, kernels)
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + ".")
    if not module.name.endswith("__main__")
)


@pytest.mark.parametrize("name", [circuit.__name__, kernels.__name__, *MODULES])
def test_examples(name):
    result = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS)
    assert result.failed == 0, f"{result.failed} of {result.attempted} examples in {name} failed"
