"""The operations as methods of `Tensor`: one line for each, by family, so that they can be read and type-checked.

Those that write into the tensor are in `_tensor_inplace.py`.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from . import ops
from .autograd._base import TensorBase

if TYPE_CHECKING:
    from ._tensor import Tensor


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
    __getitem__ = ops.getitem
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
