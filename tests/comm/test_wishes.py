"""Names of backends, ours and torch's."""

import pytest

from distgrad.comm import _wishes
from distgrad.comm._wishes import Wish, parse_backend
from distgrad.errors import BackendUnavailableError

NAMES = ("serial", "shm", "mpi")


@pytest.mark.parametrize(
    ("text", "wish"),
    [
        (None, Wish()),
        ("", Wish()),
        ("gloo", Wish()),
        ("cpu:gloo", Wish()),
        ("SHM", Wish("shm")),
        ("nccl", Wish(None, "nccl")),
        ("cpu:gloo,cuda:nccl", Wish(None, "nccl")),
        ("cpu:mpi, cuda:staged", Wish("mpi", "staged")),
        ("cuda:mpi", Wish(None, "mpi")),
        ("cpu:gloo,cuda:gloo", Wish(None, "staged")),
    ],
)
def test_names(text: str | None, wish: Wish, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_wishes, "nccl_problem", lambda: None)
    assert parse_backend(text, NAMES) == wish


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("smoke", "expected a backend of serial, shm, mpi, got 'smoke'"),
        ("cuda:shm", "expected a backend for GPUs of nccl, mpi, staged, gloo, got 'shm'"),
        ("tpu:shm", 'expected a backend for "cpu" or "cuda", got \'tpu:shm\''),
        ("nccl", 'backend "nccl" cannot be used here: no GPU. Or leave the backend out'),
    ],
)
def test_wrong_names(text: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_wishes, "nccl_problem", lambda: "no GPU")
    with pytest.raises(BackendUnavailableError) as caught:
        parse_backend(text, NAMES)
    assert message in str(caught.value)
