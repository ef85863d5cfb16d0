"""Checkpoint files: written whole or not at all, read without executing anything."""

from ._checkpoint import load as load
from ._checkpoint import load_safetensors as load_safetensors
from ._checkpoint import save as save
from ._checkpoint import save_safetensors as save_safetensors
from ._fingerprint import fingerprint as fingerprint
from ._manager import CheckpointManager as CheckpointManager
