"""FLOPs of training: the counting rule of every result here.

A multiplication and an addition are two FLOPs. Forward, every matrix of the layers and of the head does 2 FLOPs an
entry and token, and attention 4·L·s·h a token for its two products (s tokens in a sequence, h heads × head_dim,
no discount for a causal mask). Backward costs twice the forward pass, so a training step is three forward
passes: Kaplan et al. 2020 (arXiv 2001.08361, section 2.1) with the attention term, as in Hoffmann et al. 2022
(arXiv 2203.15556, appendix F). Embedding look-ups, norms, biases, activations, the optimizer and the
measurements of quality count nothing.

    python experiments/flops.py      what the runs of the paper's scale cost at most, with their probes
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# A training step in forward passes.
TRAINING = 3
# An A100's bfloat16 products at 40% of their peak, 312e12 FLOP/s, which well-tuned training reaches.
GPU_FLOPS_PER_HOUR = 0.4 * 312e12 * 3600


def forward_flops(model: PreTrainedModel, length: int) -> int:
    """FLOPs of one sequence of `length` tokens, forward.

    For image models `length` counts patches and the tokens besides.

    Examples
    --------
    >>> from transformers import GPT2Config, GPT2LMHeadModel
    >>> model = GPT2LMHeadModel(GPT2Config(n_layer=2, n_embd=8, n_head=2, vocab_size=10, n_positions=4))
    >>> matrices = 2 * 12 * 8**2 + 8 * 10
    >>> forward_flops(model, 4) == 4 * (2 * matrices + 2 * 4 * 4 * 8)
    True
    """
    config = model.config
    heads = config.num_attention_heads
    width = heads * (getattr(config, "head_dim", None) or config.hidden_size // heads)
    matrices: int = sum(p.numel() for name, p in model.named_parameters() if _is_matrix(name, p.ndim))
    head = model.get_output_embeddings()
    if head is not None and head.weight.data_ptr() == model.get_input_embeddings().weight.data_ptr():
        matrices += head.weight.numel()  # tied: it is listed as an embedding, and multiplied with all the same
    attention: int = 4 * config.num_hidden_layers * length * width
    return length * (2 * matrices + attention)


def _is_matrix(name: str, dimensions: int) -> bool:
    """Whether a parameter is multiplied with every token; a patch projection is, a table or a classifier is not."""
    looked_up = ("embed" in name and "projection" not in name) or ".wte." in name or ".wpe." in name
    return dimensions >= 2 and not looked_up and not name.startswith("classifier")


def main(
    per_hour: Annotated[float, typer.Option(help="FLOPs in an hour of a GPU.")] = GPU_FLOPS_PER_HOUR,
) -> None:
    """Print what the paper's scale costs: scratch of each row, and all of its runs and probes with whole budgets."""
    import torch
    from rich.console import Console
    from rich.table import Table
    from transfer.runs import SCRATCH, list_methods, list_rows, load_run
    from transfer.tasks import model_of

    table = Table("row", "steps", "FLOPs of scratch", "its GPU-hours", "GPU-hours of all runs")
    for row in list_rows("paper"):
        runs = [load_run("paper", row, method) for method in list_methods("paper", row)]
        hours = {}
        for run in runs:
            with torch.device("meta"):
                model = model_of(run, {}, run.target)
            # An image is its patches and the tokens for the class and for distillation.
            length = run.data.get("length") or (run.data["size"] // run.config["patch_size"]) ** 2 + 2
            whole = TRAINING * run.steps * run.batch * forward_flops(model, length)
            if run.method == SCRATCH:
                flops = whole
            if run.distillation is not None:
                with torch.device("meta"):
                    teacher = model_of(run, {}, run.source)
                whole += run.steps * run.batch * forward_flops(teacher, length)
            probed = run.probe * (len(run.rates) + len(run.warmups) - 1)
            hours[run.method] = whole / per_hour * (len(run.seeds) + probed)
        cells = (f"{run.steps:,}", f"{flops:.2e}", f"{flops / per_hour:,.0f}", f"{sum(hours.values()):,.0f}")
        table.add_row(row, *cells)
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
