"""Choose the units that stay by what they do on some input, and let what reads them make up for the rest.

The input may be text, or what the model generates itself, which needs no data.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from wavescale.analysis import Subject
from wavescale.artifacts import Artifacts, Units
from wavescale.errors import OptionError
from wavescale.methods import Piece

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

# Share of the mean diagonal that keeps the least squares from trusting every accident of the input.
RIDGE = 1e-2


@dataclass(frozen=True)
class RefitUnits:
    """An analysis that keeps the feed-forward units of largest output energy and refits what reads them.

    A unit counts by the root mean square of its activation times the norm of its output column. The
    output projection then takes over, by ridge regression on the source's own activations, what
    the units that go contributed.

    Attributes
    ----------
    intermediate_size
        Units that stay in each layer.
    batches
        What the model is run on: keyword arguments of its forward pass. A few thousand tokens suffice.
    """

    intermediate_size: int
    batches: Iterable[Mapping[str, torch.Tensor]]

    def __call__(self, subject: Subject) -> Artifacts:
        """Run the model and choose.

        Raises
        ------
        OptionError
            More units are asked for than there are, or the model was run on nothing.
        """
        n = subject.spec.sizes.intermediate_size
        if not 1 <= self.intermediate_size <= n:
            raise OptionError(f"intermediate_size {self.intermediate_size}: expected between 1 and the source's {n}.")
        readers = {
            layer: stored.name
            for (_, layer), stored in subject.stored.items()
            if layer is not None and stored.row.module == "ffn out" and len(stored.shape) == 2
        }
        grams = _grams(subject.load(), readers, self.batches)
        if grams.keys() != readers.keys():
            raise OptionError("batches: the model was run on nothing; give a few thousand tokens.")
        units: dict[tuple[str, int], Units] = {}
        for layer, name in readers.items():
            stored = next(found for found in subject.stored.values() if found.name == name)
            axis = Piece(stored.row).input_axis
            assert axis is not None
            weight = subject.read(name).double().movedim(axis, -1)
            units["intermediate", layer] = choose_units(grams[layer], weight, self.intermediate_size)
        return Artifacts(units=units)


def choose_units(gram: torch.Tensor, weight: torch.Tensor, m: int) -> Units:
    """The m units of largest output energy, and the matrix through which they stand in for all.

    Parameters
    ----------
    gram
        (n, n): activations' second moments, AᵀA.
    weight
        (outputs, n): what reads the units.
    m
        Units that stay.

    Returns
    -------
    Units in ascending order. The matrix is the identity on the units that stay; each other unit is
    predicted from them by ridge regression.

    Examples
    --------
    >>> import torch
    >>> acts = torch.tensor([[1.0, 2.0, 0.0], [0.0, 0.0, 3.0]], dtype=torch.float64)
    >>> found = choose_units(acts.T @ acts, torch.ones(1, 3, dtype=torch.float64), 2)
    >>> found.keep.tolist(), found.read.round(decimals=1).tolist()
    ([1, 2], [[0.5, 1.0, 0.0], [0.0, 0.0, 1.0]])
    """
    import torch

    energy = gram.diagonal().sqrt() * weight.norm(dim=0)
    keep = energy.topk(m).indices.sort().values
    kept = gram[keep][:, keep]
    kept = kept + RIDGE * kept.diagonal().mean() * torch.eye(m, dtype=gram.dtype)
    read = torch.linalg.solve(kept, gram[keep])
    read[:, keep] = torch.eye(m, dtype=gram.dtype)
    return Units(keep, read.float())


def _grams(
    model: PreTrainedModel, readers: Mapping[int, str], batches: Iterable[Mapping[str, torch.Tensor]]
) -> dict[int, torch.Tensor]:
    """Second moments of what each layer's output projection reads, (n, n) float64."""
    import torch

    from wavescale.memory import model_tensors

    places = {value.data_ptr(): name for name, value in model_tensors(model).items()}
    layers = {name: layer for layer, name in readers.items()}
    grams: dict[int, torch.Tensor] = {}
    handles = []

    def watch(layer: int) -> Any:
        def add(_module: torch.nn.Module, given: tuple[torch.Tensor, ...]) -> None:
            values = given[0].detach().reshape(-1, given[0].shape[-1]).float()
            moment = (values.T @ values).double().cpu()
            grams[layer] = grams[layer] + moment if layer in grams else moment

        return add

    for module in model.modules():
        weight = getattr(module, "weight", None)
        name = places.get(weight.data_ptr()) if isinstance(weight, torch.nn.Parameter) else None
        if name in layers:
            handles.append(module.register_forward_pre_hook(watch(layers[name])))
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            for batch in batches:
                model(**batch)
    finally:
        model.train(training)
        for handle in handles:
            handle.remove()
    return grams


def generated_tokens(model: PreTrainedModel, tokens: int = 8192, length: int = 512, seed: int = 0) -> torch.Tensor:
    """Text that a causal language model writes by itself, as ids (tokens / length, length).

    Sampled at temperature 1 from the model's first token, so that calibration needs no data.

    Raises
    ------
    OptionError
        The model does not generate.
    """
    import torch

    if not model.can_generate():
        raise OptionError(f"{type(model).__name__} does not generate text; give a text to calibrate on.")
    config = model.config
    first = next((found for found in (config.bos_token_id, config.eos_token_id) if isinstance(found, int)), 0)
    start = torch.full((max(1, tokens // length), 1), first, device=model.device)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        found = model.generate(
            start, attention_mask=torch.ones_like(start), max_length=length, min_length=length, do_sample=True,
            temperature=1.0, top_k=0, top_p=1.0, eos_token_id=None, pad_token_id=first,
        )  # fmt: skip
    ids: torch.Tensor = found
    return ids
