"""The GPU backend: CuPy arrays. CuPy itself is imported in `_load.py`, on first use."""

from ._load import cuda_backend as cuda_backend
from ._load import cuda_problem as cuda_problem
from ._streams import CupyStreams as CupyStreams
