"""Runs examples/same_bits.py on 3 ranks, of which rank 1 dies between two messages: rank 2 has all, rank 0 has not.

python -m distgrad.launch --elastic -n 3 tests/launch/elastic_split.py sound|no_agreement|stopped

`stopped`: it does not die, but is stopped when all others have come to the agreement.
"""

import os
import runpy
import signal
import sys
import time
from pathlib import Path
from typing import Any

from distgrad.comm._elastic import _MEETING_TAG, ElasticCommunicator, MessageMeeting

DEADLY = 5  # the step's sum, from 1, at whose end it happens

real, real_commit = MessageMeeting.maximum, ElasticCommunicator.commit
sums = 0


def maximum(self: MessageMeeting, values: Any, doing: str) -> Any:
    """As it is; but rank 1 tells only one of the others that it has come to the end of a sum, and dies."""
    global sums
    sums += values.size == 1
    if sums == DEADLY and self._comm.rank == 1 and self._comm.size == 3:
        self._comm.Send(values, 2, _MEETING_TAG)
        time.sleep(0.1)
        os.kill(os.getpid(), signal.SIGKILL)
    return real(self, values, doing)


def stop(self: ElasticCommunicator, went_well: bool) -> bool:
    """As it is; but rank 1 is stopped when the others have come to the agreement."""
    if sums == DEADLY - 1 and self.rank == 1:
        os.kill(os.getpid(), signal.SIGSTOP)
    return real_commit(self, went_well)


def commit(self: ElasticCommunicator, went_well: bool) -> bool:
    """What a rank would do that asks nobody."""
    if not went_well:
        self._shrink()
    return went_well


MessageMeeting.maximum = maximum  # type: ignore[method-assign]
if sys.argv[1] == "no_agreement":
    ElasticCommunicator.commit = commit  # type: ignore[method-assign]
if sys.argv[1] == "stopped":
    ElasticCommunicator.commit = stop  # type: ignore[method-assign]
script = Path(__file__).parents[2] / "examples" / "same_bits.py"
sys.argv = [str(script), "--model", "mlp", "--steps", "30"]
runpy.run_path(str(script), run_name="__main__")
