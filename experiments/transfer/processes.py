"""The processes that train one run together."""

from __future__ import annotations

import torch
from accelerate import PartialState


def processes() -> PartialState:
    """Who takes part, and who is the main one; they talk through gloo where there is no GPU."""
    return PartialState(cpu=not torch.cuda.is_available())
