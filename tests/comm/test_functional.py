"""The functions of torch.distributed, on one rank and on three."""

import os
import warnings
from collections.abc import Callable
from datetime import timedelta

import numpy as np
import pytest

import distgrad.comm as dist
from distgrad.comm import ReduceOp, run_threads
from distgrad.errors import CommError, CommTimeoutError


class Lent:
    """Something that lends its array, as a Tensor does."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array
        self.writes = 0

    def __distgrad_array__(self, *, write: bool = False) -> np.ndarray:
        self.writes += write
        return self.array


def on(size: int) -> Callable[[Callable[[], None]], None]:
    return lambda function: [None for _ in run_threads(size, function)].clear()


@pytest.mark.parametrize("size", [1, 3])
def test_all_reduce_takes_tensors_arrays_and_strided_views(size: int) -> None:
    def check() -> None:
        rank = dist.get_rank()
        total = float(sum(range(size)))
        tensor = Lent(np.full((2, 3), float(rank)))
        assert dist.all_reduce(tensor) is None
        assert (tensor.array == total).all() and tensor.writes == 1
        base = np.full((4, 6), float(rank))
        dist.all_reduce(base[::2, 1::3], op=ReduceOp.SUM)
        assert (base[::2, 1::3] == total).all() and (base[1::2] == rank).all() and (base[:, 0] == rank).all()
        scalar = np.array(float(rank))
        dist.all_reduce(scalar, op=ReduceOp.MAX)
        assert scalar == size - 1

    on(size)(check)


@pytest.mark.parametrize("size", [1, 3])
def test_every_function(size: int) -> None:
    def check() -> None:
        rank, last = dist.get_rank(), size - 1
        everyone = np.arange(size)
        mine = np.full((2, 2), float(rank))

        tensor = mine.copy()
        dist.broadcast(tensor, src=last)
        assert (tensor == last).all()
        tensor = mine.copy()
        dist.reduce(tensor, dst=last)
        assert (tensor == (everyone.sum() if rank == last else rank)).all()

        gathered = [np.zeros((2, 2)) for _ in range(size)]
        dist.all_gather(gathered, mine)
        assert [part[0, 0] for part in gathered] == everyone.tolist()
        whole = np.zeros((2 * size, 2))
        dist.all_gather_into_tensor(whole, mine)
        assert np.array_equal(whole[::2, 0], everyone)

        parts = [np.full(3, float(rank + other)) for other in range(size)]
        output = np.zeros(3)
        dist.reduce_scatter(output, parts)
        assert (output == everyone.sum() + rank * size).all()
        dist.reduce_scatter_tensor(output, np.concatenate(parts), op=ReduceOp.MAX)
        assert (output == last + rank).all()

        collected = [np.zeros((2, 2)) for _ in range(size)] if rank == last else None
        dist.gather(mine, collected, dst=last)
        assert collected is None or [part[1, 1] for part in collected] == everyone.tolist()
        handed = np.zeros(3)
        dist.scatter(handed, parts if rank == last else None, src=last)
        assert (handed == last + rank).all()

        received = [np.zeros(2) for _ in range(size)]
        dist.all_to_all(received, [np.full(2, 10.0 * rank + other) for other in range(size)])
        assert [part[0] for part in received] == [10 * other + rank for other in range(size)]
        rows = np.zeros((size, 2))
        dist.all_to_all_single(rows, np.repeat(10.0 * rank + everyone, 2).reshape(size, 2))
        assert rows[:, 1].tolist() == [10 * other + rank for other in range(size)]
        dist.barrier()

    on(size)(check)


def test_all_to_all_single_with_uneven_rows() -> None:
    def check() -> None:
        rank = dist.get_rank()
        rows = np.full((3 * (rank + 1), 2), float(rank))
        output = np.zeros((6, 2))
        dist.all_to_all_single(output, rows, [1, 2, 3], [rank + 1] * 3)
        assert output[:, 0].tolist() == [0, 1, 1, 2, 2, 2]

    on(3)(check)


@pytest.mark.parametrize("size", [1, 3])
def test_object_functions(size: int) -> None:
    def check() -> None:
        rank, last = dist.get_rank(), size - 1
        objects: list[object] = [None] * size
        dist.all_gather_object(objects, {"rank": rank})
        assert objects == [{"rank": other} for other in range(size)]
        pair: list[object] = [rank, str(rank)]
        dist.broadcast_object_list(pair, src=last)
        assert pair == [last, str(last)]
        gathered: list[object] | None = [None] * size if rank == last else None
        dist.gather_object(rank, gathered, dst=last)
        assert gathered is None or gathered == list(range(size))
        output: list[object] = [None]
        dist.scatter_object_list(output, [f"to {other}" for other in range(size)] if rank == last else None, src=last)
        assert output == [f"to {rank}"]

    on(size)(check)


@pytest.mark.parametrize("size", [1, 3])
def test_async_work(size: int) -> None:
    def check() -> None:
        rank = dist.get_rank()
        strided = np.full((4, 4), float(rank))[:, ::2]
        work = dist.all_reduce(strided, async_op=True)
        gathered = [np.zeros(2) for _ in range(size)]
        second = dist.all_gather(gathered, np.full(2, float(rank)), async_op=True)
        assert work is not None and second is not None
        assert second.wait() and second.is_completed() and second.is_success()
        assert work.is_completed() and (strided == sum(range(size))).all()
        assert [part[0] for part in gathered] == list(range(size))
        assert len(second.result()) == size

    on(size)(check)


def test_an_error_in_the_background_is_raised_by_wait() -> None:
    def check() -> None:
        work = dist.all_reduce(np.zeros(3 + dist.get_rank()), async_op=True)
        assert work is not None
        with pytest.raises(CommError, match="same collective"):
            work.wait()
        assert work.is_completed() and not work.is_success() and isinstance(work.exception(), CommError)

    on(2)(check)


def test_wait_leaves_it_to_the_operation_to_end_by_the_timeout() -> None:
    """Its own error says who did not come."""

    def check() -> None:
        group = dist.new_group(timeout=0.5)
        if dist.get_rank() == 0:
            work = dist.all_reduce(np.zeros(3), group=group, async_op=True)
            with pytest.raises(CommTimeoutError, match="gave up waiting in all_reduce"):
                work.wait()
            with pytest.raises(CommTimeoutError, match="gave up waiting in all_reduce"):
                work.wait(0.1)

    on(2)(check)


def test_ranks_that_take_more_or_less_than_is_sent() -> None:
    """MPI finds only half of these, and says little about them."""
    for difference in (-1, 1):

        def check(difference: int = difference) -> None:
            rank = dist.get_rank()
            gets = [2, 3 + difference * (rank == 2), 4]
            message = f"got:\n  rank 1 sends 3 to rank 2, which takes {3 + difference}\nmake the output counts"
            with pytest.raises(CommError, match=message):
                dist.all_to_all_single(np.zeros(sum(gets)), np.zeros(3 * (rank + 2)), gets, [rank + 2] * 3)

        on(3)(check)


def test_a_forked_child_is_no_rank() -> None:
    """Or it would take its parent's place in a collective."""

    def check() -> None:
        if dist.get_rank() == 0:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # a fork beside threads, of which the child ends
                child = os.fork()
            if child == 0:
                os._exit(_status_of_a_barrier())
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        dist.barrier()

    on(2)(check)


def _status_of_a_barrier() -> int:
    try:
        dist.barrier()
    except CommError as error:
        return 7 if "was forked from rank 0 and is no rank" in str(error) else 8
    return 9


def test_point_to_point() -> None:
    def check() -> None:
        rank = dist.get_rank()
        if rank == 0:
            dist.send(np.arange(6.0).reshape(2, 3)[:, ::2], 1)
        elif rank == 1:
            target = np.zeros((4, 2))
            assert dist.recv(target[::2], 0) == 0
            assert target.tolist() == [[0, 2], [0, 0], [3, 5], [0, 0]]
        other = np.zeros(2)
        works = dist.batch_isend_irecv(
            [
                dist.P2POp(dist.irecv, other, (rank - 1) % 3),
                dist.P2POp(dist.isend, np.full(2, float(rank)), (rank + 1) % 3),
            ]
        )
        for work in works:
            work.wait()
        assert (other == (rank - 1) % 3).all()
        with pytest.raises(CommError, match="another rank"):
            dist.isend(np.zeros(1), rank)
        with pytest.raises(CommError, match="contiguous"):
            dist.irecv(np.zeros((2, 2))[:, 0], (rank + 1) % 3)

    on(3)(check)


def test_a_group_has_a_timeout_of_its_own() -> None:
    def check() -> None:
        group = dist.new_group(timeout=timedelta(seconds=0.2), backend="gloo")
        assert dist.get_default().options.timeout > 1
        if dist.get_rank() == 0:
            with pytest.raises(CommTimeoutError):
                dist.barrier(group)

    on(2)(check)


def test_groups() -> None:
    def check() -> None:
        rank = dist.get_rank()
        pair = dist.new_group([2, 0])
        inside = rank in (0, 2)
        assert dist.get_rank(pair) == ({2: 0, 0: 1}[rank] if inside else -1)
        assert dist.get_world_size(pair) == (2 if inside else -1)
        tensor = np.full(2, float(rank))
        dist.broadcast(tensor, src=2, group=pair)  # does nothing on rank 1
        assert (tensor == (2 if inside else 1)).all()
        if inside:
            assert dist.get_process_group_ranks(pair) == [2, 0]
            assert dist.get_global_rank(pair, 0) == 2 and dist.get_group_rank(pair, 0) == 1
            with pytest.raises(CommError, match=r"one of \[2, 0\], got rank 1"):
                dist.broadcast(tensor, src=1, group=pair)
        else:
            assert dist.all_reduce(tensor, group=pair, async_op=True) is None
            assert pair is dist.GroupMember.NON_GROUP_MEMBER
        assert dist.get_world_size(dist.group.WORLD) == 3
        parts = dist.split_group(split_ranks=[[0, 1], [2]])
        assert dist.get_process_group_ranks(parts) == ([2] if rank == 2 else [0, 1])
        dist.destroy_process_group(parts)

    on(3)(check)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: dist.broadcast(np.zeros(2), src=7), r"one of \[0, 1\], got rank 7"),
        (lambda: dist.all_reduce([1.0]), "expected a Tensor or an array, got list"),
        (lambda: dist.all_gather([np.zeros(2)], np.zeros(2)), "list of 2 tensors, one for each rank, got 1"),
        (lambda: dist.all_gather_into_tensor(np.zeros(3), np.zeros(2)), "sizes in the ratio 2 : 1"),
        (lambda: dist.all_gather_into_tensor(np.zeros(4), np.zeros(2, "f4")), "of one dtype, got float64 and float32"),
        (lambda: dist.all_reduce(np.array(["a"])), "expected a buffer of a number type"),
        (
            lambda: dist.get_default().all_reduce(np.zeros((2, 2))),
            r"contiguous 1-D array, got a contiguous one of shape",
        ),
        (lambda: dist.get_default().all_reduce(np.zeros(4)[::2]), "got a non-contiguous one"),
        (lambda: dist.get_default().broadcast(np.zeros(4), 7), "a rank of this group, 0 to 1, got 7"),
        (lambda: dist.get_default().all_to_all(np.zeros(3), np.zeros(4)), "divide into 2 equal parts, got 3"),
        (lambda: dist.new_group([0, 5]), r"between 0 and 1, got \[0, 5\]"),
        (lambda: dist.new_group(backend="mpi"), "backend of the default group, 'threads', got 'mpi'"),
        (lambda: dist.new_group(timeout=0), "more than 0 seconds, got 0"),
        (lambda: dist.all_gather_object([None], 1), "`object_list` of length 2, got 1"),
        (
            lambda: dist.all_gather([np.zeros(2), np.zeros(1)], np.zeros(1)),
            "`tensor_list` to have 1 .* got 2 of .* entry 0",
        ),
        (lambda: dist.reduce_scatter(np.zeros(2), [np.zeros(1), np.zeros(3)]), "`input_list` to have 2 elements"),
        (lambda: dist.all_gather([np.zeros(2, int)] * 2, np.zeros(2)), "elements of float64, .* got 2 of int64"),
        (
            lambda: dist.new_group([dist.get_rank()]),
            r"the same `ranks` on every rank, .*\n  rank 0: \[0\]\n  rank 1: \[1\]",
        ),
        (lambda: dist.split_group(None, [[0], [1]][: dist.get_rank()]), "the same `split_ranks` on every rank"),
    ],
    ids=range(19),
)
def test_wrong_arguments_fail_on_every_rank_alike(call: Callable[[], object], message: str) -> None:
    def check() -> None:
        with pytest.raises((CommError, TypeError), match=message):
            call()
        dist.barrier()  # the group still works: nobody had entered a collective

    on(2)(check)
