"""Steps that are recorded once and replayed without building graphs: `distgrad.compile`."""

from ._compiled import Compiled as Compiled
from ._compiled import compile as compile
