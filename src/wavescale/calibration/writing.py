"""Text that a language model writes by itself, so that calibration needs no data."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from wavescale.errors import CheckpointError, OptionError
from wavescale.inputs import positions
from wavescale.memory import model_spec, seeded

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

# In so many rounds a masked language model fills its masks, an equal part of them in each.
ROUNDS = 8


def generated_tokens(model: PreTrainedModel, tokens: int, length: int, seed: int = 0) -> torch.Tensor:
    """Text that a causal language model writes by itself, as ids (tokens / length, length).

    Sampled at temperature 1 from the model's first token, so that calibration needs no data.

    Raises
    ------
    OptionError
        The model does not generate.
    CheckpointError
        It computes NaN or infinity.
    """
    import torch
    from transformers import GenerationConfig

    if not model.can_generate():
        raise OptionError(
            f"{type(model).__name__} does not generate text; calibrate (--calibrate) on a text, or on random tokens."
        )
    spec, config = model_spec(model), model.config
    length, known = min(length, positions(spec)), range(spec.axis_sizes["vocab"])
    # Small models with a tokenizer of their own often keep the ids of a larger vocabulary in their config.
    first = next((found for found in (config.bos_token_id, config.eos_token_id) if found in known), 0)
    start = torch.full((max(1, tokens // length), 1), first, device=model.device)
    # What is not said is taken from the model's own settings, with which it would write something else.
    settings = model.generation_config
    model.generation_config = GenerationConfig(
        max_length=length, min_length=length, do_sample=True, temperature=1.0, top_k=0, top_p=1.0, pad_token_id=first
    )
    try:
        with seeded(seed, model.device), torch.no_grad(), _finite_odds(model):
            ids: torch.Tensor = model.generate(start, attention_mask=torch.ones_like(start))
    finally:
        model.generation_config = settings
    return ids


@contextmanager
def _finite_odds(model: PreTrainedModel) -> Iterator[None]:
    """Say of a source that computes NaN what is wrong with it, rather than of its tokens."""
    try:
        yield
    except RuntimeError as error:
        if "probability tensor" not in str(error):
            raise
        raise not_finite(model) from error


def not_finite(model: PreTrainedModel) -> CheckpointError:
    """What is wrong with a source that cannot be calibrated."""
    return CheckpointError(
        f"{type(model).__name__}: the source computes NaN or infinity on what it is calibrated on. "
        "Use another text, or --calibrate none."
    )


def filled_masks(model: PreTrainedModel, tokenizer: Any, tokens: int, length: int, seed: int = 0) -> torch.Tensor:
    """Text that a masked language model writes by itself, as ids (tokens / length, length).

    Sequences of masks are filled in `ROUNDS` rounds, at places drawn at random, with tokens sampled at
    temperature 1 (after Mask-Predict, Ghazvininejad et al. 2019, arXiv 1904.09324, which takes the most
    probable ones).

    Parameters
    ----------
    tokenizer
        Gives the mask and the special tokens.
    tokens, length
        In all, and of one sequence as far as the model has positions.

    Raises
    ------
    CheckpointError
        The model computes NaN or infinity.
    """
    import torch

    length = min(length, positions(model_spec(model)))
    generator = torch.Generator(model.device).manual_seed(seed)
    ids = torch.full((max(1, tokens // length), length), int(tokenizer.mask_token_id), device=model.device)
    for place, token in ((0, tokenizer.cls_token_id), (-1, tokenizer.sep_token_id)):
        if token is not None:
            ids[:, place] = token
    # The round in which each place is filled.
    turn = torch.randint(0, ROUNDS, ids.shape, generator=generator, device=model.device)
    special = torch.tensor(sorted(set(tokenizer.all_special_ids)), device=model.device)
    for number in range(ROUNDS):
        place = (turn == number) & (ids == tokenizer.mask_token_id)
        for some, here in zip(torch.split(ids, 32), torch.split(place, 32), strict=True):
            with torch.no_grad():
                found = model(some)
            logits = found.logits if "logits" in found else found.prediction_logits
            wanted = logits[here].index_fill(-1, special, -torch.inf)
            if len(wanted) and not torch.isfinite(wanted.amax(-1)).all():
                raise not_finite(model)
            if len(wanted):
                some[here] = torch.multinomial(wanted.float().softmax(-1), 1, generator=generator)[:, 0]
    return ids
