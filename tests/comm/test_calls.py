"""Calls as two integers, and as text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distgrad.comm._calls import ANY, Call, Kind
from distgrad.comm._dtypes import ROWS
from distgrad.comm._types import ReduceOp

calls = st.builds(
    Call,
    st.sampled_from(Kind),
    st.integers(ANY, 2**50),
    st.sampled_from([0, *(row.code for row in ROWS)]),
    st.sampled_from([-1, *ReduceOp]),
    st.integers(-1, 2**30),
)


@given(calls)
def test_unpack_is_the_inverse_of_pack(call: Call) -> None:
    packed = call.pack()
    assert all(0 <= word < 2**63 for word in packed)
    assert Call.unpack(*packed) == call


@given(calls, calls)
def test_different_calls_differ_when_packed(first: Call, second: Call) -> None:
    assert (first.pack() == second.pack()) == (first == second)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (Call(Kind.BARRIER), "barrier()"),
        (Call(Kind.ALL_REDUCE, 1500, 1, ReduceOp.SUM), "all_reduce(SUM, 1,500 float32 = 6,000 bytes)"),
        (Call(Kind.BROADCAST, 3, 7, root=2), "broadcast(root 2, 3 int64 = 24 bytes)"),
    ],
    ids=str,
)
def test_text(call: Call, text: str) -> None:
    assert str(call) == text
