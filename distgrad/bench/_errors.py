"""What can be wrong with a measurement that was asked for."""

from ..errors import DistgradError


class BenchError(DistgradError):
    """A measurement cannot run as it was asked for, or its file does not hold what it should."""
