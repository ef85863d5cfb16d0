"""Training on many ranks."""

from ._ddp import DistributedDataParallel as DistributedDataParallel
