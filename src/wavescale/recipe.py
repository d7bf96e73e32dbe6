"""How to train a resized model on: learning rate, schedule and groups of parameters, from measurement.

An exact start is a trained model, and a learning rate made for a fresh one throws it away within 50
steps; a start that lost the function needs that rate. Over thousands of steps what is thrown away is won back, and
a full rate is ahead. docs/growing.md and docs/savings.md have the measurements behind the numbers in this file.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from wavescale.errors import OptionError
from wavescale.optimizer import decayed_names
from wavescale.plan import Plan

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class Recipe:
    """A schedule for training a resized model, relative to the run that made its source.

    Attributes
    ----------
    peak
        The highest learning rate, as a share of the source's highest.
    warmup
        The share of all steps in which the rate rises linearly to the peak.
    floor
        What is left of the peak at the last step; between, the rate falls as a cosine.
    weight_decay
        Of matrices and embeddings; norms and biases do not decay.
    evidence
        Where the numbers come from, in a sentence.
    """

    peak: float
    warmup: float
    floor: float
    weight_decay: float
    evidence: str

    def arguments(self, source_rate: float) -> dict[str, Any]:
        """Keyword arguments for `transformers.TrainingArguments`.

        Parameters
        ----------
        source_rate
            The highest learning rate of the run that made the source.

        Raises
        ------
        OptionError
            The rate is not above zero.
        """
        if not source_rate > 0:
            raise OptionError(
                f"source_rate {source_rate!r} is no learning rate; expected a number above 0. Give the highest rate "
                "of the run that made the source, for example 3e-4."
            )
        return {
            "learning_rate": self.peak * source_rate,
            "warmup_steps": self.warmup,
            "lr_scheduler_type": "cosine_with_min_lr",
            "lr_scheduler_kwargs": {"min_lr_rate": self.floor},
            "weight_decay": self.weight_decay,
        }

    def parameter_groups(self, model: PreTrainedModel) -> list[dict[str, Any]]:
        """The groups for a torch optimizer: with weight decay, and without (norms and biases).

        Trainer makes the same groups by itself; this is for training loops of one's own. Parameters
        that need no gradient are left out.
        """
        decayed = decayed_names(model)
        named = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
        return [
            {"params": [parameter for name, parameter in named if (name in decayed) is decays], "weight_decay": decay}
            for decays, decay in ((True, self.weight_decay), (False, 0.0))
        ]


# The keys are `Plan.keeps_function` and whether the model has fewer parameters than its source.
_EXACT = Recipe(0.1, 0.1, 0.1, 0.01, "experiments/growth_training.py, exact growth of a small GPT-2.")
_LOSSY = Recipe(0.25, 0.1, 0.1, 0.01, "experiments/growth_training.py, the paper preset on a small GPT-2.")
_SHRUNK = Recipe(1.0, 0.125, 0.1, 0.01, "experiments/shrink_gain.py, a small GPT-2 at half and two thirds.")
# Probes chose 1, 1 and 1/2 of the source's rate for grown GPT-2, BERT and DeiT, and 2, 4 and 1 for shrunk ones.
# DeiT's weights decayed by 0.05.
_LONG = Recipe(1.0, 0.05, 0.1, 0.01, "experiments/reproduce.py, GPT-2, BERT and DeiT over 3,000 steps.")


def training_recipe(plan: Plan, long: bool = False) -> Recipe:
    """How to train what a plan makes.

    Parameters
    ----------
    plan
        As `plan_resize` gives it.
    long
        For thousands of steps, as a model is pre-trained, in which a function that is lost at first is won back.
        Otherwise gently, for some hundred.

    Returns
    -------
    A recipe for a model that keeps its source's function, one for a larger model that does not, or
    one for a smaller model or one that keeps nothing.

    Raises
    ------
    OptionError
        Something else than a plan.

    Examples
    --------
    >>> import wavescale
    >>> from transformers import GPT2Config, GPT2LMHeadModel
    >>> small = GPT2LMHeadModel(GPT2Config(n_embd=16, n_head=2, n_layer=2, vocab_size=32, n_positions=8))
    >>> recipe = wavescale.training_recipe(wavescale.plan_resize(small, hidden_size=32))
    >>> recipe.peak < 1  # gentler than the run that made the source
    True
    """
    if not isinstance(plan, Plan):
        raise OptionError(f"{type(plan).__name__} is no plan; give what plan_resize returns for the same options.")
    if long:
        return _LONG
    if plan.keeps_function:
        return _EXACT
    fresh = plan.choices.mapping == "random"
    return _SHRUNK if fresh or plan.parameters < plan.source_parameters else _LOSSY
