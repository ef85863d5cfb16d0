"""Which mpirun, and what it is told; with small scripts in the place of mpirun."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from distgrad.errors import LaunchError
from distgrad.launch import _library, _mpirun
from distgrad.launch._request import Request, parse
from tests.jobs import ROOT, clean_environment

HOSTFILE = ROOT / "launch" / "hostfile.example"
SLURM = {"SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "n[1-2]", "SLURM_TASKS_PER_NODE": "2(x2)"}
SAYS = {"openmpi": "mpirun (Open MPI) 5.0.11", "hydra": "HYDRA build details:"}
VERSIONS = {"openmpi": "Open MPI v5.0.11, package: x\0", "hydra": "MPICH Version: 5.0.2\nMPICH Release date: x"}


def fake_mpirun(folder: Path, family: str, name: str = "mpirun") -> str:
    folder.mkdir(exist_ok=True)
    file = folder / name
    file.write_text(f"#!/bin/sh\necho '{SAYS[family]}'\n")
    file.chmod(0o755)
    return str(file)


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """The folder beside Python, and one on PATH."""
    beside, path = tmp_path / "beside", tmp_path / "path"
    beside.mkdir()
    path.mkdir()
    monkeypatch.setattr(sys, "executable", str(beside / "python"))
    monkeypatch.setenv("PATH", f"{path}{os.pathsep}/bin{os.pathsep}/usr/bin")
    return beside, path


@pytest.mark.parametrize(
    ("version", "family"),
    [
        (VERSIONS["openmpi"], "openmpi"),
        (VERSIONS["hydra"], "hydra"),
        ("Intel(R) MPI Library 2021.13 for Linux* OS\n", "hydra"),
        ("MVAPICH Version : 4.0\n", "hydra"),
    ],
)
def test_families(version: str, family: str) -> None:
    assert _library.family_of(version) == family


def test_an_unknown_mpi_is_named() -> None:
    with pytest.raises(LaunchError, match=r"'Fujitsu MPI'.*own launcher"):
        _library.family_of("Fujitsu MPI\nmore")


@pytest.mark.parametrize("family", ["openmpi", "hydra"])
def test_the_mpirun_beside_python_comes_first(family: str, places: tuple[Path, Path]) -> None:
    wanted = fake_mpirun(places[0], family)
    fake_mpirun(places[1], family)
    assert _mpirun.find_mpirun(family) == wanted


def test_an_mpirun_of_another_mpi_is_passed_over(places: tuple[Path, Path]) -> None:
    fake_mpirun(places[0], "openmpi")
    wanted = fake_mpirun(places[1], "hydra", "mpiexec")
    assert _mpirun.find_mpirun("hydra") == wanted


def test_only_an_mpirun_of_another_mpi(places: tuple[Path, Path]) -> None:
    wrong = fake_mpirun(places[1], "openmpi")
    with pytest.raises(LaunchError, match=rf"expected an mpirun of MPICH.*found only {wrong} of another MPI.*pip inst"):
        _mpirun.find_mpirun("hydra")


@pytest.mark.usefixtures("places")
def test_no_mpirun() -> None:
    with pytest.raises(LaunchError, match=r"expected an mpirun of Open MPI.*found none; install one"):
        _mpirun.find_mpirun("openmpi")


def command(family: str, monkeypatch: pytest.MonkeyPatch, *argv: str, root: bool = False, batch: bool = False) -> str:
    """The mpirun line for these arguments of the launcher."""
    monkeypatch.setattr(_mpirun, "mpi_family", lambda: family)
    monkeypatch.setattr(_mpirun, "find_mpirun", lambda family: "mpirun")
    monkeypatch.setattr(os, "geteuid", lambda: 0 if root else 1000)
    for name in ("SLURM_JOB_ID", "PBS_NODEFILE", "LSB_HOSTS", "PE_HOSTFILE"):
        monkeypatch.delenv(name, raising=False)
    if batch:
        for name, value in SLURM.items():
            monkeypatch.setenv(name, value)
    request: Request = parse([*argv, __file__])
    return " ".join(_mpirun.mpirun_command(request))


ONE_NODE = "--oversubscribe --mca pml ob1 --mca btl self,sm"


def test_lines_of_mpich(monkeypatch: pytest.MonkeyPatch) -> None:
    assert command("hydra", monkeypatch, "-n", "4") == "mpirun -n 4"
    assert command("hydra", monkeypatch, "-n", "4", "--hosts", "a:2,b:2") == "mpirun -n 4 -hosts a:2,b:2"
    assert command("hydra", monkeypatch, "-n", "4", "--hostfile", str(HOSTFILE)) == "mpirun -n 4 -hosts node1:4,node2:4"


def test_lines_of_open_mpi(monkeypatch: pytest.MonkeyPatch) -> None:
    start = "mpirun -n 4 --bind-to none"
    assert command("openmpi", monkeypatch, "-n", "4") == f"{start} {ONE_NODE}"
    assert command("openmpi", monkeypatch, "-n", "4", root=True) == f"{start} --allow-run-as-root {ONE_NODE}"
    monkeypatch.setattr(_mpirun._env, "for_ranks", lambda given, bind: {"PATH": "", **dict(given)})
    hosts = f"{start} --host a:2,b:2 -x PATH"
    assert command("openmpi", monkeypatch, "-n", "4", "--hosts", "a:2,b:2") == hosts
    assert command("openmpi", monkeypatch, "-n", "4", "--hosts", "a:2,b:2", "-x", "LR=1") == f"{hosts} -x LR"
    assert command("openmpi", monkeypatch, "-n", "4", batch=True) == f"{start} --host n1:2,n2:2 -x PATH"


@pytest.mark.parametrize("missing", ["mpi4py", "libmpi"])
def test_no_mpi_library(missing: str, tmp_path: Path) -> None:
    """`-n` without MPI is an error that names the remedy; without `-n` the script runs."""
    package = tmp_path / "mpi4py"
    package.mkdir()
    (package / "__init__.py").write_text("raise ImportError('no mpi4py')" if missing == "mpi4py" else "class rc: ...\n")
    (package / "MPI.py").write_text("raise RuntimeError('cannot load MPI library')\n")
    (tmp_path / "script.py").write_text("print('ran')\n")
    environment = {**clean_environment(), "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    start = [sys.executable, "-m", "distgrad.launch"]
    results = [
        subprocess.run(
            [*start, *options, "script.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60
        )
        for options in (["-n", "2"], [])
    ]
    assert results[0].returncode == 2
    assert "-n needs an MPI library" in results[0].stderr and "pip install 'distgrad[mpich]'" in results[0].stderr
    assert (results[1].returncode, results[1].stdout) == (0, "ran\n")


@pytest.mark.parametrize(("file", "family"), [("libmpi.so.40.30.1", "openmpi"), ("libmpi.so.12.2.6", "hydra")])
def test_the_library_beside_python_is_known_without_loading_it(
    file: str, family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed(tmp_path, monkeypatch, file)
    assert _library._installed_family() is (None if family == "hydra" else family)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "hydra_pmi_proxy").touch()  # other libraries have MPICH's number too, with another mpirun
    assert _library._installed_family() == family
    assert _library.mpi_family() == family
    assert "mpi4py" not in sys.modules


def installed(prefix: Path, monkeypatch: pytest.MonkeyPatch, file: str) -> None:
    """A virtual environment with mpi4py's wheel and this library."""
    for name in ("MPI4PY_MPIABI", "MPI4PY_LIBMPI", "LD_PRELOAD"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delitem(sys.modules, "mpi4py", raising=False)
    (prefix / "lib").mkdir()
    (prefix / "lib" / file).write_bytes(b"\x7fELF")
    (prefix / "lib" / ".".join(file.split(".")[:3])).symlink_to(file)
    (prefix / "site" / "mpi4py").mkdir(parents=True)
    (prefix / "site" / "mpi4py" / "__init__.py").touch()
    (prefix / "site" / "mpi4py" / "MPI.openmpi.abi3.so").touch()
    monkeypatch.syspath_prepend(str(prefix / "site"))
    monkeypatch.setattr(sys, "exec_prefix", str(prefix))


@pytest.mark.parametrize(("file", "family"), [("libmpi.so.40", "openmpi"), ("libmpi.so.12", "hydra")])
def test_a_text_for_linkers_is_passed_over(
    file: str, family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in the wheels, where `libmpi.so` is one and the library has its number in its name."""
    installed(tmp_path, monkeypatch, f"{file}.1")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "hydra_pmi_proxy").touch()
    (tmp_path / "lib" / "libmpi.so").write_text(f"INPUT({file})\n")
    assert _library._installed_family() == family


@pytest.mark.parametrize("doubt", ["MPI4PY_LIBMPI", "compiled", "unknown"])
def test_where_that_is_in_doubt_the_library_is_asked(
    doubt: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed(tmp_path, monkeypatch, "libmpi.so.99.1" if doubt == "unknown" else "libmpi.so.40.30.1")
    if doubt == "MPI4PY_LIBMPI":
        monkeypatch.setenv(doubt, "/opt/other/libmpi.so")
    if doubt == "compiled":
        (tmp_path / "site" / "mpi4py" / "MPI.openmpi.abi3.so").unlink()
    assert _library._installed_family() is None
    monkeypatch.setattr(_library, "library_version", lambda: VERSIONS["hydra"])
    assert _library.mpi_family() == "hydra"


def test_the_parent_loads_neither_numpy_nor_mpi() -> None:
    """It starts in less than a tenth of a second."""
    code = "import sys, distgrad.launch; print(sorted({'numpy', 'mpi4py', 'distgrad.comm._shm'} & set(sys.modules)))"
    result = subprocess.run(
        [sys.executable, "-c", code], env=clean_environment(), capture_output=True, text=True, timeout=60
    )
    assert result.stdout == "[]\n", result.stderr
