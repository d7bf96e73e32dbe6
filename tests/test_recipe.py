from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel, Trainer, TrainerCallback, TrainingArguments

import wavescale
from tiny import CASES, Case, make
from wavescale.errors import OptionError

GPT2 = Case("gpt2", "GPT2LMHeadModel")
GROW: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 4}
QUIET: dict[str, Any] = {"report_to": [], "use_cpu": True, "disable_tqdm": True, "dataloader_pin_memory": False}


def recipe_for(case: Case = GPT2, **options: Any) -> wavescale.Recipe:
    return wavescale.training_recipe(wavescale.plan_resize(make(case), **options))


def test_an_exact_start_is_trained_more_gently_than_one_that_lost_the_function() -> None:
    exact, lossy = recipe_for(**GROW), recipe_for(**GROW, preset="paper")
    shrunk = recipe_for(hidden_size=8, num_hidden_layers=1)
    assert 0 < exact.peak < lossy.peak < shrunk.peak <= 1
    for recipe in (exact, lossy, shrunk):
        assert 0 < recipe.warmup < 1
        assert 0 < recipe.floor < 1
        assert "experiments/" in recipe.evidence


def test_a_long_training_takes_the_rate_of_the_source_whatever_the_start() -> None:
    plans = [wavescale.plan_resize(make(GPT2), **GROW, preset=preset) for preset in ("default", "paper")]
    plans.append(wavescale.plan_resize(make(GPT2), hidden_size=8))
    recipes = {wavescale.training_recipe(plan, long=True) for plan in plans}
    assert [recipe.peak for recipe in recipes] == [1]
    assert recipes.pop().warmup < wavescale.training_recipe(plans[0]).warmup


def test_what_keeps_nothing_is_trained_like_a_fresh_model() -> None:
    assert recipe_for(**GROW, preset="random").peak == 1


def test_the_evidence_lies_where_a_recipe_says() -> None:
    root = Path(__file__).parent.parent
    long = wavescale.training_recipe(wavescale.plan_resize(make(GPT2), **GROW), long=True)
    for recipe in (recipe_for(**GROW), recipe_for(**GROW, preset="paper"), recipe_for(hidden_size=8), long):
        assert (root / recipe.evidence.split(",")[0]).is_file()


@pytest.mark.parametrize("case", CASES[::4], ids=str)
def test_groups_hold_every_parameter_once_and_spare_norms_and_biases(case: Case) -> None:
    model = make(case)
    groups = recipe_for(case, hidden_size=32).parameter_groups(model)
    found = [id(parameter) for group in groups for parameter in group["params"]]
    assert sorted(found) == sorted(id(parameter) for parameter in model.parameters())
    decays = {id(parameter): group["weight_decay"] > 0 for group in groups for parameter in group["params"]}
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            plain = name.endswith("bias") or "norm" in type(module).__name__.lower()
            assert decays[id(parameter)] != plain, f"{type(module).__name__}.{name}"


def test_groups_leave_frozen_parameters_out() -> None:
    model = make(GPT2)
    model.transformer.wte.weight.requires_grad_(False)
    groups = recipe_for(**GROW).parameter_groups(model)
    assert all(parameter is not model.transformer.wte.weight for group in groups for parameter in group["params"])


@pytest.mark.parametrize("rate", [0.0, -1e-3, float("nan")])
def test_a_rate_that_is_none_is_refused(rate: float) -> None:
    with pytest.raises(OptionError, match="source_rate"):
        recipe_for(**GROW).arguments(rate)


class Words(torch.utils.data.Dataset[dict[str, torch.Tensor]]):
    def __len__(self) -> int:
        return 64

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        ids = torch.randint(3, 31, (8,), generator=torch.Generator().manual_seed(index))
        return {"input_ids": ids, "labels": ids}


class Rates(TrainerCallback):  # type: ignore[misc]
    def __init__(self) -> None:
        self.seen: list[float] = []

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.seen.append(kwargs["optimizer"].param_groups[0]["lr"])


def weights(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def test_trainer_takes_a_recipe_in_three_lines(tmp_path: Path) -> None:
    model, rates = make(GPT2), Rates()
    plan, grown = wavescale.plan_resize(model, **GROW), wavescale.resize(model, **GROW).train()
    before = weights(grown)

    recipe = wavescale.training_recipe(plan)
    arguments = TrainingArguments(str(tmp_path), max_steps=20, **recipe.arguments(source_rate=1e-2), **QUIET)
    trainer = Trainer(model=grown, args=arguments, train_dataset=Words(), callbacks=[rates])

    trainer.train()
    assert trainer.state.global_step == 20
    # Keys' biases are what softmax does not see, and c_attn holds the queries' as well: all can move.
    assert all(not torch.equal(value, before[name]) for name, value in weights(grown).items())
    assert max(rates.seen) == pytest.approx(recipe.peak * 1e-2)
    assert rates.seen[0] < max(rates.seen)
    assert rates.seen[-1] < rates.seen[-5] < max(rates.seen)
    made, own = trainer.optimizer.param_groups, recipe.parameter_groups(grown)
    for group, expected in zip(made, own, strict=True):
        assert group["weight_decay"] == expected["weight_decay"]
        assert [id(one) for one in group["params"]] == [id(one) for one in expected["params"]]
