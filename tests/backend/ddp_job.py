"""Run under mpirun: two steps of DistributedDataParallel on the device against the CPU, then some collectives.

mpirun -n 2 python -m tests.backend.ddp_job stand-in|gpu mpi|shm
"""

import sys
from contextlib import nullcontext

import numpy as np

import distgrad
from distgrad import comm, cuda
from tests.backend import fake_cupy
from tests.backend.on_device_training import ddp_step


def main(which: str, backend: str) -> None:
    """Raises where the device's results differ from the CPU's; prints one line when all is well."""
    with fake_cupy.installed() if which == "stand-in" else nullcontext():
        comm.init_process_group(backend)
        rank, size = comm.get_rank(), comm.get_world_size()
        for value, wanted in zip(ddp_step("cuda"), ddp_step("cpu"), strict=True):
            np.testing.assert_allclose(value, wanted, rtol=1e-5, atol=1e-6)
        total = distgrad.full((1000,), float(rank + 1), device="cuda")
        comm.all_reduce(total)
        assert total.is_cuda and total.tolist() == [size * (size + 1) / 2] * 1000
        handle = comm.all_reduce(total, async_op=True)
        handle.wait()
        assert total[0].item() == size * size * (size + 1) / 2
        received = distgrad.zeros(3, device="cuda")
        request = comm.irecv(received, (rank - 1) % size)
        comm.send(distgrad.full((3,), float(rank), device="cuda"), (rank + 1) % size)
        request.wait()
        assert received.tolist() == [float((rank - 1) % size)] * 3
        name = cuda.get_device_name()
        comm.barrier()
        comm.destroy_process_group()
    print(f"rank {rank} of {size}: {backend} on {name}: all is well", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
