"""Collectives on device buffers, on the stand-in whose queues run late; each rank is a thread with its own device."""

import gc
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from distgrad import cuda
from distgrad.comm import Communicator, ReduceOp, get_default, run_threads
from distgrad.comm._serial import SerialCommunicator
from distgrad.comm._shm import ShmCommunicator
from distgrad.comm.device import _buffers, _staged, _transports
from distgrad.errors import CollectiveMismatchError, CommError
from tests.backend import fake_cuda, fake_cupy, fake_nccl
from tests.backend.device_collectives import CASES, Check, Place, run
from tests.backend.on_device_training import ddp_step

SMALL_CHUNK = 1024  # bytes, so that the sizes of the checks need more chunks than the ring has slots


@pytest.fixture(autouse=True)
def device(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(_staged, "CHUNK_BYTES", SMALL_CHUNK)
    with fake_cupy.installed(late=True):
        cuda.current_device()  # the backend is made by this thread
        yield


class Direct:
    """What CUDA-aware MPI does: it works on the memory of the device as it is at that moment, and knows no streams."""

    def __init__(self, group: Communicator) -> None:
        self._group = group

    def _all_reduce(self, buffer: Any, op: ReduceOp) -> None:
        self._group._all_reduce(buffer._raw, op)

    def _broadcast(self, buffer: Any, root: int) -> None:
        self._group._broadcast(buffer._raw, root)


def on_ranks(function: Callable[[Communicator, Place], Any], host: str, way: str | None, size: int = 2) -> list[Any]:
    """Run on each rank of a group of threads, over this host backend and this transport."""

    def on_rank() -> Any:
        group = get_default()
        cuda.set_device(group.rank % 2)
        found = ShmCommunicator(group) if host == "shm" else group
        found.options = replace(found.options, device=way)
        if way == "mpi":
            found._over_mpi = lambda: Direct(found)  # type: ignore[method-assign]
        try:
            result = function(found, Place(group.rank % 2))
        except BaseException as error:
            found._fail(str(error))  # as the exit of a process would tell its peers
            raise
        found.close()
        return result

    return run_threads(size, on_rank, timeout=20.0)


@pytest.mark.parametrize("check", [pytest.param(check, id=name) for name, check in CASES])
@pytest.mark.parametrize(
    ("host", "way"), [("threads", "staged"), ("shm", "staged"), ("threads", "nccl"), ("threads", "mpi")]
)
def test_collectives(check: Check, host: str, way: str) -> None:
    on_ranks(lambda group, place: run(group, place, check), host, way)


@pytest.mark.parametrize("way", ["staged", "nccl"])
def test_three_ranks_with_private_pinned_memory(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """CUDA cannot pin the group's memory, so the ring is CUDA's own; with three ranks two share a device."""
    monkeypatch.setattr(fake_cuda.state, "pins", False)
    names = {"mixture", "gather_scatter-5000-float32", "start_all_reduce-5000", "reduce-700-float32"}
    checks = [check for name, check in CASES if name in names]
    assert len(checks) == len(names)

    def all_checks(group: Communicator, place: Place) -> str:
        for check in checks:
            run(group, place, check)
        return group.describe()

    with pytest.warns(RuntimeWarning, match="ranks 0 and 2 share the GPU") if way == "nccl" else nullcontext():
        found = on_ranks(all_checks, "shm", way, size=3)
    assert all("staged through pinned private memory" in text for text in found)


# ---- which way is taken ----------------------------------------------------------------------------------------------


def described(group: Communicator, place: Place) -> str:
    assert group.describe().endswith("buffers on GPUs: none passed yet")
    group.broadcast(place.array(np.ones(3, np.float32)))
    return group.describe()


def test_nccl_is_preferred() -> None:
    assert on_ranks(described, "threads", None) == [
        f"threads group of 2; buffers on GPUs: NCCL 2.27.7, this rank on cuda:{rank}" for rank in range(2)
    ]


def test_without_nccl_the_way_is_by_host_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fake_nccl.module, "available", False, raising=False)
    for text in on_ranks(described, "shm", None):
        assert "staged through pinned memory of the group, 4 chunks" in text
        assert "not nccl: rank 0: CuPy found no NCCL library; pip install nvidia-nccl-cu13" in text
        assert "not mpi: the group does not stand on MPI" in text


@pytest.mark.parametrize(
    ("said", "trial", "wanted"),
    [
        (None, None, "CUDA-aware MPI; not nccl: it is broken"),
        (True, "the trial died of SIGSEGV", "CUDA-aware MPI; not nccl: it is broken"),
        (None, "the trial died of SIGSEGV", "not nccl: it is broken; not mpi: the trial died of SIGSEGV"),
        (False, None, "not nccl: it is broken; not mpi: DISTGRAD_CUDA_AWARE=0"),
    ],
)
def test_cuda_aware_mpi_needs_the_users_word_or_a_trial(
    said: bool | None, trial: str | None, wanted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_transports, "nccl_problem", lambda: "it is broken")
    monkeypatch.setattr(_transports, "cuda_aware_problem", lambda: trial)

    def choose(group: Communicator, place: Place) -> str:
        group._over_mpi = lambda: Direct(group)  # type: ignore[method-assign]
        group.options = replace(group.options, cuda_aware=said)
        return described(group, place)

    for text in on_ranks(choose, "threads", None):
        assert text.replace("rank 0: ", "").endswith(wanted)


def test_one_rank_without_nccl_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    right = _transports.nccl_problem
    monkeypatch.setattr(_transports, "nccl_problem", lambda: "it is broken" if cuda.current_device() else right())
    for text in on_ranks(described, "threads", None):
        assert "staged" in text and "not nccl: rank 1: it is broken" in text


def test_ranks_that_share_a_gpu_go_by_host_memory() -> None:
    for text in on_ranks(described, "threads", None, size=3):
        assert "staged" in text and "ranks 0 and 2 share the GPU 0000:00:00.0, which NCCL does not allow" in text


def test_nccl_that_fails_to_connect_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    right = fake_nccl.NcclCommunicator

    def fail(ndev: int, uid: bytes, rank: int) -> Any:
        if rank == 1:
            right(ndev, uid, rank)
            raise fake_nccl.NcclError("NCCL_ERROR_SYSTEM_ERROR: no route")
        return right(ndev, uid, rank)

    monkeypatch.setattr(fake_nccl.module, "NcclCommunicator", fail, raising=False)
    for text in on_ranks(described, "threads", None):
        assert "staged" in text and "not nccl: rank 1: NCCL could not connect 2 ranks: NCCL_ERROR_SYSTEM" in text


def test_host_and_device_in_one_call_is_an_error_on_all_ranks() -> None:
    def mixed(group: Communicator, place: Place) -> None:
        buffer = np.ones(3, np.float32)
        with pytest.raises(CollectiveMismatchError, match="3 float32 = 12 bytes, on a GPU"):
            group.all_reduce(place.array(buffer) if group.rank else buffer)

    on_ranks(mixed, "shm", None)
    with run_single() as (group, place), pytest.raises(CommError, match="both in host memory or both on a GPU"):
        group.all_gather(np.ones(3, np.float32), place.array(np.ones(3, np.float32)))


@contextmanager
def run_single() -> Iterator[tuple[Communicator, Place]]:
    group = SerialCommunicator()
    yield group, Place(0)
    group.close()


@pytest.mark.parametrize("check", [pytest.param(check, id=name) for name, check in CASES if "point" not in name])
def test_one_rank_copies_nothing(check: Check) -> None:
    with run_single() as (group, place):
        run(group, place, check)
        assert group.describe() == "serial group of 1; buffers on GPUs: none passed yet"


# ---- the end, and what goes wrong ------------------------------------------------------------------------------------


def test_nothing_stays_pinned() -> None:
    before = dict(fake_cuda._pinned)
    on_ranks(lambda group, place: run(group, place, dict(CASES)["mixture"]), "shm", "staged")
    gc.collect()
    assert fake_cuda._pinned == before


def test_an_error_on_the_host_lets_the_copies_end() -> None:
    """After the error nothing is copied from or to the buffers any more."""

    def broken(group: Communicator, place: Place) -> None:
        with place.xp.cuda.Device(place.number), place.stream:
            buffer = place.array(np.ones(5000, np.float32))
            group.all_reduce(buffer)  # the ring exists
            monkey = pytest.MonkeyPatch()
            monkey.setattr(group, "_all_reduce", lambda *_: (_ for _ in ()).throw(CommError("no more")))
            with pytest.raises(CommError, match="no more"):
                group.all_reduce(buffer)
            lanes = group._transport._lanes[place.number]
            assert lanes.up.done and lanes.down.done
            monkey.undo()
            with pytest.raises(CommError, match="cannot be used any more"):
                group.all_reduce(buffer)

    on_ranks(broken, "threads", "staged")


def test_nccl_stays_on_its_device() -> None:
    def wander(group: Communicator, place: Place) -> None:
        group.broadcast(place.array(np.ones(3, np.float32)))
        other = 1 - place.number
        with place.xp.cuda.Device(other):
            buffer = place.xp.zeros(3, "float32")
        with pytest.raises(CommError, match=f"expected a buffer on cuda:{place.number}.*cuda:{other}"):
            group.broadcast(buffer)

    on_ranks(wander, "threads", "nccl")


def test_a_lost_peer_aborts_nccl(capfd: pytest.CaptureFixture[str]) -> None:
    """Its operation never comes, so the other's would block the GPU for ever."""

    def lose(group: Communicator, place: Place) -> str:
        buffer = place.array(np.ones(3, np.float32))
        group.all_reduce(buffer)
        group._transport._comm._ended = group.rank == 1  # its operations make no progress from here on
        group.options = replace(group.options, timeout=0.2)
        if group.rank == 1:
            group._barrier()  # it comes, and dies before its operation
            return ""
        with place.xp.cuda.Device(place.number), place.stream:
            group.all_reduce(buffer)
            buffer.get()  # would hang
        end = time.monotonic() + 10
        while group._broken is None and time.monotonic() < end:
            time.sleep(0.01)
        with pytest.raises(CommError, match="used any more: NCCL was aborted while waiting for NCCL in all_reduce"):
            group.all_reduce(buffer)
        return group._broken or ""

    assert "CommTimeoutError: rank 0 gave up waiting for NCCL" in on_ranks(lose, "threads", "nccl")[0]
    assert "distgrad: rank 0: NCCL was aborted" in capfd.readouterr().err


def test_an_error_inside_nccl_aborts_it() -> None:
    def fail(group: Communicator, place: Place) -> str:
        group.all_reduce(place.array(np.ones(3, np.float32)))
        group._transport._comm.error = fake_nccl.NcclError("NCCL_ERROR_REMOTE_ERROR")
        if group.rank == 0:
            group.options = replace(group.options, timeout=10.0)
        with suppress(CommError):  # from the host, if the watch was faster
            group.all_reduce(place.array(np.ones(3, np.float32)))
        end = time.monotonic() + 10
        while group._broken is None and time.monotonic() < end:
            time.sleep(0.01)
        return group._broken or ""

    reasons = on_ranks(fail, "threads", "nccl")
    assert all(reasons)
    assert any("NCCL_ERROR_REMOTE_ERROR" in reason for reason in reasons), "the other may have lost its peer by then"


# ---- DistributedDataParallel -----------------------------------------------------------------------------------------


def train(way: str) -> list[list[Any]]:
    """The parameters of each rank after two steps."""
    return on_ranks(lambda group, place: ddp_step(f"cuda:{place.number}"), "threads", way)


def is_right(found: list[list[Any]]) -> bool:
    wanted = ddp_step("cpu")
    return all(
        np.allclose(value, right, rtol=1e-5, atol=1e-6)
        for rank in found
        for value, right in zip(rank, wanted, strict=True)
    )


@pytest.mark.parametrize("way", ["staged", "nccl", "mpi"], ids=lambda way: f"by-{way}")
def test_ddp(way: str) -> None:
    assert is_right(train(way))


@pytest.mark.parametrize(
    ("way", "kind", "method"),
    [
        ("staged", fake_cuda.Event, "synchronize"),  # the host reads before the copy down has come
        ("staged", fake_cuda.Stream, "wait_event"),
        ("nccl", fake_cuda.Stream, "wait_event"),
        ("mpi", fake_cuda.Stream, "synchronize"),
    ],
)
def test_ddp_that_does_not_wait_is_wrong(way: str, kind: Any, method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kind, method, lambda *_: None)
    assert not is_right(train(way))


# ---- every wait is needed: without it, a check fails -----------------------------------------------------------------

Site = tuple[str, int]  # file and line
WAITS = ((fake_cuda.Stream, "wait_event"), (fake_cuda.Stream, "synchronize"), (fake_cuda.Event, "synchronize"))
OURS = ("_staged.py", "_nccl.py", "_buffers.py", "_cuda_aware.py")

# Waits that no result depends on, by the function that they are in.
OTHERWISE_NEEDED = {
    ("_staged.py", "drain"): "before the ring is unpinned; after an error, see test_an_error_on_the_host_lets_the_...",
    ("_nccl.py", "close"): "nobody leaves while a peer's operation waits for it",
    ("_nccl.py", "leave"): "the same at the end of the process",
}


def watch_waits(monkeypatch: pytest.MonkeyPatch, seen: set[tuple[str, int, str]], skipped: Site | None) -> None:
    """Note the lines of distgrad.comm that wait, and let the one at `skipped` not wait."""

    def wrap(right: Callable[..., Any]) -> Callable[..., Any]:
        def wait(self: Any, *args: Any) -> Any:
            frame = sys._getframe(1)
            file = Path(frame.f_code.co_filename).name
            if file in OURS:
                seen.add((file, frame.f_lineno, frame.f_code.co_name))
                if (file, frame.f_lineno) == skipped:
                    return None
            return right(self, *args)

        return wait

    for kind, name in WAITS:
        monkeypatch.setattr(kind, name, wrap(getattr(kind, name)))


def scenarios() -> list[Callable[[], Any]]:
    """Runs that together go through every wait."""
    names = [name for name, _ in CASES if name.endswith("-5000") or name in ("mixture", "default_stream")]
    names += [name for name, _ in CASES if "-5000-float32" in name]
    checks = dict(CASES)
    return [
        lambda name=name, way=way: on_ranks(lambda group, place: run(group, place, checks[name]), "threads", way)
        for name in names
        for way in ("staged", "nccl", "mpi")
    ]


def test_a_missing_wait_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    sites: set[tuple[str, int, str]] = set()
    with monkeypatch.context() as patch:
        watch_waits(patch, sites, None)
        for scenario in scenarios():
            scenario()
    wanted = {site for site in sites if (site[0], site[2]) not in OTHERWISE_NEEDED}
    assert len(wanted) >= 11, wanted
    # Whether NCCL's thread comes before the work that it should have waited for is a race, as on a GPU.
    unnoticed = [site for site in sorted(wanted) if not any(fails_without(monkeypatch, site[:2]) for _ in range(5))]
    assert unnoticed == []


def test_memory_that_is_let_go_too_early_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_buffers.Beside, "keep", lambda self, work: None)
    with pytest.raises(AssertionError):
        on_ranks(lambda group, place: run(group, place, dict(CASES)["let_go-5000"]), "threads", "nccl")


def fails_without(monkeypatch: pytest.MonkeyPatch, site: Site) -> bool:
    """Whether some scenario goes wrong when this wait is left out."""
    with monkeypatch.context() as patch:
        watch_waits(patch, set(), site)
        for scenario in scenarios():
            try:
                scenario()
            except AssertionError:
                return True
    return False
