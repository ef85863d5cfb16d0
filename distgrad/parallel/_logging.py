"""The figures that `DistributedDataParallel.get_ddp_logging_data` gives out."""

from typing import TYPE_CHECKING, Any

from ._reducer import Reducer
from ._tuning import Tuner

if TYPE_CHECKING:
    from ._ddp import DistributedDataParallel


def logging_data(model: "DistributedDataParallel") -> dict[str, Any]:
    """What the reduction of a model is like, what it has cost and what was tuned."""
    return {**_of_model(model), **_of_reducer(model._reducer), **_of_tuner(model._tuner), **_costs(model)}


def _of_model(model: "DistributedDataParallel") -> dict[str, Any]:
    trained = [p for p in model.module.parameters() if p.requires_grad]
    settings = model._settings
    return {
        "world_size": model.process_group.size,
        "rank": model.process_group.rank,
        "backend_name": model.process_group.name,
        "module_name": type(model.module).__name__,
        "num_parameter_tensors": len(trained),
        "total_parameter_size_bytes": sum(p._data.nbytes for p in trained),
        "broadcast_buffers": model.broadcast_buffers,
        "find_unused_parameters": model.find_unused_parameters,
        "gradient_as_bucket_view": True,
        "static_graph": model.static_graph,
        "comm_hook": "" if settings.hook is None else getattr(settings.hook, "__name__", type(settings.hook).__name__),
        "bucket_cap_bytes": settings.bucket_bytes,
    }


def _of_reducer(reducer: Reducer | None) -> dict[str, Any]:
    return {
        "bucket_sizes": [] if reducer is None else [span.buffer.nbytes for span in reducer.spans],
        "has_rebuilt_buckets": reducer is not None and reducer.rebuilt,
        "overlap": reducer is not None and reducer.overlap,
    }


def _of_tuner(tuner: Tuner | None) -> dict[str, Any]:
    if tuner is None or tuner.chosen is None:
        return {"tuned": None, "tuning": {}}
    medians = {tuple(choice): median for choice, median in zip(tuner.choices, tuner.medians, strict=True)}
    return {"tuned": tuple(tuner.chosen), "tuning": medians}


def _costs(model: "DistributedDataParallel") -> dict[str, Any]:
    record = model._record
    times = max(record.reductions, 1)
    return {
        "iteration": record.reductions,
        "num_buckets_reduced": record.calls,
        "bytes_reduced": record.nbytes,
        "avg_backward_compute_time": record.backward / times,
        "avg_backward_comm_time": record.communicated / times,
        "seconds_waiting": record.waited,
        "overlap_share": record.overlap_share,
    }
