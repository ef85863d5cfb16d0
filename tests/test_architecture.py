"""The rules of the house that a program can check, by reading the source of `distgrad/` with `ast`.

Each rule is a function from the source tree to the sentences that say where it is broken, and is itself tested on a
small tree with that bug planted. Rules that bend (long files, long functions) only warn.
"""

import ast
import re
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parent.parent

# A module imports from lower levels or from its own package; packages on one level are strangers.
LEVELS = {
    "_binding": -1,  # arithmetic on cores, for _environment
    "_snapshot": -1,  # a file, for _survivors
    "_blas": 0,
    "_environment": 0,
    "_pages": 0,
    "_lifeline": 0,
    "_shard": 0,
    "_survivors": 0,
    "_parent_death": 0,
    "_reports": 0,
    "_typing": 0,
    "_version": 0,
    "errors": 0,
    "futures": 0,
    "backend": 1,
    "autograd": 2,
    "comm": 2,
    "ops": 3,
    "_tensor_str": 3,
    "_tensor_form": 3.5,  # this and the next two are parts of Tensor
    "_tensor_inplace": 3.5,
    "_tensor_methods": 3.5,
    "_tensor": 4,
    "cuda": 4,
    "linalg": 4,
    "special": 4,
    "_type_names": 4.5,
    "_parameter": 4.5,  # a Tensor by another name
    "_activation_checkpoint": 4.5,  # the page utils.checkpoint
    "arena": 5,
    "nn": 5,
    "data": 5,
    "optim": 6,
    "parallel": 7,
    "amp": 7,
    "checkpoint": 7,
    "metrics": 7,
    "onnx": 7,
    "profiler": 7,
    "_replay": 8,
    "launch": 8,
    "bench": 9,
    "testing": 9,
    "_names": 9.5,  # lists names of the tensors' layers for the top page
    "": 10,  # distgrad/__init__.py, which assembles the public pages
}

MAY_IMPORT_CUPY = ("backend/", "comm/device/_nccl.py")
MAY_READ_ENVIRONMENT = ("_environment.py", "comm/_init.py", "launch/_env.py")
GRAB_BAGS = {"utils", "util", "helpers", "common", "misc"}
TORCH_PAGES = ("nn.utils",)  # torch's names for pages; they list what modules of better names define

LONG_FILE = 450  # lines
LONG_FUNCTION = 60  # lines
# Reviewed: longer than that, and better so. "path" or "path:function" to the reason.
LONG_ON_PURPOSE: dict[str, str] = {
    "nn/_module.py": "one class, with torch's methods, each of a few lines",
    "ops/__init__.py": "the page of all operations, a line for each",
}


class Module(NamedTuple):
    """One source file of the package."""

    name: str  # dotted, below the package: "comm.diagnosis._board"; "" is the package's own __init__
    path: str  # below the package, with slashes: "comm/diagnosis/_board.py"
    nodes: list[tuple[ast.AST, bool]]  # all of its syntax tree, with whether it lies in a function
    lines: int
    is_package: bool

    @property
    def top(self) -> str:
        """The first part of the name, which has a level."""
        return self.name.partition(".")[0]


class Import(NamedTuple):
    """One imported module or name: "comm.diagnosis._board.Board" below the package, or "numpy.linalg" outside it."""

    target: str
    internal: bool
    line: int
    in_function: bool


def read(root: Path) -> list[Module]:
    """All source files of `root/distgrad`."""
    package = root / "distgrad"
    modules = []
    for file in sorted(package.rglob("*.py")):
        path = file.relative_to(package)
        parts = path.parent.parts if file.name == "__init__.py" else (*path.parent.parts, path.stem)
        text = file.read_text()
        found = nodes(ast.parse(text, str(file)))
        modules.append(Module(".".join(parts), path.as_posix(), found, text.count("\n"), file.name == "__init__.py"))
    return modules


def nodes(tree: ast.AST) -> list[tuple[ast.AST, bool]]:
    """All nodes with whether they lie in a function; leaves out what only type checkers execute."""
    found: list[tuple[ast.AST, bool]] = []
    rest = [(tree, False)]
    while rest:
        parent, in_function = rest.pop()
        in_function = in_function or isinstance(parent, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for node in ast.iter_child_nodes(parent):
            if not (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)):
                found.append((node, in_function))
                rest.append((node, in_function))
    return found


def imports(module: Module) -> Iterator[Import]:
    """What a module imports when it runs."""
    for node, in_function in module.nodes:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield make_import(alias.name, node.lineno, in_function)
        elif isinstance(node, ast.ImportFrom):
            base = absolute(module, node)
            for alias in node.names:
                yield make_import(f"{base}.{alias.name}", node.lineno, in_function)


def make_import(name: str, line: int, in_function: bool) -> Import:
    """An import of a dotted name."""
    top, _, rest = name.partition(".")
    return Import(rest, True, line, in_function) if top == "distgrad" else Import(name, False, line, in_function)


def absolute(module: Module, node: ast.ImportFrom) -> str:
    """The dotted name that `from ... import` starts from."""
    if node.level == 0:
        return node.module or ""
    package = ["distgrad", *(module.name.split(".") if module.name else [])]
    up = node.level - 1 if module.is_package else node.level
    return ".".join([*package[: len(package) - up], *([node.module] if node.module else [])])


def resolve(target: str, names: set[str]) -> str:
    """The module that an imported name lives in: "comm.diagnosis._board.Board" is in "comm.diagnosis._board"."""
    while target and target not in names:
        target = target.rpartition(".")[0]
    return target


# ---- rules -----------------------------------------------------------------------------------------------------------


def upward_imports(modules: list[Module]) -> list[str]:
    """A module imports from lower levels or from its own package."""
    tops = {module.top for module in modules}
    problems = [f"{m.path}: {m.top!r} has no level in LEVELS" for m in modules if m.top not in LEVELS]
    for module in modules:
        for item in imports(module):
            first = item.target.partition(".")[0]
            top = first if first in tops else ""
            if not item.internal or top == module.top or module.top not in LEVELS or top not in LEVELS:
                continue
            if LEVELS[top] >= LEVELS[module.top]:
                problems.append(
                    f"{module.path}:{item.line}: level {LEVELS[module.top]} imports {top or 'distgrad itself'!r} "
                    f"of level {LEVELS[top]}"
                )
    return problems


def import_cycles(modules: list[Module]) -> list[str]:
    """No module imports itself, by whatever detour."""
    names = {module.name for module in modules}
    graph = {
        module.name: {resolve(item.target, names) for item in imports(module) if item.internal} - {module.name}
        for module in modules
    }
    while leaves := {name for name, targets in graph.items() if not targets & graph.keys()}:
        graph = {name: targets for name, targets in graph.items() if name not in leaves}
    return [f"import cycle: {' -> '.join(walk_cycle(graph))}"] if graph else []


def walk_cycle(graph: dict[str, set[str]]) -> list[str]:
    """One cycle of a graph in which every node leads to another."""
    path = [min(graph)]
    while path[-1] not in path[:-1]:
        path.append(min(graph[path[-1]] & graph.keys()))
    return path[path.index(path[-1]) :]


def imports_in_functions(modules: list[Module]) -> list[str]:
    """Modules of the package are imported at the top, where they can be seen."""
    return [
        f"{module.path}:{item.line}: imports {item.target!r} inside a function"
        for module in modules
        for item in imports(module)
        if item.internal and item.in_function
    ]


def cupy_imports(modules: list[Module]) -> list[str]:
    """Only the backend (and NCCL) knows CuPy."""
    return foreign_imports(modules, ("cupy", "cupyx"), MAY_IMPORT_CUPY)


def torch_imports(modules: list[Module]) -> list[str]:
    """Torch is what we are compared with, never what we stand on."""
    return foreign_imports(modules, ("torch",), ())


def foreign_imports(modules: list[Module], tops: tuple[str, ...], allowed: tuple[str, ...]) -> list[str]:
    """Imports of these libraries outside the allowed paths."""
    return [
        f"{module.path}:{item.line}: imports {item.target!r}"
        for module in modules
        for item in imports(module)
        if not item.internal and item.target.partition(".")[0] in tops and not module.path.startswith(allowed)
    ]


def bare_excepts(modules: list[Module]) -> list[str]:
    """An `except:` without a class hides what nobody thought of."""
    return [
        f"{module.path}:{node.lineno}: bare except"
        for module in modules
        for node, _ in module.nodes
        if isinstance(node, ast.ExceptHandler) and node.type is None
    ]


def array_module_branches(modules: list[Module]) -> list[str]:
    """`xp is numpy` and its kin: what differs between array modules belongs into backend/."""
    libraries = {"np", "numpy", "cp", "cupy"}
    problems = []
    for module in modules:
        for node, _ in module.nodes:
            if isinstance(node, ast.Compare) and not module.path.startswith("backend/"):
                sides = {side.id for side in (node.left, *node.comparators) if isinstance(side, ast.Name)}
                if sides & libraries:
                    problems.append(f"{module.path}:{node.lineno}: branches on the array module")
    return problems


def environment_reads(modules: list[Module]) -> list[str]:
    """Three files know the environment; all others are told."""
    problems = []
    for module in modules:
        for node, _ in module.nodes:
            attribute = isinstance(node, ast.Attribute) and node.attr in ("environ", "environb", "getenv")
            name = isinstance(node, ast.ImportFrom) and node.module == "os" and "env" in ast.dump(node)
            if (attribute or name) and module.path not in MAY_READ_ENVIRONMENT:
                problems.append(f"{module.path}:{node.lineno}: reads the environment")
    return problems


def grab_bags(modules: list[Module]) -> list[str]:
    """A module is named for what it holds."""
    return [
        f"{module.path}: a grab-bag by name"
        for module in modules
        if GRAB_BAGS & set(module.name.split(".")) and not module.name.startswith(TORCH_PAGES)
    ]


def long_files(modules: list[Module]) -> list[str]:
    """A file that no longer fits in one's head."""
    return [
        f"{module.path}: {module.lines} lines, more than {LONG_FILE}"
        for module in modules
        if module.lines > LONG_FILE and module.path not in LONG_ON_PURPOSE
    ]


def long_functions(modules: list[Module]) -> list[str]:
    """A function that no longer fits on one screen."""
    problems = []
    for module in modules:
        for node, _ in module.nodes:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                if length > LONG_FUNCTION and f"{module.path}:{node.name}" not in LONG_ON_PURPOSE:
                    problems.append(f"{module.path}:{node.lineno}: {node.name} has {length} lines")
    return problems


Rule = Callable[[list[Module]], list[str]]
RULES: tuple[Rule, ...] = (
    upward_imports,
    import_cycles,
    imports_in_functions,
    cupy_imports,
    torch_imports,
    bare_excepts,
    array_module_branches,
    environment_reads,
    grab_bags,
)
ADVICE: tuple[Rule, ...] = (long_files, long_functions)


# ---- the package against the rules -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def package() -> list[Module]:
    return read(ROOT)


def test_package_is_found(package: list[Module]) -> None:
    assert {"errors", "comm", "launch"} <= {module.top for module in package}


@pytest.mark.parametrize("rule", RULES)
def test_package_keeps_rule(rule: Rule, package: list[Module]) -> None:
    assert rule(package) == []


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("rule", ADVICE)
def test_package_hears_advice(rule: Rule, package: list[Module]) -> None:
    findings = rule(package)
    for finding in findings:
        warnings.warn(finding, stacklevel=1)
    assert len(findings) < 20, "advice that is never followed; shorten, or enter reasons into LONG_ON_PURPOSE"


def test_reviewed_exceptions_exist(package: list[Module]) -> None:
    """A reason for a file or function that is gone must go as well."""
    functions = {
        f"{module.path}:{node.name}"
        for module in package
        for node, _ in module.nodes
        if isinstance(node, ast.FunctionDef)
    }
    assert set(LONG_ON_PURPOSE) <= {module.path for module in package} | functions


def test_no_test_or_example_imports_torch() -> None:
    files = [file for folder in ("tests", "examples") for file in (ROOT / folder).rglob("*.py")]
    modules = [Module("", str(file), nodes(ast.parse(file.read_text())), 0, False) for file in files]
    assert torch_imports(modules) == []


def test_no_test_replaces_the_clock_of_all_threads() -> None:
    # A thread of an earlier test then naps on the replacement, which has filled the memory twice.
    replaced = re.compile(r"setattr\((time, |[\"']time\\.)")
    assert replaced.search('monkeypatch.setattr(time, "sleep", nap)')
    files = [file for file in (ROOT / "tests").rglob("*.py") if replaced.search(file.read_text())]
    assert files == [Path(__file__)]


# ---- the rules against planted bugs ----------------------------------------------------------------------------------

SOUND = {
    "__init__.py": "from ._tensor import Tensor as Tensor\n",
    "errors.py": "class ShapeError(Exception): ...\n",
    "_environment.py": "import os\nos.environ.get('A')\n",
    "backend/__init__.py": "from ._numpy import add as add\n",
    "backend/_numpy.py": "import cupy\ndef add(xp):\n    return xp is cupy\n",
    "comm/__init__.py": "from ._types import Work as Work\n",
    "comm/_types.py": "from ..errors import ShapeError\nclass Work: ...\n",
    "ops/__init__.py": "from ._add import add as add\n",
    "ops/_add.py": (
        "from typing import TYPE_CHECKING\nfrom .. import backend\n"
        "if TYPE_CHECKING:\n    from .._tensor import Tensor\n"
        "def add(a):\n    import scipy\n    try:\n        return a\n    except ValueError:\n        return backend\n"
    ),
    "_tensor.py": "from .ops import add\nclass Tensor: ...\n",
}

PLANTED: list[tuple[Rule, str, str]] = [
    (upward_imports, "ops/_bad.py", "from .._tensor import Tensor\n"),
    (upward_imports, "ops/_bad.py", "from distgrad._tensor import Tensor\n"),
    (upward_imports, "ops/_bad.py", "import distgrad._tensor\n"),
    (upward_imports, "ops/_bad.py", "from distgrad import Tensor\n"),
    (upward_imports, "ops/_bad.py", "def f():\n    from .. import _tensor\n"),
    (upward_imports, "autograd/_bad.py", "from ..comm import Work\n"),
    (upward_imports, "bad/_new.py", "x = 1\n"),
    (import_cycles, "ops/_add.py", "from . import add as bad\n"),
    (import_cycles, "ops/_add.py", "from ._bad import x\n"),
    (imports_in_functions, "ops/_bad.py", "def f():\n    from ..errors import ShapeError\n"),
    (imports_in_functions, "ops/_bad.py", "class A:\n    def f(self):\n        import distgrad.errors\n"),
    (cupy_imports, "ops/_bad.py", "import cupy as cp\n"),
    (cupy_imports, "comm/_bad.py", "def f():\n    from cupyx import distributed\n"),
    (torch_imports, "ops/_bad.py", "from torch.nn import Linear\n"),
    (bare_excepts, "ops/_bad.py", "try:\n    pass\nexcept:\n    pass\n"),
    (array_module_branches, "ops/_bad.py", "def f(xp):\n    return 1 if xp is numpy else 2\n"),
    (array_module_branches, "ops/_bad.py", "def f(xp):\n    if np == xp: pass\n"),
    (environment_reads, "ops/_bad.py", "import os\nx = os.environ['A']\n"),
    (environment_reads, "ops/_bad.py", "from os import getenv\n"),
    (grab_bags, "ops/utils.py", "bad = 1\n"),
    (long_files, "ops/_bad.py", "x = 1\n" * (LONG_FILE + 1)),
    (long_functions, "ops/_bad.py", "def f():\n" + "    x = 1\n" * LONG_FUNCTION),
]


def plant(root: Path, files: dict[str, str]) -> list[Module]:
    for name, text in files.items():
        file = root / "distgrad" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return read(root)


@pytest.mark.parametrize("rule", RULES + ADVICE)
def test_rule_accepts_sound_tree(rule: Rule, tmp_path: Path) -> None:
    assert rule(plant(tmp_path, SOUND)) == []


@pytest.mark.parametrize(("rule", "name", "text"), PLANTED)
def test_rule_finds_planted_bug(rule: Rule, name: str, text: str, tmp_path: Path) -> None:
    files = {**SOUND, "ops/_bad.py": "from ._add import add\n", name: text}  # with that _add, a cycle
    if rule is import_cycles:
        assert "ops._add" in rule(plant(tmp_path, files))[0]
    else:
        assert name in rule(plant(tmp_path, files))[0]
