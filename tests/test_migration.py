"""The scripts of the migration pages (docs/migrate-from-*.md) run, and the names in their tables exist.

Each page has one block of Python that begins with `# after`. It must print a falling loss, the same on one rank and on
two, because each of its steps sees the same samples on any number of ranks.
"""

import ast
import importlib
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import distgrad
from distgrad import nn
from distgrad.nn.parallel import DistributedDataParallel
from tests.jobs import ROOT, Mpi, Outcome, installed_mpis, run_job

PAGES = sorted((ROOT / "docs").glob("migrate-from-*.md"))
EVERY_PAGE = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
RTOL = {"migrate-from-horovod": 1e-2}  # gradients in 16 bits; else only the order of additions differs
EPOCHS = 5


def script_of(page: str, mark: str) -> str:
    """The block whose first line is this comment."""
    blocks = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    (script,) = [str(block) for block in blocks if block.startswith(f"# {mark}")]
    return script


def run(script: str, ranks: int, mpi: Mpi, folder: Path) -> Outcome:
    """Run it in a fresh folder of its own."""
    place = folder / f"{ranks}"
    place.mkdir()
    (place / "train.py").write_text(script)
    return run_job(mpi.job(ranks, "-m", "distgrad.launch", "train.py"), 60, place)


def losses(outcome: Outcome) -> list[float]:
    """What rank 0 has printed, one loss an epoch."""
    assert outcome.code == 0 and not outcome.timed_out, outcome.output
    found = re.findall(r"^epoch (\d+) loss (\S+)$", outcome.output, re.MULTILINE)
    assert [int(epoch) for epoch, _ in found] == list(range(EPOCHS)), outcome.output
    return [float(loss) for _, loss in found]


def check(script: str, mpi: Mpi, folder: Path, rtol: float) -> None:
    """The script trains, and does the same on one rank and on two."""
    one, two = (losses(run(script, ranks, mpi, folder)) for ranks in (1, 2))
    assert one[-1] < 0.6 * one[0]
    np.testing.assert_allclose(two, one, rtol=rtol)
    state = distgrad.load(folder / "2" / "model.pt")
    assert len(state.get("model", state)) == 4  # two weights, two biases
    assert not any(name.startswith("module.") for name in state.get("model", state))


@EVERY_PAGE
@pytest.mark.parametrize("mpi", installed_mpis(), ids=lambda mpi: mpi.name)
def test_the_script_trains(page: Path, mpi: Mpi, tmp_path: Path) -> None:
    check(script_of(page.read_text(), "after"), mpi, tmp_path, RTOL.get(page.stem, 1e-4))


@pytest.mark.parametrize(
    ("before", "after"),
    [("64 // dist.get_world_size()", "64"), ("optimizer.step()", "pass"), ("optim.", "optimizers.")],
    ids=["batch", "no step", "a name"],
)
def test_a_script_that_is_wrong_is_found(before: str, after: str, tmp_path: Path) -> None:
    script = script_of((ROOT / "docs" / "migrate-from-torch.md").read_text(), "after")
    assert before in script
    with pytest.raises(AssertionError):
        check(script.replace(before, after), installed_mpis()[0], tmp_path, 1e-4)


def test_a_model_that_is_not_wrapped_is_found(tmp_path: Path) -> None:
    """Its ranks train apart."""
    script = script_of((ROOT / "docs" / "migrate-from-chainermn.md").read_text(), "after")
    with pytest.raises(AssertionError):
        check(script.replace("DistributedDataParallel(Net())", "Net()"), installed_mpis()[0], tmp_path, 1e-4)


@EVERY_PAGE
def test_the_script_before_is_python(page: Path) -> None:
    ast.parse(script_of(page.read_text(), "before"))


# ---- names -------------------------------------------------------------------------------------------------------

ROOTS: dict[str, Any] = {
    "distgrad": distgrad,
    "nn": nn,
    "model": DistributedDataParallel,
    "DistributedDataParallel": DistributedDataParallel,
    **{name: importlib.import_module(f"distgrad.{name}") for name in ("checkpoint", "optim", "parallel")},
    "dist": importlib.import_module("distgrad.distributed"),
    "F": importlib.import_module("distgrad.nn.functional"),
    "default_hooks": importlib.import_module("distgrad.parallel.default_hooks"),
    "DataLoader": importlib.import_module("distgrad.utils.data").DataLoader,
}


def cells(page: str) -> list[str]:
    """The second column of all tables: what there is here."""
    rows = [line.strip().strip("|").split(" | ") for line in page.splitlines() if line.startswith("| ")]
    return [row[1] for row in rows if len(row) > 1]


def names(page: str) -> set[str]:
    """The dotted names of these columns that begin with a name that we know."""
    code = " ".join(code for cell in cells(page) for code in re.findall(r"`([^`]*)`", cell))
    found = re.findall(r"(?<![\w.])([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+)", code)
    return {name for name in found if name.split(".")[0] in ROOTS and not name.startswith("distgrad.launch")}


def is_there(name: str) -> bool:
    """Whether the name leads to something."""
    first, *rest = name.split(".")
    value = ROOTS[first]
    for part in rest:
        if not hasattr(value, part):
            return False
        value = getattr(value, part)
    return True


@EVERY_PAGE
def test_the_names_exist(page: Path) -> None:
    found = names(page.read_text())
    assert len(found) >= 8
    assert [name for name in sorted(found) if not is_there(name)] == []


def test_a_name_that_is_not_there_is_found() -> None:
    page = "| them | here |\n|---|---|\n| `a` | `with dist.nowhere(x):`, `nn.Linear` |\n"
    assert names(page) == {"dist.nowhere", "nn.Linear"}
    assert [is_there(name) for name in ("dist.nowhere", "nn.Linear")] == [False, True]
