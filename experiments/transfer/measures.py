"""The quality of predictions, by scikit-learn where it has the measure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
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


def span_f1(prediction: EvalPrediction) -> dict[str, float]:
    """Mean F1 of the answers' tokens, and how many spans are right to the token.

    SQuAD's own measure compares words without articles and punctuation; tokens need no text.
    """
    starts, ends = (np.asarray(found).argmax(-1) for found in prediction.predictions)
    scores, exact = [], []
    for start, end, first, last in zip(starts, ends, *prediction.label_ids, strict=True):
        shared = max(0, min(end, last) - max(start, first) + 1)
        length = max(0, end - start + 1)
        scores.append(2 * shared / (length + last - first + 1))
        exact.append(start == first and end == last)
    return {"span_f1": float(np.mean(scores)), "exact": float(np.mean(exact))}


# By the name that a run gives its quality; what has no measure here is a loss.
MEASURES: dict[str, Measured] = {
    "accuracy": accuracy, "f1": f1, "matthews": matthews, "spearman": spearman, "span_f1": span_f1,
}  # fmt: skip
