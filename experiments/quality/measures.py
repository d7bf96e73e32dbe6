"""How good a model is at what it is used for: one function a kind of model.

Each returns the result over the whole window and over its parts, so that a table can say how much of
a difference is chance. Rows of different methods see the same parts.

Legend: N windows, sentences, reactions or images; T tokens; V vocabulary; D width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedModel


@dataclass(frozen=True)
class Measured:
    """A result.

    Attributes
    ----------
    values
        By name, the one that counts first: `loss` in nats, `correlation` or `accuracy` from 0 to 1.
    parts
        The value that counts, part by part.
    count
        Tokens, pairs or images.
    """

    values: dict[str, float]
    parts: list[float]
    count: int

    @property
    def error(self) -> float:
        """The standard error over the parts."""
        return float(torch.tensor(self.parts, dtype=torch.float64).std() / len(self.parts) ** 0.5)


Measure = Callable[[PreTrainedModel], Measured]


def causal_loss(model: PreTrainedModel, ids: Tensor, parts: int) -> Measured:
    """Loss per next token of windows (N, T), each read by itself."""
    losses = []
    with torch.no_grad():
        for window in ids:
            logits = model(window[None]).logits
            losses.append(F.cross_entropy(logits[0, :-1].float(), window[1:], reduction="none"))
    return _rates({"loss": torch.stack(losses)}, parts)


def masked_loss(
    model: PreTrainedModel, ids: Tensor, attention: Tensor, chosen: Tensor, mask_id: int, parts: int
) -> Measured:
    """Accuracy and loss on the chosen tokens of (N, T), all of them masked at once; read in as many batches."""
    found: list[float] = []
    sums = {"accuracy": 0.0, "loss": 0.0}
    for batch, seen, masked in zip(ids.chunk(parts), attention.chunk(parts), chosen.chunk(parts), strict=True):
        with torch.no_grad():
            logits = model(torch.where(masked, mask_id, batch), attention_mask=seen).logits[masked].float()
        losses, hits = F.cross_entropy(logits, batch[masked], reduction="none"), logits.argmax(-1) == batch[masked]
        found.append(float(hits.double().mean()))
        sums["loss"] += float(losses.sum())
        sums["accuracy"] += float(hits.sum())
    count = int(chosen.sum())
    return Measured({name: total / count for name, total in sums.items()}, found, count)


def image_loss(model: PreTrainedModel, images: Tensor, labels: Tensor, parts: int) -> Measured:
    """Accuracy and loss of a classifier on images (N, channels, height, width)."""
    with torch.no_grad():
        logits = torch.cat([model(pixel_values=batch).logits.float() for batch in images.chunk(parts)])
    losses = F.cross_entropy(logits, labels, reduction="none")
    return _rates({"accuracy": (logits.argmax(-1) == labels).float(), "loss": losses}, parts)


def pair_similarities(model: PreTrainedModel, batches: Sequence[dict[str, Tensor]], pairs: Tensor) -> Tensor:
    """Cosines (P,) of pairs (P, 2) of sentences, mean-pooled; the batches hold the sentences in order."""
    pooled = []
    with torch.no_grad():
        for batch in batches:
            states, mask = model(**batch).last_hidden_state, batch["attention_mask"][..., None]
            pooled.append((states * mask).sum(1) / mask.sum(1))
    vectors = F.normalize(torch.cat(pooled).float(), dim=-1)
    return (vectors[pairs[:, 0]] * vectors[pairs[:, 1]]).sum(-1)


def similarity(
    model: PreTrainedModel, batches: Sequence[dict[str, Tensor]], pairs: Tensor, expected: Tensor, parts: int
) -> Measured:
    """Spearman correlation of the pairs' similarities with the source's (P,)."""
    found = pair_similarities(model, batches, pairs)
    each = zip(found.chunk(parts), expected.chunk(parts), strict=True)
    return Measured({"correlation": spearman(found, expected)}, [spearman(a, b) for a, b in each], len(pairs))


def spearman(a: Tensor, b: Tensor) -> float:
    """Rank correlation of two vectors.

    Examples
    --------
    >>> spearman(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([3.0, 5.0, 40.0]))
    1.0
    """
    ranks = torch.stack([values.argsort().argsort().double() for values in (a, b)])
    return float(torch.corrcoef(ranks)[0, 1])


def _rates(results: dict[str, Tensor], parts: int) -> Measured:
    """Means over everything, and of the first result over the parts; results are (N, ...)."""
    first = next(iter(results.values()))
    return Measured(
        {name: float(values.double().mean()) for name, values in results.items()},
        [float(part.double().mean()) for part in first.chunk(parts)],
        first.numel(),
    )
