"""Where a model looks: attention, its rollout over layers, and the patches that speak for a class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# What is smaller than this beside its factors is rounding.
NOTHING = 1e-4


def attention(model: PreTrainedModel, inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """What each token attends to in each layer, the mean over heads.

    Parameters
    ----------
    model
        Any that gives out its attention when it computes it eagerly.
    inputs
        A batch of one.

    Returns
    -------
    (layers, tokens, tokens); each row sums to 1.
    """
    model.set_attn_implementation("eager")
    with torch.no_grad():
        found = model.eval()(**inputs, output_attentions=True).attentions
    return torch.stack([layer[0].mean(0) for layer in found])


def rollout(maps: torch.Tensor) -> torch.Tensor:
    """How much each token's state is made of each token of the input (Abnar and Zuidema 2020, arXiv 2005.00928).

    Parameters
    ----------
    maps
        Attention, (layers, tokens, tokens).

    Returns
    -------
    The product over layers of the mean of attention and identity, which stands for the residual: (tokens, tokens).

    Examples
    --------
    >>> rollout(torch.tensor([[[0.0, 1.0], [0.0, 1.0]]])).tolist()
    [[0.5, 0.5], [0.0, 1.0]]
    """
    whole = torch.eye(maps.shape[-1], dtype=maps.dtype)
    for layer in maps:
        whole = (layer + torch.eye(len(layer), dtype=maps.dtype)) / 2 @ whole
    return whole


def activation_map(model: PreTrainedModel, inputs: Mapping[str, torch.Tensor], label: int) -> torch.Tensor:
    """Which patches speak for a class: Grad-CAM (Selvaraju et al. 2017, arXiv 1610.02391) at a layer's input.

    The classifier reads the first token alone, so patches have a gradient up to the last layer's input and no
    further. A layer that was inserted by exact growth adds nothing yet; then it is the input of the layer before it.

    Parameters
    ----------
    model
        An image classifier whose tokens are some of its own and then the patches of a square image.
    inputs
        A batch of one.
    label
        The class.

    Returns
    -------
    (rows, columns) of patches, none negative.
    """
    outputs = model.eval()(**inputs, output_hidden_states=True)
    inputs_of_layers = outputs.hidden_states[:-1]
    gradients = torch.autograd.grad(outputs.logits[0, label], inputs_of_layers)
    side: int = model.config.image_size // model.config.patch_size
    found = torch.zeros(side * side)
    for states, gradient in zip(reversed(inputs_of_layers), reversed(gradients), strict=True):
        patches, weights = states[0, -side * side :].detach(), gradient[0, -side * side :].mean(0)
        found = patches @ weights
        if found.abs().max() > NOTHING * patches.norm(dim=1).max() * weights.norm():
            break
    return found.relu().view(side, side)
