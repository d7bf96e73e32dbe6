"""The quality of predicted classes and numbers, by scikit-learn and scipy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from scipy.stats import spearmanr
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef
from transformers import EvalPrediction

Measured = Callable[[EvalPrediction], dict[str, float]]


def _logits(prediction: EvalPrediction) -> Any:
    found = prediction.predictions
    return found[0] if isinstance(found, tuple) and len(found) == 1 else found


def accuracy(prediction: EvalPrediction) -> dict[str, float]:
    """The share of classes that are right."""
    return {"accuracy": float(accuracy_score(prediction.label_ids, _logits(prediction).argmax(-1)))}


def f1(prediction: EvalPrediction) -> dict[str, float]:
    """F1 of class 1."""
    return {"f1": float(f1_score(prediction.label_ids, _logits(prediction).argmax(-1)))}


def matthews(prediction: EvalPrediction) -> dict[str, float]:
    """Matthews' correlation of classes."""
    return {"matthews": float(matthews_corrcoef(prediction.label_ids, _logits(prediction).argmax(-1)))}


def spearman(prediction: EvalPrediction) -> dict[str, float]:
    """Spearman's rank correlation of numbers."""
    return {"spearman": float(spearmanr(prediction.label_ids, _logits(prediction)[:, 0]).statistic)}


# By the name that a run gives its quality; answers in a text are measured by `transfer.answers`, and what has no
# measure is a loss.
MEASURES: dict[str, Measured] = {"accuracy": accuracy, "f1": f1, "matthews": matthews, "spearman": spearman}
