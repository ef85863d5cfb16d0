"""What each rank knows about itself, compared with what MPI says."""

import os

from mpi4py import MPI

import distgrad._environment as environment


def test_job_agrees_with_mpi() -> None:
    world = MPI.COMM_WORLD
    node = world.Split_type(MPI.COMM_TYPE_SHARED)
    job = environment.job
    found = (node.rank, node.size)
    node.Free()
    assert job.in_mpi_job
    assert (job.rank, job.world_size) == (world.rank, world.size)
    assert (job.local_rank, job.local_size) == found


def test_ranks_share_the_cores() -> None:
    assert environment.threads is not None
    assert environment.threads * environment.job.local_size <= max(
        environment.job.local_size, len(os.sched_getaffinity(0))
    )
    assert os.environ["OMP_NUM_THREADS"] == str(environment.threads)
