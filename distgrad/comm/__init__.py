"""Communication between the ranks of a job, under the names of torch.distributed.

`distgrad.comm` needs no launcher and no MPI: a program that runs alone is a group of one rank. Under `mpirun` the ranks
of one node talk through shared memory, others through MPI. Functions take Tensors or arrays; code inside distgrad works
on flat buffers with the `Communicator` that `get_default` returns.
"""

from ._communicator import Communicator as Communicator
from ._communicator import Communicator as ProcessGroup  # noqa: F401 - torch's name for it
from ._functional import all_gather as all_gather
from ._functional import all_gather_into_tensor as all_gather_into_tensor
from ._functional import all_gather_object as all_gather_object
from ._functional import all_reduce as all_reduce
from ._functional import all_to_all as all_to_all
from ._functional import all_to_all_single as all_to_all_single
from ._functional import barrier as barrier
from ._functional import broadcast as broadcast
from ._functional import broadcast_object_list as broadcast_object_list
from ._functional import gather as gather
from ._functional import gather_object as gather_object
from ._functional import reduce as reduce
from ._functional import reduce_scatter as reduce_scatter
from ._functional import reduce_scatter_tensor as reduce_scatter_tensor
from ._functional import scatter as scatter
from ._functional import scatter_object_list as scatter_object_list
from ._init import BACKENDS as BACKENDS
from ._init import Backend as Backend
from ._init import destroy_process_group as destroy_process_group
from ._init import get_default as get_default
from ._init import init_process_group as init_process_group
from ._init import is_available as is_available
from ._init import is_gloo_available as is_gloo_available
from ._init import is_initialized as is_initialized
from ._init import is_mpi_available as is_mpi_available
from ._init import is_nccl_available as is_nccl_available
from ._init import measure as measure
from ._init import statistics as statistics
from ._membership import GroupMember as GroupMember
from ._membership import describe as describe
from ._membership import get_backend as get_backend
from ._membership import get_global_rank as get_global_rank
from ._membership import get_group_rank as get_group_rank
from ._membership import get_process_group_ranks as get_process_group_ranks
from ._membership import get_rank as get_rank
from ._membership import get_world_size as get_world_size
from ._membership import group as group
from ._membership import new_group as new_group
from ._membership import split_group as split_group
from ._point_to_point import P2POp as P2POp
from ._point_to_point import batch_isend_irecv as batch_isend_irecv
from ._point_to_point import irecv as irecv
from ._point_to_point import isend as isend
from ._point_to_point import recv as recv
from ._point_to_point import send as send
from ._rank_zero import is_rank_zero as is_rank_zero
from ._rank_zero import rank_zero as rank_zero
from ._statistics import Measurement as Measurement
from ._statistics import Statistics as Statistics
from ._threads import run_threads as run_threads
from ._topology import Topology as Topology
from ._types import Options as Options
from ._types import ReduceOp as ReduceOp
from ._types import Work as Work
from .device._transports import device_transports as device_transports
