"""`python -m distgrad.bench`: measures communication, steps and scaling, and predicts how a job would scale."""

from ._cli import main as main
from ._errors import BenchError as BenchError
