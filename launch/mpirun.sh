#!/usr/bin/env bash
# Runs a training script on several hosts with your own mpirun, for example:
#     HOSTFILE=hostfile RANKS=8 launch/mpirun.sh examples/digits.py
# On one machine, `python -m distgrad.launch -n 4 train.py` does all of this by itself.
set -euo pipefail

if [ $# -eq 0 ]; then
    echo "usage: [HOSTFILE=hostfile] [RANKS=4] [PYTHON=python] $0 script.py [arguments]" >&2
    exit 2
fi
: "${RANKS:=4}" "${PYTHON:=python}" "${HOSTFILE:=}"

command -v mpirun >/dev/null || { echo "expected mpirun on PATH, found none; load your MPI or activate its venv" >&2; exit 2; }

options=(-n "$RANKS")
if [[ "$(mpirun --version)" == *'Open MPI'* ]]; then
    # Ranks bound to single cores, as Open MPI does for two of them, would make our BLAS threads queue.
    options+=(--bind-to none)
    if [ "$(id -u)" -eq 0 ]; then options+=(--allow-run-as-root); fi
    if [ -n "$HOSTFILE" ]; then
        # Open MPI takes to the other hosts only the variables that it is told to.
        options+=(--hostfile "$HOSTFILE" -x PATH -x PYTHONPATH)
        if [ -n "${LD_LIBRARY_PATH:-}" ]; then options+=(-x LD_LIBRARY_PATH); fi
    else
        options+=(--oversubscribe --mca pml ob1 --mca btl self,sm)  # one node: starts a second sooner
    fi
elif [ -n "$HOSTFILE" ]; then
    options+=(-f "$HOSTFILE")  # MPICH and Intel MPI
fi

exec mpirun "${options[@]}" "$PYTHON" -m distgrad.launch "$@"
