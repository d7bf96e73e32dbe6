"""The processes that train one run together."""

from __future__ import annotations

from datetime import timedelta

import torch
from accelerate import PartialState

# How long they wait for the main one, which makes the tokens of a whole corpus.
_PATIENCE = timedelta(days=2)


def processes() -> PartialState:
    """Who takes part, and who is the main one; they talk through gloo where there is no GPU."""
    return PartialState(cpu=not torch.cuda.is_available(), timeout=_PATIENCE)
