"""Hooks around forward and backward of a module."""

from typing import Any, NamedTuple

import pytest

import distgrad
from distgrad import Tensor, nn


class Double(nn.Module):
    def forward(self, x: Tensor, *, times: int = 1) -> Tensor:
        return x * 2 * times


def test_calls_without_hooks_go_straight_to_forward() -> None:
    module = Double()
    assert module._hooks is None
    assert float(module(distgrad.ones(1), times=3)) == 6.0


def test_forward_pre_hook_replaces_the_arguments() -> None:
    module = Double()
    handle = module.register_forward_pre_hook(lambda m, args: args[0] + 1)
    assert float(module(distgrad.ones(1))) == 4.0
    handle.remove()
    assert float(module(distgrad.ones(1))) == 2.0


def test_forward_hook_sees_and_replaces_the_output() -> None:
    module = Double()
    seen: list[Any] = []
    module.register_forward_hook(lambda m, args, out: seen.append((float(args[0]), float(out))))
    module.register_forward_hook(lambda m, args, out: out + 1)
    assert float(module(distgrad.ones(1))) == 3.0
    assert seen == [(1.0, 2.0)]


def test_hooks_with_keyword_arguments() -> None:
    module = Double()
    seen: list[Any] = []
    module.register_forward_pre_hook(lambda m, a, k: (a, {"times": k["times"] + 1}), with_kwargs=True)
    module.register_forward_hook(lambda m, a, k, out: seen.append(k), with_kwargs=True)
    assert float(module(distgrad.ones(1), times=1)) == 4.0
    assert seen == [{"times": 2}]


def test_pre_hook_with_keywords_must_return_both() -> None:
    module = Double()
    module.register_forward_pre_hook(lambda m, a, k: a, with_kwargs=True)
    with pytest.raises(RuntimeError, match=r"expected None or a tuple \(new_args, new_kwargs\)"):
        module(distgrad.ones(1))


def test_prepended_hook_runs_first() -> None:
    module = Double()
    order: list[str] = []
    module.register_forward_hook(lambda m, a, out: order.append("second"))
    module.register_forward_hook(lambda m, a, out: order.append("first"), prepend=True)
    module(distgrad.ones(1))
    assert order == ["first", "second"]


def test_always_called_hook_runs_when_forward_raises() -> None:
    class Broken(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise ZeroDivisionError

    module = Broken()
    seen: list[Any] = []
    module.register_forward_hook(lambda m, a, out: seen.append(out), always_call=True)
    module.register_forward_hook(lambda m, a, out: seen.append("never"))
    with pytest.raises(ZeroDivisionError):
        module(distgrad.ones(1))
    assert seen == [None]


def test_full_backward_hook_sees_gradients_at_both_ends() -> None:
    module = Double()
    seen: list[Any] = []
    module.register_full_backward_hook(lambda m, gi, go: seen.append((gi[0].tolist(), go[0].tolist())))
    x = distgrad.ones(2, requires_grad=True)
    (module(x) * distgrad.tensor([1.0, 5.0])).sum().backward()
    assert seen == [([2.0, 10.0], [1.0, 5.0])]
    assert x.grad is not None and x.grad.tolist() == [2.0, 10.0]


def test_full_backward_hook_replaces_the_gradient() -> None:
    module = Double()
    module.register_full_backward_hook(lambda m, gi, go: (gi[0] * 100,))
    x = distgrad.ones(1, requires_grad=True)
    module(x).sum().backward()
    assert x.grad is not None and x.grad.tolist() == [200.0]


def test_full_backward_pre_hook_replaces_the_output_gradient() -> None:
    module = Double()
    seen: list[Any] = []
    module.register_full_backward_pre_hook(lambda m, go: (go[0] * 3,))
    module.register_full_backward_hook(lambda m, gi, go: seen.append(go[0].tolist()))
    x = distgrad.ones(1, requires_grad=True)
    module(x).sum().backward()
    assert x.grad is not None and x.grad.tolist() == [6.0] and seen == [[3.0]]


def test_backward_hook_without_input_gradient() -> None:
    module = nn.Linear(2, 1)
    seen: list[Any] = []
    module.register_full_backward_hook(lambda m, gi, go: seen.append((gi, go[0].tolist())))
    module(distgrad.ones(3, 2)).sum().backward()
    assert seen == [((None,), [[1.0], [1.0], [1.0]])]
    assert module.weight.grad is not None and module.weight.grad.tolist() == [[3.0, 3.0]]


class Pair(NamedTuple):
    a: Tensor
    b: Tensor


@pytest.mark.parametrize("kind", [tuple, list, dict, Pair])
def test_backward_hook_over_several_inputs_and_outputs(kind: Any) -> None:
    class Swap(nn.Module):
        def forward(self, x: Tensor, note: str, y: Tensor) -> Any:
            parts = (y * 3, x * 2)
            return {"a": parts[0], "b": parts[1]} if kind is dict else Pair(*parts) if kind is Pair else kind(parts)

    module = Swap()
    seen: list[Any] = []
    module.register_full_backward_hook(lambda m, gi, go: seen.append((gi, go)))
    x, y = distgrad.ones(1, requires_grad=True), distgrad.ones(1, requires_grad=True)
    out = module(x, "note", y)
    assert isinstance(out, kind)
    first, second = out.values() if isinstance(out, dict) else out
    (first + second * 5).sum().backward()
    (gi, go) = seen[0]
    assert [None if g is None else float(g) for g in gi] == [10.0, None, 3.0]
    assert [float(g) for g in go] == [1.0, 5.0]


def test_wrong_number_of_returned_gradients() -> None:
    module = Double()
    module.register_full_backward_hook(lambda m, gi, go: (gi[0], gi[0]))
    with pytest.raises(RuntimeError, match="expected 1 gradients"):
        module(distgrad.ones(1, requires_grad=True)).sum().backward()


def test_removed_in_a_with_block() -> None:
    module = Double()
    with module.register_forward_hook(lambda m, a, out: out * 0):
        assert float(module(distgrad.ones(1))) == 0.0
    assert float(module(distgrad.ones(1))) == 2.0
