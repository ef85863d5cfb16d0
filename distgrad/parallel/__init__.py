"""Training on many ranks."""

from . import default_hooks as default_hooks
from . import functional as functional
from . import post_localSGD_hook as post_localSGD_hook
from . import powerSGD_hook as powerSGD_hook
from ._averager import PeriodicModelAverager as PeriodicModelAverager
from ._broadcast import broadcast_optimizer_state as broadcast_optimizer_state
from ._broadcast import broadcast_parameters as broadcast_parameters
from ._bucket import GradBucket as GradBucket
from ._ddp import DistributedDataParallel as DistributedDataParallel
from ._join import Join as Join
from ._join import Joinable as Joinable
from ._join import JoinHook as JoinHook
from ._local_sgd import PostLocalSGDOptimizer as PostLocalSGDOptimizer
from ._sentinel import Sentinel as Sentinel
from ._sync_batchnorm import SyncBatchNorm as SyncBatchNorm
from ._zero import ZeroRedundancyOptimizer as ZeroRedundancyOptimizer
