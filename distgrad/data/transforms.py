"""Transforms of images, on NumPy arrays (H, W) or (H, W, C) and on tensors (..., H, W).

The imports are absolute because torch's name for this page, `utils.data.transforms`, loads this file once more: the
names in it are the same objects under both.
"""

from distgrad.data._transforms import CenterCrop as CenterCrop
from distgrad.data._transforms import Compose as Compose
from distgrad.data._transforms import ConvertImageDtype as ConvertImageDtype
from distgrad.data._transforms import Lambda as Lambda
from distgrad.data._transforms import Normalize as Normalize
from distgrad.data._transforms import Pad as Pad
from distgrad.data._transforms import RandomApply as RandomApply
from distgrad.data._transforms import RandomCrop as RandomCrop
from distgrad.data._transforms import RandomHorizontalFlip as RandomHorizontalFlip
from distgrad.data._transforms import RandomVerticalFlip as RandomVerticalFlip
from distgrad.data._transforms import ToTensor as ToTensor
