"""Collation of samples of all kinds."""

from collections import OrderedDict
from typing import Any, NamedTuple

import numpy as np
import pytest

import distgrad
from distgrad.data import default_collate, default_convert
from distgrad.errors import ShapeError


class Point(NamedTuple):
    x: Any
    y: Any


def test_numbers_get_torchs_dtypes() -> None:
    assert default_collate([1, 2]).dtype == distgrad.int64
    assert default_collate([1.0, 2.0]).dtype == distgrad.float64
    assert default_collate([True, False]).dtype == distgrad.bool
    assert default_collate([np.float32(1), np.float32(2)]).dtype == distgrad.float32


def test_tensors_and_arrays_are_stacked() -> None:
    assert default_collate([distgrad.ones(2), distgrad.zeros(2)]).tolist() == [[1, 1], [0, 0]]
    stacked = default_collate([np.ones((2, 3), dtype=np.uint8)] * 4)
    assert stacked.shape == (4, 2, 3) and stacked.dtype == distgrad.uint8


def test_containers_are_kept() -> None:
    batch = default_collate([{"a": 1, "b": (2.0, "x")}, {"a": 3, "b": (4.0, "y")}])
    assert batch["a"].tolist() == [1, 3]
    assert isinstance(batch["b"], list) and batch["b"][0].tolist() == [2, 4] and batch["b"][1] == ["x", "y"]
    point = default_collate([Point(1, 2), Point(3, 4)])
    assert isinstance(point, Point) and point.x.tolist() == [1, 3]
    assert isinstance(default_collate([OrderedDict(a=1)]), OrderedDict)
    assert default_collate([[1, 2], [3, 4]])[1].tolist() == [2, 4]


def test_what_has_no_batch() -> None:
    with pytest.raises(ShapeError, match=r"one shape, got \[2\] and \[3\].*collate_fn"):
        default_collate([distgrad.ones(2), distgrad.ones(3)])
    with pytest.raises(ShapeError, match="equal size"):
        default_collate([[1, 2], [3]])
    with pytest.raises(TypeError, match="got object; give the DataLoader a collate_fn"):
        default_collate([object()])
    with pytest.raises(TypeError, match="numeric arrays"):
        default_collate([np.array(["a"])])


def test_conversion_of_one_sample() -> None:
    converted = default_convert({"a": np.ones(2), "b": (np.zeros(1), "text", 3), "c": [Point(np.ones(1), 2)]})
    assert isinstance(converted["a"], distgrad.Tensor) and isinstance(converted["b"][0], distgrad.Tensor)
    assert converted["b"][1:] == ["text", 3] and isinstance(converted["c"][0], Point)
