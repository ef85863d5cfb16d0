"""The elastic group without MPI; tests/launch/test_elastic.py has it with one, and with deaths."""

from types import SimpleNamespace
from typing import Any

import pytest

from distgrad.comm._elastic import ElasticCommunicator


class MpiError(Exception):
    """Of a class that MPI numbers."""

    def Get_error_class(self) -> int:
        return int(self.args[0])


MPI = SimpleNamespace(Exception=MpiError, ERR_PROC_FAILED=75, ERR_PROC_FAILED_PENDING=76, ERR_REVOKED=77)


def attempt(number: int, revoked: bool) -> tuple[bool, list[str]]:
    """Whether an attempt went well in which MPI raised an error, and what the group did then."""
    done: list[str] = []
    group: Any = object.__new__(ElasticCommunicator)
    group._mpi, group._noticed = MPI, None
    group._comm = SimpleNamespace(Is_revoked=lambda: revoked, Revoke=lambda: done.append("revoke"))

    def fail() -> None:
        raise MpiError(number)

    return group.attempt(fail), done


@pytest.mark.parametrize(("number", "revoked"), [(75, False), (76, False), (77, True), (16, True)])
def test_errors_of_deaths_make_an_attempt_void(number: int, revoked: bool) -> None:
    """Open MPI has other errors, too, where another rank has noticed a death first."""
    assert attempt(number, revoked) == (False, ["revoke"])


def test_other_errors_are_raised() -> None:
    with pytest.raises(MpiError):
        attempt(16, False)
