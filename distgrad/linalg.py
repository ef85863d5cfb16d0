"""Linear algebra, under torch.linalg's names."""

from .errors import LinAlgError as LinAlgError
from .ops import cholesky as cholesky
from .ops import det as det
from .ops import eigh as eigh
from .ops import eigvalsh as eigvalsh
from .ops import inv as inv
from .ops import linalg_cross as cross  # noqa: F401
from .ops import linalg_norm as norm  # noqa: F401
from .ops import matmul as matmul
from .ops import matrix_norm as matrix_norm
from .ops import matrix_power as matrix_power
from .ops import matrix_rank as matrix_rank
from .ops import multi_dot as multi_dot
from .ops import pinv as pinv
from .ops import qr as qr
from .ops import slogdet as slogdet
from .ops import solve as solve
from .ops import svd as svd
from .ops import svdvals as svdvals
from .ops import vecdot as vecdot
from .ops import vector_norm as vector_norm
