"""The operations that write into a tensor, as methods of `Tensor`: operators, and names that end with an underscore."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from . import ops
from .autograd._base import TensorBase
from .autograd._inplace import become_view, replace_values
from .autograd._node import next_sequence

if TYPE_CHECKING:
    from ._tensor import Tensor


def _inplace(function: Callable[..., Any]) -> Callable[..., "Tensor"]:
    """The in-place form of an operation: its result's values and history become the tensor's own."""
    name = function.__name__ + "_"

    def method(self: "Tensor", *args: Any, **kwargs: Any) -> "Tensor":
        since = next_sequence()
        return replace_values(self, function(self, *args, **kwargs), name, since)  # type: ignore[no-any-return]

    method.__name__ = method.__qualname__ = name
    method.__doc__ = f"In-place form of `{function.__name__}`."
    return method


def _reshaped(function: Callable[..., Any]) -> Callable[..., "Tensor"]:
    """The in-place form of an operation that gives a view: the tensor becomes that view of its memory."""
    name = function.__name__ + "_"

    def method(self: "Tensor", *args: Any, **kwargs: Any) -> "Tensor":
        return become_view(self, function(self, *args, **kwargs))  # type: ignore[no-any-return]

    method.__name__ = method.__qualname__ = name
    method.__doc__ = f"In-place form of `{function.__name__}`."
    return method


class InPlaceMethods(TensorBase):
    """The part of `Tensor` that changes its values."""

    # ---- operators ----
    __iadd__ = _inplace(ops.add)
    __isub__ = _inplace(ops.sub)
    __imul__ = _inplace(ops.mul)
    __itruediv__ = _inplace(ops.div)
    __ifloordiv__ = _inplace(ops.floor_divide)
    __imod__ = _inplace(ops.remainder)
    __ipow__ = _inplace(ops.pow)
    __ilshift__ = _inplace(ops.bitwise_left_shift)
    __irshift__ = _inplace(ops.bitwise_right_shift)
    __setitem__ = ops.setitem

    # ---- random ----
    uniform_ = ops.uniform_
    normal_ = ops.normal_
    exponential_ = ops.exponential_
    cauchy_ = ops.cauchy_
    log_normal_ = ops.log_normal_
    geometric_ = ops.geometric_
    bernoulli_ = ops.bernoulli_
    random_ = ops.random_

    # ---- as the operations of these names ----
    add_ = _inplace(ops.add)
    sub_ = subtract_ = _inplace(ops.sub)
    mul_ = multiply_ = _inplace(ops.mul)
    div_ = divide_ = true_divide_ = _inplace(ops.div)
    pow_ = _inplace(ops.pow)
    clamp_ = clip_ = _inplace(ops.clamp)
    exp_ = _inplace(ops.exp)
    log_ = _inplace(ops.log)
    sqrt_ = _inplace(ops.sqrt)
    rsqrt_ = _inplace(ops.rsqrt)
    abs_ = absolute_ = _inplace(ops.abs)
    sin_ = _inplace(ops.sin)
    cos_ = _inplace(ops.cos)
    tanh_ = _inplace(ops.tanh)
    sigmoid_ = _inplace(ops.sigmoid)
    relu_ = _inplace(ops.relu)
    neg_ = negative_ = _inplace(ops.neg)
    sign_ = _inplace(ops.sign)
    floor_ = _inplace(ops.floor)
    ceil_ = _inplace(ops.ceil)
    round_ = _inplace(ops.round)
    floor_divide_ = _inplace(ops.floor_divide)
    remainder_ = _inplace(ops.remainder)
    fmod_ = _inplace(ops.fmod)
    exp2_ = _inplace(ops.exp2)
    expm1_ = _inplace(ops.expm1)
    log1p_ = _inplace(ops.log1p)
    log2_ = _inplace(ops.log2)
    log10_ = _inplace(ops.log10)
    square_ = _inplace(ops.square)
    tan_ = _inplace(ops.tan)
    sinh_ = _inplace(ops.sinh)
    cosh_ = _inplace(ops.cosh)
    erf_ = _inplace(ops.erf)
    erfc_ = _inplace(ops.erfc)
    trunc_ = fix_ = _inplace(ops.trunc)
    reciprocal_ = _inplace(ops.reciprocal)
    eq_ = _inplace(ops.eq)
    ne_ = not_equal_ = _inplace(ops.ne)
    lt_ = less_ = _inplace(ops.lt)
    le_ = less_equal_ = _inplace(ops.le)
    gt_ = greater_ = _inplace(ops.gt)
    ge_ = greater_equal_ = _inplace(ops.ge)
    bitwise_and_ = _inplace(ops.bitwise_and)
    bitwise_or_ = _inplace(ops.bitwise_or)
    bitwise_xor_ = _inplace(ops.bitwise_xor)
    bitwise_not_ = _inplace(ops.bitwise_not)
    logical_and_ = _inplace(ops.logical_and)
    logical_or_ = _inplace(ops.logical_or)
    logical_xor_ = _inplace(ops.logical_xor)
    logical_not_ = _inplace(ops.logical_not)
    addcmul_ = _inplace(ops.addcmul)
    addcdiv_ = _inplace(ops.addcdiv)
    lerp_ = _inplace(ops.lerp)
    float_power_ = _inplace(ops.float_power)
    ldexp_ = _inplace(ops.ldexp)
    xlogy_ = _inplace(ops.xlogy)
    copysign_ = _inplace(ops.copysign)
    heaviside_ = _inplace(ops.heaviside)
    nextafter_ = _inplace(ops.nextafter)
    gcd_ = _inplace(ops.gcd)
    lcm_ = _inplace(ops.lcm)
    acos_ = arccos_ = _inplace(ops.acos)
    asin_ = arcsin_ = _inplace(ops.asin)
    atan_ = arctan_ = _inplace(ops.atan)
    acosh_ = arccosh_ = _inplace(ops.acosh)
    asinh_ = arcsinh_ = _inplace(ops.asinh)
    atanh_ = arctanh_ = _inplace(ops.atanh)
    atan2_ = arctan2_ = _inplace(ops.atan2)
    hypot_ = _inplace(ops.hypot)
    deg2rad_ = _inplace(ops.deg2rad)
    rad2deg_ = _inplace(ops.rad2deg)
    frac_ = _inplace(ops.frac)
    logit_ = _inplace(ops.logit)
    sinc_ = _inplace(ops.sinc)
    nan_to_num_ = _inplace(ops.nan_to_num)
    clamp_min_ = _inplace(ops.clamp_min)
    clamp_max_ = _inplace(ops.clamp_max)
    sgn_ = _inplace(ops.sgn)
    bitwise_left_shift_ = _inplace(ops.bitwise_left_shift)
    bitwise_right_shift_ = _inplace(ops.bitwise_right_shift)
    fill_ = ops.fill_
    zero_ = ops.zero_
    copy_ = ops.copy_
    masked_fill_ = ops.masked_fill_
    masked_scatter_ = _inplace(ops.masked_scatter)
    index_put_ = ops.index_put_
    index_add_ = ops.index_add_
    index_copy_ = ops.index_copy_
    index_fill_ = ops.index_fill_
    index_reduce_ = _inplace(ops.index_reduce)
    put_ = _inplace(ops.put)
    scatter_ = ops.scatter_
    scatter_add_ = ops.scatter_add_
    scatter_reduce_ = _inplace(ops.scatter_reduce)
    fill_diagonal_ = ops.fill_diagonal_
    tril_ = _inplace(ops.tril)
    triu_ = _inplace(ops.triu)
    cumsum_ = _inplace(ops.cumsum)
    cumprod_ = _inplace(ops.cumprod)
    addmm_ = _inplace(ops.addmm)
    addmv_ = _inplace(ops.addmv)
    addr_ = _inplace(ops.addr)
    baddbmm_ = _inplace(ops.baddbmm)
    addbmm_ = _inplace(ops.addbmm)
    squeeze_ = _reshaped(ops.squeeze)
    unsqueeze_ = _reshaped(ops.unsqueeze)
    transpose_ = swapaxes_ = swapdims_ = _reshaped(ops.transpose)
    t_ = _reshaped(ops.t)
    as_strided_ = _reshaped(ops.as_strided)
