"""The examples in docstrings run and print what they say."""

import doctest
import importlib

import pytest


@pytest.mark.parametrize("module", ["_functional", "_init", "_rank_zero", "_serial", "_threads"])
def test_examples(module: str) -> None:
    result = doctest.testmod(importlib.import_module(f"distgrad.comm.{module}"))
    assert result.attempted > 0
    assert result.failed == 0
