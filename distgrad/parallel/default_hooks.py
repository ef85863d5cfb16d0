"""Communication hooks for `DistributedDataParallel.register_comm_hook`: plain, in 16 bits, and none.

In torch they are in `torch.distributed.algorithms.ddp_comm_hooks.default_hooks`; so are they here.
"""

from typing import Any

from .._tensor import Tensor
from ..autograd._base import wrap
from ..backend import backend_of
from ..comm import Communicator, ReduceOp, get_default
from ..futures import Future
from ._bucket import GradBucket
from ._settings import Hook


def allreduce_hook(process_group: Communicator | None, bucket: GradBucket) -> Future[Tensor]:
    """The mean over the ranks: what is done without a hook."""
    group = process_group or get_default()
    buffer = bucket.buffer()
    return bucket.run(group, lambda: group.all_reduce(buffer._data, ReduceOp.AVG))


def noop_hook(_: object, bucket: GradBucket) -> Future[Tensor]:
    """Communicates nothing, to measure what communication costs. Ranks then train apart."""
    result: Future[Tensor] = Future()
    result.set_result(bucket.buffer())
    return result


def fp16_compress_hook(process_group: Communicator | None, bucket: GradBucket) -> Future[Tensor]:
    """The mean over the ranks of gradients rounded to float16: half the bytes on the wire.

    Sums are accumulated in float32 and rounded once. Gradients above 65504 become infinite.
    """
    return _compressed(process_group, bucket, "float16")


def bf16_compress_hook(process_group: Communicator | None, bucket: GradBucket) -> Future[Tensor]:
    """The mean over the ranks of gradients rounded to bfloat16: float32's range, and 8 bits of precision."""
    return _compressed(process_group, bucket, "bfloat16")


def fp16_compress_wrapper(hook: Hook) -> Hook:
    """A hook that lets another one, such as PowerSGD's, work on gradients rounded to float16.

    Example:
        >>> model.register_comm_hook(state, fp16_compress_wrapper(powerSGD_hook))
    """
    return _wrapper(hook, "float16")


def bf16_compress_wrapper(hook: Hook) -> Hook:
    """A hook that lets another one work on gradients rounded to bfloat16."""
    return _wrapper(hook, "bfloat16")


def _compressed(process_group: Communicator | None, bucket: GradBucket, dtype: str) -> Future[Tensor]:
    group = process_group or get_default()
    buffer, wire = bucket.buffer()._data, bucket.wire(group, dtype)

    def work() -> None:
        with backend_of(buffer).quiet():
            wire[...] = buffer
            group.all_reduce(wire, ReduceOp.AVG)
            buffer[...] = wire

    return bucket.run(group, work)


def _wrapper(hook: Hook, dtype: str) -> Hook:
    def compressed(state: Any, bucket: GradBucket) -> Future[Tensor]:
        original = bucket.buffer()
        group = getattr(state, "process_group", state) or get_default()
        wire = bucket.wire(group, dtype)
        with backend_of(wire).quiet():
            wire[...] = original._data
        bucket.set_buffer(wrap(wire))

        def decompress(done: Future[Any]) -> Tensor:
            value = done.value()
            (found,) = value if isinstance(value, (list, tuple)) else (value,)
            original._data[...] = found._data
            return original

        result = hook(state, bucket)
        if isinstance(result, Tensor):
            done: Future[Any] = Future()
            done.set_result(result)
            return done.then(decompress)
        return result.then(decompress)  # type: ignore[no-any-return]

    compressed.__name__ = f"{dtype}_compress_wrapper({getattr(hook, '__name__', 'hook')})"
    return compressed
