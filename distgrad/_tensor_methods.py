"""The operations as methods of `Tensor`: one line for each, by family, so that they can be read and type-checked."""

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


def _reflected(function: Callable[..., Any]) -> Callable[..., "Tensor"]:
    """The operator for a number or array on the left."""

    def method(self: "Tensor", other: Any) -> "Tensor":
        return function(other, self)  # type: ignore[no-any-return]

    return method


class OperationMethods(TensorBase):
    """The part of `Tensor` that comes from `ops`."""

    # ---- operators ----
    __add__ = __radd__ = ops.add
    __sub__ = ops.sub
    __rsub__ = _reflected(ops.sub)
    __mul__ = __rmul__ = ops.mul
    __truediv__ = ops.div
    __rtruediv__ = __rdiv__ = _reflected(ops.div)
    __floordiv__ = ops.floor_divide
    __rfloordiv__ = _reflected(ops.floor_divide)
    __mod__ = ops.remainder
    __rmod__ = _reflected(ops.remainder)
    __pow__ = ops.pow
    __rpow__ = _reflected(ops.pow)
    __matmul__ = ops.matmul
    __rmatmul__ = _reflected(ops.matmul)
    __neg__ = ops.neg
    __abs__ = ops.abs
    __eq__ = ops.eq  # type: ignore[assignment]
    __ne__ = ops.ne  # type: ignore[assignment]
    __lt__ = ops.lt
    __le__ = ops.le
    __gt__ = ops.gt
    __ge__ = ops.ge
    __and__ = __rand__ = ops.bitwise_and
    __or__ = __ror__ = ops.bitwise_or
    __xor__ = __rxor__ = ops.bitwise_xor
    __invert__ = ops.bitwise_not
    __lshift__ = ops.bitwise_left_shift
    __rlshift__ = _reflected(ops.bitwise_left_shift)
    __rshift__ = ops.bitwise_right_shift
    __rrshift__ = _reflected(ops.bitwise_right_shift)
    __iadd__ = _inplace(ops.add)
    __isub__ = _inplace(ops.sub)
    __imul__ = _inplace(ops.mul)
    __itruediv__ = _inplace(ops.div)
    __ifloordiv__ = _inplace(ops.floor_divide)
    __imod__ = _inplace(ops.remainder)
    __ipow__ = _inplace(ops.pow)
    __ilshift__ = _inplace(ops.bitwise_left_shift)
    __irshift__ = _inplace(ops.bitwise_right_shift)
    __getitem__ = ops.getitem
    __setitem__ = ops.setitem

    __pos__ = ops.positive

    # ---- arithmetic ----
    add = ops.add
    sub = subtract = ops.sub
    mul = multiply = ops.mul
    div = divide = true_divide = ops.div
    floor_divide = ops.floor_divide
    remainder = ops.remainder
    fmod = ops.fmod
    pow = ops.pow
    neg = negative = ops.neg
    maximum = ops.maximum
    minimum = ops.minimum
    reciprocal = ops.reciprocal
    addcmul = ops.addcmul
    addcdiv = ops.addcdiv
    lerp = ops.lerp
    positive = ops.positive
    float_power = ops.float_power
    ldexp = ops.ldexp
    xlogy = ops.xlogy
    logaddexp = ops.logaddexp
    logaddexp2 = ops.logaddexp2
    copysign = ops.copysign
    fmax = ops.fmax
    fmin = ops.fmin
    heaviside = ops.heaviside
    nextafter = ops.nextafter
    gcd = ops.gcd
    lcm = ops.lcm

    # ---- elementwise ----
    exp = ops.exp
    exp2 = ops.exp2
    expm1 = ops.expm1
    log = ops.log
    log1p = ops.log1p
    log2 = ops.log2
    log10 = ops.log10
    sqrt = ops.sqrt
    rsqrt = ops.rsqrt
    abs = absolute = ops.abs
    square = ops.square
    sin = ops.sin
    cos = ops.cos
    tan = ops.tan
    sinh = ops.sinh
    cosh = ops.cosh
    tanh = ops.tanh
    sigmoid = ops.sigmoid
    erf = ops.erf
    erfc = ops.erfc
    clamp = clip = ops.clamp
    sign = ops.sign
    floor = ops.floor
    ceil = ops.ceil
    trunc = fix = ops.trunc
    round = ops.round
    acos = arccos = ops.acos
    asin = arcsin = ops.asin
    atan = arctan = ops.atan
    acosh = arccosh = ops.acosh
    asinh = arcsinh = ops.asinh
    atanh = arctanh = ops.atanh
    atan2 = arctan2 = ops.atan2
    hypot = ops.hypot
    deg2rad = ops.deg2rad
    rad2deg = ops.rad2deg
    frac = ops.frac
    logit = ops.logit
    sinc = ops.sinc
    nan_to_num = ops.nan_to_num
    clamp_min = ops.clamp_min
    clamp_max = ops.clamp_max
    sgn = ops.sgn
    signbit = ops.signbit

    def where(self, condition: "Tensor", other: Any) -> "Tensor":
        """``self`` where the condition holds, `other` elsewhere."""
        return ops.where(condition, self, other)  # type: ignore[no-any-return]

    # ---- activations ----
    relu = ops.relu
    prelu = ops.prelu
    hardshrink = ops.hardshrink

    # ---- comparison and logic ----
    eq = ops.eq
    ne = not_equal = ops.ne
    lt = less = ops.lt
    le = less_equal = ops.le
    gt = greater = ops.gt
    ge = greater_equal = ops.ge
    bitwise_and = ops.bitwise_and
    bitwise_or = ops.bitwise_or
    bitwise_xor = ops.bitwise_xor
    bitwise_not = ops.bitwise_not
    logical_and = ops.logical_and
    logical_or = ops.logical_or
    logical_xor = ops.logical_xor
    logical_not = ops.logical_not
    isclose = ops.isclose
    allclose = ops.allclose
    equal = ops.equal
    isnan = ops.isnan
    isinf = ops.isinf
    isfinite = ops.isfinite
    isposinf = ops.isposinf
    isneginf = ops.isneginf
    isreal = ops.isreal
    bitwise_left_shift = ops.bitwise_left_shift
    bitwise_right_shift = ops.bitwise_right_shift

    # ---- reductions ----
    sum = ops.sum
    mean = ops.mean
    var = ops.var
    std = ops.std
    prod = ops.prod
    cumsum = ops.cumsum
    cumprod = ops.cumprod
    nansum = ops.nansum
    nanmean = ops.nanmean
    all = ops.all
    any = ops.any
    count_nonzero = ops.count_nonzero
    max = ops.max
    min = ops.min
    amax = ops.amax
    amin = ops.amin
    aminmax = ops.aminmax
    argmax = ops.argmax
    argmin = ops.argmin
    cummax = ops.cummax
    cummin = ops.cummin
    softmax = ops.softmax
    log_softmax = ops.log_softmax
    logsumexp = ops.logsumexp
    logcumsumexp = ops.logcumsumexp
    dist = ops.dist
    sort = ops.sort
    argsort = ops.argsort
    msort = ops.msort
    topk = ops.topk
    kthvalue = ops.kthvalue
    median = ops.median
    nanmedian = ops.nanmedian
    mode = ops.mode
    unique = ops.unique
    unique_consecutive = ops.unique_consecutive

    # ---- shape ----
    reshape = ops.reshape
    view = ops.view
    view_as = ops.view_as
    reshape_as = ops.reshape_as
    flatten = ops.flatten
    ravel = ops.ravel
    unflatten = ops.unflatten
    permute = ops.permute
    transpose = swapaxes = swapdims = ops.transpose
    t = ops.t
    adjoint = ops.adjoint
    movedim = moveaxis = ops.movedim
    expand = ops.expand
    expand_as = ops.expand_as
    broadcast_to = ops.broadcast_to
    squeeze = ops.squeeze
    unsqueeze = ops.unsqueeze
    flip = ops.flip
    fliplr = ops.fliplr
    flipud = ops.flipud
    roll = ops.roll
    rot90 = ops.rot90
    repeat = ops.repeat
    tile = ops.tile
    repeat_interleave = ops.repeat_interleave
    unfold = ops.unfold_dimension
    as_strided = ops.as_strided
    split = ops.split
    split_with_sizes = ops.split_with_sizes
    chunk = ops.chunk
    tensor_split = ops.tensor_split
    hsplit = ops.hsplit
    vsplit = ops.vsplit
    dsplit = ops.dsplit
    unbind = ops.unbind
    narrow = ops.narrow
    select = ops.select
    diagonal = ops.diagonal
    diag = ops.diag
    diag_embed = ops.diag_embed
    diagflat = ops.diagflat
    diagonal_scatter = ops.diagonal_scatter
    tril = ops.tril
    triu = ops.triu
    T = property(ops.reversed_axes)
    mT = property(ops.mT)
    H = mH = property(ops.adjoint)

    # ---- linear algebra ----
    matmul = ops.matmul
    mm = ops.mm
    bmm = ops.bmm
    mv = ops.mv
    dot = ops.dot
    vdot = ops.vdot
    inner = ops.inner
    outer = ger = ops.outer
    addmm = ops.addmm
    addmv = ops.addmv
    addr = ops.addr
    baddbmm = ops.baddbmm
    addbmm = ops.addbmm
    kron = ops.kron
    trace = ops.trace

    norm = ops.norm
    det = ops.det
    slogdet = ops.slogdet
    logdet = ops.logdet
    inverse = ops.inv
    matrix_power = ops.matrix_power
    pinverse = ops.pinv
    cross = ops.cross
    diff = ops.diff
    quantile = ops.quantile
    nanquantile = ops.nanquantile
    cov = ops.cov
    corrcoef = ops.corrcoef
    histc = ops.histc
    bincount = ops.bincount

    # ---- indexing ----
    gather = ops.gather
    scatter = ops.scatter
    scatter_add = ops.scatter_add
    scatter_reduce = ops.scatter_reduce
    index_select = ops.index_select
    index_add = ops.index_add
    index_copy = ops.index_copy
    index_fill = ops.index_fill
    index_put = ops.index_put
    index_reduce = ops.index_reduce
    take = ops.take
    take_along_dim = ops.take_along_dim
    put = ops.put
    masked_fill = ops.masked_fill
    masked_select = ops.masked_select
    masked_scatter = ops.masked_scatter
    nonzero = ops.nonzero
    argwhere = ops.argwhere
    nonzero_static = ops.nonzero_static
    fill = ops.fill

    # ---- memory ----
    conj = ops.conj
    clone = ops.clone
    contiguous = ops.contiguous
    detach = ops.detach

    # ---- creation ----
    new_tensor = ops.new_tensor
    new_zeros = ops.new_zeros
    new_ones = ops.new_ones
    new_empty = ops.new_empty
    new_full = ops.new_full
    new_empty_strided = ops.new_empty_strided

    # ---- random ----
    bernoulli = ops.bernoulli
    multinomial = ops.multinomial
    uniform_ = ops.uniform_
    normal_ = ops.normal_
    exponential_ = ops.exponential_
    cauchy_ = ops.cauchy_
    log_normal_ = ops.log_normal_
    geometric_ = ops.geometric_
    bernoulli_ = ops.bernoulli_
    random_ = ops.random_

    # ---- in place ----
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
