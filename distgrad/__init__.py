"""distgrad: data-parallel training on many processes, under torch's names.

    import distgrad as torch

This page offers what `_names.py` lists, and gives torch's names to pages that live elsewhere:
`distgrad.distributed`, `distgrad.nn.parallel`, `distgrad.utils.data`. Everything that needs NumPy loads when it is
first asked for, so that command lines and launchers start quickly.
"""

# isort: off
from . import _environment as _environment  # first: it decides thread counts before NumPy loads
# isort: on

import sys as _sys
from importlib import import_module as _import_module
from types import ModuleType as _ModuleType
from typing import TYPE_CHECKING
from typing import Any as _Any

from ._environment import show_config as show_config
from ._pages import Alias as _Alias
from ._pages import page as _page
from ._version import __version__ as __version__

if TYPE_CHECKING:
    from . import _replay, checkpoint, comm, nn, optim
    from . import data as _data
    from . import parallel as _parallel
    from ._names import *  # noqa: F403
    from ._replay import compile as compile
    from .checkpoint import fingerprint as fingerprint
    from .checkpoint import load as load
    from .checkpoint import save as save
    from .comm import is_rank_zero as is_rank_zero
    from .comm import rank_zero as rank_zero
    from .parallel import DistributedDataParallel as DistributedDataParallel
else:
    _replay, checkpoint, comm, nn, optim, _data, _parallel = (
        _page(f"{__name__}.{_name}") for _name in ("_replay", "checkpoint", "comm", "nn", "optim", "data", "parallel")
    )

# Pages that torch names in a lower package, and aliases: importable by these names too.
data, parallel = _data, _parallel  # where `import distgrad.data` looks for it
distributed = comm
utils = _ModuleType("distgrad.utils", "Pages that torch keeps under `torch.utils`.")
utils.data = _data  # type: ignore[attr-defined]
utils.checkpoint = _recompute = _page(f"{__name__}._activation_checkpoint")  # type: ignore[attr-defined]
nn.parallel = _parallel  # type: ignore[attr-defined]
_elsewhere = {"distributed": comm, "nn.parallel": _parallel, "utils": utils, "utils.data": _data}
for _name, _module in {**_elsewhere, "utils.checkpoint": _recompute}.items():
    _sys.modules[f"{__name__}.{_name}"] = _module


# Pages of torch.distributed: whole modules of `parallel`, or some of its names.
for _name, _source in {
    "optim": lambda: _parallel,
    "nn": lambda: _parallel,
    "nn.functional": lambda: _parallel.functional,
    "algorithms": lambda: _parallel,
    "algorithms.join": lambda: _parallel,
    "algorithms.ddp_comm_hooks": lambda: _parallel,
    "algorithms.ddp_comm_hooks.default_hooks": lambda: _parallel.default_hooks,
    "algorithms.ddp_comm_hooks.powerSGD_hook": lambda: _parallel.powerSGD_hook,
    "algorithms.ddp_comm_hooks.post_localSGD_hook": lambda: _parallel.post_localSGD_hook,
    "algorithms.model_averaging": lambda: _parallel,
    "algorithms.model_averaging.averagers": lambda: _parallel,
}.items():
    _alias = _sys.modules[f"{__name__}.distributed.{_name}"] = _Alias(f"{__name__}.distributed.{_name}", _source)
    _above, _, _last = f"distributed.{_name}".rpartition(".")
    setattr(_sys.modules[f"{__name__}.{_above}"], _last, _alias)

_FROM_PAGES = {
    "compile": _replay,
    "save": checkpoint,
    "load": checkpoint,
    "fingerprint": checkpoint,
    "DistributedDataParallel": _parallel,
    "rank_zero": comm,
    "is_rank_zero": comm,
}
_MODULES = ("autograd", "cuda", "futures", "linalg", "ops", "special")


def __getattr__(name: str) -> _Any:
    if name in _FROM_PAGES:
        return getattr(_FROM_PAGES[name], name)
    if name in _MODULES:  # alone: a module that imports one of these may itself be on its way into the names
        return _import_module(f"{__name__}.{name}")
    if not name.startswith("_") or name == "__all__":
        _load_names()
        if name in globals():
            return globals()[name]
    raise AttributeError(f"module 'distgrad' has no attribute {name!r}")


def __dir__() -> list[str]:
    _load_names()
    return sorted({*globals(), *_FROM_PAGES})


def _load_names() -> None:
    names = vars(_import_module(f"{__name__}._names"))
    globals().update((name, value) for name, value in names.items() if not name.startswith("_"))
    globals()["__all__"] = [name for name in globals() if not name.startswith("_")]  # for `from distgrad import *`


def _of_nn(name: str) -> _Any:
    """What torch has in `nn` and we have in a package above it."""
    if name == "SyncBatchNorm":
        return _parallel.SyncBatchNorm
    raise AttributeError(f"module 'distgrad.nn' has no attribute {name!r}")


nn.__getattr__ = _of_nn  # type: ignore[method-assign]

if _environment.job.in_mpi_job:
    from .comm import _abort

    _abort.install()  # from here on, an error on one rank ends all of them
