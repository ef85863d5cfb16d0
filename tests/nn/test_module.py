"""Module: registration, traversal, state, moves, copies, printing."""

import copy
import pickle
from collections import OrderedDict
from typing import Any

import numpy as np
import pytest

import distgrad
from distgrad import Tensor, nn
from distgrad.errors import StateDictError


class Net(nn.Module):
    """Two layers, a shared one, a buffer that is saved and one that is not."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 4)
        self.second = nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 2, bias=False))
        self.again = self.first
        self.scale = nn.Parameter(distgrad.ones(1))
        self.register_buffer("steps", distgrad.zeros(2))
        self.register_buffer("scratch", distgrad.zeros(5), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x)) * self.scale


NAMES = ["scale", "first.weight", "first.bias", "second.0.weight", "second.0.bias", "second.1.weight"]
STATE = [
    "scale", "steps", "first.weight", "first.bias", "second.0.weight", "second.0.bias", "second.0.running_mean",
    "second.0.running_var", "second.0.num_batches_tracked", "second.1.weight", "again.weight", "again.bias",
]  # fmt: skip


# ---- registration ----------------------------------------------------------------------------------------------------


def test_parts_are_found_by_name() -> None:
    net = Net()
    assert [name for name, _ in net.named_parameters()] == NAMES
    assert [name for name, _ in net.named_children()] == ["first", "second"]
    assert [name for name, _ in net.named_modules()] == ["", "first", "second", "second.0", "second.1"]
    assert [n for n, _ in net.named_buffers()][:2] == ["steps", "scratch"]
    assert len(list(net.parameters(recurse=False))) == 1
    assert [n for n, _ in net.named_parameters(prefix="net", remove_duplicate=False)][-1] == "net.again.bias"


def test_attribute_and_registry_are_the_same_object() -> None:
    net = Net()
    assert net.scale is net._parameters["scale"]
    new = nn.Parameter(distgrad.zeros(1))
    net.scale = new
    assert net.scale is new and net._parameters["scale"] is new and next(net.parameters()) is new
    net.steps = distgrad.ones(2)
    assert net._buffers["steps"] is net.steps


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [("scale", distgrad.ones(1), "parameter"), ("first", 3, "child module"), ("steps", [1.0], "buffer")],
)
def test_wrong_kind_in_a_registered_place(name: str, value: Any, expected: str) -> None:
    net = Net()
    with pytest.raises(TypeError, match=rf"cannot assign .* as {expected} '{name}'"):
        setattr(net, name, value)


def test_none_in_a_registered_place_keeps_it() -> None:
    net = Net()
    net.scale = None  # type: ignore[assignment]
    assert net.scale is None and "scale" in net._parameters and "scale" not in dict(net.named_parameters())


def test_plain_tensor_is_no_parameter() -> None:
    net = Net()
    net.note = distgrad.ones(3)
    assert "note" not in net.state_dict()
    net.note = nn.Parameter(distgrad.ones(3))
    assert "note" in net.state_dict()
    net.note = nn.Linear(1, 1)
    assert "note.weight" in net.state_dict() and "note" not in net._parameters
    del net.note
    assert not hasattr(net, "note") and "note" not in net._modules


def test_buffer_class_registers_itself() -> None:
    net = Net()
    net.mean = nn.Buffer(distgrad.ones(2))
    net.mask = nn.Buffer(distgrad.ones(2), persistent=False)
    assert "mean" in net.state_dict() and "mask" not in net.state_dict()
    assert {"mean", "mask"} <= {name for name, _ in net.named_buffers()}


def test_assignment_before_init_says_what_to_do() -> None:
    class Early(nn.Module):
        def __init__(self) -> None:
            self.layer = nn.Linear(1, 1)

    with pytest.raises(AttributeError, match=r"before Module.__init__\(\) call.*super\(\).__init__"):
        Early()


@pytest.mark.parametrize("name", ["", "a.b", "forward", "training"])
def test_names_that_cannot_be(name: str) -> None:
    with pytest.raises(KeyError):
        Net().register_parameter(name, nn.Parameter(distgrad.ones(1)))
    with pytest.raises(KeyError):
        Net().register_buffer(name, distgrad.ones(1))
    with pytest.raises(KeyError):
        Net().add_module(name, nn.Identity())


def test_wrong_kinds_are_refused_on_registration() -> None:
    with pytest.raises(TypeError, match="Parameter or None"):
        Net().register_parameter("x", distgrad.ones(1))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="Tensor or None"):
        Net().register_buffer("x", 3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="not a Module subclass"):
        Net().add_module("x", 3)  # type: ignore[arg-type]


def test_get_by_dotted_name() -> None:
    net = Net()
    assert net.get_submodule("second.1") is net.second[1]
    assert net.get_submodule("") is net
    assert net.get_parameter("second.1.weight") is net.second[1].weight
    assert net.get_buffer("second.0.running_mean") is net.second[0].running_mean
    with pytest.raises(AttributeError, match="no module 'third'"):
        net.get_submodule("second.third")
    with pytest.raises(AttributeError, match="no parameter 'bias'"):
        net.get_parameter("second.1.bias")
    net.set_submodule("second.1", nn.Identity())
    assert isinstance(net.second[1], nn.Identity)


def test_missing_forward() -> None:
    class Empty(nn.Module):
        pass

    with pytest.raises(NotImplementedError, match=r"Empty.*forward"):
        Empty()(1)


# ---- state dict ------------------------------------------------------------------------------------------------------


def test_state_dict_has_torchs_keys_and_shares_memory() -> None:
    net = Net()
    state = net.state_dict()
    assert list(state) == STATE
    assert not state["first.weight"].requires_grad
    with distgrad.no_grad():
        net.first.weight.zero_()
    assert float(state["first.weight"].abs().sum()) == 0.0
    assert net.state_dict(keep_vars=True)["first.weight"] is net.first.weight
    assert next(iter(net.state_dict(prefix="model."))) == "model.scale"


def test_load_copies_values_and_keeps_parameters() -> None:
    source, target = Net(), Net()
    before = target.first.weight
    result = target.load_state_dict(source.state_dict())
    assert repr(result) == "<All keys matched successfully>"
    assert target.first.weight is before
    for name, value in source.state_dict().items():
        assert distgrad.equal(target.state_dict()[name], value)


def test_load_with_assign_takes_the_tensors() -> None:
    source, target = Net(), Net()
    state = source.state_dict()
    target.load_state_dict(state, assign=True)
    assert target.second[1].weight.data_ptr() == state["second.1.weight"].data_ptr()
    assert isinstance(target.second[1].weight, nn.Parameter) and target.second[1].weight.requires_grad


def test_load_lists_all_that_does_not_fit() -> None:
    net = Net()
    state = OrderedDict(net.state_dict())
    del state["first.bias"]
    state["extra"] = distgrad.ones(1)
    state["second.1.bias"] = distgrad.ones(2)
    state["second.1.weight"] = distgrad.ones(2, 5)
    with pytest.raises(StateDictError) as caught:
        net.load_state_dict(state)
    text = str(caught.value)
    assert text.startswith("Error(s) in loading state_dict for Net:")
    assert 'Missing key(s) in state_dict: "first.bias".' in text
    assert 'Unexpected key(s) in state_dict: "extra", "second.1.bias".' in text
    assert "size mismatch for second.1.weight: copying a param with shape distgrad.Size([2, 5])" in text
    assert isinstance(caught.value, RuntimeError)


def test_load_not_strict_returns_the_names() -> None:
    net = Net()
    state = dict(net.state_dict())
    state["other"] = state.pop("first.weight")
    result = net.load_state_dict(state, strict=False)
    assert result.missing_keys == ["first.weight"] and result.unexpected_keys == ["other"]
    assert "missing_keys=['first.weight']" in repr(result)


def test_load_refuses_other_values() -> None:
    net = nn.Linear(2, 2)
    with pytest.raises(StateDictError, match="expected a Tensor from the checkpoint but got ndarray"):
        net.load_state_dict({"weight": np.ones((2, 2)), "bias": distgrad.ones(2)})
    with pytest.raises(TypeError, match="expected state_dict to be a dict, got list"):
        net.load_state_dict([1])


def test_batch_norm_of_an_old_checkpoint_has_no_count() -> None:
    norm = nn.BatchNorm1d(2)
    state = dict(norm.state_dict())
    del state["num_batches_tracked"]
    assert norm.load_state_dict(state).missing_keys == []
    assert "num_batches_tracked" not in state


def test_extra_state_is_saved_and_loaded() -> None:
    class Counter(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.count = 0

        def get_extra_state(self) -> Any:
            return {"count": self.count}

        def set_extra_state(self, state: Any) -> None:
            self.count = state["count"]

    one, other = nn.Sequential(Counter()), nn.Sequential(Counter())
    one[0].count = 7
    other.load_state_dict(one.state_dict())
    assert other[0].count == 7
    with pytest.raises(StateDictError, match=r'Missing.*"0\._extra_state"'):
        other.load_state_dict({})


def test_state_dict_hooks() -> None:
    def drop_bias(module: nn.Module, state: dict[str, Tensor], prefix: str, metadata: Any) -> None:
        del state[prefix + "bias"]

    def add_bias(module: nn.Module, state: dict[str, Tensor], prefix: str, *rest: Any) -> None:
        state[prefix + "bias"] = distgrad.ones(2)

    net = nn.Linear(2, 2)
    calls: list[str] = []
    net.register_state_dict_pre_hook(lambda module, prefix, keep: calls.append(f"pre {prefix!r}"))
    net.register_state_dict_post_hook(drop_bias)
    net.register_load_state_dict_pre_hook(add_bias)
    net.register_load_state_dict_post_hook(lambda module, keys: calls.append(f"post {keys.missing_keys}"))
    state = net.state_dict()
    assert list(state) == ["weight"]
    net.load_state_dict(state)
    assert calls == ["pre ''", "post []"] and net.bias is not None and net.bias.tolist() == [1.0, 1.0]
    assert list(state) == ["weight"], "loading must not change the caller's dict"


# ---- all parameters at once ------------------------------------------------------------------------------------------


def test_train_and_eval_reach_all() -> None:
    net = Net()
    assert net.training and net.eval() is net
    assert not any(module.training for module in net.modules())
    net.train()
    assert all(module.training for module in net.modules())
    with pytest.raises(ValueError, match="expected to be boolean"):
        net.train(1)  # type: ignore[arg-type]


def test_apply_visits_children_first() -> None:
    seen: list[str] = []
    net = nn.Sequential(nn.Linear(1, 1), nn.ReLU())
    assert net.apply(lambda module: seen.append(type(module).__name__)) is net
    assert seen == ["Linear", "ReLU", "Sequential"]


def test_zero_grad_and_freezing() -> None:
    net = Net()
    net(distgrad.randn(4, 3)).sum().backward()
    net.zero_grad(set_to_none=False)
    assert net.scale.grad is not None and float(net.scale.grad) == 0.0
    net.zero_grad()
    assert net.scale.grad is None
    net.requires_grad_(False)
    assert not any(p.requires_grad for p in net.parameters())
    assert not net(distgrad.randn(4, 3)).requires_grad


def test_to_another_dtype_keeps_parameters_and_moves_gradients() -> None:
    net = Net()
    net(distgrad.randn(4, 3)).sum().backward()
    parameters = list(net.parameters())
    assert net.double() is net
    assert all(a is b for a, b in zip(net.parameters(), parameters, strict=True))
    assert {p.dtype for p in parameters} == {distgrad.float64}
    assert {p.grad.dtype for p in parameters if p.grad is not None} == {distgrad.float64}
    assert net.steps.dtype == distgrad.float64
    assert net.second[0].num_batches_tracked.dtype == distgrad.int64
    assert net.again is net.first
    assert net.to(distgrad.float32).float().scale.dtype == distgrad.float32
    assert net.half().scale.dtype == distgrad.float16


def test_to_an_integer_dtype_is_refused() -> None:
    with pytest.raises(TypeError, match=r"only accepts floating point or complex dtypes, got distgrad\.int64"):
        Net().to(distgrad.int64)


def test_to_empty_keeps_shapes() -> None:
    net = Net()
    assert net.to_empty(device="cpu").first.weight.shape == (4, 3)


# ---- copies ----------------------------------------------------------------------------------------------------------


def test_deepcopy_is_independent_and_keeps_sharing() -> None:
    net = Net()
    net(distgrad.randn(4, 3)).sum().backward()
    twin = copy.deepcopy(net)
    assert twin.again is twin.first and twin.first is not net.first
    assert twin.first.weight is twin._modules["first"]._parameters["weight"]  # type: ignore[union-attr]
    with distgrad.no_grad():
        twin.first.weight.zero_()
    assert float(net.first.weight.detach().abs().sum()) > 0
    assert float(twin.first(distgrad.ones(1, 3)).sum()) == pytest.approx(float(twin.first.bias.detach().sum()))


def test_tied_parameters_stay_tied_in_a_copy() -> None:
    a, b = nn.Linear(2, 2), nn.Linear(2, 2)
    b.weight = a.weight
    both = nn.Sequential(a, b)
    assert len(list(both.parameters())) == 3
    for twin in (copy.deepcopy(both), pickle.loads(pickle.dumps(both))):
        assert twin[0].weight is twin[1].weight
        assert len(list(twin.parameters())) == 3


def test_pickle_round_trip() -> None:
    net = nn.Sequential(OrderedDict(fc=nn.Linear(3, 4), act=nn.Tanh()))
    twin = pickle.loads(pickle.dumps(net))
    x = distgrad.randn(2, 3)
    assert distgrad.equal(net(x), twin(x))
    assert twin.fc.weight is next(twin.parameters()) and twin.fc.weight.requires_grad


# ---- printing --------------------------------------------------------------------------------------------------------


def test_repr_is_torchs() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Sequential(nn.Linear(1, 2), nn.ReLU())
            self.b = nn.Dropout(0.1)

        def extra_repr(self) -> str:
            return "kind=test"

    assert repr(Two()) == (
        "Two(\n  kind=test\n  (a): Sequential(\n    (0): Linear(in_features=1, out_features=2, bias=True)\n"
        "    (1): ReLU()\n  )\n  (b): Dropout(p=0.1, inplace=False)\n)"
    )
    assert repr(nn.Sequential()) == "Sequential()"
