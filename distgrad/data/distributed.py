"""torch.utils.data.distributed: the sampler for several ranks.

The imports are absolute because torch's name for this page, `utils.data.distributed`, loads this file once more: the
names in it are the same objects under both.
"""

from distgrad.data._distributed_sampler import DistributedSampler as DistributedSampler
