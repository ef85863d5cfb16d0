"""Training on many ranks."""

from . import functional as functional
from ._ddp import DistributedDataParallel as DistributedDataParallel
from ._sync_batchnorm import SyncBatchNorm as SyncBatchNorm
from ._zero import ZeroRedundancyOptimizer as ZeroRedundancyOptimizer
