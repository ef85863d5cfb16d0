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

from . import autograd as autograd
from . import comm as comm
from . import cuda as cuda
from . import data as _data
from . import nn as nn
from . import ops as ops
from . import optim as optim
from . import parallel as _parallel
from ._environment import show_config as show_config
from ._parameter import Parameter as Parameter
from ._tensor import Size as Size
from ._tensor import Tensor as Tensor
from ._tensor_str import get_printoptions as get_printoptions
from ._tensor_str import printoptions as printoptions
from ._tensor_str import set_printoptions as set_printoptions
from ._version import __version__ as __version__
from .autograd import enable_grad as enable_grad
from .autograd import inference_mode as inference_mode
from .autograd import is_grad_enabled as is_grad_enabled
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
from .comm import _abort as _abort
from .ops import Generator as Generator
from .ops import abs as abs
from .ops import add as add
from .ops import allclose as allclose
from .ops import arange as arange
from .ops import as_tensor as as_tensor
from .ops import asarray as asarray
from .ops import bernoulli as bernoulli
from .ops import binomial as binomial
from .ops import bitwise_and as bitwise_and
from .ops import bitwise_not as bitwise_not
from .ops import bitwise_or as bitwise_or
from .ops import bitwise_xor as bitwise_xor
from .ops import cartesian_prod as cartesian_prod
from .ops import ceil as ceil
from .ops import clamp as clamp
from .ops import clone as clone
from .ops import combinations as combinations
from .ops import contiguous as contiguous
from .ops import cos as cos
from .ops import cosh as cosh
from .ops import default_generator as default_generator
from .ops import detach as detach
from .ops import div as div
from .ops import empty as empty
from .ops import empty_like as empty_like
from .ops import empty_strided as empty_strided
from .ops import eq as eq
from .ops import equal as equal
from .ops import erf as erf
from .ops import exp as exp
from .ops import exp2 as exp2
from .ops import expand as expand
from .ops import expm1 as expm1
from .ops import eye as eye
from .ops import floor as floor
from .ops import floor_divide as floor_divide
from .ops import fmod as fmod
from .ops import from_dlpack as from_dlpack
from .ops import from_numpy as from_numpy
from .ops import frombuffer as frombuffer
from .ops import full as full
from .ops import full_like as full_like
from .ops import ge as ge
from .ops import get_rng_state as get_rng_state
from .ops import gt as gt
from .ops import initial_seed as initial_seed
from .ops import isclose as isclose
from .ops import isfinite as isfinite
from .ops import isinf as isinf
from .ops import isnan as isnan
from .ops import le as le
from .ops import linspace as linspace
from .ops import log as log
from .ops import log1p as log1p
from .ops import log2 as log2
from .ops import log10 as log10
from .ops import logical_and as logical_and
from .ops import logical_not as logical_not
from .ops import logical_or as logical_or
from .ops import logical_xor as logical_xor
from .ops import logspace as logspace
from .ops import lt as lt
from .ops import manual_seed as manual_seed
from .ops import matmul as matmul
from .ops import maximum as maximum
from .ops import mean as mean
from .ops import meshgrid as meshgrid
from .ops import minimum as minimum
from .ops import mul as mul
from .ops import multinomial as multinomial
from .ops import ne as ne
from .ops import neg as neg
from .ops import normal as normal
from .ops import ones as ones
from .ops import ones_like as ones_like
from .ops import permute as permute
from .ops import poisson as poisson
from .ops import pow as pow
from .ops import rand as rand
from .ops import rand_like as rand_like
from .ops import randint as randint
from .ops import randint_like as randint_like
from .ops import randn as randn
from .ops import randn_like as randn_like
from .ops import randperm as randperm
from .ops import range_ as range  # noqa: F401
from .ops import reciprocal as reciprocal
from .ops import remainder as remainder
from .ops import reshape as reshape
from .ops import round as round
from .ops import rsqrt as rsqrt
from .ops import scalar_tensor as scalar_tensor
from .ops import seed as seed
from .ops import set_rng_state as set_rng_state
from .ops import sigmoid as sigmoid
from .ops import sign as sign
from .ops import sin as sin
from .ops import sinh as sinh
from .ops import sqrt as sqrt
from .ops import square as square
from .ops import squeeze as squeeze
from .ops import sub as sub
from .ops import sum as sum
from .ops import tan as tan
from .ops import tanh as tanh
from .ops import tensor as tensor
from .ops import transpose as transpose
from .ops import tril_indices as tril_indices
from .ops import triu_indices as triu_indices
from .ops import trunc as trunc
from .ops import unsqueeze as unsqueeze
from .ops import where as where
from .ops import zeros as zeros
from .ops import zeros_like as zeros_like

# In an MPI job, an error on one rank ends them all from here on.
_abort.install()
from .parallel import DistributedDataParallel as DistributedDataParallel

# Pages that torch names in a lower package, and aliases: importable by these names too.
distributed = comm
nn.parallel = _parallel  # type: ignore[attr-defined]
nn.SyncBatchNorm = _parallel.SyncBatchNorm  # type: ignore[attr-defined]
utils = _ModuleType("distgrad.utils", "Pages that torch keeps under `torch.utils`.")
utils.data = _data  # type: ignore[attr-defined]
for _name, _page in {
    "distributed": comm,
    "nn.parallel": _parallel,
    "utils": utils,
    "utils.data": _data,
}.items():
    _sys.modules[f"{__name__}.{_name}"] = _page
