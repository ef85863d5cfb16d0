"""`python -m distgrad.launch`: runs a script as one rank of an MPI job, or starts the job itself with `-n`."""

from ._cli import main as main
