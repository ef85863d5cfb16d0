"""A Slurm for tests: `sbatch`, `srun` and `scontrol` that start the tasks for real, on this machine.

Each node is a namespace with its own host name, so that a wrong name leads nowhere. Tasks of srun are connected by the
PMI of MPICH's own Hydra, as those of Slurm's pmi2 plugin would be, and know themselves by Slurm's variables alone.
`install` writes the commands into a folder; each of them is this file.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

NODES = ("node1", "node2")
JOB = "4711"


def can_run() -> str | None:
    """Why there can be no such Slurm here; None if there can."""
    if shutil.which("unshare") is None:
        return "no unshare, which gives each node a host name"
    result = subprocess.run(["unshare", "--uts", "--mount", "hostname", NODES[0]], capture_output=True, text=True)
    return None if result.returncode == 0 else f"no namespaces for host names: {result.stderr.strip()}"


def install(folder: Path, python: str, bug: str = "") -> None:
    """Write the commands; `python` is that of the MPI that the tasks use, `bug` the fault to plant."""
    folder.mkdir()
    (folder / "hosts").write_text("".join(f"127.0.0.1 {name}\n" for name in ("localhost", *NODES)))
    for name in ("sbatch", "srun", "scontrol", "ssh"):
        file = folder / name
        words = [sys.executable, __file__, name, str(folder), python, bug or "-"]
        file.write_text(f'#!/bin/sh\nexec {" ".join(words)} "$@"\n')
        file.chmod(0o755)


class Stub:
    """One command, with where it was installed."""

    def __init__(self, folder: str, python: str, bug: str) -> None:
        self.folder, self.python, self.bug = Path(folder), python, bug

    def on_node(self, node: str, command: list[str]) -> list[str]:
        """The command line that runs a command on this node."""
        inside = f'hostname {node} && mount --bind {self.folder / "hosts"} /etc/hosts && exec "$@"'
        return ["unshare", "--uts", "--mount", "sh", "-c", inside, "sh", *command]

    def sbatch(self, arguments: list[str]) -> None:
        """Run the batch script on the first node, with the variables of its options; the command line wins."""
        given = [argument for argument in arguments if argument.startswith("--")]
        script, *rest = [argument for argument in arguments if not argument.startswith("--")]
        lines = re.findall(r"^#SBATCH (--\S+)", Path(script).read_text(), re.MULTILINE)
        options = dict(option[2:].partition("=")[::2] for option in (*lines, *given))
        nodes, tasks = int(options["nodes"]), int(options["ntasks-per-node"])
        names = {
            **dict.fromkeys(("SLURM_JOB_ID", "SLURM_JOBID"), JOB),  # the new names, and the old ones
            **dict.fromkeys(("SLURM_JOB_NODELIST", "SLURM_NODELIST"), f"node[1-{nodes}]"),
            "SLURM_NNODES": nodes,
            "SLURM_JOB_NUM_NODES": nodes,
            "SLURM_NTASKS": nodes * tasks,
            "SLURM_NTASKS_PER_NODE": tasks,
            "SLURM_TASKS_PER_NODE": f"{tasks}(x{nodes})",
            "SLURM_CPUS_PER_TASK": options["cpus-per-task"],
            "SLURM_SUBMIT_DIR": os.getcwd(),
            "SLURM_NODEID": 0,
            "SLURM_PROCID": 0,
            "SLURM_LOCALID": 0,
        }
        os.environ.update({name: str(value) for name, value in names.items()})
        spooled = self.folder / "slurm_script"  # Slurm runs a copy, from a place of its own
        shutil.copy(script, spooled)
        self._exec(self.on_node(NODES[0], ["bash", str(spooled), *rest]))

    def scontrol(self, arguments: list[str]) -> None:
        """`scontrol show hostnames "node[1-2]"`."""
        assert arguments[:2] == ["show", "hostnames"], arguments
        matched = re.fullmatch(r"node\[1-(\d+)\]", arguments[2])
        assert matched, arguments
        names = NODES[: int(matched[1])]
        print("\n".join(reversed(names) if self.bug == "hosts reversed" else names))

    def ssh(self, arguments: list[str]) -> None:
        """Run a command on a node, which is how an Open MPI starts ranks that does not find Slurm."""
        _, (node, *command) = _split(arguments)
        self._exec(self.on_node(node, ["sh", "-c", " ".join(command)]))

    def srun(self, arguments: list[str]) -> None:
        """Start tasks on all nodes of the job, or what mpirun wants on each of the nodes that it names."""
        options, command = _split(arguments)
        if "version" in options:  # Open MPI asks, and takes ssh where there is no answer
            print("slurm 23.11.0")
            sys.exit(0)
        if "nodelist" in options:  # mpirun's own helpers: one a node, in no need of PMI
            self._start_helpers(options, command)
            return
        per_node = int(os.environ["SLURM_NTASKS_PER_NODE"])
        nodes = NODES[: int(os.environ["SLURM_JOB_NUM_NODES"])]
        hosts = ",".join(f"{node}:{per_node}" for node in nodes)
        mpirun = [str(Path(self.python).with_name("mpirun")), "-launcher", "fork", "-rmk", "user", "-hosts", hosts]
        task = [sys.executable, __file__, "task", str(self.folder), self.python, self.bug, options["mpi"], *command]
        self._exec([*mpirun, "-n", str(per_node * len(nodes)), *task])

    def task(self, arguments: list[str]) -> None:
        """One task of srun, which learns from Slurm's variables who it is."""
        plugin, *command = arguments
        environ = os.environ
        rank, per_node = int(environ["PMI_RANK"]), int(environ["SLURM_NTASKS_PER_NODE"])
        node, local = divmod(rank, per_node)
        if self.bug == "local ranks":
            local = 0
        if self.bug == "ranks":
            rank ^= 1
        for name in [name for name in environ if name.startswith(("MPI_LOCAL", "HYDRA", "MPIR_", "HYDI"))]:
            del environ[name]
        if plugin != "pmi2":  # what this MPI cannot use
            for name in [name for name in environ if name.startswith("PMI")]:
                del environ[name]
        names = {"PROCID": rank, "LOCALID": local, "NODEID": node, "STEP_ID": 0}
        environ.update({f"SLURM_{name}": str(value) for name, value in names.items()})
        environ["SLURM_STEP_TASKS_PER_NODE"] = environ["SLURM_TASKS_PER_NODE"]
        if self.bug == "ports":
            environ["MASTER_PORT"] = str(20000 + rank)
        if self.bug == "address":
            environ["MASTER_ADDR"] = NODES[-1]
        self._exec(self.on_node(NODES[node], command))

    def _start_helpers(self, options: dict[str, str], command: list[str]) -> None:
        nodes = options["nodelist"].split(",")
        helpers = []
        for index, node in enumerate(nodes):
            environment = {**os.environ, "SLURM_NODEID": str(index), "SLURM_PROCID": str(index), "SLURM_STEP_ID": "0"}
            helpers.append(subprocess.Popen(self.on_node(node, command), env=environment))
        sys.exit(max(helper.wait() for helper in helpers))

    def _exec(self, command: list[str]) -> None:
        sys.stdout.flush()
        os.execvp(command[0], command)


_WITH_VALUE = ("--nodelist", "-w", "-N", "-n", "--nodes", "--ntasks", "--input", "--ntasks-per-node", "--cpu-bind")


def _split(arguments: list[str]) -> tuple[dict[str, str], list[str]]:
    """The options of srun, and the command after them."""
    options: dict[str, str] = {}
    while arguments and arguments[0].startswith("-"):
        name, has_value, value = arguments.pop(0).partition("=")
        if not has_value and name in _WITH_VALUE:
            value = arguments.pop(0)
        options[name.lstrip("-")] = value
    return options, arguments


if __name__ == "__main__":
    which, *where = sys.argv[1:5]
    getattr(Stub(*where), which)(sys.argv[5:])
