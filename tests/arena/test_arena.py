"""Parameters in an arena are the parameters they were, whatever users do to them."""

import copy
import gc
import pickle
import weakref

import numpy as np
import pytest

from distgrad import Tensor, tensor
from distgrad._parameter import Parameter
from distgrad.arena import Arena, arenas_for, build_arenas, slot_of
from distgrad.errors import ShapeError


def parameter(*shape: int, dtype: str = "float32", start: float = 0.0) -> Parameter:
    """A parameter that counts up from `start`."""
    return Parameter(tensor((np.arange(np.prod(shape)) + start).reshape(shape).astype(dtype)))


def three() -> list[Parameter]:
    return [parameter(3, 4), parameter(5, start=100), parameter(2, 2, 2, start=200)]


def in_arena(p: Tensor, arena: Arena) -> bool:
    return np.shares_memory(p._data, arena.param)


def test_adoption_keeps_identity_values_and_gradients() -> None:
    parameters = three()
    parameters[1].grad = tensor(np.arange(5, dtype="float32"))
    values = [p.tolist() for p in parameters]
    (arena,) = arenas_for(parameters)
    assert [p.tolist() for p in parameters] == values
    assert all(in_arena(p, arena) and p.is_leaf and p.requires_grad for p in parameters)
    assert parameters[0].grad is None
    assert parameters[1].grad is not None and parameters[1].grad.tolist() == [0, 1, 2, 3, 4]
    assert np.shares_memory(parameters[1].grad._data, arena.grad)


def test_memory_runs_against_registration() -> None:
    parameters = three()
    (arena,) = arenas_for(parameters)
    assert [slot.parameter for slot in arena.slots] == parameters[::-1]


def test_backward_writes_into_the_arena() -> None:
    p = parameter(3)
    (arena,) = arenas_for([p])
    (p * 2.0).sum().backward()
    first = p.grad
    assert arena.grad[:3].tolist() == [2, 2, 2]
    (p * 3.0).sum().backward()
    assert p.grad is first and arena.grad[:3].tolist() == [5, 5, 5]
    p.grad = None
    (p * 3.0).sum().backward()
    assert p.grad is first and arena.grad[:3].tolist() == [3, 3, 3]


def test_one_arena_for_each_dtype() -> None:
    parameters = [parameter(3), parameter(3, dtype="float64"), parameter(4)]
    arenas = arenas_for(parameters)
    assert sorted(str(arena.param.dtype) for arena in arenas) == ["float32", "float64"]
    assert all(any(in_arena(p, arena) for arena in arenas) for p in parameters)


def test_further_parameters_get_a_further_arena() -> None:
    first, second = three(), three()
    (before,) = arenas_for(first)
    arenas = arenas_for([*first, *second])
    assert len(arenas) == 2 and before in arenas
    assert arenas_for(first) == [before]


def test_tied_weight_has_one_slot() -> None:
    p = parameter(3)
    (arena,) = arenas_for([p, parameter(2), p])
    assert len(arena.slots) == 2


def test_parameters_that_share_memory_go_on_sharing() -> None:
    a, b = parameter(4), parameter(4, start=9)
    b.data = a.data
    arenas = arenas_for([a, b, parameter(2)])
    assert len(arenas) == 3
    a._data[0] = 42
    assert b.tolist()[0] == 42
    (a * 2.0 + b * 3.0).sum().backward()
    assert a.grad is not None and b.grad is not None
    assert (a.grad.tolist()[0], b.grad.tolist()[0]) == (2, 3)


def test_parameters_that_share_memory_must_be_contiguous() -> None:
    p = parameter(2, 3)
    with pytest.raises(ShapeError, match="share memory to be contiguous"):
        arenas_for([p, Parameter(_transposed(p))])


def _transposed(p: Parameter) -> Tensor:
    result = tensor(0.0)
    result._data = p._data.T
    return result


def test_a_transposed_parameter_becomes_contiguous() -> None:
    p = Parameter(_transposed(parameter(2, 3)))
    values = p.tolist()
    arenas_for([p])
    assert p.is_contiguous() and p.tolist() == values


def test_runs_are_cut_where_a_gradient_is_missing() -> None:
    parameters = [parameter(n) for n in (3, 70, 5, 6)]
    (arena,) = arenas_for(parameters)
    one = arena.runs(parameters)
    assert [(run.start, run.stop) for run in one] == [(0, arena.slots[-1].offset + 3)]
    assert list(one[0].parameters) == parameters[::-1]
    two = arena.runs([parameters[0], parameters[2], parameters[3]])
    assert [list(run.parameters) for run in two] == [[parameters[3], parameters[2]], [parameters[0]]]
    assert np.shares_memory(two[0].param, parameters[3]._data)
    assert two[0].param.shape == two[0].grad.shape == (two[0].stop - two[0].start,)


def test_padding_in_runs_is_zero() -> None:
    parameters = [parameter(n, start=1) for n in (3, 70, 5)]
    (arena,) = arenas_for(parameters)
    sum((p * 2.0).sum() for p in parameters).backward()  # type: ignore[union-attr]
    inside = np.zeros(arena.layout.size, bool)
    for slot in arena.slots:
        slot.view(inside)[...] = True
    assert inside.sum() == 78
    assert not arena.param[~inside].any() and not arena.grad[~inside].any() and not arena.state_like().any()


def test_new_arenas_take_parameters_and_gradients_along() -> None:
    parameters = three()
    (old,) = arenas_for(parameters)
    sum((p * 2.0).sum() for p in parameters).backward()  # type: ignore[union-attr]
    slot = slot_of(parameters[0])
    (new,) = build_arenas(parameters, world_size=2, headers=True)
    assert slot is not None and slot.parameter is None
    assert old.runs(parameters) == []
    (run,) = new.runs(parameters)
    assert run.grad[0] == 2 and all(in_arena(p, new) for p in parameters)


def test_a_gradient_with_a_graph_of_its_own_keeps_it() -> None:
    p = parameter(3, start=1)
    (p * p).sum().backward(create_graph=True)
    (arena,) = arenas_for([p])
    assert p.grad is not None and p.grad.requires_grad
    assert arena.grad[:3].tolist() == [2, 4, 6]


def test_clear_unset() -> None:
    parameters = [parameter(3), parameter(4)]
    (arena,) = arenas_for(parameters)
    arena.grad[...] = 5
    parameters[0].grad = tensor(np.ones(3, "float32"))
    arena.clear_unset()
    assert slot_of(parameters[0]).view(arena.grad).tolist() == [1, 1, 1]  # type: ignore[union-attr]
    assert slot_of(parameters[1]).view(arena.grad).tolist() == [0, 0, 0, 0]  # type: ignore[union-attr]


def test_data_of_the_same_kind_is_copied_in() -> None:
    p = parameter(3)
    (arena,) = arenas_for([p])
    p.data = tensor(np.full(3, 8, "float32"))
    assert in_arena(p, arena) and arena.param[:3].tolist() == [8, 8, 8]


@pytest.mark.parametrize("other", [np.zeros(4, "float32"), np.zeros(3, "float64")], ids=["shape", "dtype"])
def test_data_of_another_kind_leaves_the_arena(other: "np.ndarray[tuple[int], np.dtype[np.float32]]") -> None:
    p, q = parameter(3), parameter(3)
    (arena,) = arenas_for([p, q])
    slot = slot_of(p)
    p.data = tensor(other)
    assert slot_of(p) is None and slot is not None and slot.parameter is None
    assert not in_arena(p, arena)
    (p * 1.0).sum().backward()
    assert p.grad is not None and not np.shares_memory(p.grad._data, arena.grad)
    assert [list(run.parameters) for run in arena.runs([p, q])] == [[q]]
    again = arenas_for([p, q])
    assert len(again) == 2 and any(in_arena(p, a) for a in again)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda p: pickle.loads(pickle.dumps(p))], ids=["deepcopy", "pickle"])
def test_a_copy_belongs_to_no_arena(copied: object) -> None:
    p = parameter(3)
    (arena,) = arenas_for([p, parameter(1000)])
    (p * 2.0).sum().backward()
    assert callable(copied)
    q = copied(p)
    assert slot_of(q) is None and q.tolist() == p.tolist() and q.requires_grad
    q._data[...] = -1
    assert not (arena.param == -1).any()
    assert len(pickle.dumps(p)) < 1000


def test_state_has_the_arenas_offsets() -> None:
    p, q = parameter(3), parameter(2, 2)
    (arena,) = arenas_for([p, q])
    state = arena.state_like("float64")
    assert state.dtype == np.float64 and state.shape == arena.param.shape
    slot_of(q).view(state)[...] = 1  # type: ignore[union-attr]
    assert state.sum() == 4


def test_gradient_memory_can_come_from_elsewhere() -> None:
    given = {}

    def allocate(n: int, dtype: object) -> object:
        given[n] = np.full(n, np.nan, dtype)  # type: ignore[call-overload]
        return given[n]

    (arena,) = build_arenas(three(), world_size=3, headers=True, allocate=allocate)
    assert given == {arena.layout.size: arena.grad} and arena.layout.size % 384 == 0
    assert not arena.grad.any()


def test_nothing_is_pinned() -> None:
    p = parameter(3)
    (arena,) = arenas_for([p])
    reference, memory = weakref.ref(p), weakref.ref(arena)
    gc.disable()
    try:
        del p
        assert reference() is None  # without the cycle collector
        del arena
    finally:
        gc.enable()
    gc.collect()
    assert memory() is None
