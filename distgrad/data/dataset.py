"""torch.utils.data.dataset: data sets.

The imports are absolute because torch's name for this page, `utils.data.dataset`, loads this file once more: the
names in it are the same objects under both.
"""

from distgrad.data._dataset import ChainDataset as ChainDataset
from distgrad.data._dataset import ConcatDataset as ConcatDataset
from distgrad.data._dataset import Dataset as Dataset
from distgrad.data._dataset import IterableDataset as IterableDataset
from distgrad.data._dataset import StackDataset as StackDataset
from distgrad.data._dataset import Subset as Subset
from distgrad.data._dataset import TensorDataset as TensorDataset
from distgrad.data._dataset import random_split as random_split
