"""What a user chose about the reduction of gradients."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

Hook: TypeAlias = Callable[[Any, Any], Any]  # (state, GradBucket) -> Future of a tensor, or a tensor


@dataclass
class Settings:
    """The arguments of `DistributedDataParallel` that concern its reducer.

    Attributes:
        bucket_bytes: what is reduced at once, about.
        broadcast_buffers: whether buffers follow those of rank 0.
        static_graph: every pass uses the same parameters.
        check_for_nan: look for values that are not finite before they are communicated.
        overlap: reduce buckets during backward.
        autotune: choose bucket size and overlap by measuring.
        hook, hook_state: what communicates a bucket instead of the all-reduce.
    """

    bucket_bytes: int
    broadcast_buffers: bool = True
    static_graph: bool = False
    check_for_nan: bool = False
    overlap: bool = False
    autotune: bool = False
    hook: Hook | None = None
    hook_state: Any = None

    @property
    def learns_order(self) -> bool:
        """Whether it matters in which order the gradients come."""
        return self.overlap or self.autotune
