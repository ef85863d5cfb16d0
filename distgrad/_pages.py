"""Packages that are loaded when something in them is first asked for, so that `import distgrad` stays quick.

`importlib.util.LazyLoader` does this too, but two threads could load a module twice before Python 3.12.
"""

import sys
import threading
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from importlib.util import find_spec, module_from_spec
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from importlib.abc import Loader
else:
    Loader = object  # importlib.abc loads tempfile and more, which takes longer than all else here


class Page(ModuleType):
    """A module whose code has not run yet. It becomes a plain module when it has."""

    def __getattr__(self, name: str) -> Any:
        state = self.__dict__
        with state["__page_lock__"]:
            if state["__page_loading__"]:  # its own code asks, in the thread that loads it
                raise AttributeError(f"module {self.__name__!r} has no attribute {name!r} yet")
            if isinstance(self, Page):
                state["__page_loading__"] = True
                state["__path__"] = self.__spec__.submodule_search_locations  # type: ignore[union-attr]
                try:
                    self.__spec__.loader.exec_module(self)  # type: ignore[union-attr]
                finally:
                    state["__page_loading__"] = False
                self.__class__ = ModuleType  # type: ignore[assignment]
        return getattr(self, name)


class _Meanwhile(Loader):
    """Keeps a module from being loaded twice, where its import begins with the loading of a page that needs it too.

    Python looks into sys.modules before it asks the package for its path, which loads the page, and not afterwards.
    """

    def find_spec(self, name: str, path: Any = None, target: ModuleType | None = None) -> ModuleSpec | None:
        """A finder of `sys.meta_path`: knows what is there already."""
        is_there = target is None and name in sys.modules and name.rpartition(".")[0] in _names
        return ModuleSpec(name, self) if is_there else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """The module that is there, with its own spec beside the new one."""
        module = sys.modules[spec.name]
        spec.loader_state = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Nothing is executed again."""
        assert module.__spec__ is not None
        module.__spec__ = module.__spec__.loader_state


_names: set[str] = set()  # of pages
sys.meta_path.insert(0, _Meanwhile())


def page(name: str) -> Any:
    """The module of this full name: as it is if it was imported, else to be loaded on first use."""
    if name in sys.modules:
        return sys.modules[name]
    spec = find_spec(name)
    assert spec is not None
    module = module_from_spec(spec)
    module.__dict__.update(__page_lock__=threading.RLock(), __page_loading__=False)
    module.__dict__.pop("__path__", None)  # the import of a module inside asks for it, and so loads the package first
    module.__class__ = Page
    sys.modules[name] = module
    _names.add(name)
    package, _, short = name.rpartition(".")
    if package:
        setattr(sys.modules[package], short, module)  # as an import does
    return module


class Alias(ModuleType):
    """A module under another name than its own, or some names of one: it asks that one for everything.

    Args:
        name: the full name.
        source: gives the module that has the names; called when the first is asked for.
    """

    def __init__(self, name: str, source: Callable[[], Any]) -> None:
        super().__init__(name)
        self.__dict__["__alias_of__"] = source

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        return getattr(self.__dict__["__alias_of__"](), name)
