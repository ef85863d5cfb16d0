"""Devices by name."""

import copy
import pickle

import pytest

import distgrad as dg
from distgrad.errors import DeviceError


def test_devices() -> None:
    assert dg.device("cpu") == dg.device(dg.device("cpu")) != dg.device("cuda")
    assert (dg.device("cuda:1").type, dg.device("cuda:1").index) == ("cuda", 1)
    assert dg.device("cuda", 1) == dg.device(1) == dg.device("cuda:1")
    assert dg.device("cuda").index is None
    assert (str(dg.device("cuda:1")), str(dg.device("cpu"))) == ("cuda:1", "cpu")
    assert (
        repr(dg.device("cuda:1")) == "device(type='cuda', index=1)" and repr(dg.device("cpu")) == "device(type='cpu')"
    )
    assert len({dg.device("cpu"), dg.device("cpu"), dg.device("cuda:0")}) == 2
    for d in (dg.device("cpu"), dg.device("cuda:1")):
        assert pickle.loads(pickle.dumps(d)) == copy.deepcopy(d) == d


@pytest.mark.parametrize("name", ["tpu", "cuda:x", "cuda:-1", "", None, 1.5, True])
def test_what_is_no_device(name: object) -> None:
    with pytest.raises(DeviceError, match="expected a device"):
        dg.device(name)


def test_an_index_is_given_once() -> None:
    with pytest.raises(DeviceError):
        dg.device("cuda:0", 1)
    with pytest.raises(DeviceError, match=">= 0"):
        dg.device("cuda", -1)
