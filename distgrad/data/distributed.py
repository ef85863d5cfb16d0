"""torch.utils.data.distributed: the sampler for several ranks. A page of names; nothing is defined here."""

from ._distributed_sampler import DistributedSampler as DistributedSampler
