"""Two hosts on one machine: network namespaces with a wire between them, each with a host name of its own.

Processes in different namespaces reach each other over TCP alone, and MPI as well as distgrad take them for processes
of two machines. Needs root and iproute2; everything goes with `Hosts.close`.
"""

import itertools
import os
import shutil
import subprocess
from pathlib import Path

from tests.jobs import Mpi

_numbers = itertools.count()

AGENT = """#!/bin/sh
# What an MPI starts in place of ssh: [options] host command...
while [ "${1#-}" != "$1" ]; do shift; done
case $1 in *.1) name=%(first)s ;; *) name=%(second)s ;; esac
shift
exec ip netns exec $name unshare --uts sh -c "hostname $name; $*"
"""


def problem() -> str:
    """Why there can be no such hosts here; an empty text if they can be."""
    missing = [tool for tool in ("ip", "unshare", "hostname") if shutil.which(tool) is None]
    if missing:
        return f"no {' and no '.join(missing)} here; install iproute2, util-linux and hostname"
    if os.geteuid() != 0:
        return "network namespaces need root"
    name = f"distgrad-{os.getpid()}-probe"
    for command in (f"ip netns add {name}", f"ip -n {name} link add wire type veth peer name end"):
        done = subprocess.run(command.split(), capture_output=True, text=True, check=False)
        if done.returncode:
            break
    subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)
    return f"no network namespaces: {done.stderr.strip()}" if done.returncode else ""


class Hosts:
    """Two hosts, 10.213.7.1 and 10.213.7.2, and how to start an MPI job on them.

    Args:
        folder: for the script that MPI starts in place of ssh.
    """

    def __init__(self, folder: Path) -> None:
        number = next(_numbers)
        self.names = [f"distgrad-{os.getpid()}-{number}{letter}" for letter in "ab"]
        first, second = self.names
        self._agent = folder / "agent"
        self._agent.write_text(AGENT % {"first": first, "second": second})
        self._agent.chmod(0o755)
        _run(f"ip netns add {first}")
        _run(f"ip netns add {second}")
        _run(f"ip link add wire netns {first} type veth peer name wire netns {second}")
        for name, address in zip(self.names, ("10.213.7.1", "10.213.7.2"), strict=True):
            _run(f"ip -n {name} addr add {address}/24 dev wire")
            _run(f"ip -n {name} link set wire up")
            _run(f"ip -n {name} link set lo up")

    def job(self, mpi: Mpi, ranks_per_host: int, *command: str) -> list[str]:
        """The command line that starts `python command...` on both hosts, from the first."""
        mpirun = mpi.mpirun[0]
        if mpi.name == "mpich":
            start = [mpirun, "-hosts", "10.213.7.1,10.213.7.2", "-ppn", str(ranks_per_host), "-iface", "wire"]
            start += ["-localhost", "10.213.7.1", "-launcher", "ssh", "-launcher-exec", str(self._agent)]
        else:
            start = [mpirun, "--allow-run-as-root", "--bind-to", "none", "-x", "PYTHONPATH"]
            start += ["--host", ",".join(f"10.213.7.{host}:{ranks_per_host}" for host in (1, 2))]
            start += ["--prtemca", "plm_ssh_agent", str(self._agent), "--prtemca", "prte_if_include", "10.213.7.0/24"]
            start += ["--mca", "pml", "ob1", "--mca", "btl", "self,sm,tcp", "--mca", "btl_tcp_if_include", "wire"]
        start += ["-n", str(2 * ranks_per_host), mpi.python, *command]
        inside = 'hostname "$0"; exec "$@"'
        return ["ip", "netns", "exec", self.names[0], "unshare", "--uts", "sh", "-c", inside, self.names[0], *start]

    def close(self) -> None:
        """Remove the hosts; whoever still runs in them loses the wire."""
        for name in self.names:
            subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)


def _run(command: str) -> None:
    done = subprocess.run(command.split(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: {done.stderr}"
