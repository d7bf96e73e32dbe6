"""wavescale: pretrained transformers in the size that you need."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wavescale.analysis import analyse
    from wavescale.artifacts import Artifacts
    from wavescale.errors import WavescaleError
    from wavescale.in_memory import resize, resize_into
    from wavescale.on_disk import resize_checkpoint
    from wavescale.optimizer import resize_optimizer_state
    from wavescale.plan import Plan
    from wavescale.recipe import Recipe, training_recipe
    from wavescale.resampling import resample, resampling_matrix
    from wavescale.resizing import plan_resize
    from wavescale.spectrum import inspect
    from wavescale.verification import verify

__version__ = "0.1.0"

__all__ = [
    "Artifacts",
    "Plan",
    "Recipe",
    "WavescaleError",
    "analyse",
    "inspect",
    "plan_resize",
    "resample",
    "resampling_matrix",
    "resize",
    "resize_checkpoint",
    "resize_into",
    "resize_optimizer_state",
    "training_recipe",
    "verify",
]

# Where each public name lives. They are imported when first used, so that the command line answers
# `--help` without numpy, torch or transformers.
_HOME = {
    "Artifacts": "artifacts",
    "Plan": "plan",
    "Recipe": "recipe",
    "WavescaleError": "errors",
    "analyse": "analysis",
    "inspect": "spectrum",
    "plan_resize": "resizing",
    "resample": "resampling",
    "resampling_matrix": "resampling",
    "resize": "in_memory",
    "resize_checkpoint": "on_disk",
    "resize_into": "in_memory",
    "resize_optimizer_state": "optimizer",
    "training_recipe": "recipe",
    "verify": "verification",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'wavescale' has no attribute {name!r}")
    return getattr(import_module(f"wavescale.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
