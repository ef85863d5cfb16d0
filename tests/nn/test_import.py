"""Every page of nn and data can be the first that a program imports."""

import importlib
import subprocess
import sys

import pytest

import distgrad.data

STATEMENTS = [
    "from distgrad.nn.utils.rnn import pad_sequence",
    "from distgrad.nn.utils import clip_grad_norm_",
    "from distgrad.nn.parameter import Parameter",
    "from distgrad.nn.functional import relu",
    "from distgrad.nn import init",
    "from distgrad.utils.data import DataLoader",
    "from distgrad.data.transforms import Compose",
    "from distgrad.utils.data.distributed import DistributedSampler",
    "from distgrad.utils.data.sampler import Sampler",
    "import distgrad.utils.data.transforms",
]


def test_torchs_name_of_a_page_has_the_same_objects() -> None:
    torchs = importlib.import_module("distgrad.utils.data.transforms")
    assert torchs.Compose is distgrad.data.transforms.Compose


@pytest.mark.parametrize("statement", STATEMENTS)
def test_first_import(statement: str) -> None:
    check = f"{statement}; import distgrad; assert distgrad.nn.Linear(2, 1)(distgrad.ones(1, 2)).shape == (1, 1)"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
