"""torch.utils.data.sampler: in which order a data set is seen.

The imports are absolute because torch's name for this page, `utils.data.sampler`, loads this file once more: the
names in it are the same objects under both.
"""

from distgrad.data._sampler import BatchSampler as BatchSampler
from distgrad.data._sampler import RandomSampler as RandomSampler
from distgrad.data._sampler import Sampler as Sampler
from distgrad.data._sampler import SequentialSampler as SequentialSampler
from distgrad.data._sampler import SubsetRandomSampler as SubsetRandomSampler
from distgrad.data._sampler import WeightedRandomSampler as WeightedRandomSampler
