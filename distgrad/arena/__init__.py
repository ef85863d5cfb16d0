"""Flat memory for parameters, gradients and optimizer state: `ARCHITECTURE.md` says why."""

from ._arena import Arena as Arena
from ._arena import Run as Run
from ._arena import Slot as Slot
from ._arena import arenas_for as arenas_for
from ._arena import build_arenas as build_arenas
from ._arena import slot_of as slot_of
from ._layout import BUCKET_BYTES as BUCKET_BYTES
from ._layout import FIRST_BUCKET_BYTES as FIRST_BUCKET_BYTES
from ._layout import Bucket as Bucket
from ._layout import Layout as Layout
from ._layout import Place as Place
from ._layout import plan as plan
