"""`--elastic` where MPI cannot go on without a dead rank, as MPICH: the whole job starts again, after its last step.

The parent holds the snapshots that ranks write after each step (`_snapshot`), and tells a new start what happened.
"""

from .._snapshot import Snapshot
from ..errors import LaunchError

FRUITLESS = 5  # starts in a row that end before another step is done; then the job ends


class Revival:
    """Decides whether a job starts again, and from where.

    Args:
        ranks: of the job, in each start.

    Raises:
        LaunchError: the system has no memory that outlives processes.
    """

    def __init__(self, ranks: int) -> None:
        try:
            self._file = Snapshot.create(ranks)
        except OSError as error:
            raise LaunchError(f"--elastic needs Open MPI, or Linux with memfd: {error}") from error
        self._steps = 0
        self._fruitless = 0
        self._error: str | None = None
        self._lost: list[str] = []

    @property
    def options(self) -> list[str]:
        """What each rank is told on its command line."""
        return ["--snapshot", self._file.address, *self._lost]

    def revives(self, what: str, at: float, error: str | None) -> bool:
        """Whether the job shall start again; the next start is told why.

        Args:
            what: who died, in words.
            at: when, in seconds since the epoch.
            error: the last words of the rank, if there were some. A job that ends by the same error twice, with no step
                in between, would do so for ever.
        """
        steps = self._file.drop_incomplete()
        self._fruitless = 0 if steps > self._steps else self._fruitless + 1
        same = error is not None and error == self._error and steps == self._steps
        self._steps, self._error = steps, error
        self._lost = ["--lost", f"{at} {what}"]
        return not same and self._fruitless < FRUITLESS

    def close(self) -> None:
        """Forget the snapshots."""
        self._file.close()
