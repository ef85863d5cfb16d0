"""One exception tree: every error that distgrad raises on purpose derives from `DistgradError`.

Each class also derives from the built-in that torch raises in the same place, so `except RuntimeError` keeps working.
"""


class DistgradError(Exception):
    """Base of all errors raised on purpose by distgrad."""


class ShapeError(DistgradError, RuntimeError):
    """Shapes do not fit the operation."""


class DTypeError(DistgradError, TypeError, RuntimeError):
    """A dtype is not accepted here, or two dtypes cannot be combined."""


class DeviceError(DistgradError, RuntimeError):
    """A device does not exist, or tensors lie on different devices."""


class AutogradError(DistgradError, RuntimeError):
    """The graph does not allow what was asked: freed, modified in place, or not requiring grad."""


class LinAlgError(DistgradError, RuntimeError):
    """A matrix does not have the decomposition or the inverse that was asked for."""


class StateDictError(DistgradError, RuntimeError):
    """A state dict does not match the module or optimizer that it is loaded into."""


class CheckpointError(DistgradError, RuntimeError):
    """A file is not a complete checkpoint, or holds what loading refuses to execute."""


class CommError(DistgradError, RuntimeError):
    """A communication call is wrong, or the group cannot work any more."""


class BackendUnavailableError(CommError):
    """The communication backend that was asked for cannot run here; the message says why."""


class CollectiveMismatchError(CommError):
    """Ranks met in different collectives, or with different shapes or dtypes."""


class DeadlockError(CommError):
    """Ranks wait for each other in a circle, so that none of them can get on."""


class PeerLostError(CommError):
    """Another rank died, or left, while this one was waiting for it."""


class CommTimeoutError(CommError, TimeoutError):
    """A peer did not arrive within the timeout of the process group."""


class ReplicaError(CommError):
    """Ranks that must have the same parameters do not."""


class LaunchError(DistgradError):
    """The launcher's command line or its surroundings cannot work."""


class ChaosError(DistgradError, RuntimeError):
    """An error that the user asked for, with `--chaos` of the launcher."""
