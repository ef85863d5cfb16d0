"""Containers of modules and parameters."""

from collections import OrderedDict

import pytest

import distgrad
from distgrad import nn


def layers(n: int) -> list[nn.Module]:
    return [nn.Linear(2, 2) for _ in range(n)]


def test_sequential_behaves_as_a_sequence() -> None:
    a, b, c, d = layers(4)
    s = nn.Sequential(a, b, c)
    assert len(s) == 3 and list(s) == [a, b, c] and s[-1] is c and list(s[1:]) == [b, c]
    s[0] = d
    assert s[0] is d
    del s[0]
    assert list(s._modules) == ["0", "1"] and s[0] is b
    s.insert(1, a)
    assert list(s) == [b, a, c]
    assert s.pop(1) is a and list(s) == [b, c]
    assert list(s.append(a).extend([d])) == [b, c, a, d]
    assert list(nn.Sequential(a) + nn.Sequential(b)) == [a, b]
    assert list(nn.Sequential(a, b) * 2) == [a, b, a, b]
    with pytest.raises(IndexError, match="out of range for 4 entries"):
        s[4]


def test_sequential_by_name() -> None:
    s = nn.Sequential(OrderedDict(fc=nn.Linear(2, 3), act=nn.ReLU()))
    assert list(s.state_dict()) == ["fc.weight", "fc.bias"]
    assert s.fc is s[0] and list(s[:1]._modules) == ["fc"]
    assert s(distgrad.ones(1, 2)).shape == (1, 3)


def test_module_list() -> None:
    a, b, c, d = layers(4)
    items = nn.ModuleList([a, b])
    items.append(c)
    items += [d]
    assert list(items) == [a, b, c, d] and len(items) == 4 and items[-2] is c
    assert isinstance(items[1:3], nn.ModuleList) and list(items[1:3]) == [b, c]
    items.insert(0, d)
    del items[4]
    assert list(items) == [d, a, b, c] and list(items._modules) == ["0", "1", "2", "3"]
    items[0] = c
    assert items.pop() is c and items[0] is c
    assert len(list(items.parameters())) == 6
    with pytest.raises(TypeError, match="iterable"):
        items.extend(3)  # type: ignore[arg-type]
    with pytest.raises(NotImplementedError):
        items(distgrad.ones(1))


def test_module_list_prints_equal_neighbours_once() -> None:
    text = repr(nn.ModuleList([nn.ReLU(), nn.ReLU(), nn.Tanh()]))
    assert text == "ModuleList(\n  (0-1): 2 x ReLU()\n  (2): Tanh()\n)"


def test_module_dict() -> None:
    a, b, c = layers(3)
    d = nn.ModuleDict({"a": a, "b": b})
    d["c"] = c
    assert list(d) == ["a", "b", "c"] == list(d.keys()) and d["c"] is c and "c" in d and len(d) == 3
    assert [k for k, _ in d.items()] == list(d) and list(d.values()) == [a, b, c]
    assert d.pop("a") is a and "a" not in d
    d.update([("b", c)])
    assert d["b"] is c
    del d["c"]
    d.clear()
    assert len(d) == 0
    with pytest.raises(KeyError, match="missing"):
        del d["missing"]
    with pytest.raises(KeyError, match="already exists"):
        d["keys"] = a


def test_parameter_list() -> None:
    items = nn.ParameterList([distgrad.ones(2), nn.Parameter(distgrad.zeros(3))])
    items.append(distgrad.ones(1)).extend([distgrad.ones(4)])
    assert len(items) == 4 and all(isinstance(p, nn.Parameter) for p in items)
    assert [p.numel() for p in items.parameters()] == [2, 3, 1, 4]
    items[-1] = nn.Parameter(distgrad.ones(5))
    assert items[3].numel() == 5 and [p.numel() for p in items[1:3]] == [3, 1]
    assert list(items.state_dict()) == ["0", "1", "2", "3"]
    assert "(0): Parameter containing: [distgrad.float32 of size 2]" in repr(items)


def test_parameter_dict() -> None:
    d = nn.ParameterDict({"a": distgrad.ones(2)})
    d["b"] = nn.Parameter(distgrad.zeros(3))
    d.update({"c": distgrad.ones(1)})
    assert list(d) == ["a", "b", "c"] and isinstance(d["a"], nn.Parameter) and len(d) == 3
    assert d.get("x") is None and d.setdefault("x", distgrad.ones(1)) is d["x"]
    assert d.pop("x").numel() == 1 and "x" not in d
    assert list(d.copy()) == ["a", "b", "c"] and list(reversed(d)) == ["c", "b", "a"]
    assert list(d | nn.ParameterDict({"z": distgrad.ones(1)})) == ["a", "b", "c", "z"]
    assert list(d.state_dict()) == ["a", "b", "c"]
    assert d.popitem()[0] == "c"
    with pytest.raises(KeyError, match="no_such"):
        d["no_such"]
    with pytest.raises(KeyError, match="name of a method"):
        d["keys"] = distgrad.ones(1)
    d.clear()
    assert len(d) == 0 and list(d.parameters()) == []
