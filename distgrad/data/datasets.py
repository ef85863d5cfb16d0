"""Well-known data sets, read from their original files on disk.

The imports are absolute because torch's name for this page, `utils.data.datasets`, loads this file once more: the
names in it are the same objects under both.
"""

from distgrad.data._files import DataFileError as DataFileError
from distgrad.data._files import read_idx as read_idx
from distgrad.data._image_sets import CIFAR10 as CIFAR10
from distgrad.data._image_sets import CIFAR100 as CIFAR100
from distgrad.data._image_sets import MNIST as MNIST
from distgrad.data._image_sets import FashionMNIST as FashionMNIST
