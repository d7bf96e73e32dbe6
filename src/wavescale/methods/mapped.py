"""What a plan has to know of mappings that make every tensor at once: LiGO, Mango, and none at all.

They are trained or drawn when the plan is carried out (`wavescale.learned`).
"""

from __future__ import annotations

from wavescale.errors import OptionError
from wavescale.methods.choices import Choices
from wavescale.methods.method import Resizing
from wavescale.spec import Sizes

_PAPERS = {
    "ligo": "LiGO (arXiv 2303.00980)",
    "mango": "a re-implementation of Mango (arXiv 2310.10699), whose layout of blocks is not public in full",
}


def check_growth(choices: Choices, source: Sizes, target: Sizes) -> None:
    """Refuse to shrink by a mapping that only grows.

    Raises
    ------
    OptionError
        A size becomes smaller, or heads do.
    """
    if not choices.trains:
        return
    before = {**source.axes, "layers": source.num_hidden_layers}
    after = {**target.axes, "layers": target.num_hidden_layers}
    smaller = next((name for name, n in before.items() if after[name] < n), None)
    if smaller is not None:
        remedy = "Give fewer heads." if smaller == "head_dim" else "Shrink with the default or weight-selection."
        raise OptionError(
            f"{choices.mapping} only grows, but {smaller} would go from {before[smaller]} to {after[smaller]}. {remedy}"
        )


def mapping_remarks(resizing: Resizing) -> tuple[str, ...]:
    """What a user should know of a target that a mapping makes."""
    choices, source, target = resizing.choices, resizing.source.sizes, resizing.target.sizes
    if choices.mapping == "random":
        return ("nothing of the source is kept: every tensor is initialised anew, as the library does it",)
    remarks = [
        f"the function is not kept: {_PAPERS[choices.mapping]}, trained on the task loss for "
        f"{choices.train_steps:,} steps of one batch at a rate of {choices.train_rate:g}"
    ]
    if source == target:
        remarks.append("nothing changes in size: give a size, such as --hidden-size or --scale-width")
    return tuple(remarks)
