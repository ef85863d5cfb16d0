"""The optimizer as users see it: groups, hooks, state dicts and what goes wrong."""

import copy
import pickle
import warnings
from typing import Any

import numpy as np
import pytest

import distgrad
from distgrad import optim
from distgrad.errors import StateDictError
from distgrad.optim import SGD, Adam

ALL = ["SGD", "Adam", "AdamW", "NAdam", "RAdam", "Adamax", "RMSprop", "Adagrad", "Adadelta", "Rprop", "ASGD", "Muon"]
ALL += ["Adafactor", "LBFGS"]


def parameter(*shape: int, seed: int = 0) -> distgrad.Parameter:
    return distgrad.Parameter(distgrad.tensor(np.random.default_rng(seed).standard_normal(shape)))


def square(optimizer: Any) -> Any:
    """A closure: half the sum of squares of all parameters."""

    def closure() -> Any:
        optimizer.zero_grad()
        loss = sum((p * p).sum() for g in optimizer.param_groups for p in g["params"]) * 0.5
        loss.backward()
        return loss

    return closure


@pytest.mark.parametrize("name", ALL)
def test_descends_returns_loss_and_has_torchs_state_dict(name: str) -> None:
    params = [parameter(3, 4), parameter(5, 2, seed=1)]
    optimizer = getattr(optim, name)(params)
    closure = square(optimizer)
    losses = [float(optimizer.step(closure)) for _ in range(5)]
    assert losses[-1] < losses[0]
    state = optimizer.state_dict()
    assert state["param_groups"][0]["params"] == [0, 1]
    assert set(state["state"]) <= {0, 1}
    assert "lr" in state["param_groups"][0]


@pytest.mark.parametrize("name", ALL)
def test_resumes_from_state_dict(name: str) -> None:
    """Half way a new optimizer on copies takes over; the rest is bit for bit the same."""
    params = [parameter(3, 4), parameter(5, 2, seed=1)]
    optimizer = getattr(optim, name)(params)
    for _ in range(3):
        optimizer.step(square(optimizer))
    copies = [distgrad.Parameter(p.detach().clone()) for p in params]
    resumed = getattr(optim, name)(copies)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for _ in range(3):
        optimizer.step(square(optimizer))
        resumed.step(square(resumed))
    for p, q in zip(params, copies, strict=True):
        np.testing.assert_array_equal(p.detach().numpy(), q.detach().numpy())


@pytest.mark.parametrize("name", ALL)
def test_pickle_and_deepcopy(name: str) -> None:
    optimizer = getattr(optim, name)([parameter(3, 4)])
    optimizer.step(square(optimizer))
    twins = [copy.deepcopy(optimizer), pickle.loads(pickle.dumps(optimizer))]
    optimizer.step(square(optimizer))
    (p,) = optimizer.param_groups[0]["params"]
    for twin in twins:
        (q,) = twin.param_groups[0]["params"]
        assert q is not p
        twin.step(square(twin))
        np.testing.assert_array_equal(q.detach().numpy(), p.detach().numpy())


def test_groups_have_their_own_hyperparameters() -> None:
    p, q = parameter(2), parameter(2, seed=1)
    before = [p.detach().numpy().copy(), q.detach().numpy().copy()]
    optimizer = SGD([{"params": p}, {"params": [q], "lr": 0.5}], lr=0.1)
    for t in (p, q):
        t.grad = distgrad.ones(2, dtype=distgrad.float64)
    optimizer.step()
    np.testing.assert_allclose(p.detach().numpy(), before[0] - 0.1)
    np.testing.assert_allclose(q.detach().numpy(), before[1] - 0.5)
    optimizer.param_groups[0]["lr"] = 1.0
    optimizer.step()
    np.testing.assert_allclose(p.detach().numpy(), before[0] - 1.1)


def test_lr_may_be_a_tensor() -> None:
    p = parameter(2)
    before = p.detach().numpy().copy()
    p.grad = distgrad.ones(2, dtype=distgrad.float64)
    SGD([p], lr=distgrad.tensor(0.25)).step()
    np.testing.assert_allclose(p.detach().numpy(), before - 0.25)


def test_zero_grad() -> None:
    p = parameter(2)
    optimizer = SGD([p])
    p.grad = distgrad.ones(2, dtype=distgrad.float64)
    grad = p.grad
    optimizer.zero_grad(set_to_none=False)
    assert p.grad is grad
    np.testing.assert_array_equal(grad.numpy(), 0)
    optimizer.zero_grad()
    assert p.grad is None
    optimizer.zero_grad(set_to_none=False)
    assert p.grad is None


def test_zero_grad_cuts_the_graph_of_a_gradient() -> None:
    p = parameter(2)
    (p * p * p).sum().backward(create_graph=True)
    assert p.grad is not None and p.grad.requires_grad
    SGD([p]).zero_grad(set_to_none=False)
    assert not p.grad.requires_grad
    np.testing.assert_array_equal(p.grad.numpy(), 0)


def test_names_are_kept() -> None:
    p, q = parameter(2), parameter(3)
    optimizer = SGD([("a", p), ("b", q)])
    assert optimizer.param_groups[0]["param_names"] == ["a", "b"]
    assert optimizer.state_dict()["param_groups"][0]["param_names"] == ["a", "b"]
    with pytest.raises(ValueError, match="with/without names"):
        optimizer.add_param_group({"params": [parameter(1)]})
    with pytest.raises(ValueError, match="Some param names are missing"):
        SGD([("a", p), q])  # type: ignore[list-item]


def test_repr() -> None:
    assert repr(SGD([parameter(2)], lr=0.1)) == (
        "SGD (\nParameter Group 0\n    dampening: 0\n    differentiable: False\n    foreach: None\n    fused: None\n"
        "    lr: 0.1\n    maximize: False\n    momentum: 0\n    nesterov: False\n    weight_decay: 0\n)"
    )


# ---- hooks ----
def test_step_hooks_run_around_the_step_and_can_be_removed() -> None:
    p = parameter(2)
    p.grad = distgrad.ones(2, dtype=distgrad.float64)
    optimizer = SGD([p])
    seen: list[tuple[str, float]] = []
    before = optimizer.register_step_pre_hook(lambda o, args, kwargs: seen.append(("pre", p.detach().numpy()[0])))
    after = optimizer.register_step_post_hook(lambda o, args, kwargs: seen.append(("post", p.detach().numpy()[0])))
    optimizer.step()
    assert [name for name, _ in seen] == ["pre", "post"] and seen[0][1] != seen[1][1]
    before.remove()
    after.remove()
    optimizer.step()
    assert len(seen) == 2


def test_pre_hook_may_change_the_arguments() -> None:
    optimizer = SGD([parameter(2)])
    optimizer.register_step_pre_hook(lambda o, args, kwargs: ((lambda: 7.0,), {}))
    assert optimizer.step() == 7.0
    optimizer.register_step_pre_hook(lambda o, args, kwargs: "no")
    with pytest.raises(RuntimeError, match="None or a tuple"):
        optimizer.step()


def test_state_dict_hooks() -> None:
    optimizer, order = SGD([parameter(2)]), []
    optimizer.register_state_dict_pre_hook(lambda o: order.append("second"))
    optimizer.register_state_dict_pre_hook(lambda o: order.append("first"), prepend=True)
    optimizer.register_state_dict_post_hook(lambda o, s: {**s, "extra": 1})
    optimizer.register_load_state_dict_pre_hook(lambda o, s: order.append(s["extra"]))
    optimizer.register_load_state_dict_post_hook(lambda o: order.append("loaded"))
    optimizer.load_state_dict(optimizer.state_dict())
    assert order == ["first", "second", 1, "loaded"]


# ---- what goes wrong ----
def test_errors_of_the_parameters() -> None:
    p = parameter(2)
    with pytest.raises(ValueError, match="optimizer got an empty parameter list"):
        SGD([])
    with pytest.raises(TypeError, match="iterable of Tensors or dicts, but got a Tensor"):
        SGD(p)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="ordered collections"):
        SGD([{"params": {p}}])
    with pytest.raises(TypeError, match="can only optimize Tensors, but one of the params is int"):
        SGD([3])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="can't optimize a non-leaf Tensor"):
        SGD([p * 2])
    with pytest.raises(ValueError, match="appear in more than one parameter group"):
        SGD([{"params": [p]}, {"params": [p]}])
    with pytest.raises(TypeError, match="param_group must be a dict"):
        SGD([p]).add_param_group([p])  # type: ignore[arg-type]


def test_a_parameter_twice_in_a_group_is_updated_once() -> None:
    p = parameter(2)
    before = p.detach().numpy().copy()
    with pytest.warns(UserWarning, match="duplicate parameters"):
        optimizer = SGD([p, p], lr=1.0)
    p.grad = distgrad.ones(2, dtype=distgrad.float64)
    optimizer.step()
    np.testing.assert_allclose(p.detach().numpy(), before - 1)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("SGD", {"lr": -1}, "Invalid learning rate: -1"),
        ("SGD", {"nesterov": True}, "Nesterov momentum requires a momentum and zero dampening"),
        ("Adam", {"betas": (1.0, 0.9)}, "Invalid beta parameter at index 0: 1.0"),
        ("Adam", {"eps": -1.0}, "Invalid epsilon value"),
        ("Adam", {"differentiable": True}, "differentiable=True is not supported"),
        ("RMSprop", {"alpha": -1.0}, "Invalid alpha value"),
        ("Adadelta", {"rho": 2.0}, "Invalid rho value"),
        ("Rprop", {"etas": (1.5, 2.0)}, "Invalid eta values"),
        ("Adafactor", {"d": 0.5}, "Invalid clipping threshold d"),
    ],
)
def test_errors_of_the_hyperparameters(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        getattr(optim, name)([parameter(2)], **options)


def test_muon_wants_matrices() -> None:
    with pytest.raises(ValueError, match=r"only supports 2D parameters, found one with size \[2\]"):
        optim.Muon([parameter(2)])


def test_load_state_dict_that_does_not_fit() -> None:
    p, q = parameter(2), parameter(3)
    one, two = Adam([p, q]), Adam([{"params": [p]}, {"params": [q]}])
    with pytest.raises(StateDictError, match="different number of parameter groups: expected 2, got 1"):
        two.load_state_dict(one.state_dict())
    with pytest.raises(StateDictError, match="group 0 has 1 parameters, the loaded one 2"):
        Adam([p]).load_state_dict(one.state_dict())


def test_loaded_state_of_another_shape_is_named_at_the_step() -> None:
    small, large = parameter(2), parameter(3)
    optimizer = Adam([small])
    optimizer.step(square(optimizer))
    other = Adam([large])
    other.load_state_dict(optimizer.state_dict())
    with pytest.raises(StateDictError, match=r"'exp_avg' of a parameter to have its shape \[3\], got \[2\]"):
        other.step(square(other))


def test_load_state_dict_takes_hyperparameters_and_converts_dtypes() -> None:
    p = distgrad.Parameter(distgrad.tensor([1.0, 2.0]))
    optimizer = Adam([p], lr=0.5)
    optimizer.step(square(optimizer))
    double = distgrad.Parameter(p.detach().double())
    other = Adam([double], lr=0.1)
    other.load_state_dict(optimizer.state_dict())
    assert other.param_groups[0]["lr"] == 0.5 and other.param_groups[0]["params"] == [double]
    assert other.state[double]["exp_avg"].dtype == distgrad.float64
    assert float(other.state[double]["step"]) == 1


def test_loading_leaves_the_source_alone() -> None:
    p, q = parameter(2), parameter(2)
    source = Adam([p])
    source.step(square(source))
    saved = source.state_dict()
    before = copy.deepcopy(saved)
    other = Adam([q])
    other.load_state_dict(saved)
    other.step(square(other))
    np.testing.assert_array_equal(saved["state"][0]["exp_avg"].numpy(), before["state"][0]["exp_avg"].numpy())
    assert float(saved["state"][0]["step"]) == 1 and float(other.state[q]["step"]) == 2


# ---- optimizers of the user's own ----
class Signs(optim.Optimizer):
    def __init__(self, params: Any, lr: float = 0.1) -> None:
        super().__init__(params, {"lr": lr})

    @distgrad.no_grad()
    def step(self, closure: Any = None) -> Any:
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    state = self.state[p]
                    state["count"] = state.get("count", 0) + 1
                    p.sub_(p.grad.sign() * group["lr"])
        return None


def test_users_own_optimizer_has_everything() -> None:
    p = parameter(3)
    before = p.detach().numpy().copy()
    optimizer, calls = Signs([p]), []
    optimizer.register_step_post_hook(lambda *args: calls.append(1))
    p.grad = distgrad.ones(3, dtype=distgrad.float64)
    scheduler = optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        optimizer.step()
        scheduler.step()
    optimizer.step()
    np.testing.assert_allclose(p.detach().numpy(), before - 0.15)
    assert calls == [1, 1] and optimizer.state_dict()["state"] == {0: {"count": 2}}


def test_the_base_class_has_no_step() -> None:
    with pytest.raises(NotImplementedError, match="Optimizer does not define step"):
        optim.Optimizer([parameter(1)], {}).step()
