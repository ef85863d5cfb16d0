"""distgrad: data-parallel training on many processes, under torch's names.

    import distgrad as torch

This page lists what the package offers. It also gives torch's names to pages that live elsewhere:
`distgrad.distributed`, `distgrad.nn.parallel`, `distgrad.utils.data`.
"""

# isort: off
from . import _environment as _environment  # first: it decides thread counts before NumPy loads
# isort: on

import sys as _sys
from types import ModuleType as _ModuleType
from typing import TYPE_CHECKING
from typing import Any as _Any

from . import autograd as autograd
from . import cuda as cuda
from . import linalg as linalg
from . import ops as ops
from . import special as special
from ._environment import show_config as show_config
from ._pages import page as _page
from ._parameter import Parameter as Parameter
from ._tensor import Size as Size
from ._tensor import Tensor as Tensor
from ._tensor_str import get_printoptions as get_printoptions
from ._tensor_str import printoptions as printoptions
from ._tensor_str import set_printoptions as set_printoptions
from ._type_names import BFloat16Tensor as BFloat16Tensor
from ._type_names import BoolTensor as BoolTensor
from ._type_names import ByteTensor as ByteTensor
from ._type_names import CharTensor as CharTensor
from ._type_names import ComplexDoubleTensor as ComplexDoubleTensor
from ._type_names import ComplexFloatTensor as ComplexFloatTensor
from ._type_names import DoubleTensor as DoubleTensor
from ._type_names import FloatTensor as FloatTensor
from ._type_names import HalfTensor as HalfTensor
from ._type_names import IntTensor as IntTensor
from ._type_names import LongTensor as LongTensor
from ._type_names import ShortTensor as ShortTensor
from ._version import __version__ as __version__
from .autograd import enable_grad as enable_grad
from .autograd import inference_mode as inference_mode
from .autograd import is_grad_enabled as is_grad_enabled
from .autograd import is_inference_mode_enabled as is_inference_mode_enabled
from .autograd import no_grad as no_grad
from .autograd import set_grad_enabled as set_grad_enabled
from .backend import bfloat16 as bfloat16
from .backend import bool_ as bool  # noqa: F401
from .backend import can_cast as can_cast
from .backend import complex64 as cfloat  # noqa: F401
from .backend import complex64 as complex64
from .backend import complex128 as complex128
from .backend import device as device
from .backend import dtype as dtype
from .backend import finfo as finfo
from .backend import float16 as float16
from .backend import float16 as half  # noqa: F401
from .backend import float32 as float  # noqa: F401
from .backend import float32 as float32
from .backend import float64 as double  # noqa: F401
from .backend import float64 as float64
from .backend import get_default_dtype as get_default_dtype
from .backend import iinfo as iinfo
from .backend import int8 as int8
from .backend import int16 as int16
from .backend import int16 as short  # noqa: F401
from .backend import int32 as int  # noqa: F401
from .backend import int32 as int32
from .backend import int64 as int64
from .backend import int64 as long  # noqa: F401
from .backend import promote_types as promote_types
from .backend import set_default_dtype as set_default_dtype
from .backend import uint8 as uint8
from .backend import uint16 as uint16
from .backend import uint32 as uint32
from .backend import uint64 as uint64
from .ops import Generator as Generator
from .ops import abs as abs
from .ops import abs as absolute  # noqa: F401
from .ops import acos as acos
from .ops import acos as arccos  # noqa: F401
from .ops import acosh as acosh
from .ops import acosh as arccosh  # noqa: F401
from .ops import adaptive_avg_pool1d as adaptive_avg_pool1d
from .ops import add as add
from .ops import addbmm as addbmm
from .ops import addcdiv as addcdiv
from .ops import addcmul as addcmul
from .ops import addmm as addmm
from .ops import addmv as addmv
from .ops import addr as addr
from .ops import adjoint as adjoint
from .ops import all as all
from .ops import allclose as allclose
from .ops import alpha_dropout as alpha_dropout
from .ops import amax as amax
from .ops import amin as amin
from .ops import aminmax as aminmax
from .ops import any as any
from .ops import arange as arange
from .ops import argmax as argmax
from .ops import argmin as argmin
from .ops import argsort as argsort
from .ops import argwhere as argwhere
from .ops import as_strided as as_strided
from .ops import as_tensor as as_tensor
from .ops import asarray as asarray
from .ops import asin as arcsin  # noqa: F401
from .ops import asin as asin
from .ops import asinh as arcsinh  # noqa: F401
from .ops import asinh as asinh
from .ops import atan as arctan  # noqa: F401
from .ops import atan as atan
from .ops import atan2 as arctan2  # noqa: F401
from .ops import atan2 as atan2
from .ops import atanh as arctanh  # noqa: F401
from .ops import atanh as atanh
from .ops import atleast_1d as atleast_1d
from .ops import atleast_2d as atleast_2d
from .ops import atleast_3d as atleast_3d
from .ops import avg_pool1d as avg_pool1d
from .ops import baddbmm as baddbmm
from .ops import bernoulli as bernoulli
from .ops import bilinear as bilinear
from .ops import bincount as bincount
from .ops import binomial as binomial
from .ops import bitwise_and as bitwise_and
from .ops import bitwise_left_shift as bitwise_left_shift
from .ops import bitwise_not as bitwise_not
from .ops import bitwise_or as bitwise_or
from .ops import bitwise_right_shift as bitwise_right_shift
from .ops import bitwise_xor as bitwise_xor
from .ops import block_diag as block_diag
from .ops import bmm as bmm
from .ops import broadcast_shapes as broadcast_shapes
from .ops import broadcast_tensors as broadcast_tensors
from .ops import broadcast_to as broadcast_to
from .ops import bucketize as bucketize
from .ops import cartesian_prod as cartesian_prod
from .ops import cat as cat
from .ops import cat as concat  # noqa: F401
from .ops import cat as concatenate  # noqa: F401
from .ops import cdist as cdist
from .ops import ceil as ceil
from .ops import celu as celu
from .ops import celu_ as celu_
from .ops import chain_matmul as chain_matmul
from .ops import channel_shuffle as channel_shuffle
from .ops import channels_last as channels_last
from .ops import channels_last_3d as channels_last_3d
from .ops import chunk as chunk
from .ops import clamp as clamp
from .ops import clamp as clip  # noqa: F401
from .ops import clamp_max as clamp_max
from .ops import clamp_min as clamp_min
from .ops import clone as clone
from .ops import column_stack as column_stack
from .ops import combinations as combinations
from .ops import conj as conj
from .ops import contiguous as contiguous
from .ops import contiguous_format as contiguous_format
from .ops import conv1d as conv1d
from .ops import conv2d as conv2d
from .ops import conv3d as conv3d
from .ops import conv_transpose1d as conv_transpose1d
from .ops import conv_transpose2d as conv_transpose2d
from .ops import conv_transpose3d as conv_transpose3d
from .ops import copysign as copysign
from .ops import corrcoef as corrcoef
from .ops import cos as cos
from .ops import cosh as cosh
from .ops import cosine_similarity as cosine_similarity
from .ops import count_nonzero as count_nonzero
from .ops import cov as cov
from .ops import cross as cross
from .ops import cummax as cummax
from .ops import cummin as cummin
from .ops import cumprod as cumprod
from .ops import cumsum as cumsum
from .ops import default_generator as default_generator
from .ops import deg2rad as deg2rad
from .ops import det as det
from .ops import detach as detach
from .ops import diag as diag
from .ops import diag_embed as diag_embed
from .ops import diagflat as diagflat
from .ops import diagonal as diagonal
from .ops import diagonal_scatter as diagonal_scatter
from .ops import diff as diff
from .ops import dist as dist
from .ops import div as div
from .ops import div as divide  # noqa: F401
from .ops import div as true_divide  # noqa: F401
from .ops import dot as dot
from .ops import dropout as dropout
from .ops import dsplit as dsplit
from .ops import dstack as dstack
from .ops import einsum as einsum
from .ops import empty as empty
from .ops import empty_like as empty_like
from .ops import empty_strided as empty_strided
from .ops import eq as eq
from .ops import equal as equal
from .ops import erf as erf
from .ops import erfc as erfc
from .ops import exp as exp
from .ops import exp2 as exp2
from .ops import expand as expand
from .ops import expm1 as expm1
from .ops import eye as eye
from .ops import feature_alpha_dropout as feature_alpha_dropout
from .ops import fill as fill
from .ops import fill_ as fill_
from .ops import flatten as flatten
from .ops import flip as flip
from .ops import fliplr as fliplr
from .ops import flipud as flipud
from .ops import float_power as float_power
from .ops import floor as floor
from .ops import floor_divide as floor_divide
from .ops import fmax as fmax
from .ops import fmin as fmin
from .ops import fmod as fmod
from .ops import frac as frac
from .ops import from_dlpack as from_dlpack
from .ops import from_numpy as from_numpy
from .ops import frombuffer as frombuffer
from .ops import full as full
from .ops import full_like as full_like
from .ops import gather as gather
from .ops import gcd as gcd
from .ops import ge as ge
from .ops import ge as greater_equal  # noqa: F401
from .ops import get_rng_state as get_rng_state
from .ops import group_norm as group_norm
from .ops import gru as gru
from .ops import gru_cell as gru_cell
from .ops import gt as greater  # noqa: F401
from .ops import gt as gt
from .ops import hardshrink as hardshrink
from .ops import heaviside as heaviside
from .ops import histc as histc
from .ops import hsplit as hsplit
from .ops import hstack as hstack
from .ops import hypot as hypot
from .ops import index_add as index_add
from .ops import index_copy as index_copy
from .ops import index_fill as index_fill
from .ops import index_put as index_put
from .ops import index_reduce as index_reduce
from .ops import index_select as index_select
from .ops import initial_seed as initial_seed
from .ops import inner as inner
from .ops import inv as inverse  # noqa: F401
from .ops import is_complex as is_complex
from .ops import is_floating_point as is_floating_point
from .ops import is_nonzero as is_nonzero
from .ops import is_tensor as is_tensor
from .ops import isclose as isclose
from .ops import isfinite as isfinite
from .ops import isin as isin
from .ops import isinf as isinf
from .ops import isnan as isnan
from .ops import isneginf as isneginf
from .ops import isposinf as isposinf
from .ops import isreal as isreal
from .ops import kron as kron
from .ops import kthvalue as kthvalue
from .ops import layer_norm as layer_norm
from .ops import layout as layout
from .ops import lcm as lcm
from .ops import ldexp as ldexp
from .ops import le as le
from .ops import le as less_equal  # noqa: F401
from .ops import lerp as lerp
from .ops import linspace as linspace
from .ops import log as log
from .ops import log1p as log1p
from .ops import log2 as log2
from .ops import log10 as log10
from .ops import log_softmax as log_softmax
from .ops import logaddexp as logaddexp
from .ops import logaddexp2 as logaddexp2
from .ops import logcumsumexp as logcumsumexp
from .ops import logdet as logdet
from .ops import logical_and as logical_and
from .ops import logical_not as logical_not
from .ops import logical_or as logical_or
from .ops import logical_xor as logical_xor
from .ops import logit as logit
from .ops import logspace as logspace
from .ops import logsumexp as logsumexp
from .ops import lstm as lstm
from .ops import lstm_cell as lstm_cell
from .ops import lt as less  # noqa: F401
from .ops import lt as lt
from .ops import manual_seed as manual_seed
from .ops import masked_fill as masked_fill
from .ops import masked_scatter as masked_scatter
from .ops import masked_select as masked_select
from .ops import matmul as matmul
from .ops import matrix_power as matrix_power
from .ops import max as max
from .ops import max_pool1d as max_pool1d
from .ops import max_pool2d as max_pool2d
from .ops import max_pool3d as max_pool3d
from .ops import maximum as maximum
from .ops import mean as mean
from .ops import median as median
from .ops import memory_format as memory_format
from .ops import meshgrid as meshgrid
from .ops import min as min
from .ops import minimum as minimum
from .ops import mm as mm
from .ops import mode as mode
from .ops import movedim as moveaxis  # noqa: F401
from .ops import movedim as movedim
from .ops import msort as msort
from .ops import mul as mul
from .ops import mul as multiply  # noqa: F401
from .ops import multinomial as multinomial
from .ops import mv as mv
from .ops import nan_to_num as nan_to_num
from .ops import nanmean as nanmean
from .ops import nanmedian as nanmedian
from .ops import nanquantile as nanquantile
from .ops import nansum as nansum
from .ops import narrow as narrow
from .ops import ne as ne
from .ops import ne as not_equal  # noqa: F401
from .ops import neg as neg
from .ops import neg as negative  # noqa: F401
from .ops import nextafter as nextafter
from .ops import nonzero as nonzero
from .ops import nonzero_static as nonzero_static
from .ops import norm as norm
from .ops import normal as normal
from .ops import numel as numel
from .ops import ones as ones
from .ops import ones_like as ones_like
from .ops import outer as ger  # noqa: F401
from .ops import outer as outer
from .ops import pairwise_distance as pairwise_distance
from .ops import pdist as pdist
from .ops import permute as permute
from .ops import pinv as pinverse  # noqa: F401
from .ops import pixel_shuffle as pixel_shuffle
from .ops import pixel_unshuffle as pixel_unshuffle
from .ops import poisson as poisson
from .ops import positive as positive
from .ops import pow as pow
from .ops import prelu as prelu
from .ops import preserve_format as preserve_format
from .ops import prod as prod
from .ops import put as put
from .ops import quantile as quantile
from .ops import rad2deg as rad2deg
from .ops import rand as rand
from .ops import rand_like as rand_like
from .ops import randint as randint
from .ops import randint_like as randint_like
from .ops import randn as randn
from .ops import randn_like as randn_like
from .ops import randperm as randperm
from .ops import range_ as range  # noqa: F401
from .ops import ravel as ravel
from .ops import reciprocal as reciprocal
from .ops import relu as relu
from .ops import relu_ as relu_
from .ops import remainder as remainder
from .ops import repeat_interleave as repeat_interleave
from .ops import reshape as reshape
from .ops import result_type as result_type
from .ops import rms_norm as rms_norm
from .ops import rnn_relu as rnn_relu
from .ops import rnn_relu_cell as rnn_relu_cell
from .ops import rnn_tanh as rnn_tanh
from .ops import rnn_tanh_cell as rnn_tanh_cell
from .ops import roll as roll
from .ops import rot90 as rot90
from .ops import round as round
from .ops import rrelu as rrelu
from .ops import rrelu_ as rrelu_
from .ops import rsqrt as rsqrt
from .ops import rsub as rsub
from .ops import scalar_tensor as scalar_tensor
from .ops import scatter as scatter
from .ops import scatter_add as scatter_add
from .ops import scatter_reduce as scatter_reduce
from .ops import searchsorted as searchsorted
from .ops import seed as seed
from .ops import select as select
from .ops import selu as selu
from .ops import selu_ as selu_
from .ops import set_rng_state as set_rng_state
from .ops import sgn as sgn
from .ops import sigmoid as sigmoid
from .ops import sign as sign
from .ops import signbit as signbit
from .ops import sin as sin
from .ops import sinc as sinc
from .ops import sinh as sinh
from .ops import slogdet as slogdet
from .ops import softmax as softmax
from .ops import sort as sort
from .ops import split as split
from .ops import split_with_sizes as split_with_sizes
from .ops import sqrt as sqrt
from .ops import square as square
from .ops import squeeze as squeeze
from .ops import stack as stack
from .ops import std as std
from .ops import std_mean as std_mean
from .ops import strided as strided
from .ops import sub as sub
from .ops import sub as subtract  # noqa: F401
from .ops import sum as sum
from .ops import t as t
from .ops import take as take
from .ops import take_along_dim as take_along_dim
from .ops import tan as tan
from .ops import tanh as tanh
from .ops import tensor as tensor
from .ops import tensor_split as tensor_split
from .ops import tensordot as tensordot
from .ops import threshold as threshold
from .ops import threshold_ as threshold_
from .ops import tile as tile
from .ops import topk as topk
from .ops import trace as trace
from .ops import transpose as swapaxes  # noqa: F401
from .ops import transpose as swapdims  # noqa: F401
from .ops import transpose as transpose
from .ops import tril as tril
from .ops import tril_indices as tril_indices
from .ops import triu as triu
from .ops import triu_indices as triu_indices
from .ops import trunc as fix  # noqa: F401
from .ops import trunc as trunc
from .ops import unbind as unbind
from .ops import unflatten as unflatten
from .ops import unique as unique
from .ops import unique_consecutive as unique_consecutive
from .ops import unsqueeze as unsqueeze
from .ops import var as var
from .ops import var_mean as var_mean
from .ops import vdot as vdot
from .ops import vsplit as vsplit
from .ops import vstack as row_stack  # noqa: F401
from .ops import vstack as vstack
from .ops import where as where
from .ops import xlogy as xlogy
from .ops import zeros as zeros
from .ops import zeros_like as zeros_like

if TYPE_CHECKING:
    from . import checkpoint, comm, nn, optim
    from . import data as _data
    from . import parallel as _parallel
    from .checkpoint import load as load
    from .checkpoint import save as save
    from .parallel import DistributedDataParallel as DistributedDataParallel
else:
    checkpoint, comm, nn, optim, _data, _parallel = (
        _page(f"{__name__}.{_name}") for _name in ("checkpoint", "comm", "nn", "optim", "data", "parallel")
    )

# Pages that torch names in a lower package, and aliases: importable by these names too.
data, parallel = _data, _parallel  # where `import distgrad.data` looks for it
distributed = comm
utils = _ModuleType("distgrad.utils", "Pages that torch keeps under `torch.utils`.")
utils.data = _data  # type: ignore[attr-defined]
nn.parallel = _parallel  # type: ignore[attr-defined]
for _name, _module in {"distributed": comm, "nn.parallel": _parallel, "utils": utils, "utils.data": _data}.items():
    _sys.modules[f"{__name__}.{_name}"] = _module

_FROM_PAGES = {"save": checkpoint, "load": checkpoint, "DistributedDataParallel": _parallel}


def __getattr__(name: str) -> _Any:
    if name in _FROM_PAGES:
        return getattr(_FROM_PAGES[name], name)
    raise AttributeError(f"module 'distgrad' has no attribute {name!r}")


def _of_nn(name: str) -> _Any:
    """What torch has in `nn` and we have in a package above it."""
    if name == "SyncBatchNorm":
        return _parallel.SyncBatchNorm
    raise AttributeError(f"module 'distgrad.nn' has no attribute {name!r}")


nn.__getattr__ = _of_nn  # type: ignore[method-assign]

if _environment.job.in_mpi_job:
    from .comm import _abort

    _abort.install()  # from here on, an error on one rank ends all of them
