"""Checkpoints on disk: find, read, write."""

from __future__ import annotations

from wavescale.checkpoint.json_files import read_json
from wavescale.checkpoint.reader import Checkpoint, open_checkpoint
from wavescale.checkpoint.row_reader import RowReader
from wavescale.checkpoint.row_writer import RowWriter
from wavescale.checkpoint.writer import CheckpointWriter

__all__ = ["Checkpoint", "CheckpointWriter", "RowReader", "RowWriter", "open_checkpoint", "read_json"]
