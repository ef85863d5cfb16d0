"""Run under mpirun: DistributedDataParallel on the device against the CPU, then the checks of device collectives.

mpirun -n 2 python -m tests.backend.ddp_job stand-in|gpu (shm|mpi|hierarchical staged|nccl|mpi)...
"""

import sys
from contextlib import nullcontext

import numpy as np

import distgrad
from distgrad import comm, cuda
from distgrad.comm.device import _staged
from tests.backend import fake_cupy
from tests.backend.device_collectives import CASES, Place, busy, run
from tests.backend.on_device_training import ddp_step

# One of each kind, and one of the largest size; all of them together are the business of test_transports.
CHECKS = [
    (name, check)
    for name, check in CASES
    if name.endswith(("-5000-float32", "-5000-float32-SUM", "-5000", "-700-bfloat16")) or name.count("-") == 0
]


def main(which: str, *names: str) -> None:
    """Check one pair of a host backend and a way between devices after the other."""
    for host, way in zip(names[::2], names[1::2], strict=True):
        check(which, host, way)


def check(which: str, host: str, way: str) -> None:
    """Raises where the device's results differ from the CPU's; prints one line when all is well."""
    late = which == "stand-in"
    if late:
        _staged.CHUNK_BYTES = 1024  # so that also small buffers take several
    with fake_cupy.installed(late=True) if late else nullcontext():
        comm.init_process_group(f"cpu:{host},cuda:{way}")
        rank, size = comm.get_rank(), comm.get_world_size()
        group = comm.get_default()
        assert group.name == host
        for value, wanted in zip(ddp_step("cuda"), ddp_step("cpu"), strict=True):
            np.testing.assert_allclose(value, wanted, rtol=1e-5, atol=1e-6)
        place = Place(cuda.current_device(), *([] if late else [busy()]))
        for _, collective in CHECKS:
            run(group, place, collective)
        functions(rank, size)
        text = group.describe()
        comm.barrier()
        comm.destroy_process_group()
    print(f"rank {rank} of {size}: {text}: all is well", flush=True)


def functions(rank: int, size: int) -> None:
    """The functions of `distgrad.comm` on tensors."""
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
    parts = [distgrad.zeros(2, device="cuda") for _ in range(size)]
    comm.all_gather(parts, distgrad.full((2,), float(rank), device="cuda"))
    assert [part.tolist() for part in parts] == [[float(other)] * 2 for other in range(size)]


if __name__ == "__main__":
    main(*sys.argv[1:])
