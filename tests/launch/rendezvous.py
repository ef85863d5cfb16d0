"""A training script in small: rank 0 writes what all ranks know about themselves, after they have met over TCP.

tests/launch/test_slurm.py runs it; the argument is the file to write.
"""

import json
import os
import socket
import sys

import numpy as np

import distgrad.distributed as dist

dist.init_process_group()
rank, size = dist.get_rank(), dist.get_world_size()
environment = {name: os.environ[name] for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")}
address = (os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]))


def met() -> list[int]:
    """The ranks that came to where scripts expect rank 0; a rank that does not find it raises."""
    if rank > 0:
        dist.barrier()  # rank 0 listens
        with socket.create_connection(address, timeout=5) as connection:
            connection.sendall(bytes([rank]))
            return list(connection.recv(1))
    with socket.socket() as server:
        server.settimeout(5)
        server.bind((socket.gethostname(), address[1]))
        server.listen()
        dist.barrier()
        guests = []
        for _ in range(size - 1):
            connection = server.accept()[0]
            guests += list(connection.recv(1))
            connection.sendall(b"\0")
            connection.close()
        return sorted(guests)


total = np.array([float(rank + 1)])
dist.all_reduce(total)
about_me = {"host": socket.gethostname(), "master": list(address), "sum": total[0], "met": met(), **environment}
about_me["slurm"] = [os.environ.get(f"SLURM_{name}") for name in ("PROCID", "LOCALID", "NODEID")]
everyone: list[object] = [None] * size
dist.all_gather_object(everyone, about_me)
if rank == 0:
    with open(sys.argv[1], "w") as file:
        json.dump({"backend": dist.get_backend(), "ranks": everyone}, file)
