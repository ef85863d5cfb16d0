"""The files in /dev/shm through which the MPI library's own ranks meet, removed however the job ends.

MPICH and Open MPI create them in MPI_Init and remove them in MPI_Finalize (Open MPI's mpirun does it for ranks that
died). We remove their names as soon as all ranks have attached. Until then a rank may be killed, and nobody would be
left to do it; so each rank keeps a small shell beside it for that time, which sees the rank's end as the end of its
input. It runs in a session of its own, out of reach of Ctrl-C and of what mpirun does to the processes of a rank.

The names hold a number of the job, which a rank can compute before MPI_Init:
- MPICH (src/mpid/ch4/shm/posix, `mpich_shm_<job>_<node>`): FNV-1a of the name of the job's key-value space.
- Open MPI (opal/mca/btl/sm, `sm_segment.<host>.<uid>.<job>.<rank>`): 16 bits of Jenkins' one-at-a-time hash of the
  PMIx namespace, then the number behind its "@".
"""

import os
import select
import stat
import sys
from contextlib import suppress
from pathlib import Path

from .._environment import inherited, kvs_descriptor, pmix_namespace

_FOLDER = "/dev/shm"
_PREFIXES = (f"{_FOLDER}/mpich_shm_", f"{_FOLDER}/sm_segment.")
# Seconds for Hydra to answer. It takes a tenth of a millisecond, but seconds on a node with too much to do; and an
# answer that nobody awaits any more would be read by MPI_Init, which fails of that.
_PATIENCE = 60.0

# $0 is the rank, $1 the pattern of its files. The input ends when the rank has written a line (the files are gone), or
# has died; a rank that goes on as another program has closed the pipe too, and lives. The files of UCX, which MPICH
# uses, have a random name, for a moment: those that appeared meanwhile and that no living process knows are removed.
_WATCH = """
cd /
old=$(echo /dev/shm/ucx_shm_posix_*)
read -r line && exit
[ -e "/proc/$0/exe" ] && exit
rm -f -- $1
set -- /dev/shm/ucx_shm_posix_*
[ -e "$1" ] || exit
sleep 0.3
for file; do
    case " $old " in *" $file "*) continue;; esac
    { cat /proc/[0-9]*/maps; ls -l /proc/[0-9]*/fd; } 2>/dev/null | grep -qF "$file" && continue
    [ -O "$file" ] && rm -f -- "$file"
done
"""

_MASK = 0xFFFFFFFF


class _Guard:
    """The shell that removes this job's files should this rank die, and the pipe that says it lives."""

    pipe: int | None = None
    owner = 0  # process id: a forked child must not speak for the rank


_guard = _Guard()


def guard() -> None:
    """Have the files of this job removed if this process dies before `forget`; does nothing where that is unknown."""
    pattern = job_pattern()
    if pattern is None or _guard.owner == os.getpid() or sys.platform != "linux" or not os.path.isdir(_FOLDER):
        return
    reader, _guard.pipe = os.pipe()
    _guard.owner = os.getpid()
    nothing = os.open(os.devnull, os.O_RDWR)
    actions: list[tuple[int, ...]] = [(os.POSIX_SPAWN_DUP2, reader, 0)]
    actions += [(os.POSIX_SPAWN_DUP2, nothing, output) for output in (1, 2)]
    actions += [(os.POSIX_SPAWN_CLOSE, descriptor) for descriptor in _inheritable() if descriptor > 2]
    with suppress(OSError):  # no shell, no more processes: as without the guard
        command = ["sh", "-c", _WATCH, str(os.getpid()), pattern]
        os.posix_spawn("/bin/sh", command, inherited(), file_actions=actions, setsid=True)
    os.close(reader)
    os.close(nothing)


def forget(maps: str = "/proc/self/maps") -> None:
    """Remove the names of the MPI library's files, once all ranks of this node have opened them.

    Both libraries have attached all ranks of the node when MPI_Init returns on the last of them, so this may follow
    the first collective call.
    """
    for name in _mapped(maps):
        Path(name).unlink(missing_ok=True)  # another rank may have been faster
    if _guard.pipe is not None and _guard.owner == os.getpid():
        with suppress(OSError):
            os.write(_guard.pipe, b"done\n")
        os.close(_guard.pipe)
        _guard.pipe = None


def job_pattern() -> str | None:
    """A shell pattern of the files that MPI makes for this job on this node; None where that is not known."""
    if pmix_namespace is not None:
        return _open_mpi_pattern(pmix_namespace)
    space = _key_value_space()
    return f"{_FOLDER}/mpich_shm_{fnv1a(space):x}_*" if space else None


def _open_mpi_pattern(namespace: str) -> str | None:
    name, _, number = namespace.rpartition("@")
    if not name or not number.isdecimal():
        return None
    code = one_at_a_time(name.encode())
    job_id = ((code >> 16 ^ code) & 0xFFFF) << 16 | int(number) & 0xFFFF
    return f"{_FOLDER}/sm_segment.*.{os.geteuid()}.{job_id:x}.*"


def _key_value_space() -> bytes:
    """What MPICH's Hydra calls the key-value space of this job; empty where there is no answer."""
    with suppress(OSError):
        if kvs_descriptor is None or _in_use() or not stat.S_ISSOCK(os.fstat(kvs_descriptor).st_mode):
            return b""
        os.write(kvs_descriptor, b"cmd=get_my_kvsname\n")
        answer = b""
        while not answer.endswith(b"\n") and select.select([kvs_descriptor], [], [], _PATIENCE)[0]:
            answer += os.read(kvs_descriptor, 1024) or b"\n"
        return answer.partition(b"kvsname=")[2].split(b" ")[0].strip()
    return b""


def _in_use() -> bool:
    """Whether MPI itself may be talking to Hydra."""
    return "mpi4py.MPI" in sys.modules


def _mapped(maps: str) -> set[str]:
    """The files of the MPI library that this process has mapped."""
    with suppress(OSError), open(maps) as file:
        names = {line.rsplit(maxsplit=1)[-1] for line in file if f"{_FOLDER}/" in line}
        return {name for name in names if name.startswith(_PREFIXES)}
    return set()


def _inheritable() -> list[int]:
    """The open files that this process had from mpirun: a child must not keep them open."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):  # the one of the listing itself
            if os.get_inheritable(int(name)):
                found.append(int(name))
    return found


def fnv1a(data: bytes) -> int:
    """The 32-bit hash of Fowler, Noll and Vo, in the variant 1a."""
    code = 2166136261
    for byte in data:
        code = (code ^ byte) * 16777619 & _MASK
    return code


def one_at_a_time(data: bytes) -> int:
    """The 32-bit hash of Bob Jenkins that takes one byte at a time."""
    code = 0
    for byte in data:
        code = code + byte & _MASK
        code = code + (code << 10) & _MASK
        code ^= code >> 6
    code = code + (code << 3) & _MASK
    code ^= code >> 11
    return code + (code << 15) & _MASK
