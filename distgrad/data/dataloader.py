"""torch.utils.data.dataloader: batches of a data set.

The imports are absolute because torch's name for this page, `utils.data.dataloader`, loads this file once more: the
names in it are the same objects under both.
"""

from distgrad.data._collate import default_collate as default_collate
from distgrad.data._collate import default_convert as default_convert
from distgrad.data._loader import DataLoader as DataLoader
from distgrad.data._loader import get_worker_info as get_worker_info
