"""Checkpoints on disk: find, read, write."""

from __future__ import annotations

from wavescale.checkpoint.reader import Checkpoint, open_checkpoint, read_config
from wavescale.checkpoint.writer import CheckpointWriter

__all__ = ["Checkpoint", "CheckpointWriter", "open_checkpoint", "read_config"]
