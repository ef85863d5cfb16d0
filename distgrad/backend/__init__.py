"""Arrays on devices: which dtypes, which memory, which kernels. All GPU code is reached through here."""

from ._backend import Backend as Backend
from ._backend import as_array as as_array
from ._backend import backend_of as backend_of
from ._backend import backends_by_array_type as backends_by_array_type
from ._backend import register_backend as register_backend
from ._backend import silenced as silenced
from ._cupy import CupyStreams as CupyStreams
from ._cupy import cuda_backend as cuda_backend
from ._cupy import cuda_problem as cuda_problem
from ._device import device as device
from ._dtypes import BOOL as BOOL
from ._dtypes import COMPLEX as COMPLEX
from ._dtypes import FLOATING as FLOATING
from ._dtypes import INTEGRAL as INTEGRAL
from ._dtypes import OF_NUMPY as OF_NUMPY
from ._dtypes import as_dtype as as_dtype
from ._dtypes import bfloat16 as bfloat16
from ._dtypes import bool_ as bool_
from ._dtypes import can_cast as can_cast
from ._dtypes import complex64 as complex64
from ._dtypes import complex128 as complex128
from ._dtypes import dtype as dtype
from ._dtypes import finfo as finfo
from ._dtypes import float16 as float16
from ._dtypes import float32 as float32
from ._dtypes import float64 as float64
from ._dtypes import get_default_dtype as get_default_dtype
from ._dtypes import iinfo as iinfo
from ._dtypes import int8 as int8
from ._dtypes import int16 as int16
from ._dtypes import int32 as int32
from ._dtypes import int64 as int64
from ._dtypes import promote_dims as promote_dims
from ._dtypes import promote_scalar as promote_scalar
from ._dtypes import promote_types as promote_types
from ._dtypes import set_default_dtype as set_default_dtype
from ._dtypes import uint8 as uint8
from ._dtypes import uint16 as uint16
from ._dtypes import uint32 as uint32
from ._dtypes import uint64 as uint64
from ._kernels import Kernels as Kernels
from ._namespace import Namespace as Namespace
from ._numpy import CPU as CPU
from ._onednn import onednn_state as onednn_state

register_backend(CPU)
