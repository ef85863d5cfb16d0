"""Calls of every kernel of every family, to compare a backend's with NumPy's."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from distgrad.backend import CPU
from tests.ops.samples import numpy_dtype

Rng = np.random.Generator
FLOATS = {"float32": 2e-5, "float64": 1e-10}
HALF = {**FLOATS, "float16": 2e-2}


@dataclass(frozen=True)
class KernelCase:
    """One call.

    Attributes:
        family, method: which kernel.
        arguments: ``arguments(rng, dtype)`` makes them.
        dtypes: the dtypes to run in, with tolerances.
        compared: what of the result is compared.
    """

    family: str
    method: str
    arguments: Callable[[Rng, str], list[Any]]
    dtypes: dict[str, float] = field(default_factory=lambda: FLOATS)
    compared: Callable[[Any], Any] = lambda result: result
    note: str = ""

    def __str__(self) -> str:
        return f"{self.family}.{self.method}{'-' if self.note else ''}{self.note}"


CASES: list[KernelCase] = []


def _add(
    name: str, arguments: Callable[[Any], list[Any]], dtypes: Any = FLOATS, note: str = "", compared: Any = None
) -> None:
    """Adds a case; `arguments` receives a function that draws a normal array of a shape in the dtype."""
    family, method = name.split(".")

    def make(rng: Rng, dtype: str) -> list[Any]:
        return arguments(lambda *shape: rng.standard_normal(shape).astype(numpy_dtype(dtype)))

    CASES.append(KernelCase(family, method, make, dtypes, compared or (lambda result: result), note))


def _ints(*values: int) -> Any:
    return np.array(values, dtype=np.int64)


def _last(x: Any) -> Any:
    """The same (N, C, ...) in channels-last memory."""
    axes = (0, *range(2, x.ndim), 1)
    return np.ascontiguousarray(x.transpose(axes)).transpose(0, x.ndim - 1, *range(1, x.ndim - 1))


# ---- elementwise, softmax, loss --------------------------------------------------------------------------------------
_add("special.erf", lambda n: [n(3, 5)], HALF)
_add("special.erfc", lambda n: [n(3, 5)], HALF)
_add("special.sigmoid", lambda n: [n(3, 5) * 30], HALF)
for _by_tanh in (False, True):
    _add("activation.gelu", lambda n, t=_by_tanh: [n(4, 5) * 2, t], FLOATS, f"tanh={_by_tanh}")
    _add("activation.gelu_backward", lambda n, t=_by_tanh: _gelu(n, t), FLOATS, f"tanh={_by_tanh}")
_add("activation.silu", lambda n: [n(4, 5)])
_add("activation.silu_backward", lambda n: [n(4, 5), n(4, 5)])
_add("activation.relu", lambda n: [n(4, 5)], HALF)
_add("activation.relu_backward", lambda n: [n(4, 5), np.maximum(n(4, 5), 0)], HALF)


def _gelu(n: Any, by_tanh: bool) -> list[Any]:
    g, x = n(4, 5), n(4, 5)
    return [g, x, CPU.kernels.activation.gelu(x, by_tanh), by_tanh]


for _axis in (0, 1, -1):
    _add("softmax.softmax", lambda n, a=_axis: [n(3, 4, 5) * 40, a], HALF, f"axis={_axis}")
    _add("softmax.log_softmax", lambda n, a=_axis: [n(3, 4, 5) * 40, a], HALF, f"axis={_axis}")
    _add("softmax.softmax_backward", lambda n, a=_axis: [n(3, 4, 5), np.abs(n(3, 4, 5)), a], HALF, f"axis={_axis}")
    _add("softmax.log_softmax_backward", lambda n, a=_axis: [n(3, 4, 5), n(3, 4, 5), a], HALF, f"axis={_axis}")
_add("softmax.softmax", lambda n: [n(0, 4), 1], note="empty")

_add("products.linear", lambda n: [n(4, 5), n(3, 5), n(3)])
_add("products.linear", lambda n: [n(4, 5), n(3, 5), None], note="no bias")
_add("products.matmul", lambda n: [n(4, 5), n(5, 3)], HALF)
_add("products.matmul", lambda n: [n(2, 4, 5), n(2, 3, 5).swapaxes(1, 2)], note="stacks")

_add("loss.check_classes", lambda n: [_ints(0, 2, 1), 3, -100], {"float32": 0}, "all count")
_add("loss.check_classes", lambda n: [_ints(0, -100, 1), 3, -100], {"float32": 0}, "some ignored")
_add("loss.check_classes", lambda n: [_ints(), 3, -100], {"float32": 0}, "empty")
_add(
    "loss.exp_rows",
    lambda n: [n(4, 5), _ints(0, 4, 2, 1)],
    compared=lambda r: [r[1] * 0 + r[1] / r[2], r[3], r[4]],  # the shift is the backend's own choice
)
_add(
    "loss.exp_rows",
    lambda n: [n(4, 5) * 300, _ints(0, 4, 2, 1)],
    note="large",
    compared=lambda r: [r[1] / r[2], r[3], r[4]],
)
_add("loss.scaled_minus_onehot", lambda n: [n(4, 5), _ints(0, 4, 2, 1), n(4, 1), n(4)])
_add("loss.scaled_minus_onehot", lambda n: [n(4, 5), _ints(0, 4, 2, 1), n(4, 1), 0.5], note="number")
_add("loss.sum_rows", lambda n: [n(20, 3), _ints(*([1] * 12), 0, 4, 4, 2, 2, 2, 0, 4), 5])
_add("loss.sum_rows", lambda n: [n(0, 3), _ints(), 2], note="empty")

# ---- ufuncs ----------------------------------------------------------------------------------------------------------
_places = _ints(0, 2, 2, 1, 2)
for _name in ("add", "multiply", "maximum", "minimum"):
    _add(
        "ufuncs.at",
        lambda n, u=_name: [u, n(4, 3), _places, n(5, 3)],
        {**HALF, "complex64": 1e-5} if _name == "add" else HALF,
        _name,
    )
    _add(
        "ufuncs.at",
        lambda n, u=_name: [u, (n(4) * 9), (_ints(0, -1, 0),), n(3) * 9],
        {"int32": 0, "uint8": 0, "int64": 0, "int8": 0},
        f"{_name} integers",
    )
for _name in ("maximum", "minimum", "logaddexp"):
    for _axis in (0, 1):
        _add("ufuncs.accumulate", lambda n, u=_name, a=_axis: [u, n(7, 6), a], FLOATS, f"{_name} axis={_axis}")

# ---- convolution and pooling -----------------------------------------------------------------------------------------
_CONVOLUTIONS = {
    "plain": ((2, 3, 7, 6), (4, 3, 3, 2), (1, 1), ((0, 0), (0, 0)), (1, 1), 1),
    "strided and padded": ((2, 4, 7, 6), (6, 2, 3, 2), (2, 1), ((1, 1), (0, 1)), (1, 2), 2),
    "depthwise": ((2, 4, 6, 6), (8, 1, 3, 3), (1, 2), ((1, 1), (1, 1)), (1, 1), 4),
    "pointwise": ((2, 3, 4, 5), (4, 3, 1, 1), (1, 1), ((0, 0), (0, 0)), (1, 1), 1),
    "last rows unused": ((2, 3, 7, 6), (4, 3, 2, 2), (3, 2), ((1, -1), (0, 1)), (1, 1), 1),
    "1-d": ((2, 3, 9), (4, 3, 3), (2,), ((1, 1),), (1,), 1),
    "3-d": ((1, 2, 4, 5, 4), (3, 2, 2, 2, 3), (1, 2, 1), ((0, 0), (1, 1), (1, 1)), (1, 1, 1), 1),
}


def _outputs(x: Any, w: Any, stride: Any, padding: Any, dilation: Any) -> tuple[int, ...]:
    sizes = zip(x[2:], w[2:], stride, padding, dilation, strict=True)
    return tuple((n + a + b - d * (k - 1) - 1) // s + 1 for n, k, s, (a, b), d in sizes)


for _note, (_x, _w, *_rest) in _CONVOLUTIONS.items():
    _g = (_x[0], _w[0], *_outputs(_x, _w, *_rest[:3]))
    _add("conv.forward", lambda n, x=_x, w=_w, r=_rest: [n(*x), n(*w), n(w[0]), *r], FLOATS, _note)
    _add(
        "conv.forward",
        lambda n, x=_x, w=_w, r=_rest: [_last(n(*x)), n(*w), None, *r],
        FLOATS,
        _note + ", channels last",
    )
    _add("conv.grad_input", lambda n, x=_x, w=_w, g=_g, r=_rest: [n(*g), n(*w), x[2:], *r], FLOATS, _note)
    _add("conv.grad_weight", lambda n, x=_x, w=_w, g=_g, r=_rest: [n(*g), n(*x), w, *r], FLOATS, _note)
    _add("conv.backward", lambda n, x=_x, w=_w, g=_g, r=_rest: [n(*g), n(*x), n(*w), *r], FLOATS, _note)
_add("conv.channel_sums", lambda n: [n(2, 3, 4, 5)])

_POOLS = {
    "tiles": ((2, 3, 4, 6), (2, 3), (2, 2), (2, 2), (0, 0)),
    "overlap": ((2, 3, 7, 6), (4, 3), (3, 2), (2, 2), (1, 0)),
    "1-d": ((2, 3, 9), (5,), (3,), (2,), (1,)),
}
for _note, (_x, _out, *_rest) in _POOLS.items():
    _one = (1,) * len(_out)
    _g = (*_x[:2], *_out)
    _last_place = int(np.prod(_rest[0])) - 1
    for _layout in (lambda a: a, _last):
        _where = _note + (", channels last" if _layout is _last else "")
        _add("pool.max_forward", lambda n, x=_x, o=_out, r=_rest, d=_one, f=_layout: [f(n(*x)), o, *r, d], HALF, _where)
        _add("pool.sum_forward", lambda n, x=_x, o=_out, r=_rest, f=_layout: [f(n(*x)), o, *r], HALF, _where)
        _add("pool.sum_backward", lambda n, x=_x, g=_g, r=_rest, f=_layout: [f(n(*g)), x, *r], HALF, _where)
        _add(
            "pool.max_backward",
            lambda n, x=_x, g=_g, r=_rest, d=_one, f=_layout, k=_last_place: [f(n(*g)), f(_winners(g, k)), x, *r, d],
            HALF,
            _where,
        )
    _add(
        "pool.max_indices",
        lambda n, x=_x, g=_g, r=_rest, d=_one, k=_last_place: [_winners(g, k), x[2:], *r, d],
        {"float32": 0},
        _note,
    )
_add(
    "pool.max_forward", lambda n: [(n(2, 3, 5) * 9), (2,), (2,), (2,), (0,), (1,)], {"int32": 0, "uint8": 0}, "integers"
)
_add("pool.max_forward", lambda n: [n(2, 2, 20, 20), (1, 1), (17, 17), (1, 1), (0, 0), (1, 1)], FLOATS, "many places")


def _winners(shape: tuple[int, ...], last: int) -> Any:
    """Places 0 or `last`, in turn, and only `last` at the edge, where place 0 may lie in the padding."""
    numbers = np.arange(np.prod(shape)).reshape(shape) % 2 * last
    numbers[..., 0] = last
    if len(shape) > 3:
        numbers[..., 0, :] = last
    return numbers.astype(np.uint8)


# ---- normalisation ---------------------------------------------------------------------------------------------------
for _shape in ((4, 3, 5, 2), (6, 3)):
    _note = "x".join(map(str, _shape))
    for _layout in (lambda a: a, _last):
        _where = _note + (", channels last" if _layout is _last and len(_shape) > 2 else "")
        if _layout is _last and len(_shape) == 2:
            continue
        _add("norm.batch_statistics", lambda n, s=_shape, f=_layout: [f(n(*s))], HALF, _where)
        _add(
            "norm.batch_apply",
            lambda n, s=_shape, f=_layout: [f(n(*s)), n(3), np.abs(n(3)), n(3), n(3)],
            FLOATS,
            _where,
        )
        _add(
            "norm.batch_apply",
            lambda n, s=_shape, f=_layout: [f(n(*s)), n(3), np.abs(n(3)), None, None],
            FLOATS,
            _where + ", plain",
        )
        for _with in (True, False):
            _add(
                "norm.batch_forward",
                lambda n, s=_shape, f=_layout, a=_with: [f(n(*s)), n(3) if a else None, n(3) if a else None, 1e-5],
                HALF,
                _where + ("" if _with else ", plain"),
            )
            _add(
                "norm.batch_backward",
                lambda n, s=_shape, f=_layout, a=_with: [
                    f(n(*s)), f(n(*s)), n(3), np.abs(n(3)), n(3) if a else None, (True, a, a),
                ],
                FLOATS,
                _where + ("" if _with else ", plain"),
            )
        _add("norm.batch_sums", lambda n, s=_shape, f=_layout: [f(n(*s)), f(n(*s)), n(3), np.abs(n(3))], FLOATS, _where)
        _add(
            "norm.batch_grad_input",
            lambda n, s=_shape, f=_layout: [f(n(*s)), f(n(*s)), n(3), np.abs(n(3)), n(3), n(3), n(3)],
            FLOATS,
            _where,
        )
        _add(
            "norm.batch_grad_input",
            lambda n, s=_shape, f=_layout: [f(n(*s)), f(n(*s)), n(3), np.abs(n(3)), None, None, None],
            FLOATS,
            _where + ", fixed",
        )
for _affine in (True, False):
    _note = "" if _affine else "plain"
    _add(
        "norm.layer_forward",
        lambda n, a=_affine: [n(4, 6), n(6) if a else None, n(6) if a else None, 1e-5],
        HALF,
        _note,
    )
    _add(
        "norm.layer_backward",
        lambda n, a=_affine: [n(4, 6), n(4, 6), n(4, 1), np.abs(n(4, 1)), n(6) if a else None, (True, a, a)],
        FLOATS,
        _note,
    )
    _add(
        "norm.group_forward",
        lambda n, a=_affine: [n(3, 4, 5), 2, n(4) if a else None, n(4) if a else None, 1e-5],
        FLOATS,
        _note,
    )
    _add(
        "norm.group_backward",
        lambda n, a=_affine: [n(3, 4, 5), n(3, 4, 5), n(3, 2), np.abs(n(3, 2)), n(4) if a else None, (True, a, a)],
        FLOATS,
        _note,
    )

# ---- attention -------------------------------------------------------------------------------------------------------


def _attention(n: Any, mask: str, causal: bool, p: float, backward: bool) -> list[Any]:
    b, h, length, keys, e, ev = 2, 3, 5, 5 if causal else 7, 4, 6
    q, k, v = n(b, h, length, e), n(b, h, keys, e), n(b, h, keys, ev)
    seen = {"none": None, "added": n(b, h, length, keys), "boolean": n(b, h, length, keys) > -0.5}[mask]
    if mask == "boolean":
        seen[0, 0, 1] = False  # a row that sees nothing
    keep = n(b, h, length, keys) > -1 if p else None
    rest = [seen, keep, causal, 0.5, p]
    if not backward:
        return [q, k, v, *rest]
    with np.errstate(all="ignore"):
        out, _ = CPU.kernels.attention.forward(q, k, v, *rest)
    return [n(*out.shape), q, k, v, None, *rest, mask == "added"]


for _mask in ("none", "added", "boolean"):
    for _causal, _p in ((False, 0.0), (True, 0.0), (False, 0.25)):
        _note = f"mask={_mask} causal={_causal} p={_p}"
        _args = _mask, _causal, _p
        _add("attention.forward", lambda n, a=_args: _attention(n, *a, False), FLOATS, _note, lambda r: r[0])
        _add("attention.backward", lambda n, a=_args: _attention(n, *a, True), FLOATS, _note)

# ---- recurrent layers ------------------------------------------------------------------------------------------------
_SIZES = (3, 3, 2, 1)


def _recurrent(n: Any, gates: int, cell: bool, reverse: bool, bias: bool) -> list[Any]:
    rows, i, h = sum(_SIZES), 4, 5
    states = [n(3, h), n(3, h)] if cell else [n(3, h)]
    biases = [n(gates * h), n(gates * h)] if bias else [None, None]
    return [n(rows, i), *states, n(gates * h, i), n(gates * h, h), *biases, _SIZES, reverse]


def _recurrent_backward(n: Any, kind: str, reverse: bool) -> list[Any]:
    gates = {"lstm": 4, "gru": 3, "simple": 1}[kind]
    given = _recurrent(n, gates, kind == "lstm", reverse, True)
    rows, h = sum(_SIZES), 5
    forward = getattr(CPU.kernels.rnn, f"{kind}_forward")
    x, wx, wh = given[0], given[-6], given[-5]
    if kind == "lstm":
        return [n(rows, h), n(3, h), n(3, h), forward(*given)[3], given[2], x, wx, wh, _SIZES, reverse]
    if kind == "gru":
        return [n(rows, h), n(3, h), forward(*given)[2], given[1], x, wx, wh, _SIZES, reverse]
    return [n(rows, h), n(3, h), forward(*given, False)[2], x, wx, wh, _SIZES, reverse, False]


for _reverse in (False, True):
    _note = "reverse" if _reverse else ""
    _add("rnn.lstm_forward", lambda n, r=_reverse: _recurrent(n, 4, True, r, True), FLOATS, _note)
    _add("rnn.gru_forward", lambda n, r=_reverse: _recurrent(n, 3, False, r, True), FLOATS, _note)
    _add("rnn.simple_forward", lambda n, r=_reverse: [*_recurrent(n, 1, False, r, not r), r], FLOATS, _note)
    for _kind in ("lstm", "gru", "simple"):
        _add(f"rnn.{_kind}_backward", lambda n, k=_kind, r=_reverse: _recurrent_backward(n, k, r), FLOATS, _note)

# ---- optimizers ------------------------------------------------------------------------------------------------------
_N = 700  # more than one block of threads


def _state(n: Any, moments: int, positive: tuple[int, ...] = ()) -> list[Any]:
    arrays = [n(_N) for _ in range(2 + moments)]
    for i in positive:
        arrays[i] = np.abs(arrays[i])
    return arrays


_OPTIM = {**FLOATS, "float16": 5e-3, "bfloat16": 4e-2}
for _maximize, _decay in ((False, 0.0), (True, 0.1)):
    _note = f"maximize={_maximize} decay={_decay}"
    _m, _d = _maximize, _decay
    _add(
        "optim.sgd",
        lambda n, m=_m, d=_d: [*_state(n, 0), None, 0.1, 0.0, 0.0, d, False, m, True],
        _OPTIM,
        _note + ", plain",
    )
    for _first, _nesterov in ((True, False), (False, False), (False, True)):
        _add(
            "optim.sgd",
            lambda n, m=_m, d=_d, f=_first, w=_nesterov: [*_state(n, 1), 0.1, 0.9, 0.0 if w else 0.2, d, w, m, f],
            _OPTIM,
            f"{_note} first={_first} nesterov={_nesterov}",
        )
    for _decoupled in (False, True):
        _add(
            "optim.adam",
            lambda n, m=_m, d=_d, c=_decoupled: [*_state(n, 2, (3,)), None, 1e-2, 0.9, 0.99, 1e-3, d, c, m, 3.0],
            _OPTIM,
            f"{_note} decoupled={_decoupled}",
        )
    _add(
        "optim.adam",
        lambda n, m=_m, d=_d: [*_state(n, 3, (3, 4)), 1e-2, 0.9, 0.99, 1e-3, d, False, m, 3.0],
        _OPTIM,
        _note + " amsgrad",
    )
    _add(
        "optim.nadam",
        lambda n, m=_m, d=_d: [*_state(n, 2, (3,)), 1e-2, 2e-2, 0.9, 0.99, 1e-3, d, 0.99, m, 2.0],
        FLOATS,
        _note,
    )
    for _adapt in (None, 0.5):
        _add(
            "optim.radam",
            lambda n, m=_m, d=_d, a=_adapt: [*_state(n, 2, (3,)), 1e-2, 0.9, 0.99, 1e-3, a, d, 0.99, m],
            FLOATS,
            f"{_note} {_adapt}",
        )
    _add("optim.adamax", lambda n, m=_m, d=_d: [*_state(n, 2, (3,)), 1e-2, 0.9, 0.99, 1e-3, d, m], FLOATS, _note)
    _add(
        "optim.rmsprop",
        lambda n, m=_m, d=_d: [*_state(n, 1, (2,)), None, None, 1e-2, 0.9, 1e-3, 0.0, d, m],
        FLOATS,
        _note,
    )
    _add("optim.rmsprop", lambda n, m=_m, d=_d: [*_centred(n), 1e-2, 0.9, 1e-3, 0.5, d, m], FLOATS, _note + " centred")
    _add("optim.adagrad", lambda n, m=_m, d=_d: [*_state(n, 1, (2,)), 1e-2, 1e-3, d, m], FLOATS, _note)
    _add("optim.adadelta", lambda n, m=_m, d=_d: [*_state(n, 2, (2, 3)), 1e-2, 0.9, 1e-3, d, m], FLOATS, _note)
    _add("optim.asgd", lambda n, m=_m, d=_d: [*_state(n, 1), 1e-2, 1e-4, 0.5, d, m], FLOATS, _note)
    _add("optim.rprop", lambda n, m=_m: [*_state(n, 2, (3,)), 0.5, 1.2, 1e-6, 50.0, m], FLOATS, _note)
_add("optim.asgd", lambda n: [*_state(n, 1), 1e-2, 1e-4, 1.0, 0.0, False], FLOATS, "mu=1")
_add("optim.sgd", lambda n: [n(0), n(0), None, 0.1, 0.0, 0.0, 0.0, False, False, True], FLOATS, "empty")


def _centred(n: Any) -> list[Any]:
    p, g, square, mean, buffer = _state(n, 3, (2,))
    return [p, g, square + mean * mean, mean, buffer]
