#!/usr/bin/env bash
# PBS Pro and OpenPBS:  qsub -v RUN="train.py --lr 0.1" launch/pbs.sh
# (RUN ends at a comma.) In an interactive job, qsub -I:  launch/pbs.sh train.py --lr 0.1
# Change the numbers to your cluster: nodes, cores of each, ranks on each.
#PBS -N distgrad
#PBS -l select=2:ncpus=32:mpiprocs=4
#PBS -l place=scatter
#PBS -l walltime=01:00:00
#PBS -j oe
set -euo pipefail

if [ $# -eq 0 ]; then
    read -r -a words <<<"${RUN:-}"  # split at blanks: an argument cannot hold one
    set -- ${words[@]+"${words[@]}"}
fi
if [ $# -eq 0 ]; then
    echo "usage: qsub -v RUN=\"script.py [arguments]\"[,LAUNCHER=distgrad|mpiexec] $0" >&2
    exit 2
fi
if [ ! -s "${PBS_NODEFILE:-}" ]; then
    echo "expected PBS_NODEFILE to name a file with a line for each rank, got '${PBS_NODEFILE:-}'; submit with qsub" >&2
    exit 2
fi
cd "${PBS_O_WORKDIR:-.}"  # a job begins in the home directory

# Activate the environment that distgrad is installed in, and load the MPI that its mpi4py was built for, for example:
#     module load openmpi
#     source .venv/bin/activate

# PBS sets this to all ncpus of a node, for each of its ranks. Without it, distgrad gives each rank its share.
unset OMP_NUM_THREADS

ranks=$(grep -c . "$PBS_NODEFILE")
case "${LAUNCHER:-distgrad}" in
distgrad)
    # mpirun of Open MPI, MPICH or Intel MPI, told the hosts of the file. Add --max-restarts K to start again.
    exec python -m distgrad.launch -n "$ranks" --hostfile "$PBS_NODEFILE" "$@"
    ;;
mpiexec)
    # The site's own mpiexec, which knows the nodes from PBS: HPE Cray PALS, or an MPI that was built for PBS.
    per_node=$(sort "$PBS_NODEFILE" | uniq -c | awk '$1 > most { most = $1 } END { print most }')
    exec mpiexec -n "$ranks" --ppn "$per_node" python -m distgrad.launch "$@"
    ;;
*)
    echo "expected LAUNCHER to be distgrad or mpiexec, got $LAUNCHER" >&2
    exit 2
    ;;
esac
