"""The all-reduce of torch over gloo, as one rank of it: started by `python -m distgrad.bench allreduce --torch PYTHON`.

    PYTHON torch_allreduce.py RANK SIZE ADDRESS PORT DTYPE OP

Obeys lines on standard input (`prepare N`, `check`, `seconds REPEATS`, `quit`) and answers each with a number.
"""

import sys
import time

import torch
import torch.distributed as dist


def main() -> None:
    """Answers until told to quit."""
    rank, size, address, port, dtype, op = sys.argv[1:]
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"tcp://{address}:{port}", rank=int(rank), world_size=int(size))
    mean = op == "avg"  # gloo has no mean: a sum, and a division by whoever wants one
    reduce = {"sum": dist.ReduceOp.SUM, "avg": dist.ReduceOp.SUM, "max": dist.ReduceOp.MAX, "min": dist.ReduceOp.MIN}
    total = int(size) * (int(size) + 1) / 2
    expected = {"sum": total, "avg": total / int(size), "max": int(size), "min": 1}[op]
    buffer = torch.empty(0)

    def all_reduce() -> None:
        dist.all_reduce(buffer, reduce[op])
        if mean:
            buffer.div_(int(size))

    for line in sys.stdin:
        command, *arguments = line.split()
        answer = 0.0
        if command == "prepare":
            buffer = torch.empty(int(arguments[0]), dtype=getattr(torch, dtype))
        elif command == "check":
            buffer.fill_(int(rank) + 1)
            all_reduce()
            answer = float((buffer.float() - expected).abs().max() <= 1e-2 * expected)
            buffer.zero_()
        elif command == "seconds":
            dist.barrier()
            started = time.perf_counter()
            for _ in range(int(arguments[0])):
                all_reduce()
            answer = time.perf_counter() - started
        elif command == "quit":
            break
        print(answer, flush=True)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
