"""Mappings that make all tensors of the target at once: trained ones, which are then materialised, and none.

`ligo` and `mango` are linear in the source's weights and have few parameters of their own; a short
training on the task loss finds these. `random` draws the target as the library does.
"""

from __future__ import annotations

from wavescale.learned.batches import training_batches
from wavescale.learned.ligo import Ligo
from wavescale.learned.mango import Mango
from wavescale.learned.mapping import LearnedMap
from wavescale.learned.training import train

__all__ = ["LearnedMap", "Ligo", "Mango", "train", "training_batches"]
